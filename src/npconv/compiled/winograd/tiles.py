"""Tiles into the transformed domain, B^T x B, and back, A^T M A; channels are lanes."""

from __future__ import annotations

from typing import Any

from .. import packing
from ..build import inner
from ..emit import Vectors, emitted, word
from .lines import Rows, line


def one_of(functions: list[Any]) -> Any:
    """one_of(i, ...): the i-th of up to eight functions."""
    f0, f1, f2, f3, f4, f5, f6, f7 = (*functions, *functions[-1:] * (8 - len(functions)))

    @inner
    def choose(i, *arguments):  # type: ignore[no-untyped-def]
        if i == 0:
            f0(*arguments)
        elif i == 1:
            f1(*arguments)
        elif i == 2:
            f2(*arguments)
        elif i == 3:
            f3(*arguments)
        elif i == 4:
            f4(*arguments)
        elif i == 5:
            f5(*arguments)
        elif i == 6:
            f6(*arguments)
        else:
            f7(*arguments)

    return choose


def reader(v: Vectors, maps: list[Rows]) -> Any:
    """read(map, to, to_step, row, spare, box, first, stop, plane, ...): a run of tiles of x, transformed.

    Tile t goes to to + (t - first) slices row, slice after slice, its transformed positions `to_step` apart; of its
    channels, `row` bytes lie together and the next ones `jump` bytes after their end. A tile
    is `n_h` x `n_w` inputs (`n_h` may be 1, then only the width is transformed), `m_h` x `m_w` from the next one.
    Each of the `images` is described by eight words: where it begins, _, its size, its padding, _, _.
    A tile is read in place where it lies inside an x of whole vectors of channels (`packs` = 0), else packed into `box`.
    """
    size, width = v.size, v.width
    pack_box, _ = packing.boxes(v)
    made = {rows: _both(v, rows) for rows in maps}  # forms of as many inputs share a map
    both = one_of([made[rows] for rows in maps])

    @inner
    def read(
        which: int, to: int, to_step: int, row: int, jump: int, spare: int, box: int, first: int, stop: int, plane: int,
        packs: int, x: int, images: int, x_c: int, x_d: int, x_h: int, x_w: int, channels: int,
        in_d: int, lo_d: int, tiles_h: int, tiles_w: int,
        m_h: int, m_w: int, n_h: int, n_w: int, slices: int,
    ) -> None:  # fmt: skip
        pixel = channels * size
        front = plane - lo_d
        t = first
        while t < stop:
            tx = t % tiles_w
            ty = t // tiles_w % tiles_h
            about = images + t // (tiles_w * tiles_h) * 64
            image, in_h, in_w = x + word(about, 0), word(about, 2), word(about, 3)
            count = min(stop - t, tiles_w - tx)
            top, left = ty * m_h - word(about, 4), tx * m_w - word(about, 5)
            span = (count - 1) * m_w + n_w
            if packs:
                pack_box(
                    box, image, x_c, x_d, x_h, x_w, channels, in_d, in_h, in_w, slices, n_h, span, -front, -top, -left
                )
            inside = front >= 0 and front + slices <= in_d and top >= 0 and top + n_h <= in_h
            for i in range(count):
                source, step_d, step_h, step_w = box + i * m_w * pixel, n_h * span * pixel, span * pixel, pixel
                if not packs:
                    if inside and left >= 0 and left + n_w <= in_w:
                        source, step_d, step_h, step_w = image + front * x_d + top * x_h + left * x_w, x_d, x_h, x_w
                    else:
                        pack_box(
                            box, image, x_c, x_d, x_h, x_w, channels, in_d, in_h, in_w,
                            slices, n_h, n_w, -front, -top, -left,
                        )  # fmt: skip
                        source, step_d, step_h, step_w = box, n_h * n_w * pixel, n_w * pixel, pixel
                for _ in range(slices):
                    at, last = to, to + row
                    for c in range(0, pixel, width):
                        both(which, at, to_step, source + c, step_h, step_w, n_h, spare)
                        at += width
                        if at == last:
                            at += jump
                            last = at + row
                    to += row
                    source += step_d
                left += m_w
            t += count

    return read


def _both(v: Vectors, rows: Rows) -> Any:
    """both(to, to_step, from, step_h, step_w, n_h, spare): the map along the height, unless n_h is 1, and the width."""
    width, many, few, apply = v.width, len(rows), len(rows[0]), line(v, rows)

    @inner
    def both(to: int, to_step: int, source: int, step_h: int, step_w: int, n_h: int, spare: int) -> None:
        if n_h == 1:
            apply(to, to_step, source, step_w)
            return
        for j in range(few):
            apply(spare + j * width, few * width, source + j * step_w, step_h)
        for i in range(many):
            apply(to + i * many * to_step, to_step, spare + i * few * width, width)

    return both


def back(v: Vectors, rows: Rows) -> Any:
    """back(to, step_h, step_w, from, from_step, n_h, rows, columns, count, bias, spare): A^T M A + bias.

    Of the tile, `rows` x `columns` outputs are written, the first `count` channels of each.
    """
    width, lanes, m, n = v.width, v.lanes, len(rows), len(rows[0])
    transform, last = line(v, rows), line(v, rows, bias=True)
    copy_first = partial_copy(v)

    @inner
    def back(
        to: int, step_h: int, step_w: int, source: int, step: int, n_h: int, rows: int, columns: int, count: int,
        bias: int, spare: int,
    ) -> None:  # fmt: skip
        at, row, across = source, 0, step
        if n_h > 1:
            for j in range(n):
                transform(spare + j * width, n * width, source + j * step, n * step)
            at, row, across = spare, n * width, width
        for _ in range(rows):
            if columns == m and count == lanes:
                last(to, step_w, at, across, bias)
            else:
                last(spare, width, at, across, bias)  # over a row that was read
                for j in range(columns):
                    copy_first(to + j * step_w, spare + j * width, count)
            at += row
            to += step_h

    return back


def partial_copy(v: Vectors) -> Any:
    """copy_first(to, from, count): the first elements of a vector, all of which can be read."""

    @emitted(3)
    def copy_first(b: Any, a: Any) -> None:
        v.masked_store(b, v.load(b, a[1]), v.mask(b, a[2]), a[0])

    return copy_first


def spreader(v: Vectors) -> Any:
    """spread(y, step_c, step_p, from, row, pixels, channels, spare): rows of channels to channels of pixels."""
    size, lanes, width, transpose, copy_one = v.size, v.lanes, v.width, v.transpose, v.copy_one
    copy_first = partial_copy(v)

    @inner
    def spread(y: int, step_c: int, step_p: int, source: int, row: int, pixels: int, channels: int, spare: int) -> None:
        if step_p != size:
            for p in range(pixels):
                for c in range(channels):
                    copy_one(y + p * step_p + c * step_c, source + p * row + c * size)
            return
        for c in range(0, channels, lanes):
            held = min(lanes, channels - c)
            for p in range(0, pixels, lanes):
                run = min(lanes, pixels - p)
                to, at = y + c * step_c + p * size, source + p * row + c * size
                if run == lanes and held == lanes:
                    transpose(to, step_c, at, row)
                else:
                    transpose(spare, width, at, row)
                    for i in range(held):
                        copy_first(to + i * step_c, spare + i * width, run)

    return spread
