"""Register tiles of the forward pass: the sums of a few pixels."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from ..emit import I64, Vectors, i64, pointer
from ..flow import Loop, stepped
from ..parts import Part, cases
from .quads import quad_tile
from .sizes import Tile
from .squares import square_tile
from .tiles import FAST, MASKED, SAFE, between, framed, in_order, store, tree


def forward_part(v: Vectors, tile: Tile) -> Part:
    """A tile with each kind of care; where few vectors pass, one function does for two of them: less to compile."""
    bodies = []
    for care in (FAST, MASKED if tile.Q > 1 else SAFE, MASKED):
        bodies.append((f"{tile.name}_{care}", lambda b, args, c=care: any_tile(v, b, tile, c, args)))
    return cases("care, frame, strip, x, w, y, begin, column, live", bodies)


def any_tile(v: Vectors, b: Any, shape: Tile, care: int, arguments: list[Any]) -> None:
    """The tile of this shape."""
    if shape.stride:
        square_tile(v, b, shape.pixels, shape.stride, care, arguments)
    elif shape.quads:
        quad_tile(v, b, shape.pixels, shape.quads, care, arguments)
    else:
        forward_tile(v, b, shape, care, arguments)


def forward_tile(v: Vectors, b: Any, shape: Tile, care: int, arguments: list[Any]) -> None:
    """Outputs of one row, all taps, some vectors of channels; `strip` such tiles, pixel by pixel or panel by panel.

    Arguments: frame, the words of `FRAME`; strip; x, where tap 0 of pixel 0 reads; w, (row, tap, r, columns, lanes); y;
    begin, what the sums are added to. A tile with care also asks: the column that x stands at, and how many pixels exist
    (`live`).
    """
    frame, strip, x, w, y, begin, column, live = arguments
    x_pixel, rows, row, end_row, taps, tap, tap_step, y_pixel, begin_pixel, *held = framed(b, frame)
    column_pixel, column_tap, limits, zeros, count, _, _, bounds, *moves = held
    Q, each = shape.Q, range(shape.pixels)
    safe, masked = care >= SAFE, care == MASKED
    mask = v.mask(b, count) if masked else None
    x = b.add(x, b.mul(tap, tap_step))
    column = b.add(column, b.mul(tap, column_tap))
    if shape.slide:
        x_pixel, column_pixel, column_tap = tap_step, i64(1), i64(1)
    along = Loop(b, "strip", [strip, x, w, y, begin, column, live])
    strip, *places = along.state
    x, w, y, begin, column, live = places
    outer = Loop(b, "row", [row, w, *[ir.Constant(v.vector, None)] * (shape.pixels * Q)])
    r, weights, *sums = outer.state
    at = b.shl(r, i64(3))
    source = b.add(x, b.load(pointer(b, b.add(rows, at)), typ=I64, align=8))
    limit = b.load(pointer(b, b.add(limits, at)), typ=I64, align=8) if safe else None

    def step(state: list[Any], many_taps: int) -> list[Any]:
        """Several taps that follow each other: an input is loaded once for all of them."""
        left, place, weight, here, *sums = state
        size = Q * v.width

        def read(i: int) -> Any:
            """An input, or a zero where there is none."""
            where = b.add(place, b.mul(x_pixel, i64(i)))
            if safe:
                inside = b.icmp_unsigned("<", b.add(here, b.mul(column_pixel, i64(i))), limit)
                where = b.select(inside, where, zeros)
            return v.masked_load(b, mask, where) if masked else v.load(b, where)

        if shape.pixels < Q:  # few inputs stay in registers, many weights pass by
            values = [read(p) for p in each]
            for q in range(Q):
                factor = v.load(b, weight, q * v.width)
                for p in each:
                    sums[p * Q + q] = v.fma(b, values[p], factor, sums[p * Q + q])
                in_order(v, b, sums, [p * Q + q for p in each])
        else:
            factors = [[v.load(b, weight, q * v.width + t * size) for q in range(Q)] for t in range(many_taps)]
            far = max(1, shape.slide)
            for i in range(far * (shape.pixels - 1) + many_taps):
                meets = [(t, (i - t) // far) for t in range(many_taps) if (i - t) % far == 0 and (i - t) // far in each]
                if not meets:
                    continue
                value, done = read(i), []
                for t, p in meets:
                    for n in range(p * Q, p * Q + Q):
                        sums[n] = v.fma(b, value, factors[t][n % Q], sums[n])
                        done.append(n)
                in_order(v, b, sums, done)
        place = b.add(place, b.mul(tap_step, i64(many_taps)))
        here = b.add(here, b.mul(column_tap, i64(many_taps)))
        return [b.sub(left, i64(many_taps)), place, b.add(weight, i64(many_taps * size)), here, *sums]

    state = [taps, source, weights, column, *sums]
    for many_taps in ((7, 5, 3, 2, 1) if v.registers == 32 else (3, 2, 1)) if shape.slide else (1,):
        state = stepped(b, state, many_taps, step)
    following = b.add(r, i64(1))
    outer.close([following, state[2], *state[4:]], b.icmp_signed("<", following, end_row))
    sums = state[4:]
    end, values = b.append_basic_block("end"), []
    for p in each:
        step_p = i64(p)
        if safe:  # a pixel that does not exist begins with what the first does
            step_p = b.select(b.icmp_signed("<", step_p, live), step_p, i64(0))
        source = b.add(begin, b.mul(begin_pixel, step_p))
        value = tree(b, v, sums[p * Q : p * Q + Q])
        values.append(b.fadd(v.masked_load(b, mask, source) if masked else v.load(b, source), value))
    for p, value in enumerate(between(v, b, values, bounds)):
        if safe and p:
            more = b.append_basic_block("pixel")
            b.cbranch(b.icmp_signed("<", i64(p), live), more, end)
            b.position_at_end(more)
        store(v, b, value, b.add(y, b.mul(y_pixel, i64(p))), mask)
    b.branch(end)
    b.position_at_end(end)
    strip = b.sub(strip, i64(1))
    further = [b.add(place, move) for place, move in zip(places, moves, strict=True)]
    along.close([strip, *further], b.icmp_signed(">", strip, i64(0)))
