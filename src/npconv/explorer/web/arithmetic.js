import { count, numbers, offset, tensor, unravel } from "./tensors.js";
import { isPool, outChannels, sizes } from "./shapes.js";
import { cellsOf, gather, linksOf, scatter, triplesOf, weigh } from "./products.js";
import { poolBackward, poolForward, poolGradientTerms, poolTerms, windowAt, windowsOf, windowsReading } from "./pools.js";

/**
 * What the explorer computes: forward, the gradients, the terms of one cell, and which cells meet.
 *
 * @typedef {import("./tensors.js").Tensor} Tensor
 * @typedef {import("./shapes.js").Problem} Problem
 * @typedef {{tensor: string, index: number[]|null, value: number, where?: "inside"|"padding"}} Factor
 * @typedef {{a: Factor, b: Factor|null, product: number}} Term
 * @typedef {{groups: {label: string, terms: Term[], sum: number}[], bias: number|null, total: number, chosen: number|null,
 *   divisor: number|null, operation: "times"|"over"|"none"}} Terms
 */

/** The sizes of a problem, which must be valid. */
function validSizes(p) {
  const size = sizes(p);
  if (!size.valid) throw new Error(size.reasons[0]);
  return size;
}

/** The shape of a problem's output. */
function outShape(p, size) {
  return [outChannels(p), ...size.out];
}

/** dy as a tensor of the output's shape. */
function gradientTensor(p, size, dy) {
  const shape = outShape(p, size);
  if (dy.shape.length !== shape.length || dy.shape.some((n, i) => n !== shape[i])) {
    throw new Error(`dy.shape is (${dy.shape.join(", ")}), expected (${shape.join(", ")}), the shape of y`);
  }
  return tensor(shape, dy.data);
}

/**
 * @param {Problem} p a problem whose sizes are valid
 * @returns {Tensor} y, [O, ...out]
 */
export function forward(p) {
  return forwardFull(p).y;
}

/**
 * `forward`, and for max_pool where each maximum is, as a place in its plane of x.
 * @param {Problem} p
 * @returns {{y: Tensor, argmax: Float64Array|null}}
 */
export function forwardFull(p) {
  const size = validSizes(p), shape = outShape(p, size), x = numbers(p.x.data);
  if (isPool(p)) {
    const { y, argmax } = poolForward(windowsOf(p, size), x);
    return { y: tensor(shape, y), argmax };
  }
  const links = linksOf(p, size), w = numbers(p.w.data);
  const y = links.transposed ? scatter(links, w, x) : gather(links, w, x);
  if (p.bias) {
    const bias = numbers(p.bias.data), plane = count(size.out);
    for (let i = 0; i < y.length; i++) y[i] += bias[Math.floor(i / plane)];
  }
  return { y: tensor(shape, y), argmax: null };
}

/**
 * What a change of each input, weight and bias does to sum(y * dy).
 * @param {Problem} p
 * @param {Tensor} dy the gradient of y, of its shape
 * @returns {{x: Tensor, w: Tensor|null, bias: Tensor|null}}
 */
export function gradients(p, dy) {
  const size = validSizes(p), g = gradientTensor(p, size, dy).data, x = numbers(p.x.data);
  if (isPool(p)) return { x: tensor(p.x.shape, poolBackward(windowsOf(p, size), x, g)), w: null, bias: null };
  const links = linksOf(p, size), w = numbers(p.w.data), plane = count(size.out), bias = new Float64Array(outChannels(p));
  for (let i = 0; i < g.length; i++) bias[Math.floor(i / plane)] += g[i];
  // padding of a constant has no gradient, but weights meet it; what was cut off a transposed output has none at all
  const [dx, dw] = links.transposed
    ? [gather(links, w, g), weigh(links, x, g)]
    : [scatter(links, w, g), weigh(links, g, x)];
  return { x: tensor(p.x.shape, dx), w: tensor(p.w.shape, dw), bias: tensor([bias.length], bias) };
}

/**
 * One cell taken apart: the products that it is the sum of, group by group in the order of the sum.
 *
 * Without `dy` the cell is one of y; with it, of the gradient of `what`. total = the groups' sums, added up, plus the bias;
 * for avg_pool's y over the divisor. `operation` says how a and b join: a times b, a over b (the gradient of avg_pool), or
 * a alone.
 *
 * @param {Problem} p
 * @param {"y"|"x"|"w"|"bias"} what
 * @param {number[]} index
 * @param {Tensor} [dy]
 * @returns {Terms}
 */
export function terms(p, what, index, dy) {
  const size = validSizes(p), x = numbers(p.x.data), g = what === "y" ? null : gradientTensor(p, size, dy).data;
  const bare = { bias: null, chosen: null, divisor: null, operation: "none" };
  if (isPool(p)) {
    const pool = windowsOf(p, size), found = g ? poolGradientTerms(pool, x, g, index) : poolTerms(pool, x, index);
    const group = { label: g ? "windows that send back" : "window", terms: found.terms, sum: found.sum };
    const operation = g && pool.mean ? "over" : "none";
    return { ...bare, groups: [group], chosen: found.chosen, divisor: found.divisor, total: found.total, operation };
  }
  if (what === "bias") return biasTerms(index[0], size, g, bare);
  return productTerms(p, linksOf(p, size), what, index, { x, w: numbers(p.w.data), y: g }, bare);
}

function biasTerms(channel, size, g, bare) {
  const plane = count(size.out), list = [];
  for (let at = 0; at < plane; at++) {
    const value = g[channel * plane + at], index = [channel, ...unravel(size.out, at)];
    list.push({ a: { tensor: "dy", index, value, where: "inside" }, b: null, product: value });
  }
  const sum = list.reduce((total, term) => total + term.product, 0);
  return { ...bare, groups: [{ label: "all outputs of the channel", terms: list, sum }], total: sum };
}

/** Which of the three parts a tensor plays. */
const roleOf = (links, name) => (name === "w" ? "w" : name === links.anchor ? "anchor" : "other");

function triplesAt(p, links, name, index) {
  const role = roleOf(links, name), lead = role === "w" ? 2 : 1;
  const plane = (role === "w" ? p.w.shape : links.letters[role]).slice(lead);
  return triplesOf(links, role, index[0], index[1], offset({ shape: plane }, index.slice(lead)));
}

function productTerms(p, links, what, index, data, bare) {
  const shape = { [links.anchor]: links.letters.anchor, [links.other]: links.letters.other, w: p.w.shape };
  const [first, second] = { y: ["x", "w"], x: ["y", "w"], w: ["x", "y"] }[what];
  const factor = (name, cells, where) => {
    const at = cells[roleOf(links, name)], padded = name === links.other;
    const value = at ? data[name][offset({ shape: shape[name] }, at)] : links.fill;
    return { tensor: name === "y" ? "dy" : name, index: at, value, where: padded ? where : "inside" };
  };
  const groups = triplesAt(p, links, what, index).map((group) => {
    const list = group.list.map((triple) => {
      const cells = cellsOf(links, group, triple);
      const a = factor(first, cells, triple.where), b = factor(second, cells, triple.where);
      return { a, b, product: a.value * b.value };
    });
    const channel = what === links.anchor ? group.B : group.A;
    const label = what === "w" ? "all positions" : `${what === "y" ? "input" : "output"} channel ${channel}`;
    return { label, terms: list, sum: list.reduce((total, term) => total + term.product, 0) };
  });
  const bias = what === "y" && p.bias ? numbers(p.bias.data)[index[0]] : null;
  const total = groups.reduce((sum, group) => sum + group.sum, 0) + (bias ?? 0);
  return { ...bare, groups, bias, total, operation: "times" };
}

/**
 * The cells of the other tensors that meet this one in a product (or under a window), in both directions alike.
 * @param {Problem} p
 * @param {"x"|"w"|"y"|"bias"} name
 * @param {number[]} index
 * @returns {{x: number[][], w: number[][], y: number[][], bias: number[][]}}
 */
export function links(p, name, index) {
  const size = validSizes(p), found = { x: [], w: [], y: [], bias: [] };
  if (isPool(p)) {
    const pool = windowsOf(p, size), spatial = p.x.shape.slice(1);
    const [from, to] = name === "y" ? [size.out, spatial] : [spatial, size.out];
    const at = offset({ shape: from }, index.slice(1));
    const places = name === "y" ? windowAt(pool, at).places : windowsReading(pool, at);
    found[name === "y" ? "x" : "y"] = places.map((place) => [index[0], ...unravel(to, place)]);
    return found;
  }
  if (name === "bias") {
    found.y = Array.from({ length: count(size.out) }, (_, at) => [index[0], ...unravel(size.out, at)]);
    return found;
  }
  if (name === "y" && p.bias) found.bias = [[index[0]]];
  const pairs = linksOf(p, size), seen = new Set();
  for (const group of triplesAt(p, pairs, name, index)) {
    for (const triple of group.list) {
      const { anchor, other, w } = cellsOf(pairs, group, triple);
      for (const [tensorName, cell] of [[pairs.anchor, anchor], [pairs.other, other], ["w", w]]) {
        const key = `${tensorName} ${cell}`;
        if (tensorName === name || cell === null || seen.has(key)) continue;
        seen.add(key);
        found[tensorName].push(cell);
      }
    }
  }
  return found;
}

/**
 * The gradient of one cell beside what nudging the cell says: a central difference of sum(y * dy).
 * @param {Problem} p
 * @param {Tensor} dy
 * @param {"x"|"w"|"bias"} what
 * @param {number[]} index
 * @param {number} [eps] the nudge, for values up to 1; larger values get larger ones
 * @returns {{analytic: number, numeric: number, difference: number, note: string|null}}
 */
export function numericCheck(p, dy, what, index, eps = 1e-3) {
  const size = validSizes(p), shape = { shape: outShape(p, size) }, g = gradientTensor(p, size, dy).data;
  const analytic = terms(p, what, index, dy).total;
  const data = numbers(p[what].data), at = offset(p[what], index), step = eps * Math.max(1, Math.abs(data[at]));
  const nudged = (value) => {
    const changed = data.slice();
    changed[at] = value;
    return forwardFull({ ...p, [what]: { shape: p[what].shape, data: changed } });
  };
  const high = data[at] + step, low = data[at] - step, up = nudged(high), down = nudged(low);
  const readers = links(p, what, index).y.map((cell) => offset(shape, cell));
  // only the outputs that read the cell: a NaN elsewhere says nothing about it
  const change = readers.reduce((sum, i) => sum + (up.y.data[i] - down.y.data[i]) * g[i], 0);
  const numeric = change / (high - low);
  const moved = up.argmax !== null && readers.some((i) => up.argmax[i] !== down.argmax[i]);
  const note = moved ? "a maximum changes hands within the nudge, so there is no one slope here" : null;
  return { analytic, numeric, difference: numeric - analytic, note };
}

/**
 * A good first problem: a bright disc of 7 x 7 numbers under the 3 x 3 Sobel kernel.
 * @returns {Problem}
 */
export function defaults() {
  const picture = [
    1, 1, 1, 1, 1, 1, 1,
    1, 2, 6, 8, 6, 2, 1,
    1, 6, 9, 9, 9, 6, 1,
    1, 8, 9, 9, 9, 8, 1,
    1, 6, 9, 9, 9, 6, 1,
    1, 2, 6, 8, 6, 2, 1,
    1, 1, 1, 1, 1, 1, 1,
  ];
  return {
    operator: "conv",
    x: tensor([1, 7, 7], picture),
    w: tensor([1, 1, 3, 3], [-1, 0, 1, -2, 0, 2, -1, 0, 1]),
    bias: null,
    stride: [1, 1],
    dilation: [1, 1],
    groups: 1,
    padding: "valid",
    paddingMode: "zeros",
    paddingValue: 0,
    flip: false,
    outputPadding: [0, 0],
    countIncludePad: true,
    ceilMode: false,
  };
}
