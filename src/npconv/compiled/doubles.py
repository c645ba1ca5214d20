"""Sums in double precision, whatever the elements: what the kernels that add up many of them are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from .emit import I64, Vectors, emitted, i64, pointer


def wide(v: Vectors) -> Any:
    """A vector of doubles with the lanes of `v`."""
    return ir.VectorType(ir.DoubleType(), v.lanes)


def widened(v: Vectors, b: Any, value: Any) -> Any:
    """A vector as doubles."""
    return value if v.size == 8 else b.fpext(value, wide(v))


def clear(v: Vectors, vectors: int) -> Any:
    """clear(to): so many vectors of sums."""

    @emitted(1)
    def cleared(b: Any, a: Any) -> None:
        for place in places(v, b, a[0], vectors):
            b.store(ir.Constant(wide(v), None), place, align=8)

    return cleared


def places(v: Vectors, b: Any, at: Any, vectors: int) -> list[Any]:
    """Where so many vectors of sums lie."""
    return [pointer(b, at, j * v.lanes * 8) for j in range(vectors)]


def held(v: Vectors, b: Any, where: list[Any]) -> list[Any]:
    """The sums that lie there."""
    return [b.load(place, typ=wide(v), align=8) for place in where]


def rows(
    v: Vectors, b: Any, count: Any, begin: list[Any], step: Any, where: list[Any], added: Callable[..., list[Any]]
) -> None:
    """Add `count` rows to the sums at `where`: added(addresses, sums) gives the next sums, the addresses move on by `step`."""
    begun, before = held(v, b, where), b.block
    test, loop, done = (b.append_basic_block(name) for name in ("test", "loop", "done"))
    b.branch(test)
    b.position_at_end(test)
    i, addresses, sums = b.phi(I64), [b.phi(I64) for _ in begin], [b.phi(wide(v)) for _ in where]
    b.cbranch(b.icmp_signed("<", i, count), loop, done)
    b.position_at_end(loop)
    following = (*added(addresses, sums), b.add(i, i64(1)), *(b.add(address, step) for address in addresses))
    for value, first, after in zip((*sums, i, *addresses), (*begun, i64(0), *begin), following, strict=True):
        value.add_incoming(first, before)
        value.add_incoming(after, loop)
    b.branch(test)
    b.position_at_end(done)
    for place, total in zip(where, sums, strict=True):
        b.store(total, place, align=8)
