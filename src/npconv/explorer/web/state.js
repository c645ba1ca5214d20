// The page's one store, and the share link that carries it in the URL's hash.
import { INPUT_PRESETS } from "./presets.js";
import { presetInput } from "./problem_edits.js";
import { OPERATORS, PADDING_MODES, PADDING_NAMES } from "./shapes.js";

const LINK_START = "#npconv=";
const LINK_LIMIT = 12000; // letters; longer addresses get cut by mail programs and chats
const LARGEST_SIDE = 64;
const LARGEST_CHANNELS = 64;
const LARGEST_COUNT = 65536;

/**
 * A plain store. `set` takes a patch and tells every subscriber which keys changed.
 * @param {Object} initial
 * @returns {Object} get(), set(patch), amend(patch), and subscribe(listener) -> a function that ends it
 */
export function createState(initial) {
  let current = { ...initial };
  const listeners = new Set();
  return {
    get: () => current,
    set(patch) {
      const changed = new Set(Object.keys(patch).filter((key) => !Object.is(patch[key], current[key])));
      if (!changed.size) return;
      current = { ...current, ...patch };
      for (const listener of [...listeners]) listener(current, changed);
    },
    /** Correct the state without telling anybody: for what cannot stand beside a change that is being told. */
    amend(patch) {
      current = { ...current, ...patch };
      return current;
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

/** What the page starts from, around a problem. */
export function initialState(problem) {
  return {
    problem,
    dy: null, // null: the pattern of `usualGradient`
    title: null, // of the layer shown, when it is one of a model
    inputName: "", // the preset that x still is, or ""
    kernelName: "",
    view: "forward", // forward | backward | algorithms | model
    target: "x", // of the backward view: x | w | bias
    way: "gather", // gather: one result cell a step; scatter: one source cell a step
    level: "cell", // layer | cell | arithmetic: how near one looks
    step: 0,
    term: 0, // of the arithmetic level: which product
    playing: false,
    speed: 4, // steps per second
    hover: null, // {panel, index}
    pinned: null,
    algorithm: "gemm",
    algorithmStep: 0,
    hideLater: false,
    painting: false,
    brush: 1,
    theme: "auto",
  };
}

/** A gradient of the output that is neither symmetric nor zero, the same every time: small halves around zero. */
export function usualGradient(shape) {
  const count = shape.reduce((product, size) => product * size, 1);
  const data = Float64Array.from({ length: count }, (_, i) => {
    const half = ((i * 7 + 3 * Math.floor(i / 5)) % 11) - 5;
    return (half === 0 ? 1 : half) / 2;
  });
  return { shape: [...shape], data };
}

// ------------------------------------------------------------------ is this a problem at all?
function isCount(value, low, high) {
  return Number.isInteger(value) && value >= low && value <= high;
}

function isAxes(values, rank, low, high) {
  return Array.isArray(values) && values.length === rank && values.every((value) => isCount(value, low, high));
}

function readNumber(value) {
  if (typeof value === "number") return value;
  const named = { nan: NaN, inf: Infinity, "-inf": -Infinity };
  if (Object.hasOwn(named, value)) return named[value];
  throw new Error("it holds a value that is no number");
}

/** An Array as it came (JSON, perhaps of a stranger) as a checked one; or, on wish, only its shape. */
export function readArray(array, rank, word, shapeOnly = false) {
  const shape = array?.shape;
  if (!Array.isArray(shape) || shape.length !== rank || !shape.every((size) => isCount(size, 1, LARGEST_COUNT)))
    throw new Error(`${word} has no shape of ${rank} sizes`);
  const count = shape.reduce((product, size) => product * size, 1);
  if (count > LARGEST_COUNT) throw new Error(`${word} has ${count} numbers; ${LARGEST_COUNT} is the most`);
  if (shapeOnly) return { shape: [...shape] };
  if ((!Array.isArray(array.data) && !ArrayBuffer.isView(array.data)) || array.data.length !== count)
    throw new Error(`${word} should have ${count} numbers`);
  return { shape: [...shape], data: Float64Array.from(array.data, readNumber) };
}

/**
 * A problem of the contract out of untrusted JSON: every field checked, unknown ones dropped.
 * @throws {Error} with the reason, in one clause.
 */
export function readProblem(given) {
  if (!given || typeof given !== "object" || !OPERATORS.includes(given.operator))
    throw new Error("it names no known operator");
  const rank = Array.isArray(given.x?.shape) ? given.x.shape.length - 1 : 0;
  if (rank !== 1 && rank !== 2) throw new Error("the input should have one or two spatial axes");
  const pools = given.operator.endsWith("pool");
  const x = readArray(given.x, rank + 1, "the input");
  if (x.shape[0] > LARGEST_CHANNELS) throw new Error(`more than ${LARGEST_CHANNELS} channels`);
  if (x.shape.slice(1).some((size) => size > 4 * LARGEST_SIDE))
    throw new Error(`a side of the input is over ${4 * LARGEST_SIDE}`);
  const axes = (name, fallback, low, high) => {
    const values = given[name] ?? Array(rank).fill(fallback);
    if (!isAxes(values, rank, low, high))
      throw new Error(`${name} should be ${rank} whole numbers from ${low} to ${high}`);
    return [...values];
  };
  const one = (name, among, fallback) => {
    const value = given[name] ?? fallback;
    if (!among.includes(value)) throw new Error(`${name} is none of ${among.join(", ")}`);
    return value;
  };
  const pads = Array.isArray(given.padding)
    ? given.padding.map((pair) => {
        if (!isAxes(pair, 2, -LARGEST_SIDE, LARGEST_SIDE))
          throw new Error("padding should be pairs of small whole numbers");
        return [...pair];
      })
    : one("padding", PADDING_NAMES, "valid");
  if (Array.isArray(pads) && pads.length !== rank) throw new Error(`padding should have ${rank} pairs`);
  const w = pools ? null : readArray(given.w, rank + 2, "the kernel");
  const problem = {
    operator: given.operator,
    x,
    w,
    bias: pools || !given.bias ? null : readArray(given.bias, 1, "the bias"),
    stride: axes("stride", 1, 1, LARGEST_SIDE),
    dilation: axes("dilation", 1, 1, LARGEST_SIDE),
    groups: given.groups ?? 1,
    padding: pads,
    paddingMode: one("paddingMode", PADDING_MODES, "zeros"),
    paddingValue: readNumber(given.paddingValue ?? 0),
    flip: Boolean(given.flip),
    outputPadding: axes("outputPadding", 0, 0, LARGEST_SIDE),
    countIncludePad: given.countIncludePad !== false,
    ceilMode: Boolean(given.ceilMode),
  };
  if (!isCount(problem.groups, 1, LARGEST_CHANNELS)) throw new Error("groups should be a small whole number");
  if (pools) problem.kernel = axes("kernel", 2, 1, LARGEST_SIDE);
  return problem;
}

// ------------------------------------------------------------------ the link
const CARRIED = {
  view: ["forward", "backward", "algorithms"],
  target: ["x", "w", "bias"],
  way: ["gather", "scatter"],
  level: ["layer", "cell", "arithmetic"],
};

function plainNumbers(array) {
  const words = (value) =>
    Number.isFinite(value) ? Number(value.toPrecision(9)) : Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
  return array && { shape: array.shape, data: Array.from(array.data, words) };
}

/** A problem as plain JSON values. */
export function plainProblem(problem) {
  return { ...problem, x: plainNumbers(problem.x), w: plainNumbers(problem.w), bias: plainNumbers(problem.bias) };
}

/** A link may name its picture instead of writing its numbers: put them in, and say which it is. */
function namePreset(x) {
  const name = INPUT_PRESETS.find((preset) => preset.name === x?.preset)?.name ?? "";
  if (!name) return "";
  const { shape } = readArray(x, x.shape?.length, "the input", true);
  x.data = presetInput(name, shape).data;
  return name;
}

/**
 * The state as the hash of a link.
 * @throws {Error} when it would be too long to share; the message says what to do.
 */
export function toHash(state) {
  const { problem, inputName } = state;
  const named = INPUT_PRESETS.some(({ name }) => name === inputName);
  const plain = plainProblem(problem);
  if (named) plain.x = { shape: problem.x.shape, preset: inputName };
  const content = { problem: plain, dy: plainNumbers(state.dy), step: state.step };
  for (const name of Object.keys(CARRIED)) content[name] = state[name];
  const bytes = new TextEncoder().encode(JSON.stringify(content));
  let letters = "";
  for (const byte of bytes) letters += String.fromCharCode(byte);
  const text = LINK_START + btoa(letters).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  if (text.length > LINK_LIMIT)
    throw new Error(
      `This problem makes a link of ${text.length} letters; ${LINK_LIMIT} is the most that travels well. Choose a smaller input, or save the HTML page instead.`,
    );
  return text;
}

/** What a link or a saved page says beside its problem, checked. */
export function restoredState(content, problem) {
  const patch = { dy: content.dy ? readArray(content.dy, problem.x.shape.length, "the gradient") : null };
  for (const [name, among] of Object.entries(CARRIED)) if (among.includes(content[name])) patch[name] = content[name];
  patch.step = isCount(content.step, 0, LARGEST_COUNT) ? content.step : 0;
  return patch;
}

/**
 * The patch of the state that a hash holds, or null when the hash is not ours.
 * @throws {Error} when it is ours but broken; the message is for the reader.
 */
export function fromHash(text) {
  if (!text.startsWith(LINK_START)) return null;
  try {
    if (text.length > 2 * LINK_LIMIT) throw new Error("it is too long");
    const letters = atob(text.slice(LINK_START.length).replace(/-/g, "+").replace(/_/g, "/"));
    const content = JSON.parse(new TextDecoder().decode(Uint8Array.from(letters, (letter) => letter.charCodeAt(0))));
    if (!content || typeof content !== "object") throw new Error("it holds no problem");
    const inputName = namePreset(content.problem?.x);
    const problem = readProblem(content.problem);
    return { problem, inputName, kernelName: "", pinned: null, hover: null, ...restoredState(content, problem) };
  } catch (error) {
    const reason =
      error instanceof SyntaxError || error.name === "InvalidCharacterError" ? "it is damaged" : error.message;
    throw new Error(`The link could not be read: ${reason}. The first problem is shown instead.`);
  }
}
