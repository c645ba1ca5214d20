"""The transforms of each form, of planes and of rows: parts whose addresses the kernels are given."""

from __future__ import annotations

from functools import reduce
from typing import Any

from ...algorithms.cook_toom import matrices
from ..emit import I64, Vectors, fetch, i64
from ..flow import anew
from ..parts import Part, cases
from ..target import Target
from .lines import Rows, linear, planar, transposed
from .shape import FORMS

#: What the kernels call them with, but for the outputs.
TILES = "two, to, to_next, to_step, source, next, step_h, step_w, far, count"
OUTPUTS = "two, to, step_h, step_w, far, source, step, bias, bounds, seen, count"


def kernels(dtype: str, target: Target) -> dict[str, Part]:
    """B^T for x, A for g, G for w, G^T for dw, and A^T for y; forms of as many inputs share the first."""
    v = Vectors(dtype, target.width)
    made: dict[str, Part] = {}

    def tiles(name: str, rows: Rows, ahead: bool = False) -> None:
        made[name] = _tiles(v, name, rows, ahead)

    for m, r in FORMS:
        form = matrices(m, r)
        tiles(f"inputs_{m + r - 1}", form.BT, ahead=True)
        tiles(f"slopes_{m}_{r}", transposed(form.AT), ahead=True)
        tiles(f"weights_{m}_{r}", form.G)
        tiles(f"kernel_{m}_{r}", transposed(form.G))
        made[f"outputs_{m}_{r}"] = _outputs(v, f"outputs_{m}_{r}", form.AT)
    return made


def _tiles(v: Vectors, name: str, rows: Rows, ahead: bool) -> Part:
    """`count` vectors of tiles times the matrix.

    The vectors of a tile are `step_h` and `step_w` apart, what becomes of them `to_step`; the next tile follows `to_next`
    and `next` bytes later. The matrix is applied along the width, and if `two` is 1 along the height before. With `ahead`, the
    tile that lies `far` bytes away is brought into the cache, but for its first two rows and columns, which were read before.
    """
    n, r = len(rows), len(rows[0])

    def flat(b: Any, a: list[Any]) -> None:
        to, to_next, to_step, source, following, _, step, far, count = a

        def one(to: Any, source: Any) -> None:
            if ahead:
                begin = b.add(source, far)
                for i in range(2, r):
                    fetch(b, b.add(begin, b.mul(step, i64(i))))
            values = linear(v, b, rows, [v.load(b, b.add(source, b.mul(step, i64(i)))) for i in range(r)])
            for i, value in enumerate(values):
                v.store(b, value, b.add(to, b.mul(to_step, i64(i))))

        _repeated(b, count, (to, source), (to_next, following), one)

    def square(b: Any, a: list[Any]) -> None:
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

        _repeated(b, count, (to, source), (to_next, following), one)

    return cases(TILES, [(f"{name}_flat", flat), (f"{name}_square", square)])


def _outputs(v: Vectors, name: str, rows: Rows) -> Part:
    """`count` vectors of a tile of sums times the matrix, each with its bias, kept between `bounds`.

    Unless it is 0, the tile that lies `far` bytes away is brought into the cache, to be written.
    """
    width, m, n = v.width, len(rows), len(rows[0])

    def finish(b: Any, values: list[Any], addresses: list[Any], bias: Any, bounds: Any, seen: Any) -> None:
        """Store a row of sums with what follows; NaN and infinities spoil their sum, which is not kept: registers are few."""
        values = [b.fadd(value, v.load(b, bias)) for value in values]
        for value, address in zip(values, addresses, strict=True):
            v.store(b, v.between(b, value, bounds), address)
        v.store(b, v.fma(b, reduce(b.fadd, values), v.constant(0.0), v.load(b, seen)), seen)

    def bring(b: Any, to: Any, step_h: Any, step_w: Any, far: Any, rows: int) -> None:
        with b.if_then(b.icmp_signed("!=", far, i64(0))):
            begin, h, w = b.add(to, far), anew(b, step_h), anew(b, step_w)
            for i in range(rows):
                for j in range(m):
                    fetch(b, b.add(begin, b.add(b.mul(h, i64(i)), b.mul(w, i64(j)))), to_write=True)

    def flat(b: Any, a: list[Any]) -> None:
        to, _, step_w, far, source, step, bias, bounds, seen, count = a

        def one(to: Any, source: Any, bias: Any) -> None:
            bring(b, to, i64(0), step_w, far, 1)
            values = linear(v, b, rows, [v.load(b, b.add(source, b.mul(step, i64(i)))) for i in range(n)])
            finish(b, values, [b.add(to, b.mul(step_w, i64(i))) for i in range(m)], bias, bounds, seen)

        _repeated(b, count, (to, source, bias), (i64(width),) * 3, one)

    def square(b: Any, a: list[Any]) -> None:
        to, step_h, step_w, far, source, step, bias, bounds, seen, count = a

        def one(to: Any, source: Any, bias: Any) -> None:
            bring(b, to, step_h, step_w, far, m)

            def row(i: int, values: list[Any]) -> None:
                begin = b.add(to, b.mul(step_h, i64(i)))
                finish(b, values, [b.add(begin, b.mul(step_w, i64(j))) for j in range(m)], bias, bounds, seen)

            planar(v, b, rows, lambda i, j: v.load(b, b.add(source, b.mul(step, i64(i * n + j)))), row)

        _repeated(b, count, (to, source, bias), (i64(width),) * 3, one)

    return cases(OUTPUTS, [(f"{name}_flat", flat), (f"{name}_square", square)])


def _repeated(b: Any, count: Any, starts: tuple[Any, ...], steps: tuple[Any, ...], body: Any) -> None:
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
