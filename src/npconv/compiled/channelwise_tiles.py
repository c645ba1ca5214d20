"""Register tiles whose lanes are channels: forward over a few pixels, weight gradient over a few taps.

Groups of Q channels (a power of two; 1 is depthwise) lie side by side in a vector. Channel i of a group meets output
i ^ r in the r-th of Q products, so x is used as it was loaded and a group costs no shuffle until the sums are done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from .emit import I32, I64, Vectors, emitted, i64, pointer


@emitted(2)
def put(b: Any, a: Any) -> None:
    """Write a 64-bit word."""
    b.store(a[1], pointer(b, a[0]), align=8)


def swapped(v: Vectors, b: Any, value: Any, r: int) -> Any:
    """Lane l of the result is lane l ^ r."""
    if not r:
        return value
    pick = ir.Constant(ir.VectorType(I32, v.lanes), [lane ^ r for lane in range(v.lanes)])
    return b.shuffle_vector(value, ir.Constant(v.vector, ir.Undefined), pick)


def tree(b: Any, v: Vectors, parts: list[Any]) -> Any:
    """The sum of the r-th parts, each put back to the lanes of its outputs: halves join, so every shuffle is shared."""
    while len(parts) > 1:
        half = len(parts) // 2
        parts = [b.fadd(parts[i], swapped(v, b, parts[i + half], half)) for i in range(half)]
    return parts[0]


class Loop:
    """A loop that runs at least once, its state in registers: begin, read `state`, `close` with the next state."""

    def __init__(self, b: Any, name: str, state: list[Any]) -> None:
        before, self.b = b.block, b
        self.block, self.after = b.append_basic_block(name), b.append_basic_block(f"{name}.done")
        b.branch(self.block)
        b.position_at_end(self.block)
        self.state = [b.phi(value.type) for value in state]
        for phi, value in zip(self.state, state, strict=True):
            phi.add_incoming(value, before)

    def close(self, state: list[Any], again: Any) -> None:
        """Go on with `state` while `again` holds."""
        for phi, value in zip(self.state, state, strict=True):
            phi.add_incoming(value, self.b.block)
        self.b.cbranch(again, self.block, self.after)
        self.b.position_at_end(self.after)


def forward_tile(v: Vectors, Q: int, pixels: int, columns: int, safe: bool) -> Callable[..., Any]:
    """tile(...): `pixels` outputs of a row, `columns` vectors of channels, all taps.

    Arguments: x, where tap 0 of pixel 0 reads; x_pixel, from pixel to pixel; rows, a table of offsets of `many` rows of
    taps; `taps` in a row, tap_step apart; w, (row, tap, r, columns, lanes); y and y_pixel; begin and begin_pixel, what the
    sums are added to. A safe tile also asks: the column that x stands at, columns per pixel and per tap, how wide each row
    is (`limits`), `zeros` to read beyond it, how many pixels exist (`live`), and channels in the last vector (`count`).
    """

    @emitted(20)
    def tile(b: Any, arguments: Any) -> None:
        (x, x_pixel, rows, many, taps, tap_step, w, y, y_pixel, begin, begin_pixel) = arguments[:11]
        column, column_pixel, column_tap, limits, zeros, live, count, row, tap = arguments[11:]
        zero = ir.Constant(v.vector, None)
        each = range(pixels)
        mask = v.mask(b, count) if safe else None
        offsets = [b.mul(x_pixel, i64(p)) for p in each]
        x = b.add(x, b.mul(tap, tap_step))
        column = b.add(column, b.mul(tap, column_tap))
        outer = Loop(b, "row", [row, w, *[zero] * (pixels * columns * Q)])
        r, weights, *sums = outer.state
        at = b.shl(r, i64(3))
        source = b.add(x, b.load(pointer(b, b.add(rows, at)), typ=I64, align=8))
        limit = b.load(pointer(b, b.add(limits, at)), typ=I64, align=8) if safe else None
        inner = Loop(b, "tap", [taps, source, weights, column, *sums])
        left, place, weight, here, *sums = inner.state
        added: list[Any] = [None] * len(sums)

        def read(p: int, c: int) -> Any:
            offset = c * v.width
            if not safe:
                return v.load(b, b.add(place, offsets[p]), offset)
            inside = b.icmp_unsigned("<", b.add(here, b.mul(column_pixel, i64(p))), limit)
            where = b.select(inside, b.add(place, offsets[p]), zeros)
            if c == columns - 1:
                return v.masked_load(b, mask, where, offset)
            return v.load(b, where, offset)

        factors = [[v.load(b, weight, (q * columns + c) * v.width) for c in range(columns)] for q in range(Q)]
        for p in each:
            for c in range(columns):
                value = read(p, c)
                for q in range(Q):
                    i = (p * columns + c) * Q + q
                    added[i] = v.fma(b, value, factors[q][c], sums[i])
        weight = b.add(weight, i64(Q * columns * v.width))
        left = b.sub(left, i64(1))
        state = [left, b.add(place, tap_step), weight, b.add(here, column_tap), *added]
        inner.close(state, b.icmp_signed(">", left, i64(0)))
        following = b.add(r, i64(1))
        outer.close([following, weight, *added], b.icmp_signed("<", following, b.add(row, many)))
        end = b.append_basic_block("end") if safe else None
        for p in each:
            if safe and p:
                more = b.append_basic_block("pixel")
                b.cbranch(b.icmp_signed("<", i64(p), live), more, end)
                b.position_at_end(more)
            for c in range(columns):
                i = (p * columns + c) * Q
                value = tree(b, v, added[i : i + Q])
                source, target = b.add(begin, b.mul(begin_pixel, i64(p))), b.add(y, b.mul(y_pixel, i64(p)))
                if safe and c == columns - 1:
                    old = v.masked_load(b, mask, source, c * v.width)
                    v.masked_store(b, b.fadd(old, value), mask, target, c * v.width)
                else:
                    v.store(b, b.fadd(v.load(b, source, c * v.width), value), target, c * v.width)
        if safe:
            b.branch(end)
            b.position_at_end(end)

    return tile
