"""Between the caller's layout and ours: boxes of x into rows of channels with zeros around, rows of channels into y."""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir

from .build import inner
from .emit import I32, Vectors, emitted, word

#: Channels up to which elements are moved one by one: a block of so few is mostly empty.
FEW = 4
#: Numbers between neighbours, at most, that whole vectors are read with and taken apart.
CLOSE = (2, 3, 4)


def _picked(v: Vectors, b: Any, vectors: list[Any], places: list[int]) -> Any:
    """One vector from several: the elements at these places, two vectors at a time."""
    n, undefined = v.lanes, ir.Constant(v.vector, ir.Undefined)
    found: Any = None
    for first in range(0, len(vectors), 2):
        pair = [*vectors[first : first + 2], undefined][:2]
        here = [(p - first * n) if 0 <= p - first * n < 2 * n else None for p in places]
        part = b.shuffle_vector(*pair, ir.Constant(ir.VectorType(I32, n), [p or 0 for p in here]))
        if found is not None:
            mix = [n + i if p is not None else i for i, p in enumerate(here)]
            part = b.shuffle_vector(found, part, ir.Constant(ir.VectorType(I32, n), mix))
        found = part
    return found


@cache
def apart(v: Vectors, m: int) -> Any:
    """apart(to, to_c, from, count): of a run of pixels of `m` numbers each, the first `count` of them, one vector each."""

    @emitted(4)
    def apart(b: Any, a: Any) -> None:
        to, to_c, source, count = a
        read = [v.load(b, source, j * v.width) for j in range(m)]
        end = b.append_basic_block("apart")
        for c in range(m):
            value = _picked(v, b, read, [m * i + c for i in range(v.lanes)])
            v.store(b, value, b.add(to, b.mul(to_c, ir.Constant(to.type, c))))
            more = b.append_basic_block("more")
            b.cbranch(b.icmp_signed(">", count, ir.Constant(to.type, c + 1)), more, end)
            b.position_at_end(more)
        b.branch(end)
        b.position_at_end(end)

    return apart


@cache
def together(v: Vectors, m: int) -> Any:
    """together(to, from, from_c): one vector of each of `m` planes, as a run of pixels."""

    @emitted(3)
    def together(b: Any, a: Any) -> None:
        to, source, from_c = a
        read = [v.load(b, b.add(source, b.mul(from_c, ir.Constant(to.type, c)))) for c in range(m)]
        for j in range(m):
            at = [divmod(j * v.lanes + i, m) for i in range(v.lanes)]
            v.store(b, _picked(v, b, read, [c * v.lanes + p for p, c in at]), to, j * v.width)

    return together


@cache
def turned(v: Vectors, few: bool = False) -> Any:
    """turn(to, to_step, from, from_step, rows, columns): a matrix transposed, in blocks of vectors.

    With `few`, two to four rows or columns that lie side by side are moved by whole vectors, eight by halves of some.
    """
    size, lanes, transpose, transpose_edge = v.size, v.lanes, v.transpose, v.transpose_edge
    half = lanes // 2 if few and lanes > 8 else 0
    narrow, flat = (v.transpose_narrow, v.transpose_flat) if half else (transpose, transpose)

    @inner
    def blocks(to: int, to_step: int, source: int, step: int, rows: int, columns: int) -> None:
        for c in range(0, columns, lanes):
            deep = min(lanes, columns - c)
            for r in range(0, rows, lanes):
                wide = min(lanes, rows - r)
                place, at = to + c * to_step + r * size, source + r * step + c * size
                if wide == lanes and deep == lanes:
                    transpose(place, to_step, at, step)
                elif half and wide == lanes and deep == half:
                    narrow(place, to_step, at, step)
                elif half and wide == half and deep == lanes:
                    flat(place, to_step, at, step)
                else:
                    transpose_edge(place, to_step, at, step, wide, deep, wide)

    if not few:
        return blocks
    (apart2, apart3, apart4), (together2, together3, together4) = (
        [make(v, m) for m in CLOSE] for make in (apart, together)
    )

    @inner
    def turn(to: int, to_step: int, source: int, step: int, rows: int, columns: int) -> None:
        if 2 <= rows <= 4 and to_step == rows * size:
            while columns >= lanes:
                if rows == 2:
                    together2(to, source, step)
                elif rows == 3:
                    together3(to, source, step)
                else:
                    together4(to, source, step)
                to, source, columns = to + lanes * to_step, source + lanes * size, columns - lanes
        elif 2 <= columns <= 4 and step == columns * size:
            while rows >= lanes:
                if columns == 2:
                    apart2(to, to_step, source, columns)
                elif columns == 3:
                    apart3(to, to_step, source, columns)
                else:
                    apart4(to, to_step, source, columns)
                to, source, rows = to + lanes * size, source + lanes * step, rows - lanes
        blocks(to, to_step, source, step, rows, columns)

    return turn


@cache
def boxes(v: Vectors) -> tuple[Any, Any]:
    """(pack_box, spread)."""
    size, lanes, width = v.size, v.lanes, v.width
    copy, clear, copy_one, clear_one = v.copy, v.clear, v.copy_one, v.clear_one
    transpose, transpose_edge, transpose_apart, turn = v.transpose, v.transpose_edge, v.transpose_apart, turned(v)

    @inner
    def pack_row(
        to: int, x: int, step_c: int, step_w: int, channels: int, first: int, stop: int, before: int, after: int
    ) -> None:
        """One row of the box: `before` zero pixels, x's pixels first..stop, `after` zero pixels."""
        row = channels * size
        at = to
        end = to + before * row
        while at + width <= end:
            clear(at)
            at += width
        while at < end:
            clear_one(at)
            at += size
        pixels = stop - first
        if step_c == size:
            dense = step_w == row  # then all pixels are one run
            run = pixels * row if dense else row
            for p in range(min(1, pixels) if dense else pixels):
                source = x + (first + p) * step_w
                last = at + run
                while at + width <= last:
                    copy(at, source)
                    at += width
                    source += width
                while at < last:
                    copy_one(at, source)
                    at += size
                    source += size
        else:
            blocks = channels if step_w == size and channels > FEW else 0
            turn(at, row, x + first * size, step_c, blocks, pixels)
            for c in range(blocks, channels):
                source = x + first * step_w + c * step_c
                place = at + c * size
                for p in range(pixels):
                    copy_one(place + p * row, source + p * step_w)
            at += pixels * row
        end = at + after * row
        while at + width <= end:
            clear(at)
            at += width
        while at < end:
            clear_one(at)
            at += size

    @inner
    def pack_box(
        to: int,
        x: int,
        step_c: int,
        step_d: int,
        step_h: int,
        step_w: int,
        channels: int,
        in_d: int,
        in_h: int,
        in_w: int,
        box_d: int,
        box_h: int,
        box_w: int,
        lo_d: int,
        lo_h: int,
        lo_w: int,
    ) -> None:
        """The box of inputs from (-lo) on, channels innermost, zeros outside of x."""
        row = box_w * channels * size
        first = max(0, -lo_w)
        stop = max(first, min(in_w, box_w - lo_w))
        before = min(box_w, max(0, lo_w))
        after = box_w - before - (stop - first)
        for d in range(box_d):
            for h in range(box_h):
                at = to + (d * box_h + h) * row
                i, j = d - lo_d, h - lo_h
                if 0 <= i < in_d and 0 <= j < in_h:
                    pack_row(at, x + i * step_d + j * step_h, step_c, step_w, channels, first, stop, before, after)
                else:
                    pack_row(at, x, step_c, step_w, channels, 0, 0, box_w, 0)

    @inner
    def spread(
        y: int, step_o: int, offsets: int, source: int, row: int, pixels: int, channels: int, step_p: int
    ) -> None:
        """Tile rows (pixels, channels) to y: pixel p at offsets[p], channels `step_o` apart."""
        p = 0
        while p < pixels:
            run = min(lanes, pixels - p)
            begin = word(offsets, p)
            if (step_p == size or step_p == 2 * size) and channels > FEW:
                most, run = run, 1
                while run < most and word(offsets, p + run) - begin == run * step_p:
                    run += 1
                for c in range(0, channels, lanes):
                    deep = min(lanes, channels - c)
                    place, start = y + begin + c * step_o, source + p * row + c * size
                    if step_p != size:  # a phase of a strided transposition
                        transpose_apart(place, step_o, start, row, run, deep)
                    elif run == lanes and deep == lanes:
                        transpose(place, step_o, start, row)
                    else:
                        transpose_edge(place, step_o, start, row, run, deep, run)
            else:
                for c in range(channels):
                    for i in range(run):
                        copy_one(y + word(offsets, p + i) + c * step_o, source + (p + i) * row + c * size)
            p += run

    return pack_box, spread
