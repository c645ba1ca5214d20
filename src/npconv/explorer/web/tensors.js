/**
 * Arrays of numbers with a shape: what every other file computes with.
 *
 * @typedef {{shape: number[], data: Float64Array}} Tensor row-major, as NumPy's default
 */

const SPELLED = { nan: NaN, inf: Infinity, "-inf": -Infinity };

/**
 * Numbers as they travel in JSON, where those that are not finite are the words "nan", "inf" and "-inf".
 * @param {ArrayLike<number|string>} data
 * @returns {Float64Array}
 */
export function numbers(data) {
  if (data instanceof Float64Array) return data;
  return Float64Array.from(data, (value) => (typeof value === "string" ? SPELLED[value] ?? NaN : value));
}

/**
 * @param {number[]} shape
 * @returns {number} how many elements an array of this shape has
 */
export function count(shape) {
  return shape.reduce((product, n) => product * n, 1);
}

/**
 * @param {number[]} shape
 * @param {ArrayLike<number|string>} [data] row-major; zeros where it is left out
 * @returns {Tensor}
 */
export function tensor(shape, data) {
  const values = data === undefined ? new Float64Array(count(shape)) : numbers(data);
  if (values.length !== count(shape)) {
    throw new Error(`an array of shape (${shape.join(", ")}) has ${count(shape)} numbers, got ${values.length}`);
  }
  return { shape: [...shape], data: values };
}

/**
 * @param {{shape: number[]}} t
 * @param {number[]} index
 * @returns {number} where `index` stands in the data
 */
export function offset(t, index) {
  let at = 0;
  for (let axis = 0; axis < t.shape.length; axis++) at = at * t.shape[axis] + index[axis];
  return at;
}

/**
 * @param {number[]} shape
 * @param {number} at a place in the data
 * @returns {number[]} the index that stands there
 */
export function unravel(shape, at) {
  const index = new Array(shape.length);
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    index[axis] = at % shape[axis];
    at = Math.floor(at / shape[axis]);
  }
  return index;
}

/**
 * @param {Tensor} t
 * @param {number[]} index
 * @returns {number}
 */
export function get(t, index) {
  return t.data[offset(t, index)];
}

/**
 * All indices of a shape, the last axis fastest.
 * @param {number[]} shape
 * @returns {Generator<number[]>}
 */
export function* indices(shape) {
  const total = count(shape);
  for (let at = 0; at < total; at++) yield unravel(shape, at);
}
