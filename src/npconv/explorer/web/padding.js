// What the ring round the input holds, by the padding's mode.
import { isPool } from "./shapes.js";
import { linksOf } from "./products.js";

/**
 * A reader of padded positions.
 * @param {Object} problem a valid one
 * @param {Object} report its sizes
 * @returns {function(number, number[]): number|null} channel and position to value; null where padding has none
 */
export function paddedReader(problem, report) {
  if (isPool(problem)) return () => (problem.operator === "avg_pool" && problem.countIncludePad ? 0 : null);
  const spatial = problem.x.shape.slice(1);
  const fill = problem.paddingMode === "constant" ? problem.paddingValue : 0;
  // a kernel of one tap visits every padded position: what it reads there is what the padding holds
  const sources = spatial.map((size, axis) => {
    const [lo, hi] = report.pads[axis].map((pad) => Math.max(0, pad));
    const probe = {
      ...problem,
      operator: "conv",
      groups: 1,
      stride: [1],
      dilation: [1],
      x: { shape: [1, size] },
      w: { shape: [1, 1, 1] },
      kernel: [1],
    };
    const { source } = linksOf(probe, { pads: [[lo, hi]], out: [size + lo + hi] }).axes[1];
    return (position) => source[position + lo];
  });
  return (channel, position) => {
    let flat = channel;
    for (let axis = 0; axis < spatial.length; axis++) {
      const at = sources[axis](position[axis]);
      if (at === undefined || at < 0) return fill;
      flat = flat * spatial[axis] + at;
    }
    return Number(problem.x.data[flat]);
  };
}
