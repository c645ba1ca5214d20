"""Tiles into the transformed domain, B^T x B, and back, A^T M A; channels are lanes."""

from __future__ import annotations

from typing import Any

from .. import packing
from ..build import inner
from ..emit import Vectors, emitted, i64, pointer, word
from ..parts import invoke


def reader(v: Vectors) -> Any:
    """read(transform, to, to_step, row, spare, box, first, stop, plane, ...): a run of tiles of x, transformed.

    Phase f of tile t goes to to + ((t - first) phases + f) slices row, slice after slice, its transformed positions
    `to_step` apart; of its channels, `row` bytes lie together and the next ones `jump` bytes after their end. A tile
    is `n_h` x `n_w` inputs (`n_h` may be 1, then only the width is transformed), `m_h` x `m_w` from the next one.
    Each phase of each of the `images` is described by eight words: where it begins, _, its size, its padding, _, _.
    A tile is read in place where it lies inside an x of whole vectors of channels (`packs` = 0), else packed into `box`.
    """
    size, width = v.size, v.width
    pack_box, _ = packing.boxes(v)
    apply = invoke(10)

    @inner
    def read(
        transform: int, to: int, to_step: int, row: int, jump: int, spare: int, box: int, first: int, stop: int, plane: int,
        packs: int, x: int, images: int, x_c: int, x_d: int, x_h: int, x_w: int, channels: int,
        in_d: int, lo_d: int, tiles_h: int, tiles_w: int,
        m_h: int, m_w: int, n_h: int, n_w: int, slices: int, phases: int,
    ) -> None:  # fmt: skip
        pixel = channels * size
        front = plane - lo_d
        t, phase, begin = first, 0, to
        while t < stop:
            tx = t % tiles_w
            ty = t // tiles_w % tiles_h
            about = images + (t // (tiles_w * tiles_h) * phases + phase) * 64
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
                    at = to
                    for c in range(0, pixel, row):
                        vectors = (min(row, pixel - c) + width - 1) // width
                        apply(
                            transform, n_h > 1, at, width, to_step, source + c, width, step_h, step_w, m_w * step_w, vectors,
                        )  # fmt: skip
                        at += row + jump
                    to += row
                    source += step_d
                to += (phases - 1) * slices * row
                left += m_w
            t += count
            if t == stop and phase < phases - 1:
                t, phase = first, phase + 1
                to = begin + phase * slices * row

    return read


def writer(v: Vectors) -> Any:
    """write(transform, m, to, step_h, step_w, far, from, from_step, two, rows, columns, vectors, count, bias, bounds, seen, spare).

    A^T M A + bias, kept between `bounds`. Of a tile of m x m outputs (or m, if not `two`), `rows` x `columns` are written,
    `vectors` of each, the first `count` channels of the last one. Where an output was not finite before it was bounded,
    the vector at `seen` has a NaN afterwards.
    """
    width, lanes, copy_first, back = v.width, v.lanes, v.copy_first, invoke(11)

    @inner
    def write(
        transform: int, m: int, to: int, step_h: int, step_w: int, far: int, source: int, step: int, two: bool,
        rows: int, columns: int, vectors: int, count: int, bias: int, bounds: int, seen: int, spare: int,
    ) -> None:  # fmt: skip
        full = 0
        if columns == m and (rows == m or not two):
            full = vectors - (count < lanes)
            if full:
                back(transform, two, to, step_h, step_w, far, source, step, bias, bounds, seen, full)
        for j in range(full, vectors):
            back(
                transform, two, spare, m * width, width, 0, source + j * width, step, bias + j * width, bounds, seen, 1
            )
            held = count if j == vectors - 1 else lanes
            for r in range(rows):
                for c in range(columns):
                    copy_first(to + r * step_h + c * step_w + j * width, spare + (r * m + c) * width, held)

    return write


def teller(v: Vectors) -> Any:
    """tell(seen, found): 1 in the word at `found` if the vector at `seen` has a NaN."""

    @emitted(2)
    def tell(b: Any, a: Any) -> None:
        bits = v.missing(b, v.load(b, a[0]))
        with b.if_then(b.icmp_unsigned("!=", bits, bits.type(0)), likely=False):
            b.store(i64(1), pointer(b, a[1]), align=8)

    return tell
