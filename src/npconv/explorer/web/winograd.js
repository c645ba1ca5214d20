import {
  MOST_CHANNELS, biasStep, countTo, finished, firstInput, many, matrixOf, once, outputCells, paddedBytes, planeMatrix,
  sourceCells, weightIndex,
} from "./setting.js";
import { MOST_POINTS, winogradMatrices } from "./cooktoom.js";

/** Winograd's way, with tiles of two outputs along every axis that has more than one tap: F(2, k). */

const OUTPUTS = 2;
const tupleText = (values) => `(${values.join(", ")}${values.length === 1 ? "," : ""})`;

/** Why the tiles cannot be cut, in npconv's words, or null. */
function whyNot(s) {
  const own = (values) => tupleText(values.slice(2 - s.rank));
  if (s.K === 1) return "needs a kernel of at least 2 taps on some axis";
  if (s.stride.some((n) => n !== 1)) return `needs stride 1, the stride is ${own(s.stride)}`;
  if (s.dilation.some((d, i) => d !== 1 && s.kernel[i] > 1)) return `needs dilation 1, the dilation is ${own(s.dilation)}`;
  if (s.kernel.some((k) => k > 1 && OUTPUTS + k - 2 > MOST_POINTS)) {
    return `F(${OUTPUTS}, k) has points up to k = ${MOST_POINTS + 2 - OUTPUTS}, the kernel is ${own(s.kernel)}`;
  }
  return infinite(s);
}

/**
 * Transforms mix inputs into outputs that never read them, which only finite numbers survive.
 * @param {import("./setting.js").Setting} s
 * @returns {string|null}
 */
export function infinite(s) {
  const finite = [s.padded, s.weights].every((values) => values.every(Number.isFinite));
  const why = "needs finite numbers: it mixes inputs into outputs that never read them";
  return finite ? null : `${why} (npconv computes those again, by sums)`;
}

/** @param {import("./setting.js").Setting} s */
export function winograd(s) {
  const why = whyNot(s);
  if (why) return why;
  const t = tilingOf(s), kernels = once(() => transformedKernels(s, t)), made = new Map();
  const tiles = (i) => {
    if (!made.has(i)) made.set(i, tileOf(s, t, kernels(), i));
    return made.get(i);
  };
  const sums = once(() => assembled(s, t, tiles, t.tiles)), pairs = s.O * s.perIn, perTile = 1 + 2 * s.O, n = t.positions;
  const before = t.outputs[0] * t.outputs[1] * s.K, times = pairs > 1 ? ` x ${pairs} pairs of channels` : "";
  return {
    multiplications: [[
      `${many(t.tiles, "tile")} x ${n} instead of ${before}${times}; transforms not counted: additions and fixed factors`,
      t.tiles * n * pairs,
    ]],
    bytes: [
      ...paddedBytes(s),
      ["tiles and their transforms, written and read", 32 * s.C * t.tiles * n],
      ["transformed kernels, written and read", 16 * pairs * n],
      ["products, written and read", 16 * s.O * t.tiles * n],
    ],
    workspace: 8 * (s.copied + (2 * s.C + s.O) * t.tiles * n + pairs * n),
    steps: pairs + t.tiles * perTile + (s.bias ? 1 : 0),
    step: (i) => {
      if (i < pairs) return kernelStep(s, t, kernels(), i);
      const tile = Math.floor((i - pairs) / perTile), part = (i - pairs) % perTile;
      if (tile >= t.tiles) return biasStep(s, sums());
      if (part === 0) return dataStep(s, t, tiles, tile);
      const show = part % 2 ? elementStep : outputStep;
      return show(s, t, tiles, tile, (part - 1) >> 1, kernels());
    },
    compute: () => finished(s, sums()),
  };
}

/** How the output is cut, and the matrices of each axis; an axis of one tap needs none. */
function tilingOf(s) {
  const outputs = s.kernel.map((k) => (k > 1 ? OUTPUTS : 1)), inputs = s.kernel.map((k, i) => k + outputs[i] - 1);
  const matrices = s.kernel.map((k) => (k > 1 ? winogradMatrices(OUTPUTS, k) : { AT: [[1]], G: [[1]], BT: [[1]] }));
  const counts = s.out.map((n, i) => Math.ceil(n / outputs[i]));
  return { outputs, inputs, matrices, counts, tiles: counts[0] * counts[1], positions: inputs[0] * inputs[1] };
}

/** left @ array @ right^T; plain loops, because there are many tiles. */
function sandwich(left, array, right) {
  const columns = array[0].length, half = [], whole = [];
  for (const factors of left) {
    const row = new Array(columns).fill(0);
    for (let i = 0; i < factors.length; i++) for (let c = 0; c < columns; c++) row[c] += factors[i] * array[i][c];
    half.push(row);
  }
  for (const row of half) {
    const out = [];
    for (const factors of right) {
      let sum = 0;
      for (let c = 0; c < columns; c++) sum += factors[c] * row[c];
      out.push(sum);
    }
    whole.push(out);
  }
  return whole;
}

const transform = (t, name, array) => sandwich(t.matrices[0][name], array, t.matrices[1][name]);

function transformedKernels(s, t) {
  return countTo(s.O * s.perIn).map((pair) => {
    const g = countTo(s.kernel[0]).map((r) => countTo(s.kernel[1]).map((c) => s.weights[pair * s.K + r * s.kernel[1] + c]));
    return { g, U: transform(t, "G", g) };
  });
}

/** The places in a padded plane that a tile reads; -1 beyond its end, where it holds zeros. */
function tilePlaces(s, t, tile) {
  const top = Math.floor(tile / t.counts[1]) * t.outputs[0], left = (tile % t.counts[1]) * t.outputs[1];
  return countTo(t.inputs[0]).map((r) => countTo(t.inputs[1]).map((c) =>
    (top + r < s.size[0] && left + c < s.size[1] ? (top + r) * s.size[1] + left + c : -1)));
}

function tileOf(s, t, kernels, tile) {
  const places = tilePlaces(s, t, tile), plane = s.size[0] * s.size[1];
  const data = countTo(s.C).map((c) => {
    const d = places.map((row) => row.map((place) => (place < 0 ? 0 : s.padded[c * plane + place])));
    return { d, V: transform(t, "BT", d) };
  });
  const outs = countTo(s.O).map((o) => {
    const M = countTo(t.inputs[0]).map(() => new Array(t.inputs[1]).fill(0)), first = firstInput(s, o);
    for (let j = 0; j < s.perIn; j++) {
      const { U } = kernels[o * s.perIn + j], { V } = data[first + j];
      for (let r = 0; r < M.length; r++) for (let c = 0; c < M[r].length; c++) M[r][c] += U[r][c] * V[r][c];
    }
    return { M, Y: transform(t, "AT", M) };
  });
  return { places, data, outs };
}

/** The positions of the output that a tile computes: [position, row, column in the tile]. */
function tileOutputs(s, t, tile) {
  const top = Math.floor(tile / t.counts[1]) * t.outputs[0], left = (tile % t.counts[1]) * t.outputs[1];
  return countTo(t.outputs[0] * t.outputs[1])
    .map((i) => [Math.floor(i / t.outputs[1]), i % t.outputs[1]])
    .filter(([r, c]) => top + r < s.out[0] && left + c < s.out[1])
    .map(([r, c]) => [(top + r) * s.out[1] + left + c, r, c]);
}

/** The output after so many tiles, and `outs` channels of the next one. */
function assembled(s, t, tiles, done, outs = 0) {
  const sums = new Float64Array(s.O * s.N);
  for (let tile = 0; tile < Math.min(t.tiles, done + 1); tile++) {
    const ready = tile < done ? s.O : outs;
    if (!ready) continue;
    for (const [p, r, c] of tileOutputs(s, t, tile)) {
      for (let o = 0; o < ready; o++) sums[o * s.N + p] = tiles(tile).outs[o].Y[r][c];
    }
  }
  return sums;
}

// ------------------------------------------------------------------ steps
const shown = (title, rows) => matrixOf(title, [rows.length, rows[0].length], (r, c) => rows[r][c]);
const named = (text, s, c) => (s.C === 1 ? text : `${text}, channel ${c}`);
/** The matrices of a transform: one, or one for rows and one for columns where they differ. */
function transformers(t, letter, name) {
  const [rows, columns] = t.matrices.map((axis) => axis[name]);
  if (columns.join() === rows.join() || t.inputs[1] === 1) return [shown(letter, rows)];
  if (t.inputs[0] === 1) return [shown(letter, columns)];
  return [shown(`${letter} along columns`, rows), shown(`${letter} along rows`, columns)];
}

/** What a transform is called along one axis or two. */
function product(s, left, middle, right) {
  if (s.rank === 1) return `${left} ${middle}`;
  if (s.kernel[0] > 1 && s.kernel[1] > 1) return `${left} ${middle} ${right}`;
  return s.kernel[0] > 1 ? `${left} ${middle}` : `${middle} ${right}`;
}

function kernelStep(s, t, kernels, pair) {
  const o = Math.floor(pair / s.perIn), j = pair % s.perIn, { g, U } = kernels[pair], name = product(s, "G", "g", "G^T");
  return {
    text: `The kernel from input ${firstInput(s, o) + j} to output ${o} is transformed, once for all tiles: U = ${name}.`,
    reads: { x: [], w: countTo(s.K).map((tap) => weightIndex(s, o, j, tap)) },
    writes: [],
    note: `${pair + 1} of ${many(s.O * s.perIn, "kernel")}.`,
    matrices: [shown("kernel g", g), ...transformers(t, "G", "G"), shown(`U = ${name}`, U)],
    y: { shape: s.outShape, data: new Float64Array(s.O * s.N) },
  };
}

function dataStep(s, t, tiles, tile) {
  const { places, data } = tiles(tile), inside = places.flat().filter((place) => place >= 0), name = product(s, "B^T", "d", "B");
  const read = t.inputs.slice(2 - s.rank).join(" x ");
  const plain = t.matrices.every(({ BT }) => BT.flat().every((value) => Math.abs(value) <= 1));
  const matrices = countTo(Math.min(s.C, MOST_CHANNELS)).flatMap((c) => [
    shown(named("tile d", s, c), data[c].d),
    ...(c ? [] : transformers(t, "B^T", "BT")),
    shown(named(`V = ${name}`, s, c), data[c].V),
  ]);
  return {
    text: `Tile ${tile + 1} of ${t.tiles}: ${read} inputs, transformed: V = ${name}${plain ? ", by additions alone" : ""}.`,
    reads: { x: countTo(s.C).flatMap((c) => sourceCells(s, c, inside)), w: [] },
    writes: [],
    note: "Tiles overlap by the kernel less one.",
    matrices,
    y: { shape: s.outShape, data: assembled(s, t, tiles, tile) },
  };
}

function elementStep(s, t, tiles, tile, o, kernels) {
  const { data, outs } = tiles(tile), first = firstInput(s, o), count = t.positions * s.perIn;
  const before = t.outputs[0] * t.outputs[1] * s.K * s.perIn, added = s.perIn > 1 ? " and add the channels" : "";
  const matrices = countTo(Math.min(s.perIn, MOST_CHANNELS)).flatMap((j) => [
    shown(named("U", s, first + j), kernels[o * s.perIn + j].U),
    shown(named("V", s, first + j), data[first + j].V),
  ]);
  return {
    text: `Multiply U and V element by element${added}: ${many(count, "product")} for output channel ${o}, instead of ${before}.`,
    reads: { x: [], w: [] },
    writes: [],
    note: "The only multiplications of numbers by numbers.",
    matrices: [...matrices, shown(s.perIn > 1 ? "M = sum of U * V" : "M = U * V", outs[o].M)],
    y: { shape: s.outShape, data: assembled(s, t, tiles, tile, o) },
  };
}

function outputStep(s, t, tiles, tile, o) {
  const { M, Y } = tiles(tile).outs[o], positions = tileOutputs(s, t, tile), name = product(s, "A^T", "M", "A");
  const y = assembled(s, t, tiles, tile, o + 1);
  const marks = positions.map(([p]) => [Math.floor(p / s.out[1]), p % s.out[1]]);
  return {
    text: `Transform back: ${name} is the tile of ${many(t.outputs[0] * t.outputs[1], "output")}.`,
    reads: { x: [], w: [] },
    writes: outputCells(s, o, positions.map(([p]) => p)),
    note: positions.length < t.outputs[0] * t.outputs[1] ? "What hangs over the end of the output is dropped." : "",
    matrices: [
      shown("M", M), ...transformers(t, "A^T", "AT"), shown(name, Y),
      planeMatrix(`output channel ${o}`, s.out, y, o * s.N, marks),
    ],
    y: { shape: s.outShape, data: y },
  };
}
