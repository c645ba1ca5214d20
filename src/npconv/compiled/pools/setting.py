"""What the kernels of pooling need to know of arrays and windows: three axes, sizes, strides, tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...geometry import BinAxis, Ints, WindowAxis, ceil_div, covered_size, total
from ...records import dataclass
from .. import catalogue
from ..panels import LINE, from_memory, vector_bytes
from .tables import ABSENT, LONGEST, AxisTables, padded

#: How many bytes ahead of a row or a pixel inputs are brought into the cache, if they come from memory.
FAR = 4096
Axes = Sequence[WindowAxis | BinAxis]
#: Counts by which the sum of a window is divided: their product, one per axis.
Shares = Sequence[Sequence[int]]
#: Bytes of scratch that should stay in a core's cache.
CACHED = 2**17


@dataclass(frozen=True)
class Setting:
    """What all kernels need to know: three axes, the sizes, the strides in bytes."""

    dtype: np.dtype
    shape: Ints  # (N, C, *in)
    axes: tuple[AxisTables, ...]
    x: Ints  # strides of (N, C, D, H, W)
    y: Ints
    last: bool  # whether channels lie side by side, else the pixels of a row

    @property
    def sizes(self) -> Ints:
        return tuple(t.axis.size for t in self.axes)

    @property
    def outs(self) -> Ints:
        return tuple(t.axis.out for t in self.axes)

    @property
    def lanes(self) -> int:
        return vector_bytes() // self.dtype.itemsize


def setting(axes: Axes, last: bool, x: np.ndarray, y: np.ndarray) -> Setting | None:
    """The setting of a pooling from canonical x to canonical y (or back), or None where no kernel fits.

    Which kernel it is depends on the layout (`last`: channels come last), never on strides: they must not change bits.
    """
    if catalogue.unavailable() or x.dtype != y.dtype or x.dtype.kind != "f" or not x.dtype.isnative:
        return None
    size = x.dtype.itemsize
    if size not in (4, 8) or not x.size or not y.size or not 1 <= len(axes) <= 3:
        return None
    if not all(isinstance(axis, (WindowAxis, BinAxis)) for axis in axes):
        return None
    if any(s % size for s in (*x.strides, *y.strides)) or max(abs(s) for s in (*x.strides, *y.strides)) >= 2**40:
        return None
    axis = 1 if last else -1
    if not all(a.strides[axis] == size or a.shape[axis] == 1 for a in (x, y)):
        return None
    if any(axis.size >= 2**31 or axis.taps * axis.dilation >= 2**31 for axis in axes):
        return None
    tables = tuple(AxisTables(axis) for axis in three(axes, last, ABSENT))
    return Setting(x.dtype, x.shape, tables, five(x.strides, last), five(y.strides, last), last)


def three(values: Sequence[Any], last: bool, absent: Any) -> tuple[Any, ...]:
    """One value per axis as (depth, height, width).

    Where lanes are channels a line runs along the height, so that its windows are blocks of their own.
    """
    missing = 3 - len(values)
    front = 1 if last and missing == 2 else missing
    return (*(absent,) * front, *values, *(absent,) * (missing - front))


def five(strides: Ints, last: bool) -> Ints:
    """Canonical strides as those of (N, C, D, H, W)."""
    return (*strides[:2], *three(strides[2:], last, 0))


def per_axis(name: str, values: Sequence[Any]) -> dict[str, Any]:
    return {f"{name}_{axis}": value for axis, value in zip("dhw", values, strict=True)}


def window_tables(s: Setting) -> dict[str, np.ndarray]:
    """Where windows begin in bytes, and how many inputs they read."""
    begins = [t.begins * step for t, step in zip(s.axes, s.x[2:], strict=True)]
    return per_axis("begin", begins) | per_axis("count", [t.counts for t in s.axes])


def number_tables(s: Setting, numbers: Ints) -> tuple[dict[str, int], dict[str, np.ndarray]]:
    """What a step along each axis adds to an index, between taps and in a table of where windows begin."""
    steps = [n * t.axis.dilation for t, n in zip(s.axes, numbers, strict=True)]
    if not s.last:  # along a row the kernel multiplies itself
        steps[2] = numbers[2]
    return per_axis("number", steps), per_axis("from", [t.begins * n for t, n in zip(s.axes, numbers, strict=True)])


def share_tables(s: Setting, shares: Shares) -> list[np.ndarray]:
    """One table of divisors per axis; an axis that is not there, and a window of nothing, count 1."""
    given = [np.maximum(1, np.array(values, np.int64)) for values in shares]
    return list(three(given, s.last, np.ones(1, np.int64)))


def row_share_tables(s: Setting, shares: Shares) -> tuple[dict[str, int], dict[str, np.ndarray]]:
    """The divisors of a kernel that walks along rows."""
    d, h, w = share_tables(s, shares)
    counts = {int(n) for values in (d, h, w) for n in values}
    alike = all(len(set(values.tolist())) == 1 for values in (d, h, w))
    exact = alike and all(n & (n - 1) == 0 for n in counts)
    row = padded(w, len(w) + s.lanes).astype(s.dtype)
    return {"inverse": int(w[0]) if exact else 0}, {"share_d": d, "share_h": h, "shares": row}


def too_long(s: Setting) -> bool:
    """Whether sums of these windows could lose more than promised."""
    runs = [ceil_div(t.axis.taps, 8) + min(8, t.axis.taps) for t in s.axes]
    return sum(runs) > LONGEST


def row_walk(s: Setting) -> dict[str, int]:
    """How a row is read: see `first_reduce`. Stride 0 reads windows one by one."""
    axis, size = s.axes[2].axis, s.dtype.itemsize
    regular = isinstance(axis, WindowAxis) and (axis.stride <= 4 or axis.out == 1)
    if not isinstance(axis, WindowAxis) or not regular:
        return {"stride": 0, "dilation": axis.dilation, "low": 0, "taps": axis.taps, "margin": 0, "end": axis.end,
                "reach": 0, "pitch": whole_vectors(s, axis.end + s.lanes) * size}  # fmt: skip
    stride = axis.stride if axis.out > 1 else 1
    margin = max(0, axis.lo)
    reach = covered_size(axis.effective, stride, s.lanes) + stride  # whole vectors are read, also of the last tap
    last = covered_size(axis.effective, stride, axis.out) - axis.lo + reach
    pitch = whole_vectors(s, margin + max(axis.end, last) + s.lanes)
    return {"stride": stride, "dilation": axis.dilation, "low": axis.lo, "taps": axis.taps, "margin": margin,
            "end": axis.end, "reach": reach, "pitch": pitch * size}  # fmt: skip


def whole_vectors(s: Setting, count: int) -> int:
    """`count` elements rounded up to whole vectors."""
    return ceil_div(count, s.lanes) * s.lanes


def named_strides(name: str, strides: Ints) -> dict[str, int]:
    return {f"{name}_{axis}": stride for axis, stride in zip("ncdhw", strides, strict=True)}


def tap_steps(s: Setting) -> dict[str, int]:
    return per_axis("step", [stride * t.axis.dilation for stride, t in zip(s.x[2:], s.axes, strict=True)])


def ahead(s: Setting) -> dict[str, int]:
    """How far ahead inputs are brought into the cache, 0 for not at all, and how many bytes of each run at a time.

    For a pixel of outputs where channels lie side by side, else for a row of them: hardware does not see windows come.
    """
    (d, h, w), (out_d, out_h, out_w) = s.sizes, s.outs
    fresh = ceil_div(w * s.x[4], out_w) if s.last else ceil_div(d * h * s.x[3], out_d * out_h)
    comes = from_memory(total(s.shape) * s.dtype.itemsize) and fresh >= 2 * LINE
    return {"far": FAR if comes else 0, "fresh": fresh}


def work_of(s: Setting) -> float:
    n = s.shape[0] * s.shape[1] * s.dtype.itemsize
    return 2.0 * n * (total(s.sizes) + total(s.outs))


def one_window(s: Setting) -> bool:
    """Whether one window reads everything, in planes of pixels."""
    return not s.last and all(t.axis.out == 1 and t.counts[0] == t.axis.size for t in s.axes)


def pixel(s: Setting) -> int:
    """How far apart the pixels of a plane lie, in row-major order; 0 where that is not one distance."""
    (d, h, w), steps = s.sizes, s.x[2:]
    unit = next((step for n, step in ((w, steps[2]), (h, steps[1]), (d, steps[0])) if n > 1), s.dtype.itemsize)
    even = all(n == 1 or step == unit * far for n, step, far in zip((d, h, w), steps, (h * w, w, 1), strict=True))
    return unit if even else 0
