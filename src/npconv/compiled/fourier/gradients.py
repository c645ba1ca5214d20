"""The weight gradient by Fourier tiles: spectra of x times those of g, summed over tiles, and transformed back."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ...geometry import ConvGeometry, Ints, ceil_div, total
from .. import threads
from ..calls import Room, address
from ..panels import odd_lines, panels, vector_bytes
from .cuts import Cut, input_words, output_words, weight_words
from .steps import (
    CHUNK,
    Dense,
    Launch,
    channelwise,
    factor,
    in_flight,
    row_table,
    spectra_values,
    vectors,
    words_of,
)
from .tables import tile

#: Pairs whose products are summed channel by channel before the sum is rounded.
PART = 64


@lru_cache(maxsize=1024)
def _dense_gradient(geometry: ConvGeometry, c: Cut, dtype: np.dtype, xs: Ints, gs: Ints, ws: Ints) -> Dense:
    i, o = geometry.per_group
    width, t, p = vector_bytes(), tile(c.lengths, dtype, vector_bytes()), panels(o, dtype.itemsize)
    vi = vectors(i, dtype)
    pairs, rows = in_flight(geometry, c, dtype, vi, p.vectors)
    x_values, x_bytes = spectra_values(c, t.bytes, vi, 3, rows)
    g_values, g_bytes = spectra_values(c, t.bytes, p.vectors, 2, rows)
    first = words_of("transform", dtype, {**x_values, "planes": 3}, tile=t.words, shape=input_words(xs, i, geometry, c))
    second = words_of(
        "transform", dtype, {**g_values, "planes": 2}, tile=t.words, shape=output_words(gs, o, geometry, c)
    )
    plane, out_plane = vi * width, p.vectors * width
    frequency = odd_lines(2 * i * out_plane)
    multiply = words_of(
        "product",
        dtype,
        {
            "a_frequency": x_values["frequency_step"], "w_frequency": g_values["frequency_step"],
            "c_frequency": frequency, "rows": i, "a_step": 3 * plane, "w_step": 2 * out_plane, "chunk": CHUNK,
            "panels": p.count, "columns": p.columns, "last_columns": p.last, "panel_step": p.columns * width,
            "c_plane": out_plane,
        },
        a_rows=row_table(i, dtype.itemsize),
        c_rows=row_table(i, 2 * out_plane),
        # conj(x) g: its conjugate is what a correlation of x with g would give
        a_offsets=np.array((0, plane, 0, 2 * plane), np.int64),
        w_offsets=np.array((0, out_plane, out_plane, 0) * 2, np.int64),
    )  # fmt: skip
    values = {
        "scratch_step": t.bytes, "vectors": p.vectors, "frequency_step": frequency, "channel_step": 2 * out_plane,
        "vector_step": width, "plane": out_plane, "parts": 1, "part_step": 0,
    }  # fmt: skip
    last = words_of(
        "gradient", dtype, values, tile=t.words, shape=weight_words(ws, o, geometry, c),
        scale=factor(dtype, 0.5 / total(c.lengths)),
    )  # fmt: skip
    cost = 16 * c.butterflies
    return Dense(
        Launch(first, cost, t.bytes, t), Launch(second, cost, t.bytes, t), Launch(multiply, 8.0 * rows * i * o),
        Launch(last, cost, t.bytes, t), pairs, (x_bytes, g_bytes, c.frequencies * frequency), (vi, p.vectors),
        i * p.vectors,
    )  # fmt: skip


def parts(geometry: ConvGeometry, c: Cut, many: int) -> int:
    """Parts of the sum over tiles, each a task for every one of `many` vectors of channels."""
    pairs = geometry.batch * c.pairs
    return max(ceil_div(pairs, PART), min(pairs, ceil_div(8, many)))


@lru_cache(maxsize=1024)
def _alone_gradient(
    geometry: ConvGeometry, c: Cut, dtype: np.dtype, xs: Ints, gs: Ints, ws: Ints
) -> tuple[Launch, Launch, int, int]:
    """The launches of a channelwise gradient, vectors, and parts of the sum."""
    t, channels, width = tile(c.lengths, dtype, vector_bytes()), geometry.in_channels, vector_bytes()
    many = vectors(channels, dtype)
    count = parts(geometry, c, many)
    whole = 2 * many * t.pairs * width
    both = {"tile": t.words}
    first = words_of(
        "correlate",
        dtype,
        {
            "scratch_step": 2 * t.bytes, "pairs": c.pairs, "tiles": c.tiles, "images": geometry.batch, "parts": count,
            "part_step": whole,
        },
        shape=input_words(xs, channels, geometry, c), g_shape=output_words(gs, channels, geometry, c), **both,
    )  # fmt: skip
    values = {
        "scratch_step": 2 * t.bytes, "vectors": many, "frequency_step": 2 * width, "channel_step": 0,
        "vector_step": 2 * t.pairs * width, "plane": width, "parts": count, "part_step": whole,
    }  # fmt: skip
    last = words_of(
        "gradient", dtype, values, shape=weight_words(ws, channels, geometry, c),
        scale=factor(dtype, 0.5 / total(c.lengths)), **both,
    )  # fmt: skip
    cost = 16 * c.butterflies * ceil_div(geometry.batch * c.pairs, count)
    return Launch(first, 2 * cost, 2 * t.bytes, t), Launch(last, cost, whole, t), many, count


def weight_grad(x: np.ndarray, g: np.ndarray, geometry: ConvGeometry, c: Cut, out: np.ndarray) -> None:
    """Add the weight gradient to `out`, (O, C/G, *k)."""
    workers = threads.current()
    made = np.empty(out.shape, out.dtype)
    i, o = geometry.per_group
    if channelwise(geometry):
        for m in range(o):
            gs, dw = g[:, m::o], made[m::o]
            first, last, many, count = _alone_gradient(geometry, c, out.dtype, x.strides, gs.strides, dw.strides)
            room = Room(first.scratch * workers, last.scratch * count)
            tiles, spectra = room.parts
            first.run(many * count, x=address(x), g=address(gs), to=spectra, scratch=tiles)
            last.run(many, source=spectra, dw=address(dw), scratch=tiles)
    else:
        d = _dense_gradient(geometry, c, out.dtype, x.strides, g.strides, made.strides)
        everything = geometry.batch * c.pairs
        room = Room(d.first.scratch * workers, *d.sizes)
        tiles, spectra, others, products = room.parts
        for group in range(geometry.groups):
            for start in range(0, everything, d.pairs):
                pairs = min(d.pairs, everything - start)
                rest = {"scratch": tiles, "first_pair": start}
                d.first.run(pairs * d.vectors[0], x=address(x) + group * i * x.strides[1], to=spectra, **rest)
                d.second.run(pairs * d.vectors[1], x=address(g) + group * o * g.strides[1], to=others, **rest)
                d.multiply.run(c.frequencies, a=spectra, w=others, c=products, depth=2 * pairs, adds=int(start > 0))
            d.last.run(d.tasks, source=products, dw=address(made) + group * o * made.strides[0], scratch=tiles)
    out += made
