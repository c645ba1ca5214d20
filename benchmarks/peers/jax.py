"""JAX, channels first and last: one jitted function with constant weights."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import lax

from ..rows import Row
from . import Call, Candidate, Operands, channels_last, forward_only, kernel_last, symmetric


def setup(threads: int) -> None:
    """XLA makes a thread for every processor it may use, and has no other knob."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)


def version() -> str:
    return jax.__version__


def to_numpy(result: Any) -> np.ndarray:
    return np.asarray(result)


def candidates(row: Row, direction: str, arrays: Operands) -> Iterator[Candidate]:
    for layout in ("channels_first", "channels_last"):
        yield Candidate(layout, "prepared", partial(call, row, direction, arrays, layout))


def call(row: Row, direction: str, arrays: Operands, layout: str) -> Call:
    forward_only(direction)
    last = layout == "channels_last"
    x = jax.device_put(channels_last(arrays.x) if last else arrays.x)
    compiled = jax.jit(pool(row, last) if row.pool else conv(row, arrays, last)).lower(x).compile()
    return lambda: compiled(x).block_until_ready()


def conv(row: Row, arrays: Operands, last: bool) -> Any:
    w, space = arrays.w, "DHW"[-row.rank :]
    how: dict[str, Any] = {"rhs_dilation": row.dilation, "feature_group_count": row.groups}
    stride, padding = row.stride, symmetric(row.padding)
    if row.operator == "conv_transpose":  # the convolution of the spread input with the turned kernel
        if row.groups > 1:
            raise NotImplementedError("transposed with groups")
        w = np.flip(w.swapaxes(0, 1), tuple(range(2, w.ndim)))
        reach = [d * (k - 1) - p for k, p, d in zip(row.kernel, row.padding, row.dilation, strict=True)]
        how["lhs_dilation"], padding, stride = row.stride, symmetric(tuple(reach)), (1,) * row.rank
    images = f"N{space}C" if last else f"NC{space}"
    kernels = f"{space}IO" if last else f"OI{space}"
    weights = jax.numpy.asarray(kernel_last(w) if last else w)
    return lambda x: lax.conv_general_dilated(
        x, weights, stride, padding, dimension_numbers=(images, kernels, images), **how
    )


def pool(row: Row, last: bool) -> Any:
    def around(values: Any, end: Any) -> Any:
        """`values` on the spatial axes, `end` on batch and channels."""
        return (end, *values, end) if last else (end, end, *values)

    if row.operator == "adaptive_avg_pool":
        raise NotImplementedError("JAX has no adaptive pool")
    window = (around(row.kernel, 1), around(row.stride, 1), around(symmetric(row.padding), (0, 0)))
    if row.operator == "max_pool":
        return lambda x: lax.reduce_window(x, np.array(-np.inf, row.dtype), lax.max, *window)
    count = math.prod(row.kernel)
    return lambda x: lax.reduce_window(x, np.array(0, row.dtype), lax.add, *window) / count
