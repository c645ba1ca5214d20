// Runs the explorer's modules over tasks that a test wrote: node explorer_vectors.mjs FOLDER TASKS RESULTS
// FOLDER holds the modules (and a package.json that calls them modules).
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, tasksFile, resultsFile] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(`${folder}/${name}.js`).href);
const { indices, numbers, offset, tensor, unravel } = await load("tensors");
const { sizes } = await load("shapes");
const { forwardFull, gradients, links, numericCheck, terms } = await load("arithmetic");
const { cellFormula, codeLines } = await load("formulas");
const { algorithms } = await load("algorithms");
const { winogradMatrices } = await load("cooktoom");
const { colour, gifOf } = await load("pictures");
const { INPUT_PRESETS, fromImage, inputPreset, kernelPresets, kernelWeights } = await load("presets");

const plain = (array) => array && { shape: array.shape, data: [...array.data] };
const same = (a, b) => a === b || (Number.isNaN(a) && Number.isNaN(b));

/** Forward and gradients of one problem. */
function passes({ problem, dy }) {
  const size = sizes(problem);
  const found = { valid: size.valid, reasons: size.reasons, equations: size.equations, out: size.out };
  if (!size.valid) return found;
  const { y, argmax } = forwardFull(problem);
  found.y = plain(y);
  if (argmax) found.argmax = { shape: y.shape, data: [...argmax] };
  if (dy) {
    const grads = gradients(problem, tensor(dy.shape, dy.data));
    for (const name of ["x", "w", "bias"]) found[name] = plain(grads[name]);
  }
  return found;
}

/** Every cell of every tensor taken apart: what does not add up, is not linked, or is linked one way only. */
function cells({ problem, dy }) {
  const wrong = [], y = forwardFull(problem).y, g = tensor(dy.shape, dy.data), grads = gradients(problem, g);
  const tensors = { x: problem.x, y, w: grads.w && problem.w, bias: problem.bias };
  const seen = new Set();
  let checked = 0, sloped = 0, noted = 0, gap = 0;
  for (const [name, array] of Object.entries(tensors)) {
    if (!array) continue;
    for (const index of indices(array.shape)) {
      checked++;
      const at = offset(array, index), parts = terms(problem, name, index, name === "y" ? undefined : g);
      const cell = (name === "y" ? y : grads[name]).data[at];
      if (!same(parts.total, cell)) wrong.push(`terms of ${name}[${index}]: ${parts.total}, the cell is ${cell}`);
      const added = parts.chosen !== null
        ? parts.groups[0].terms[parts.chosen].product
        : parts.groups.map((group) => group.terms.reduce((sum, term) => sum + term.product, 0))
          .reduce((sum, part) => sum + part, 0) / (parts.divisor ?? 1) + (parts.bias ?? 0);
      if (!same(added, cell)) wrong.push(`products of ${name}[${index}] add up to ${added}, the cell is ${cell}`);
      for (const factor of parts.groups.flatMap((group) => group.terms.flatMap(({ a, b }) => [a, b]))) {
        if (!factor?.index) continue;
        const source = { x: problem.x, w: problem.w, dy: g }[factor.tensor];
        const value = numbers(source.data)[offset(source, factor.index)];
        if (!same(value, factor.value)) wrong.push(`${factor.tensor}[${factor.index}] is ${value}, the term says ${factor.value}`);
      }
      const meets = links(problem, name, index);
      if (meets[name].length) wrong.push(`${name}[${index}] is linked to its own tensor`);
      for (const [other, list] of Object.entries(meets)) {
        if (new Set(list.map(String)).size !== list.length) wrong.push(`${name}[${index}] links ${other} twice`);
        for (const cellIndex of list) seen.add(`${name} ${index} > ${other} ${cellIndex}`);
      }
      if (name === "y") {  // all that the terms read, and nothing else
        for (const [other, part] of [["x", "a"], ["w", "b"]]) {
          const read = new Set(parts.groups.flatMap((group) => group.terms.map((term) => term[part]?.index)).filter(Boolean).map(String));
          const linked = new Set(meets[other].map(String));
          if (read.size !== linked.size || [...read].some((cellIndex) => !linked.has(cellIndex))) {
            wrong.push(`y[${index}] reads ${[...read].join(" ")} of ${other}, is linked to ${[...linked].join(" ")}`);
          }
        }
      } else {
        const check = numericCheck(problem, g, name, index);
        const scale = Math.max(1, Math.abs(check.analytic)), far = Math.abs(check.difference) / scale;
        if (check.analytic !== cell) wrong.push(`numericCheck of ${name}[${index}]: ${check.analytic}, the cell is ${cell}`);
        if (check.note) noted++;
        else {
          sloped++;
          gap = Math.max(gap, far);
          if (!(far < 1e-8)) wrong.push(`the slope at ${name}[${index}] is ${check.numeric}, the gradient ${cell}`);
        }
      }
    }
  }
  for (const link of seen) {
    const [from, to] = link.split(" > ");
    if (!seen.has(`${to} > ${from}`)) wrong.push(`${link}, but not back`);
  }
  return { wrong: wrong.slice(0, 5), checked, links: seen.size, sloped, noted, gap };
}

/** The lines of code and the formula of one cell, for everything a problem computes. */
function words({ problem, dy, cell }) {
  const g = dy ? tensor(dy.shape, dy.data) : undefined, found = {};
  for (const [what, index] of Object.entries(cell)) {
    const formula = what === "y" || g ? cellFormula(problem, what, index, g) : "";
    found[what] = { ...codeLines(problem, what, g), formula };
  }
  return found;
}

/** Every algorithm of a problem: its result and counts, and whether its steps lead there. */
function ways({ problem }) {
  const wrong = [], x = problem.x, w = problem.w, y = forwardFull(problem).y;
  const within = (shape, index) => index.length === shape.length && index.every((i, axis) => i >= 0 && i < shape[axis]);
  const found = algorithms(problem).map((way) => {
    const { name, title, whyNot, multiplications, bytes, workspace, steps, result } = way, written = new Set(), read = new Set();
    let last = null;
    for (let i = 0; i < steps; i++) {
      const step = way.step(i), { reads, writes, matrices } = step;
      if (!reads.x.every((index) => within(x.shape, index)) || !reads.w.every((index) => within(w.shape, index))) wrong.push(`${name} ${i} reads outside`);
      if (!writes.every((index) => within(y.shape, index))) wrong.push(`${name} ${i} writes outside`);
      if (!step.text || !matrices.length) wrong.push(`${name} ${i} shows nothing`);
      for (const { title: heading, rows, highlight } of matrices) {
        if (!heading || !rows.length || !rows.every((row) => row.length === rows[0].length)) wrong.push(`${name} ${i}: ${heading} is no matrix`);
        if (!highlight.every(([r, c]) => r < rows.length && c < rows[0].length)) wrong.push(`${name} ${i}: ${heading} is marked outside`);
      }
      // an output that is written may change, any other keeps what it has
      const places = new Set(writes.map((index) => offset(y, index)));
      for (let at = 0; last && at < y.data.length; at++) {
        if (!places.has(at) && !same(step.y.data[at], last.data[at])) wrong.push(`${name} ${i} changes an output it does not write`);
      }
      for (const index of writes) written.add(String(index));
      // what no step has written holds nothing yet
      for (let at = 0; at < y.data.length; at++) {
        const early = step.y.data[at] !== 0 && step.y.data[at] !== -Infinity && !written.has(String(unravel(y.shape, at)));
        if (early) wrong.push(`${name} ${i} has an output before it is written`);
      }
      for (const index of reads.x) read.add(String(index));
      last = step.y;
    }
    if (steps && !last.data.every((value, at) => same(value, result.data[at]))) wrong.push(`the last step of ${name} is not its result`);
    const again = steps > 1 ? way.step(0) : null;  // going back
    if (again && JSON.stringify(again) !== JSON.stringify(algorithms(problem).find((other) => other.name === name).step(0))) wrong.push(`${name} cannot go back`);
    return { name, title, whyNot, multiplications, bytes, workspace, steps, result: plain(result), written: written.size, read: read.size };
  });
  return { wrong: wrong.slice(0, 5), ways: found };
}

const matrices = ({ m, r }) => winogradMatrices(m, r);
const colours = ({ values, limit, dark }) => values.map((value) => colour(value, limit, dark));
const gif = ({ frames, delays }) => ({ bytes: Buffer.from(gifOf(frames, delays)).toString("base64") });
const image = ({ bitmap, size, grey }) => plain(fromImage(bitmap, size, grey));
const presets = ({ shapes }) => ({
  kernels: [1, 2].map((rank) => kernelPresets(rank).map((kernel) => ({ ...kernel, weights: plain(kernelWeights(kernel, 2, 3)) }))),
  inputs: Object.fromEntries(INPUT_PRESETS.map(({ name }) => [name, shapes.map((shape) => plain(inputPreset(name, shape)))])),
});

const kinds = { passes, cells, words, ways, matrices, colours, gif, image, presets };
const spelled = (key, value) =>
  typeof value === "number" && !Number.isFinite(value) ? String(value).toLowerCase().replace("infinity", "inf") : value;
const tasks = JSON.parse(readFileSync(tasksFile, "utf8"));
const results = tasks.map((task) => {
  try {
    return kinds[task.kind](task);
  } catch (error) {
    return { thrown: error.stack };
  }
});
writeFileSync(resultsFile, JSON.stringify(results, spelled));
