"""Register tiles of a transposition of stride 2: all four phases of a row of inputs, two rows of outputs twice as dense.

Along an axis, output 2 m of a tile meets taps 1, 3 ... on inputs m, m + 1 ..., and output 2 m + 1 taps 0, 2 ... on the same.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from ..emit import I64, Vectors, i64, pointer
from ..flow import Loop
from .tiles import MASKED, SAFE, between, framed, in_order, store


def quad_tile(v: Vectors, b: Any, pixels: int, taps: int, care: int, arguments: list[Any]) -> None:
    """Outputs of two rows, two for each of `pixels` inputs, with kernels `taps` wide and of any height.

    The arguments of `forward_tile`. The rows of its tables are those of the inputs, for the upper row of outputs up to
    `wrap` and then for the lower; weights come in the same order. From quad to quad of y are `y_pixel` and `y_row` bytes,
    half of that from output to output. A tile with care also asks which of the `y_rows` x `y_columns` outputs it stands
    at, counted from `row_at` and back from `column_end`, and has somewhere to leave what is none of them (`dump`).
    """
    frame, strip, x, w, y, begin, column, live = arguments
    _, rows, _, end_row, _, _, step, y_pixel, _, _, _, limits, zeros, count, y_row, _, bounds, *rest = framed(
        b, frame, quads=True
    )
    *moves, wrap, row_at, column_end, y_rows, y_columns, dump = rest
    safe, masked, each = care >= SAFE, care == MASKED, range(pixels)
    mask = v.mask(b, count) if masked else None
    y_pixel, y_row = b.ashr(y_pixel, i64(1)), b.ashr(y_row, i64(1))
    along = Loop(b, "strip", [strip, x, w, y, begin, column, live])
    strip, *places = along.state
    x, w, y, begin, column, live = places
    both = Loop(b, "half", [i64(0), i64(0), w, y])
    half, row, weights, target = both.state
    stop = b.select(b.icmp_signed("==", half, i64(0)), wrap, end_row)
    inner = Loop(b, "row", [row, weights, *[ir.Constant(v.vector, None)] * (2 * pixels)])
    row, weights, *sums = inner.state
    at = b.shl(row, i64(3))
    source = b.add(x, b.load(pointer(b, b.add(rows, at)), typ=I64, align=8))
    limit = b.load(pointer(b, b.add(limits, at)), typ=I64, align=8) if safe else None
    factors = [v.load(b, weights, t * v.width) for t in range(taps)]
    for i in range(pixels + (taps - 1) // 2):
        where = b.add(source, b.mul(step, i64(i)))
        if safe:
            where = b.select(b.icmp_unsigned("<", b.add(column, i64(i)), limit), where, zeros)
        value = v.masked_load(b, mask, where) if masked else v.load(b, where)
        done = []
        for t in range(taps):
            p = i - t // 2
            if p in each:
                n = 2 * p + 1 - t % 2
                sums[n] = v.fma(b, value, factors[t], sums[n])
                done.append(n)
        in_order(v, b, sums, done)
    row = b.add(row, i64(1))
    weights = b.add(weights, i64(taps * v.width))
    inner.close([row, weights, *sums], b.icmp_signed("<", row, stop))
    first = v.load(b, begin)
    sums = between(v, b, [b.fadd(first, value) for value in sums], bounds)
    exists = b.icmp_unsigned("<", b.add(row_at, half), y_rows)
    width, here = b.select(exists, y_columns, i64(0)), b.sub(column_end, b.shl(live, i64(1)))
    for n, value in enumerate(sums):
        where = b.add(target, b.mul(y_pixel, i64(n)))
        if safe:
            where = b.select(b.icmp_unsigned("<", b.add(here, i64(n)), width), where, dump)
        store(v, b, value, where, mask)
    half = b.add(half, i64(1))
    both.close([half, row, weights, b.add(target, y_row)], b.icmp_signed("<", half, i64(2)))
    strip = b.sub(strip, i64(1))
    further = [b.add(place, move) for place, move in zip(places, moves, strict=True)]
    along.close([strip, *further], b.icmp_signed(">", strip, i64(0)))
