"""The transforms of Winograd convolution along one axis, as straight vector code made from their exact matrices.

A matrix of F(m, r) with points p and -p has rows (or columns) that differ in signs alone. Such a pair shares its even
and its odd part: two sums instead of two rows (or one sum and one difference instead of two columns).
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from llvmlite import ir

from ..build import inner
from ..emit import I64, Vectors, emitted, fetch, i64
from ..flow import anew

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


def both(v: Vectors, rows: Rows, *, ahead: bool = False) -> Any:
    """both(to, to_next, to_step, from, next, step_h, step_w, far, count, two): `count` vectors of tiles times the matrix.

    The vectors of a tile are `step_h` and `step_w` apart, what becomes of them `to_step`; the next tile follows `to_next`
    and `next` bytes later. The matrix is applied along the width, and if `two` along the height before. With `ahead`, the
    tile that lies `far` bytes away is brought into the cache, but for its first two rows and columns, which were read before.
    """
    n, r = len(rows), len(rows[0])

    @outlined(8)
    def flat(b: Any, a: Any) -> None:
        to, to_next, to_step, source, following, step, far, count = a

        def one(to: Any, source: Any) -> None:
            if ahead:
                begin = b.add(source, far)
                for i in range(2, r):
                    fetch(b, b.add(begin, b.mul(step, i64(i))))
            values = linear(v, b, rows, [v.load(b, b.add(source, b.mul(step, i64(i)))) for i in range(r)])
            for i, value in enumerate(values):
                v.store(b, value, b.add(to, b.mul(to_step, i64(i))))

        repeated(b, count, (to, source), (to_next, following), one)

    @outlined(9)
    def square(b: Any, a: Any) -> None:
        to, to_next, to_step, source, following, step_h, step_w, far, count = a

        def one(to: Any, source: Any) -> None:
            # with sixteen registers LLVM would rather keep vectors on the stack
            h, w, t = (anew(b, step) if v.registers > 16 else step for step in (step_h, step_w, to_step))
            if ahead:
                begin = b.add(source, far)
                for i in range(2, r):
                    for j in range(2, r):
                        fetch(b, b.add(begin, b.add(b.mul(h, i64(i)), b.mul(w, i64(j)))))

            def load(i: int, j: int) -> Any:
                return v.load(b, b.add(source, b.add(b.mul(h, i64(i)), b.mul(w, i64(j)))))

            def store(i: int, values: list[Any]) -> None:
                for j, value in enumerate(values):
                    v.store(b, value, b.add(to, b.mul(t, i64(i * n + j))))

            planar(v, b, rows, load, store)

        repeated(b, count, (to, source), (to_next, following), one)

    @inner
    def apply(
        to: int,
        to_next: int,
        to_step: int,
        source: int,
        following: int,
        step_h: int,
        step_w: int,
        far: int,
        count: int,
        two: bool,
    ) -> None:
        if two:
            square(to, to_next, to_step, source, following, step_h, step_w, far, count)
        else:
            flat(to, to_next, to_step, source, following, step_w, far, count)

    return apply


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


def outlined(count: int) -> Any:
    """As `emitted`, in a function of its own: inside a large one, LLVM keeps dozens of its addresses on the stack."""

    def decorate(body: Any) -> Any:
        @emitted(count)
        def call(b: Any, a: Any) -> None:
            made = ir.Function(
                b.module, ir.FunctionType(ir.VoidType(), [I64] * count), b.module.get_unique_name("outlined")
            )
            made.linkage = "internal"
            made.attributes.add("noinline")
            inside = ir.IRBuilder(made.append_basic_block())
            body(inside, made.args)
            inside.ret_void()
            b.call(made, a)

        return call

    return decorate


def repeated(b: Any, count: Any, starts: tuple[Any, ...], steps: tuple[Any, ...], body: Any) -> None:
    """Emit a loop of `count` >= 1 turns around `body`, called with addresses that advance by `steps`."""
    before, loop, after = b.block, b.append_basic_block("turn"), b.append_basic_block("after")
    b.branch(loop)
    b.position_at_end(loop)
    values = [b.phi(I64) for _ in (count, *starts)]
    body(*values[1:])
    for value, start, step in zip(values, (count, *starts), (i64(-1), *steps), strict=True):
        value.add_incoming(start, before)
        value.add_incoming(b.add(value, step), b.block)
    b.cbranch(b.icmp_signed(">", values[0], i64(1)), loop, after)
    b.position_at_end(after)


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
