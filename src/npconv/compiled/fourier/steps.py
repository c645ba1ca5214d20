"""A convolution by Fourier tiles: from arrays and a cut to launches of `fourier`'s kernels.

What depends on sizes and strides alone is built once and kept.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ...geometry import ConvGeometry, Ints, ceil_div, total
from ...records import dataclass
from .. import threads
from ..calls import Room, Words, address, aligned
from ..catalogue import kernel
from ..panels import SPARE, odd_lines, panels, vector_bytes
from .cuts import Cut, input_words, output_words, weight_words
from .tables import Tile, tile

#: Complex products summed before they are rounded into the output: twice as many real ones.
CHUNK = 128
#: Bytes of spectra in flight, as far as that leaves enough rows for the matrix products.
SPECTRA = 12 << 20
#: Pairs of tiles that are transformed together at the least.
LEAST_PAIRS = 21


@dataclass(frozen=True)
class Spectra:
    """Conjugate spectra of the weights as the products read them: of each group, or channelwise of each multiple."""

    memory: np.ndarray
    size: int  # bytes of one of them
    count: int
    lengths: Ints

    @property
    def addresses(self) -> range:
        """Where each begins."""
        first = address(self.memory)
        return range(first, first + self.size * self.count, self.size)


def vectors(channels: int, dtype: np.dtype) -> int:
    """Vectors that hold `channels`."""
    return ceil_div(channels * dtype.itemsize, vector_bytes())


def channelwise(geometry: ConvGeometry) -> bool:
    """Whether each output channel reads one input channel."""
    return geometry.in_channels == geometry.groups


@dataclass(frozen=True)
class Launch:
    """A kernel with its fixed words; what a task costs, the scratch of a thread, and the tables that must live on."""

    words: Words
    flops: float
    scratch: int = 0
    tables: Tile | None = None

    def run(self, tasks: int, **rest: int) -> None:
        self.words.run(tasks, tasks * self.flops, **rest)


def words_of(name: str, dtype: np.dtype, values: dict[str, int], **arrays: np.ndarray) -> Words:
    return Words(kernel("fourier", name, f"f{dtype.itemsize}"), values, arrays)


def factor(dtype: np.dtype, value: float) -> np.ndarray:
    """A factor and its negative: kernels load the one or the other."""
    return np.array((value, -value), dtype)


def row_table(rows: int, step: int) -> np.ndarray:
    """Where each of `rows` rows begins; the last one is repeated behind the end."""
    return np.minimum(np.arange(rows + SPARE), rows - 1).astype(np.int64) * step


# --------------------------------------------------------------------------- weights
@lru_cache(maxsize=1024)
def _preparing(geometry: ConvGeometry, c: Cut, dtype: np.dtype, strides: Ints) -> tuple[Launch, int, int]:
    """The launch that transforms the weights of a group, its tasks, and the bytes that it makes."""
    i, o = geometry.per_group
    alone, t = channelwise(geometry), tile(c.lengths, dtype, vector_bytes())
    o = geometry.in_channels if alone else o
    p = panels(o, dtype.itemsize, 1) if alone else panels(o, dtype.itemsize)
    pair = 2 * vector_bytes()
    step = pair if alone else odd_lines(pair * i * p.vectors)
    values = {
        "scratch_step": t.bytes, "channels": i, "vectors": p.vectors, "columns": p.columns, "frequency_step": step,
        "panel_step": pair * t.pairs if alone else pair * i * p.columns,
    }  # fmt: skip
    words = words_of(
        "weights", dtype, values, tile=t.words, shape=weight_words(strides, o, geometry, c),
        scale=factor(dtype, 1 / total(c.lengths)),
    )  # fmt: skip
    size = t.pairs * (step if not alone else pair * p.vectors)
    return Launch(words, 16 * c.butterflies, t.bytes, t), i * p.vectors, size


def prepare(w: np.ndarray, geometry: ConvGeometry, c: Cut) -> Spectra:
    """The spectra of all weights, (O, C/G, *k)."""
    multiplier = geometry.per_group[1]
    count = multiplier if channelwise(geometry) else geometry.groups
    parts = [w[m::count] if channelwise(geometry) else w[m * multiplier : (m + 1) * multiplier] for m in range(count)]
    launch, tasks, size = _preparing(geometry, c, w.dtype, parts[0].strides)
    room = Room(launch.scratch * threads.current())
    spectra = Spectra(aligned(size * count), size, count, c.lengths)
    for part, to in zip(parts, spectra.addresses, strict=True):
        launch.run(tasks, w=address(part), to=to, scratch=room.parts[0])
    return spectra


# --------------------------------------------------------------------------- forward
@dataclass(frozen=True)
class Dense:
    """The launches of a pass over one group, for `pairs` pairs of tiles at a time."""

    first: Launch
    second: Launch  # of the gradient where there is one
    multiply: Launch
    last: Launch
    pairs: int
    sizes: tuple[int, int, int]  # bytes of both spectra and of their products
    vectors: tuple[int, int]
    tasks: int  # of `last` per pair; all of a weight gradient


def in_flight(geometry: ConvGeometry, c: Cut, dtype: np.dtype, vectors_in: int, vectors_out: int) -> tuple[int, int]:
    """Pairs that are in flight together, and the rows they make."""
    row = c.frequencies * vector_bytes() * (6 * vectors_in + 4 * vectors_out)
    pairs = min(geometry.batch * c.pairs, max(LEAST_PAIRS, SPECTRA // row))
    return pairs, 2 * pairs


def spectra_values(c: Cut, room: int, vectors_: int, planes: int, rows: int) -> tuple[dict[str, int], int]:
    """What transforms need to know of rows of spectra, and the bytes of all of them."""
    plane = vectors_ * vector_bytes()
    step = odd_lines(rows * planes * plane)
    values = {
        "scratch_step": room, "pairs": c.pairs, "tiles": c.tiles, "vectors": vectors_, "frequency_step": step,
        "row_step": planes * plane, "plane": plane,
    }  # fmt: skip
    return values, step * c.frequencies


@lru_cache(maxsize=1024)
def _dense(geometry: ConvGeometry, c: Cut, dtype: np.dtype, xs: Ints, ys: Ints) -> Dense:
    i, o = geometry.per_group
    width, t, p = vector_bytes(), tile(c.lengths, dtype, vector_bytes()), panels(o, dtype.itemsize)
    vi = vectors(i, dtype)
    pairs, rows = in_flight(geometry, c, dtype, vi, p.vectors)
    x_values, x_bytes = spectra_values(c, t.bytes, vi, 3, rows)
    y_values, y_bytes = spectra_values(c, t.bytes, p.vectors, 2, rows)
    first = words_of("transform", dtype, {**x_values, "planes": 3}, tile=t.words, shape=input_words(xs, i, geometry, c))
    last = words_of("inverse", dtype, y_values, tile=t.words, shape=output_words(ys, o, geometry, c))
    plane, wide, narrow = vi * width, i * p.columns * width, i * p.last * width
    multiply = words_of(
        "product",
        dtype,
        {
            "a_frequency": x_values["frequency_step"], "w_frequency": odd_lines(2 * i * p.vectors * width),
            "c_frequency": y_values["frequency_step"], "a_step": dtype.itemsize, "w_step": 0, "depth": i, "chunk": CHUNK,
            "panels": p.count, "columns": p.columns, "last_columns": p.last, "panel_step": 2 * wide,
            "c_plane": p.vectors * width, "adds": 0,
        },
        a_rows=row_table(rows, 3 * plane),
        c_rows=row_table(rows, 2 * p.vectors * width),
        # (re, -im) (re, im) make the real part, (re, im) (im, re) the imaginary one
        a_offsets=np.array((0, 2 * plane, 0, plane), np.int64),
        w_offsets=np.array((0, wide, wide, 0, 0, narrow, narrow, 0), np.int64),
    )  # fmt: skip
    flops = 8.0 * rows * i * o
    transforms = Launch(first, 16 * c.butterflies, t.bytes, t)
    return Dense(
        transforms, transforms, Launch(multiply, flops), Launch(last, 16 * c.butterflies, t.bytes, t), pairs,
        (x_bytes, 0, y_bytes), (vi, p.vectors), p.vectors,
    )  # fmt: skip


@lru_cache(maxsize=1024)
def _alone(geometry: ConvGeometry, c: Cut, dtype: np.dtype, xs: Ints, ys: Ints) -> tuple[Launch, int]:
    """The launch of a channelwise pass and its tasks."""
    t, channels = tile(c.lengths, dtype, vector_bytes()), geometry.in_channels
    values = {"scratch_step": t.bytes, "pairs": c.pairs, "tiles": c.tiles, "images": geometry.batch}
    words = words_of(
        "channelwise", dtype, values, tile=t.words, shape=input_words(xs, channels, geometry, c),
        y_shape=output_words(ys, channels, geometry, c),
    )  # fmt: skip
    return Launch(words, 32 * c.butterflies, t.bytes, t), vectors(channels, dtype) * geometry.batch * c.pairs


def forward(x: np.ndarray, w: Spectra, geometry: ConvGeometry, c: Cut, out: np.ndarray) -> None:
    """Write the convolution of x with prepared weights into `out`."""
    workers = threads.current()
    if channelwise(geometry):
        for m, weights in enumerate(w.addresses):
            y = out[:, m :: w.count]
            launch, tasks = _alone(geometry, c, out.dtype, x.strides, y.strides)
            room = Room(launch.scratch * workers)
            launch.run(tasks, x=address(x), w=weights, y=address(y), scratch=room.parts[0])
        return
    d = _dense(geometry, c, out.dtype, x.strides, out.strides)
    everything = geometry.batch * c.pairs
    i, o = geometry.per_group
    room = Room(d.first.scratch * workers, d.sizes[0], d.sizes[2])
    tiles, spectra, products = room.parts
    for group, weights in enumerate(w.addresses):
        source, target = address(x) + group * i * x.strides[1], address(out) + group * o * out.strides[1]
        for first in range(0, everything, d.pairs):
            pairs = min(d.pairs, everything - first)
            d.first.run(pairs * d.vectors[0], x=source, to=spectra, scratch=tiles, first_pair=first)
            d.multiply.run(c.frequencies, a=spectra, w=weights, c=products, rows=2 * pairs)
            d.last.run(pairs * d.vectors[1], source=products, y=target, scratch=tiles, first_pair=first)
