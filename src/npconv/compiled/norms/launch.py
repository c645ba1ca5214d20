"""Calling the kernels of batch norm and rectifiers on arrays (N, C, *in), dense with their channels first or last.

Every function returns None where this is not the way: another dtype, strides with gaps, no machine code.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ...geometry import Ints, ceil_div, total
from ...records import dataclass
from .. import catalogue, threads
from ..calls import Words, address, aligned
from ..panels import vector_bytes

#: As in `kernels`.
WIDE = 2
#: Elements of one task of a sum, which decide how it is cut; and the fewest pixels of a run.
TASK_ELEMENTS, FEWEST = 1 << 16, 512
#: Elements that a thread takes at a time, and the least of a row that repeats the numbers of a pixel.
BLOCK, PATTERN = 4096, 256
#: Elements below which NumPy is as fast as a launch.
FEW = 2048
#: What an element costs, in floating-point operations: whether it is worth a second thread.
FLOPS = 6


@dataclass(frozen=True)
class Sums:
    """How a sum per channel is cut."""

    values: dict[str, int]
    tasks: int
    runs: int
    slots: int


@dataclass(frozen=True)
class Rows:
    """How a sweep is cut."""

    values: dict[str, int]
    rows: int
    grain: int


def ready(*arrays: np.ndarray) -> bool:
    """Whether there are kernels for these arrays (N, C, *in), all of one shape and order."""
    first = arrays[0]
    return (
        first.ndim > 1
        and first.size >= FEW
        and first.dtype.char in "fd"
        and (first.flags.c_contiguous or np.moveaxis(first, 1, -1).flags.c_contiguous)
        and all(a.shape == first.shape and a.strides == first.strides and a.dtype == first.dtype for a in arrays)
        and catalogue.unavailable() is None
    )


def channel_sums(x: np.ndarray, pivot: np.ndarray, g: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Per channel, with d = x - pivot: the sums of d and d^2, or of g and g d."""
    plan = _sums(x.shape, x.strides, x.itemsize)
    lanes = vector_bytes() // x.itemsize
    if plan.values["last"]:
        pivots = np.zeros(plan.slots, x.dtype)
        pivots[: pivot.size] = pivot
    else:
        pivots = np.repeat(pivot.astype(x.dtype, copy=False), WIDE * lanes)
    to = np.empty((plan.runs, 2, plan.slots))
    scratch = aligned(2 * WIDE * lanes * threads.current(), np.float64)
    words = _words("moments" if g is None else "slopes", x.itemsize, tuple(plan.values.items()))
    given = {"x": address(x), "pivot": address(pivots), "to": address(to), "scratch": address(scratch)}
    words.run(plan.tasks, FLOPS * x.size, g=address(x if g is None else g), **given)
    sums = to.sum(0) if plan.runs > 1 else to[0]
    return sums[0, : x.shape[1]], sums[1, : x.shape[1]]


def affine(x: np.ndarray, pivot: np.ndarray, factor: np.ndarray, term: np.ndarray) -> np.ndarray:
    """(x - pivot) factor + term, a number of each per channel, in x's order."""
    return _swept("affine", {"x": x}, (pivot, factor, term))


def affine_back(
    x: np.ndarray, g: np.ndarray, pivot: np.ndarray, g_factor: np.ndarray, factor: np.ndarray, term: np.ndarray
) -> np.ndarray:
    """g g_factor + (x - pivot) factor + term."""
    return _swept("affine_back", {"x": x, "g": g}, (pivot, g_factor, factor, term))


def rectified(x: np.ndarray, g: np.ndarray | None = None) -> np.ndarray | None:
    """max(x, 0), or g where x > 0, else 0; of arrays in C order."""
    arrays = [x] if g is None else [x, g]
    fits = all(a.flags.c_contiguous and a.dtype == x.dtype and a.size == x.size for a in arrays)
    if not fits or x.size < FEW or x.dtype.char not in "fd" or catalogue.unavailable() is not None:
        return None
    y = aligned(x.shape, x.dtype)
    words = _words("rectify" if g is None else "rectify_back", x.itemsize, (("length", BLOCK), ("total", x.size)))
    given = {name: address(a) for name, a in zip(("x", "g"), arrays, strict=False)}
    words.run(ceil_div(x.size, BLOCK), len(arrays) * x.size, y=address(y), **given)
    return y


def _swept(name: str, arrays: dict[str, np.ndarray], numbers: Sequence[np.ndarray]) -> np.ndarray:
    """One sweep over arrays of one order, to a new one of the same."""
    x = arrays["x"]
    plan = _rows(x.shape, x.strides, x.itemsize, len(numbers))
    lanes = vector_bytes() // x.itemsize
    values = plan.values
    if values["step"]:
        table = np.zeros((len(numbers), values["part"] // x.itemsize), x.dtype)
        for part, number in zip(table, numbers, strict=True):
            part[:] = np.resize(number, part.size)
    else:
        table = np.repeat(np.stack(numbers, 1).astype(x.dtype), lanes)
    y = aligned(x.shape, x.dtype) if x.flags.c_contiguous else _like(x)
    words = _words(name, x.itemsize, tuple(values.items()))
    given = {key: address(a) for key, a in arrays.items()}
    words.run(plan.rows, FLOPS * x.size, plan.grain, y=address(y), table=address(table), **given)
    return y


def _like(x: np.ndarray) -> np.ndarray:
    """A new array with the channels last in memory, as x's are."""
    return np.moveaxis(aligned((x.shape[0], *x.shape[2:], x.shape[1]), x.dtype), -1, 1)


@lru_cache(maxsize=1024)
def _sums(shape: Ints, strides: Ints, size: int) -> Sums:
    (n, channels), pixels = shape[:2], total(shape[2:])
    lanes, last = vector_bytes() // size, _is_last(shape, strides, size)
    images, group = (1, WIDE * lanes) if last else (n, 1)
    slots = ceil_div(channels, group) * group
    pixels = pixels * n if last else pixels
    run = max(FEWEST, TASK_ELEMENTS // (images * group))
    runs = ceil_div(pixels, run)
    values = {
        "last": int(last), "images": images, "image_step": strides[0], "pixels": pixels, "channels": channels,
        "channel_step": size if last else strides[1], "run": ceil_div(pixels, runs), "slots": slots,
    }  # fmt: skip
    return Sums(values, runs * slots // group, runs, slots)


@lru_cache(maxsize=1024)
def _rows(shape: Ints, strides: Ints, size: int, parts: int) -> Rows:
    channels, everything = shape[1], total(shape)
    lanes = vector_bytes() // size
    if _is_last(shape, strides, size):
        length = channels * ceil_div(PATTERN, channels)
        values = {"patterns": 1, "row": 0, "part": (length + lanes) * size, "step": lanes * size}
    else:
        length = total(shape[2:])
        values = {"patterns": channels, "row": parts * lanes * size, "part": lanes * size, "step": 0}
    values |= {"length": length, "total": everything}
    return Rows(values, ceil_div(everything, length), ceil_div(BLOCK, length))


def _is_last(shape: Ints, strides: Ints, size: int) -> bool:
    """Whether the channels of a pixel lie side by side."""
    return shape[1] > 1 and strides[1] == size


@lru_cache(maxsize=4096)
def _words(name: str, size: int, values: Any) -> Words:
    return Words(catalogue.kernel("norms", name, f"f{size}"), dict(values))
