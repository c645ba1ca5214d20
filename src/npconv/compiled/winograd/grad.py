"""The gradient of the weights in the transformed domain: dw = G^T [ sum over tiles of (A g A^T) * (B^T x B) ] G.

`tiles` transforms x or g, each task a run of tiles. `outer` sums over them: rows of the products are input channels,
lanes are output channels, and the sums are transformed back and added to the gradient. With few tiles one task does
both for a block of channels at every position, and its sums stay in the cache; with many, tasks first multiply, one
position each, batch after batch of tiles, and then transform back. No two tasks of a launch write the same numbers,
and the order of a sum does not depend on who computes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import products
from ..emit import Vectors, emitted, word
from ..parts import invoke
from ..target import Target
from .tiles import reader


def kernels(dtype: str, target: Target) -> dict[str, Callable[..., Any]]:
    """The transforms of x and g, and their products."""
    v = Vectors(dtype, target.width)
    return {"tiles": tiles_kernel(v), "outer": outer_kernel(v)}


def tiles_kernel(v: Vectors) -> Callable[..., Any]:
    """The transform of x or g."""
    read = reader(v)

    def tiles(
        lo: int, hi: int, thread: int,
        transform: int, x: int, to: int, scratch: int, scratch_step: int, at_box: int, row: int, jump: int, step: int, slices: int,
        per: int, begin: int, count: int, packs: int, images: int, x_c: int, x_d: int, x_h: int, x_w: int,
        channels: int, in_d: int, lo_d: int, tiles_h: int, tiles_w: int, m_h: int, m_w: int, n_h: int, n_w: int,
    ) -> None:  # fmt: skip
        """Runs lo..hi of `per` tiles each, of the `count` tiles from `begin`; (tile, slice, channel) at each position."""
        spare = scratch + thread * scratch_step
        for run in range(lo, hi):
            first, stop = per * run, min(count, per * (run + 1))
            read(
                transform, to + first * slices * row, step, row, jump, spare, spare + at_box, begin + first, begin + stop, 0, packs,
                x, images, x_c, x_d, x_h, x_w, channels, in_d, lo_d, tiles_h, tiles_w,
                m_h, m_w, n_h, n_w, slices, 1,
            )  # fmt: skip

    return tiles


def outer_kernel(v: Vectors) -> Callable[..., Any]:
    """The products and their way back."""
    size, lanes, width = v.size, v.lanes, v.width
    multiply, put_first, transpose = products.multiply(v), _put_first(v), v.transpose
    back = invoke(10)

    def outer(
        lo: int, hi: int, thread: int,
        data: int, slopes: int, sums: int, dw: int, more: int, scratch: int, scratch_step: int, at_sums: int, at_back: int,
        transform: int, n_h: int, n_w: int, parts: int, multiplies: int, returns: int, start: int, taps: int, channels: int,
        per: int, blocks: int, panels: int, columns: int, last_columns: int, last_count: int, count: int, chunk: int,
        depths: int, chunk_depths: int, v_step: int, v_tile: int, v_row: int, tap_step: int, stride_d: int, depth_x: int,
        z_step: int, z_tile: int, z_row: int, z_panel: int, depth_g: int, rows: int, sums_rows: int, m_row: int,
        m_step: int, m_block: int, w_o: int, w_c: int, tap_places: int, plane_taps: int, run: int,
    ) -> None:  # fmt: skip
        """Tasks lo..hi of parts of the positions x depth taps x panels x blocks of input channels."""
        spare = scratch + thread * scratch_step
        back_at = spare + at_back
        positions = n_h * n_w
        for task in range(lo, hi):
            inside = task % (blocks * panels * taps)
            part = task // (blocks * panels * taps)
            block = inside % blocks
            panel = inside // blocks % panels
            tap = inside // (blocks * panels)
            first = block * per
            many = min(per, channels - first)
            final = panel == panels - 1
            these = last_columns if final else columns
            held_sums = sums + inside * m_block if sums else spare + at_sums
            if multiplies:
                for position in range(positions * part // parts, positions * (part + 1) // parts):
                    begin = start
                    d = 0
                    while d < depths:
                        planes = min(chunk_depths, depths - d)
                        t = 0
                        while t < count:
                            some = min(chunk, count - t)
                            multiply(
                                these, data + position * v_step + t * v_tile + (tap * tap_step + d * stride_d) * v_row,
                                rows + 8 * first, depth_x, v_tile,
                                slopes + position * z_step + panel * z_panel + t * z_tile + d * z_row, depth_g, z_tile,
                                planes, some, held_sums + position * m_step, sums_rows, many, lanes, begin, 0, 0,
                            )  # fmt: skip
                            begin = 2
                            t += some
                        d += planes
            if not returns:
                continue
            for c in range(many):
                to = back_at + c * plane_taps * columns * width
                back(
                    transform, n_h > 1, to, width, columns * width, held_sums + c * m_row, width, n_w * m_step, m_step, 0, these,
                )  # fmt: skip
            corner = dw + first * w_c + panel * columns * lanes * w_o
            places = tap_places + 8 * tap * plane_taps
            for j in range(these):
                held = last_count if final and j == these - 1 else lanes
                at, to = back_at + j * width, corner + j * lanes * w_o
                if run:
                    total = many * plane_taps
                    for q in range(0, total, lanes):
                        transpose(spare, width, at + q * columns * width, columns * width)
                        for i in range(held):
                            place = to + word(places, 0) + q * size + i * w_o
                            put_first(place, spare + i * width, min(lanes, total - q), more)
                elif w_o == size:
                    for c in range(many):
                        for p in range(plane_taps):
                            source = at + (c * plane_taps + p) * columns * width
                            put_first(to + c * w_c + word(places, p), source, held, more)
                else:
                    for c in range(many):
                        for p in range(plane_taps):
                            for i in range(held):
                                source = at + (c * plane_taps + p) * columns * width + i * size
                                put_first(to + c * w_c + word(places, p) + i * w_o, source, 1, more)

    return outer


def _put_first(v: Vectors) -> Any:
    """put_first(to, from, count, more): the first elements of a vector, all of which can be read, added if `more`."""

    @emitted(4)
    def put_first(b: Any, a: Any) -> None:
        old = v.masked_load(b, v.mask(b, b.mul(a[2], a[3])), a[0])
        v.masked_store(b, b.fadd(old, v.load(b, a[1])), v.mask(b, a[2]), a[0])

    return put_first
