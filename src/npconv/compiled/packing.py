"""Between the caller's layout and ours: boxes of x into rows of channels with zeros around, rows of channels into y."""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir

from .build import inner
from .emit import I32, Vectors, by_itself, emitted, fetch, i64, word
from .flow import Loop
from .panels import LINE, WAY

#: Channels up to which elements are moved one by one: a block of so few is mostly empty.
FEW = 4
#: Pixels of which one channel after the other is written: so many rows of channels stay in a first-level cache.
AT_ONCE = 128
#: Bytes of a box of short runs up to which all of it is brought into the cache before it is turned.
FETCHED = 32 << 10
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
        across = step % WAY == 0  # then what is read of a few rows stays in the cache until all of it was used
        for i in range(0, rows if across else columns, lanes):
            for j in range(0, columns if across else rows, lanes):
                r, c = (i, j) if across else (j, i)
                wide, deep = min(lanes, rows - r), min(lanes, columns - c)
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
def spreader(v: Vectors) -> Any:
    """spread(y, step_c, step_p, from, row, pixels, channels): rows of channels to channels of pixels.

    Pixels may lie side by side or, as in the phases of a transposed convolution, every other one; else it takes longer.

    Planes often lie a multiple of a cache's way apart (64 x 64, 128 x 128, 224 x 224). Lines that are written in two
    parts would leave the cache between them: so no vector lies across two, and they go to half as many planes in turn.
    """
    size, lanes = v.size, v.lanes
    transpose, transpose_edge, transpose_apart = v.transpose, v.transpose_edge, v.transpose_apart
    half, width = lanes // 2 if lanes > 8 else lanes, v.width
    transpose_narrow, copy_one = v.transpose_narrow if lanes > 8 else transpose, v.copy_one

    @inner
    def spread(y: int, step_c: int, step_p: int, source: int, row: int, pixels: int, channels: int) -> None:
        if step_p == 2 * size and channels > FEW:
            for p in range(0, pixels, lanes):
                for c in range(0, channels, lanes):
                    run, deep = min(lanes, pixels - p), min(lanes, channels - c)
                    transpose_apart(y + p * step_p + c * step_c, step_c, source + p * row + c * size, row, run, deep)
            return
        if step_p != size or channels <= FEW:
            for p in range(pixels):
                for c in range(channels):
                    copy_one(y + p * step_p + c * step_c, source + p * row + c * size)
            return
        block = half if step_c % WAY == 0 else lanes
        ahead = -y % width // size if step_c % width == 0 else 0  # fewer than lanes
        while pixels > 0:
            now = min(pixels, ahead + AT_ONCE)
            for c in range(0, channels, block):
                deep = min(block, channels - c)
                to, at, left = y + c * step_c, source + c * size, now
                run = min(left, ahead if ahead else lanes)
                while left > 0:
                    if run == lanes and deep == lanes:
                        transpose(to, step_c, at, row)
                    elif run == lanes and deep == half:
                        transpose_narrow(to, step_c, at, row)
                    else:
                        transpose_edge(to, step_c, at, row, run, deep, run)
                    to, at, left = to + run * size, at + run * row, left - run
                    run = min(left, lanes)
            y, source, pixels, ahead = y + now * size, source + now * row, pixels - now, 0

    return spread


@by_itself(4, "bring_all")
def bring_all(b: Any, a: Any) -> None:
    """bring_all(at, step, rows, size): the lines of `rows` runs of `size` bytes, neither of them 0."""
    at, step, rows, size = a
    row = Loop(b, "row", [at, rows])
    begin, left = row.state
    line = Loop(b, "line", [i64(0)])
    fetch(b, b.add(begin, line.state[0]))
    behind = b.add(line.state[0], i64(LINE))
    line.close([behind], b.icmp_signed("<", behind, size))
    left = b.sub(left, i64(1))
    row.close([b.add(begin, step), left], b.icmp_signed(">", left, i64(0)))


@cache
def boxes(v: Vectors) -> tuple[Any, Any]:
    """(pack_box, spread)."""
    size, lanes, width = v.size, v.lanes, v.width
    copy, clear, copy_one, clear_one = v.copy, v.clear, v.copy_one, v.clear_one
    turn, spread_run, transpose_every_other = turned(v), spreader(v), v.transpose_every_other

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
            source, many = x + first * step_w, channels > FEW
            if step_w == size and many:
                turn(at, row, source, step_c, channels, pixels)
            elif step_w == 2 * size and many:  # a phase of a strided convolution
                for p in range(0, pixels, lanes):
                    for c in range(0, channels, lanes):
                        wide = min(lanes, channels - c)
                        transpose_every_other(
                            at + p * row + c * size, row, source + p * step_w + c * step_c, step_c, wide,
                            min(lanes, pixels - p), wide,
                        )  # fmt: skip
            elif many:
                for begin in range(0, channels, lanes):  # of so few at once, what is read of each stays in the cache
                    for p in range(pixels):
                        for c in range(begin, min(channels, begin + lanes)):
                            copy_one(at + p * row + c * size, source + p * step_w + c * step_c)
            else:
                for c in range(channels):
                    for p in range(pixels):
                        copy_one(at + p * row + c * size, source + p * step_w + c * step_c)
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
        top = max(0, -lo_h)
        rows = (min(in_h, box_h - lo_h) - top) * step_h  # bytes of a channel
        if step_w == size and step_c != size and 0 < channels * rows <= FETCHED and box_d == 1 and 0 <= -lo_d < in_d:
            # many short runs: hardware does not see what comes next
            bring_all(x + top * step_h - lo_d * step_d, step_c, channels, rows)
        for d in range(box_d):
            for h in range(box_h):
                at = to + (d * box_h + h) * row
                i, j = d - lo_d, h - lo_h
                exists = 0 <= i < in_d and 0 <= j < in_h  # if not, the row is zeros
                pack_row(
                    at, x + i * step_d + j * step_h, step_c, step_w, channels, first, stop if exists else first,
                    before if exists else box_w, after if exists else 0,
                )  # fmt: skip

    @inner
    def spread(
        y: int, step_o: int, offsets: int, source: int, row: int, pixels: int, channels: int, step_p: int
    ) -> None:
        """Tile rows (pixels, channels) to y: pixel p at offsets[p], channels `step_o` apart."""
        p = 0
        while p < pixels:
            begin, run = word(offsets, p), 1
            while p + run < pixels and word(offsets, p + run) - begin == run * step_p:
                run += 1
            spread_run(y + begin, step_o, step_p, source + p * row, row, run, channels)
            p += run

    return pack_box, spread
