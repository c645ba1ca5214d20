"""The loop nest: read this first. Prefer it for nothing but understanding; every other algorithm must equal it.

One output is one sum of products. Nothing here is clever, and nothing is hidden.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from ..geometry import ConvGeometry
from ..windows import pad_geometry
from .base import Algorithm, Cost, elements


class Loops(Algorithm):
    """y[n, o, p] = sum over c, t of w[o, c, t] x[n, c, p s + t d - lo], one product at a time."""

    name = "loops"
    summary = "the loop nest as one writes it down; for reading and checking, not for speed"
    automatic = False

    def cost(self, geometry: ConvGeometry, dtype: np.dtype, direction: str = "forward") -> Cost:
        padded = elements(geometry)[0] * dtype.itemsize
        return Cost(2 * geometry.macs, padded, geometry.macs, padded)

    def forward(self, x: np.ndarray, prepared: Any, geometry: ConvGeometry, out: np.ndarray) -> None:
        w = prepared
        padded = pad_geometry(x, geometry, out.dtype)
        per_group = geometry.in_channels // geometry.groups
        for n, o in product(range(geometry.batch), range(geometry.out_channels)):
            first = o // (geometry.out_channels // geometry.groups) * per_group
            for p in product(*map(range, geometry.out_shape)):
                value = out.dtype.type(0)
                for c, t in product(range(per_group), product(*map(range, geometry.kernel))):
                    at = tuple(
                        i * s + j * d for i, j, s, d in zip(p, t, geometry.stride, geometry.dilation, strict=True)
                    )
                    value += w[(o, c, *t)] * padded[(n, first + c, *at)]
                out[(n, o, *p)] = value

    def weight_grad(self, x: np.ndarray, g: np.ndarray, geometry: ConvGeometry, out: np.ndarray) -> None:
        padded = pad_geometry(x, geometry, out.dtype)
        per_group = geometry.in_channels // geometry.groups
        for o, c in product(range(geometry.out_channels), range(per_group)):
            channel = o // (geometry.out_channels // geometry.groups) * per_group + c
            for t in product(*map(range, geometry.kernel)):
                for n, p in product(range(geometry.batch), product(*map(range, geometry.out_shape))):
                    at = tuple(
                        i * s + j * d for i, j, s, d in zip(p, t, geometry.stride, geometry.dilation, strict=True)
                    )
                    out[(o, c, *t)] += g[(n, o, *p)] * padded[(n, channel, *at)]
