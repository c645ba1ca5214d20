"""Sum of shifted slices: prefer it when memory is scarce, or when a kernel has few taps.

The loop nest turned inside out. Fix one tap of the kernel: what it multiplies, over all outputs, is one strided slice of
the padded input. So the convolution is a sum over taps of small matrix products, and needs no more memory than one of them:

    y = sum over t of  w[:, :, t] @ x[:, :, t d : : s]

Written with slices and matrix products alone, it is the form that runs on any array library. Source: folklore; the same
idea is the "kn2row" lowering of Vasudevan, Anderson and Gregg (2017), arXiv:1704.04428.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from ..geometry import ConvGeometry, Ints, total
from ..windows import pad_geometry, tap_slice
from .base import Algorithm, Cost, elements


class Direct(Algorithm):
    """One matrix product per tap, accumulated."""

    name = "direct"
    summary = "sums one matrix product per kernel tap over shifted slices; the least workspace"

    def cost(self, geometry: ConvGeometry, dtype: np.dtype, direction: str = "forward") -> Cost:
        padded, w, y = elements(geometry)
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
        positions = total(geometry.out_shape)
        y = np.zeros((n, group, w.shape[1], positions), out.dtype)
        for tap in product(*map(range, geometry.kernel)):
            xs = padded[tap_slice(tap, geometry.out_shape, geometry.stride, geometry.dilation)]
            y += w[(..., *tap)] @ xs.reshape(n, group, w.shape[2], positions)
        out[...] = y.reshape(out.shape)

    def weight_grad(self, x: np.ndarray, g: np.ndarray, geometry: ConvGeometry, out: np.ndarray) -> None:
        n, group = geometry.batch, geometry.groups
        padded = pad_geometry(x, geometry, out.dtype)
        positions = total(geometry.out_shape)
        gs = np.asarray(g, out.dtype).reshape(n, group, geometry.out_channels // group, positions)
        for tap in product(*map(range, geometry.kernel)):
            xs = padded[tap_slice(tap, geometry.out_shape, geometry.stride, geometry.dilation)]
            xs = xs.reshape(n, group, geometry.in_channels // group, positions)
            out[(..., *tap)] += (gs @ xs.swapaxes(2, 3)).sum(0).reshape(out.shape[:2])
