import { count, numbers, tensor, unravel } from "./tensors.js";
import { forward } from "./arithmetic.js";
import { windowAt, windowsOf } from "./pools.js";
import { countTo, many, matrixOf, once, planeMatrix } from "./setting.js";

/** A pool, step by step: window by window, or tap by tap. It multiplies nothing. */

/**
 * @param {import("./shapes.js").Problem} p valid
 * @param {import("./shapes.js").Sizes} size
 */
export function poolWays(p, size) {
  const pool = windowsOf(p, size), taps = count(p.kernel), channels = p.x.shape[0], y = once(() => forward(p));
  const s = {
    p, size, pool, taps, channels, y, N: count(size.out), inputs: count(p.x.shape.slice(1)), x: numbers(p.x.data),
    shape: [channels, ...size.out], plane: p.x.shape.length === 2 ? [1, p.x.shape[1]] : p.x.shape.slice(1),
    out: size.out.length === 1 ? [1, ...size.out] : size.out, reads: new Map(),
  };
  const why = pool.mean ? "a pool has no weights to multiply by" : "a maximum is no sum of products";
  return { loops: poolLoops(s), direct: poolDirect(s), gemm: why, fft: why, winograd: why };
}

const cellOf = (s, c, place) => [c, ...unravel(s.p.x.shape.slice(1), place)];
const markOf = (place, [, columns]) => [Math.floor(place / columns), place % columns];

function poolLoops(s) {
  return {
    multiplications: [[`none; ${s.pool.mean ? "additions and a division" : "comparisons"}`, 0]],
    bytes: [],
    workspace: 0,
    steps: s.channels * s.N,
    step: (i) => windowStep(s, i),
    compute: s.y,
  };
}

function windowStep(s, i) {
  const c = Math.floor(i / s.N), at = i % s.N, { places, pads, divisor } = windowAt(s.pool, at), y = s.y();
  const index = unravel(s.shape, i), zeros = pads ? ` and ${many(pads, "zero")} of padding` : "";
  const text = s.pool.mean
    ? `Window [${index.join(", ")}]: the mean of ${many(places.length, "input")}${zeros}: their sum over ${divisor}.`
    : `Window [${index.join(", ")}]: the largest of ${many(places.length, "input")}, the first of equal ones.`;
  return {
    text,
    reads: { x: places.map((place) => cellOf(s, c, place)), w: [] },
    writes: [index],
    note: `${i + 1} of ${many(s.channels * s.N, "window")}.`,
    matrices: [
      planeMatrix(`x, channel ${c}`, s.plane, s.x, c * s.inputs, places.map((place) => markOf(place, s.plane))),
      matrixOf("window, row by row", [1, places.length], (_, n) => s.x[c * s.inputs + places[n]]),
      matrixOf(s.pool.mean ? "mean" : "largest", [1, 1], () => y.data[i]),
    ],
    y: { shape: s.shape, data: y.data.slice().fill(0, i + 1) },
  };
}

function poolDirect(s) {
  const last = s.pool.mean ? 1 : 0;
  const compute = once(() => divided(s, tapped(s, s.taps)));
  return {
    multiplications: [[`none; ${s.pool.mean ? "additions and a division" : "comparisons"}`, 0]],
    bytes: [[`${s.pool.mean ? "sums" : "maxima"} read and written, tap by tap`, 16 * s.taps * s.channels * s.N]],
    workspace: 8 * s.channels * s.N,
    steps: s.taps + last,
    step: (t) => (t < s.taps ? tapStep(s, t) : divisionStep(s, compute())),
    compute,
  };
}

/** The place in a plane of x that tap t of every window reads, or -1. */
function readBy(s, t) {
  if (!s.reads.has(t)) s.reads.set(t, Int32Array.from({ length: s.N }, (_, at) => placeRead(s, at, t)));
  return s.reads.get(t);
}

function placeRead(s, at, t) {
  const rank = s.p.kernel.length, window = unravel(s.size.out, at), tap = unravel(s.p.kernel, t), spatial = s.p.x.shape.slice(1);
  let place = 0;
  for (let i = 0; i < rank; i++) {
    const [lo, hi] = s.size.pads[i], position = window[i] * s.p.stride[i] + tap[i] * s.p.dilation[i] - lo;
    if (position < 0 || position >= spatial[i] + Math.min(0, hi)) return -1;
    place = place * spatial[i] + position;
  }
  return place;
}

/** What the first `taps` taps make: sums, or maxima (-inf where none has read an input yet). */
function tapped(s, taps) {
  const sums = new Float64Array(s.channels * s.N).fill(s.pool.mean ? 0 : -Infinity);
  for (let t = 0; t < taps; t++) {
    const places = readBy(s, t);
    for (let i = 0; i < sums.length; i++) {
      const place = places[i % s.N];
      if (place < 0) continue;
      const value = s.x[Math.floor(i / s.N) * s.inputs + place];
      sums[i] = s.pool.mean ? sums[i] + value : Math.max(sums[i], value);  // NaN wins
    }
  }
  return sums;
}

function divided(s, sums) {
  return tensor(s.shape, s.pool.mean ? sums.map((sum, i) => sum / windowAt(s.pool, i % s.N).divisor) : sums);
}

function tapStep(s, t) {
  const before = tapped(s, t), after = tapped(s, t + 1), word = s.pool.mean ? "sum" : "largest";
  const places = readBy(s, t), inside = [...places].filter((place) => place >= 0);
  const all = countTo(s.channels), axes = s.p.kernel.map((k) => k - 1).join(" + ");
  const joins = s.pool.mean ? "is added to every window's sum" : "is compared with every window's largest so far";
  return {
    text: `Tap [${unravel(s.p.kernel, t).join(", ")}]: the slice of x that this tap meets ${joins}.`,
    reads: { x: all.flatMap((c) => inside.map((place) => cellOf(s, c, place))), w: [] },
    writes: all.flatMap((c) => countTo(s.N).filter((at) => places[at] >= 0).map((at) => [c, ...unravel(s.size.out, at)])),
    note: `${t + 1} of ${many(s.taps, "tap")}. npconv goes axis by axis: ${axes} steps per output instead of ${s.taps - 1}.`,
    matrices: [
      planeMatrix("x, channel 0: the slice", s.plane, s.x, 0, inside.map((place) => markOf(place, s.plane))),
      planeMatrix(`${word} before`, s.out, before),
      planeMatrix(`${word} after`, s.out, after),
    ],
    y: { shape: s.shape, data: after },
  };
}

function divisionStep(s, y) {
  const divisors = countTo(s.N).map((at) => windowAt(s.pool, at).divisor);
  return {
    text: `Divide every sum by how many numbers it counts${s.p.countIncludePad === false ? ", padding left out" : ""}.`,
    reads: { x: [], w: [] },
    writes: countTo(y.data.length).map((i) => unravel(s.shape, i)),
    note: "",
    matrices: [planeMatrix("counts", s.out, divisors), planeMatrix("means", s.out, y.data)],
    y: { shape: s.shape, data: y.data.slice() },
  };
}
