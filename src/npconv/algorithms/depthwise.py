"""Depthwise: prefer it when every group has one input channel; there is nothing to multiply matrices with.

With one input channel per group a convolution does k products per output and no sum over channels, so a matrix
product would be all overhead. Shift, multiply, add: one pass per tap over a tile that stays in the cache. Source:
Sifre (2014), "Rigid-motion scattering for image classification"; Chollet (2017), arXiv:1610.02357.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from ..geometry import ConvGeometry, Ints, ceil_div, total
from ..windows import pad_geometry, tap_slice
from .base import Algorithm, Cost, elements

#: Bytes of padded input plus outputs per tile: what a second-level cache holds beside them.
CACHE_BYTES = 1 << 19


class Depthwise(Algorithm):
    """One multiply-add per tap over shifted slices."""

    name = "depthwise"
    summary = "multiplies and adds shifted slices, channel by channel; for one input channel per group"

    def why_not(self, geometry: ConvGeometry, dtype: np.dtype) -> str | None:
        per_group = geometry.in_channels // geometry.groups
        if per_group != 1:
            return f"needs one input channel per group, there are {per_group}"
        return None

    def cost(self, geometry: ConvGeometry, dtype: np.dtype, direction: str = "forward") -> Cost:
        padded, w, y = elements(geometry)
        return Cost(0, 5 * y * geometry.taps * dtype.itemsize, 3 * geometry.taps, (padded + w + 2 * y) * dtype.itemsize)

    def tile(self, geometry: ConvGeometry, dtype: np.dtype, direction: str = "forward") -> tuple[int, Ints]:
        if not geometry.rank:
            return geometry.batch, geometry.out_shape
        per_row = (geometry.in_channels + 2 * geometry.out_channels) * total(geometry.out_shape[1:]) * dtype.itemsize
        first = geometry.out_shape[0]
        rows = max(1, min(first, CACHE_BYTES // max(1, per_row)))
        if rows == first:
            return max(1, min(geometry.batch, CACHE_BYTES // max(1, per_row * first))), geometry.out_shape
        return 1, (ceil_div(first, ceil_div(first, rows)), *geometry.out_shape[1:])

    def forward(self, x: np.ndarray, prepared: Any, geometry: ConvGeometry, out: np.ndarray) -> None:
        multiplier = geometry.out_channels // geometry.groups
        padded = pad_geometry(x, geometry, out.dtype)
        ones = (1,) * geometry.rank
        for j in range(multiplier):
            target = out[:, j::multiplier]
            shifted = np.empty_like(target)
            for i, tap in enumerate(product(*map(range, geometry.kernel))):
                xs = padded[tap_slice(tap, geometry.out_shape, geometry.stride, geometry.dilation)]
                weights = prepared[(slice(j, None, multiplier), 0, *tap)].reshape(-1, *ones)
                if i == 0:
                    np.multiply(xs, weights, out=target)
                else:
                    np.multiply(xs, weights, out=shifted)
                    target += shifted

    def weight_grad(self, x: np.ndarray, g: np.ndarray, geometry: ConvGeometry, out: np.ndarray) -> None:
        multiplier = geometry.out_channels // geometry.groups
        padded = pad_geometry(x, geometry, out.dtype)
        g = np.asarray(g, out.dtype)
        axes = (0, *range(2, 2 + geometry.rank))
        for tap in product(*map(range, geometry.kernel)):
            xs = padded[tap_slice(tap, geometry.out_shape, geometry.stride, geometry.dilation)]
            for j in range(multiplier):
                out[(slice(j, None, multiplier), 0, *tap)] += (xs * g[:, j::multiplier]).sum(axes)
