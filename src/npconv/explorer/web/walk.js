// A model, layer by layer: the table of what it is made of, and the maps of what it computed from one image.
// Every name comes from the reader's model and is only ever set as text.
import { button, countText, element, longNumber, segments, uniqueId } from "./elements.js";
import { colour } from "./pictures.js";

const MAP_SIDE = 76; // CSS pixels of a map's longer side
const VECTOR_CELL = 11;
const BEST_SCORES = 5;
const LIVE_SECONDS = 20;

/**
 * Draw a walk into `el`.
 * @param {Object} given
 * @param {Object} given.model - anywidget's model, or a page's
 * @param {HTMLElement} given.el
 * @param {function(Object, Object|null, string): void} given.open - shows one layer's problem, gradient and title
 * @returns {function(): void} removes it
 */
export function renderWalk({ model, el, open }) {
  const walk = model.get("walk");
  if (!walk) {
    const words = element("p", { class: "walk-none", text: "No model is open. In Python: npconv.explore(model, image). In a terminal: npconv explore model.onnx --image photo.png" });
    el.append(words);
    return () => words.remove();
  }
  const status = element("p", { class: "walk-status", role: "status" });
  const shell = el.closest(".npconv-explorer");
  const arrive = (...given) => {
    open(...given);
    shell?.scrollIntoView({ block: "start" });
    shell?.querySelector('[role="tabpanel"]')?.focus({ preventScroll: true });
  };
  const opening = layerOpener(model, arrive, (words) => (status.textContent = words));
  const sections = walk.layers.map((layer) => layerSection(layer, walk, opening.ask));
  const hasGradients = walk.layers.some((layer) => layer.gradient);
  const list = element("div", { class: "walk-layers", "data-shown": "maps" }, ...sections.map((section) => section.root));
  const choice = hasGradients
    ? segments({
        label: `Maps; gradients are those of ${outputName(walk.output)}`,
        value: "maps",
        options: [["maps", "Activations"], ["gradients", "Gradients"], ["both", "Both"]],
        onChange: (shown) => list.setAttribute("data-shown", shown),
      }).root
    : null;
  const root = element(
    "div",
    { class: "walk" },
    walkHead(walk),
    layerTable(walk, (index) => sections[index].focus()),
    element("div", { class: "walk-bar" }, choice, status),
    list,
  );
  el.append(root);
  const paint = () => sections.forEach((section) => section.paint(shell?.hasAttribute("data-dark") ?? false));
  const theme = new MutationObserver(paint);
  if (shell) theme.observe(shell, { attributes: true, attributeFilter: ["data-dark"] });
  paint();
  return () => {
    theme.disconnect();
    opening.stop();
    root.remove();
  };
}

/** Asks for a layer's problem where the page has not got it, and opens it. */
function layerOpener(model, open, say) {
  const waiting = new Map();
  const heard = (content) => {
    if (content?.type !== "layer" || !waiting.has(content.id)) return;
    clearTimeout(waiting.get(content.id));
    waiting.delete(content.id);
    if (content.error || !content.problem) say(content.error ?? content.title);
    else {
      say("");
      open(content.problem, content.dy ?? null, content.title);
    }
  };
  model.on("msg:custom", heard);
  return {
    ask(layer, channel, at) {
      if (layer.problem) return open(layer.problem, layer.dy ?? null, layer.title);
      if (model.get("host") === "file") return say(layer.title || "This file was too large to hold this layer too; open the model with npconv explore.");
      const id = uniqueId("layer");
      waiting.set(id, setTimeout(() => heard({ type: "layer", id, error: "npconv does not answer." }), 1000 * LIVE_SECONDS));
      say(`Opening ${layer.name} ...`);
      return model.send({ type: "layer", id, layer: layer.index, ...(channel === undefined ? {} : { channel }), ...(at ? { at } : {}) });
    },
    stop() {
      model.off("msg:custom", heard);
      for (const timer of waiting.values()) clearTimeout(timer);
    },
  };
}

// ------------------------------------------------------------------ what went in, what came out
function outputName(output) {
  const index = output.chosen.join(", ");
  return output.labels && output.chosen.length === 1 ? `${output.labels[output.chosen[0]]} (output ${index})` : `output ${index}`;
}

function walkHead(walk) {
  const facts = [`${countText(walk.layers.length + walk.left_out)} layers`, `${countText(total(walk, "parameters"))} parameters`, `${countText(total(walk, "macs"))} multiplications`, `${bytesText(total(walk, "memory_bytes"))} of activations`];
  if (walk.left_out) facts.push(`the last ${countText(walk.left_out)} layers are left out here`);
  const shown = walk.image ? element("figure", { class: "walk-image" }, imageCanvas(walk.image), element("figcaption", { text: `what the model saw: ${walk.image.size.join(" × ")}` })) : null;
  return element(
    "div",
    { class: "walk-head" },
    shown,
    element("div", {}, element("h2", { text: walk.model }), element("p", { text: facts.join(", ") }), scoreList(walk.output)),
  );
}

function total(walk, key) {
  return walk.layers.reduce((sum, layer) => sum + (layer[key] ?? 0), 0);
}

function imageCanvas(image) {
  const canvas = element("canvas", { width: image.width, height: image.height, role: "img", "aria-label": "the image that the model saw" });
  const data = new ImageData(image.width, image.height);
  const rgb = bytesOf(image.rgb);
  for (let i = 0; i < image.width * image.height; i += 1) data.data.set([rgb[3 * i], rgb[3 * i + 1], rgb[3 * i + 2], 255], 4 * i);
  canvas.getContext("2d").putImageData(data, 0, 0);
  return canvas;
}

function scoreList(output) {
  if (!output.values) return element("p", { text: `The output is ${output.shape.join(" × ")}; at ${output.chosen.join(", ")} it is ${numberText(output.value)}.` });
  const order = output.values.map((value, index) => ({ value, index })).sort((a, b) => numberOf(b.value) - numberOf(a.value));
  const best = order.slice(0, BEST_SCORES).map(({ value, index }) => {
    const name = output.labels ? `${output.labels[index]}: ` : `output ${index}: `;
    return element("li", { text: `${name}${numberText(value)}`, class: index === output.chosen[0] ? "chosen" : "" });
  });
  return element("ol", { class: "walk-scores", "aria-label": "largest scores" }, ...best);
}

function numberOf(value) {
  return typeof value === "number" ? value : { inf: Infinity, "-inf": -Infinity }[value] ?? NaN;
}

function numberText(value) {
  return longNumber(numberOf(value));
}

// ------------------------------------------------------------------ the table
const COLUMNS = [
  ["layer", "text"],
  ["kind", "text"],
  ["output", "text"],
  ["parameters", "number"],
  ["multiplications", "number"],
  ["output, bytes", "number"],
  ["kept for the way back", "number"],
  ["sees", "number"],
  ["step", "number"],
];

function layerTable(walk, jump) {
  const rows = walk.layers.map((layer) => {
    const field = layer.receptive_field;
    const cells = [layer.kind, layerShape(layer), layer.parameters ? countText(layer.parameters) : "", layer.macs ? countText(layer.macs) : "", bytesText(layer.memory_bytes), layer.kept_bytes === null ? "" : bytesText(layer.kept_bytes), field ? axesText(field.size) : "?", field ? axesText(field.step) : "?"];
    const name = button(layer.name || layer.kind, () => jump(layer.index), { class: "walk-jump" });
    return element("tr", {}, element("th", { scope: "row" }, name), ...cells.map((text, i) => element("td", { class: COLUMNS[i + 1][1], text })));
  });
  const sums = ["", "", countText(total(walk, "parameters")), countText(total(walk, "macs")), bytesText(total(walk, "memory_bytes")), walk.layers.some((layer) => layer.kept_bytes !== null) ? bytesText(total(walk, "kept_bytes")) : "", "", ""];
  const table = element(
    "table",
    {},
    element("caption", { text: "The layers, in the order they ran. What a layer sees is how many inputs one output depends on; its step, how far apart two neighbours' are." }),
    element("thead", {}, element("tr", {}, ...COLUMNS.map(([name, kind]) => element("th", { scope: "col", class: kind, text: name })))),
    element("tbody", {}, ...rows),
    element("tfoot", {}, element("tr", {}, element("th", { scope: "row", text: "total" }), ...sums.map((text, i) => element("td", { class: COLUMNS[i + 1][1], text })))),
  );
  return element("div", { class: "walk-table", role: "region", "aria-label": "layer table", tabindex: "0" }, table);
}

/** One number where all axes have the same. */
function axesText(values) {
  const texts = values.map((value) => mapNumber(value));
  return new Set(texts).size === 1 ? texts[0] : texts.join(" × ");
}

/** The output's shape; one image has a batch axis of 1, which says nothing. */
function layerShape({ shape }) {
  return (shape.length > 1 && shape[0] === 1 ? shape.slice(1) : shape).join(" \u00d7 ");
}

function bytesText(bytes) {
  if (!bytes) return "";
  const step = bytes < 1000 ? 0 : bytes < 1e6 ? 1 : bytes < 1e9 ? 2 : 3;
  return `${step ? (bytes / 1000 ** step).toPrecision(3) : bytes} ${["B", "kB", "MB", "GB"][step]}`;
}

/** A number of a map: a byte knows no more than its first digits. */
function mapNumber(value) {
  return longNumber(Number(value.toPrecision(4)));
}

function bytesOf(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

// ------------------------------------------------------------------ one layer and its maps
function layerSection(layer, walk, ask) {
  const heading = element("h3", { tabindex: "-1", text: layer.name || layer.kind });
  const openIt = layer.slides ? button("Open", () => ask(layer), { "aria-label": `Open ${layer.name || layer.kind} number by number` }) : null;
  const strips = [
    layer.maps && mapStrip(layer, layer.maps, "activation", "maps", ask),
    layer.gradient && mapStrip(layer, layer.gradient, `gradient of ${outputName(walk.output)}`, "gradients", ask),
  ].filter(Boolean);
  const root = element(
    "section",
    { class: "walk-layer", "aria-label": `${layer.name} ${layer.kind}`.trim() },
    element("div", { class: "walk-layer-head" }, heading, element("span", { class: "walk-kind", text: `${layer.kind}, output ${layerShape(layer)}` }), openIt),
    ...strips.map((strip) => strip.root),
  );
  return {
    root,
    paint: (dark) => strips.forEach((strip) => strip.paint(dark)),
    focus() {
      root.scrollIntoView({ block: "start" });
      heading.focus({ preventScroll: true });
    },
  };
}

/** Maps side by side; one Tab stop, arrows go from map to map, Shift with arrows from number to number. */
function mapStrip(layer, maps, what, kind, ask) {
  const bytes = bytesOf(maps.data);
  const plane = maps.height * maps.width;
  const limit = Math.max(-maps.low, maps.high);
  const valueAt = (channel, row, column) => maps.low + (bytes[channel * plane + row * maps.width + column] * (maps.high - maps.low)) / 255;
  const block = maps.block[0] * maps.block[1];
  const readout = element("p", { class: "walk-readout" });
  const spoken = element("p", { class: "walk-spoken", "aria-live": "polite" });
  let current = 0;
  let spot = [0, 0];

  const words = (channel, row, column) => {
    const place = block > 1 ? `rows ${row * maps.block[0]} to ${Math.min((row + 1) * maps.block[0], maps.size[0]) - 1}, columns ${column * maps.block[1]} to ${Math.min((column + 1) * maps.block[1], maps.size[1]) - 1}, their mean` : `row ${row}, column ${column}`;
    return `channel ${channel}, ${place}: about ${mapNumber(valueAt(channel, row, column))}`;
  };
  const openAt = (channel, row, column) => {
    if (!layer.slides) return;
    const at = [row * maps.block[0], column * maps.block[1]].map((place, axis) => Math.min(place, maps.size[axis] - 1));
    ask(layer, channel, layer.shape.length === 3 ? [at[1]] : at);
  };
  const figures = Array.from({ length: maps.channels }, (_, channel) => {
    const values = bytes.subarray(channel * plane, (channel + 1) * plane);
    const range = [Math.min(...values), Math.max(...values)].map((byte) => mapNumber(maps.low + (byte * (maps.high - maps.low)) / 255));
    const canvas = element("canvas", { width: maps.width, height: maps.height, "aria-hidden": "true" });
    const cell = maps.height === 1 ? VECTOR_CELL : MAP_SIDE / Math.max(maps.height, maps.width);
    canvas.style.width = `${Math.max(4, Math.round(cell * maps.width))}px`;
    canvas.style.aspectRatio = `${maps.width} / ${maps.height}`;
    const mark = element("span", { class: "walk-spot", hidden: true });
    const label = `${layer.name} ${what}, channel ${channel} of ${maps.of}, ${maps.size.join(" by ")}: from ${range[0]} to ${range[1]}`;
    const root = element(layer.slides ? "button" : "div", { class: "walk-map", ...(layer.slides ? { type: "button" } : { role: "img" }), "aria-label": label, tabindex: channel ? "-1" : "0" }, canvas, mark);
    const placeOf = (event) => {
      const box = canvas.getBoundingClientRect();
      const along = (offset, size, count) => Math.min(count - 1, Math.max(0, Math.floor((offset / size) * count)));
      return [along(event.clientY - box.top, box.height, maps.height), along(event.clientX - box.left, box.width, maps.width)];
    };
    root.addEventListener("pointermove", (event) => show(channel, ...placeOf(event), false));
    root.addEventListener("pointerleave", () => hide());
    root.addEventListener("click", (event) => openAt(channel, ...(event.detail ? placeOf(event) : spot)));
    root.addEventListener("focus", () => {
      current = channel;
      show(channel, ...spot, false);
    });
    root.addEventListener("blur", () => hide());
    return { root, canvas, mark };
  });

  function show(channel, row, column, aloud) {
    hide();
    const { mark } = figures[channel];
    mark.hidden = false;
    mark.style.left = `${(100 * column) / maps.width}%`;
    mark.style.top = `${(100 * row) / maps.height}%`;
    mark.style.width = `${100 / maps.width}%`;
    mark.style.height = `${100 / maps.height}%`;
    readout.textContent = words(channel, row, column);
    if (aloud) spoken.textContent = readout.textContent;
  }

  function hide() {
    for (const { mark } of figures) mark.hidden = true;
    readout.textContent = note;
  }

  function move(event) {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (event.shiftKey && step) {
      spot = [Math.min(maps.height - 1, Math.max(0, spot[0] + step[0])), Math.min(maps.width - 1, Math.max(0, spot[1] + step[1]))];
      show(current, ...spot, true);
    } else {
      const next = event.key === "Home" ? 0 : event.key === "End" ? figures.length - 1 : step ? current + step[0] + step[1] : null;
      if (next === null) return;
      figures[current].root.setAttribute("tabindex", "-1");
      current = Math.min(figures.length - 1, Math.max(0, next));
      figures[current].root.setAttribute("tabindex", "0");
      figures[current].root.focus();
    }
    event.preventDefault();
    event.stopPropagation();
  }

  const notes = [what, maps.of > maps.channels ? `the first ${maps.channels} of ${maps.of} channels` : maps.of > 1 ? `${maps.of} channels` : "", block > 1 ? `each pixel the mean of ${maps.block.join(" × ")}` : "", maps.slice ? `plane ${maps.slice.join(", ")} of the stack` : "", maps.odd ? `${countText(maps.odd)} numbers are NaN or infinite and drawn as 0` : "", `from ${mapNumber(maps.low)} to ${mapNumber(maps.high)}`];
  const note = notes.filter(Boolean).join("; ");
  readout.textContent = note;
  const group = element("div", { class: "walk-maps", role: "group", "aria-label": `${layer.name} ${what}; arrows go from map to map, Shift with arrows from number to number${!layer.slides ? "" : layer.problem ? ", Enter opens a piece of the layer" : ", Enter opens the layer there"}` }, ...figures.map((figure) => figure.root));
  group.addEventListener("keydown", move);
  return {
    root: element("div", { class: `walk-strip ${kind}` }, group, readout, spoken),
    paint(dark) {
      const colours = Array.from({ length: 256 }, (_, byte) => [...colour(maps.low + (byte * (maps.high - maps.low)) / 255, limit, dark), 255]);
      figures.forEach(({ canvas }, channel) => {
        const image = new ImageData(maps.width, maps.height);
        for (let i = 0; i < plane; i += 1) image.data.set(colours[bytes[channel * plane + i]], 4 * i);
        canvas.getContext("2d").putImageData(image, 0, 0);
      });
    },
  };
}
