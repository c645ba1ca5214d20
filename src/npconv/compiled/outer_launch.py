"""The weight gradient of a convolution by `compiled.outer`: which operand is broadcast, what is packed, who does what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import numpy as np

from ..geometry import ConvGeometry, Ints, ceil_div, covered_size, total
from . import library, threads
from .calls import Words, address
from .outer_layout import Laid, Panels, Source, lanes_operand, rows_operand
from .target import host

#: Products added up in registers before they are rounded.
CHUNK = 256
#: Rows of the register tile that is 1, 2, 3, 4 vectors wide, by the bytes of a vector; `emit.Vectors` has the reason.
TILE_ROWS = {64: (14, 12, 8, 7), 32: (8, 6), 16: (14, 12, 8, 7)}
#: Entries that a table of rows is longer than it has rows: a register tile may run past the end.
SPARE = 16
#: Register tiles in one task; they share the panel in the second-level cache.
TILES = 16
#: Tasks below which rows, then pixels, are cut finer, so that all threads have work to the end.
TASKS = 16
#: Packed bytes of one chunk of images; and its pixels at least, so that the gradient is not rewritten too often.
CHUNK_BYTES, CHUNK_PIXELS = 4 << 20, 4096
#: What packing one element costs, in floating-point operations.
PACK_FLOPS = 8


@dataclass(frozen=True)
class Launch:
    """The calls for one chunk of images or rows, and where it begins in x and g."""

    x_begin: int
    g_begin: int
    pack: Words | None
    multiply: Words
    gather: Words | None
    pack_tasks: int
    tasks: int
    gather_tasks: int
    flops: int
    swapped: bool
    begins: tuple[int, int]
    places: tuple[int, int, int]  # bytes of the packed operands and of the sums
    per_thread: bool


def weight_grad(x: np.ndarray, g: np.ndarray, geometry: ConvGeometry, out: np.ndarray) -> None:
    """Add the weight gradient to `out`, (O, C/G, *k); x (N, C, *in) and g (N, O, *out) in any memory layout."""
    x, g = np.asarray(x, out.dtype), np.asarray(g, out.dtype)
    launches = plan(geometry, x.strides, g.strides, out.strides, out.dtype)
    if not launches:
        return
    workers = threads.get_num_threads()
    size = max(_scratch(launch, workers) for launch in launches)
    scratch = np.empty(size, np.uint8)
    free, x_at, g_at, out_at = -(-address(scratch) // 64) * 64, address(x), address(g), address(out)
    for launch in launches:
        a, b = x_at + launch.x_begin, g_at + launch.g_begin
        if launch.swapped:
            a, b = b, a
        a_bytes, b_bytes, _ = launch.places
        a_to, b_to, sums = free, free + a_bytes, free + a_bytes + b_bytes
        if launch.pack is not None:
            grain = ceil_div(launch.pack_tasks, 64)
            launch.pack.run(
                launch.pack_tasks, PACK_FLOPS * (a_bytes + b_bytes) // 4, grain, a=a, b=b, a_to=a_to, b_to=b_to
            )
        left = a_to if a_bytes else a + launch.begins[0]
        right = b_to if b_bytes else b + launch.begins[1]
        launch.multiply.run(launch.tasks, launch.flops, a=left, b=right, out=out_at, scratch=sums)
        if launch.gather is not None:
            launch.gather.run(launch.gather_tasks, 0, out=out_at, scratch=sums)


def _scratch(launch: Launch, workers: int) -> int:
    a, b, sums = launch.places
    return a + b + sums * (workers if launch.per_thread else launch.tasks) + 128


def flops(geometry: ConvGeometry, dtype: np.dtype) -> int:
    """The arithmetic done, with the lanes and rows that are not needed."""
    return min(_shape(geometry, dtype, swapped)[2] for swapped in (False, True))


def workspace(geometry: ConvGeometry, dtype: np.dtype) -> int:
    """Bytes of scratch at most: both operands packed, chunk by chunk, and the sums of the tasks."""
    pixels = total(geometry.y_shape[2:]) * geometry.batch
    whole = dtype.itemsize * pixels * (geometry.in_channels * geometry.taps + 2 * geometry.out_channels)
    return min(2 * whole, 4 * CHUNK_BYTES + whole // 8) + (1 << 20)


def _three(values: Ints, fill: int) -> Ints:
    """Per-axis values of up to three axes as (depth, height, width)."""
    return (fill,) * (3 - len(values)) + tuple(values)


def _shape(geometry: ConvGeometry, dtype: np.dtype, swapped: bool) -> tuple[Panels, int, int]:
    """The panels, the rows of one panel, and the arithmetic with what is wasted."""
    width = host().width
    c, o = geometry.in_channels // geometry.groups, geometry.out_channels // geometry.groups
    rows, columns, repeats = (o, c, geometry.taps) if swapped else (c * geometry.taps, o, 1)
    panels = Panels.of(columns, width // dtype.itemsize, len(TILE_ROWS[width]))
    work = 0
    for count, vectors in ((panels.count - 1, panels.columns), (1, panels.last)):
        tile = TILE_ROWS[width][vectors - 1]
        work += count * vectors * panels.lanes * ceil_div(rows, tile) * tile
    pixels = total(geometry.out_shape) * geometry.batch
    return panels, rows, 2 * work * repeats * pixels * geometry.groups


@lru_cache(maxsize=1024)
def plan(
    geometry: ConvGeometry, x_strides: Ints, g_strides: Ints, out_strides: Ints, dtype: np.dtype
) -> tuple[Launch, ...]:
    """The launches that compute the weight gradient, chunk by chunk."""
    if not total(geometry.y_shape) or not total(geometry.w_shape):
        return ()
    found = []
    for image, start, part in _chunks(geometry, dtype):
        x_begin = image * x_strides[0]
        g_begin = image * g_strides[0] + sum(a * step for a, step in zip(start, g_strides[2:], strict=True))
        found.append(_launch(part, x_strides, g_strides, out_strides, dtype, x_begin, g_begin))
    return tuple(found)


def _chunks(geometry: ConvGeometry, dtype: np.dtype) -> Iterator[tuple[int, Ints, ConvGeometry]]:
    """Runs of images, or boxes of outputs of one image, whose packed operands stay in the last-level cache."""
    per_pixel = (geometry.in_channels * total(geometry.stride) + geometry.out_channels) * dtype.itemsize
    pixels = max(CHUNK_PIXELS, CHUNK_BYTES // per_pixel)
    image = total(geometry.out_shape)
    batch, box = max(1, pixels // image), list(geometry.out_shape)
    for axis in range(geometry.rank):
        while total(box) > 2 * pixels and box[axis] > 1:
            box[axis] = ceil_div(box[axis], 2)
    batch = ceil_div(geometry.batch, ceil_div(geometry.batch, batch))
    starts = [range(0, n, b) for n, b in zip(geometry.out_shape, box, strict=True)]
    for first in range(0, geometry.batch, batch):
        for start in product(*starts):
            here = tuple(min(b, n - a) for a, b, n in zip(start, box, geometry.out_shape, strict=True))
            yield first, start, geometry.with_out(start, here, min(batch, geometry.batch - first))


def _sources(geometry: ConvGeometry, x_strides: Ints, g_strides: Ints, size: int) -> tuple[Source, Source, Ints, Ints]:
    """x and g; strides and the distance of taps in pixels of x. Taps that stand alone need only the pixels they read."""
    inputs, outputs = _three(geometry.in_shape, 1), _three(geometry.out_shape, 1)
    stride, dilation = list(_three(geometry.stride, 1)), _three(geometry.dilation, 1)
    effective, kernel = _three(geometry.effective, 1), _three(geometry.kernel, 1)
    lows = _three(tuple(lo for lo, _ in geometry.padding), 0)
    group = geometry.groups
    c, o = geometry.in_channels // group, geometry.out_channels // group
    box = tuple(covered_size(e, s, m) for e, s, m in zip(effective, stride, outputs, strict=True))
    x = Source(
        size, geometry.batch, c, group, x_strides[0], x_strides[1], _three(x_strides[2:], 0), inputs, lows, box
    )
    if x.plain:
        steps, sizes, reach, los = list(x.steps), list(inputs), list(box), list(lows)
        for i in range(3):
            if kernel[i] == 1:
                begun = lows[i] * x.steps[i]
                steps[i] *= stride[i]
                sizes[i] = reach[i] = outputs[i]
                los[i], stride[i] = 0, 1
                if begun:  # the crop stays where it is counted in the old steps
                    steps[i], sizes[i], reach[i] = x.steps[i], inputs[i], box[i]
                    los[i], stride[i] = lows[i], _three(geometry.stride, 1)[i]
        x = replace(x, steps=tuple(steps), inputs=tuple(sizes), box=tuple(reach), lows=tuple(los))
    g = Source(
        size, geometry.batch, o, group, g_strides[0], g_strides[1], _three(g_strides[2:], 0), outputs, (0,) * 3, outputs
    )
    return x, g, tuple(stride), dilation
