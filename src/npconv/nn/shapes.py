"""What a layer expects of its input's shape, and of the words that made it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arguments import choice, dtype_of
from ..geometry import Ints
from ..layouts import NAMES
from ..reading import one_int, per_axis, spatial_axes


def read_layout(op: str, layout: Any) -> str:
    """`layout` if it is one of the two that networks have."""
    return choice(op, "layout", layout, NAMES)


def read_dtype(op: str, dtype: Any) -> np.dtype:
    """`dtype` if it is a float's: parameters are trained."""
    found = dtype_of(op, dtype)
    if found.kind != "f" and found.name != "bfloat16":
        raise TypeError(f"{op}: dtype is {found}, and parameters are real floats; use np.float32 or np.float64")
    return found


def read_kernel(op: str, kernel: Any, rank: Any) -> Ints:
    """A window's size per axis: a tuple has the rank, an int is for `rank` axes, or two."""
    if not isinstance(kernel, (tuple, list)):
        return (one_int(op, "kernel", kernel, 1),) * (2 if rank is None else one_int(op, "rank", rank, 0))
    found = per_axis(op, "kernel", kernel, len(kernel), 1)
    if rank is not None and len(found) != one_int(op, "rank", rank, 0):
        raise ValueError(f"{op}: kernel {found} has {len(found)} sizes, but rank is {rank}; give one of the two")
    return found


def channel_axis(layout: str, axes: int) -> int:
    """Which of `axes` axes holds the channels."""
    return 1 if layout == NAMES[0] else axes - 1


def spatial(layout: str, shape: Ints) -> Ints:
    """The spatial sizes of (N, C, *in) or (N, *in, C)."""
    return shape[2:] if layout == NAMES[0] else shape[1:-1]


def expect(op: str, shape: Ints, layout: str, rank: int | None = None, channels: int | None = None) -> None:
    """Refuse an input of another rank or number of channels: a layer takes (N, C, *in) or (N, *in, C), nothing else."""
    form = "(N, C, *in)" if layout == NAMES[0] else "(N, *in, C)"
    if rank is not None and len(shape) != rank + 2:
        raise ValueError(
            f"{op}: the input has shape {shape}, {len(shape)} axes, expected {rank + 2}: {form} with {spatial_axes(rank)}"
            + ("; add a batch axis: x[None]" if len(shape) == rank + 1 else "")
        )
    if len(shape) < 2:
        raise ValueError(f"{op}: the input has shape {shape}, expected {form}, a batch and a channel axis at least")
    if channels is None:
        return
    axis = channel_axis(layout, len(shape))
    if shape[axis] != channels:
        raise ValueError(
            f"{op}: the input has shape {shape}, so {shape[axis]} channels on axis {axis} (layout {layout!r}), expected "
            f"{channels}" + _elsewhere(shape, channels, axis)
        )


def _elsewhere(shape: Ints, channels: int, axis: int) -> str:
    """A guess at the cause: the other layout."""
    other = 1 if axis == len(shape) - 1 else len(shape) - 1
    if other == axis or shape[other] != channels:
        return ""
    return f"; axis {other} has {channels}: did you mean layout={NAMES[0 if other == 1 else 1]!r}?"


def told(layout: str) -> str:
    """What the call that makes a layer says of its layout, unless it is the usual one."""
    return "" if layout == NAMES[0] else f", layout={layout!r}"


def check_gradient(op: str, g: np.ndarray, shape: Ints) -> None:
    """Refuse a gradient that is not an array of the output's shape."""
    if not isinstance(g, np.ndarray):
        raise TypeError(f"{op}: g is of type {type(g).__name__}, not an array; use np.asarray(g)")
    if g.shape != shape:
        raise ValueError(f"{op}: g.shape is {g.shape}, expected {shape}, that of the output")
