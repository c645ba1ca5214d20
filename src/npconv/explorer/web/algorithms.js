import { unravel } from "./tensors.js";
import { isPool, sizes } from "./shapes.js";
import { forward } from "./arithmetic.js";
import { MOST_CHANNELS, biasStep, cellOfPlace, countTo, finished, firstInput, many, matrixOf, meeting, once } from "./setting.js";
import { outputCells, paddedAt, paddedBytes, planeMatrix, running, settingOf, sourceCells, weightIndex } from "./setting.js";
import { transposedWays } from "./adjoints.js";
import { poolWays } from "./poolways.js";
import { fourier } from "./fourier.js";
import { winograd } from "./winograd.js";

/**
 * One problem, computed in the ways that npconv has, step by step.
 *
 * What is counted. Multiplications: of numbers by numbers; products with padding count, as the loops do them; a complex
 * multiplication is four. Bytes: what is written to and read from arrays made on the way, 8 bytes a number, 16 a complex
 * one; every array is written once and read once by each stage that needs it. x, w and y themselves do not count.
 *
 * @typedef {import("./setting.js").Step} Step
 * @typedef {{name: string, title: string, whyNot: string|null, multiplications: number, multiplicationsText: string,
 *   bytes: number, bytesText: string, workspace: number, steps: number, step: (i: number) => Step,
 *   result: import("./tensors.js").Tensor|null}} Way `workspace`: bytes of the arrays held at once
 */

const TITLES = {
  loops: "Loops: one output after the other",
  direct: "Direct: one tap at a time, over the whole output",
  gemm: "im2col: windows as a matrix, one matrix product",
  fft: "Fourier: a product of spectra",
  winograd: "Winograd: tiles with fewer multiplications",
};
const OTHER_TITLES = {
  conv_transpose: {
    loops: "Loops: one input after the other, stamped onto the output",
    gemm: "col2im: one matrix product, folded into the output",
  },
  max_pool: { loops: "Loops: one window after the other" },
  avg_pool: { loops: "Loops: one window after the other" },
};

/** A way that cannot run. */
const refused = (name, title, whyNot) => ({
  name, title, whyNot, multiplications: 0, multiplicationsText: "", bytes: 0, bytesText: "", workspace: 0,
  steps: 0, step: () => null, result: null,
});

/**
 * @param {import("./shapes.js").Problem} p a problem whose sizes are valid
 * @returns {Way[]} loops, direct, gemm, fft and winograd, those that cannot run with the reason
 */
export function algorithms(p) {
  const size = sizes(p);
  if (!size.valid) throw new Error(size.reasons[0]);
  const ways = isPool(p) ? poolWays(p, size) : p.operator === "conv" ? convWays(p, size) : transposedWays(p, size);
  return Object.entries(TITLES).map(([name, title]) => {
    const way = ways[name], own = OTHER_TITLES[p.operator]?.[name] ?? title;
    return typeof way === "string" ? refused(name, own, way) : described(name, own, way);
  });
}

/** Counts with their sums, and a result that is computed when it is asked for. */
function described(name, title, way) {
  const { multiplications, bytes, workspace, steps, step, compute } = way;
  let result = null;
  return {
    name,
    title,
    whyNot: null,
    multiplications: multiplications.reduce((sum, [, n]) => sum + n, 0),
    multiplicationsText: multiplications.map(([what, n]) => `${what}: ${n}`).join("; "),
    bytes: bytes.reduce((sum, [, n]) => sum + n, 0),
    bytesText: bytes.map(([what, n]) => `${what}: ${n}`).join("; "),
    workspace, steps, step,
    get result() {
      result ??= compute();
      return result;
    },
  };
}

function convWays(p, size) {
  const s = settingOf(p, size);
  return { loops: loops(s), direct: direct(s), gemm: gemm(s), fft: fourier(s), winograd: winograd(s) };
}

// ------------------------------------------------------------------ loops
function loops(s) {
  const products = s.O * s.N * s.perIn * s.K, y = once(() => forward(s.problem));
  return {
    multiplications: [[`${s.O * s.N} outputs x ${s.perIn * s.K} products`, products]],
    bytes: s.copied ? [...paddedBytes(s), ["read again for every product", 8 * products]] : [],
    workspace: 8 * s.copied,
    steps: s.O * s.N,
    step: (i) => loopStep(s, y(), i),
    compute: y,
  };
}

function loopStep(s, y, i) {
  const o = Math.floor(i / s.N), p = i % s.N, first = firstInput(s, o), places = countTo(s.K).map((t) => meeting(s, p, t));
  const products = many(s.perIn * s.K, "product");
  const [index] = outputCells(s, o, [p]), done = y.data.slice().fill(0, i + 1), matrices = [];
  for (let j = 0; j < Math.min(s.perIn, MOST_CHANNELS); j++) {
    const channel = s.perIn === 1 ? "" : ` of channel ${first + j}`;
    const value = (r, c) => paddedAt(s, first + j, places[r * s.kernel[1] + c]);
    const weight = (r, c) => s.weights[(o * s.perIn + j) * s.K + r * s.kernel[1] + c];
    matrices.push(matrixOf(`window${channel}`, s.kernel, value), matrixOf(`kernel${channel}`, s.kernel, weight));
    matrices.push(matrixOf(`products${channel}`, s.kernel, (r, c) => value(r, c) * weight(r, c)));
  }
  return {
    text: `Output [${index.join(", ")}]: ${products}, added up one by one${s.bias ? ", then the bias" : ""}.`,
    reads: {
      x: countTo(s.perIn).flatMap((j) => sourceCells(s, first + j, places)),
      w: countTo(s.perIn).flatMap((j) => countTo(s.K).map((t) => weightIndex(s, o, j, t))),
    },
    writes: [index],
    note: `${i + 1} of ${s.O * s.N} outputs. The definition itself; every other algorithm must agree with it.`,
    matrices,
    y: { shape: y.shape, data: done },
  };
}

// ------------------------------------------------------------------ a sum of shifted slices
function direct(s) {
  const products = s.O * s.N * s.perIn * s.K, after = running(s.O * s.N, (sums, t) => addTap(s, sums, t));
  return {
    multiplications: [[`${many(s.K, "tap")} x ${s.O * s.N} outputs x ${many(s.perIn, "input channel")}`, products]],
    bytes: [
      ...paddedBytes(s),
      [`${many(s.K, "slice")} copied and read`, 8 * s.K * 3 * s.C * s.N],
      ["sums read and written", 8 * s.K * 2 * s.O * s.N],
    ],
    workspace: 8 * (s.copied + s.C * s.N),
    steps: s.K + (s.bias ? 1 : 0),
    step: (i) => (i < s.K ? directStep(s, after, i) : biasStep(s, after(s.K))),
    compute: () => finished(s, after(s.K)),
  };
}

function addTap(s, sums, t) {
  const places = countTo(s.N).map((p) => meeting(s, p, t));
  for (let o = 0; o < s.O; o++) {
    for (let j = 0; j < s.perIn; j++) {
      const weight = s.weights[(o * s.perIn + j) * s.K + t], c = firstInput(s, o) + j;
      for (let p = 0; p < s.N; p++) sums[o * s.N + p] += weight * paddedAt(s, c, places[p]);
    }
  }
}

function directStep(s, after, t) {
  const places = countTo(s.N).map((p) => meeting(s, p, t)), tap = unravel(s.kernel.slice(2 - s.rank), t), y = after(t + 1);
  const slice = (r, c) => paddedAt(s, 0, places[r * s.out[1] + c]);
  const padded = (r, c) => paddedAt(s, 0, r * s.size[1] + c), w = s.weights[t];
  const met = places.map((place) => cellOfPlace(place, s.size));
  const named = s.C === 1 ? "" : ", channel 0", into = s.O === 1 ? "" : ", output channel 0";
  return {
    text: `Tap [${tap.join(", ")}]: the slice of x that this tap meets, times its weight, is added to the whole output.`,
    reads: {
      x: countTo(s.C).flatMap((c) => sourceCells(s, c, places)),
      w: countTo(s.O).flatMap((o) => countTo(s.perIn).map((j) => weightIndex(s, o, j, t))),
    },
    writes: countTo(s.O).flatMap((o) => outputCells(s, o)),
    note: `${t + 1} of ${many(s.K, "tap")}. The loop nest turned inside out: long runs of memory, and no copy of the windows.`,
    matrices: [
      matrixOf(`padded input${named}: the slice`, s.size, padded, met),
      matrixOf(`slice${named}`, s.out, slice),
      matrixOf("weight", [1, 1], () => w),
      matrixOf("slice times weight", s.out, (r, c) => slice(r, c) * w),
      planeMatrix(`sum so far${into}`, s.out, y),
    ],
    y: { shape: s.outShape, data: y.slice() },
  };
}

// ------------------------------------------------------------------ windows as a matrix
function gemm(s) {
  const terms = s.perIn * s.K, products = s.O * s.N * terms, rows = s.C * s.K;
  const columns = once(() => gathered(s)), sums = once(() => multiplied(s, columns()));
  return {
    multiplications: [[`(${s.O} x ${terms}) @ (${terms} x ${s.N})${s.O === s.perOut ? "" : " in groups"}`, products]],
    bytes: [
      ...paddedBytes(s),
      [`${rows} x ${s.N} windows gathered: read and written`, 16 * rows * s.N],
      ["and read by the product", 8 * rows * s.N],
    ],
    workspace: 8 * (s.copied + rows * s.N),
    steps: rows + s.O + (s.bias ? 1 : 0),
    step: (i) => {
      if (i < rows) return gatherStep(s, columns(), i);
      return i < rows + s.O ? productStep(s, columns(), sums(), i - rows) : biasStep(s, sums());
    },
    compute: () => finished(s, sums()),
  };
}

/** The window matrix [C taps, N]: column p holds what output p reads. */
function gathered(s) {
  const columns = new Float64Array(s.C * s.K * s.N);
  for (let row = 0; row < s.C * s.K; row++) {
    const c = Math.floor(row / s.K);
    for (let p = 0; p < s.N; p++) columns[row * s.N + p] = paddedAt(s, c, meeting(s, p, row % s.K));
  }
  return columns;
}

function multiplied(s, columns) {
  const sums = new Float64Array(s.O * s.N), terms = s.perIn * s.K;
  for (let o = 0; o < s.O; o++) {
    const first = firstInput(s, o) * s.K;
    for (let i = 0; i < terms; i++) {
      const weight = s.weights[o * terms + i];
      for (let p = 0; p < s.N; p++) sums[o * s.N + p] += weight * columns[(first + i) * s.N + p];
    }
  }
  return sums;
}

/** The rows of the window matrix that belong to the group of channel c, with their first row. */
function groupRows(s, c) {
  return [Math.floor(c / s.perIn) * s.perIn * s.K, s.perIn * s.K];
}

const groupName = (s, c) => (s.perIn === s.C ? "" : ` of group ${Math.floor(c / s.perIn)}`);

function gatherStep(s, columns, row) {
  const c = Math.floor(row / s.K), t = row % s.K, tap = unravel(s.kernel.slice(2 - s.rank), t), [first, rows] = groupRows(s, c);
  const places = countTo(s.N).map((p) => meeting(s, p, t)), plane = c * s.size[0] * s.size[1];
  const filled = (r, p) => (first + r <= row ? columns[(first + r) * s.N + p] : 0);
  return {
    text: `Row ${row}: what tap [${tap.join(", ")}] meets in channel ${c}, at every output, written out in a row.`,
    reads: { x: sourceCells(s, c, places), w: [] },
    writes: [],
    note: `${row + 1} of ${many(s.C * s.K, "row")}. Column p is the window of output p; inputs are copied once per tap.`,
    matrices: [
      planeMatrix(`padded channel ${c}`, s.size, s.padded, plane, places.map((at) => cellOfPlace(at, s.size))),
      matrixOf(`window matrix${groupName(s, c)}`, [rows, s.N], filled, [[row - first, null]]),
    ],
    y: { shape: s.outShape, data: new Float64Array(s.O * s.N) },
  };
}

function productStep(s, columns, sums, o) {
  const c = firstInput(s, o), [first, terms] = groupRows(s, c);
  const weight = (r, i) => s.weights[(Math.floor(o / s.perOut) * s.perOut + r) * terms + i], row = o % s.perOut;
  const done = sums.slice().fill(0, (o + 1) * s.N);
  const places = countTo(s.N).flatMap((p) => countTo(s.K).map((t) => meeting(s, p, t)));
  return {
    text: `Row ${row} of the weights times the window matrix is output channel ${o}: all ${many(s.N, "position")} at once.`,
    reads: {
      x: countTo(s.perIn).flatMap((j) => sourceCells(s, c + j, places)),
      w: countTo(s.perIn).flatMap((j) => countTo(s.K).map((t) => weightIndex(s, o, j, t))),
    },
    writes: outputCells(s, o),
    note: "One large matrix product is what processors and their libraries are best at.",
    matrices: [
      matrixOf(`weights${groupName(s, c)}`, [s.perOut, terms], weight, [[row, null]]),
      planeMatrix(`window matrix${groupName(s, c)}`, [terms, s.N], columns, first * s.N),
      planeMatrix(`output channel ${o}`, s.out, sums, o * s.N),
    ],
    y: { shape: s.outShape, data: done },
  };
}
