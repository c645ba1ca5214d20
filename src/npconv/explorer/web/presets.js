import { tensor } from "./tensors.js";

/**
 * Kernels and pictures to begin with, and a person's own picture as an array.
 *
 * The named kernels are those of npconv.filters; they correlate, as everything here.
 *
 * @typedef {{name: string, title: string, rows: number[][]|number[]}} Kernel of rank 2, or of rank 1
 */

/** A bell of standard deviation `sigma` with `n` entries and sum one. */
function bell(n, sigma) {
  const heights = Array.from({ length: n }, (_, i) => Math.exp(-0.5 * ((i - (n - 1) / 2) / sigma) ** 2));
  const total = heights.reduce((sum, height) => sum + height, 0);
  return heights.map((height) => height / total);
}

const outer = (column, row) => column.map((a) => row.map((b) => a * b));
const filled = (n, value) => new Array(n).fill(value);
const slope = [-1, 0, 1];

const PLANE_KERNELS = [
  { name: "identity", title: "identity: the picture itself", rows: outer([0, 1, 0], [0, 1, 0]) },
  { name: "box", title: "box blur: the mean of nine pixels", rows: outer(filled(3, 1), filled(3, 1 / 9)) },
  { name: "gaussian", title: "Gaussian blur, 5 x 5", rows: outer(bell(5, 1), bell(5, 1)) },
  { name: "sharpen", title: "sharpen: the pixel less its Laplacian", rows: [[0, -1, 0], [-1, 5, -1], [0, -1, 0]] },
  { name: "sobel_x", title: "Sobel x: vertical edges", rows: outer([1, 2, 1], slope) },
  { name: "sobel_y", title: "Sobel y: horizontal edges", rows: outer(slope, [1, 2, 1]) },
  { name: "prewitt_x", title: "Prewitt x: vertical edges", rows: outer([1, 1, 1], slope) },
  { name: "prewitt_y", title: "Prewitt y: horizontal edges", rows: outer(slope, [1, 1, 1]) },
  { name: "scharr_x", title: "Scharr x: vertical edges", rows: outer([3, 10, 3], slope) },
  { name: "scharr_y", title: "Scharr y: horizontal edges", rows: outer(slope, [3, 10, 3]) },
  { name: "laplacian", title: "Laplacian: edges of every direction", rows: [[0, 1, 0], [1, -4, 1], [0, 1, 0]] },
  { name: "emboss", title: "emboss: light from the upper left", rows: [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]] },
];

const LINE_KERNELS = [
  { name: "identity", title: "identity: the signal itself", rows: [0, 1, 0] },
  { name: "box", title: "moving mean of three", rows: filled(3, 1 / 3) },
  { name: "gaussian", title: "Gaussian blur of five", rows: bell(5, 1) },
  { name: "difference", title: "central difference", rows: slope },
  { name: "second_difference", title: "second difference", rows: [1, -2, 1] },
  { name: "sharpen", title: "sharpen: the sample less its second difference", rows: [-1, 3, -1] },
];

/**
 * @param {number} rank 1 or 2
 * @returns {Kernel[]}
 */
export function kernelPresets(rank) {
  return rank === 1 ? LINE_KERNELS : PLANE_KERNELS;
}

/**
 * A named kernel as weights: every output channel has it on each of its inputs.
 * @param {Kernel} kernel
 * @param {number} outs output channels (for conv_transpose: input channels)
 * @param {number} perGroup the second axis of the weights
 * @returns {import("./tensors.js").Tensor}
 */
export function kernelWeights(kernel, outs, perGroup) {
  const taps = kernel.rows.flat(), { rows } = kernel;
  const sizes = Array.isArray(rows[0]) ? [rows.length, rows[0].length] : [taps.length];
  return tensor([outs, perGroup, ...sizes], filled(outs * perGroup, taps).flat());
}

// ------------------------------------------------------------------ pictures
/** The strokes of a 3, and how far a point lies from them; the plane is 0 to 1 both ways. */
const arc = (cy, cx, r, from, to) =>
  Array.from({ length: 17 }, (_, i) => {
    const angle = from + ((to - from) * i) / 16;
    return [cy + r * Math.sin(angle), cx + r * Math.cos(angle)];
  });
const THREE = [arc(0.32, 0.47, 0.19, -2.5, Math.PI / 2), arc(0.69, 0.47, 0.2, -Math.PI / 2, 2.5)].flat();
const fromStrokes = (y, x) => Math.min(...THREE.map(([b, a]) => Math.hypot(y - b, x - a)));

/** A number between 0 and 1 that looks random and is the same everywhere. */
function scattered(row, column) {
  let n = (row * 374761393 + column * 668265263 + 1013904223) | 0;
  for (const factor of [0x85ebca6b, 0xc2b2ae35]) n = Math.imul(n ^ (n >>> 15), factor);
  return ((n ^ (n >>> 16)) >>> 0) / 2 ** 32;
}

const clipped = (value) => Math.min(1, Math.max(0, value));

/**
 * How light the cell in row r and column c is, from 0 to 1; y and x are its middle, also from 0 to 1.
 * @type {{name: string, title: string, light: (cell: Record<string, number>) => number}[]}
 */
const PICTURES = [
  { name: "disc", title: "disc", light: ({ y, x, size }) => clipped(0.5 + (0.34 - Math.hypot(y - 0.5, x - 0.5)) * size * 0.7) },
  { name: "edge", title: "edge: dark, then light", light: ({ x }) => (x > 0.5 ? 1 : 0) },
  { name: "gradient", title: "gradient: darker to lighter", light: ({ c, columns }) => c / Math.max(1, columns - 1) },
  { name: "checkerboard", title: "checkerboard", light: ({ r, c }) => (r + c) % 2 },
  {
    name: "impulse",
    title: "impulse: one bright cell",
    light: ({ r, c, rows, columns }) => Number(r === rows >> 1 && c === columns >> 1),
  },
  { name: "digit", title: "digit", light: ({ y, x, size }) => clipped(0.5 + (0.075 - fromStrokes(y, x)) * size) },
  { name: "waves", title: "waves, finer to the right", light: ({ x }) => 0.5 + 0.5 * Math.sin(2 * Math.PI * x * (1 + x)) },
  { name: "noise", title: "noise", light: ({ r, c }) => scattered(r, c) },
];

/**
 * The named pictures, to choose from.
 * @type {{name: string, title: string}[]}
 */
export const INPUT_PRESETS = PICTURES.map(({ name, title }) => ({ name, title }));

/**
 * A named picture in whole numbers from 0 to 9, the same in every channel.
 * @param {string} name one of `INPUT_PRESETS`
 * @param {number[]} shape [C, ...in]; a line is the picture's middle row
 * @returns {import("./tensors.js").Tensor}
 */
export function inputPreset(name, shape) {
  const { light } = PICTURES.find((picture) => picture.name === name), x = tensor(shape);
  const columns = shape.at(-1), rows = shape.length === 3 ? shape[1] : 1, size = Math.max(rows, columns);
  for (let i = 0; i < x.data.length; i++) {
    const c = i % columns, r = Math.floor(i / columns) % rows;
    x.data[i] = Math.round(9 * light({ y: (r + 0.5) / rows, x: (c + 0.5) / columns, r, c, rows, columns, size }));
  }
  return x;
}

/** Rec. 601: how bright red, green and blue look. */
const LUMA = [0.299, 0.587, 0.114];

/**
 * A picture as an array of whole numbers from 0 to 255: its middle, cut to the shape wanted, every cell the mean of what
 * it covers. What is transparent lies on white.
 * @param {{width: number, height: number, data: ArrayLike<number>}} bitmap RGBA, as ImageData
 * @param {number[]} size [rows, columns]
 * @param {boolean} grey one channel instead of red, green, blue
 * @returns {import("./tensors.js").Tensor} [1 or 3, rows, columns]
 */
export function fromImage(bitmap, size, grey) {
  const [rows, columns] = size, { width, height, data } = bitmap;
  const cell = Math.min(height / rows, width / columns);  // pixels per cell, both ways
  const top = (height - rows * cell) / 2, left = (width - columns * cell) / 2;
  const x = tensor([grey ? 1 : 3, rows, columns]), plane = rows * columns;
  for (let r = 0; r < rows; r++) {
    const down = covers(top + r * cell, cell, height);
    for (let c = 0; c < columns; c++) {
      const across = covers(left + c * cell, cell, width), mean = [0, 0, 0];
      for (const [py, wy] of down) {
        for (const [px, wx] of across) {
          const at = (py * width + px) * 4, alpha = data[at + 3] / 255;
          for (let i = 0; i < 3; i++) mean[i] += wy * wx * (alpha * data[at + i] + (1 - alpha) * 255);
        }
      }
      if (grey) x.data[r * columns + c] = Math.round(mean.reduce((sum, value, i) => sum + LUMA[i] * value, 0));
      else mean.forEach((value, i) => (x.data[i * plane + r * columns + c] = Math.round(value)));
    }
  }
  return x;
}

/** The pixels under a stretch of `length` from `start`, and each one's share of it. */
function covers(start, length, pixels) {
  const found = [];
  for (let i = Math.floor(start); i < Math.min(pixels, start + length); i++) {
    const share = Math.min(i + 1, start + length) - Math.max(i, start);
    if (share > 1e-9) found.push([i, share / length]);
  }
  return found;
}
