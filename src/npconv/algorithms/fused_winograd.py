"""Winograd in one pass of machine code: prefer it for 3x3 kernels of stride 1 (and 2x2, 5x5); tiles never leave the cache.

What `winograd.py` does with whole arrays happens here to a few dozen tiles at a time: transform, multiply, transform
back. So the transforms cost a tenth of the products, and F(4, 3) does a quarter of the multiplications. Up to two axes
are transformed; one more of any kernel is summed directly (3-D, or 5x3). A dilated kernel sees interleaved images. Needs numba
(extra `fast`). The kernels are `npconv.compiled.winograd`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..compiled import threads
from ..compiled.calls import Bound, address, aligned
from ..compiled.winograd import grad_launch as winograd_grad_launch
from ..compiled.winograd.launch import forward_launch, weight_launch
from ..compiled.winograd.shape import FORMS, axes, cut, empty, late
from ..geometry import ConvGeometry, Ints, ceil_div, total
from ..records import dataclass
from .base import Compiled, Cost, ErrorBound, streamed
from .rounding import amplification


@dataclass(frozen=True)
class Prepared:
    """Weights, transformed (G, panel, position, depth tap, C/G, lanes) or as they were given; the bias in the order of lanes."""

    weights: np.ndarray
    bias: np.ndarray
    columns: int  # vectors of a panel
    strides: Ints | None = None  # of weights as they were given


class FusedWinograd(Compiled):
    """F(m, r) of n = m + r - 1 along up to two axes; named by what it does to three taps, F(n - 2, 3)."""

    accuracy = ("standard", "fast")
    exact_footprint = ()
    exact_on_integers = False

    def __init__(self, m: int) -> None:
        self.n = m + 2
        self.name = f"fused_winograd_f{m}"
        self.summary = f"computes tiles of {m} outputs per axis with fewer multiplications, in the cache; machine code"

    def limits(self, geometry: ConvGeometry, dtype: np.dtype) -> str | None:
        if not geometry.rank:
            return "needs a spatial axis"
        if axes(geometry, self.n) is None:
            return (
                f"needs an axis of {' or '.join(str(r) for m, r in FORMS if m + r - 1 == self.n)} taps and stride 1, and "
                "at most one axis that is neither such nor of one tap and stride 1; the kernel is "
                f"{geometry.kernel}, the stride {geometry.stride}, the dilation {geometry.dilation}"
            )
        return None

    def amplification(self, geometry: ConvGeometry) -> float:
        """How much larger the transformed products are than the plain ones, all axes together."""
        found = axes(geometry, self.n)
        m, r = FORMS[found.kind if found else 0]
        return amplification(m, r, ndim=2 if found and found.kernel[1] == r else 1)

    def error_bound(self, geometry: ConvGeometry, dtype: np.dtype) -> ErrorBound:
        return ErrorBound(128, "plane")

    def cost(self, geometry: ConvGeometry, dtype: np.dtype, direction: str = "forward") -> Cost:
        size, c = dtype.itemsize, cut(geometry, self.n, dtype.itemsize)
        a = axes(geometry, self.n)
        direct = a.kernel[0] if a else 1  # taps that are not transformed
        weights = c.positions * direct * total(geometry.w_shape[:2])
        if direction == "weight_grad":
            at = winograd_grad_launch.layout(geometry, self.n, size)
            held = at.bytes(c.positions, 2)
            moved = 2 * sum(held[:3]) * ceil_div(c.tiles, at.batch) + total(geometry.w_shape) * size
            # along one axis alone, transforming takes as long as multiplying
            work = winograd_grad_launch.flops(geometry, self.n, size) * (2 if c.n_h == 1 else 1)
            return Cost(work, moved, 3 * geometry.groups, sum(held), engine="winograd_grad")
        scratch = 2 * c.positions * (c.v_step + c.m_step)
        kept = weights * size
        brought = Cost(0, 2 * kept, 2, 0, engine="winograd")
        if late(geometry, self.n, size):
            more = cut(geometry, self.n, size, late=True).work - c.work
            brought = Cost(max(0, int(2 * c.lanes * more)), 0, 0, 0, engine="winograd")
        moved = (total(geometry.x_shape) + total(geometry.y_shape)) * size + streamed(kept)
        return Cost(int(2 * c.lanes * c.work), moved, 1, kept + scratch, engine="winograd", preparation=brought)

    def prepare(self, w: np.ndarray, geometry: ConvGeometry, dtype: np.dtype) -> Prepared:
        w, workers = np.asarray(w, dtype), threads.current()
        c = cut(geometry, self.n, dtype.itemsize, workers)
        bias = np.zeros(geometry.groups * c.panels * c.columns * c.lanes, dtype)
        if empty(geometry):
            return Prepared(np.empty(0, dtype), bias, c.columns)
        launch = weight_launch(geometry, self.n, c.columns, w.strides, dtype, workers)
        weights = aligned(launch.elements * dtype.itemsize).view(dtype)
        scratch = aligned(launch.scratch * min(workers, launch.blocks))
        launch.words.run(launch.blocks, launch.flops, w=address(w), u=address(weights), scratch=address(scratch))
        return Prepared(weights, bias, c.columns)

    def borrow(self, w: np.ndarray, geometry: ConvGeometry, dtype: np.dtype) -> Prepared:
        if empty(geometry) or not late(geometry, self.n, dtype.itemsize):
            return self.prepare(w, geometry, dtype)
        w, c = np.asarray(w, dtype), cut(geometry, self.n, dtype.itemsize, threads.current(), late=True)
        return Prepared(w, np.zeros(geometry.groups * c.panels * c.columns * c.lanes, dtype), c.columns, w.strides)

    def with_bias(self, prepared: Prepared, bias: np.ndarray, geometry: ConvGeometry) -> Prepared:
        padded = np.zeros_like(prepared.bias).reshape(geometry.groups, -1)
        padded[:, : geometry.out_channels // geometry.groups] = bias.reshape(geometry.groups, -1)
        return replace(prepared, bias=padded)

    def bind(
        self, prepared: Prepared, geometry: ConvGeometry, x_strides: Ints, out_strides: Ints, dtype: np.dtype
    ) -> Bound | None:
        workers = threads.current()
        launch = forward_launch(
            geometry, self.n, prepared.columns, x_strides, prepared.strides, out_strides, dtype, workers
        )
        if launch is None:
            return None
        u, bias, scratch = (
            address(prepared.weights),
            address(prepared.bias),
            launch.scratch * min(workers, launch.blocks),
        )
        return Bound(launch.words, launch.blocks, launch.flops, scratch, u=u, bias=bias)

    def weight_grad(self, x: np.ndarray, g: np.ndarray, geometry: ConvGeometry, out: np.ndarray) -> None:
        x, g = np.asarray(x, out.dtype), np.asarray(g, out.dtype)
        winograd_grad_launch.weight_grad(x, g, geometry, self.n, out)

    def write_weight_grad(self, x: np.ndarray, g: np.ndarray, geometry: ConvGeometry, out: np.ndarray) -> None:
        x, g = np.asarray(x, out.dtype), np.asarray(g, out.dtype)
        winograd_grad_launch.weight_grad(x, g, geometry, self.n, out, more=False)
