"""Depthwise: prefer it when every group has one input channel; there is nothing to multiply matrices with.

With one input channel per group a convolution does k products per output and no sum over channels, so a matrix
product would be all overhead. What is left is a multiply-add per tap, and the art is to give it long runs of memory: at
stride 1 the rows of a padded image lie end to end, so one run goes on over them, and the few sums that straddle two rows
are never read. `numpy.einsum` does the multiply-add in one pass; `order="F"` makes its first output label the inner loop.
Source: Sifre (2014), "Rigid-motion scattering for image classification"; Chollet (2017), arXiv:1610.02357.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..geometry import ConvGeometry, Ints, ceil_div, dilated_size, total
from ..windows import channels_innermost, conv_view, pad, pad_geometry, plane_runs, reshape_view, row_runs
from .base import Algorithm, Cost, elements

#: Products that the weight gradient adds up in the working precision before it goes on in double.
LONGEST_RUN = 1024
#: The einsum label of the axis along a run.
RUN = 51
#: Bytes of outputs worked on at once: they are read and written again for every tap.
CACHE_BYTES = 1 << 19


class Depthwise(Algorithm):
    """One multiply-add per tap over long runs."""

    name = "depthwise"
    exact_footprint = ("forward", "input_grad")  # in the weight gradient, runs meet zeros between two rows
    summary = "multiplies and adds shifted rows, channel by channel; for one input channel per group"

    def why_not(self, geometry: ConvGeometry, dtype: np.dtype) -> str | None:
        per_group = geometry.in_channels // geometry.groups
        if per_group != 1:
            return f"needs one input channel per group, there are {per_group}"
        return None

    def cost(self, geometry: ConvGeometry, dtype: np.dtype, direction: str = "forward") -> Cost:
        padded, w, y = elements(geometry)
        row = geometry.out_shape[-1] if geometry.rank else 1
        held = 2 * padded + (2 + row) * w + 2 * y
        moved = 2 * padded + 5 * y * geometry.taps // 4  # a multiply-add stays in the cache
        calls = 20 * (geometry.out_channels // max(1, geometry.groups))
        return Cost(0, moved * dtype.itemsize, calls, held * dtype.itemsize)

    def tile(self, geometry: ConvGeometry, dtype: np.dtype, direction: str = "forward") -> tuple[int, Ints]:
        if not geometry.rank:
            return geometry.batch, geometry.out_shape
        per_row = geometry.out_channels * total(geometry.out_shape[1:]) * dtype.itemsize
        first = geometry.out_shape[0]
        rows = max(1, min(first, 4 * CACHE_BYTES // max(1, per_row)))
        return 1, (ceil_div(first, ceil_div(first, rows)), *geometry.out_shape[1:])

    def forward(self, x: np.ndarray, prepared: Any, geometry: ConvGeometry, out: np.ndarray) -> None:
        multiplier = geometry.out_channels // geometry.groups
        padded = pad_geometry(x, geometry, out.dtype)
        for j in range(multiplier):
            weights, target = prepared[j::multiplier, 0], out[:, j::multiplier]
            if any(s != 1 for s in geometry.stride) or not geometry.rank:
                _strided(padded, weights, geometry, target)
            elif channels_innermost(padded):
                _rows(padded, weights, geometry, target)
            else:
                _planes(padded, weights, geometry, target)

    def weight_grad(self, x: np.ndarray, g: np.ndarray, geometry: ConvGeometry, out: np.ndarray) -> None:
        multiplier, rank = geometry.out_channels // geometry.groups, geometry.rank
        padded = pad_geometry(x, geometry, out.dtype)
        taps = list(range(2 + rank, 2 + 2 * rank))
        for j in range(multiplier):
            gs = np.asarray(g[:, j::multiplier], out.dtype)
            into = out[j::multiplier, 0]
            if any(s != 1 for s in geometry.stride) or not rank:
                axes = list(range(2 + rank))
                view, sums = conv_view(padded, geometry), [1, *taps]
                part = np.einsum(view, [*axes, *taps], gs, axes, sums, order="C", dtype=_wide(out.dtype))
                into += part.astype(out.dtype)
            elif channels_innermost(padded):
                runs, row = _row_runs(padded, geometry)
                across = list(range(rank))  # N and all spatial axes but the last; then the taps, then the run
                inner = [*taps, RUN]
                sums = np.einsum(runs, [*across, *inner], _as_rows(gs, row), [*across, RUN], inner[::-1], order="F").T
                pixels = sums.reshape(*geometry.kernel, -1, geometry.in_channels).sum(-2, dtype=_wide(out.dtype))
                into += np.moveaxis(pixels, -1, 0).astype(out.dtype)
            else:
                runs, length = _plane_runs(padded, geometry)
                apart = pad(gs, ((0, 0),) * rank, None, None, (geometry.out_shape[0], *padded.shape[3:]))
                apart = apart.reshape(*apart.shape[:2], -1)[..., :length]
                sums_of_taps = np.zeros(into.shape, _wide(out.dtype))
                for i in range(0, length, LONGEST_RUN):  # short sums, added in double: the whole keeps its bound
                    here = slice(i, i + LONGEST_RUN)
                    labels = [0, 1, *taps]
                    part = np.einsum(runs[..., here], [*labels, RUN], apart[..., here], [0, 1, RUN], labels, order="C")
                    sums_of_taps += part.sum(0, dtype=_wide(out.dtype))
                into += sums_of_taps.astype(out.dtype)


def _wide(dtype: np.dtype) -> np.dtype:
    return np.result_type(dtype, np.float64)


def _strided(padded: np.ndarray, w: np.ndarray, geometry: ConvGeometry, out: np.ndarray) -> None:
    """Any stride: the inner loop runs over channels, or over one strided row."""
    rank = geometry.rank
    spatial, taps = list(range(2, 2 + rank)), list(range(2 + rank, 2 + 2 * rank))
    fastest = [1, *spatial[::-1], 0] if channels_innermost(padded) else [*spatial[::-1], 1, 0]
    labels = [0, 1, *spatial]
    target = out.transpose([labels.index(i) for i in fastest])
    np.einsum(conv_view(padded, geometry), [*labels, *taps], w, [1, *taps], fastest, out=target, order="F")


def _plane_runs(padded: np.ndarray, geometry: ConvGeometry) -> tuple[np.ndarray, int]:
    """The runs of each channel, (N, C, *k, run): from the first to the last output of a plane, rows end to end."""
    steps = [total(padded.shape[3 + i :]) for i in range(geometry.rank)]
    length = 1 + sum(dilated_size(n, step) - 1 for n, step in zip(geometry.out_shape, steps, strict=True))
    return plane_runs(padded, geometry, length), length


def _planes(padded: np.ndarray, w: np.ndarray, geometry: ConvGeometry, out: np.ndarray) -> None:
    """Channels outermost: one run per channel and tap, a few channels at a time."""
    runs, length = _plane_runs(padded, geometry)
    n, channels, taps = padded.shape[0], padded.shape[1], list(range(2, 2 + geometry.rank))
    size = geometry.out_shape[0] * total(padded.shape[3:])
    chunk = max(1, CACHE_BYTES // max(1, size * out.itemsize))
    wide = np.empty((min(chunk, channels), size), out.dtype)
    inside = tuple(slice(0, m) for m in geometry.out_shape)
    for i in range(n):
        for c in range(0, channels, chunk):
            here = wide[: min(chunk, channels - c)]
            part = runs[i, c : c + chunk]
            np.einsum(part, [0, *taps, 1], w[c : c + chunk], [0, *taps], [1, 0], out=here[:, :length].T, order="F")
            rows = here.reshape(len(here), geometry.out_shape[0], *padded.shape[3:])
            out[i, c : c + chunk] = rows[(slice(None), *inside)]


def _row_runs(padded: np.ndarray, geometry: ConvGeometry) -> tuple[np.ndarray, int]:
    """The runs of each output row, (N, *out[:-1], *k, run): its pixels and their channels end to end."""
    length = geometry.out_shape[-1] * geometry.in_channels
    return row_runs(padded, geometry, length), length


def _as_rows(array: np.ndarray, length: int) -> np.ndarray:
    """(N, C, *spatial) as (N, *spatial[:-1], pixels and channels): a view where channels lie innermost."""
    moved = np.moveaxis(array, 1, -1)
    return moved.reshape(*moved.shape[:-2], length)


def _rows(padded: np.ndarray, w: np.ndarray, geometry: ConvGeometry, out: np.ndarray) -> None:
    """Channels innermost: one run per output row and tap, against weights repeated for every pixel of a row."""
    runs, length = _row_runs(padded, geometry)
    across, taps = list(range(geometry.rank)), list(range(geometry.rank, 2 * geometry.rank))
    tiled = np.moveaxis(w, 0, -1)[..., None, :]
    tiled = np.broadcast_to(tiled, (*geometry.kernel, geometry.out_shape[-1], geometry.in_channels))
    tiled = tiled.reshape(*geometry.kernel, length)
    shape = (geometry.batch, *geometry.out_shape[:-1], length)
    y = reshape_view(np.moveaxis(out, 1, -1), shape)
    target = np.empty(shape, out.dtype) if y is None else y
    labels = [RUN, *across[::-1]]
    np.einsum(runs, [*across, *taps, RUN], tiled, [*taps, RUN], labels, out=target.T, order="F")
    if y is None:
        np.moveaxis(out, 1, -1)[...] = target.reshape(geometry.batch, *geometry.out_shape, geometry.in_channels)
