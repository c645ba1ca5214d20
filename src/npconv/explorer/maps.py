"""Activations as small pictures: bytes, and what the bytes stand for."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import Ints, ceil_div, total

Array = NDArray[Any]

#: Maps shown of a layer, and pixels along a side of one.
MOST_MAPS, MOST_SIDE = 16, 64
#: Larger numbers are drawn as this one: sums of them would be none.
LARGEST = 1e300


def maps(a: Array, most: int = MOST_MAPS, side: int = MOST_SIDE) -> dict[str, Any] | None:
    """The first channels of (C, *spatial) as bytes; None where there is nothing to show.

    A byte b stands for low + b (high - low) / 255, with one scale for all of a layer, on which 0 is exact. Planes larger
    than `side` are means of blocks, a stack of planes shows its middle one, and a vector is rows of `side`.

    Returns
    -------
    dict
        channels, of, height, width, data (base64), low, high, block (rows, columns that a pixel is the mean of), size
        (of a whole plane), slice (index of the plane, or None), odd (how many numbers were not finite; they show as 0).
    """
    if not a.size or a.dtype.kind not in "fiub" or a.ndim < 1:
        return None
    planes, index = _planes(a, side)
    shown = planes[:most].astype(np.float64)
    finite = np.isfinite(shown)
    shown = np.where(finite, shown, 0).clip(-LARGEST, LARGEST)
    block = tuple(ceil_div(n, side) for n in shown.shape[1:])
    small = _means(_means(shown, 1, block[0]), 2, block[1])
    low, high = _range(small)
    codes = np.rint((small - low) * (255 / (high - low))).astype(np.uint8)
    return {
        "channels": len(small),
        "of": len(planes),
        "height": small.shape[1],
        "width": small.shape[2],
        "data": base64.b64encode(codes.tobytes()).decode(),
        "low": low,
        "high": high,
        "block": list(block),
        "size": list(planes.shape[1:]),
        "slice": index,
        "odd": int(finite.size - finite.sum()),
    }


def map_bytes(shape: Ints, most: int, side: int) -> int:
    """How many bytes `maps` makes of an array of this shape."""
    if len(shape) < 2:
        return sum(shape)
    return min(most, shape[0]) * total(tuple(ceil_div(n, ceil_div(n, side)) if n else 0 for n in [*shape[1:]][-2:]))


def _planes(a: Array, side: int) -> tuple[Array, list[int] | None]:
    """(C, H, W), and which plane of a stack it is."""
    if a.ndim == 1:
        rows = ceil_div(len(a), side)
        filled = np.zeros((1, rows, min(len(a), side)), a.dtype)
        filled.reshape(-1)[: len(a)] = a
        return filled, None
    if a.ndim == 2:
        return a[:, None], None
    middle = [n // 2 for n in a.shape[1:-2]]
    return a[(slice(None), *middle)], middle or None


def _means(a: Array, axis: int, block: int) -> Array:
    """Means of `block` neighbours; the last block may be smaller."""
    if block == 1:
        return a
    starts = np.arange(0, a.shape[axis], block)
    counts = np.minimum(block, a.shape[axis] - starts)
    return np.add.reduceat(a, starts, axis) / counts.reshape([-1 if i == axis else 1 for i in range(a.ndim)])


def _range(a: Array) -> tuple[float, float]:
    """What bytes 0 and 255 stand for: zero is one of the steps."""
    low, high = min(0.0, float(a.min())), max(0.0, float(a.max()))
    if low == high:
        return 0.0, 1.0
    if not (low and high):
        return low, high
    limit = max(-low, high)
    return -limit * (128 / 127), limit  # byte 128 is 0
