import { copiedPosition } from "./products.js";

/**
 * The lines of PyTorch for a problem. Where torch has no argument for it, other lines of torch compute the same, and a
 * comment says why.
 */

const plainTuple = (values) => `(${values.join(", ")}${values.length === 1 ? "," : ""})`;
const each = (values, value) => values.every((v) => v === value);

/** Pads in torch's order: the last axis first, low before high. */
const torchOrder = (pads) => plainTuple([...pads].reverse().flat());

/** Whether every axis has the same padding at both ends, none of them negative. */
const balanced = (pads) => pads.every(([lo, hi]) => lo === hi && lo >= 0);

/** A comment and the lines that take the place of an argument torch lacks. */
const lacking = (reason, ...lines) => [`# ${reason}`, ...lines];

/**
 * @param {import("./shapes.js").Problem} p valid
 * @param {import("./shapes.js").Sizes} size
 * @param {"y"|"x"|"w"|"bias"} what
 * @param {boolean} given whether dy is there already
 * @returns {string[]}
 */
export function torchLines(p, size, what, given) {
  const write = { conv: convLines, conv_transpose: transposedLines, max_pool: maxLines, avg_pool: meanLines }[p.operator];
  const lines = write(p, size);
  if (what === "y") return lines;
  const named = { x: "x", w: "w", bias: "bias" }[what], result = { x: "dx", w: "dw", bias: "db" }[what];
  const dy = given ? [] : ["dy = torch.ones_like(y)"];
  if (what === "bias" && !p.bias) {
    return [...lines, ...dy, `db = dy.sum(${size.out.length === 1 ? "1" : "(1, 2)"})`];
  }
  return [`${named}.requires_grad_()`, ...lines, ...dy, "y.backward(dy)", `${result} = ${named}.grad`];
}

/** Weights and options that the convolutions share. */
function sharedArguments(p) {
  const options = [];
  if (!each(p.stride, 1)) options.push(`stride=${plainTuple(p.stride)}`);
  if (!each(p.dilation, 1)) options.push(`dilation=${plainTuple(p.dilation)}`);
  if (p.groups !== 1) options.push(`groups=${p.groups}`);
  const axes = p.stride.map((_, i) => i + 2), w = p.flip ? `w.flip(${plainTuple(axes)})` : "w";
  return { w, options };
}

function convLines(p, size) {
  const { w, options } = sharedArguments(p), none = each(size.pads.flat(), 0);
  const before = none ? [] : paddingLines(p, size.pads, options);
  const call = [before.length ? "padded" : "x", w, ...(p.bias ? ["bias"] : []), ...options].join(", ");
  return [...before, `y = F.conv${p.stride.length}d(${call})`];
}

/** The lines that make `padded`; none where torch's own argument does it, which goes to `options`. */
function paddingLines(p, pads, options) {
  const mode = p.paddingMode, spatial = p.x.shape.slice(1);
  const whole = pads.flat().every((pad) => pad >= 0);
  if (mode === "zeros" || mode === "constant") {
    if (mode === "zeros" && balanced(pads)) {
      options.push(`padding=${plainTuple(pads.map(([lo]) => lo))}`);
      return [];
    }
    const value = p.paddingValue === 0 ? "" : `, value=${floatText(p.paddingValue)}`;
    return [`padded = F.pad(x, ${torchOrder(pads)}${value})`];
  }
  const limit = { reflect: -1, circular: 0, replicate: Infinity, symmetric: -Infinity }[mode];
  const fits = pads.every((pair, i) => Math.max(...pair) <= spatial[i] + limit);
  if (whole && fits) return [`padded = F.pad(x, ${torchOrder(pads)}, mode="${mode}")`];
  const reason = mode === "symmetric"
    ? "torch has no symmetric padding; each position of the padded input copies one of x"
    : `torch's ${mode} padding is ${whole ? "at most one image wide" : "never negative"}; each padded position copies one of x`;
  return lacking(reason, "padded = x", ...pads.flatMap(([lo, hi], i) => {
    if (!lo && !hi) return [];
    const copied = Array.from({ length: spatial[i] + lo + hi }, (_, at) => copiedPosition(at - lo, spatial[i], mode));
    return [`padded = padded.index_select(${i + 1}, torch.tensor([${copied.join(", ")}]))`];
  }));
}

const floatText = (value) =>
  Number.isFinite(value) ? String(value) : `float("${Number.isNaN(value) ? "nan" : value < 0 ? "-inf" : "inf"}")`;

function transposedLines(p, size) {
  const { w, options } = sharedArguments(p), name = `F.conv_transpose${p.stride.length}d`, bias = p.bias ? ["bias"] : [];
  const extra = p.outputPadding ?? p.stride.map(() => 0);
  const whole = p.x.shape.slice(1).map((n, i) => (n - 1) * p.stride[i] + size.effective[i]);
  // torch pads both ends alike and then adds output_padding: (lo, hi) fits where hi = lo
  const after = whole.map((n, i) => size.out[i] - (n - 2 * size.pads[i][0]));
  const lows = size.pads.map(([lo]) => lo), most = p.stride.map((s, i) => Math.max(s, p.dilation[i]) - 1);
  if (lows.every((lo) => lo >= 0) && after.every((more, i) => more >= 0 && more <= most[i])) {
    const own = each(lows, 0) ? [] : [`padding=${plainTuple(lows)}`];
    if (!each(after, 0)) own.push(`output_padding=${plainTuple(after)}`);
    return [`y = ${name}(${["x", w, ...bias, ...options, ...own].join(", ")})`];
  }
  const cuts = whole.map((n, i) => [-size.pads[i][0], size.out[i] - n + size.pads[i][0]]);
  const add = p.bias ? ` + bias[:${", None".repeat(p.stride.length)}]` : "";
  const why = each(extra, 0) ? "torch cuts both ends alike" : "torch cuts both ends alike, and adds less";
  return lacking(
    `${why}; here all of the output, then cut (or filled with zeros) end by end`,
    `whole = ${name}(${["x", w, ...options].join(", ")})`,
    `y = F.pad(whole, ${torchOrder(cuts)})${add}`,
  );
}

// ------------------------------------------------------------------ pools
const firstOf = (p) => [`kernel_size=${plainTuple(p.kernel)}`, `stride=${plainTuple(p.stride)}`];

/** What a pool reads beyond x on each axis: the padding, and where rounding up lets a window overhang, that too. */
function reach(p, size) {
  return p.x.shape.slice(1).map((n, i) => {
    const [lo] = size.pads[i];
    return [lo, (size.out[i] - 1) * p.stride[i] + size.effective[i] - n - lo];
  });
}

/** Whether torch's own padding argument does it: both ends alike, at most half of the kernel. */
const poolPads = (p, size) => balanced(size.pads) && size.pads.every(([lo], i) => lo <= Math.floor(p.kernel[i] / 2));

function maxLines(p, size) {
  const rank = p.kernel.length, dilation = each(p.dilation, 1) ? [] : [`dilation=${plainTuple(p.dilation)}`];
  if (poolPads(p, size)) {
    const padding = each(size.pads.flat(), 0) ? [] : [`padding=${plainTuple(size.pads.map(([lo]) => lo))}`];
    const options = [...firstOf(p), ...padding, ...dilation, ...(p.ceilMode ? ["ceil_mode=True"] : [])];
    return [`y = F.max_pool${rank}d(${["x", ...options].join(", ")})`];
  }
  return lacking(
    "torch pads a pool at both ends alike, by half a kernel at most; padding never wins, so it is -inf",
    `padded = ${cropped(p, size, "x", 'float("-inf")')}`,
    `y = F.max_pool${rank}d(${["padded", ...firstOf(p), ...dilation].join(", ")})`,
  );
}

/** `name` padded by what the windows reach; a negative high padding cuts inputs off even where a window overhangs it. */
function cropped(p, size, name, value) {
  const cut = size.pads.map(([, hi]) => [0, Math.min(0, hi)]), kept = each(cut.flat(), 0);
  const pads = reach(p, size).map(([lo, hi], i) => [lo, hi - cut[i][1]]);
  return `F.pad(${kept ? name : `F.pad(${name}, ${torchOrder(cut)})`}, ${torchOrder(pads)}${value ? `, value=${value}` : ""})`;
}

function meanLines(p, size) {
  const rank = p.kernel.length, include = p.countIncludePad ?? true;
  if (poolPads(p, size) && each(p.dilation, 1)) {
    const padding = each(size.pads.flat(), 0) ? [] : [`padding=${plainTuple(size.pads.map(([lo]) => lo))}`];
    const rest = [...(p.ceilMode ? ["ceil_mode=True"] : []), ...(include ? [] : ["count_include_pad=False"])];
    const options = [...firstOf(p), ...padding, ...rest];
    return [`y = F.avg_pool${rank}d(${["x", ...options].join(", ")})`];
  }
  const channels = p.x.shape[0], options = [`stride=${plainTuple(p.stride)}`, `dilation=${plainTuple(p.dilation)}`];
  const counted = include
    ? `F.pad(torch.ones(${plainTuple(paddedShape(p, size))}, dtype=x.dtype), ${torchOrder(overhang(p, size))})`
    : cropped(p, size, "torch.ones_like(x)", "");
  const sums = (what) => `F.conv${rank}d(${[what, "ones", ...options, `groups=${channels}`].join(", ")})`;
  return lacking(
    each(p.dilation, 1)
      ? "torch pads a pool at both ends alike, by half a kernel at most; a mean is a sum over a count"
      : "torch has no dilated mean; a mean is a sum over a count",
    `ones = torch.ones(${plainTuple([channels, 1, ...p.kernel])}, dtype=x.dtype)`,
    `sums = ${sums(cropped(p, size, "x", ""))}`,
    `counts = ${sums(counted)}`,
    "y = sums / counts.clamp(min=1)",
  );
}

const paddedShape = (p, size) => [p.x.shape[0], ...p.x.shape.slice(1).map((n, i) => n + size.pads[i][0] + size.pads[i][1])];
const overhang = (p, size) => reach(p, size).map(([, hi], i) => [0, hi - size.pads[i][1]]);
