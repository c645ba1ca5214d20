"""Sum of shifted slices: prefer it when memory is scarce, when a kernel has few taps, or when it has few outputs.

The loop nest turned inside out. Fix one tap of the kernel: what it multiplies, over all outputs, is one strided slice of
the padded input. So the convolution is a sum over taps of small matrix products, and needs no more memory than one of them:

    y = sum over t of  w[:, :, t] @ x[:, :, t d : : s]

Shifting and multiplying commute. With fewer output than input channels it is cheaper to multiply first, all taps in one
product of the whole input, and to shift and add the smaller results:

    y = sum over t of  (w[:, :, t] @ x)[:, :, t d : : s]

Written with slices and matrix products alone, it is the form that runs on any array library. Source: folklore; multiplying
first is the "kn2row" lowering of Vasudevan, Anderson and Gregg (2017), arXiv:1704.04428.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from ..geometry import ConvGeometry, Ints, total
from ..windows import pad_geometry, tap_slice
from .base import Algorithm, Cost, elements
from .products import product as matrix_product


class Direct(Algorithm):
    """One matrix product per tap, accumulated."""

    name = "direct"
    summary = "sums one matrix product per kernel tap over shifted slices; the least workspace"
    blas = True

    def cost(self, geometry: ConvGeometry, dtype: np.dtype, direction: str = "forward") -> Cost:
        padded, w, y = elements(geometry)
        if direction == "forward" and _multiply_first(geometry):
            spread = geometry.taps * geometry.out_channels * geometry.batch * total(geometry.padded_shape)
            flops = 2 * spread * (geometry.in_channels // geometry.groups)
            moved = 2 * padded + 2 * spread + 3 * geometry.taps * y
            held = 2 * padded + w + spread + 2 * y
            return Cost(flops, moved * dtype.itemsize, 6 + 2 * geometry.taps, held * dtype.itemsize)
        slice_size = geometry.batch * geometry.in_channels * total(geometry.out_shape)
        moved = geometry.taps * (2 * slice_size + 3 * y)
        held = padded + w + slice_size + 2 * y
        return Cost(2 * geometry.macs, moved * dtype.itemsize, 4 * geometry.taps, held * dtype.itemsize)

    def tile(self, geometry: ConvGeometry, dtype: np.dtype, direction: str = "forward") -> tuple[int, Ints]:
        return 1, geometry.out_shape

    def forward(self, x: np.ndarray, prepared: Any, geometry: ConvGeometry, out: np.ndarray) -> None:
        n, group = geometry.batch, geometry.groups
        w = prepared.reshape(group, geometry.out_channels // group, geometry.in_channels // group, *geometry.kernel)
        padded = pad_geometry(x, geometry, out.dtype)
        if _multiply_first(geometry):
            _shift_products(padded, w, geometry, out)
            return
        positions = total(geometry.out_shape)
        y = np.zeros((n, group, w.shape[1], positions), out.dtype)
        for tap in product(*map(range, geometry.kernel)):
            xs = padded[tap_slice(tap, geometry.out_shape, geometry.stride, geometry.dilation)]
            y += matrix_product(w[(..., *tap)], xs.reshape(n, group, w.shape[2], positions))
        out[...] = y.reshape(out.shape)

    def weight_grad(self, x: np.ndarray, g: np.ndarray, geometry: ConvGeometry, out: np.ndarray) -> None:
        n, group = geometry.batch, geometry.groups
        padded = pad_geometry(x, geometry, out.dtype)
        positions = total(geometry.out_shape)
        gs = np.asarray(g, out.dtype).reshape(n, group, geometry.out_channels // group, positions)
        for tap in product(*map(range, geometry.kernel)):
            xs = padded[tap_slice(tap, geometry.out_shape, geometry.stride, geometry.dilation)]
            xs = xs.reshape(n, group, geometry.in_channels // group, positions)
            out[(..., *tap)] += matrix_product(gs, xs.swapaxes(2, 3)).sum(0).reshape(out.shape[:2])


def _multiply_first(geometry: ConvGeometry) -> bool:
    """Whether the products of all taps over the whole input are smaller than the slices of all taps."""
    spread = geometry.out_channels * total(geometry.padded_shape)
    return geometry.taps > 1 and 2 * spread < geometry.in_channels * total(geometry.out_shape)


def _shift_products(padded: np.ndarray, w: np.ndarray, geometry: ConvGeometry, out: np.ndarray) -> None:
    """One product (G, t O/G, C/G) @ (N, G, C/G, positions), then a shifted slice of it per tap."""
    n, (group, per_out, per_in) = geometry.batch, w.shape[:3]
    taps_first = np.moveaxis(w.reshape(group, per_out, per_in, geometry.taps), 3, 1)
    matrix = taps_first.reshape(group, geometry.taps * per_out, per_in)
    products = matrix_product(matrix, padded.reshape(n, group, per_in, total(geometry.padded_shape)))
    products = products.reshape(n, group, geometry.taps, per_out, *geometry.padded_shape)
    target = np.zeros((n, group, per_out, *geometry.out_shape), out.dtype)
    for i, tap in enumerate(product(*map(range, geometry.kernel))):
        target += products[:, :, i][tap_slice(tap, geometry.out_shape, geometry.stride, geometry.dilation)]
    out[...] = target.reshape(n, group * per_out, *geometry.out_shape)
