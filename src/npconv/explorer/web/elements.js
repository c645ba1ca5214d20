// What every part of the page is made of: nodes, fields, numbers as text. Text is only ever set as text.

const SVG_SPACE = "http://www.w3.org/2000/svg";
const AS_PROPERTY = new Set(["value", "checked", "disabled", "hidden", "selected", "open", "readOnly"]);
let lastId = 0;

/** An id that no other explorer on the page has. */
export function uniqueId(word) {
  lastId += 1;
  return `npconv-${word}-${lastId}`;
}

function dress(node, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (name === "on") for (const [type, listener] of Object.entries(value)) node.addEventListener(type, listener);
    else if (name === "text") node.textContent = value;
    else if (AS_PROPERTY.has(name)) node[name] = value;
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/**
 * A node: attributes, `text`, `on: {event: listener}`, and children (nodes or strings).
 * @param {string} tag
 * @param {Object} [properties]
 * @param {...(Node|string|null)} children
 * @returns {HTMLElement}
 */
export function element(tag, properties, ...children) {
  return dress(document.createElement(tag), properties, children);
}

/** The same for SVG. */
export function vector(tag, properties, ...children) {
  return dress(document.createElementNS(SVG_SPACE, tag), properties, children);
}

const ICONS = {
  first: "M4 4h2v12H4zM16 4v12L7 10z",
  back: "M11 4v12L3 10zM13 4h2v12h-2z",
  play: "M5 3l12 7-12 7z",
  pause: "M5 4h3.5v12H5zM11.500 4H15v12h-3.500z",
  forward: "M9 4v12l8-6zM5 4h2v12H5z",
  last: "M14 4h2v12h-2zM4 4v12l9-6z",
};

/** One of the drawn signs of the player; its button bears the name. */
export function icon(name) {
  return vector(
    "svg",
    { viewBox: "0 0 20 20", width: "18", height: "18", "aria-hidden": "true", focusable: "false" },
    vector("path", { d: ICONS[name], fill: "currentColor" }),
  );
}

/** A button with its words (or a sign and a name). */
export function button(words, onClick, properties = {}) {
  return element("button", { type: "button", on: { click: onClick }, ...properties }, words);
}

/** A control under its label; the label's words are the control's name. */
export function field(words, control, properties = {}) {
  return element(
    "label",
    { ...properties, class: `field ${properties.class ?? ""}`.trim() },
    element("span", { text: words }),
    control,
  );
}

/** A number to type or to step; `onChange` hears of values in range only. */
export function numberInput({ label, value, min, max, step = 1, onChange }) {
  const input = element("input", {
    type: "number",
    "aria-label": label,
    value: String(value),
    min,
    max,
    step,
    inputmode: min < 0 || step !== 1 ? "text" : "numeric",
  });
  input.addEventListener("input", () => {
    const number = Number(input.value);
    const known = input.value.trim() !== "" && Number.isFinite(number);
    const good =
      known &&
      (min === undefined || number >= min) &&
      (max === undefined || number <= max) &&
      (step !== 1 || Number.isInteger(number));
    input.toggleAttribute("aria-invalid", false);
    if (!good) input.setAttribute("aria-invalid", "true");
    else onChange(number);
  });
  return input;
}

/** Put a new number in a field unless the user is typing there. */
export function refreshNumber(input, value) {
  if (Number(input.value) !== value || input.value === "")
    if (document.activeElement !== input || input.getAttribute("aria-invalid") !== "true") input.value = String(value);
}

/** A choice of few words: `<select>`. `options` are [value, words]. */
export function choiceInput({ label, value, options, onChange }) {
  const input = element(
    "select",
    { "aria-label": label },
    ...options.map(([key, words]) => element("option", { value: key, text: words })),
  );
  input.value = value;
  input.addEventListener("change", () => onChange(input.value));
  return input;
}

/** A choice where all words show: radio buttons drawn as one bar. */
export function segments({ label, value, options, onChange }) {
  const name = uniqueId("choice");
  const inputs = new Map();
  const parts = options.map(([key, words]) => {
    const input = element("input", { type: "radio", name, value: key, checked: key === value });
    input.addEventListener("change", () => input.checked && onChange(key));
    inputs.set(key, input);
    return element("label", {}, input, element("span", { text: words }));
  });
  const root = element(
    "fieldset",
    { class: "segments" },
    element("legend", { text: label }),
    element("div", { class: "bar" }, ...parts),
  );
  return {
    root,
    choose(key) {
      for (const [each, input] of inputs) input.checked = each === key;
    },
    disable(key, off) {
      inputs.get(key).disabled = off;
    },
  };
}

/** A switch with words. */
export function checkInput(words, checked, onChange) {
  const input = element("input", { type: "checkbox", checked });
  input.addEventListener("change", () => onChange(input.checked));
  return { root: element("label", { class: "check" }, input, element("span", { text: words })), input };
}

const MINUS = "\u2212";

function withSign(text) {
  return text.replace(/-/g, MINUS);
}

/** A number for a cell: at most about five signs. */
export function cellText(value) {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "\u221e" : `${MINUS}\u221e`;
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e5) return withSign(String(value + 0 === 0 ? 0 : value));
  if (size >= 1e4 || size < 0.005) return withSign(value.toExponential(0)).replace("e+", "e");
  const text = size >= 1000 ? value.toFixed(0) : size < 1 ? value.toFixed(2) : value.toPrecision(3);
  return withSign(text.includes(".") ? text.replace(/0+$/, "").replace(/\.$/, "") : text);
}

/** A number in a sentence: up to seven digits. */
export function longNumber(value) {
  if (!Number.isFinite(value)) return cellText(value);
  const text = String(Number(value.toPrecision(7)));
  return withSign(text === "-0" ? "0" : text).replace("e+", "e");
}

/** A count with its thousands apart. */
export function countText(count) {
  return String(Math.round(count)).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

const linear = (part) => (part <= 10.31475 ? part / 3294.6 : ((part / 255 + 0.055) / 1.055) ** 2.4);

/** Whether black text reads better than white on this colour, by WCAG's contrast: the better is at least 4.58 to 1. */
export function darkInkReads([red, green, blue]) {
  return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue) > 0.179;
}

/** Put text on the clipboard; where that is refused, select it for the reader to copy. Says which it was. */
export async function copyText(text, shown) {
  try {
    await navigator.clipboard.writeText(text);
    return "Copied.";
  } catch {
    const range = document.createRange();
    if (shown instanceof HTMLTextAreaElement || shown instanceof HTMLInputElement) shown.select();
    else {
      range.selectNodeContents(shown);
      const selection = window.getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
    }
    return "Selected: press Ctrl+C (or Command+C) to copy.";
  }
}

/** Whether the reader asked for less motion. */
export function calm() {
  return window.matchMedia?.("(prefers-reduced-motion: reduce)").matches ?? false;
}
