"""im2col: prefer it for almost everything; one big matrix product over gathered windows.

Copy the window of every output into a column of a matrix. Then all outputs are one product with the weights, each
kernel a row, and BLAS runs it at the machine's speed. The price is memory: a pixel is copied once per tap. So the
matrix is built tile by tile, small enough to stay in the cache. A 1x1 kernel at stride 1 needs no copy at all.

    columns[(c, t), p] = x[c, p s + t d - lo]        y[o, p] = w[o, (c, t)] @ columns[(c, t), p]

Source: Chellapilla, Puri and Simard (2006), "High performance convolutional neural networks for document processing".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..geometry import ConvGeometry, Ints, total
from ..windows import channels_innermost, conv_view, pad_geometry, reshape_view
from .base import Algorithm, Cost, elements
from .products import product

#: Bytes of gathered columns per tile: fewer pay for the threads' start, more leave the cache.
TILE_BYTES = 4 << 20
#: And the most of them where the weights, read again for every tile, are larger than that.
MOST_BYTES = 16 << 20


class Gemm(Algorithm):
    """Gather windows into columns, then multiply matrices."""

    name = "gemm"
    summary = "gathers windows into columns (im2col), tile by tile, and multiplies matrices with BLAS"
    blas = True

    def cost(self, geometry: ConvGeometry, dtype: np.dtype, direction: str = "forward") -> Cost:
        padded, w, y = elements(geometry)
        if geometry.is_pointwise:
            # one product per image, or a small one per group and image: no BLAS to speak of
            moved = 2 * y if geometry.groups == 1 else 12 * y
            calls = 2 if direction == "weight_grad" else 2 + geometry.batch
            return Cost(2 * geometry.macs, moved * dtype.itemsize, calls, (w + y) * dtype.itemsize)
        columns = geometry.batch * geometry.in_channels * geometry.taps * total(geometry.out_shape)
        held = padded + w + columns + 2 * y
        return Cost(2 * geometry.macs, (2 * padded + 2 * columns + 2 * y) * dtype.itemsize, 8, held * dtype.itemsize)

    def tile(self, geometry: ConvGeometry, dtype: np.dtype, direction: str = "forward") -> tuple[int, Ints]:
        if geometry.is_pointwise or not geometry.rank:
            return geometry.batch, geometry.out_shape
        weights = total(geometry.w_shape) * dtype.itemsize
        room = max(TILE_BYTES, min(MOST_BYTES, 2 * weights))
        row = geometry.in_channels * geometry.taps * total(geometry.out_shape[1:]) * dtype.itemsize
        first = geometry.out_shape[0]
        rows = max(1, min(first, room // max(1, row)))
        if rows == first:
            return max(1, min(geometry.batch, room // max(1, row * first))), geometry.out_shape
        return 1, (-(-first // -(-first // rows)), *geometry.out_shape[1:])

    def forward(self, x: np.ndarray, prepared: Any, geometry: ConvGeometry, out: np.ndarray) -> None:
        if channels_innermost(out):
            _pixels_by_channels(x, prepared, geometry, out)
        else:
            _channels_by_pixels(x, prepared, geometry, out)

    def weight_grad(self, x: np.ndarray, g: np.ndarray, geometry: ConvGeometry, out: np.ndarray) -> None:
        n, group, per_in = geometry.batch, geometry.groups, geometry.in_channels // geometry.groups
        per_out, positions = geometry.out_channels // group, total(geometry.out_shape)
        if channels_innermost(x) and group == 1:
            rows = _rows(x, geometry, out.dtype)  # (N p, t C)
            pixels = np.asarray(_last(g), out.dtype).reshape(n * positions, per_out)
            part = product(pixels.T, rows).reshape(per_out, *geometry.kernel, per_in)
            out += np.moveaxis(part, -1, 1)
            return
        columns = _columns(x, geometry, out.dtype).reshape(n, group, per_in * geometry.taps, positions)
        gs = np.asarray(g, out.dtype).reshape(n, group, per_out, positions)
        part = product(gs, columns.swapaxes(2, 3))
        out += (part[0] if n == 1 else part.sum(0)).reshape(out.shape)


def _last(array: np.ndarray) -> np.ndarray:
    """(N, C, *spatial) -> (N, *spatial, C), a view."""
    return np.moveaxis(array, 1, -1)


def _columns(x: np.ndarray, geometry: ConvGeometry, dtype: np.dtype) -> np.ndarray:
    """The windows with pixels innermost, (N, C, *k, *out): a copy only where one is needed."""
    if geometry.is_pointwise:
        return pad_geometry(x, geometry, dtype)
    r = geometry.rank
    windows = conv_view(pad_geometry(x, geometry, dtype), geometry)
    return windows.transpose(0, 1, *range(2 + r, 2 + 2 * r), *range(2, 2 + r))


def _rows(x: np.ndarray, geometry: ConvGeometry, dtype: np.dtype) -> np.ndarray:
    """The windows with channels innermost, (N p, t C): a copy only where one is needed."""
    r, positions = geometry.rank, total(geometry.out_shape)
    if geometry.is_pointwise:
        windows = _last(pad_geometry(x, geometry, dtype))
    else:
        view = conv_view(pad_geometry(x, geometry, dtype), geometry)
        windows = view.transpose(0, *range(2, 2 + 2 * r), 1)
    shape = (geometry.batch * positions, geometry.taps * geometry.in_channels)
    return windows.reshape(shape)


def _channels_by_pixels(x: np.ndarray, w: np.ndarray, geometry: ConvGeometry, out: np.ndarray) -> None:
    """y (N, G, O/G, p) = w (G, O/G, C/G t) @ columns (N, G, C/G t, p)."""
    n, group = geometry.batch, geometry.groups
    positions = total(geometry.out_shape)
    rows = w.reshape(group, geometry.out_channels // group, geometry.terms)
    columns = _columns(x, geometry, out.dtype).reshape(n, group, geometry.terms, positions)
    y = reshape_view(out, (n, group, rows.shape[1], positions))
    if y is None:
        out[...] = product(rows, columns).reshape(out.shape)
    else:
        product(rows, columns, y)


def _pixels_by_channels(x: np.ndarray, w: np.ndarray, geometry: ConvGeometry, out: np.ndarray) -> None:
    """y (N p, O) = rows (N p, t C) @ w (t C, O), group by group."""
    n, group, positions = geometry.batch, geometry.groups, total(geometry.out_shape)
    per_in, per_out = geometry.in_channels // group, geometry.out_channels // group
    rows = _rows(x, geometry, out.dtype)
    matrices = np.moveaxis(w.reshape(group, per_out, per_in, geometry.taps), (3, 2), (1, 2))  # (G, t, C/G, O/G)
    y = reshape_view(_last(out), (n * positions, geometry.out_channels))
    if group == 1:
        matrix = matrices.reshape(geometry.terms, per_out)
        if y is None:
            _last(out)[...] = product(rows, matrix).reshape(n, *geometry.out_shape, per_out)
        else:
            product(rows, matrix, y)
        return
    split = rows.reshape(n * positions, geometry.taps, group, per_in).transpose(2, 0, 1, 3)
    parts = product(
        split.reshape(group, n * positions, geometry.terms), matrices.reshape(group, geometry.terms, per_out)
    )
    _last(out)[...] = parts.transpose(1, 0, 2).reshape(n, *geometry.out_shape, geometry.out_channels)
