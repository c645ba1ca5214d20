"""Arrays in another order of axes brought into C order by all threads; NumPy moves them number by number."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..geometry import Ints, ceil_div, total
from . import catalogue
from .calls import Launch, Words, address

#: Numbers of a box in all, which stay in the first cache, and along the result's last axis; and those that lie side by
#: side come in whole lines of the cache.
BOX, PIXELS, BESIDE = 4096, 256, 16
#: Numbers in a box on the average below which it is not worth a row of the table.
LEAST_OF_BOX = 32
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
    if size not in (4, 8) or not dtype.isnative or not beside or strides[last] == size:
        return None
    if any(step % size for step in strides):
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
    *at, part, run = np.indices((*(shape[i] for i in others), parts, runs), np.int64).reshape(len(others) + 2, -1)
    source = part * part_of * size + run * run_of * strides[last]
    to = part * part_of * steps[channel] + run * run_of * size
    for where, i in zip(at, others, strict=True):
        source, to = source + where * strides[i], to + where * steps[i]
    many = np.minimum(run_of, pixels - run * run_of), np.minimum(part_of, per - part * part_of)
    table = np.stack([source, to, *many], 1)
    values = {"from_p": strides[last], "from_c": size, "to_p": size, "to_c": steps[channel]}
    try:
        kernel = catalogue.kernel("interleave", "copy_boxes", f"f{size}")
    except catalogue.KernelError:  # which said why
        return None
    return Launch(Words(kernel, values, {"table": table}), len(table), COPY_FLOPS * total(shape), 0)
