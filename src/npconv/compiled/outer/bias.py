"""The gradient of a bias by `compiled.outer`: what is one run, and the call."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ...geometry import Ints, ceil_div, total
from .. import catalogue, threads
from ..calls import Words, address, aligned
from ..panels import vector_bytes
from .layout import WIDE

#: Elements of one task, which decide how a sum is cut; and the fewest pixels of a run.
TASK_ELEMENTS, FEWEST = 1 << 16, 512
#: The dtypes that there are kernels for.
KINDS = (np.dtype(np.float32), np.dtype(np.float64))
#: What an element costs, in floating-point operations: whether it is worth a second thread.
SUM_FLOPS = 4


@lru_cache(maxsize=256)
def _plan(shape: Ints, strides: Ints, dtype: np.dtype) -> tuple[Words, int, int, int, int]:
    """The call for g of this shape (N, O, *out): words, tasks, runs, doubles of the totals of a run, and of scratch."""
    (n, channels), pixels, size = shape[:2], total(shape[2:]), dtype.itemsize
    lanes, last = vector_bytes() // size, strides[1] == size and channels > 1
    images, group = (1, WIDE * lanes) if last else (n, 1)
    slots = ceil_div(channels, group) * group
    if last:
        pixels *= n
    run = max(FEWEST, TASK_ELEMENTS // (images * group))
    runs = ceil_div(pixels, run)
    values = {
        "last": int(last), "images": images, "image_step": strides[0], "pixels": pixels, "pixel_step": channels * size,
        "channels": channels, "channel_step": strides[1], "run": ceil_div(pixels, runs), "slots": slots,
    }  # fmt: skip
    words = Words(catalogue.kernel("outer", "totals", f"f{size}"), values)
    return words, runs * slots // group, runs, slots, WIDE * lanes


def channel_sums(g: np.ndarray) -> np.ndarray | None:
    """The sum of every channel of g, (N, O, *out), in double precision; None if this is not the way to find it."""
    dense = g.flags.c_contiguous or np.moveaxis(g, 1, -1).flags.c_contiguous
    if not (g.size and dense and g.dtype in KINDS) or catalogue.unavailable():
        return None
    words, tasks, runs, slots, spare = _plan(g.shape, g.strides, g.dtype)
    sums = np.empty((runs, slots))
    scratch = aligned(spare * threads.current(), np.float64)
    words.run(tasks, SUM_FLOPS * g.size, g=address(g), to=address(sums), scratch=address(scratch))
    return sums.sum(0)[: g.shape[1]] if runs > 1 else sums[0, : g.shape[1]]
