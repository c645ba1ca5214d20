"""Small groups in machine code: prefer it for depthwise convolution and for groups of up to eight channels.

With few channels per group there is no matrix product to speak of, so lanes are channels and every tap is a multiply-add
of x as it lies, on sums that stay in registers. Needs numba (extra `fast`). The kernel is `npconv.compiled.channelwise`.

Sources: Sifre (2014), "Rigid-motion scattering for image classification"; Xie et al. (2017), arXiv:1611.05431 (groups).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..compiled import threads
from ..compiled.bringing import Brought
from ..compiled.calls import Bound, address, aligned
from ..compiled.chains import Chain
from ..compiled.channelwise.launch import (
    STORE_PRODUCTS,
    Axes,
    bind_gradient,
    grouping,
    packing_of,
    plan,
    workspace,
)
from ..compiled.panels import UNBOUNDED, bounds, vector_bytes, weight_steps
from ..geometry import ConvGeometry, Ints, total
from ..lazy import Later
from ..phases import Joint
from ..records import dataclass, replace
from .base import FAR, Cost, ErrorBound, Linked

if TYPE_CHECKING:
    from ..compiled.channelwise import phases
else:
    phases = Later("..compiled.channelwise.phases", __package__)

#: Channels of a group, in or out, at most: wider groups fill the lanes of a matrix product.
WIDEST_GROUP = 8
#: Images up to which packing the weights anew for each costs less than a launch that packs them once.
FEW_IMAGES = 4
#: What moving an input or an output costs where groups do not fill their lanes, one element at a time: in products.
GAP_PRODUCTS = {"forward": 80, "weight_grad": 18}
#: What packing an input costs that several outputs read on their own: in products for each of them.
REPEAT_PRODUCTS = {"forward": 20, "weight_grad": 40}
#: What a plane of outputs costs besides, a row of one, for each vector of channels, and packing an input once more: in
#: floating-point operations; of the weight gradient a row for each of its taps.
PLANE_FLOPS, ROW_FLOPS, PACK_FLOPS, TAP_FLOPS = 24_000, 3_800, 20, 1_600


@dataclass(frozen=True)
class Prepared:
    """Weights as the kernel reads them, (panel, tap, r, columns, lanes), the bias by lanes, if any, and bounds."""

    weights: np.ndarray
    bias: np.ndarray | None = None
    fresh: bool = False  # the weights are the caller's: the kernel packs what it uses
    bounds: tuple[float, float] = UNBOUNDED


class Channelwise(Linked):
    """Lanes are channels; see the module."""

    name = "channelwise"
    summary = "one multiply-add per tap, channels side by side in vectors; for small groups; machine code"
    accuracy = ("standard", "fast")
    takes_groups = True

    def limits(self, geometry: ConvGeometry, dtype: np.dtype) -> str | None:
        if max(geometry.padded_shape, default=0) > FAR:
            return f"needs axes of up to {FAR} positions, padding included"
        group = geometry.per_group
        lanes = vector_bytes() // dtype.itemsize
        if max(group) > min(lanes, WIDEST_GROUP):
            return f"needs groups of up to {min(lanes, WIDEST_GROUP)} channels, in and out, there are {group}"
        return None

    def error_bound(self, geometry: ConvGeometry, dtype: np.dtype) -> ErrorBound:
        return ErrorBound(128, "window")

    def cost(self, geometry: ConvGeometry, dtype: np.dtype, direction: str = "forward") -> Cost:
        size, forward = dtype.itemsize, direction != "weight_grad"
        name = "forward" if forward else direction
        of, axes = grouping(geometry.groups, *geometry.per_group, size, direction), Axes(geometry)
        at, (depth, height, _) = of.lanes, axes.outs
        lanes, taps = at.vectors * at.lanes, geometry.taps * of.stacked
        planes = geometry.batch * depth * at.vectors
        inputs, outputs = total(geometry.x_shape), total(geometry.y_shape)
        gaps = 0 if {of.inputs, of.outputs} == {at.wide} else GAP_PRODUCTS[name] * (inputs + outputs)
        if max(of.repeat, of.stacked) > 1:
            gaps += REPEAT_PRODUCTS[name] * of.repeat * inputs
        if of.repeat_g > 1:
            gaps += REPEAT_PRODUCTS[name] * of.repeat_g * outputs
        flops = 2 * geometry.batch * total(geometry.out_shape) * lanes * (at.wide * taps + STORE_PRODUCTS) + 2 * gaps
        if forward:
            again = max(0, depth * total(axes.box(height)) - total(axes.ins))
            flops += PACK_FLOPS * geometry.batch * geometry.in_channels * again
            flops += planes * (PLANE_FLOPS + ROW_FLOPS * height)
        else:
            flops += planes * height * TAP_FLOPS * geometry.taps
        return Cost(
            flops, (inputs + outputs) * size, 1 if forward else 2,
            workspace(geometry, dtype, direction, threads.current()),
            engine="channelwise" if forward else "channelwise_grad",
        )  # fmt: skip

    def prepare(self, w: np.ndarray, geometry: ConvGeometry, dtype: np.dtype) -> Prepared:
        w = np.asarray(w, dtype)
        return Prepared(packing_of(geometry, weight_steps(w.strides, geometry), dtype).bring(address(w), dtype))

    def borrow(self, w: np.ndarray, geometry: ConvGeometry, dtype: np.dtype) -> Prepared:
        if borrows(geometry, w.strides, w.itemsize):
            return Prepared(np.asarray(w, dtype), fresh=True)
        return self.prepare(w, geometry, dtype)

    def lend(
        self, w_strides: Ints, geometry: ConvGeometry, x_strides: Ints, out_strides: Ints, dtype: np.dtype
    ) -> Bound | None:
        along, steps = borrows(geometry, w_strides, dtype.itemsize), weight_steps(w_strides, geometry)
        launch = plan(geometry, x_strides, out_strides, steps if along else None, dtype)
        if launch is None:
            return None
        found = launch.bound(w=0, bias=0, bounds=address(bounds(dtype, *UNBOUNDED)))
        return found if along else Brought(found, packing_of(geometry, steps, dtype), dtype, threads.current())

    def with_bias(self, prepared: Prepared, bias: np.ndarray, geometry: ConvGeometry) -> Prepared:
        return replace(prepared, bias=self.in_lanes(bias.astype(prepared.weights.dtype), geometry))

    def in_lanes(self, bias: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
        of = grouping(geometry.groups, *geometry.per_group, bias.itemsize)
        at = of.lanes
        lanes = np.zeros(at.vectors * at.lanes, bias.dtype)
        lanes[: at.used].reshape(of.groups, at.wide)[:, : of.outputs] = bias.reshape(of.groups, of.outputs)
        return lanes

    def with_bounds(self, prepared: Prepared, least: float, most: float) -> Prepared:
        return replace(prepared, bounds=(least, most))

    def bind(
        self, prepared: Prepared, geometry: ConvGeometry, x_strides: Ints, out_strides: Ints, dtype: np.dtype
    ) -> Bound | None:
        steps = weight_steps(prepared.weights.strides, geometry) if prepared.fresh else None
        launch = plan(geometry, x_strides, out_strides, steps, dtype)
        return None if launch is None else launch.bound(**self.fixed(prepared, dtype))

    def fixed(self, prepared: Prepared, dtype: np.dtype) -> dict[str, int]:
        """Where the kernel finds what was prepared."""
        bias = 0 if prepared.bias is None else address(prepared.bias)
        within = address(bounds(dtype, *prepared.bounds))
        return {"w": address(prepared.weights), "bias": bias, "bounds": within}

    def bind_weight_grad(
        self, geometry: ConvGeometry, x_strides: Ints, g_strides: Ints, out_strides: Ints, dtype: np.dtype, more: bool
    ) -> Chain | None:
        return bind_gradient(geometry, x_strides, g_strides, out_strides, dtype, more, threads.current())


class ChannelwisePhases(Channelwise):
    """All phases of a strided transposition in one launch; the geometry its methods are given is that of the joint one."""

    summary = "all phases of a strided transposition in one launch"

    def __init__(self, joint: Joint) -> None:
        self.joint = joint

    def limits(self, geometry: ConvGeometry, dtype: np.dtype) -> str | None:
        return next((why for _, g in phases.real(self.joint) if (why := Channelwise.limits(self, g, dtype))), None)

    def cost(self, geometry: ConvGeometry, dtype: np.dtype, direction: str = "forward") -> Cost:
        each = [Channelwise.cost(self, g, dtype) for _, g in phases.real(self.joint)]
        inputs = total(geometry.x_shape) * dtype.itemsize
        return replace(
            each[0],
            flops=sum(c.flops for c in each),
            bytes=sum(c.bytes - inputs for c in each) + inputs,  # x is read once: one phase follows the other
            workspace=sum(c.workspace for c in each),
        )

    def prepare(self, w: np.ndarray, geometry: ConvGeometry, dtype: np.dtype) -> Prepared:
        w = np.asarray(w, dtype)
        parts = phases.packings(self.joint, self.steps(w.strides), dtype)
        weights = aligned(sum(part.elements for part, _ in parts), dtype)
        to = address(weights)
        for part, at in parts:
            part.words.run(part.blocks, part.flops, w=address(w) + at, to=to)
            to += part.elements * dtype.itemsize
        return Prepared(weights)

    def in_lanes(self, bias: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
        return super().in_lanes(bias, phases.real(self.joint)[0][1])

    def lend(
        self, w_strides: Ints, geometry: ConvGeometry, x_strides: Ints, out_strides: Ints, dtype: np.dtype
    ) -> Bound | None:
        if not borrows(geometry, w_strides, dtype.itemsize):
            return None
        steps, fixed = self.steps(w_strides), {"w": 0, "bias": 0, "bounds": address(bounds(dtype, *UNBOUNDED))}
        found = phases.quad_launch(self.joint, x_strides, out_strides, steps, dtype)
        if found is not None:
            return found[0].bound(**fixed)
        of = phases.bundle(self.joint, x_strides, out_strides, steps, dtype)
        return phases.Bundle(of, threads.current(), **fixed)

    def bind(
        self, prepared: Prepared, geometry: ConvGeometry, x_strides: Ints, out_strides: Ints, dtype: np.dtype
    ) -> Bound | None:
        steps = self.steps(prepared.weights.strides) if prepared.fresh else None
        fixed = self.fixed(prepared, dtype)
        found = phases.quad_launch(self.joint, x_strides, out_strides, steps, dtype)
        if found is not None:
            launch, at = found
            return launch.bound(**fixed | {"w": fixed["w"] + at})
        return phases.Bundle(
            phases.bundle(self.joint, x_strides, out_strides, steps, dtype), threads.current(), **fixed
        )

    def steps(self, w_strides: Ints) -> Ints:
        """Those of the weights of all phases."""
        return weight_steps(w_strides, phases.real(self.joint)[0][1])


def borrows(geometry: ConvGeometry, w_strides: Ints, itemsize: int) -> bool:
    """Whether kernels pack the weights of a call as they go: few images do, and any number where whole vectors lie ready."""
    ready = w_strides[0] == itemsize and geometry.per_group[0] == 1
    return geometry.rank < 3 and (geometry.batch <= FEW_IMAGES or ready)
