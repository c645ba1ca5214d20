import { count, numbers, tensor, unravel } from "./tensors.js";
import { linksOf, placed } from "./products.js";
import { countTo, many, matrixOf, once, planeMatrix, running, settingOf } from "./setting.js";
import { fourier } from "./fourier.js";
import { winograd } from "./winograd.js";

/**
 * A transposed convolution, step by step: the ways of a convolution read backwards.
 *
 * Where a convolution gathers a window into an output, its transpose stamps the kernel, times an input, onto the outputs.
 */

/**
 * @param {import("./shapes.js").Problem} p valid
 * @param {import("./shapes.js").Sizes} size
 */
export function transposedWays(p, size) {
  const s = stampingOf(p, size);
  const stride = `(${p.stride.join(", ")}${p.stride.length === 1 ? "," : ""})`;
  const instead = `npconv cuts the output into ${count(p.stride)} convolutions of stride 1, one per residue`;
  const phases = p.stride.some((n) => n !== 1) ? `needs stride 1, the stride is ${stride}; ${instead}` : null;
  return {
    loops: loopsBack(s),
    direct: directBack(s),
    gemm: gemmBack(s),
    fft: phases ?? fourier(settingOf(p, size)),
    winograd: phases ?? winograd(settingOf(p, size)),
  };
}

/** The triples (input a, tap t, output b) of the problem, and its arrays. */
function stampingOf(p, size) {
  const links = linksOf(p, size), K = count(p.w.shape.slice(2));
  return {
    p, links, K, C: links.A, O: links.B, perOut: links.perB, perIn: links.perA, spatial: p.x.shape.slice(1), out: size.out,
    inputs: count(p.x.shape.slice(1)), N: count(size.out), x: numbers(p.x.data), w: numbers(p.w.data),
    bias: p.bias ? numbers(p.bias.data) : null, kernel: p.w.shape.slice(2), shape: [links.B, ...size.out],
  };
}

const firstOutput = (s, c) => Math.floor(c / s.perIn) * s.perOut;
/** Where the weight of tap t stands in its plane: the other way round for a flipped kernel. */
const tapPlace = (s, t) => (s.p.flip ? s.K - 1 - t : t);
const weightOf = (s, c, j, t) => s.w[(c * s.perOut + j) * s.K + tapPlace(s, t)];
const weightAt = (s, c, j, t) => [c, j, ...unravel(s.kernel, tapPlace(s, t))];
const inputAt = (s, c, a) => [c, ...unravel(s.spatial, a)];
const outputAt = (s, o, b) => [o, ...unravel(s.out, b)];
const asPlane = (sizes) => (sizes.length === 1 ? [1, ...sizes] : sizes);
const products = (s) => s.C * s.inputs * s.perOut * s.K;

function plusBias(s, sums) {
  const y = tensor(s.shape, Float64Array.from(sums));
  if (s.bias) for (let i = 0; i < y.data.length; i++) y.data[i] += s.bias[Math.floor(i / s.N)];
  return y;
}

const biasBack = (s, sums) => ({
  text: "Add the bias: one number per output channel.",
  reads: { x: [], w: [] },
  writes: countTo(s.O).flatMap((o) => countTo(s.N).map((b) => outputAt(s, o, b))),
  note: "",
  matrices: [matrixOf("bias", [s.O, 1], (o) => s.bias[o])],
  y: plusBias(s, sums),
});

// ------------------------------------------------------------------ loops
function loopsBack(s) {
  const steps = s.C * s.inputs, after = running(s.O * s.N, (sums, i) => stamp(s, sums, Math.floor(i / s.inputs), i % s.inputs));
  return {
    multiplications: [[`${many(steps, "input")} x ${s.perOut * s.K} products`, products(s)]],
    bytes: [],
    workspace: 0,
    steps: steps + (s.bias ? 1 : 0),
    step: (i) => (i < steps ? stampStep(s, after, i) : biasBack(s, after(steps))),
    compute: () => plusBias(s, after(steps)),
  };
}

/** The (tap, output) pairs of input a that are not cut off. */
function stamped(s, a) {
  return countTo(s.K).map((t) => ({ t, b: placed(s.links, a, t).b })).filter(({ b }) => b >= 0);
}

function stamp(s, sums, c, a) {
  for (const { t, b } of stamped(s, a)) {
    for (let j = 0; j < s.perOut; j++) sums[(firstOutput(s, c) + j) * s.N + b] += s.x[c * s.inputs + a] * weightOf(s, c, j, t);
  }
}

function stampStep(s, after, i) {
  const c = Math.floor(i / s.inputs), a = i % s.inputs, value = s.x[i], hit = stamped(s, a), outs = countTo(s.perOut);
  const overlap = hit.length < s.K ? "Padding cuts off what lies outside." : "Stamps that overlap add up.";
  const first = firstOutput(s, c), plane = asPlane(s.kernel), y = after(i + 1), index = inputAt(s, c, a);
  const weight = (r, column) => weightOf(s, c, 0, r * plane[1] + column), into = s.O === 1 ? "" : `, output channel ${first}`;
  const marks = hit.map(({ b }) => [Math.floor(b / asPlane(s.out)[1]), b % asPlane(s.out)[1]]);
  return {
    text: `Input [${index.join(", ")}]: the kernel times this number is stamped onto the output and added.`,
    reads: { x: [index], w: outs.flatMap((j) => hit.map(({ t }) => weightAt(s, c, j, t))) },
    writes: outs.flatMap((j) => hit.map(({ b }) => outputAt(s, first + j, b))),
    note: `${i + 1} of ${many(s.C * s.inputs, "input")}. ${overlap}`,
    matrices: [
      matrixOf("input", [1, 1], () => value),
      matrixOf(`kernel${into}`, plane, weight),
      matrixOf(`stamp${into}`, plane, (r, column) => value * weight(r, column)),
      planeMatrix(`sum so far${into}`, asPlane(s.out), y, first * s.N, marks),
    ],
    y: { shape: s.shape, data: y.slice() },
  };
}

// ------------------------------------------------------------------ one tap at a time
function directBack(s) {
  const after = running(s.O * s.N, (sums, t) => addTapBack(s, sums, t));
  return {
    multiplications: [[`${many(s.K, "tap")} x ${s.C * s.inputs} inputs x ${many(s.perOut, "output channel")}`, products(s)]],
    bytes: [
      [`${many(s.K, "product")} with all of x, written and read`, 16 * s.K * s.O * s.inputs],
      ["sums read and written", 16 * s.K * s.O * s.inputs],
    ],
    workspace: 8 * s.O * s.inputs,
    steps: s.K + (s.bias ? 1 : 0),
    step: (i) => (i < s.K ? directBackStep(s, after, i) : biasBack(s, after(s.K))),
    compute: () => plusBias(s, after(s.K)),
  };
}

function addTapBack(s, sums, t) {
  for (let a = 0; a < s.inputs; a++) {
    const { b } = placed(s.links, a, t);
    if (b < 0) continue;
    for (let c = 0; c < s.C; c++) {
      for (let j = 0; j < s.perOut; j++) sums[(firstOutput(s, c) + j) * s.N + b] += s.x[c * s.inputs + a] * weightOf(s, c, j, t);
    }
  }
}

function directBackStep(s, after, t) {
  const places = countTo(s.inputs).map((a) => ({ a, b: placed(s.links, a, t).b })).filter(({ b }) => b >= 0);
  const tap = unravel(s.kernel, t), y = after(t + 1), weight = weightOf(s, 0, 0, t);
  const spatial = asPlane(s.spatial), out = asPlane(s.out);
  const named = s.C === 1 ? "" : ", channel 0", into = s.O === 1 ? "" : ", output channel 0";
  return {
    text: `Tap [${tap.join(", ")}]: all of x, times its weight, is added to the slice of the output where the tap lands.`,
    reads: {
      x: countTo(s.C).flatMap((c) => places.map(({ a }) => inputAt(s, c, a))),
      w: countTo(s.C).flatMap((c) => countTo(s.perOut).map((j) => weightAt(s, c, j, t))),
    },
    writes: countTo(s.O).flatMap((o) => places.map(({ b }) => outputAt(s, o, b))),
    note: `${t + 1} of ${many(s.K, "tap")}. The slice's step is the stride.`,
    matrices: [
      planeMatrix(`x${named}`, spatial, s.x),
      matrixOf("weight", [1, 1], () => weight),
      matrixOf(`x times weight${named}`, spatial, (r, c) => weight * s.x[r * spatial[1] + c]),
      planeMatrix(`sum so far${into}`, out, y, 0, places.map(({ b }) => [Math.floor(b / out[1]), b % out[1]])),
    ],
    y: { shape: s.shape, data: y.slice() },
  };
}

// ------------------------------------------------------------------ a matrix product, then folding
function gemmBack(s) {
  const rows = s.O * s.K, matrix = once(() => weighted(s)), after = running(s.O * s.N, (sums, o) => fold(s, matrix(), sums, o));
  return {
    multiplications: [
      [`(${rows} x ${s.perIn}) @ (${s.perIn} x ${s.inputs})${s.O === s.perOut ? "" : " in groups"}`, products(s)],
    ],
    bytes: [[`${rows} x ${s.inputs} products, written and read`, 16 * rows * s.inputs]],
    workspace: 8 * rows * s.inputs,
    steps: rows + s.O + (s.bias ? 1 : 0),
    step: (i) => {
      if (i < rows) return weightedStep(s, matrix(), i);
      return i < rows + s.O ? foldStep(s, matrix(), after, i - rows) : biasBack(s, after(s.O));
    },
    compute: () => plusBias(s, after(s.O)),
  };
}

/** Row (o, t): what every input sends through tap t to output channel o, summed over the input channels. */
function weighted(s) {
  const matrix = new Float64Array(s.O * s.K * s.inputs);
  for (let c = 0; c < s.C; c++) {
    for (let j = 0; j < s.perOut; j++) {
      for (let t = 0; t < s.K; t++) {
        const row = ((firstOutput(s, c) + j) * s.K + t) * s.inputs, weight = weightOf(s, c, j, t);
        for (let a = 0; a < s.inputs; a++) matrix[row + a] += weight * s.x[c * s.inputs + a];
      }
    }
  }
  return matrix;
}

function weightedStep(s, matrix, row) {
  const o = Math.floor(row / s.K), t = row % s.K, first = Math.floor(o / s.perOut) * s.perIn, channels = countTo(s.perIn);
  const filled = (r, a) => (r <= t ? matrix[(o * s.K + r) * s.inputs + a] : 0);
  return {
    text: `Row ${row}: the weights of tap [${unravel(s.kernel, t).join(", ")}] to output channel ${o}, times all inputs.`,
    reads: {
      x: channels.flatMap((i) => countTo(s.inputs).map((a) => inputAt(s, first + i, a))),
      w: channels.map((i) => weightAt(s, first + i, o % s.perOut, t)),
    },
    writes: [],
    note: `${row + 1} of ${many(s.O * s.K, "row")} of one matrix product.`,
    matrices: [
      matrixOf("weights", [1, s.perIn], (_, i) => weightOf(s, first + i, o % s.perOut, t)),
      planeMatrix("x, a channel a row", [s.perIn, s.inputs], s.x, first * s.inputs),
      matrixOf(`products for output channel ${o}`, [s.K, s.inputs], filled, [[t, null]]),
    ],
    y: { shape: s.shape, data: new Float64Array(s.O * s.N) },
  };
}

function fold(s, matrix, sums, o) {
  for (let t = 0; t < s.K; t++) {
    for (let a = 0; a < s.inputs; a++) {
      const { b } = placed(s.links, a, t);
      if (b >= 0) sums[o * s.N + b] += matrix[(o * s.K + t) * s.inputs + a];
    }
  }
}

function foldStep(s, matrix, after, o) {
  const y = after(o + 1);
  return {
    text: `Fold: every row of output channel ${o} is added to the slice of the output where its tap lands.`,
    reads: { x: [], w: [] },
    writes: countTo(s.N).map((b) => outputAt(s, o, b)),
    note: "The reverse of gathering windows (col2im): what one input was copied for, many outputs now add up.",
    matrices: [
      planeMatrix(`products for output channel ${o}`, [s.K, s.inputs], matrix, o * s.K * s.inputs),
      planeMatrix(`output channel ${o}`, asPlane(s.out), y, o * s.N),
    ],
    y: { shape: s.shape, data: y.slice() },
  };
}
