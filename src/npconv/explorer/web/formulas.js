import { numbers } from "./tensors.js";
import { isPool, kernelOf, sizes } from "./shapes.js";
import { terms } from "./arithmetic.js";
import { torchLines } from "./torchlines.js";

/** What the explorer computes, as formulas with numbers and as lines of Python. */

/** How many terms of a group are written out before the middle is left out. */
const MOST_TERMS = 30;

const RULES = {
  conv: {
    y: "y[o, p] = sum over c, t of w[o, c, t] x[c, p s + t d - lo]",
    x: "dx[c, i] = sum over o, and over p, t with p s + t d - lo = i, of dy[o, p] w[o, c, t]",
    w: "dw[o, c, t] = sum over p of x[c, p s + t d - lo] dy[o, p]",
    bias: "db[o] = sum over p of dy[o, p]",
  },
  conv_transpose: {
    y: "y[o, q] = sum over c, and over i, t with i s + t d - lo = q, of x[c, i] w[c, o, t]",
    x: "dx[c, i] = sum over o, t of dy[o, i s + t d - lo] w[c, o, t]",
    w: "dw[c, o, t] = sum over i of x[c, i] dy[o, i s + t d - lo]",
    bias: "db[o] = sum over q of dy[o, q]",
  },
  max_pool: {
    y: "y[c, p] = largest over t of x[c, p s + t d - lo]",
    x: "dx[c, i] = sum of dy[c, p] over the windows p whose first largest value is x[c, i]",
  },
  avg_pool: {
    y: "y[c, p] = (sum over t of x[c, p s + t d - lo]) / n",
    x: "dx[c, i] = sum of dy[c, p] / n over the windows p that read x[c, i]",
  },
};

/**
 * A number for reading: up to five significant digits.
 * @param {number} value
 * @returns {string}
 */
export function shortNumber(value) {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "nan" : value < 0 ? "-inf" : "inf";
  return String(Number(value.toPrecision(5)));
}

/** The same as a factor: what begins with a sign stands in brackets. */
const factorText = (value) => (value < 0 ? `(${shortNumber(value)})` : shortNumber(value));

/**
 * The rule of one cell, and the cell's own numbers put into it.
 * @param {import("./shapes.js").Problem} p
 * @param {"y"|"x"|"w"|"bias"} what y, or whose gradient
 * @param {number[]} index
 * @param {import("./tensors.js").Tensor} [dy] for a gradient
 * @returns {string} lines: the rule, the numbers of this problem, the sum group by group, the result
 */
export function cellFormula(p, what, index, dy) {
  const size = sizes(p);
  if (!size.valid) return size.reasons.join("\n");
  const parts = terms(p, what, index, dy), name = what === "y" ? "y" : what === "bias" ? "db" : `d${what}`;
  const biased = what === "y" && parts.bias !== null;
  const rule = RULES[p.operator][what] + (biased ? " + bias[o]" : "");
  const lines = [p.flip ? rule.replace(/w\[(\w), (\w), t\]/, "w[$1, $2, k - 1 - t]") : rule];
  if (what !== "bias") {
    const list = (values) => `(${values.join(", ")})`;
    const steps = `s = ${list(p.stride)}, d = ${list(p.dilation)}, lo = ${list(size.pads.map(([lo]) => lo))}`;
    lines.push(p.flip ? `${steps}, k = ${list(kernelOf(p))}` : steps);
  }
  const cell = `${name}[${index.join(", ")}]`;
  if (parts.chosen !== null) {
    const values = parts.groups[0].terms.map((term) => shortNumber(term.product));
    lines.push(`${cell} = largest of ${shortened(values, ", ")} = ${shortNumber(parts.total)}`);
    return lines.join("\n");
  }
  const sums = parts.groups.map((group) => sumOf(group, parts.operation));
  const bias = biased ? ` + ${factorText(parts.bias)}` : "", over = parts.divisor === null ? "" : ` / ${parts.divisor}`;
  if (sums.length === 1) {
    const sum = over ? `(${sums[0]})${over}` : sums[0];
    lines.push(`${cell} = ${sum}${bias} = ${shortNumber(parts.total)}`);
  } else {
    parts.groups.forEach((group, i) => lines.push(`${group.label}: ${sums[i]} = ${shortNumber(group.sum)}`));
    const added = parts.groups.map((group) => factorText(group.sum)).join(" + ") || "0";
    lines.push(`${cell} = ${added}${bias} = ${shortNumber(parts.total)}`);
  }
  return lines.join("\n");
}

/** The terms of a group, added up in writing. */
function sumOf(group, operation) {
  const written = group.terms.map(({ a, b }) => {
    if (b === null) return factorText(a.value);
    return `${factorText(a.value)} ${operation === "over" ? "/" : "*"} ${factorText(b.value)}`;
  });
  return shortened(written, " + ") || "0";
}

function shortened(written, joint) {
  if (written.length <= MOST_TERMS) return written.join(joint);
  const left = written.length - MOST_TERMS;
  return [...written.slice(0, MOST_TERMS - 5), `... ${left} more ...`, ...written.slice(-5)].join(joint);
}

// ------------------------------------------------------------------ lines of Python
/** Arrays of more numbers than this are left as names. */
const MOST_WRITTEN = 144;

/** A number as Python writes it; `library` spells what is not finite. */
function pythonNumber(value, library) {
  if (Number.isFinite(value)) return Object.is(value, -0) ? "-0.0" : String(value);
  const word = Number.isNaN(value) ? "nan" : "inf";
  return `${value < 0 ? "-" : ""}${library === "np" ? `np.${word}` : `float("${word}")`}`;
}

/** Nested lists, a row a line. */
function nestedList(shape, data, library, indent) {
  if (shape.length === 1) return `[${Array.from(data, (value) => pythonNumber(value, library)).join(", ")}]`;
  const step = data.length / shape[0], parts = [];
  for (let i = 0; i < shape[0]; i++) {
    parts.push(nestedList(shape.slice(1), data.slice(i * step, (i + 1) * step), library, `${indent} `));
  }
  return `[${parts.join(`,\n${indent} `)}]`;
}

const shapeText = (shape) => `(${shape.join(", ")}${shape.length === 1 ? "," : ""})`;

/** The line that makes an array, or a comment where it is too large to write. */
function arrayLines(name, array, library) {
  const data = numbers(array.data);
  if (data.length > MOST_WRITTEN) {
    return `# ${name}: your ${library === "np" ? "array" : "float64 tensor"} of shape ${shapeText(array.shape)}`;
  }
  const [make, dtype] = library === "np" ? ["np.array", "float"] : ["torch.tensor", "dtype=torch.float64"];
  const start = `${name} = ${make}(`;
  if (data.length === 0) return `${start}[], ${dtype}).reshape(${shapeText(array.shape)})`;
  return `${start}${nestedList(array.shape, data, library, " ".repeat(start.length))}, ${dtype})`;
}

/**
 * Complete lines of Python that compute exactly this, for npconv and for PyTorch.
 * @param {import("./shapes.js").Problem} p
 * @param {"y"|"x"|"w"|"bias"} what y, or whose gradient: the lines end with y, dx, dw or db
 * @param {import("./tensors.js").Tensor} [dy] the gradient of y; ones where it is left out
 * @returns {{npconv: string, torch: string}}
 */
export function codeLines(p, what, dy) {
  const size = sizes(p);
  if (!size.valid) {
    const refusal = size.reasons.map((reason) => `# ${reason}`).join("\n");
    return { npconv: refusal, torch: refusal };
  }
  const given = { x: p.x };
  if (!isPool(p)) given.w = p.w;
  if (!isPool(p) && p.bias) given.bias = p.bias;
  if (what !== "y" && dy) given.dy = dy;
  const arrays = (library) => Object.entries(given).map(([name, array]) => arrayLines(name, array, library));
  return {
    npconv: ["import numpy as np", "import npconv", "", ...arrays("np"), ...npconvLines(p, what, Boolean(dy))].join("\n"),
    torch: [
      "import torch", "import torch.nn.functional as F", "", ...arrays("torch"), ...torchLines(p, size, what, Boolean(dy)),
    ].join("\n"),
  };
}

/** A tuple of Python, of numbers or of pairs. */
const pythonTuple = (values) => shapeText(values.map((value) => (Array.isArray(value) ? shapeText(value) : value)));

/** The options of the call that are not npconv's defaults. */
function npconvOptions(p) {
  const ones = (values) => values.every((value) => value === 1), options = [];
  const pool = isPool(p);
  if (pool ? p.stride.some((s, i) => s !== p.kernel[i]) : !ones(p.stride)) options.push(`stride=${pythonTuple(p.stride)}`);
  if (typeof p.padding === "string") {
    if (p.padding !== "valid") options.push(`padding="${p.padding}"`);
  } else if (p.padding.flat().some((pad) => pad !== 0)) {
    options.push(`padding=${pythonTuple(p.padding)}`);
  }
  if (!ones(p.dilation)) options.push(`dilation=${pythonTuple(p.dilation)}`);
  if (pool) return p.ceilMode ? [...options, "ceil_mode=True"] : options;
  if (p.groups !== 1) options.push(`groups=${p.groups}`);
  if (p.operator === "conv" && p.paddingMode !== "zeros") options.push(`padding_mode="${p.paddingMode}"`);
  if (p.operator === "conv" && p.paddingValue !== 0) options.push(`padding_value=${pythonNumber(p.paddingValue, "np")}`);
  if (p.operator === "conv_transpose" && p.outputPadding?.some((extra) => extra !== 0)) {
    options.push(`output_padding=${pythonTuple(p.outputPadding)}`);
  }
  if (p.flip) options.push("flip=True");
  return options;
}

function npconvLines(p, what, given) {
  const call = (name, ...given_) => `npconv.${name}(${[...given_, ...npconvOptions(p)].join(", ")})`;
  const mean = p.operator === "avg_pool" && p.countIncludePad === false ? ["count_include_pad=False"] : [];
  const kernel = isPool(p) ? pythonTuple(p.kernel) : null;
  const y = `y = ${isPool(p) ? call(p.operator, "x", kernel, ...mean) : call(p.operator, "x", "w", ...(p.bias ? ["bias"] : []))}`;
  if (what === "y") return [y];
  const dy = given ? [] : [y, "dy = np.ones_like(y)"];
  if (p.operator === "max_pool") return [...dy, `dx = ${call("max_pool_grad", "dy", "x", kernel)}`];
  if (p.operator === "avg_pool") return [...dy, `dx = ${call("avg_pool_grad", "dy", "x.shape", kernel, ...mean)}`];
  if (what === "x") return [...dy, `dx = ${call(`${p.operator}_input_grad`, "dy", "w", "input_shape=x.shape")}`];
  if (what === "w") return [...dy, `dw = ${call(`${p.operator}_weight_grad`, "x", "dy", "kernel_shape=w.shape")}`];
  return [...dy, `db = ${call(`${p.operator}_grads`, "dy", "x", "w")}.bias`];
}
