"""The matrices of fast (Winograd, Cook-Toom) convolution, derived from points in exact fractions.

F(m, r) computes m neighbouring outputs of an r-tap correlation with n = m + r - 1 products instead of m r:

    y = A^T [ (G g) * (B^T d) ]          y_i = sum_j d_(i+j) g_j          A^T (m, n)   G (n, r)   B^T (n, n)

Where they come from. Two polynomials of r and m coefficients are multiplied by evaluating both at n
points, multiplying the values and interpolating: coefficients = V_n^-1 [ (V_r g) * (V_m u) ], with V_k
the n x k matrix of powers of the points (the point at infinity picks the leading coefficient).
Transposing this bilinear algorithm turns the product into the correlation above: A^T = V_m^T, G = V_r,
B^T = V_n^-T. A row of B^T may be multiplied by a number if the same row of G is divided by it: here B^T
gets the smallest integers there are, so that the data transform rounds nothing but its own sums, and G
keeps the fractions. (Measured on F(4, 3) and F(6, 3), other scalings change the rms float32 error by
less than 1 %; the points double it or halve it.)

Any distinct points give an exact algorithm: they decide only how much rounding errors grow.  See S. Winograd,
"Arithmetic Complexity of Computations", SIAM 1980; A. Lavin and S. Gray, arXiv:1509.09308; on the choice of
points, B. Barabasz et al., arXiv:1803.10986.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from math import gcd, lcm

import numpy as np

Row = tuple[Fraction, ...]

# A row of B^T becomes integers only if its common denominator is at most this: the points +-sqrt(2) below are
# fractions with 13-digit terms, whose "integers" would not be exact in any float.
_LARGEST_DENOMINATOR = 1 << 12


def _square_root_of_two() -> Fraction:
    """Give sqrt(2) to 26 digits: p/q with p^2 - 2 q^2 = +-1 is off by 1 / (2 sqrt(2) q^2)."""
    p, q = 1, 1
    while q < 10**13:
        p, q = p + 2 * q, p + q
    return Fraction(p, q)


def _points(*magnitudes: Fraction | int, zero: bool = False) -> Row:
    signed = [Fraction(sign * v) for v in magnitudes for sign in (1, -1)]
    return (Fraction(0), *signed) if zero else tuple(signed)


_SQRT2 = _square_root_of_two()

# Default finite points by their number, m + r - 2.  Up to three: the classic ones, which keep everything
# an integer or a half.  Five: 0, +-sqrt(1/2), +-sqrt(2), to 26 digits: any distinct points are exact, the
# root is wanted only for its size, which makes B^T numbers near 1 (1, 2, 5/2, sqrt 2).  Against 0, +-1,
# +-2 it lowers the root-mean-square float32 error of 2-D F(4, 3) from 1.2e-6 to 5.1e-7 of the output's,
# the worst from 1.2e-5 to 2.5e-6.  The others: of all symmetric sets of 9 to 19 small numbers, the one of
# least root-mean-square float32 error on 2-D tiles of 32 positive channels, or one of dyadic fractions
# within 25 % of it (their powers are exact in a float).
DEFAULT_POINTS: dict[int, Row] = {
    0: (),
    1: (Fraction(0),),
    2: (Fraction(0), Fraction(1)),
    3: _points(1, zero=True),
    4: _points(Fraction(1, 2), Fraction(3, 2)),
    5: _points(1 / _SQRT2, _SQRT2, zero=True),
    6: _points(Fraction(1, 4), Fraction(3, 4), 2),
    7: _points(1, 2, Fraction(1, 2), zero=True),
    8: _points(Fraction(1, 4), Fraction(3, 4), 1, 2),
    9: _points(Fraction(1, 2), Fraction(3, 4), Fraction(5, 4), Fraction(5, 2), zero=True),
}


@dataclass(frozen=True)
class Matrices:
    """The exact matrices of F(m, r): rows of `Fraction`, and the finite points they come from."""

    m: int
    r: int
    points: Row
    AT: tuple[Row, ...]
    G: tuple[Row, ...]
    BT: tuple[Row, ...]

    @cached_property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(A^T, G, B^T) in float64, each entry rounded once; read-only, because they are shared."""
        rounded = tuple(_rounded(rows) for rows in (self.AT, self.G, self.BT))
        return rounded[0], rounded[1], rounded[2]

    @cached_property
    def amplification(self) -> float:
        """How much larger |A^T| [(|G| 1) * (|B^T| 1)] is than r, the same sum done directly."""
        at, g, bt = (np.abs(array) for array in self.arrays)
        return float((at @ (g.sum(axis=1) * bt.sum(axis=1))).max()) / self.r


def matrices(m: int, r: int, points: Iterable[Fraction | int | float | str] | None = None) -> Matrices:
    """Derive A^T, G, B^T of F(m, r) from m + r - 2 finite points and the point at infinity.

    Parameters
    ----------
    m, r : int
        Outputs per tile, and taps of the filter; F(r, m) is what the weight gradient of F(m, r) uses.
    points : iterable of Fraction, int, float or str, optional
        Distinct finite points (a float counts with its exact binary value); by default `DEFAULT_POINTS`,
        or none if m or r is 1: the definition itself then has only m + r - 1 products, and no rounding grows.

    Returns
    -------
    Matrices
        Frozen and cached: equal arguments give the same object.

    Raises
    ------
    ValueError
        If m or r is below 1, a point appears twice or is not finite, or their number is not m + r - 2.

    Examples
    --------
    >>> from npconv.algorithms.cook_toom import matrices
    >>> AT, G, BT = matrices(2, 3).arrays
    >>> d, g = [1.0, 2.0, 3.0, 4.0], [1.0, 0.0, -1.0]
    >>> AT @ ((G @ g) * (BT @ d))            # two outputs from four products instead of six
    array([-2., -2.])
    """
    for name, value in (("m", m), ("r", r)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"cook_toom: {name} must be an int, got {value!r}")
        if value < 1:
            raise ValueError(f"cook_toom: {name} must be at least 1, got {value}")
    if points is None and 1 in (m, r):
        return _plain(m, r)
    return _derive(m, r, _finite_points(m + r - 2, points))


def amplification(
    m: int, r: int, points: Iterable[Fraction | int | float | str] | None = None, *, ndim: int = 1
) -> float:
    """Give how much larger |A^T| [(|G| |g|) * (|B^T| |d|)] is than sum |d| |g|, for data of even magnitude.

    Rounding errors of F(m, r) are proportional to the first, those of direct summation to the second; `ndim`
    spatial axes are nested, so their factors multiply.

    Examples
    --------
    >>> from npconv.algorithms.cook_toom import amplification
    >>> [round(amplification(m, 3, ndim=2), 1) for m in (1, 2, 4, 6)]
    [1.0, 7.1, 68.9, 508.8]
    """
    return matrices(m, r, points).amplification ** ndim


def _finite_points(count: int, points: Iterable[Fraction | int | float | str] | None) -> Row:
    if points is None:
        if count not in DEFAULT_POINTS:
            raise ValueError(
                f"cook_toom: there are default points for m + r - 2 <= {max(DEFAULT_POINTS)}, "
                f"got {count}; give {count} distinct `points`, or use a smaller tile"
            )
        return DEFAULT_POINTS[count]
    given = tuple(points)
    try:
        exact = tuple(Fraction(p) for p in given)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        raise ValueError(f"cook_toom: points must be finite numbers (infinity is added), got {given}") from None
    if len(exact) != count:
        raise ValueError(
            f"cook_toom: m + r - 2 = {count} finite points are needed (infinity is added), got {len(exact)}"
        )
    for i, p in enumerate(exact):
        if p in exact[:i]:
            raise ValueError(f"cook_toom: points must be distinct, got {p} at positions {exact.index(p)} and {i}")
    return exact


@lru_cache(maxsize=128)
def _plain(m: int, r: int) -> Matrices:
    n = m + r - 1
    identity = tuple(tuple(Fraction(i == k) for k in range(n)) for i in range(n))
    one = (Fraction(1),)
    if r == 1:
        return Matrices(m, r, (), identity, n * (one,), identity)
    return Matrices(m, r, (), (n * one,), identity, identity)


@lru_cache(maxsize=128)
def _derive(m: int, r: int, points: Row) -> Matrices:
    n = m + r - 1
    powers, transform, filters = [], [], []
    for i, p in enumerate(points):
        others = points[:i] + points[i + 1 :]
        row, scale = _smallest_integers((*_product_of_roots(others), Fraction(0)))
        for q in others:
            scale *= p - q
        powers.append(tuple(p**k for k in range(m)))
        filters.append(tuple(p**k / scale for k in range(r)))
        transform.append(row)
    row, scale = _smallest_integers(_product_of_roots(points))
    powers.append(tuple(Fraction(k == m - 1) for k in range(m)))
    filters.append(tuple(Fraction(k == r - 1) / scale for k in range(r)))
    transform.append(row)
    at = tuple(tuple(powers[k][i] for k in range(n)) for i in range(m))
    return Matrices(m, r, points, at, tuple(filters), tuple(transform))


def _product_of_roots(roots: Row) -> Row:
    """Coefficients of (x - roots[0]) (x - roots[1]) ..., the constant first."""
    polynomial: Row = (Fraction(1),)
    for p in roots:
        shifted, scaled = (Fraction(0), *polynomial), (*polynomial, Fraction(0))
        polynomial = tuple(a - p * b for a, b in zip(shifted, scaled, strict=True))
    return polynomial


def _smallest_integers(row: Row) -> tuple[Row, Fraction]:
    """Give the row times the number that makes it coprime integers, and that number (or 1, if too large)."""
    denominator = lcm(*(c.denominator for c in row))
    if denominator > _LARGEST_DENOMINATOR:
        return row, Fraction(1)
    factor = Fraction(denominator, gcd(*(int(c * denominator) for c in row)))
    return tuple(c * factor for c in row), factor


def _rounded(rows: tuple[Row, ...]) -> np.ndarray:
    array = np.array([[float(c) for c in row] for row in rows])
    array.flags.writeable = False
    return array
