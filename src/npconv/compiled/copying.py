"""Copies by all threads: of arrays in another order of axes, which NumPy moves number by number, and with borders around."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..geometry import Ints, Pads, ceil_div, three_axes, total
from . import catalogue
from .calls import Launch, Words, address
from .catalogue import Kernel

#: Numbers of a box in all, which stay in the first cache, and along the result's last axis; and those that lie side by
#: side come in whole lines of the cache.
BOX, PIXELS, BESIDE = 4096, 256, 16
#: Numbers in a box on the average below which it is not worth a row of the table.
LEAST_OF_BOX = 32
#: Runs of boxes that threads claim, at least.
GRAINS = 32
#: Copying a number takes the time of this many floating-point operations.
COPY_FLOPS = 8
#: Numbers below which NumPy has copied them before a kernel has begun.
LEAST = 1024


def contiguous(a: np.ndarray) -> np.ndarray:
    """`a` itself where it is in C order, or else a copy that is."""
    if a.flags.c_contiguous or a.size < LEAST or a.dtype.kind != "f" or catalogue.unavailable():
        return np.ascontiguousarray(a)
    launch = _launch(a.shape, a.strides, a.dtype)
    if launch is None:
        return np.ascontiguousarray(a)
    out = np.empty(a.shape, a.dtype)
    launch.words.run(launch.blocks, launch.flops, source=address(a), to=address(out))
    return out


@lru_cache(maxsize=256)
def _launch(shape: Ints, strides: Ints, dtype: np.dtype) -> Launch | None:
    """Boxes of pixels, along the last axes, and channels, the axis whose numbers lie side by side; None: there is no such."""
    size, last = dtype.itemsize, len(shape) - 1
    beside = [i for i in range(last) if strides[i] == size and shape[i] > 1]
    if not beside or strides[last] == size:
        return None
    channel = beside[-1]
    first = last  # axes from here on are one
    while first - 1 > channel and strides[first - 1] == strides[first] * shape[first]:
        first -= 1
    pixels, per = total(shape[first:]), shape[channel]
    steps = [size * total(shape[i + 1 :]) for i in range(last)]
    run_of = min(pixels, PIXELS)
    part_of = ceil_div(BOX // run_of, BESIDE) * BESIDE
    runs, parts = ceil_div(pixels, run_of), ceil_div(per, part_of)
    others = [i for i in range(first) if i != channel]
    if total([shape[i] for i in others]) * parts * runs * LEAST_OF_BOX > total(shape):
        return None
    kernel = _kernel(strides, dtype)
    if kernel is None:
        return None
    *at, part, run = np.indices((*(shape[i] for i in others), parts, runs), np.int64).reshape(len(others) + 2, -1)
    source = part * part_of * size + run * run_of * strides[last]
    to = part * part_of * steps[channel] + run * run_of * size
    for where, i in zip(at, others, strict=True):
        source, to = source + where * strides[i], to + where * steps[i]
    many = np.minimum(run_of, pixels - run * run_of), np.minimum(part_of, per - part * part_of)
    table = np.stack([source, to, *many], 1)
    values = {"from_p": strides[last], "from_c": size, "to_p": size, "to_c": steps[channel]}
    return Launch(Words(kernel, values, {"table": table}), len(table), COPY_FLOPS * total(shape), 0)


def source_positions(size: int, lo: int, hi: int, mode: str) -> np.ndarray:
    """Which input each padded position copies, for one axis and any amount of padding (rule R20)."""
    position = np.arange(-lo, size + hi)
    if mode == "replicate" or size == 1:
        return position.clip(0, size - 1)
    if mode == "circular":
        return position % size
    if mode == "symmetric":
        position = position % (2 * size)
        return np.minimum(position, 2 * size - 1 - position)
    position = position % (2 * size - 2)  # reflect
    return np.minimum(position, 2 * size - 2 - position)


def extended(x: np.ndarray, pads: Pads, mode: str) -> np.ndarray | None:
    """A canonical x with borders around, in its own memory order; `mode` copies what lies there. None: NumPy's turn.

    Rows are copied first, those above and below too, and then their ends.
    """
    if x.size < LEAST or x.dtype.kind not in "fiu" or catalogue.unavailable():
        return None
    found = _extension(x.shape, x.strides, x.dtype, pads, mode)
    if found is None:
        return None
    last, rows, ends = found
    n, c, *sizes = x.shape
    sizes = [lo + size + hi for size, (lo, hi) in zip(sizes, pads, strict=True)]
    out = np.moveaxis(np.empty((n, *sizes, c), x.dtype), -1, 1) if last else np.empty((n, c, *sizes), x.dtype)
    to = address(out)
    rows.words.run(rows.blocks, rows.flops, rows.blocks // GRAINS + 1, source=address(x), to=to)
    if ends.blocks:
        ends.words.run(ends.blocks, ends.flops, ends.blocks // GRAINS + 1, source=to, to=to)
    return out


@lru_cache(maxsize=256)
def _extension(
    shape: Ints, strides: Ints, dtype: np.dtype, pads: Pads, mode: str
) -> tuple[bool, Launch, Launch] | None:
    """Whether channels come last in memory, and the launches that copy rows and then their ends."""
    size, (n, c, *spatial), (step_n, step_c, *steps) = dtype.itemsize, shape, strides
    last = c > 1 and step_c == size
    unit = c if last else 1  # numbers that stay together
    if not 1 <= len(spatial) <= 3 or steps[-1] != unit * size or unit * spatial[-1] < LEAST_OF_BOX or 0 in shape:
        return None
    sides = three_axes(tuple(spatial), 1)
    before, after = (three_axes(tuple(pad[i] for pad in pads), 0) for i in range(2))
    step_d, step_h, _ = three_axes(tuple(steps), 0)
    reads = [source_positions(*each, mode) for each in zip(sides, before, after, strict=True)]
    deep, high, broad = (len(at) for at in reads)
    row = broad * unit * size
    plane = deep * high * row
    # of images, of planes of channels that lie apart, and of the depth
    images = np.arange(n), np.arange(1 if last else c), np.arange(deep)
    source = (images[0] * step_n)[:, None, None] + (images[1] * step_c)[:, None] + reads[0] * step_d
    to = (images[0] * images[1].size * plane)[:, None, None] + (images[1] * plane)[:, None] + images[2] * (high * row)
    whole, low = unit * sides[2], before[1]
    run = max(1, BOX // whole)  # rows of a box
    boxes_of_plane = ceil_div(sides[1], run) + high - sides[1] + (broad - sides[2]) * ceil_div(high, BOX)
    kernel = _kernel(strides, dtype)
    if kernel is None or boxes_of_plane * LEAST_OF_BOX * size > high * row:
        return None
    firsts = np.arange(low, low + sides[1], run)
    beyond = np.r_[:low, low + sides[1] : high]
    begins, counts = np.r_[firsts, beyond], np.r_[np.minimum(run, low + sides[1] - firsts), np.ones_like(beyond)]
    middle = before[2] * unit * size
    rows = _boxes(
        source.reshape(-1, 1) + reads[1][begins] * step_h, to.reshape(-1, 1) + begins * row + middle, counts, whole
    )
    columns = np.r_[: before[2], before[2] + sides[2] : broad]
    firsts = np.arange(0, high, BOX)
    counts = np.repeat(np.minimum(BOX, high - firsts), columns.size)
    corners = to.reshape(-1, 1, 1) + (firsts * row)[:, None]
    given = corners + (before[2] + reads[2][columns]) * (unit * size)
    ends = _boxes(given.reshape(to.size, -1), (corners + columns * (unit * size)).reshape(to.size, -1), counts, unit)
    launches = []
    for step, boxes in ((step_h, rows), (row, ends)):
        words = Words(kernel, {"from_c": size, "to_c": size, "from_p": step, "to_p": row}, {"table": boxes})
        launches.append(Launch(words, len(boxes), COPY_FLOPS * float(boxes[:, 2] @ boxes[:, 3]), 0))
    return last, launches[0], launches[1]


def _kernel(strides: Ints, dtype: np.dtype) -> Kernel | None:
    """The kernel that copies boxes of such numbers, any of as many bytes as a float; None: there is no such."""
    size = dtype.itemsize
    if size not in (4, 8) or not dtype.isnative or any(step % size for step in strides):
        return None
    try:
        return catalogue.kernel("interleave", "copy_boxes", f"f{size}")
    except catalogue.KernelError:  # which said why
        return None


def _boxes(source: np.ndarray, to: np.ndarray, pixels: np.ndarray, channels: int) -> np.ndarray:
    """The words of `copy_boxes`."""
    many = np.broadcast_to(pixels, source.shape)
    return np.stack([source, to, many, np.full_like(source, channels)], -1).reshape(-1, 4)
