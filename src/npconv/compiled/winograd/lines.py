"""The transforms of Winograd convolution along one axis, as straight vector code made from their exact matrices.

A matrix of F(m, r) with points p and -p has rows (or columns) that differ in signs alone. Such a pair shares its even
and its odd part: two sums instead of two rows (or one sum and one difference instead of two columns).
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from ..emit import Vectors

Rows = tuple[tuple[Fraction, ...], ...]


def transposed(rows: Rows) -> Rows:
    """The matrix with rows and columns exchanged."""
    return tuple(zip(*rows, strict=True))


def planar(v: Vectors, b: Any, rows: Rows, load: Callable[..., Any], store: Callable[..., None]) -> None:
    """Emit the vectors ``rows @ values @ rows.T`` of a tile: `load(i, j)` gives one, `store(i, values)` takes a row of them.

    A few rows at a time, those that share sums: so what is between fits the registers, and values are loaded again.
    """
    r = len(rows[0])
    alone = [[i] for i in range(len(rows))]
    for group in _sharing(rows) if v.registers > 16 or r < 6 else alone:
        some = tuple(rows[i] for i in group)
        columns = [linear(v, b, some, [load(i, j) for i in range(r)]) for j in range(r)]
        for i, row in zip(group, zip(*columns, strict=True), strict=True):
            store(i, linear(v, b, rows, list(row)))


def _sharing(rows: Rows) -> list[list[int]]:
    """The rows of a matrix in groups that share sums: what `linear` pairs, or what reads sums and what differences."""
    pairs = _pairs(transposed(rows))
    if pairs:
        even = [i for i, row in enumerate(rows) if all(row[p] == row[q] for p, q in pairs)]
        return [even, [i for i in range(len(rows)) if i not in even]]
    second = {j: i for i, j in _pairs(rows)}
    return [[i, *(j for j, first in second.items() if first == i)] for i in range(len(rows)) if i not in second]


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
