/**
 * The matrices of fast convolution, derived from points in exact fractions (Winograd 1980; Lavin and Gray 2016).
 *
 * F(m, r) computes m neighbouring outputs of r taps with n = m + r - 1 products instead of m r:
 *
 *     y = A^T [ (G g) * (B^T d) ]
 *
 * Two polynomials are multiplied by evaluating both at n points, multiplying the values and interpolating; turned round
 * (transposed) this bilinear algorithm is the correlation. The points, and so the matrices, are those of npconv.
 */

/**
 * Fractions are pairs [numerator, denominator] of BigInt; this is the greatest common divisor of two.
 * @type {(a: bigint, b: bigint) => bigint}
 */
const divisor = (a, b) => {
  while (b) [a, b] = [b, a % b];
  return a < 0n ? -a : a;
};
/** @type {(n: bigint, d?: bigint) => bigint[]} */
const fraction = (n, d = 1n) => {
  const common = divisor(n, d) || 1n, sign = d < 0n ? -1n : 1n;
  return [(sign * n) / common, (sign * d) / common];
};
/** @type {(a: bigint[], b: bigint[]) => bigint[]} */
const times = (a, b) => fraction(a[0] * b[0], a[1] * b[1]);
/** @type {(a: bigint[], b: bigint[]) => bigint[]} */
const over = (a, b) => fraction(a[0] * b[1], a[1] * b[0]);
/** @type {(a: bigint[], b: bigint[]) => bigint[]} */
const minus = (a, b) => fraction(a[0] * b[1] - b[0] * a[1], a[1] * b[1]);
/** @type {(a: bigint[], k: bigint) => bigint[]} */
const power = (a, k) => fraction(a[0] ** k, a[1] ** k);
const asNumber = ([n, d]) => Number(n) / Number(d);

/** sqrt(2) to 26 digits: p / q with p^2 - 2 q^2 = +-1. */
function rootOfTwo() {
  let [p, q] = [1n, 1n];
  while (q < 10n ** 13n) [p, q] = [p + 2n * q, p + q];
  return [p, q];
}

const ROOT = rootOfTwo();
const ZERO = [0n, 1n];
const ONE = [1n, 1n];
const bothSigns = (...values) => values.flatMap(([n, d]) => [[n, d], [-n, d]]);
/** Finite points by their number, m + r - 2; why these, npconv's cook_toom.py says. */
const POINTS = {
  1: [ZERO],
  2: [ZERO, ONE],
  3: [ZERO, ...bothSigns(ONE)],
  4: bothSigns([1n, 2n], [3n, 2n]),
  5: [ZERO, ...bothSigns(over(ONE, ROOT), ROOT)],
  6: bothSigns([1n, 4n], [3n, 4n], [2n, 1n]),
  7: [ZERO, ...bothSigns(ONE, [2n, 1n], [1n, 2n])],
  8: bothSigns([1n, 4n], [3n, 4n], ONE, [2n, 1n]),
  9: [ZERO, ...bothSigns([1n, 2n], [3n, 4n], [5n, 4n], [5n, 2n])],
};
export const MOST_POINTS = 9;
const LARGEST_DENOMINATOR = 1n << 12n;

/** Coefficients of (x - roots[0]) (x - roots[1]) ..., the constant first. */
function fromRoots(roots) {
  return roots.reduce((polynomial, root) => {
    const shifted = [ZERO, ...polynomial], scaled = [...polynomial, ZERO];
    return shifted.map((a, i) => minus(a, times(root, scaled[i])));
  }, [ONE]);
}

/**
 * A row as the smallest integers there are, and what it was multiplied by; as it is where those are no exact floats.
 * @param {bigint[][]} row
 * @returns {[bigint[][], bigint[]]}
 */
function smallestIntegers(row) {
  const denominator = row.reduce((lcm, [, d]) => (lcm * d) / divisor(lcm, d), 1n);
  if (denominator > LARGEST_DENOMINATOR) return [row, ONE];
  const common = row.reduce((gcd, [n, d]) => divisor(gcd, (n * denominator) / d), 0n);
  const factor = fraction(denominator, common);
  return [row.map((value) => times(value, factor)), factor];
}

/**
 * @param {number} m outputs of a tile
 * @param {number} r taps, 2 or more
 * @returns {{AT: number[][], G: number[][], BT: number[][]}}
 */
export function winogradMatrices(m, r) {
  const points = POINTS[m + r - 2], AT = [], G = [], BT = [];
  points.forEach((point, i) => {
    const others = points.filter((_, k) => k !== i), [row, factor] = smallestIntegers([...fromRoots(others), ZERO]);
    const scale = others.reduce((product, other) => times(product, minus(point, other)), factor);
    AT.push(Array.from({ length: m }, (_, k) => power(point, BigInt(k))));
    G.push(Array.from({ length: r }, (_, k) => over(power(point, BigInt(k)), scale)));
    BT.push(row);
  });
  const [row, factor] = smallestIntegers(fromRoots(points));
  const last = (n) => Array.from({ length: n }, (_, k) => (k === n - 1 ? ONE : ZERO));
  AT.push(last(m));  // the point at infinity picks the leading coefficient
  G.push(last(r).map((value) => over(value, factor)));
  BT.push(row);
  const read = (rows) => rows.map((values) => values.map(asNumber));
  return { AT: read(AT[0].map((_, k) => AT.map((values) => values[k]))), G: read(G), BT: read(BT) };
}
