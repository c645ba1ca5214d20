// The tensors of a scene side by side, with the marks of the step shown; and the lens under them.
import { calm, element } from "./elements.js";
import { createLens, runningWords } from "./lens.js";
import { fittedCells, tensorPanel } from "./panel.js";
import { unravel } from "./tensors.js";

const SIGNS_BETWEEN = {
  x: { w: "\u2217", y: "\u2192", dy: "\u2217" },
  w: { bias: "+", y: "=", dx: "=" },
  bias: { y: "=" },
  dy: { w: "\u2217", dx: "\u2192", x: "", dw: "=", db: "\u2192" },
};
const LEADS = { w: ["output", "input"], dw: ["output", "input"] };

/** The shown names of a scene's panels. */
export function shortNames(scene) {
  return Object.fromEntries(scene.panels.map(({ name, short }) => [name, short]));
}

/** The step that shows now: of the cell under the cursor where it is one of the steps, else of the player. */
export function shownStep(state, scene) {
  const { hover, pinned, playing } = state;
  const free = !playing && !(pinned && pinned.panel === scene.driver);
  return free && hover?.panel === scene.driver ? scene.stepOf(hover.index) : Math.min(state.step, scene.steps - 1);
}

/**
 * @param {Object} options store, `derived` (a function), hooks of the panels, `say` for the screen reader
 */
export function createStage({ store, derived, hooks, say }) {
  const tensors = element("div", { class: "tensors" });
  const problemText = element("p", { class: "refusal" });
  const lens = createLens({
    onTerm: (term) => store.set({ term, level: "arithmetic", playing: false }),
    onHover: (termHover) => store.set({ termHover }),
  });
  const root = element("div", { class: "stage" }, problemText, tensors, lens.root);
  const panels = new Map();
  let scene = null;
  let order = "";
  let scatterStep = null;
  let waiting = false;
  let width = 0;

  // the cells fit the room there is: a rotated phone or a narrower window asks for others
  const observer = new ResizeObserver(() => {
    if (scene && Math.abs(tensors.clientWidth - width) > 8) rebuild();
  });
  observer.observe(tensors);

  function panelNamed(name) {
    if (!panels.has(name))
      panels.set(
        name,
        tensorPanel({
          name,
          hooks: {
            hover: (index, event) => hooks.hover(index && { panel: name, index }, event),
            pick: (index, event) => hooks.pick({ panel: name, index }, event),
            press: (index, event) => hooks.press({ panel: name, index }, event),
            key: (index, event) => hooks.key({ panel: name, index }, event),
            edit: (index, text) => hooks.edit({ panel: name, index }, text),
          },
        }),
      );
    return panels.get(name);
  }

  /** Draw the tensors anew: after an edit or a change of view. */
  function rebuild() {
    const state = store.get();
    const { report, limits, padded } = derived();
    scene = derived().scene;
    problemText.textContent = report.valid ? "" : `There is no output: ${report.reasons.join(" ")}`;
    problemText.hidden = report.valid;
    lens.root.hidden = !scene;
    const shown = scene?.panels ?? derived().given ?? []; // a view without tensors has neither
    const names = shown.map(({ name }) => name);
    if (order !== names.join()) {
      order = names.join();
      const parts = names.flatMap((name, i) => {
        const sign = SIGNS_BETWEEN[names[i - 1]]?.[name];
        return [
          sign ? element("span", { class: "joining", text: sign, "aria-hidden": "true" }) : null,
          panelNamed(name).root,
        ];
      });
      tensors.replaceChildren(...parts.filter(Boolean));
    }
    width = tensors.clientWidth;
    const cells = fittedCells(shown, width);
    shown.forEach(({ name, array, ring, spatial, title, short, editable }, i) => {
      panelNamed(name).show({
        title,
        cell: cells[i],
        short,
        array,
        spatial,
        ring,
        editable,
        limit: limits[name],
        dark: state.dark,
        padded,
        leadWords: LEADS[name],
        sizeWords: array.shape.join(" \u00d7 "),
      });
    });
    scatterStep = null;
    if (scene) return update();
    for (const name of names) panels.get(name).clear();
    return report.valid ? undefined : say("There is no output.");
  }

  /** A scatter's result as the steps so far have left it; only what the steps between touched is computed. */
  function showPartial(step) {
    const result = panels.get(scene.result);
    const array = scene.arrays[scene.result];
    const touched = new Map();
    const from = scatterStep;
    if (from !== null && Math.abs(step - from) * 4 < array.data.length) {
      for (let at = Math.min(from, step); at <= Math.max(from, step); at++)
        for (const group of scene.detail(at).groups)
          for (const { goal } of group.terms) if (goal) touched.set(String(goal), goal);
    } else for (let flat = 0; flat < array.data.length; flat++) touched.set(flat, unravel(array.shape, flat));
    for (const index of touched.values()) result.change(index, scene.partial(index, step));
    scatterStep = step;
  }

  /** Mark what the step, the cursor and the pin say. */
  function update() {
    if (!scene) return;
    const state = store.get();
    const { limits } = derived();
    const step = shownStep(state, scene);
    const told = scene.detail(step);
    const { now, chosen } = scene.marksOf(told);
    const level = state.level;
    const pick =
      state.pinned && panels.has(state.pinned.panel) && scene.arrays[state.pinned.panel] ? state.pinned : null;
    const cell =
      pick && pick.panel !== scene.driver
        ? pick
        : state.hover && state.hover.panel !== scene.driver
          ? state.hover
          : null;
    const known =
      cell && scene.arrays[cell.panel] && cell.index.every((at, axis) => at < scene.arrays[cell.panel].shape[axis]);
    const linked = known ? scene.linked(cell.panel, cell.index) : {};
    const all = told.groups.flatMap((group) => group.terms);
    const terms = all[state.termHover ?? (level === "arithmetic" ? state.term : -1)];
    for (const { name } of scene.panels) {
      const panel = panels.get(name);
      if (name === scene.driver) panel.follow(told.index);
      const places = (cells) =>
        cells.map((index) => (index.length === 3 && name === "x" ? index : panel.placeOf(index)));
      panel.mark("now", level === "layer" ? [] : places(now[name]));
      panel.mark("chosen", places(chosen[name]));
      panel.mark("link", linked[name] ? places(linked[name]) : []);
      panel.mark("at", known && cell.panel === name ? [panel.placeOf(cell.index)] : []);
      panel.mark("pinned", pick?.panel === name ? [panel.placeOf(pick.index)] : []);
      const own = terms
        ? [terms.a, terms.b].filter((side) => side?.panel === name).map((side) => side.place ?? side.index)
        : [];
      if (terms?.goal && name === scene.result && scene.way === "scatter") own.push(terms.goal);
      panel.mark("term", places(own.filter(Boolean)));
      panel.frame(level === "layer" ? [] : places(now[name]));
      panel.hideFrom(scene.way === "gather" && state.hideLater && name === scene.driver ? step + 1 : Infinity);
    }
    if (scene.way === "scatter") showPartial(step);
    lens.root.hidden = level === "layer";
    if (level !== "layer")
      lens.show({
        scene,
        told,
        term: state.term,
        termHover: state.termHover,
        limits,
        dark: state.dark,
        names: shortNames(scene),
        level,
      });
    if (cell && known && !state.playing)
      say(`${panels.get(cell.panel).words(cell.index)}: meets ${countLinks(linked)}.`);
    else
      say(
        level === "arithmetic" ? runningWords(told, state.term, scene.way === "scatter") : scene.sentence(step, told),
      );
  }

  function countLinks(linked) {
    const names = shortNames(scene);
    const parts = Object.entries(linked).filter(([, cells]) => cells.length);
    return parts.map(([name, cells]) => `${cells.length} of ${names[name]}`).join(", ") || "nothing";
  }

  /** Open the lens out of the cell it explains, so that the eye keeps the connection. */
  function grow() {
    if (calm() || !scene || !lens.root.animate) return;
    const told = scene.stepIndex(shownStep(store.get(), scene));
    const spot = panels.get(scene.driver).boxOf(told);
    if (!spot) return;
    const from = spot.root.getBoundingClientRect();
    const to = lens.root.getBoundingClientRect();
    const [x, y] = [from.left + spot.box.x - to.left, from.top + spot.box.y - to.top];
    lens.root.animate(
      [
        { transform: `translate(${x}px, ${y}px) scale(0.1)`, opacity: 0.2 },
        { transform: "none", opacity: 1 },
      ],
      { duration: 260, easing: "cubic-bezier(.2,.7,.2,1)" },
    );
  }

  return {
    root,
    rebuild,
    /** Show no tensors; a problem without output still says why. */
    blank(report) {
      scene = null;
      problemText.textContent = `There is no output: ${report.reasons.join(" ")}`;
      problemText.hidden = report.valid;
    },
    /** Draw the marks and the lens at once. */
    draw: update,
    /** The same with the next frame, once for all that changes until then. */
    update() {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        update();
      });
    },
    grow,
    stop: () => observer.disconnect(),
    panel: (name) => panels.get(name),
    get scene() {
      return scene;
    },
    spotlight(part, on) {
      for (const node of root.querySelectorAll("[data-part]"))
        node.classList.toggle("spotlight", on && node.dataset.part === part);
    },
  };
}
