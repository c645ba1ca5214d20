"""Windows reduced axis by axis, their first winners, and gradients spread back; arrays are (N, C, *spatial).

A maximum or a sum over a box is one over its columns of one over its rows, so a k x k window costs 2 (k - 1)
operations per output instead of k k - 1. Padding is never written out: windows that overhang read fewer taps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .geometry import BinAxis, Ints, WindowAxis, total
from .records import dataclass

#: Up to so many taps are combined one after the other; more by halves, which keeps a sum's error at a few u.
FEW = 8
#: Bytes of x that are reduced at once, whole samples at least: intermediate results should stay in the cache.
BLOCK = 2**22


@dataclass(frozen=True)
class PlaneAxis:
    """Windows along one axis that start elsewhere in every plane: ``starts`` is (N, C, out)."""

    taps: int
    starts: np.ndarray
    dilation = 1
    inner = (0, 0)

    @property
    def out(self) -> int:
        return self.starts.shape[-1]

    def tap(self, t: int) -> tuple[slice, np.ndarray]:
        """All windows, and what each reads with its tap `t`."""
        return slice(None), self.starts + t

    def first_empty(self) -> None:
        """No window overhangs."""


Axis = WindowAxis | BinAxis | PlaneAxis


_BEFORE = [(slice(None),) * axis for axis in range(64)]  # NumPy allows as many axes


def at(axis: int, index: Any) -> tuple[Any, ...]:
    """The index that applies `index` to one axis."""
    return (*_BEFORE[axis], index)


def along(axis: int, ndim: int, values: Any) -> np.ndarray:
    """`values`, one per element of an axis, or per plane and element, shaped to broadcast."""
    array = np.asarray(values)
    shape = [*array.shape[:-1], *(1,) * (axis - array.ndim + 1), array.shape[-1], *(1,) * (ndim - axis - 1)]
    return array.reshape(shape)


def taken(x: np.ndarray, axis: int, where: Any) -> np.ndarray:
    """What one tap reads: a view for a slice, a copy for positions, per plane for positions of three axes."""
    if isinstance(where, slice):
        return x[at(axis, where)]
    if isinstance(where, list):
        return x.take(where, axis)
    return np.take_along_axis(x, along(axis, x.ndim, where), axis)


# --------------------------------------------------------------------------- forward
def reduce_windows(ufunc: np.ufunc, x: np.ndarray, axes: Sequence[Axis], out: np.ndarray) -> None:
    """Write `ufunc` over every window of x into out, of the same dtype: (N, C, *in) -> (N, C, *out).

    A window that reads no input gives 0.
    """
    samples = max(1, BLOCK // max(1, x.nbytes // max(1, len(x))))
    if len(x) <= samples or any(isinstance(windows, PlaneAxis) for windows in axes):
        _reduce_block(ufunc, x, axes, out)
        return
    for first in range(0, len(x), samples):
        here = slice(first, first + samples)
        _reduce_block(ufunc, x[here], axes, out[here])


def _reduce_block(ufunc: np.ufunc, x: np.ndarray, axes: Sequence[Axis], out: np.ndarray) -> None:
    todo = [(axis, windows) for axis, windows in enumerate(axes, 2) if not _keeps(windows)]
    for axis, windows in todo[:-1]:
        shape = (*x.shape[:axis], windows.out, *x.shape[axis + 1 :])
        step = np.empty_like(x, shape=shape)  # in x's memory order, so that both sides run contiguously
        _reduce_axis(ufunc, x, axis, windows, step)
        x = step
    if todo:
        _reduce_axis(ufunc, x, *todo[-1], out)
    else:
        out[...] = x


def _keeps(windows: Axis) -> bool:
    """Whether the windows are the inputs themselves."""
    return isinstance(windows, WindowAxis) and windows.taps == windows.stride == 1 and windows.lo == windows.hi == 0


def _reduce_axis(ufunc: np.ufunc, x: np.ndarray, axis: int, windows: Axis, out: np.ndarray) -> None:
    if isinstance(windows, PlaneAxis):
        _combine(ufunc, [taken(x, axis, windows.tap(t)[1]) for t in range(windows.taps)], out)
        return
    first, stop = windows.inner
    if first < stop and isinstance(windows, WindowAxis):
        inside = out[at(axis, slice(first, stop))] if windows.outer else out
        _reduce_inner(ufunc, x, axis, windows, inside)
    for o in windows.outer:
        reads, target = windows.reads(o), out[at(axis, o)]
        if len(reads) > FEW:
            part = x[at(axis, slice(reads.start, reads.stop, reads.step))]
            _halve(ufunc, np.moveaxis(part, axis, -1), target)
        else:
            _combine(ufunc, [x[at(axis, i)] for i in reads], target)


def _reduce_inner(ufunc: np.ufunc, x: np.ndarray, axis: int, windows: WindowAxis, out: np.ndarray) -> None:
    """The windows that read an input with every tap."""
    if windows.taps <= FEW and not _densely(x, axis, windows):
        _combine(ufunc, [x[at(axis, where)] for where in windows.inner_taps], out)
        return
    part = x[at(axis, windows.inner_span)]
    if windows.taps <= FEW:
        size, d = part.shape[axis] - windows.effective + 1, windows.dilation
        dense = np.empty_like(part, shape=(*part.shape[:axis], size, *part.shape[axis + 1 :]))
        _combine(ufunc, [part[at(axis, slice(t * d, t * d + size))] for t in range(windows.taps)], dense)
        out[...] = dense[at(axis, slice(None, None, windows.stride))]
    elif 2 * windows.stride >= windows.effective:  # little shared between windows
        stack = np.lib.stride_tricks.sliding_window_view(part, windows.effective, axis)
        _halve(ufunc, stack[at(axis, slice(None, None, windows.stride))][..., :: windows.dilation], out)
    else:
        _slide(ufunc, part, axis, windows, out)


def _densely(x: np.ndarray, axis: int, windows: WindowAxis) -> bool:
    """Whether to compute the windows between the windows too, and drop them.

    NumPy starts its inner loop anew for every contiguous run. Stride 2 along an axis of steps of 64 float32,
    as the columns of channels-last images, took 95 us in runs of 64, and 40 us in one run over twice as many
    windows (401,408 numbers, AMD Zen 4, NumPy 2.4); dropping every other one costs 29 us, once for all taps.
    """
    return windows.stride == 2 and windows.taps > 1 and 64 <= abs(x.strides[axis]) <= 256


def _combine(ufunc: np.ufunc, parts: list[np.ndarray], out: np.ndarray) -> None:
    """`ufunc` over a few arrays of out's shape, in order."""
    if len(parts) < 2:
        out[...] = parts[0] if parts else 0
        return
    ufunc(parts[0], parts[1], out=out)
    for part in parts[2:]:
        ufunc(out, part, out=out)


def _halve(ufunc: np.ufunc, stack: np.ndarray, out: np.ndarray) -> None:
    """`ufunc` over the last axis, in an order that depends on its length alone, not on the memory layout."""
    while (n := stack.shape[-1]) > FEW:
        half = n // 2
        joined = ufunc(stack[..., :half], stack[..., half : 2 * half])
        if n % 2:
            ufunc(joined[..., 0], stack[..., -1], out=joined[..., 0])
        stack = joined
    _combine(ufunc, [stack[..., i] for i in range(stack.shape[-1])], out)


def _slide(ufunc: np.ufunc, x: np.ndarray, axis: int, windows: WindowAxis, out: np.ndarray) -> None:
    """Sliding windows of k taps: runs of 1, 2, 4 ... taps by doubling, joined by the binary digits of k."""
    d, k = windows.dilation, windows.taps
    run, done, joined, m = x, x, 0, 1
    while True:
        if k & m:
            ahead = run[at(axis, slice(joined * d, None))]
            done = ufunc(done[at(axis, slice(ahead.shape[axis]))], ahead) if joined else run
            joined += m
        if joined == k:
            break
        run = ufunc(run[at(axis, slice(-m * d))], run[at(axis, slice(m * d, None))])
        m *= 2
    out[...] = done[at(axis, slice(None, None, windows.stride))]


# --------------------------------------------------------------------------- winners
def each_tap(x: np.ndarray, axes: Sequence[Axis], axis: int = 2) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
    """For every tap of the window, row-major: the windows that read an input with it, and what they read."""
    if not axes:
        yield (), x
        return
    for t in range(axes[0].taps):
        windows, where = axes[0].tap(t)
        for rest, values in each_tap(taken(x, axis, where), axes[1:], axis + 1):
            yield (windows, *rest), values


def winning_taps(x: np.ndarray, y: np.ndarray, axes: Sequence[Axis]) -> np.ndarray:
    """The number of the first tap that reads the maximum y of its window, or the first NaN (rule R15)."""
    count = total([windows.taps for windows in axes])
    if total(y.shape[2:]) * FEW < count and not any(isinstance(windows, PlaneAxis) for windows in axes):
        return _winners_by_window(x, y, axes)
    kind = np.min_scalar_type(count)
    score = np.zeros_like(y, dtype=kind)  # the first hit scores highest
    nan = y.dtype.kind not in "iu" and bool(np.isnan(y).any())
    for number, (windows, values) in enumerate(each_tap(x, axes)):
        best, here = y[(..., *windows)], score[(..., *windows)]
        hit = values == best
        if nan:
            hit |= np.isnan(values)
        np.maximum(here, np.multiply(hit.view(np.uint8), kind.type(count - number), dtype=kind), out=here)
    return np.subtract(kind.type(count), score)


def _winners_by_window(x: np.ndarray, y: np.ndarray, axes: Sequence[Any]) -> np.ndarray:
    """`winning_taps` where windows are few and large."""
    codes = np.empty(y.shape, np.int64)
    taps = tuple(windows.taps for windows in axes)
    for o in np.ndindex(*y.shape[2:]):
        reads = [windows.reads(i) for windows, i in zip(axes, o, strict=True)]
        part = x[(..., *(slice(r.start, r.stop, r.step) for r in reads))]
        found = np.unravel_index(part.reshape(*x.shape[:2], total(part.shape[2:])).argmax(-1), part.shape[2:])
        firsts = [windows.first_tap(i) for windows, i in zip(axes, o, strict=True)]
        codes[(..., *o)] = np.ravel_multi_index([f + t for f, t in zip(found, firsts, strict=True)], taps)
    return codes


def winner_numbers(codes: np.ndarray, axes: Sequence[Axis], strides: tuple[int, int, Ints], out: np.ndarray) -> None:
    """Write n a + c b + sum of position_i stride_i, of every winner, into out, (N, C, *out) int64."""
    per_sample, per_channel, spatial = strides
    table = np.zeros(1, np.int64)
    for windows, stride in zip(axes, spatial, strict=True):
        steps = np.arange(windows.taps, dtype=np.int64) * (windows.dilation * stride)
        table = np.add.outer(table, steps).reshape(-1)
    base: Any = 0
    for axis, (windows, stride) in enumerate(zip(axes, spatial, strict=True), 2):
        base = base + along(axis, out.ndim, np.asarray(windows.starts, np.int64) * stride)
    for axis, stride in ((0, per_sample), (1, per_channel)):
        if stride:
            base = base + along(axis, out.ndim, np.arange(out.shape[axis], dtype=np.int64) * stride)
    order = memory_order(out)
    target = out.transpose(order)
    if target.flags.c_contiguous:  # "clip" lets take write in place; no code lies outside the table
        np.take(table, codes.transpose(order), out=target, mode="clip")
    else:
        out[...] = table[codes]
    out += base


def memory_order(array: np.ndarray) -> tuple[int, ...]:
    """The axes from the largest stride to the smallest."""
    return tuple(sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis])))


# --------------------------------------------------------------------------- backward
def overlap(axes: Sequence[Axis]) -> int:
    """At most how many windows read one input."""
    return total([min(windows.out, windows.taps) for windows in axes])


def accumulator(dtype: np.dtype, terms: int) -> np.dtype:
    """The dtype in which `terms` numbers may be added one after the other with an error of a few u."""
    return np.dtype(np.float64) if dtype.kind == "f" and terms > 2 * FEW else dtype


def spread_windows(g: np.ndarray, axes: Sequence[WindowAxis | BinAxis], in_shape: Ints) -> np.ndarray:
    """The adjoint of a sum over windows, (N, C, *out) -> (N, C, *in): inputs get the sum of their windows."""
    dtype = g.dtype
    g = g.astype(accumulator(dtype, overlap(axes)), copy=False)
    for axis, windows in reversed(list(enumerate(axes, 2))):
        if _keeps(windows):
            continue
        spread = np.zeros_like(g, shape=(*g.shape[:axis], in_shape[axis - 2], *g.shape[axis + 1 :]))
        if isinstance(windows, WindowAxis) and windows.taps <= windows.out:
            pairs: Any = (windows.tap(t) for t in range(windows.taps))
        else:
            reads = ((o, windows.reads(o)) for o in range(windows.out))
            pairs = ((slice(o, o + 1), slice(r.start, r.stop, r.step)) for o, r in reads)
        for source, target in pairs:
            spread[at(axis, target)] += g[at(axis, source)]
        g = spread
    return g.astype(dtype, copy=False)


def scatter_windows(g: np.ndarray, planes: np.ndarray, in_shape: Ints, terms: int) -> np.ndarray:
    """Add every g to its position in its plane: (N, C, *out) twice -> (N, C, *in), in row-major order."""
    n, c = g.shape[:2]
    ones, spatial = (1,) * len(in_shape), tuple(range(2, g.ndim))
    samples, channels = np.arange(n).reshape(n, 1, *ones), np.arange(c).reshape(1, c, *ones)
    if memory_order(g)[-1] == 1:  # channels innermost: keep to that order; within a plane it is the same
        shape, order, back = (n, *in_shape, c), (0, *spatial, 1), (0, g.ndim - 1, *(a - 1 for a in spatial))
        positions = planes * c + (samples * (total(in_shape) * c) + channels)
    else:
        shape, order, back = (n, c, *in_shape), (0, 1, *spatial), (0, 1, *spatial)
        positions = planes + (samples * c + channels) * total(in_shape)
    flat = np.zeros(total(shape), accumulator(g.dtype, terms))
    values = g.transpose(order).astype(flat.dtype, copy=False)
    np.add.at(flat, positions.transpose(order).reshape(-1), values.reshape(-1))
    return flat.reshape(shape).transpose(back).astype(g.dtype, copy=False)
