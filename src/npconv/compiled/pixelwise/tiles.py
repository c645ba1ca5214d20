"""Register tiles whose lanes are pixels: a vector of inputs, loaded once, meets the weights of several outputs."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from ..emit import I64, Vectors, i64, pointer
from ..flow import Loop, chosen
from .sizes import REST, TILES


def forward_tiles(v: Vectors) -> Any:
    """run(kind, ...): see `forward_tile`; kind is 2 (outputs - 1), and 1 more for the narrow one."""
    bodies = []
    for outputs, wide in enumerate(TILES[v.registers], 1):
        for vectors in (wide, REST):
            name = f"pixels_{v.suffix}_{outputs}_{vectors}"
            bodies.append((name, lambda b, args, o=outputs, n=vectors: forward_tile(v, b, o, n, args)))
    return chosen(12, bodies)


def forward_tile(v: Vectors, b: Any, outputs: int, vectors: int, arguments: list[Any]) -> None:
    """A run of pixels of several outputs: the products with some taps of some channels, added up in registers.

    Arguments: x, where the first pixel reads tap 0 of the first channel; x_c, from channel to channel; offsets, a table of
    where taps read; taps and channels, how many, at least one; w, (channel, tap, output), and w_c, from channel to
    channel; y, and y_o from output to output; bias, a number for each output that is added, and `add`, 1 where what is
    there is; two numbers between which results stay.
    """
    x, x_c, offsets, taps, channels, w, w_c, y, y_o, bias, add, bounds = arguments
    nothing = ir.Constant(v.vector, None)
    outer = Loop(b, "channel", [channels, x, w, *[nothing] * (outputs * vectors)])
    left, plane, row, *sums = outer.state
    inner = Loop(b, "tap", [taps, offsets, row, *sums])
    tap, at, weights, *sums = inner.state
    source = b.add(plane, b.load(pointer(b, at), typ=I64, align=8))
    factors = [v.broadcast(b, weights, o * v.size) for o in range(outputs)]
    sums = list(sums)
    for j in range(vectors):
        value = v.load(b, source, j * v.width)
        for o, factor in enumerate(factors):
            sums[o * vectors + j] = v.fma(b, value, factor, sums[o * vectors + j])
    tap = b.sub(tap, i64(1))
    following = [tap, b.add(at, i64(8)), b.add(weights, i64(outputs * v.size)), *sums]
    inner.close(following, b.icmp_signed(">", tap, i64(0)))
    left = b.sub(left, i64(1))
    outer.close([left, b.add(plane, x_c), b.add(row, w_c), *sums], b.icmp_signed(">", left, i64(0)))
    places = [b.add(y, b.mul(y_o, i64(o))) for o in range(outputs)]
    first = [v.broadcast(b, bias, o * v.size) for o in range(outputs) for _ in range(vectors)]
    done, before, end = b.block, b.append_basic_block("before"), b.append_basic_block("end")
    b.cbranch(b.icmp_signed("==", add, i64(0)), end, before)
    b.position_at_end(before)
    there = [v.load(b, place, j * v.width) for place in places for j in range(vectors)]
    there = [b.fadd(old, new) for old, new in zip(there, first, strict=True)]
    b.branch(end)
    b.position_at_end(end)
    starts = [b.phi(v.vector) for _ in sums]
    for start, one, other in zip(starts, first, there, strict=True):
        start.add_incoming(one, done)
        start.add_incoming(other, before)
    found = [v.between(b, b.fadd(start, value), bounds) for start, value in zip(starts, sums, strict=True)]
    for n, value in enumerate(found):
        o, j = divmod(n, vectors)
        v.store(b, value, places[o], j * v.width)
