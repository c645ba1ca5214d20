"""Fused Winograd convolution: tiles are transformed, multiplied and transformed back while they are in the cache.

Lanes are channels throughout. A task is a run of tiles (over images, tile rows and tile columns; `depths` output planes
each) and a run of panels of output channels:

1. V = B^T x B for every tile, read in place where the tile lies inside a channels-innermost x, else from a packed copy;
2. per panel and transformed position, the batch-reduce product M (+)= V U over input channels and depth taps;
3. y = A^T M A + bias, written at once, or by way of scratch where y is not channels-innermost.

Consecutive tasks share V. Axes come as (depth, height, width): depth taps are summed directly, the height may go
untransformed (one tap), the width never does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..algorithms.cook_toom import matrices
from . import packing, products
from .build import inner
from .emit import Vectors, emitted
from .target import Target
from .winograd_lines import line
from .winograd_weights import weights

#: F(m, r) by the number that a call names it with.
KINDS = ((2, 3), (4, 3))


def kernels(dtype: str, target: Target) -> dict[str, Callable[..., Any]]:
    """The forward pass."""
    v = Vectors(dtype, target.width)
    size, lanes, width = v.size, v.lanes, v.width
    multiply, (pack_box, _) = products.multiply(v), packing.boxes(v)
    into = [_into(v, m, r) for m, r in KINDS]
    out_of = [_out_of(v, m, r) for m, r in KINDS]
    into_2, into_4 = into
    out_of_2, out_of_4 = out_of
    copy_first = _copy_first(v)
    spread = _spread(v, copy_first)

    def forward(
        lo: int, hi: int, thread: int,
        x: int, u: int, bias: int, y: int, scratch: int, scratch_step: int,
        kind: int, m_h: int, m_w: int, n_h: int, n_w: int, depths: int, slices: int, stride_d: int,
        tiles: int, tiles_h: int, tiles_w: int, per: int, runs: int, deep: int, parts: int,
        channels: int, outputs: int, in_d: int, in_h: int, in_w: int, lo_d: int, lo_h: int, lo_w: int,
        out_d: int, out_h: int, out_w: int,
        x_n: int, x_c: int, x_d: int, x_h: int, x_w: int, y_n: int, y_c: int, y_d: int, y_h: int, y_w: int,
        packs: int, direct: int, v_row: int, v_step: int, m_row: int, m_step: int, at_m: int, at_box: int, at_out: int,
        rows: int, products_rows: int, tap_offsets: int, w_offsets: int, taps: int, chunk_taps: int, chunk: int,
        panels: int, columns: int, last_columns: int, last_count: int, u_panel: int, u_group: int,
    ) -> None:  # fmt: skip
        """Tasks lo..hi of groups x depth blocks x runs of tiles x parts (runs of panels)."""
        spare = scratch + thread * scratch_step
        data = spare + (n_w * n_w + 1) * width
        sums = spare + at_m
        box = spare + at_box
        staged = spare + at_out
        pixel = channels * size
        positions = n_h * n_w
        current = -1
        for task in range(lo, hi):
            part = task % parts
            block = task // parts
            run = block % runs
            plane = block // runs % deep * depths
            group = block // (runs * deep)
            first, stop = per * run, min(tiles, per * (run + 1))
            base = x + group * channels * x_c
            here = min(depths, out_d - plane)
            if current != block:
                current = block
                t = first
                while t < stop:
                    tx = t % tiles_w
                    ty = t // tiles_w % tiles_h
                    image = base + t // (tiles_w * tiles_h) * x_n
                    count = min(stop - t, tiles_w - tx)
                    top, left, front = ty * m_h - lo_h, tx * m_w - lo_w, plane * stride_d - lo_d
                    span = 0
                    if packs:
                        span = (count - 1) * m_w + n_w
                        pack_box(
                            box, image, x_c, x_d, x_h, x_w, channels, in_d, in_h, in_w,
                            slices, n_h, span, -front, -top, -left,
                        )  # fmt: skip
                    for i in range(count):
                        if packs:
                            source, step_d, step_h, step_w = box + i * m_w * pixel, n_h * span * pixel, span * pixel, pixel
                        elif (
                            front >= 0
                            and front + slices <= in_d
                            and top >= 0
                            and top + n_h <= in_h
                            and left >= 0
                            and left + n_w <= in_w
                        ):
                            source, step_d, step_h, step_w = image + front * x_d + top * x_h + left * x_w, x_d, x_h, x_w
                        else:
                            pack_box(
                                box, image, x_c, x_d, x_h, x_w, channels, in_d, in_h, in_w,
                                slices, n_h, n_w, -front, -top, -left,
                            )  # fmt: skip
                            source, step_d, step_h, step_w = box, n_h * n_w * pixel, n_w * pixel, pixel
                        to = data + (t - first + i) * slices * v_row
                        for s in range(slices):
                            for c in range(0, pixel, width):
                                if kind == 0:
                                    into_2(to + c, v_step, source + c, step_h, step_w, n_h, spare)
                                else:
                                    into_4(to + c, v_step, source + c, step_h, step_w, n_h, spare)
                            to += v_row
                            source += step_d
                        left += m_w
                    t += count
            for panel in range(panels * part // parts, panels * (part + 1) // parts):
                final = panel == panels - 1
                these = last_columns if final else columns
                step = these * width
                weights = u + group * u_group + panel * u_panel
                for position in range(positions):
                    tap = 0
                    start = 2
                    while tap < taps:
                        many = min(chunk_taps, taps - tap)
                        k = 0
                        while k < channels:
                            depth = min(chunk, channels - k)
                            multiply(
                                these, data + position * v_step + k * size, rows, tap_offsets + 8 * tap, size,
                                weights + k * step, w_offsets + 8 * (tap + (taps if final else 0)), step, many, depth,
                                sums + position * m_step, products_rows, (stop - first) * depths, lanes, start, 0,
                            )  # fmt: skip
                            start = 0
                            k += depth
                        tap += many
                    weights += taps * channels * step
                t = first
                added = bias + (group * panels + panel) * columns * width
                while t < stop:
                    tx = t % tiles_w
                    ty = t // tiles_w % tiles_h
                    count = min(stop - t, tiles_w - tx)
                    many_h, many_w = min(m_h, out_h - ty * m_h), min(count * m_w, out_w - tx * m_w)
                    for d in range(here):
                        corner = y + t // (tiles_w * tiles_h) * y_n + (plane + d) * y_d + ty * m_h * y_h + tx * m_w * y_w
                        corner += (group * outputs + panel * columns * lanes) * y_c
                        to, step_h, step_w = corner, y_h, y_w
                        if not direct:
                            to, step_h, step_w = staged, many_w * step, step
                        for i in range(count):
                            source = sums + ((t - first + i) * depths + d) * m_row
                            valid = min(m_w, many_w - i * m_w)
                            for j in range(these):
                                lanes_here = last_count if direct and final and j == these - 1 else lanes
                                if kind == 0:
                                    out_of_2(
                                        to + j * width, step_h, step_w, source + j * width, m_step, n_h, many_h, valid,
                                        lanes_here, added + j * width, spare,
                                    )  # fmt: skip
                                else:
                                    out_of_4(
                                        to + j * width, step_h, step_w, source + j * width, m_step, n_h, many_h, valid,
                                        lanes_here, added + j * width, spare,
                                    )  # fmt: skip
                            to += m_w * step_w
                        if not direct:
                            held = (these - 1) * lanes + (last_count if final else lanes)
                            if many_w == out_w and y_h == out_w * y_w:
                                spread(corner, y_c, y_w, staged, step, many_h * many_w, held, spare)
                            else:
                                for i in range(many_h):
                                    spread(
                                        corner + i * y_h, y_c, y_w, staged + i * step_h, step, many_w, held, spare
                                    )
                    t += count

    return {"forward": forward, "weights": weights(v, [matrices(m, r).G for m, r in KINDS])}


def _into(v: Vectors, m: int, r: int) -> Any:
    """into(to, to_step, from, step_h, step_w, n_h, spare): B^T x B of one vector of channels."""
    width, n = v.width, m + r - 1
    transform = line(v, matrices(m, r).BT)

    @inner
    def into(to: int, to_step: int, source: int, step_h: int, step_w: int, n_h: int, spare: int) -> None:
        if n_h == 1:
            transform(to, to_step, source, step_w)
            return
        for j in range(n):
            transform(spare + j * width, n * width, source + j * step_w, step_h)
        for i in range(n):
            transform(to + i * n * to_step, to_step, spare + i * n * width, width)

    return into


def _out_of(v: Vectors, m: int, r: int) -> Any:
    """out_of(to, step_h, step_w, from, from_step, n_h, rows, columns, count, bias, spare): A^T M A + bias."""
    width, n = v.width, m + r - 1
    lanes = v.lanes
    transform, last = line(v, matrices(m, r).AT), line(v, matrices(m, r).AT, bias=True)
    copy_first = _copy_first(v)

    @inner
    def out_of(
        to: int, step_h: int, step_w: int, source: int, step: int, n_h: int, rows: int, columns: int, count: int,
        bias: int, spare: int,
    ) -> None:  # fmt: skip
        at, row, across = source, 0, step
        if n_h > 1:
            for j in range(n):
                transform(spare + j * width, n * width, source + j * step, n * step)
            at, row, across = spare, n * width, width
        for i in range(rows):
            if columns == m and count == lanes:
                last(to, step_w, at, across, bias)
            else:
                last(spare, width, at, across, bias)  # over a row that was read
                for j in range(columns):
                    copy_first(to + j * step_w, spare + j * width, count)
            at += row
            to += step_h

    return out_of


def _copy_first(v: Vectors) -> Any:
    """copy_first(to, from, count): the first elements of a vector, all of which can be read."""

    @emitted(3)
    def copy_first(b: Any, a: Any) -> None:
        v.masked_store(b, v.load(b, a[1]), v.mask(b, a[2]), a[0])

    return copy_first


def _spread(v: Vectors, copy_first: Any) -> Any:
    """spread(y, step_c, step_p, from, row, pixels, channels, spare): rows of channels to channels of pixels."""
    size, lanes, width, transpose, copy_one = v.size, v.lanes, v.width, v.transpose, v.copy_one

    @inner
    def spread(
        y: int, step_c: int, step_p: int, source: int, row: int, pixels: int, channels: int, spare: int
    ) -> None:
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
