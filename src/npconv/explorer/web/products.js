import { unravel } from "./tensors.js";
import { kernelOf, outChannels } from "./shapes.js";

/**
 * A convolution and its transpose as one list of products.
 *
 * Both multiply the same triples: an anchor a (the window that is placed), a tap t of the kernel, and the other cell b
 * that the tap stands on, b = a s + t d - lo. A convolution anchors at its outputs and reads inputs; its transpose anchors
 * at its inputs and writes outputs. So three sums are all there is:
 *
 *     gather    a's sum over b and t of  w other[b]          y of conv,             dx of conv_transpose
 *     scatter   b's sum over a and t of  w anchor[a]         dx of conv,            y of conv_transpose
 *     weigh     t's sum over a of  anchor[a] other[b]        dw of both
 *
 * One spatial axis is computed as two, the first of size 1: the data lie the same.
 *
 * @typedef {{source: Int32Array, inside: Uint8Array, size: number, anchors: number, taps: number}} Axis
 *   source: for anchor a and tap t at [a taps + t] the other cell, or -1 where padding holds a value of its own
 * @typedef {{A: number, B: number, perA: number, perB: number, axes: Axis[], rank: number, flip: boolean, fill: number,
 *   transposed: boolean, anchor: string, other: string, letters: {w: number[], anchor: number[], other: number[]}}} Links
 */

/**
 * Which input a position of a padded axis copies, or -1 (R20).
 * @param {number} position
 * @param {number} size
 * @param {string} mode
 * @returns {number}
 */
export function copiedPosition(position, size, mode) {
  if (position >= 0 && position < size) return position;
  if (mode === "zeros" || mode === "constant") return -1;
  if (mode === "replicate" || size === 1) return Math.min(Math.max(position, 0), size - 1);
  const wrap = (n) => ((position % n) + n) % n;
  if (mode === "circular") return wrap(size);
  if (mode === "symmetric") return Math.min(wrap(2 * size), 2 * size - 1 - wrap(2 * size));
  return Math.min(wrap(2 * size - 2), 2 * size - 2 - wrap(2 * size - 2));
}

function linkAxis(anchors, size, taps, s, d, lo, mode) {
  const source = new Int32Array(anchors * taps), inside = new Uint8Array(anchors * taps);
  for (let a = 0; a < anchors; a++) {
    for (let t = 0; t < taps; t++) {
      const position = a * s + t * d - lo;
      source[a * taps + t] = copiedPosition(position, size, mode);
      inside[a * taps + t] = position >= 0 && position < size ? 1 : 0;
    }
  }
  return { source, inside, size, anchors, taps };
}

/**
 * The triples of a problem whose sizes are valid.
 * @param {import("./shapes.js").Problem} p
 * @param {import("./shapes.js").Sizes} size
 * @returns {Links}
 */
export function linksOf(p, size) {
  const transposed = p.operator === "conv_transpose", spatial = p.x.shape.slice(1), kernel = kernelOf(p);
  const [anchors, others] = transposed ? [spatial, size.out] : [size.out, spatial];
  const mode = transposed ? "zeros" : p.paddingMode, O = outChannels(p), C = p.x.shape[0];
  const axes = kernel.map((k, i) => linkAxis(anchors[i], others[i], k, p.stride[i], p.dilation[i], size.pads[i][0], mode));
  if (axes.length === 1) axes.unshift(linkAxis(1, 1, 1, 1, 1, 0, "zeros"));
  const [A, B] = transposed ? [C, O] : [O, C];
  return {
    A, B, perA: A / p.groups, perB: B / p.groups, axes, rank: kernel.length, flip: p.flip, transposed,
    fill: mode === "constant" ? p.paddingValue : 0,
    anchor: transposed ? "x" : "y", other: transposed ? "y" : "x",
    letters: { w: [...p.w.shape], anchor: [A, ...anchors], other: [B, ...others] },
  };
}

/** The other cell (a place in its plane, or -1 in padding) of every anchor a and weight t, at [a taps + t]. */
function meetings(links) {
  const [rows, columns] = links.axes, n = planes(links), met = new Int32Array(n.a * n.t);
  for (let a = 0, i = 0; a < n.a; a++) {
    const r = Math.floor(a / columns.anchors) * rows.taps, c = (a % columns.anchors) * columns.taps;
    for (let t = 0; t < n.t; t++, i++) {
      const tap = links.flip ? n.t - 1 - t : t;
      const b0 = rows.source[r + Math.floor(tap / columns.taps)], b1 = columns.source[c + (tap % columns.taps)];
      met[i] = b0 < 0 || b1 < 0 ? -1 : b0 * columns.size + b1;
    }
  }
  return met;
}

const planes = (links) => ({
  a: links.axes[0].anchors * links.axes[1].anchors,
  b: links.axes[0].size * links.axes[1].size,
  t: links.axes[0].taps * links.axes[1].taps,
});

/** Calls visit(A, B, j): the channels that meet, anchor by anchor, or with `byOther` other by other. */
function eachPair(links, byOther, visit) {
  const { A, B, perA, perB } = links;
  if (byOther) {
    for (let b = 0; b < B; b++) {
      const first = Math.floor(b / perB) * perA;
      for (let a = first; a < first + perA; a++) visit(a, b, b % perB);
    }
  } else {
    for (let a = 0; a < A; a++) {
      const first = Math.floor(a / perA) * perB;
      for (let j = 0; j < perB; j++) visit(a, first + j, j);
    }
  }
}

/**
 * Every anchor's sum over the cells its window covers, channel by channel: the order of `terms`, as in all three.
 * @param {Links} links
 * @param {Float64Array} w
 * @param {Float64Array} other
 * @returns {Float64Array}
 */
export function gather(links, w, other) {
  const n = planes(links), met = meetings(links), out = new Float64Array(links.A * n.a);
  eachPair(links, false, (A, B, j) => {
    const kernel = (A * links.perB + j) * n.t, plane = B * n.b;
    for (let a = 0, i = 0; a < n.a; a++) {
      let sum = 0;
      for (let t = 0; t < n.t; t++, i++) sum += w[kernel + t] * (met[i] < 0 ? links.fill : other[plane + met[i]]);
      out[A * n.a + a] += sum;
    }
  });
  return out;
}

/**
 * Every other cell's sum over the anchors whose windows cover it.
 * @param {Links} links
 * @param {Float64Array} w
 * @param {Float64Array} anchor
 * @returns {Float64Array}
 */
export function scatter(links, w, anchor) {
  const n = planes(links), met = meetings(links), out = new Float64Array(links.B * n.b), part = new Float64Array(n.b);
  eachPair(links, true, (A, B, j) => {
    const kernel = (A * links.perB + j) * n.t;
    part.fill(0);
    for (let a = 0, i = 0; a < n.a; a++) {
      const value = anchor[A * n.a + a];
      for (let t = 0; t < n.t; t++, i++) if (met[i] >= 0) part[met[i]] += w[kernel + t] * value;
    }
    for (let b = 0; b < n.b; b++) out[B * n.b + b] += part[b];
  });
  return out;
}

/**
 * Every weight's sum over all places of its kernel.
 * @param {Links} links
 * @param {Float64Array} anchor
 * @param {Float64Array} other
 * @returns {Float64Array}
 */
export function weigh(links, anchor, other) {
  const n = planes(links), met = meetings(links), dw = new Float64Array(links.A * links.perB * n.t);
  eachPair(links, false, (A, B, j) => {
    const kernel = (A * links.perB + j) * n.t, plane = B * n.b;
    for (let a = 0, i = 0; a < n.a; a++) {
      const value = anchor[A * n.a + a];
      for (let t = 0; t < n.t; t++, i++) dw[kernel + t] += value * (met[i] < 0 ? links.fill : other[plane + met[i]]);
    }
  });
  return dw;
}

// ------------------------------------------------------------------ the triples of one cell
/** The index of a place in a plane of one channel. */
function indexAt(shape, channel, at) {
  return [channel, ...unravel(shape.slice(1), at)];
}

/**
 * Where in the other tensor's plane (b, or -1), and whether in padding, tap t of anchor a stands.
 * @param {Links} links
 * @param {number} a
 * @param {number} t
 * @returns {{b: number, where: "inside"|"padding"}}
 */
export function placed(links, a, t) {
  const [rows, columns] = links.axes;
  const r = Math.floor(a / columns.anchors) * rows.taps + Math.floor(t / columns.taps);
  const c = (a % columns.anchors) * columns.taps + (t % columns.taps);
  const b0 = rows.source[r], b1 = columns.source[c];
  return {
    b: b0 < 0 || b1 < 0 ? -1 : b0 * columns.size + b1,
    where: rows.inside[r] && columns.inside[c] ? "inside" : "padding",
  };
}

/** The (anchor, tap) pairs that stand on place `at` of the other plane. */
function standing(links, at) {
  const [rows, columns] = links.axes, found = [];
  const hits = (axis, position) => [...axis.source.keys()].filter((i) => axis.source[i] === position);
  for (const r of hits(rows, Math.floor(at / columns.size))) {
    for (const c of hits(columns, at % columns.size)) {
      found.push({
        a: Math.floor(r / rows.taps) * columns.anchors + Math.floor(c / columns.taps),
        t: (r % rows.taps) * columns.taps + (c % columns.taps),
      });
    }
  }
  return found;
}

/** Anchor by anchor, and of one anchor weight by weight: the order of `scatter`. */
const inOrder = (one, two) => one.a - two.a || one.t - two.t;

/**
 * The triples that make one cell, grouped as they are summed: {A, B, j, list: [{a, t, b, where}]} with t a place of w.
 * @param {Links} links
 * @param {"anchor"|"other"|"w"} role which of the three the cell belongs to
 * @param {number} channel the cell's first index
 * @param {number} second w's second index
 * @param {number} at the cell's place in its plane
 */
export function triplesOf(links, role, channel, second, at) {
  const n = planes(links), turned = (t) => (links.flip ? n.t - 1 - t : t), groups = [];
  const triple = (a, t) => ({ a, t, ...placed(links, a, turned(t)) });
  if (role === "w") {
    const list = Array.from({ length: n.a }, (_, a) => triple(a, at));
    return [{ A: channel, B: Math.floor(channel / links.perA) * links.perB + second, j: second, list }];
  }
  eachPair(links, role === "other", (A, B, j) => {
    if ((role === "other" ? B : A) !== channel) return;
    const list = role === "anchor"
      ? Array.from({ length: n.t }, (_, t) => triple(at, t))
      : standing(links, at).map(({ a, t }) => ({ a, t: turned(t) })).sort(inOrder).map(({ a, t }) => triple(a, t));
    groups.push({ A, B, j, list });
  });
  return groups;
}

/**
 * The indices of a triple's three cells; `other` is null where the tap stands in padding with a value of its own.
 * @param {Links} links
 * @param {{A: number, B: number, j: number}} group
 * @param {{a: number, t: number, b: number}} triple
 * @returns {{anchor: number[], other: number[]|null, w: number[]}}
 */
export function cellsOf(links, { A, B, j }, { a, t, b }) {
  const { letters } = links;
  return {
    anchor: indexAt(letters.anchor, A, a),
    other: b < 0 ? null : indexAt(letters.other, B, b),
    w: [A, j, ...unravel(letters.w.slice(2), t)],
  };
}
