import { count, numbers, tensor, unravel } from "./tensors.js";
import { kernelOf, outChannels } from "./shapes.js";
import { copiedPosition } from "./products.js";

/**
 * What the algorithms share: the padded input, the weights in order, and how a step is shown.
 *
 * One spatial axis is computed as two, the first of size 1. A transposed convolution of stride 1 is set up as the
 * convolution it is: of x, padded further, with the flipped kernel.
 *
 * @typedef {{title: string, rows: number[][], highlight: number[][], of: number[]}} Matrix `of`: its whole size, of which
 *   rows and columns may be shown in part
 * @typedef {{text: string, reads: {x: number[][], w: number[][]}, writes: number[][], note: string, matrices: Matrix[],
 *   y: import("./tensors.js").Tensor}} Step `y`: the output after this step
 */

/** Rows and columns of a matrix that are shown at most. */
const MOST_SHOWN = 64;
/** Channels whose matrices are shown at most. */
export const MOST_CHANNELS = 4;

/**
 * @typedef {{C: number, O: number, perIn: number, perOut: number, K: number, N: number, kernel: number[], stride: number[],
 *   dilation: number[], out: number[], size: number[], source: Int32Array[], padded: Float64Array, weights: Float64Array,
 *   bias: Float64Array|null, copied: number, rank: number, problem: import("./shapes.js").Problem, outShape: number[]}} Setting
 */
/**
 * @param {import("./shapes.js").Problem} p valid
 * @param {import("./shapes.js").Sizes} size
 * @returns {Setting}
 */
export function settingOf(p, size) {
  const transposed = p.operator === "conv_transpose", kernel = kernelOf(p), spatial = p.x.shape.slice(1), rank = kernel.length;
  const lows = size.pads.map(([lo], i) => (transposed ? size.effective[i] - 1 - lo : lo));
  const sizes = spatial.map((n, i) => (transposed ? size.out[i] + size.effective[i] - 1 : n + lows[i] + size.pads[i][1]));
  const mode = transposed ? "zeros" : p.paddingMode;
  const source = sizes.map((n, i) => Int32Array.from({ length: n }, (_, at) => copiedPosition(at - lows[i], spatial[i], mode)));
  const C = p.x.shape[0], O = outChannels(p);
  const padsNothing = sizes.every((n, i) => n === spatial[i] && lows[i] === 0);
  const two = (values, fill) => (rank === 1 ? [fill, ...values] : [...values]);
  const bare = {
    C, O, perIn: C / p.groups, perOut: O / p.groups, K: count(kernel), N: count(size.out), rank, problem: p,
    kernel: two(kernel, 1), stride: transposed ? [1, 1] : two(p.stride, 1), dilation: two(p.dilation, 1),
    out: two(size.out, 1), size: two(sizes, 1), source: rank === 1 ? [Int32Array.of(0), ...source] : source,
    bias: p.bias ? numbers(p.bias.data) : null, outShape: [O, ...size.out],
    copied: padsNothing ? 0 : C * count(sizes),
  };
  const padded = paddedOf(bare, numbers(p.x.data), spatial, mode === "constant" ? p.paddingValue : 0);
  return { ...bare, padded, weights: weightsOf(bare, numbers(p.w.data), transposed) };
}

function paddedOf({ C, size, source }, x, spatial, fill) {
  const padded = new Float64Array(C * size[0] * size[1]).fill(fill), plane = count(spatial), width = spatial.at(-1);
  let at = 0;
  for (let c = 0; c < C; c++) {
    for (const row of source[0]) {
      for (const column of source[1]) {
        if (row >= 0 && column >= 0) padded[at] = x[c * plane + row * width + column];
        at++;
      }
    }
  }
  return padded;
}

/** The weights as every algorithm reads them, [O, C/G, taps]: flipped where the problem says so or is a transposed one. */
function weightsOf(s, w, transposed) {
  const weights = new Float64Array(s.O * s.perIn * s.K);
  for (let o = 0; o < s.O; o++) {
    for (let j = 0; j < s.perIn; j++) {
      for (let t = 0; t < s.K; t++) weights[(o * s.perIn + j) * s.K + t] = w[weightPlace(s, o, j, t, transposed)];
    }
  }
  return weights;
}

/** Where tap t from input j of its group to output channel o stands in the problem's w. */
function weightPlace(s, o, j, t, transposed) {
  const turned = s.problem.flip !== transposed ? s.K - 1 - t : t;
  if (!transposed) return (o * s.perIn + j) * s.K + turned;
  const first = Math.floor(o / s.perOut) * s.perIn + j;
  return (first * s.perOut + (o % s.perOut)) * s.K + turned;
}

/**
 * The index in w of that weight.
 * @param {Setting} s
 * @param {number} o
 * @param {number} j
 * @param {number} t
 * @returns {number[]}
 */
export function weightIndex(s, o, j, t) {
  return unravel(s.problem.w.shape, weightPlace(s, o, j, t, s.problem.operator === "conv_transpose"));
}

/**
 * The first input channel of output channel o's group.
 * @type {(s: Setting, o: number) => number}
 */
export const firstInput = (s, o) => Math.floor(o / s.perOut) * s.perIn;

/**
 * The place in a padded plane that tap t meets at output position p.
 * @param {Setting} s
 * @param {number} p
 * @param {number} t
 * @returns {number}
 */
export function meeting(s, p, t) {
  const row = Math.floor(p / s.out[1]) * s.stride[0] + Math.floor(t / s.kernel[1]) * s.dilation[0];
  const column = (p % s.out[1]) * s.stride[1] + (t % s.kernel[1]) * s.dilation[1];
  return row * s.size[1] + column;
}

/**
 * The row and column of a place in a plane of these sizes.
 * @type {(place: number, sizes: number[]) => number[]}
 */
export const cellOfPlace = (place, [, columns]) => [Math.floor(place / columns), place % columns];

/**
 * The number at a place of padded channel c.
 * @type {(s: Setting, c: number, place: number) => number}
 */
export const paddedAt = (s, c, place) => s.padded[c * s.size[0] * s.size[1] + place];

/**
 * The cells of x behind places of padded channel c, each once; padding with a value of its own has none.
 * @param {Setting} s
 * @param {number} c
 * @param {number[]} places
 * @returns {number[][]}
 */
export function sourceCells(s, c, places) {
  const found = new Map();
  for (const place of places) {
    const row = s.source[0][Math.floor(place / s.size[1])], column = s.source[1][place % s.size[1]];
    if (row < 0 || column < 0) continue;
    const cell = s.rank === 1 ? [c, column] : [c, row, column];
    found.set(String(cell), cell);
  }
  return [...found.values()];
}

/**
 * The indices of all outputs of channel o, or of some of its positions.
 * @param {Setting} s
 * @param {number} o
 * @param {number[]} [positions]
 * @returns {number[][]}
 */
export function outputCells(s, o, positions = Array.from({ length: s.N }, (_, p) => p)) {
  return positions.map((p) => [o, ...unravel(s.outShape.slice(1), p)]);
}

/** @type {(n: number) => number[]} */
export const countTo = (n) => Array.from({ length: n }, (_, i) => i);

/**
 * Sums of channel pairs plus the bias, as the output.
 * @param {Setting} s
 * @param {Float64Array} sums
 * @returns {import("./tensors.js").Tensor}
 */
export function finished(s, sums) {
  const y = tensor(s.outShape, Float64Array.from(sums));
  if (s.bias) for (let i = 0; i < y.data.length; i++) y.data[i] += s.bias[Math.floor(i / s.N)];
  return y;
}

/**
 * The last step of algorithms that add up whole planes: the bias.
 * @param {Setting} s
 * @param {Float64Array} sums
 * @returns {Step}
 */
export function biasStep(s, sums) {
  return {
    text: "Add the bias: one number per output channel.",
    reads: { x: [], w: [] },
    writes: countTo(s.O).flatMap((o) => outputCells(s, o)),
    note: "",
    matrices: [matrixOf("bias", [s.O, 1], (o) => s.bias[o])],
    y: finished(s, sums),
  };
}

/**
 * A matrix to show. Where it is too large, the part around the first highlighted cell.
 * @param {string} title
 * @param {number[]} of rows and columns
 * @param {(row: number, column: number) => number} at
 * @param {number[][]} [highlight] cells to mark; [row, null] a whole row, [null, column] a whole column
 * @returns {Matrix}
 */
export function matrixOf(title, of, at, highlight = []) {
  const shown = of.map((n) => Math.min(n, MOST_SHOWN));
  const first = of.map((n, axis) => Math.max(0, Math.min(n - shown[axis], (highlight[0]?.[axis] ?? 0) - (shown[axis] >> 1))));
  const rows = countTo(shown[0]).map((r) => countTo(shown[1]).map((c) => at(first[0] + r, first[1] + c)));
  const marked = highlight.flatMap(([r, c]) => {
    const rs = r === null ? countTo(shown[0]) : [r - first[0]], cs = c === null ? countTo(shown[1]) : [c - first[1]];
    return rs.flatMap((row) => cs.map((column) => [row, column]));
  });
  return { title, rows, highlight: marked.filter(([r, c]) => r >= 0 && c >= 0 && r < shown[0] && c < shown[1]), of };
}

/**
 * A plane of an array as a matrix: rows x columns numbers from `start`.
 * @param {string} title
 * @param {number[]} of
 * @param {ArrayLike<number>} data
 * @param {number} [start]
 * @param {(number|null)[][]} [highlight]
 * @returns {Matrix}
 */
export function planeMatrix(title, of, data, start = 0, highlight = []) {
  return matrixOf(title, of, (r, c) => data[start + r * of[1] + c], highlight);
}

/**
 * The bytes of the padded copy of x, if there is one.
 * @type {(s: Setting) => [string, number][]}
 */
export const paddedBytes = (s) => (s.copied ? [["padded input written", 8 * s.copied]] : []);

/**
 * A value that is made when it is first asked for.
 * @template Value
 * @param {() => Value} make
 * @returns {() => Value}
 */
export function once(make) {
  let value = null;
  return () => (value ??= make());
}

/**
 * Sums that grow step by step: `after(n)` is what steps 0 to n - 1 added; going back begins anew.
 * @param {number} length
 * @param {(sums: Float64Array, step: number) => void} add
 * @returns {(n: number) => Float64Array}
 */
export function running(length, add) {
  let sums = new Float64Array(length), done = 0;
  return (n) => {
    if (n < done) [sums, done] = [new Float64Array(length), 0];
    for (; done < n; done++) add(sums, done);
    return sums;
  };
}

/**
 * "1 product", "9 products".
 * @type {(n: number, word: string) => string}
 */
export const many = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
