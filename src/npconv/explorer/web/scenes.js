// What one view shows: which tensors, whose cells are the steps, and for each step the products and the marks.
// A gather computes one cell of the result a step; a scatter spreads one cell of a source over the result.
import { links, terms } from "./arithmetic.js";
import { longNumber } from "./elements.js";
import { isPool, kernelOf } from "./shapes.js";
import { count, offset, unravel } from "./tensors.js";

const PANELS = {
  x: { title: "Input X", short: "X", tensor: "x", editable: true },
  w: { title: "Kernel W", short: "W", tensor: "w", editable: true },
  bias: { title: "Bias", short: "b", tensor: "bias", editable: true },
  y: { title: "Output Y", short: "Y", tensor: "y" },
  dy: { title: "Gradient dY", short: "dY", tensor: "y", editable: true },
  dx: { title: "Gradient dX", short: "dX", tensor: "x" },
  dw: { title: "Gradient dW", short: "dW", tensor: "w" },
  db: { title: "Gradient db", short: "db", tensor: "bias" },
};

/** The name of the result's panel for a view. */
export function resultName(view, target) {
  return view === "forward" ? "y" : { x: "dx", w: "dw", bias: "db" }[target];
}

/** What a problem without an output has to show: what goes in. */
export function givenPanels(problem) {
  const spatial = problem.x.shape.length - 1;
  return ["x", "w", "bias"]
    .filter((name) => problem[name])
    .map((name) => ({
      name,
      ...PANELS[name],
      editable: false,
      array: problem[name],
      ring: null,
      spatial: name === "bias" ? 0 : spatial,
    }));
}

/** Whether a view can be stepped by its source cells too. */
export function canScatter(problem, view, target) {
  return view === "forward" ? problem.operator === "conv_transpose" : target !== "bias";
}

/**
 * The scene of a view.
 * @param {Object} given {problem, view, target, way, dy, y, gradients, report}
 */
export function sceneOf(given) {
  const { problem, view, target, dy, report } = given;
  const way = canScatter(problem, view, target) ? given.way : "gather";
  const spatial = problem.x.shape.length - 1;
  const pool = isPool(problem);
  const arrays = {
    x: problem.x,
    w: problem.w,
    bias: problem.bias,
    y: given.y,
    dy,
    dx: given.gradients?.x,
    dw: given.gradients?.w,
    db: given.gradients?.bias,
  };
  const result = resultName(view, target);
  const shown = {
    y: pool ? ["x", "y"] : ["x", "w", "bias", "y"],
    dx: problem.operator === "max_pool" ? ["dy", "x", "dx"] : pool ? ["dy", "dx"] : ["dy", "w", "dx"],
    dw: ["x", "dy", "dw"],
    db: ["dy", "db"],
  }[result].filter((name) => arrays[name]);
  const source = view === "forward" ? "x" : "dy";
  const driver = way === "scatter" ? source : result;
  const steps = count(arrays[driver].shape);
  const ringed = (name) =>
    name === "x" && problem.operator !== "conv_transpose" && (view === "forward" || result === "dw");
  const ring = ring4(report.pads, spatial);

  const panelOf = (tensor) => {
    if (tensor === "dy") return "dy";
    if (tensor === "y") return view === "forward" ? "y" : "dy";
    return tensor;
  };
  const stepIndex = (step) => unravel(arrays[driver].shape, step);

  // ---------------------------------------------------------------- products of one cell
  const kernel = kernelOf(problem);
  const anchored = problem.operator !== "conv_transpose"; // a window of X belongs to a cell of Y

  function cellOf(cell) {
    return {
      panel: panelOf(cell.tensor),
      index: cell.index,
      value: Number(cell.value),
      padding: cell.where === "padding",
      place: null,
    };
  }

  /** Where the tap of a window stands: [plane, row, column] of X, in the ring too. */
  function windowPlace(out, tap, channel) {
    const at = tap.map((t, axis) => {
      const reach = problem.flip && !pool ? kernel[axis] - 1 - t : t;
      return out[axis] * problem.stride[axis] + reach * problem.dilation[axis] - report.pads[axis][0];
    });
    return spatial === 2 ? [channel, ...at] : [channel, 0, ...at];
  }

  /** The input channel that a weight multiplies. */
  const channelOf = (w) => Math.floor(w[0] / (problem.w.shape[0] / problem.groups)) * problem.w.shape[1] + w[1];

  /** The tap of a pool's window that reads a cell of X. */
  const tapOf = (out, x) =>
    x.map((at, axis) => (at + report.pads[axis][0] - out[axis] * problem.stride[axis]) / problem.dilation[axis]);

  /** A pool's terms know no taps: give each its place in the window, padding what is left. */
  function poolSpots(list, index) {
    const spots = list.map((cell) =>
      cell.index ? offset({ shape: kernel }, tapOf(index.slice(1), cell.index.slice(1))) : -1,
    );
    const free = Array.from({ length: count(kernel) }, (_, i) => i).filter((i) => !spots.includes(i));
    return list.map((cell, i) => {
      const spot = spots[i] < 0 ? (free.shift() ?? 0) : spots[i];
      cell.place = windowPlace(index.slice(1), unravel(kernel, spot), index[0]);
      return spot;
    });
  }

  /** One cell of the result: the terms of each group in the order of a small matrix, by tap or by output position. */
  function gathered(step) {
    const index = stepIndex(step);
    const what = PANELS[result].tensor;
    const found = terms(problem, what, index, view === "forward" ? undefined : dy);
    const byTap = what === "y" || (what === "x" && !pool);
    const shape = byTap ? kernel : what === "x" ? [found.groups[0].terms.length] : dy.shape.slice(1);
    let number = 0;
    const groups = found.groups.map((group) => {
      const pairs = group.terms.map((term) => [cellOf(term.a), term.b && cellOf(term.b)]);
      const pooled =
        pool && what === "y"
          ? poolSpots(
              pairs.map(([a]) => a),
              index,
            )
          : null;
      const list = pairs.map(([a, b], i) => {
        const key = byTap ? b : what === "x" ? null : [a, b].find((cell) => cell?.panel === "dy");
        const tail = key?.index?.slice(key.index.length - shape.length);
        if (!pool && anchored && what === "y") a.place = windowPlace(index.slice(1), tail, channelOf(b.index));
        if (!pool && anchored && what === "w")
          a.place = windowPlace(b.index.slice(1), index.slice(2), channelOf(index));
        return {
          a,
          b,
          product: group.terms[i].product,
          spot: pooled?.[i] ?? (tail ? offset({ shape }, tail) : i),
          number: number++,
        };
      });
      return { label: group.label, sum: group.sum, terms: list, ...matrixOf(shape) };
    });
    return {
      index,
      groups,
      bias: found.bias,
      total: found.total,
      chosen: found.chosen,
      divisor: found.divisor,
      operation: found.operation,
    };
  }

  function matrixOf(shape) {
    const columns = shape[shape.length - 1];
    return { rows: shape.length === 2 ? shape[0] : 1, columns };
  }

  /** What one source cell adds, and to which cells of the result. */
  function scattered(step) {
    const index = stepIndex(step);
    const value = Number(arrays[source].data[step]);
    const found = terms(problem, PANELS[source].tensor, index, source === "x" ? given.y : undefined);
    let number = 0;
    const groups = found.groups.map((group) => {
      const pairs = group.terms.map((term) => [cellOf(term.a), term.b && cellOf(term.b)]);
      const pooled = pool
        ? poolSpots(
            pairs.map(([a]) => a),
            index,
          )
        : null;
      const list = pairs.map(([a, b], i) => {
        const weight = [a, b].find((cell) => cell?.panel === "w");
        const goal =
          pool || result === "dx" ? a : result === "dw" ? weight : [a, b].find((cell) => cell.panel === "dy");
        if (!pool && anchored) a.place = windowPlace(index.slice(1), weight.index.slice(2), channelOf(weight.index));
        const factor = pool ? shareOf(found, i) : goal === weight ? a : weight;
        const product = pool && factor.value === 0 ? 0 : value * factor.value;
        const own = { panel: source, index, value, padding: false, place: null };
        return {
          a: own,
          b: factor,
          product,
          spot: pooled?.[i] ?? offset({ shape: kernel }, weight.index.slice(2)),
          number: number++,
          goal: goal.padding ? null : goal.index,
        };
      });
      return { label: group.label, sum: null, terms: list, ...matrixOf(kernel) };
    });
    return {
      index,
      groups,
      bias: null,
      total: value,
      chosen: found.chosen,
      divisor: found.divisor,
      operation: "times",
    };
  }

  /** The share of a pool's gradient that one cell of the window gets. */
  function shareOf(found, i) {
    const value = found.chosen === null ? 1 / found.divisor : Number(i === found.chosen);
    return { panel: null, index: null, value, padding: false, place: null };
  }

  const detail = (step) => (way === "scatter" ? scattered(step) : gathered(step));

  /** The result's cell as the first steps of a scatter have left it. */
  function partial(index, step) {
    const what = PANELS[result].tensor;
    const found = terms(problem, what, index, view === "forward" ? undefined : dy);
    let total = found.bias ?? 0;
    for (const group of found.groups)
      for (const term of group.terms)
        for (const cell of [term.a, term.b])
          if (cell?.index && panelOf(cell.tensor) === source && offset(arrays[source], cell.index) <= step)
            total += term.product;
    return total;
  }

  // ---------------------------------------------------------------- marks
  function marksOf(told) {
    const empty = () => Object.fromEntries(shown.map((name) => [name, []]));
    const [now, chosen] = [empty(), empty()];
    now[driver].push(told.index);
    for (const group of told.groups)
      for (const term of group.terms) {
        const routed = problem.operator !== "max_pool" || told.chosen === null || term.number === told.chosen;
        for (const cell of [term.a, term.b]) {
          const place = cell && (cell.place ?? cell.index);
          if (place && now[cell.panel] && cell.panel !== driver) now[cell.panel].push(place);
        }
        if (way === "scatter" && term.goal && routed) now[result].push(term.goal);
        if (problem.operator === "max_pool" && term.number === told.chosen)
          chosen.x.push(way === "scatter" ? term.goal : (term.a.place ?? term.a.index));
      }
    if (told.bias !== null && now.bias) now.bias.push([told.index[0]]);
    return { now, chosen };
  }

  /** The cells that meet one cell, panel by panel. */
  function linked(name, index) {
    const found = links(problem, PANELS[name].tensor, index);
    const marks = {};
    for (const other of shown)
      marks[other] = other === name ? [] : (found[PANELS[other].tensor] ?? []).map((at) => [...at]);
    return marks;
  }

  return {
    view,
    way,
    result,
    driver,
    source,
    steps,
    spatial,
    arrays,
    detail,
    partial,
    marksOf,
    linked,
    stepIndex,
    stepOf: (index) => offset(arrays[driver], index),
    panels: shown.map((name) => ({
      name,
      ...PANELS[name],
      array: arrays[name],
      ring: ringed(name) ? ring : null,
      spatial: name === "bias" || name === "db" ? 0 : spatial,
    })),
    sentence: (step, told) => sentenceOf({ problem, view, way, result, source, spatial }, told),
  };
}

function ring4(pads, spatial) {
  const at = (axis, side) => Math.max(0, pads[axis]?.[side] ?? 0);
  return spatial === 2 ? [at(0, 0), at(1, 0), at(0, 1), at(1, 1)] : [0, at(0, 0), 0, at(0, 1)];
}

// ------------------------------------------------------------------ in words
/** Where a cell stands, in words. */
function placeWords(index, spatial, lead = ["channel"]) {
  const heads = index.slice(0, index.length - spatial);
  const tail = index.slice(index.length - spatial);
  const words = heads.map((at, axis) => `${lead[axis] ?? "part"} ${at}`);
  if (spatial === 2) words.push(`row ${tail[0]}`, `column ${tail[1]}`);
  else if (spatial === 1) words.push(`position ${tail[0]}`);
  return words.join(", ");
}

const NAMES = { y: "Output", dx: "Gradient dX", dw: "Gradient dW", db: "Gradient db", dy: "Gradient dY", x: "Input" };

function sentenceOf({ problem, view, way, result, source, spatial }, told) {
  const lead = result === "dw" && way === "gather" ? ["output channel", "input channel"] : ["channel"];
  const name = way === "scatter" ? NAMES[source] : NAMES[result];
  const where = `${name} ${placeWords(told.index, result === "db" ? 0 : spatial, lead)}`;
  const all = told.groups.flatMap((group) => group.terms);
  const total = longNumber(told.total);
  const said = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;
  if (way === "scatter") {
    const goals = all.filter((term) => term.goal && (told.chosen === null || term.number === told.chosen));
    return `${where}: ${longNumber(told.total)} is spread over ${said(goals.length, "cell")} of ${NAMES[result]}.`;
  }
  if (problem.operator === "max_pool" && view === "forward")
    return `${where}: the largest of ${said(all.length, "value")} is ${longNumber(told.total)}.`;
  if (told.divisor)
    return `${where}: ${said(all.length, "value")}, sum ${longNumber(told.groups[0].sum)}, divided by ${told.divisor}, result ${total}.`;
  if (told.operation === "none" || result === "db")
    return `${where}: ${said(all.length, "gradient")}, sum ${longNumber(told.total)}.`;
  const what = told.operation === "over" ? "share" : "product";
  if (told.bias === null) return `${where}: ${said(all.length, what)}, sum ${longNumber(told.total)}.`;
  const sum = told.groups.reduce((total, group) => total + group.sum, 0);
  return `${where}: ${said(all.length, what)}, sum ${longNumber(sum)}, bias ${longNumber(told.bias)}, result ${total}.`;
}
