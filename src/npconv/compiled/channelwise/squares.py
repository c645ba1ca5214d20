"""Register tiles of two rows of pixels by 3 x 3 taps: an input is loaded once for up to six products."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from ...geometry import covered_size
from ..emit import I64, Vectors, fetch, i64, pointer
from ..flow import Loop, anew
from ..parts import Part, cases
from .sizes import BELOW, BESIDE, WIDE
from .tiles import FRAME, MASKED, SAFE, between, framed, in_order, store

#: The words of a square tile of the gradient: from pixel to pixel of x and g, from row to row of g; where rows of x lie,
#: and how wide they are; zeros to read beyond them; channels in the vector; how far weights move from vector to vector;
#: what is brought into the cache ahead.
WORDS = ("x_pixel", "g_pixel", "g_row", "rows", "limits", "zeros", "count", "to_move", "ahead")
X_PIXEL, G_PIXEL, G_ROW, ROWS, LIMITS, ZEROS, COUNT, TO_MOVE, AHEAD = range(0, 8 * len(WORDS), 8)
#: The kinds of tiles: squares of whole vectors, or of any; then pixels of one row, or of two.
WHOLE, ANY, ONE_ROW, TWO_ROWS = range(4)


def fetch_below(b: Any, x: Any, rows: Any, right: Any, stride: int, pixels: int) -> None:
    """Bring into the cache what the next two rows of outputs are the first to read: `right` is from column to column."""
    last, before = (b.load(pointer(b, rows, 8 * k), typ=I64, align=8) for k in (stride + 2, stride + 1))
    down = anew(b, b.sub(last, before))
    for k in range(2 * stride):
        begin = b.add(b.add(x, last), b.mul(down, i64(k + 1)))
        for j in range(pixels * stride):
            fetch(b, b.add(begin, b.mul(right, i64(j))))


def square_tile(v: Vectors, b: Any, pixels: int, stride: int, care: int, arguments: list[Any]) -> None:
    """Two rows of outputs by 3 x 3 taps, plane after plane: every input is loaded once for up to six products.

    The arguments of `forward_tile`; the rows of its tables are those of the inputs, `stride` + 3 to a plane.
    """
    frame, strip, x, w, y, begin, column, live = arguments
    _, rows, row, end_row, _, _, step, y_pixel, _, *held = framed(b, frame)
    _, _, limits, zeros, count, y_row, live_rows, bounds, *moves = held
    safe, masked, each = care >= SAFE, care == MASKED, range(pixels)
    mask = v.mask(b, count) if masked else None
    along = Loop(b, "strip", [strip, x, w, y, begin, column, live])
    strip, *places = along.state
    x, w, y, begin, column, live = places
    lines = stride + 3
    ahead = b.load(pointer(b, frame, 8 * FRAME.index("ahead")), typ=I64, align=8)
    with b.if_then(b.icmp_signed("!=", ahead, i64(0))):
        right, y_right, y_down = (anew(b, size) for size in (step, y_pixel, y_row))
        fetch_below(b, x, b.add(rows, b.shl(row, i64(3))), right, stride, pixels)
        for r in range(2):
            for p in each:
                fetch(b, b.add(b.add(y, b.mul(y_down, i64(r + 2))), b.mul(y_right, i64(p))))
    first = v.load(b, begin)
    planes = Loop(b, "plane", [row, w, *[first] * (2 * pixels)])
    plane, weights, *sums = planes.state
    factors = [v.load(b, weights, t * v.width) for t in range(9)]
    for i in range(lines):
        at = b.shl(b.add(plane, i64(i)), i64(3))
        source = b.add(x, b.load(pointer(b, b.add(rows, at)), typ=I64, align=8))
        limit = b.load(pointer(b, b.add(limits, at)), typ=I64, align=8) if safe else None
        for j in range(covered_size(3, stride, pixels)):
            where = b.add(source, b.mul(step, i64(j)))
            if safe:
                where = b.select(b.icmp_unsigned("<", b.add(column, i64(j)), limit), where, zeros)
            value = v.masked_load(b, mask, where) if masked else v.load(b, where)
            done = []
            for r in range(2):
                for p in each:
                    kh, kw = i - stride * r, j - stride * p
                    if 0 <= kh < 3 and 0 <= kw < 3:
                        n = r * pixels + p
                        sums[n] = v.fma(b, value, factors[3 * kh + kw], sums[n])
                        done.append(n)
            in_order(v, b, sums, done)
    following = b.add(plane, i64(lines))
    planes.close([following, b.add(weights, i64(9 * v.width)), *sums], b.icmp_signed("<", following, end_row))
    sums = between(v, b, sums, bounds)
    for r in range(2):
        after = b.append_basic_block("row.done")
        for p in each:
            if safe and r + p:
                more = b.append_basic_block("pixel")
                exists = b.icmp_signed("<", i64(p), live) if p else b.icmp_signed("<", i64(r), live_rows)
                b.cbranch(exists, more, after)
                b.position_at_end(more)
            target = b.add(b.add(y, b.mul(y_pixel, i64(p))), b.mul(y_row, i64(r)))
            store(v, b, sums[r * pixels + p], target, mask)
        b.branch(after)
        b.position_at_end(after)
    strip = b.sub(strip, i64(1))
    further = [b.add(place, move) for place, move in zip(places, moves, strict=True)]
    along.close([strip, *further], b.icmp_signed(">", strip, i64(0)))


def square_part(v: Vectors, stride: int) -> Part:
    """A square tile of the gradient, with each kind of care; then tiles of one pixel for what these leave."""
    bodies = [
        (f"squares{stride}_{care}", lambda b, args, c=care: gradient_square(v, b, stride, c, args))
        for care in (SAFE, MASKED)
    ]
    bodies += [
        (f"thin{stride}_{rows}", lambda b, args, n=rows: gradient_square(v, b, stride, MASKED, args, n, 1))
        for rows in (1, 2)
    ]
    return cases("kind, frame, vectors, strip, to, x, g, column", bodies)


def gradient_square(
    v: Vectors, b: Any, stride: int, care: int, arguments: list[Any], rows: int = 2, pixels: int = WIDE
) -> None:
    """Add the products of `strip` tiles of two rows of outputs to the sums of 3 x 3 taps, vector after vector.

    Arguments: the frame; how many vectors; strip; to, (tap, lanes); x, g; the column that x stands at. An input is loaded
    once for up to six products.
    """
    frame, vectors, strip, to, x, g, column = arguments
    held = [b.load(pointer(b, frame, 8 * i), typ=I64, align=8) for i in range(len(WORDS))]
    x_pixel, g_pixel, g_row, lines, limits, zeros, count, to_move, ahead = held
    mask = v.mask(b, count) if care == MASKED else None
    many, each = covered_size(3, stride, rows), range(pixels)

    def load(where: Any) -> Any:
        return v.masked_load(b, mask, where) if mask is not None else v.load(b, where)

    outer = Loop(b, "vector", [vectors, to, x, g])
    vectors, to, x, g = outer.state
    inner = Loop(b, "strip", [strip, x, g, column, *[ir.Constant(v.vector, None)] * 9])
    left, place, source, here, *sums = inner.state
    factors = [
        [load(b.add(b.add(source, b.mul(g_row, i64(r))), b.mul(g_pixel, i64(p)))) for p in each] for r in range(rows)
    ]
    if pixels == WIDE:
        right, g_down, g_right = (anew(b, step) for step in (x_pixel, g_row, g_pixel))
        with b.if_then(b.icmp_signed("==", ahead, i64(BELOW))):
            fetch_below(b, place, lines, right, stride, WIDE)
            for r in range(2):
                for p in each:
                    fetch(b, b.add(b.add(source, b.mul(g_down, i64(r + 2))), b.mul(g_right, i64(p))))
        with b.if_then(b.icmp_signed("==", ahead, i64(BESIDE))):
            for k in range(many):
                begin = b.add(place, b.load(pointer(b, lines, 8 * k), typ=I64, align=8))
                for j in range(covered_size(3, stride, pixels)):
                    fetch(b, b.add(begin, b.mul(right, i64(j))), 2 * v.width)
            for r in range(2):
                for p in each:
                    fetch(b, b.add(b.add(source, b.mul(g_down, i64(r))), b.mul(g_right, i64(p))), 2 * v.width)
    for i in range((many + 1) // 2):  # rows from both ends, so that no sum waits for itself
        pair = [i, many - 1 - i] if 2 * i < many - 1 else [i]
        begins = [b.add(place, b.load(pointer(b, lines, 8 * k), typ=I64, align=8)) for k in pair]
        widths = [b.load(pointer(b, limits, 8 * k), typ=I64, align=8) for k in pair]
        for j in range(covered_size(3, stride, pixels)):
            for k, begin, limit in zip(pair, begins, widths, strict=True):
                where = b.add(begin, b.mul(x_pixel, i64(j)))
                value = load(b.select(b.icmp_unsigned("<", b.add(here, i64(j)), limit), where, zeros))
                done = []
                for r in range(rows):
                    for p in each:
                        kh, kw = k - stride * r, j - stride * p
                        if 0 <= kh < 3 and 0 <= kw < 3:
                            n = 3 * kh + kw
                            sums[n] = v.fma(b, value, factors[r][p], sums[n])
                            done.append(n)
                in_order(v, b, sums, done)
    left = b.sub(left, i64(1))
    moves = b.mul(x_pixel, i64(stride * pixels)), b.mul(g_pixel, i64(pixels)), i64(stride * pixels)
    further = [b.add(at, move) for at, move in zip((place, source, here), moves, strict=True)]
    inner.close([left, *further, *sums], b.icmp_signed(">", left, i64(0)))
    for i, value in enumerate(sums):
        v.store(b, b.fadd(v.load(b, to, i * v.width), value), to, i * v.width)
    vectors = b.sub(vectors, i64(1))
    state = [vectors, b.add(to, to_move), b.add(x, i64(v.width)), b.add(g, i64(v.width))]
    outer.close(state, b.icmp_signed(">", vectors, i64(0)))
