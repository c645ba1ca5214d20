import { unravel } from "./tensors.js";

/**
 * Pools: the largest number of a window, or the mean; and what flows back through them.
 *
 * @typedef {{channels: number, inShape: number[], out: number[], windows: {reads: number[], pads: number}[][], mean: boolean,
 *   divisors: number[][]}} Windows per axis and window: the positions read, and how many padding cells count with them
 */

/**
 * The windows of a pool whose sizes are valid, axis by axis; one axis is computed as two, the first of size 1.
 * @param {import("./shapes.js").Problem} p
 * @param {import("./shapes.js").Sizes} size
 * @returns {Windows}
 */
export function windowsOf(p, size) {
  const mean = p.operator === "avg_pool", include = p.countIncludePad ?? true, spatial = p.x.shape.slice(1);
  const windows = spatial.map((n, i) => {
    const [lo, hi] = size.pads[i], s = p.stride[i], d = p.dilation[i], end = n + Math.min(0, hi);
    return Array.from({ length: size.out[i] }, (_, o) => {
      const taps = Array.from({ length: p.kernel[i] }, (_, t) => o * s + t * d);
      const reads = taps.map((tap) => tap - lo).filter((at) => at >= 0 && at < end);
      // what rounding up lets overhang is no padding and never counts (R13)
      const counted = mean && include ? taps.filter((tap) => tap < n + lo + hi).length : reads.length;
      return { reads, pads: Math.max(0, counted - reads.length) };
    });
  });
  const divisors = windows.map((axis) => axis.map(({ reads, pads }) => Math.max(1, reads.length + pads)));
  if (windows.length === 1) {
    windows.unshift([{ reads: [0], pads: 0 }]);
    divisors.unshift([1]);
  }
  return { channels: p.x.shape[0], inShape: spatial, out: size.out, windows, divisors, mean };
}

/**
 * The places in x's plane that window `at` reads, row-major, and what their sum is divided by.
 * @param {Windows} pool
 * @param {number} at
 * @returns {{places: number[], pads: number, divisor: number}}
 */
export function windowAt(pool, at) {
  const [rows, columns] = pool.windows, width = pool.inShape.at(-1);
  const r = Math.floor(at / columns.length), c = at % columns.length, places = [];
  for (const row of rows[r].reads) for (const column of columns[c].reads) places.push(row * width + column);
  const counted = (rows[r].reads.length + rows[r].pads) * (columns[c].reads.length + columns[c].pads);
  return { places, pads: counted - places.length, divisor: pool.divisors[0][r] * pool.divisors[1][c] };
}

/**
 * The number of the first largest value among places, or of the first NaN (R15).
 * @param {Float64Array} data
 * @param {number[]} places
 * @returns {number}
 */
export function firstLargest(data, places) {
  let best = 0;
  for (let i = 1; i < places.length && !Number.isNaN(data[places[best]]); i++) {
    if (data[places[i]] > data[places[best]] || Number.isNaN(data[places[i]])) best = i;
  }
  return best;
}

const planeSizes = (pool) => [pool.inShape.reduce((n, m) => n * m, 1), pool.windows[0].length * pool.windows[1].length];

/**
 * y, and for a maximum the place in the plane of x that each came from.
 * @param {Windows} pool
 * @param {Float64Array} x
 * @returns {{y: Float64Array, argmax: Float64Array|null}}
 */
export function poolForward(pool, x) {
  const [size, outs] = planeSizes(pool), y = new Float64Array(pool.channels * outs);
  const argmax = new Float64Array(y.length);
  for (let at = 0; at < outs; at++) {
    const { places, divisor } = windowAt(pool, at);
    for (let c = 0; c < pool.channels; c++) {
      const plane = x.subarray(c * size, (c + 1) * size), target = c * outs + at;
      if (pool.mean) {
        y[target] = places.reduce((sum, place) => sum + plane[place], 0) / divisor;
      } else {
        argmax[target] = places[firstLargest(plane, places)];
        y[target] = plane[argmax[target]];
      }
    }
  }
  return { y, argmax: pool.mean ? null : argmax };
}

/**
 * dx: every dy to its maximum, or in equal shares to all of its window.
 * @param {Windows} pool
 * @param {Float64Array} x
 * @param {Float64Array} dy
 * @returns {Float64Array}
 */
export function poolBackward(pool, x, dy) {
  const [size, outs] = planeSizes(pool), dx = new Float64Array(pool.channels * size);
  for (let at = 0; at < outs; at++) {
    const { places, divisor } = windowAt(pool, at);
    for (let c = 0; c < pool.channels; c++) {
      const plane = x.subarray(c * size, (c + 1) * size), from = dy[c * outs + at];
      if (pool.mean) for (const place of places) dx[c * size + place] += from / divisor;
      else dx[c * size + places[firstLargest(plane, places)]] += from;
    }
  }
  return dx;
}

/**
 * The windows that read place `at` of x's plane.
 * @param {Windows} pool
 * @param {number} at
 * @returns {number[]}
 */
export function windowsReading(pool, at) {
  const [rows, columns] = pool.windows, width = pool.inShape.at(-1), found = [];
  rows.forEach((row, r) => {
    if (!row.reads.includes(Math.floor(at / width))) return;
    columns.forEach((column, c) => {
      if (column.reads.includes(at % width)) found.push(r * columns.length + c);
    });
  });
  return found;
}

/**
 * The terms of one cell of y: what its window holds, padding that counts as zeros after it.
 * @param {Windows} pool
 * @param {Float64Array} x
 * @param {number[]} cell
 */
export function poolTerms(pool, x, cell) {
  const [channel, ...index] = cell, [size] = planeSizes(pool), at = placeOf(pool.out, index), plane = x.subarray(channel * size, (channel + 1) * size);
  const { places, pads, divisor } = windowAt(pool, at);
  const terms = places.map((place) => ({
    a: { tensor: "x", index: [channel, ...unravel(pool.inShape, place)], value: plane[place], where: "inside" },
    b: null,
    product: plane[place],
  }));
  for (let i = 0; i < pads; i++) {
    terms.push({ a: { tensor: "x", index: null, value: 0, where: "padding" }, b: null, product: 0 });
  }
  const chosen = pool.mean ? null : firstLargest(plane, places);
  const sum = pool.mean ? terms.reduce((total, term) => total + term.product, 0) : terms[chosen].product;
  return { terms, sum, chosen, divisor: pool.mean ? divisor : null, total: pool.mean ? sum / divisor : sum };
}

/**
 * The terms of one cell of dx: what every window that reads it sends back.
 * @param {Windows} pool
 * @param {Float64Array} x
 * @param {Float64Array} dy
 * @param {number[]} cell
 */
export function poolGradientTerms(pool, x, dy, cell) {
  const [channel, ...index] = cell, [size, outs] = planeSizes(pool), at = placeOf(pool.inShape, index);
  const plane = x.subarray(channel * size, (channel + 1) * size), terms = [];
  for (const window of windowsReading(pool, at)) {
    const { places, divisor } = windowAt(pool, window), value = dy[channel * outs + window];
    if (!pool.mean && places[firstLargest(plane, places)] !== at) continue;
    const a = { tensor: "dy", index: [channel, ...unravel(pool.out, window)], value, where: "inside" };
    const b = pool.mean ? { tensor: "divisor", index: null, value: divisor } : null;
    terms.push({ a, b, product: pool.mean ? value / divisor : value });
  }
  const total = terms.reduce((sum, term) => sum + term.product, 0);
  return { terms, sum: total, chosen: null, divisor: null, total };
}

const placeOf = (shape, index) => index.reduce((at, i, axis) => at * shape[axis] + i, 0);
