"""Between the caller's layout and ours: boxes of x into rows of channels with zeros around, rows of channels into y."""

from __future__ import annotations

from functools import cache
from typing import Any

from .build import inner
from .emit import Vectors, word

#: Channels up to which elements are moved one by one: a block of so few is mostly empty.
FEW = 4


@cache
def turned(v: Vectors) -> Any:
    """turn(to, to_step, from, from_step, rows, columns): a matrix transposed, in blocks of vectors."""
    size, lanes, transpose, transpose_edge = v.size, v.lanes, v.transpose, v.transpose_edge

    @inner
    def turn(to: int, to_step: int, source: int, step: int, rows: int, columns: int) -> None:
        for c in range(0, columns, lanes):
            deep = min(lanes, columns - c)
            for r in range(0, rows, lanes):
                wide = min(lanes, rows - r)
                place, at = to + c * to_step + r * size, source + r * step + c * size
                if wide == lanes and deep == lanes:
                    transpose(place, to_step, at, step)
                else:
                    transpose_edge(place, to_step, at, step, wide, deep, wide)

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
