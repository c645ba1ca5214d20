import { count } from "./tensors.js";

/**
 * The sizes of a problem: one equation per axis, and in words why there is no result.
 *
 * The rules and the words are npconv's (its geometry and its messages); the numbers R1 to R20 are those of its rules page.
 *
 * @typedef {{shape: number[], data: ArrayLike<number|string>}} Numbers
 * @typedef {{operator: string, x: Numbers, w: Numbers|null, bias: Numbers|null, kernel?: number[], stride: number[],
 *   dilation: number[], groups: number, padding: string|number[][], paddingMode: string, paddingValue: number,
 *   flip: boolean, outputPadding?: number[], countIncludePad?: boolean, ceilMode?: boolean}} Problem
 * @typedef {{valid: boolean, reasons: string[], pads: number[][], effective: number[], out: number[],
 *   equations: string[]}} Sizes
 */

export const OPERATORS = ["conv", "conv_transpose", "max_pool", "avg_pool"];
export const PADDING_NAMES = ["valid", "same", "same_lower", "same_torch", "full", "causal"];
export const PADDING_MODES = ["zeros", "constant", "reflect", "symmetric", "replicate", "circular"];

/**
 * Whether the operator has a window but no weights.
 * @param {Problem} p
 * @returns {boolean}
 */
export function isPool(p) {
  return p.operator === "max_pool" || p.operator === "avg_pool";
}

/**
 * The kernel size of any operator.
 * @param {Problem} p
 * @returns {number[]}
 */
export function kernelOf(p) {
  return isPool(p) ? p.kernel : p.w.shape.slice(2);
}

/**
 * The span of `k` taps that lie `d` apart (R1).
 * @param {number} k
 * @param {number} d
 * @returns {number}
 */
export function effectiveKernel(k, d) {
  return d * (k - 1) + 1;
}

/** How many windows of span `e` fit into `padded` positions, `s` apart (R2). */
function windowCount(padded, e, s) {
  return Math.floor((padded - e) / s) + 1;
}

/** The same for a pool (R3): rounded up it counts a remainder, unless that window would start in the high padding. */
function poolCount(size, lo, hi, e, s, ceil) {
  const span = size + lo + hi - e;
  if (!ceil) return Math.floor(span / s) + 1;
  const windows = Math.ceil(span / s) + 1;
  return (windows - 1) * s >= size + lo ? windows - 1 : windows;
}

/** The (lo, hi) that a padding name stands for on one axis (R4 to R6). */
function namedPads(name, size, e, s) {
  if (name === "valid") return [0, 0];
  if (name === "same" || name === "same_lower") {
    const pad = Math.max(0, (Math.ceil(size / s) - 1) * s + e - size);
    const small = Math.floor(pad / 2);
    return name === "same" ? [small, pad - small] : [pad - small, small];
  }
  if (name === "same_torch") return [Math.floor((e - 1) / 2), e - 1 - Math.floor((e - 1) / 2)];
  return [e - 1, name === "causal" ? 0 : e - 1];
}

const signed = (value) => `${value < 0 ? "-" : "+"} ${Math.abs(value)}`;
const sumText = (size, lo, hi) => `${size} ${signed(lo)} ${signed(hi)}`;
const tuple = (values) => `(${values.join(", ")}${values.length === 1 ? "," : ""})`;

/**
 * The sizes of a problem. Where there is none, `reasons` say which axis, which equation breaks, and one way out.
 * @param {Problem} p
 * @returns {Sizes}
 */
export function sizes(p) {
  const found = { valid: false, reasons: [], pads: [], effective: [], out: [], equations: [] };
  const why = found.reasons;
  if (!checkArrays(p, why)) return found;
  checkNumbers(p, why);
  const countable = !why.length;
  if (!isPool(p)) checkChannels(p, why);
  if (countable) (isPool(p) ? poolSizes : p.operator === "conv" ? convSizes : transposedSizes)(p, found);
  if (!why.length && p.bias && !isPool(p)) {
    const channels = outChannels(p);
    if (p.bias.shape.length !== 1 || p.bias.shape[0] !== channels) {
      why.push(
        `bias.shape is ${tuple(p.bias.shape)}, expected (${channels},), one number per output channel; use ${channels} numbers`,
      );
    }
  }
  found.valid = !why.length;
  return found;
}

/**
 * The number of output channels of a problem whose sizes are valid.
 * @param {Problem} p
 * @returns {number}
 */
export function outChannels(p) {
  if (isPool(p)) return p.x.shape[0];
  return p.operator === "conv" ? p.w.shape[0] : p.w.shape[1] * p.groups;
}

/** Whether there is anything to count: refuse ranks that do not agree, and arrays that are not full. */
function checkArrays(p, why) {
  if (!OPERATORS.includes(p.operator)) {
    why.push(`operator must be one of ${OPERATORS.join(", ")}, got '${p.operator}'`);
    return false;
  }
  if (!isPool(p) && (p.w === null || p.w.shape.length < 2)) {
    why.push(`w.shape is ${tuple(p.w?.shape ?? [])}, expected both channel axes and one per spatial axis; add them`);
    return false;
  }
  const axes = p.x.shape.length, rank = kernelOf(p).length;
  if (axes !== rank + 1) {
    why.push(`x.shape is ${tuple(p.x.shape)}, ${axes} axes, expected ${rank + 1}: channels and ${rank} spatial; add them`);
  }
  const arrays = isPool(p) ? { x: p.x } : { x: p.x, w: p.w, bias: p.bias };
  for (const [name, array] of Object.entries(arrays)) {
    if (array && array.data.length !== count(array.shape)) {
      why.push(`${name} of shape ${tuple(array.shape)} needs ${count(array.shape)} numbers, got ${array.data.length}`);
    }
  }
  return !why.length;
}

/** Refuse what makes no equation: kernels, steps and paddings that are no numbers or too small. */
function checkNumbers(p, why) {
  const kernel = kernelOf(p), rank = kernel.length;
  if (!isPool(p)) {
    kernel.forEach((k, i) => {
      if (k < 1) why.push(`kernel size must be >= 1, got ${k} on spatial axis ${i} of w; use 1 or more taps`);
    });
  }
  /** @type {Record<string, [number[], number]>} */
  const least = { ...(isPool(p) && { kernel: [kernel, 1] }), stride: [p.stride, 1], dilation: [p.dilation, 1] };
  if (p.operator === "conv_transpose") least.output_padding = [p.outputPadding ?? kernel.map(() => 0), 0];
  for (const [name, [values, low]] of Object.entries(least)) {
    if (values.length !== rank) {
      why.push(`${name} has ${values.length} values, needs ${rank} for the spatial axes; write one per axis`);
    }
    values.forEach((value, i) => {
      const what = rank > 1 ? `${name} on spatial axis ${i}` : name;
      if (!Number.isInteger(value)) why.push(`${what} must be an integer, got ${value}; write one`);
      else if (value < low) why.push(`${what} must be >= ${low}, got ${value}; use ${low} or more`);
    });
  }
  checkPadding(p, rank, why);
}

function checkPadding(p, rank, why) {
  if (typeof p.padding === "string") {
    if (!PADDING_NAMES.includes(p.padding)) {
      why.push(`padding='${p.padding}' is unknown; use one of ${PADDING_NAMES.join(", ")}`);
    } else if (p.padding === "same_torch" && p.stride.some((s) => s !== 1)) {
      why.push(
        `padding='same_torch' needs stride 1, got stride=${tuple(p.stride)}; use padding='same', which takes any stride`,
      );
    }
  } else if (p.padding.length !== rank || !p.padding.every((pair) => pair.length === 2 && pair.every(Number.isInteger))) {
    why.push(`padding is malformed, expected one (lo, hi) pair per spatial axis; write ${rank}`);
  }
}

/** Refuse channels that do not fit each other or the groups; a transposed convolution is asked as the one it transposes. */
function checkChannels(p, why) {
  if (!Number.isInteger(p.groups) || p.groups < 1) {
    why.push(`groups must be >= 1, got ${p.groups}; use 1 or more`);
    return;
  }
  const transposed = p.operator === "conv_transpose", [out, perGroup] = p.w.shape, { groups } = p;
  if (transposed && p.x.shape[0] !== out) {
    why.push(`x has ${p.x.shape[0]} channels but w takes ${out}; w is that of the convolution whose adjoint this is`);
  }
  const channels = transposed ? perGroup * groups : p.x.shape[0];
  if (channels % groups === 0 && channels !== perGroup * groups) {
    const takes = `${perGroup} * groups = ${perGroup} * ${groups} = ${perGroup * groups}`;
    why.push(`x has ${channels} channels but w takes ${takes}; use w with ${channels / groups} input channels`);
  } else if (channels % groups || out % groups) {
    const [what, n] = channels % groups ? [`x has ${channels}`, channels] : [`w has ${out} output`, out];
    const rest = `${n} = ${Math.floor(n / groups)} * ${groups} + ${n % groups}`;
    why.push(`${what} channels, not divisible by groups=${groups}: ${rest}; use a multiple of ${groups} channels`);
  }
}

/** Refuse a kernel that does not fit. */
function checkFit(i, size, k, d, [lo, hi], of, why) {
  const e = effectiveKernel(k, d), padded = size + lo + hi;
  if (e <= padded) return;
  const span = `effective kernel dilation (k - 1) + 1 = ${d} * (${k} - 1) + 1 = ${e}`;
  const room = `padded size ${sumText(size, lo, hi)} = ${padded}`;
  const fix = `add at least ${e - padded} padding, or use a smaller ${d > 1 ? "dilation" : "kernel"}`;
  why.push(`the kernel${of} does not fit x on spatial axis ${i}: ${span} > ${room}; ${fix}`);
}

/** The pads of every axis, written or by name. */
function resolvePads(p, spatial, effective) {
  if (typeof p.padding !== "string") return p.padding.map((pair) => [...pair]);
  return spatial.map((size, i) => namedPads(p.padding, size, effective[i], p.stride[i]));
}

function convSizes(p, found) {
  const spatial = p.x.shape.slice(1), kernel = kernelOf(p);
  found.effective = kernel.map((k, i) => effectiveKernel(k, p.dilation[i]));
  found.pads = resolvePads(p, spatial, found.effective);
  spatial.forEach((size, i) => {
    const [lo, hi] = found.pads[i], k = kernel[i], d = p.dilation[i], s = p.stride[i];
    checkFit(i, size, k, d, found.pads[i], " of w", found.reasons);
    found.out.push(windowCount(size + lo + hi, found.effective[i], s));
    found.equations.push(`(${sumText(size, lo, hi)} - ${d} * (${k} - 1) - 1) // ${s} + 1 = ${found.out[i]}`);
  });
  checkMode(p, spatial, found);
}

function checkMode(p, spatial, found) {
  if (!PADDING_MODES.includes(p.paddingMode)) {
    found.reasons.push(`padding_mode must be one of ${PADDING_MODES.join(", ")}, got '${p.paddingMode}'`);
    return;
  }
  if (p.paddingMode !== "constant" && p.paddingValue !== 0) {
    found.reasons.push(
      `padding_value=${p.paddingValue} needs padding_mode='constant', got '${p.paddingMode}'; use both or neither`,
    );
  }
  if (p.paddingMode === "zeros" || p.paddingMode === "constant") return;
  spatial.forEach((size, i) => {
    if (size === 0 && found.pads[i].some((pad) => pad !== 0)) {
      found.reasons.push(
        `padding_mode='${p.paddingMode}' on spatial axis ${i} has nothing to copy, its size is 0; use padding_mode='zeros'`,
      );
    }
  });
}

function transposedSizes(p, found) {
  const why = found.reasons, spatial = p.x.shape.slice(1), kernel = kernelOf(p);
  spatial.forEach((size, i) => {
    if (size < 1) why.push(`x has no elements on spatial axis ${i}, needs at least 1; make it larger`);
  });
  if (spatial.some((size) => size < 1)) return;
  found.effective = kernel.map((k, i) => effectiveKernel(k, p.dilation[i]));
  const same = p.padding === "same" || p.padding === "same_lower";
  found.pads = resolvePads(p, same ? spatial.map((size, i) => size * p.stride[i]) : spatial, found.effective);
  spatial.forEach((size, i) => {
    const [lo, hi] = found.pads[i], e = found.effective[i], s = p.stride[i];
    if (same) {
      const extra = p.outputPadding?.[i] ?? 0;
      if (extra) {
        const made = `padding='${p.padding}' makes the output size in * stride, to which output_padding ${extra} on axis ${i}`;
        why.push(`${made} adds nothing; use output_size, or padding in numbers`);
      }
      found.out.push(size * s);
      found.equations.push(`in * stride = ${size} * ${s} = ${size * s}`);
      return;
    }
    const extra = p.outputPadding?.[i] ?? 0, limit = Math.max(s, p.dilation[i]);
    const out = (size - 1) * s - lo - hi + e + extra, sum = `(${size} - 1) * ${s} - ${lo} - ${hi} + ${e} + ${extra} = ${out}`;
    found.out.push(out);
    found.equations.push(sum);
    if (extra >= limit) {
      const most = `max(stride, dilation) = max(${s}, ${p.dilation[i]}) = ${limit}`;
      why.push(`output_padding ${extra} on axis ${i} must be less than ${most}; use 0 to ${limit - 1}`);
    } else if (out < 1) {
      const rule = "output size (in - 1) stride - lo - hi + effective kernel + output_padding";
      why.push(`${rule} = ${sum} on axis ${i} is not in 1..2^63-1; change padding, stride or dilation`);
    }
  });
}

function poolSizes(p, found) {
  const why = found.reasons, spatial = p.x.shape.slice(1), kernel = p.kernel;
  found.effective = kernel.map((k, i) => effectiveKernel(k, p.dilation[i]));
  found.pads = resolvePads(p, spatial, found.effective);
  spatial.forEach((size, i) => {
    const [lo, hi] = found.pads[i], e = found.effective[i], k = kernel[i], d = p.dilation[i], s = p.stride[i];
    if (Math.max(lo, hi) >= e && lo + hi !== 0) {
      const need = `needs padding < effective kernel ${e} (kernel ${k}, dilation ${d})`;
      const what = `padding (${lo}, ${hi}) on axis ${i} would leave a window wholly in the padding`;
      why.push(`${what}: ${need}; pad the input first if that is meant`);
    }
    checkFit(i, size, k, d, found.pads[i], "", why);
    const out = poolCount(size, lo, hi, e, s, p.ceilMode), whole = `${sumText(size, lo, hi)} - ${d} * (${k} - 1) - 1`;
    const rounded = Math.ceil((size + lo + hi - e) / s) + 1;
    const dropped = p.ceilMode && out < rounded ? `, less 1 that would start in the padding = ${out}` : "";
    found.out.push(out);
    found.equations.push(
      p.ceilMode ? `ceil((${whole}) / ${s}) + 1 = ${rounded}${dropped}` : `(${whole}) // ${s} + 1 = ${out}`,
    );
  });
  if (p.operator === "max_pool" && !why.length) spatial.forEach((size, i) => checkWindows(p, found, size, i));
}

/** A maximum over nothing has no value: refuse the first window of an axis that reads no input. */
function checkWindows(p, found, size, i) {
  const [lo, hi] = found.pads[i], d = p.dilation[i], k = p.kernel[i], end = size + Math.min(0, hi);
  for (let o = 0; o < found.out[i]; o++) {
    const start = o * p.stride[i] - lo, first = start + Math.max(0, Math.ceil(-start / d)) * d;
    if (first < Math.min(end, start + found.effective[i])) continue;
    const taps = `its taps stand at ${start} + ${d} t for t < ${k}, the inputs at 0 <= position < ${end}`;
    found.reasons.push(`window ${o} on axis ${i} reads no input: ${taps}; use less padding or dilation`);
    return;
  }
}
