import {
  biasStep, countTo, finished, firstInput, many, matrixOf, once, outputCells, paddedBytes, planeMatrix, sourceCells, weightIndex,
} from "./setting.js";
import { infinite } from "./winograd.js";

/** Fourier's way: transform input and kernel, multiply the spectra, transform back. One block over the whole input. */

/** Why not, in npconv's words, or null. */
function unread(s) {
  const gcd = (a, b) => (b ? gcd(b, a % b) : a);
  for (let i = 2 - s.rank; i < 2; i++) {
    const k = s.kernel[i], step = s.stride[i], d = s.dilation[i], reach = (s.out[i] - 1) * step + 1;
    if (gcd(step, d) > 1 || step > k || reach < d) {
      return `reads every input, kernel ${k} at stride ${step} and dilation ${d} skips some`;
    }
  }
  return infinite(s);
}

/** The smallest power of two that is at least n. */
const powerOfTwo = (n) => 2 ** Math.ceil(Math.log2(Math.max(1, n)));

/**
 * Cooley and Tukey's transform of lines of a power of two numbers, in place; `sign` +1 goes back.
 * @param {Float64Array} re @param {Float64Array} im @param {number} start @param {number} n @param {number} step
 */
function transformLine(re, im, start, n, step, sign) {
  for (let i = 1, j = 0; i < n; i++) {  // bit-reversed order
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i >= j) continue;
    const [a, b] = [start + i * step, start + j * step];
    [re[a], re[b], im[a], im[b]] = [re[b], re[a], im[b], im[a]];
  }
  for (let half = 1; half < n; half *= 2) {
    for (let k = 0; k < half; k++) {
      const angle = (sign * Math.PI * k) / half, c = Math.cos(angle), s = Math.sin(angle);
      for (let i = k; i < n; i += 2 * half) {
        const a = start + i * step, b = a + half * step;
        const x = c * re[b] - s * im[b], y = c * im[b] + s * re[b];
        [re[b], im[b]] = [re[a] - x, im[a] - y];
        re[a] += x;
        im[a] += y;
      }
    }
  }
}

function transformPlane(spectrum, [rows, columns], sign) {
  const { re, im } = spectrum;
  for (let r = 0; r < rows; r++) transformLine(re, im, r * columns, columns, 1, sign);
  for (let c = 0; c < columns; c++) transformLine(re, im, c, rows, columns, sign);
  return spectrum;
}

/** @param {import("./setting.js").Setting} s */
export function fourier(s) {
  const why = unread(s);
  if (why) return why;
  const lengths = s.size.map(powerOfTwo), L = lengths[0] * lengths[1], pairs = s.O * s.perIn, transforms = s.C + pairs + s.O;
  const data = once(() => spectra(s, lengths)), sums = once(() => readBack(s, lengths, data().products));
  const stages = [s.C, pairs, s.O, s.O], points = lengths.slice(2 - s.rank).join(" x ");
  return {
    multiplications: [
      [`${many(transforms, "transform")} of ${points} x ${2 * Math.log2(L)}`, transforms * 2 * L * Math.log2(L)],
      [`${many(pairs, "product")} of spectra x 4`, pairs * 4 * L],
    ],
    bytes: [
      ...paddedBytes(s),
      ["spectra of inputs and kernels, written and read", 32 * L * (s.C + pairs)],
      ["products written, read, and written back", 48 * L * s.O],
    ],
    workspace: 8 * s.copied + 16 * L * transforms,
    steps: s.C + pairs + 2 * s.O + (s.bias ? 1 : 0),
    step: (i) => {
      let left = i;
      for (const [stage, n] of stages.entries()) {
        if (left < n) return STAGES[stage](s, lengths, data(), left, sums);
        left -= n;
      }
      return biasStep(s, sums());
    },
    compute: () => finished(s, sums()),
  };
}

function spectra(s, lengths) {
  const L = lengths[0] * lengths[1], plane = s.size[0] * s.size[1];
  const empty = () => ({ re: new Float64Array(L), im: new Float64Array(L) });
  const inputs = countTo(s.C).map((c) => {
    const spectrum = empty();
    for (let at = 0; at < plane; at++) {
      spectrum.re[Math.floor(at / s.size[1]) * lengths[1] + (at % s.size[1])] = s.padded[c * plane + at];
    }
    return transformPlane(spectrum, lengths, -1);
  });
  const kernels = countTo(s.O * s.perIn).map((pair) => {
    const spectrum = empty();
    for (let t = 0; t < s.K; t++) {
      const row = Math.floor(t / s.kernel[1]) * s.dilation[0], column = (t % s.kernel[1]) * s.dilation[1];
      spectrum.re[row * lengths[1] + column] = s.weights[pair * s.K + t];
    }
    return transformPlane(spectrum, lengths, -1);
  });
  const products = countTo(s.O).map((o) => {
    const sum = empty();
    for (let j = 0; j < s.perIn; j++) {
      const x = inputs[firstInput(s, o) + j], w = kernels[o * s.perIn + j];
      for (let f = 0; f < L; f++) {  // the conjugate of w: correlation instead of convolution
        sum.re[f] += x.re[f] * w.re[f] + x.im[f] * w.im[f];
        sum.im[f] += x.im[f] * w.re[f] - x.re[f] * w.im[f];
      }
    }
    return sum;
  });
  const back = ({ re, im }) => transformPlane({ re: re.slice(), im: im.slice() }, lengths, 1).re.map((value) => value / L);
  return { inputs, kernels, products: products.map(back), spectraOfProducts: products };
}

/** The outputs, read off at every stride-th place; what wrapped around lies beyond them. */
function readBack(s, lengths, planes) {
  const sums = new Float64Array(s.O * s.N);
  for (let o = 0; o < s.O; o++) for (let p = 0; p < s.N; p++) sums[o * s.N + p] = planes[o][backPlace(s, lengths, p)];
  return sums;
}

const backPlace = (s, lengths, p) =>
  Math.floor(p / s.out[1]) * s.stride[0] * lengths[1] + (p % s.out[1]) * s.stride[1];

// ------------------------------------------------------------------ steps
const magnitudes = (title, lengths, { re, im }) =>
  matrixOf(title, lengths, (r, c) => Math.hypot(re[r * lengths[1] + c], im[r * lengths[1] + c]));
const nothing = (s) => ({ shape: s.outShape, data: new Float64Array(s.O * s.N) });
const everywhere = (s) => countTo(s.size[0] * s.size[1]);

function inputStep(s, lengths, { inputs }, c) {
  return {
    text: `Channel ${c} of the input, filled up with zeros to ${lengths.slice(2 - s.rank).join(" x ")}, is transformed.`,
    reads: { x: sourceCells(s, c, everywhere(s)), w: [] },
    writes: [],
    note: "The spectrum says how much of every frequency there is; at [0, 0] stands the sum of all numbers.",
    matrices: [
      planeMatrix(`input, channel ${c}`, s.size, s.padded, c * s.size[0] * s.size[1]),
      magnitudes("magnitudes of its spectrum", lengths, inputs[c]),
    ],
    y: nothing(s),
  };
}

function kernelSpectrumStep(s, lengths, { kernels }, pair) {
  const o = Math.floor(pair / s.perIn), j = pair % s.perIn;
  return {
    text: `The kernel from input ${firstInput(s, o) + j} to output ${o}, filled up with zeros to the same size, is transformed.`,
    reads: { x: [], w: countTo(s.K).map((t) => weightIndex(s, o, j, t)) },
    writes: [],
    note: "However large the kernel, its spectrum has the size of the input's: that is why the cost hardly grows with it.",
    matrices: [
      planeMatrix("kernel", s.kernel, s.weights, pair * s.K),
      magnitudes("magnitudes of its spectrum", lengths, kernels[pair]),
    ],
    y: nothing(s),
  };
}

function spectrumProductStep(s, lengths, { inputs, kernels, spectraOfProducts }, o) {
  return {
    text: `Multiply the spectra, frequency by frequency${s.perIn > 1 ? ", and add the channels" : ""}: output channel ${o}.`,
    reads: { x: [], w: [] },
    writes: [],
    note: "The kernel's spectrum is conjugated: that slides the kernel without turning it round.",
    matrices: [
      magnitudes("input", lengths, inputs[firstInput(s, o)]),
      magnitudes("kernel", lengths, kernels[o * s.perIn]),
      magnitudes("product", lengths, spectraOfProducts[o]),
    ],
    y: nothing(s),
  };
}

function inverseStep(s, lengths, { products, spectraOfProducts }, o, sums) {
  const marks = countTo(s.N).map((p) => backPlace(s, lengths, p)).map((at) => [Math.floor(at / lengths[1]), at % lengths[1]]);
  return {
    text: `Transform back and read the outputs of channel ${o} off${s.stride.some((n) => n > 1) ? ", every stride-th" : ""}.`,
    reads: { x: [], w: [] },
    writes: outputCells(s, o),
    note: "Beyond the outputs the kernel wrapped around the end of the input: those sums are dropped.",
    matrices: [
      magnitudes("magnitudes of the product", lengths, spectraOfProducts[o]),
      planeMatrix("transformed back", lengths, products[o], 0, marks),
      planeMatrix(`output channel ${o}`, s.out, sums(), o * s.N),
    ],
    y: { shape: s.outShape, data: sums().slice().fill(0, (o + 1) * s.N) },
  };
}

const STAGES = [inputStep, kernelSpectrumStep, spectrumProductStep, inverseStep];
