"""Pad, view and fold: the only stride tricks, and their adjoints. Arrays are canonical, (N, C, *spatial)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .geometry import ConvGeometry, Ints, Pads, dilated_size, landing
from .lazy import Later

if TYPE_CHECKING:
    from .compiled import copying
else:  # only borders other than zeros need it
    copying = Later(".compiled.copying", __package__)

MODES = ("zeros", "constant", "reflect", "symmetric", "replicate", "circular")


def channels_innermost(x: np.ndarray) -> bool:
    """Whether neighbouring channels of an (N, C, *spatial) view are neighbours in memory."""
    return x.ndim > 2 and x.shape[1] > 1 and x.strides[1] == x.itemsize


def empty_like_order(shape: Ints, dtype: Any, channels_last: bool, fill: bool = False) -> np.ndarray:
    """A new (N, C, *spatial) array whose channels lie innermost in memory if asked."""
    make = np.zeros if fill else np.empty
    if not channels_last:
        return make(shape, dtype)
    n, c, *spatial = shape
    order = (0, len(shape) - 1, *range(1, len(shape) - 1))
    return make((n, *spatial, c), dtype).transpose(order)


def pad(
    x: np.ndarray, pads: Pads, input_dilation: Ints | None = None, dtype: Any = None, shape: Ints | None = None
) -> np.ndarray:
    """Zero-pad (negative: crop) and dilate the spatial axes: (N, C, *in) -> (N, C, *padded).

    `shape` asks for more zeros at the end, up to that spatial size. A view when nothing has to be inserted and the dtype
    stays.
    """
    dtype = x.dtype if dtype is None else np.dtype(dtype)
    dilation = input_dilation or (1,) * len(pads)
    padded = tuple(dilated_size(n, D) + lo + hi for n, D, (lo, hi) in zip(x.shape[2:], dilation, pads, strict=True))
    if (shape or padded) == padded and all(D == 1 for D in dilation) and all(lo <= 0 and hi <= 0 for lo, hi in pads):
        crop = tuple(slice(-lo, n + hi) for n, (lo, hi) in zip(x.shape[2:], pads, strict=True))
        return np.asarray(x[(..., *crop)], dtype)
    zeros = empty_like_order((*x.shape[:2], *(shape or padded)), dtype, channels_innermost(x), fill=True)
    parts = [landing(n, lo, p, D) for n, (lo, _), p, D in zip(x.shape[2:], pads, padded, dilation, strict=True)]
    zeros[(..., *(to for _, to in parts))] = x[(..., *(source for source, _ in parts))]
    return zeros


def pad_geometry(x: np.ndarray, geometry: ConvGeometry, dtype: Any = None, shape: Ints | None = None) -> np.ndarray:
    """`x` as the windows of `geometry` read it: dilated, padded, cropped; zeros after that up to `shape`."""
    return pad(x, geometry.padding, geometry.input_dilation, dtype, shape)


def pad_mode(x: np.ndarray, pads: Pads, mode: str, value: Any = 0) -> np.ndarray:
    """Pad the spatial axes in any of the six modes, in the memory order of `x`; negative padding crops."""
    if mode in ("zeros", "constant"):
        padded = pad(x, pads)
        if mode == "constant" and value != 0:
            filled = np.full(padded.shape, value, x.dtype)
            parts = [landing(n, lo, p, 1) for n, (lo, _), p in zip(x.shape[2:], pads, padded.shape[2:], strict=True)]
            inside = (..., *(to for _, to in parts))
            filled[inside] = padded[inside]
            return filled
        return padded
    if not any(lo or hi for lo, hi in pads):
        return x
    if any(lo < 0 or hi < 0 for lo, hi in pads):  # what is copied beyond one end may be cropped at the other
        for axis, (size, (lo, hi)) in enumerate(zip(x.shape[2:], pads, strict=True), 2):
            x = x.take(copying.source_positions(size, lo, hi, mode), axis)
        return x
    done = copying.extended(x, pads, mode)
    if done is not None:
        return done
    sides = [(n, lo, hi) for n, (lo, hi) in zip(x.shape[2:], pads, strict=True)]
    padded = np.empty_like(x, shape=(*x.shape[:2], *(lo + n + hi for n, lo, hi in sides)))
    middle = [slice(lo, lo + n) for n, lo, _ in sides]
    padded[(..., *middle)] = x
    for i, (n, lo, hi) in enumerate(sides):  # axes before this one are whole, those behind are not yet
        before = (slice(None),) * (2 + i)
        part, source = padded[(*before, slice(None), *middle[i + 1 :])], lo + copying.source_positions(n, lo, hi, mode)
        for beyond in (slice(0, lo), slice(lo + n, lo + n + hi)):
            part[(*before, beyond)] = part[(*before, source[beyond])]
    return padded


def pad_mode_adjoint(g: np.ndarray, shape: Ints, pads: Pads, mode: str) -> np.ndarray:
    """The adjoint of `pad_mode`: every padded position gives back to the input that it copied."""
    if mode in ("zeros", "constant"):
        return pad(g, tuple((-lo, -hi) for lo, hi in pads))
    for axis, (size, (lo, hi)) in enumerate(zip(shape, pads, strict=True), 2):
        if lo or hi:
            moved = np.moveaxis(g, axis, 0)
            total = np.zeros((size, *moved.shape[1:]), g.dtype)
            for row, source in zip(moved, copying.source_positions(size, lo, hi, mode), strict=True):
                total[source] += row
            g = np.moveaxis(total, 0, axis)
    return g


def view(padded: np.ndarray, out: Ints, kernel: Ints, stride: Ints, dilation: Ints) -> np.ndarray:
    """All windows of a padded array as a read-only view: (N, C, *padded) -> (N, C, *out, *k)."""
    steps = padded.strides[2:]
    # a step is taken only where there is a second window or tap; so huge strides cannot overflow
    window = tuple(b * s if n > 1 else 0 for b, s, n in zip(steps, stride, out, strict=True))
    tap = tuple(b * d if n > 1 else 0 for b, d, n in zip(steps, dilation, kernel, strict=True))
    return np.lib.stride_tricks.as_strided(
        padded,
        (*padded.shape[:2], *out, *kernel),
        (*padded.strides[:2], *window, *tap),
        writeable=False,
    )


def conv_view(padded: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """The windows that `geometry` reads: (N, C, *padded) -> (N, C, *out, *k)."""
    return view(padded, geometry.out_shape, geometry.kernel, geometry.stride, geometry.dilation)


def plane_runs(padded: np.ndarray, geometry: ConvGeometry, length: int) -> np.ndarray:
    """For stride 1, runs of `length` elements from each tap's position: (N, C, *padded) -> (N, C, *k, length)."""
    planes = np.ascontiguousarray(padded)
    taps = tuple(b * d for b, d in zip(planes.strides[2:], geometry.dilation, strict=True))
    shape, strides = (*planes.shape[:2], *geometry.kernel, length), (*planes.strides[:2], *taps, planes.itemsize)
    return np.lib.stride_tricks.as_strided(planes, shape, strides, writeable=False)


def row_runs(padded: np.ndarray, geometry: ConvGeometry, length: int) -> np.ndarray:
    """The same with channels innermost, a run per output row: (N, C, *padded) -> (N, *out[:-1], *k, length)."""
    pixels = np.ascontiguousarray(np.moveaxis(padded, 1, -1))
    steps = pixels.strides[1:-1]
    taps = tuple(b * d for b, d in zip(steps, geometry.dilation, strict=True))
    shape = (geometry.batch, *geometry.out_shape[:-1], *geometry.kernel, length)
    strides = (pixels.strides[0], *steps[:-1], *taps, pixels.itemsize)
    return np.lib.stride_tricks.as_strided(pixels, shape, strides, writeable=False)


def tap_slice(tap: Ints, out: Ints, stride: Ints, dilation: Ints) -> tuple[Any, ...]:
    """The index of everything that one tap reads: ``padded[tap_slice(...)]`` is (N, C, *out)."""
    return (
        ...,
        *(slice(t * d, t * d + dilated_size(n, s), s) for t, n, s, d in zip(tap, out, stride, dilation, strict=True)),
    )


def reshape_view(array: np.ndarray, shape: Ints) -> np.ndarray | None:
    """`array` reshaped without a copy, or None where its strides do not allow that."""
    try:
        return np.reshape(array, shape, copy=False)
    except ValueError:
        return None
