"""All phases of a strided transposition in one launch: prefer it to one by one where products need no transform.

It is what the blocked algorithm does to every phase, on inputs that are packed once; see `npconv.compiled.phased`.
"""

from __future__ import annotations

import numpy as np

from .algorithms import named
from .algorithms.base import Compiled, Cost, ErrorBound
from .compiled import threads
from .compiled.bringing import Brought
from .compiled.calls import Bound, address
from .compiled.panels import UNBOUNDED, bounds, vector_bytes
from .compiled.phased import launch
from .geometry import ConvGeometry, Ints, total
from .phases import Joint
from .records import dataclass, replace

#: Arithmetic takes so much of the time that the parts need one by one: they share packed inputs and the end of a launch.
SHARED = 0.85
#: The same where several groups have half a vector of outputs each: they are not worth the loads.
NARROW = 1.4


@dataclass(frozen=True)
class Prepared:
    """Weights as the kernel reads them, the bias, if any, and bounds.

    `fresh` weights are the caller's, which the kernel brings in order as it goes.
    """

    weights: np.ndarray
    bias: np.ndarray | None = None
    fresh: bool = False
    bounds: tuple[float, float] = UNBOUNDED


class Phased(Compiled):
    """The phases of one joint problem; the geometry that its methods are given is that of the joint convolution."""

    name = "blocked"
    summary = "all phases of a strided transposition in one launch"
    accuracy = ("standard", "fast")

    def __init__(self, joint: Joint) -> None:
        self.joint = joint

    def error_bound(self, geometry: ConvGeometry, dtype: np.dtype) -> ErrorBound:
        return named("blocked").error_bound(geometry, dtype)

    def cost(self, geometry: ConvGeometry, dtype: np.dtype, direction: str = "forward") -> Cost:
        found = [named("blocked").cost(g, dtype) for g in launch.phases(self.joint)]
        before = [c.preparation for c in found if c.preparation is not None]
        weights = max(c.bytes for c in before) // 3
        brought = replace(before[0], bytes=sum(c.bytes for c in before), calls=1)
        moved = found[0].bytes + sum(total(g.y_shape) for g in launch.phases(self.joint)[1:]) * dtype.itemsize
        held = max(c.workspace for c in found) + (len(found) - 1) * weights
        each = geometry.per_group[1] // len(self.joint.phases)
        narrow = geometry.groups > 1 and 2 * each * dtype.itemsize <= vector_bytes()
        flops = int((NARROW if narrow else SHARED) * sum(c.flops for c in found))
        return replace(found[0], flops=flops, bytes=moved, workspace=held, preparation=brought)

    def prepare(self, w: np.ndarray, geometry: ConvGeometry, dtype: np.dtype) -> Prepared:
        w = np.asarray(w, dtype)
        bringing, lowest = launch.weight_launch(self.joint, w.strides, dtype)
        return Prepared(bringing.bring(address(w) + lowest, dtype))

    def borrow(self, w: np.ndarray, geometry: ConvGeometry, dtype: np.dtype) -> Prepared:
        w = np.asarray(w, dtype)
        if launch.borrows(self.joint, w.strides, w.itemsize, threads.current()):
            return Prepared(w, fresh=True)
        return self.prepare(w, geometry, dtype)

    def lend(
        self, w_strides: Ints, geometry: ConvGeometry, x_strides: Ints, out_strides: Ints, dtype: np.dtype
    ) -> Bound | None:
        workers, size = threads.current(), dtype.itemsize
        if len(w_strides) != geometry.rank + 2:  # groups are an axis of their own
            return None
        along = launch.borrows(self.joint, w_strides, size, workers)
        taken = w_strides if along else None
        run = launch.forward_launch(self.joint, x_strides, out_strides, taken, dtype, workers)
        found = run.bound(w=0, bias=0, bounds=address(bounds(dtype, *UNBOUNDED)))
        if along:
            return found
        bringing, lowest = launch.weight_launch(self.joint, w_strides, dtype)
        return Brought(found, bringing, dtype, workers, lowest)

    def with_bias(self, prepared: Prepared, bias: np.ndarray, geometry: ConvGeometry) -> Prepared:
        return replace(prepared, bias=self.in_lanes(bias.astype(prepared.weights.dtype), geometry))

    def in_lanes(self, bias: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
        p = launch.lay(self.joint, bias.itemsize).p
        count, per = len(self.joint.phases), len(bias) // geometry.groups
        padded = np.zeros((geometry.groups, count, p.vectors * p.lanes), bias.dtype)
        padded[..., :per] = bias.reshape(geometry.groups, 1, per)
        return padded

    def with_bounds(self, prepared: Prepared, least: float, most: float) -> Prepared:
        return replace(prepared, bounds=(least, most))

    def bind(
        self, prepared: Prepared, geometry: ConvGeometry, x_strides: Ints, out_strides: Ints, dtype: np.dtype
    ) -> Bound | None:
        workers = threads.current()
        w_strides = prepared.weights.strides if prepared.fresh else None
        found = launch.forward_launch(self.joint, x_strides, out_strides, w_strides, dtype, workers)
        fixed = {
            "bias": 0 if prepared.bias is None else address(prepared.bias),
            "bounds": address(bounds(dtype, *prepared.bounds)),
        }
        return found.bound(w=address(prepared.weights), **fixed)
