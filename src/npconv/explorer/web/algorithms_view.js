// Five algorithms at the same point of the same problem: what each reads and writes, its matrices, its cost.
import { algorithms } from "./algorithms.js";
import { createCosts } from "./costs_view.js";
import { countText, element } from "./elements.js";
import { drawingOf } from "./drawing.js";
import { miniMatrix } from "./lens.js";
import { fittedCells, planesOf, tensorPanel } from "./panel.js";
import { colour } from "./pictures.js";
import { offset } from "./tensors.js";

const MOST_MARKED = 0.8; // of a tensor: above, only a frame says what a step reads
const MOST_PICTURED = 3; // planes of a tensor in a small picture

/** The planes of a tensor side by side as pixels; from step to step only what changed is coloured anew. */
function smallPicture() {
  const canvas = element("canvas", { "aria-hidden": "true" });
  let image = null;
  let drawn = null; // the value of each pixel
  let look = "";

  function arrange(width, rows, next) {
    look = next;
    image = new ImageData(width, rows);
    drawn = new Float64Array(width * rows).fill(NaN);
    canvas.width = width;
    canvas.height = rows;
    const side = Math.max(1, Math.min(12, Math.floor(96 / Math.max(rows, width))));
    canvas.style.width = `${width * side}px`;
  }

  return {
    canvas,
    show(array, spatial, limit, dark, faint) {
      const { planes, rows, columns } = planesOf(array, spatial);
      const shown = Math.min(planes, MOST_PICTURED);
      const width = shown * (columns + 1) - 1;
      const next = `${rows} ${columns} ${shown} ${limit} ${dark}`;
      if (look !== next) arrange(width, rows, next);
      for (let flat = 0; flat < shown * rows * columns; flat++) {
        const column = flat % columns;
        const row = ((flat - column) / columns) % rows;
        const at = row * width + Math.floor(flat / (rows * columns)) * (columns + 1) + column;
        const value = array.data[flat];
        if (drawn[at] !== value) {
          drawn[at] = value;
          image.data.set(colour(Number.isFinite(value) ? value : 0, limit, dark), 4 * at);
        }
        image.data[4 * at + 3] = faint(flat) ? 50 : 255;
      }
      canvas.getContext("2d").putImageData(image, 0, 0);
    },
  };
}

/**
 * @param {Object} options store, `derived`, `model`, `hooks` of the panels, `say`
 */
export function createAlgorithms({ store, derived, model, hooks, say }) {
  let list = [];
  let known = null; // the problem that the list is of
  const costs = createCosts({ model, derived, select, plain: hooks.plain });

  const cards = element("div", { class: "cards", "data-part": "cards" });
  const stepText = element("p", { class: "step-text" });
  const noteText = element("p", { class: "note" });
  const heading = element("h3", {});
  const panels = {
    x: tensorPanel({ name: "x", hooks: hooks("x") }),
    w: tensorPanel({ name: "w", hooks: hooks("w") }),
    y: tensorPanel({ name: "y", hooks: hooks("y") }),
  };
  const matrices = element("div", { class: "algorithm-matrices" });
  const countedOf = { multiplications: element("dd", {}), memory: element("dd", {}) };
  const counted = element(
    "dl",
    { class: "counted" },
    element("dt", { text: "Multiplications" }),
    countedOf.multiplications,
    element("dt", { text: "Memory" }),
    countedOf.memory,
  );
  const detail = element(
    "section",
    { class: "algorithm-detail", "data-part": "detail" },
    heading,
    stepText,
    noteText,
    element("div", { class: "tensors" }, panels.x.root, panels.w.root, panels.y.root),
    matrices,
    counted,
  );
  const root = element("div", { class: "algorithms" }, costs.root, cards, detail);
  let pictures = new Map();
  let cells = null; // the sides of the panels' cells, until the problem or the room changes
  const observer = new ResizeObserver(() => {
    cells = null;
  });
  observer.observe(root);
  let minis = [];

  const chosen = () =>
    list.find(({ name, whyNot }) => name === store.get().algorithm && !whyNot) ?? list.find(({ whyNot }) => !whyNot);

  /** The step of another algorithm at the same share of its work. */
  function stepAt(algorithm, step, lead) {
    const share = lead.steps > 1 ? Math.min(1, step / (lead.steps - 1)) : 1;
    return Math.round(share * (algorithm.steps - 1));
  }

  function select(name) {
    const [from, to] = [chosen(), list.find((each) => each.name === name)];
    store.set({
      algorithm: name,
      algorithmStep: from ? stepAt(to, store.get().algorithmStep, from) : 0,
      playing: false,
    });
  }

  // ---------------------------------------------------------------- building for a problem
  function load() {
    const { problem } = derived();
    if (known === problem) return;
    known = problem;
    list = algorithms(problem);
    pictures = new Map();
    cells = null;
    costs.build(list, problem === store.get().firstProblem);
    cards.replaceChildren(...list.filter(({ whyNot }) => !whyNot).map(card));
  }

  function card(algorithm) {
    const [x, y] = [smallPicture(), smallPicture()];
    const words = element("p", { class: "note" });
    const root_ = element(
      "button",
      { type: "button", class: "card", on: { click: () => select(algorithm.name) } },
      element("span", { class: "card-title", text: algorithm.title.split(":")[0] }),
      element(
        "span",
        { class: "card-pictures" },
        x.canvas,
        element("span", { text: "\u2192", "aria-hidden": "true" }),
        y.canvas,
      ),
      words,
    );
    pictures.set(algorithm.name, { root: root_, x, y, words });
    return root_;
  }

  // ---------------------------------------------------------------- drawing a step
  function update() {
    const { report, y } = derived();
    if (!report.valid) return;
    const state = store.get();
    const lead = chosen();
    detail.hidden = !lead;
    if (!lead) return;
    const limits = {
      x: largest(derived().problem.x),
      w: derived().problem.w ? largest(derived().problem.w) : 1,
      y: largest(y),
    };
    costs.choose(lead.name);
    for (const algorithm of list.filter(({ whyNot }) => !whyNot))
      drawCard(
        algorithm,
        algorithm === lead
          ? Math.min(state.algorithmStep, lead.steps - 1)
          : stepAt(algorithm, state.algorithmStep, lead),
        limits,
        state.dark,
        algorithm === lead,
      );
    drawDetail(lead, Math.min(state.algorithmStep, lead.steps - 1), limits, state.dark);
  }

  function drawCard(algorithm, at, limits, dark, own) {
    const picture = pictures.get(algorithm.name);
    picture.root.classList.toggle("own", own);
    picture.root.setAttribute("aria-pressed", String(own));
    const key = `${at} ${dark}`;
    if (picture.key === key) return; // while one takes thousands of steps, another takes ten
    picture.key = key;
    const step = algorithm.step(at);
    const { problem, y } = derived();
    const spatial = problem.x.shape.length - 1;
    const reads = new Set(step.reads.x.map((index) => offset(problem.x, index)));
    picture.x.show(problem.x, spatial, limits.x, dark, (flat) => !reads.has(flat));
    picture.y.show(step.y ?? y, spatial, limits.y, dark, () => false);
    picture.words.textContent = `step ${countText(at + 1)} of ${countText(algorithm.steps)}`;
  }

  function drawDetail(algorithm, at, limits, dark) {
    const { problem, y } = derived();
    const step = algorithm.step(at);
    const spatial = problem.x.shape.length - 1;
    heading.textContent = algorithm.title;
    stepText.textContent = step.text;
    noteText.textContent = step.note ?? "";
    const common = { spatial, ring: null, dark, padded: () => null };
    const shown = ["x", "w", "y"].filter((name) => name !== "w" || problem.w);
    const arrays = { x: problem.x, w: problem.w, y };
    if (!cells)
      cells = fittedCells(
        shown.map((name) => ({ array: arrays[name], spatial, ring: null })),
        detail.clientWidth,
      );
    const show = (name, array, title) =>
      panels[name].show({
        ...common,
        cell: cells[shown.indexOf(name)],
        array,
        title,
        short: title.split(" ")[1],
        limit: 1.6 * limits[name],
        sizeWords: array.shape.join(" \u00d7 "),
        leadWords: name === "w" ? ["output", "input"] : undefined,
      });
    show("x", problem.x, "Input X");
    if (problem.w) show("w", problem.w, "Kernel W");
    panels.w.root.hidden = !problem.w;
    show("y", step.y ?? y, "Output Y");
    const touched = { x: step.reads.x, w: step.reads.w ?? [], y: step.writes };
    for (const name of shown) {
      const places = touched[name].map((index) => panels[name].placeOf(index));
      panels[name].mark("now", places.length > MOST_MARKED * arrays[name].data.length ? [] : places);
      panels[name].frame(places);
    }
    countedOf.multiplications.textContent = algorithm.multiplicationsText;
    countedOf.memory.textContent = algorithm.bytesText || "none beyond x, w and y";
    drawMatrices(step.matrices ?? [], dark);
    say(`${algorithm.title}, step ${at + 1} of ${algorithm.steps}: ${step.text}`);
  }

  function drawMatrices(given, dark) {
    while (minis.length < given.length) {
      const mini = miniMatrix("");
      minis.push(mini);
      matrices.append(mini.root);
    }
    minis.forEach((mini, i) => {
      mini.root.hidden = i >= given.length;
    });
    given.forEach(({ title, rows: lines, highlight = [] }, i) => {
      const columns = Math.max(1, ...lines.map((line) => line.length));
      const hot = new Set(highlight.map(([row, column]) => row * columns + column));
      const cells = lines.flatMap((line, row) =>
        Array.from(line, (value, column) => ({
          spot: row * columns + column,
          value: Number(value),
          hot: hot.has(row * columns + column),
        })),
      );
      const limit = 1.6 * (Math.max(...cells.map(({ value }) => (Number.isFinite(value) ? Math.abs(value) : 0))) || 1);
      minis[i].show({
        rows: lines.length,
        columns,
        list: cells,
        limit,
        dark,
        words: `${title} (${lines.length} \u00d7 ${columns})`,
      });
    });
  }

  /** The drawing of a step, for files. */
  function drawing(step) {
    const { problem, y } = derived();
    const lead = chosen();
    const told = lead.step(Math.min(step, lead.steps - 1));
    const spatial = problem.x.shape.length - 1;
    const panel = (title, array, cells, view) => ({
      title,
      array,
      spatial,
      ring: null,
      limit: 1.6 * largest(array),
      marks: cells.map(view.placeOf),
    });
    const shown = [panel("Input X", problem.x, told.reads.x, panels.x)];
    if (problem.w) shown.push(panel("Kernel W", problem.w, told.reads.w ?? [], panels.w));
    shown.push(panel("Output Y", told.y ?? y, told.writes, panels.y));
    return drawingOf({ panels: shown, padded: () => 0, lines: [lead.title, told.text], dark: store.get().dark });
  }

  return {
    root,
    takeTimes: costs.take,
    stop: () => observer.disconnect(),
    rebuild() {
      const { report } = derived();
      root.hidden = !report.valid;
      if (!report.valid) return;
      load();
      update();
    },
    update,
    drawing,
    steps: () => {
      if (derived().report.valid) load();
      return derived().report.valid ? (chosen()?.steps ?? 0) : 0;
    },
  };
}

function largest(array) {
  let most = 0;
  for (const value of array.data) if (Number.isFinite(Number(value))) most = Math.max(most, Math.abs(value));
  return most || 1;
}
