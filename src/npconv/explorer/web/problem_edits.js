// What the controls do to a problem: every function returns a new one and leaves the old as it was.
import { inputPreset } from "./presets.js";
import { isPool, kernelOf, outChannels } from "./shapes.js";
import { count, tensor } from "./tensors.js";

/** The same numbers in another shape: what overlaps stays, the rest comes from `fill(index)`. */
export function reshaped(array, shape, fill = () => 0) {
  const made = tensor(shape);
  const index = shape.map(() => 0);
  for (let flat = 0; flat < made.data.length; flat++) {
    let old = 0;
    const kept = index.every((at, axis) => {
      old = old * array.shape[axis] + at;
      return at < array.shape[axis];
    });
    made.data[flat] = kept ? Number(array.data[old]) : fill(index);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index[axis] += 1;
      if (index[axis] < shape[axis]) break;
      index[axis] = 0;
    }
  }
  return made;
}

/** Planes made out of a first one, all different: mirrored this way and that, and negated from the fifth on. */
function variedPlanes(plane, rows, columns, planes, mayNegate) {
  const size = rows * columns;
  const data = new Float64Array(planes * size);
  for (let n = 0; n < planes; n++)
    for (let row = 0; row < rows; row++)
      for (let column = 0; column < columns; column++) {
        const [from, at] = [n & 2 ? rows - 1 - row : row, n & 1 ? columns - 1 - column : column];
        data[n * size + row * columns + column] = plane[from * columns + at] * (mayNegate && n & 4 ? -1 : 1);
      }
  return data;
}

const flatPlane = (shape) => (shape.length === 2 ? shape : [1, shape[0]]);

/** An input of this many channels out of one plane. */
function channelled(plane, spatial, channels) {
  return tensor([channels, ...spatial], variedPlanes(plane, ...flatPlane(spatial), channels, false));
}

/** A preset picture in this shape; further channels are the picture mirrored. */
export function presetInput(name, shape) {
  return channelled(inputPreset(name, [1, ...shape.slice(1)]).data, shape.slice(1), shape[0]);
}

/** Kernels of this shape ([O, C/G, ...k] or [C, O/G, ...k]) out of one plane. */
export function kernels(plane, shape) {
  return tensor(shape, variedPlanes(plane, ...flatPlane(shape.slice(2)), shape[0] * shape[1], true));
}

const firstPlane = (array, lead) => Array.from(array.data.slice(0, count(array.shape.slice(lead))), Number);

/** How many input and output channels the weights of a problem connect. */
export function channelsOf(problem) {
  return { inputs: problem.x.shape[0], outputs: isPool(problem) ? problem.x.shape[0] : outChannels(problem) };
}

/** The numbers of groups that divide both counts of channels: from standard to, where they are equal, depthwise. */
export function possibleGroups(inputs, outputs) {
  return Array.from({ length: Math.min(inputs, outputs) }, (_, i) => i + 1).filter(
    (groups) => inputs % groups === 0 && outputs % groups === 0,
  );
}

function weightShape(problem, inputs, outputs, groups) {
  const tail = kernelOf(problem);
  return problem.operator === "conv_transpose"
    ? [inputs, outputs / groups, ...tail]
    : [outputs, inputs / groups, ...tail];
}

/** Other counts of channels and groups; groups that no longer divide fall to the largest that does. */
export function withChannels(problem, { inputs, outputs, groups = problem.groups }) {
  const spatial = problem.x.shape.slice(1);
  const x = inputs === problem.x.shape[0] ? problem.x : reshapedChannels(problem.x, spatial, inputs);
  if (isPool(problem)) return { ...problem, x };
  const fitting =
    possibleGroups(inputs, outputs)
      .filter((each) => each <= groups)
      .at(-1) ?? 1;
  const shape = weightShape(problem, inputs, outputs, fitting);
  const varied = kernels(firstPlane(problem.w, 2), shape);
  const kept = problem.groups === fitting && problem.operator !== "conv_transpose";
  const w =
    String(shape) === String(problem.w.shape)
      ? problem.w
      : kept
        ? reshaped(problem.w, shape, (index) => varied.data[flatOf(shape, index)])
        : varied;
  const bias = problem.bias && reshaped(problem.bias, [outputs], ([channel]) => (channel % 3) - 1);
  return { ...problem, x, w, bias, groups: fitting };
}

const flatOf = (shape, index) => index.reduce((flat, at, axis) => flat * shape[axis] + at, 0);

function reshapedChannels(x, spatial, inputs) {
  const varied = channelled(firstPlane(x, 1), spatial, inputs);
  const shape = [inputs, ...spatial];
  return reshaped(x, shape, (index) => varied.data[flatOf(shape, index)]);
}

/** Another kernel size; new taps hold zero. */
export function withKernelSize(problem, size) {
  if (isPool(problem)) return { ...problem, kernel: [...size] };
  return { ...problem, w: reshaped(problem.w, [...problem.w.shape.slice(0, 2), ...size]) };
}

/** A bias of small distinct numbers, or none. */
export function withBiasSet(problem, wanted) {
  const outputs = outChannels(problem);
  return {
    ...problem,
    bias: wanted
      ? tensor(
          [outputs],
          Array.from({ length: outputs }, (_, o) => [1, -2, 3, -1][o % 4]),
        )
      : null,
  };
}

/**
 * Another operator over the same input. `spare` is the last problem with weights, whose kernel comes back after a pool.
 */
export function withOperator(problem, operator, spare) {
  const rank = problem.x.shape.length - 1;
  const { inputs } = channelsOf(problem);
  const common = {
    ...problem,
    operator,
    paddingMode: operator === "conv" ? problem.paddingMode : "zeros",
    paddingValue: operator === "conv" ? problem.paddingValue : 0,
  };
  if (operator.endsWith("pool")) {
    if (isPool(problem)) return common;
    return {
      ...common,
      w: null,
      bias: null,
      groups: 1,
      kernel: Array(rank).fill(2),
      stride: Array(rank).fill(2),
      dilation: Array(rank).fill(1),
      padding: "valid",
    };
  }
  if (!isPool(problem)) {
    const { outputs } = channelsOf(problem);
    const shape = weightShape(common, inputs, outputs, problem.groups);
    return { ...common, w: kernels(firstPlane(problem.w, 2), shape) };
  }
  const usable = spare?.w && spare.w.shape.length === rank + 2;
  const plane = usable ? firstPlane(spare.w, 2) : [-1, 0, 1, -2, 0, 2, -1, 0, 1].slice(0, 3 ** rank);
  const tail = usable ? spare.w.shape.slice(2) : Array(rank).fill(3);
  return {
    ...common,
    kernel: undefined,
    w: kernels(plane, [inputs, inputs, ...tail]),
    bias: null,
    stride: Array(rank).fill(1),
    dilation: Array(rank).fill(1),
    groups: 1,
    padding: "valid",
  };
}

/** The same in one spatial axis (the middle row of everything) or in two (rows that repeat). */
export function withRank(problem, rank) {
  const now = problem.x.shape.length - 1;
  if (rank === now) return problem;
  const cut = (array, lead) => {
    const [rows, columns] = array.shape.slice(lead);
    const planes = count(array.shape.slice(0, lead));
    const data = Array.from({ length: planes * columns }, (_, i) =>
      Number(array.data[(Math.floor(i / columns) * rows + Math.floor(rows / 2)) * columns + (i % columns)]),
    );
    return tensor([...array.shape.slice(0, lead), columns], data);
  };
  const stack = (array, lead, rows) => {
    const columns = array.shape[lead];
    const data = Array.from({ length: count(array.shape) * rows }, (_, i) =>
      Number(array.data[Math.floor(i / (rows * columns)) * columns + (i % columns)]),
    );
    return tensor([...array.shape.slice(0, lead), rows, columns], data);
  };
  const axes = (values) => (values ? (rank === 1 ? [values.at(-1)] : [values[0], values[0]]) : values);
  const padding = Array.isArray(problem.padding) ? axes(problem.padding) : problem.padding;
  const side = problem.x.shape.at(-1);
  return {
    ...problem,
    x: rank === 1 ? cut(problem.x, 1) : stack(problem.x, 1, side),
    w: problem.w && (rank === 1 ? cut(problem.w, 2) : stack(problem.w, 2, problem.w.shape.at(-1))),
    kernel: axes(problem.kernel),
    stride: axes(problem.stride),
    dilation: axes(problem.dilation),
    outputPadding: axes(problem.outputPadding),
    padding,
  };
}

/** One cell changed: of x, w or bias. */
export function withCell(problem, name, flat, value) {
  const data = Float64Array.from(problem[name].data, Number);
  data[flat] = value;
  return { ...problem, [name]: { shape: [...problem[name].shape], data } };
}
