"""Winograd in one pass of machine code: prefer it for 3x3 kernels of stride 1; tiles never leave the cache.

What `winograd.py` does with whole arrays happens here to a few dozen tiles at a time: transform, multiply, transform
back. So the transforms cost a tenth of the products, and F(4, 3) does a quarter of the multiplications. Axes of three
taps are transformed, up to two of them; one more axis of any kernel is summed directly (3-D, or 5x3). Needs numba
(extra `fast`). The kernels are `npconv.compiled.winograd`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..compiled import library, threads, winograd_grad_launch
from ..compiled.calls import address
from ..compiled.winograd_launch import forward_launch, weight_launch
from ..compiled.winograd_shape import R, aligned, axes, cut, empty
from ..geometry import ConvGeometry, total
from .base import Algorithm, Cost, ErrorBound


@dataclass(frozen=True)
class Prepared:
    """Transformed weights (G, panel, position, depth tap, C/G, lanes); the bias in the order of the lanes."""

    weights: np.ndarray
    bias: np.ndarray
    columns: int  # vectors of a panel


class FusedWinograd(Algorithm):
    """F(m, 3) along up to two axes; see the module."""

    accuracy = ("standard", "fast")
    exact_footprint = ()
    exact_on_integers = False

    def __init__(self, m: int) -> None:
        self.m = m
        self.name = f"fused_winograd_f{m}"
        self.summary = f"computes tiles of {m} outputs per axis with fewer multiplications, in the cache; machine code"

    def why_not(self, geometry: ConvGeometry, dtype: np.dtype) -> str | None:
        missing = library.unavailable()
        if missing:
            return missing
        if dtype.kind != "f" or dtype.itemsize not in (4, 8):
            return f"needs float32 or float64, the dtype is {dtype}"
        if not 1 <= geometry.rank <= 3:
            return f"needs 1 to 3 spatial axes, there are {geometry.rank}"
        if axes(geometry) is None:
            return (
                f"needs an axis of {R} taps, stride 1 and dilation 1, and at most one axis that is neither such nor of "
                f"one tap and stride 1; the kernel is {geometry.kernel}, the stride {geometry.stride}"
            )
        return None

    def amplification(self, geometry: ConvGeometry) -> float:
        """How much larger the transformed products are than the plain ones, all axes together."""
        from .cook_toom import amplification  # exact fractions, loaded when first needed

        found = axes(geometry)
        return amplification(self.m, R, ndim=2 if found and found.kernel[1] == R else 1)

    def error_bound(self, geometry: ConvGeometry, dtype: np.dtype) -> ErrorBound:
        return ErrorBound(128, "plane")

    def cost(self, geometry: ConvGeometry, dtype: np.dtype, direction: str = "forward") -> Cost:
        size, c = dtype.itemsize, cut(geometry, self.m, dtype.itemsize)
        weights = c.positions * total(geometry.w_shape) // R ** (2 if c.n_h > 1 else 1)
        if direction == "weight_grad":
            data, slopes, sums, scratch = winograd_grad_launch.layout(geometry, self.m, size).bytes(c.positions, 2)
            moved = (data + slopes) * max(1, 2 * c.positions * c.tiles // max(1, data)) + 3 * weights * size
            return Cost(int(2 * c.lanes * c.work), moved, 4, data + slopes + sums + scratch, engine="compiled")
        scratch = 2 * c.positions * (c.v_step + c.m_step)
        return Cost(int(2 * c.lanes * c.work), 2 * weights * size, 2, weights * size + scratch, engine="compiled")

    def prepare(self, w: np.ndarray, geometry: ConvGeometry, dtype: np.dtype) -> Prepared:
        w, workers = np.asarray(w, dtype), threads.get_num_threads()
        c = cut(geometry, self.m, dtype.itemsize, workers)
        bias = np.zeros(geometry.groups * c.panels * c.columns * c.lanes, dtype)
        if empty(geometry):
            return Prepared(np.empty(0, dtype), bias, c.columns)
        launch = weight_launch(geometry, self.m, c.columns, w.strides, dtype, workers)
        weights = aligned(launch.elements * dtype.itemsize).view(dtype)
        scratch = aligned(launch.scratch * min(workers, launch.blocks))
        launch.words.run(launch.blocks, launch.flops, w=address(w), u=address(weights), scratch=address(scratch))
        return Prepared(weights, bias, c.columns)

    def with_bias(self, prepared: Prepared, bias: np.ndarray, geometry: ConvGeometry) -> Prepared:
        padded = np.zeros_like(prepared.bias).reshape(geometry.groups, -1)
        padded[:, : geometry.out_channels // geometry.groups] = bias.reshape(geometry.groups, -1)
        return replace(prepared, bias=padded)

    def forward(self, x: np.ndarray, prepared: Prepared, geometry: ConvGeometry, out: np.ndarray) -> None:
        x, workers = np.asarray(x, out.dtype), threads.get_num_threads()
        launch = forward_launch(geometry, self.m, prepared.columns, x.strides, out.strides, out.dtype, workers)
        if launch is None:
            return
        scratch = aligned(launch.scratch * min(workers, launch.blocks))
        launch.words.run(
            launch.blocks,
            launch.flops,
            x=address(x),
            u=address(prepared.weights),
            bias=address(prepared.bias),
            y=address(out),
            scratch=address(scratch),
        )

    def weight_grad(self, x: np.ndarray, g: np.ndarray, geometry: ConvGeometry, out: np.ndarray) -> None:
        winograd_grad_launch.weight_grad(np.asarray(x, out.dtype), np.asarray(g, out.dtype), geometry, self.m, out)
