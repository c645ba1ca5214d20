"""MEC: prefer it when im2col's matrix does not fit; rows of windows overlap in memory, they are not copied.

im2col copies a pixel once per tap. MEC lowers every axis but the first: an input row is copied once per tap
of the other axes. The windows of one output row are then k0 neighbouring lowered rows, a matrix that needs no
copy, and the next output row's matrix overlaps it. So the lowered input is about k0 / s0 times smaller than
im2col's.

    lowered[h, (t, c), q] = x[c, h, q s + t d - lo]
    y[o, p, :] = sum over j of  w[o, j, (t, c)] @ lowered[p s0 + j d0]      all j in one matrix product

Source: Cho and Brand (2017), "MEC: Memory-efficient convolution for deep neural network", arXiv:1706.06873.
"""

from __future__ import annotations

import numpy as np

from npconv.algorithms.base import Algorithm, Cost, ErrorBound
from npconv.geometry import ConvGeometry, Ints, total
from npconv.windows import pad_geometry, view


class Mec(Algorithm):
    """Lower all axes but the first, then one matrix product per output row."""

    name = "mec"
    summary = "lowers all axes but the first (MEC) and multiplies one output row at a time"

    def why_not(self, geometry: ConvGeometry, dtype: np.dtype) -> str | None:
        return None if geometry.rank else "needs a spatial axis whose rows can overlap"

    def cost(self, geometry: ConvGeometry, dtype: np.dtype, direction: str = "forward") -> Cost:
        if direction == "weight_grad":  # the identity of the base class: a convolution with g as its kernel
            one = self.cost(geometry.weight_problem(), dtype)
            held = dtype.itemsize * geometry.batch * geometry.in_channels * total(geometry.padded_shape)
            every = geometry.groups
            return Cost(one.flops * every, one.bytes * every, one.calls * every, one.workspace + held)
        padded = geometry.batch * geometry.in_channels * total(geometry.padded_shape)
        across, width = total(geometry.out_shape[1:]), total(geometry.kernel[1:])
        lowered = geometry.batch * geometry.in_channels * geometry.padded_shape[0] * across * width
        y, w = total(geometry.y_shape), total(geometry.w_shape)
        row = y // max(1, geometry.out_shape[0])
        matrix = geometry.batch * geometry.groups * geometry.terms * across  # of one output row
        copied = geometry.dilation[0] > 1  # then its rows are no neighbours
        held = padded + lowered + w + row + (matrix if copied else 0)
        moved = 2 * padded + 2 * lowered + 2 * y + (3 if copied else 1) * matrix * geometry.out_shape[0]
        calls = 8 + 4 * geometry.out_shape[0]
        return Cost(2 * geometry.macs, moved * dtype.itemsize, calls, held * dtype.itemsize)

    def error_bound(self, geometry: ConvGeometry, dtype: np.dtype) -> ErrorBound:
        return ErrorBound(32, "window")  # the sums are those of BLAS, as in gemm

    def tile(self, geometry: ConvGeometry, dtype: np.dtype, direction: str = "forward") -> tuple[int, Ints]:
        return 1, geometry.out_shape

    def prepare(self, w: np.ndarray, geometry: ConvGeometry, dtype: np.dtype) -> np.ndarray:
        """The weights in the order of lowered rows: (O, C/G, k0, *k) -> (G, O/G, k0 t C/G)."""
        group, per_in, first, others = geometry.groups, *geometry.w_shape[1:3], total(geometry.kernel[1:])
        split = np.asarray(w, dtype).reshape(group, geometry.out_channels // group, per_in, first, others)
        return np.ascontiguousarray(split.transpose(0, 1, 3, 4, 2)).reshape(group, -1, geometry.terms)

    def forward(self, x: np.ndarray, prepared: np.ndarray, geometry: ConvGeometry, out: np.ndarray) -> None:
        n, group, per_in = geometry.batch, geometry.groups, geometry.in_channels // geometry.groups
        height, rank, (first, *others) = geometry.padded_shape[0], geometry.rank, geometry.out_shape
        s, d, e = geometry.stride[0], geometry.dilation[0], geometry.effective[0]
        padded = pad_geometry(x, geometry, out.dtype)
        strips = view(
            padded,
            (height, *others),
            (1, *geometry.kernel[1:]),
            (1, *geometry.stride[1:]),
            (1, *geometry.dilation[1:]),
        )  # (N, C, h, *q, 1, *t)
        strips = strips.reshape(n, group, per_in, *strips.shape[2:])
        order = (0, 1, 3, *range(3 + rank, 3 + 2 * rank), 2, *range(4, 3 + rank))
        lowered = np.ascontiguousarray(strips.transpose(order))  # (N, G, h, 1, *t, C/G, *q), the one copy
        lowered = lowered.reshape(n, group, height, -1, total(others))
        for p in range(first):
            rows = lowered[:, :, p * s : p * s + e : d]
            y = prepared @ rows.reshape(n, group, geometry.terms, total(others))  # (N, G, O/G, q)
            out[:, :, p] = y.reshape(n, geometry.out_channels, *others)
