"""Winograd in one pass of machine code: prefer it for 3x3 kernels (and 2x2, 4x4, 5x5); tiles never leave the cache.

What `winograd.py` does with whole arrays happens here to a few dozen tiles at a time: transform, multiply, transform
back. So the transforms cost a tenth of the products, and F(4, 3) does a quarter of the multiplications. Up to two axes
are transformed; one more of any kernel is summed directly (3-D, or 5x3). A dilated kernel sees interleaved images, a
strided one is a sum of shorter kernels over every other input (polyphase). Needs numba (extra `fast`). The kernels are
`npconv.compiled.winograd`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..compiled import threads
from ..compiled.bringing import Brought
from ..compiled.calls import Bound, address
from ..compiled.chains import Chain
from ..compiled.panels import UNBOUNDED, bounds, weight_steps, zeros
from ..compiled.winograd.launch import forward_launch, weight_launch
from ..compiled.winograd.shape import FORMS, LAST_BYTES, MOST_STRIDE, Cut, axes, cut, empty, late
from ..geometry import ConvGeometry, Ints, ceil_div, total
from ..lazy import Later
from ..records import dataclass, replace
from .base import Cost, ErrorBound, Multiplying, streamed
from .rounding import amplification

if TYPE_CHECKING:
    from ..compiled.winograd import grad_launch as winograd_grad_launch
else:  # only weight gradients need it
    winograd_grad_launch = Later("..compiled.winograd.grad_launch", __package__)

#: How often the bytes of a weight gradient count, which few tiles have to pay for; and how much longer it takes along
#: one axis alone, where transforms weigh more.
GRADIENT, ALONE = 3, 1.3
#: How often the bytes count that a weight gradient writes transformed, and reads.
TRANSFORMED = 1.3
#: Fetching a weight on its own, for a tile of few taps, takes the time of this many floating-point operations.
GATHER_FLOPS = 400
#: What a group of one image takes besides, if its weights do not stay in registers, in floating-point operations; that of a
#: weight gradient takes half as long as a launch.
GROUP_FLOPS = 350_000
#: How often inputs and outputs count that dilation takes apart: neighbours in memory belong to different images.
APART = 4
#: What transformed weights in the last cache cost, read in long runs, beside those that come from memory.
LAST_PRICE = 0.25


def _streamed(weights: int) -> int:
    """So many bytes of transformed weights, as bytes that come from memory."""
    near = min(weights, LAST_BYTES)
    return weights - near + int(LAST_PRICE * near)


def _no_bias(geometry: ConvGeometry, c: Cut, dtype: np.dtype) -> np.ndarray:
    """A zero for each lane of all panels."""
    return zeros(geometry.groups // max(1, c.bundle) * c.panels * c.columns * c.lanes, dtype)


def _in_lanes(bias: np.ndarray, geometry: ConvGeometry, c: Cut, like: np.ndarray) -> np.ndarray:
    """A bias in the order of lanes, as long as `like`, zeros behind that of each group, or of those that share a vector."""
    padded = np.zeros_like(like).reshape(geometry.groups // max(1, c.bundle), -1)
    padded[:, : geometry.out_channels // len(padded)] = bias.reshape(len(padded), -1)
    return padded


@dataclass(frozen=True)
class Prepared:
    """Weights, transformed (G, panel, position, depth tap, C/G, lanes) or as they were given; the bias in the order of lanes.

    Outputs stay between `bounds`.
    """

    weights: np.ndarray
    bias: np.ndarray
    columns: int  # vectors of a panel
    strides: Ints | None = None  # of weights as they were given
    bounds: tuple[float, float] = UNBOUNDED


class FusedWinograd(Multiplying):
    """F(m, r) of n = m + r - 1 along up to two axes; named by what it does to three taps, F(n - 2, 3)."""

    accuracy = ("standard", "fast")
    exact_footprint = ()
    exact_on_integers = False
    takes_groups = True

    def __init__(self, m: int) -> None:
        self.n = m + 2
        self.name = f"fused_winograd_f{m}"
        self.summary = f"computes tiles of {m} outputs per axis with fewer multiplications, in the cache; machine code"

    def limits(self, geometry: ConvGeometry, dtype: np.dtype) -> str | None:
        if not geometry.rank:
            return "needs a spatial axis"
        if axes(geometry, self.n) is None:
            return (
                f"needs an axis of {' or '.join(str(r) for m, r in FORMS if m + r - 1 == self.n)} taps for each step of its "
                f"stride, of at most {MOST_STRIDE} steps (of 1 where it is dilated), and at most one axis that is neither such "
                "nor of one tap and stride 1; the kernel is "
                f"{geometry.kernel}, the stride {geometry.stride}, the dilation {geometry.dilation}"
            )
        return None

    def amplification(self, geometry: ConvGeometry) -> float:
        """How much larger the transformed products are than the plain ones, all axes together."""
        found = axes(geometry, self.n)
        m, r = FORMS[found.kind if found else 0]
        return amplification(m, r, ndim=2 if found and found.taps[0] == r else 1)

    def error_bound(self, geometry: ConvGeometry, dtype: np.dtype) -> ErrorBound:
        return ErrorBound(128, "plane")

    def cost(self, geometry: ConvGeometry, dtype: np.dtype, direction: str = "forward") -> Cost:
        size, c = dtype.itemsize, cut(geometry, self.n, dtype.itemsize)
        a = axes(geometry, self.n)
        direct = a.direct if a else 1  # taps that are not transformed
        weights = c.positions * direct * total(geometry.w_shape[:2])
        if direction == "weight_grad" and self._apart(geometry):
            return self.weight_grad_cost(geometry, dtype)
        if direction == "weight_grad":
            at = winograd_grad_launch.layout(geometry, self.n, size)
            held = at.bytes(c.positions, 2)
            transformed = int(TRANSFORMED * sum(held[:3])) * ceil_div(c.tiles, at.batch)
            moved = transformed + GRADIENT * total(geometry.w_shape) * size
            work = int(winograd_grad_launch.flops(geometry, self.n, size) * (ALONE if c.n_h == 1 else 1))
            room = winograd_grad_launch.workspace(geometry, self.n, size, threads.current())
            return Cost(work, moved, 2 + ceil_div(geometry.groups, 2), room, engine="winograd_grad")
        scratch = 2 * c.positions * (c.v_step + c.m_step)
        kept, read = (many * size for many in (weights, c.served * total(geometry.w_shape[:2])))
        brought = Cost(0, 2 * kept, 2, 0, engine="winograd")
        if late(geometry, self.n, size):
            more = cut(geometry, self.n, size, late=True).work - c.work
            spared = _streamed(read) - streamed(total(geometry.w_shape) * size)  # transformed weights stay in the cache
            brought = Cost(max(0, int(2 * c.lanes * more)), -spared, 0, 0, engine="winograd")
        if a and len(a.phases) > 1:  # one weight after the other
            brought = replace(brought, flops=brought.flops + GATHER_FLOPS * total(geometry.w_shape))
        often = APART if max(geometry.dilation, default=1) > 1 else 1
        moved = often * (total(geometry.x_shape) + total(geometry.y_shape)) * size + _streamed(read)
        alone = geometry.groups * geometry.batch if geometry.groups > 1 and not c.bundle else 0
        work = int(2 * c.lanes * c.work) + GROUP_FLOPS * alone
        return Cost(work, moved, 1, kept + scratch, engine="winograd", preparation=brought)

    def prepare(self, w: np.ndarray, geometry: ConvGeometry, dtype: np.dtype) -> Prepared:
        w, workers = np.asarray(w, dtype), threads.current()
        c = cut(geometry, self.n, dtype.itemsize, workers)
        bias = _no_bias(geometry, c, dtype)
        if empty(geometry):
            return Prepared(np.empty(0, dtype), bias, c.columns)
        launch = weight_launch(geometry, self.n, c.columns, weight_steps(w.strides, geometry), dtype, workers)
        return Prepared(launch.bring(address(w), dtype), bias, c.columns)

    def borrow(self, w: np.ndarray, geometry: ConvGeometry, dtype: np.dtype) -> Prepared:
        if empty(geometry) or not late(geometry, self.n, dtype.itemsize):
            return self.prepare(w, geometry, dtype)
        w, c = np.asarray(w, dtype), cut(geometry, self.n, dtype.itemsize, threads.current(), late=True)
        return Prepared(w, _no_bias(geometry, c, dtype), c.columns, weight_steps(w.strides, geometry))

    def with_bias(self, prepared: Prepared, bias: np.ndarray, geometry: ConvGeometry) -> Prepared:
        c = cut(geometry, self.n, bias.itemsize)
        return replace(prepared, bias=_in_lanes(bias, geometry, c, prepared.bias))

    def in_lanes(self, bias: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
        size = bias.itemsize
        c = cut(geometry, self.n, size, threads.current(), late=late(geometry, self.n, size))
        return _in_lanes(bias, geometry, c, _no_bias(geometry, c, bias.dtype))

    def with_bounds(self, prepared: Prepared, least: float, most: float) -> Prepared:
        return replace(prepared, bounds=(least, most))

    def bind(
        self, prepared: Prepared, geometry: ConvGeometry, x_strides: Ints, out_strides: Ints, dtype: np.dtype
    ) -> Bound | None:
        workers = threads.current()
        launch = forward_launch(
            geometry, self.n, prepared.columns, x_strides, prepared.strides, out_strides, dtype, workers
        )
        if launch is None:
            return None
        within = address(bounds(dtype, *prepared.bounds))
        return launch.bound(w=address(prepared.weights), bias=address(prepared.bias), bounds=within)

    def lend(
        self, w_strides: Ints, geometry: ConvGeometry, x_strides: Ints, out_strides: Ints, dtype: np.dtype
    ) -> Bound | None:
        if empty(geometry):
            return None
        steps, workers = weight_steps(w_strides, geometry), threads.current()
        goes_along = late(geometry, self.n, dtype.itemsize)
        c = cut(geometry, self.n, dtype.itemsize, workers, late=goes_along)
        taken = steps if goes_along else None
        launch = forward_launch(geometry, self.n, c.columns, x_strides, taken, out_strides, dtype, workers)
        if launch is None:
            return None
        within = address(bounds(dtype, *UNBOUNDED))
        found = launch.bound(w=0, bias=address(_no_bias(geometry, c, dtype)), bounds=within)
        if goes_along:
            return found
        return Brought(found, weight_launch(geometry, self.n, c.columns, steps, dtype, workers), dtype, workers)

    def bind_weight_grad(
        self, geometry: ConvGeometry, x_strides: Ints, g_strides: Ints, out_strides: Ints, dtype: np.dtype, more: bool
    ) -> Chain | None:
        if self._apart(geometry):
            return super().bind_weight_grad(geometry, x_strides, g_strides, out_strides, dtype, more)
        workers = threads.current()
        return winograd_grad_launch.bind(geometry, self.n, x_strides, g_strides, out_strides, dtype, more, workers)

    def _apart(self, geometry: ConvGeometry) -> bool:
        """Whether strides take the inputs apart; then the weight gradient is not transformed: phases are not summed in it."""
        found = axes(geometry, self.n)
        return found is not None and len(found.phases) > 1
