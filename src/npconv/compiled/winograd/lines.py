"""The transforms of Winograd convolution along one axis, as straight vector code made from their exact matrices.

A matrix of F(m, r) with points p and -p has rows (or columns) that differ in signs alone. Such a pair shares its even
and its odd part: two sums instead of two rows (or one sum and one difference instead of two columns).
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from ..emit import Vectors, emitted, i64

Rows = tuple[tuple[Fraction, ...], ...]


def transposed(rows: Rows) -> Rows:
    """The matrix with rows and columns exchanged."""
    return tuple(zip(*rows, strict=True))


def line(v: Vectors, rows: Rows, *, bias: bool = False) -> Any:
    """line(to, to_step, from, from_step[, bias]): vectors `step` bytes apart, times the matrix `rows`."""

    def body(b: Any, a: Any) -> None:
        to, to_step, source, step = a[:4]
        values = [v.load(b, b.add(source, b.mul(step, i64(i)))) for i in range(len(rows[0]))]
        results = linear(v, b, rows, values)
        if bias:
            added = v.load(b, a[4])
            results = [b.fadd(value, added) for value in results]
        for i, value in enumerate(results):
            v.store(b, value, b.add(to, b.mul(to_step, i64(i))))

    return emitted(5 if bias else 4)(body)


def linear(v: Vectors, b: Any, rows: Rows, values: list[Any]) -> list[Any]:
    """The vectors ``rows @ values``."""
    pairs = _pairs(transposed(rows))
    if pairs:
        columns = list(transposed(rows))
        values = list(values)
        for i, j in pairs:
            values[i], values[j] = b.fadd(values[i], values[j]), b.fsub(values[i], values[j])
            even = tuple((p + q) / 2 for p, q in zip(columns[i], columns[j], strict=True))
            columns[i], columns[j] = even, tuple(p - e for p, e in zip(columns[i], even, strict=True))
        return [_combined(v, b, row, values) for row in transposed(tuple(columns))]
    results: list[Any] = [None] * len(rows)
    for i, j in _pairs(rows):
        even = tuple((p + q) / 2 for p, q in zip(rows[i], rows[j], strict=True))
        odd = tuple(p - e for p, e in zip(rows[i], even, strict=True))
        shared, differing = _combined(v, b, even, values), _combined(v, b, odd, values)
        results[i], results[j] = b.fadd(shared, differing), b.fsub(shared, differing)
    return [_combined(v, b, row, values) if r is None else r for row, r in zip(rows, results, strict=True)]


def _pairs(rows: Rows) -> list[tuple[int, int]]:
    """Rows alike but for the signs of some entries."""
    found: list[tuple[int, int]] = []
    for i in range(len(rows) - 1):
        p, q = rows[i], rows[i + 1]
        alike = all(abs(x) == abs(y) for x, y in zip(p, q, strict=True))
        if alike and any(x != 0 for x in p) and not (found and found[-1][1] == i):
            found.append((i, i + 1))
    return found


def _combined(v: Vectors, b: Any, row: tuple[Fraction, ...], values: list[Any]) -> Any:
    """One entry of the product."""
    terms = sorted(((c, x) for c, x in zip(row, values, strict=True) if c), key=lambda term: term[0] != 1)
    if not terms:
        return v.constant(0.0)
    (first, total), *rest = terms
    if first != 1:
        total = b.fmul(v.constant(float(first)), total)
    for c, x in rest:
        if c == 1:
            total = b.fadd(total, x)
        elif c == -1:
            total = b.fsub(total, x)
        else:
            total = v.fma(b, v.constant(float(c)), x, total)
    return total
