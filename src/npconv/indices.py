"""Index spaces: the number of an element of (N, C, *in) for torch, ONNX and TensorFlow, and back (rule R16).

========================  ==============================================================================
``plane``                 flat in the unpadded spatial plane, row-major (torch)
``onnx``                  flat over the whole (N, C, *in) tensor, row-major
``onnx_column_major``     as ``onnx``, but the first spatial axis runs fastest (``storage_order=1``)
``tf``                    ``(y W + x) C + c``: flat in one sample with channels last
``tf_batch``              as ``tf``, plus the offset of the sample (``include_batch_in_index``)
========================  ==============================================================================
"""

from __future__ import annotations

from itertools import accumulate
from operator import mul

import numpy as np

from .geometry import Ints, total
from .layouts import Layout

SPACES = ("plane", "onnx", "onnx_column_major", "tf", "tf_batch")


def _row_major(sizes: Ints) -> Ints:
    """How far apart neighbours along each axis are when the last axis runs fastest."""
    return tuple(reversed(list(accumulate((1, *reversed(sizes[1:])), mul)))) if sizes else ()


def number_strides(space: str, shape: Ints) -> tuple[int, int, Ints]:
    """What one step along the batch, the channels and each spatial axis of (N, C, *in) adds to an index."""
    _, channels, *sizes = shape
    plane, spatial = total(sizes), _row_major(tuple(sizes))
    if space == "plane":
        return 0, 0, spatial
    if space == "onnx":
        return channels * plane, plane, spatial
    if space == "onnx_column_major":
        return channels * plane, plane, _row_major(tuple(sizes[::-1]))[::-1]
    return (channels * plane if space == "tf_batch" else 0), 1, tuple(channels * step for step in spatial)


def to_plane(op: str, indices: np.ndarray, space: str, shape: Ints, layout: Layout, described: str) -> np.ndarray:
    """Indices of any space into (N, C, *in) of `shape`, as row-major plane indices (N, C, *out) in int64.

    The first index that does not belong to its own plane is refused by position and value.
    """
    if indices.dtype.kind not in "iu":
        raise TypeError(
            f"{op}: indices has dtype {indices.dtype}, needs an integer dtype; use indices.astype(np.int64)"
        )
    per_sample, per_channel, _ = number_strides(space, shape)
    numbers = layout.canonical(indices)
    n, c = numbers.shape[:2]
    ones = (1,) * (numbers.ndim - 2)
    starts = np.add.outer(np.arange(n, dtype=np.int64) * per_sample, np.arange(c, dtype=np.int64) * per_channel)
    local = numbers.astype(np.int64) - starts.reshape(n, c, *ones)  # a uint64 too large turns negative: refused
    unit = shape[1] if space.startswith("tf") else 1
    size = total(shape[2:])
    bad = (local < 0) | (local >= size * unit)
    if unit > 1:
        bad |= local % unit != 0
        local //= unit
    if bad.any():
        _refuse(op, indices, bad, (starts, size, unit), space, layout, described)
    if space != "onnx_column_major" or not size:
        return local
    return np.ravel_multi_index(np.unravel_index(local, shape[2:], order="F"), shape[2:]) if ones else local


def _refuse(
    op: str,
    indices: np.ndarray,
    bad: np.ndarray,
    plane: tuple[np.ndarray, int, int],
    space: str,
    layout: Layout,
    described: str,
) -> None:
    """Name the first bad index as the caller sees it: in the row-major order of the caller's array."""
    starts, size, unit = plane
    seen = np.empty(indices.shape, bool)
    layout.canonical(seen)[...] = bad
    samples = np.empty(indices.shape, np.int64)
    layout.canonical(samples)[...] = starts.reshape(*starts.shape, *(1,) * (bad.ndim - 2))
    position = tuple(int(i) for i in np.argwhere(seen)[0])
    low = int(samples[position])
    rule = f"{low} <= index < {low + size * unit}" + (f" in steps of {unit}" if unit > 1 else "")
    raise ValueError(
        f"{op}: indices{list(position)} = {indices[position]} is outside its plane: indices_space={space!r} "
        f"needs {rule} for {described}; use the indices that max_pool returned"
    )
