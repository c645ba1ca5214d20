"""Few outputs in machine code: prefer it where fewer channels come out than a vector has lanes; an image filter above all.

Lanes are pixels of a row, so a convolution with one output channel, or three, uses all of them, where algorithms whose
lanes are channels compute thirteen that nobody wants. Needs numba (extra `fast`). The kernel is
`npconv.compiled.pixelwise`.

Source: planes of what strides step over are the polyphase decomposition of Vaidyanathan (1990), "Multirate digital
filters, filter banks, polyphase networks, and applications: a tutorial", Proceedings of the IEEE 78.
"""

from __future__ import annotations

import numpy as np

from ..compiled import threads
from ..compiled.bringing import Brought
from ..compiled.calls import Bound, address
from ..compiled.panels import UNBOUNDED, bounds, vector_bytes, weight_steps, zeros
from ..compiled.pixelwise.launch import NARROW, borrows, flops, moves, packing_of, plan, workspace
from ..geometry import ConvGeometry, Ints, total
from ..records import dataclass, replace
from .base import FAR, SCATTERED, Cost, ErrorBound, Multiplying, elements, scattered

#: Output channels of a group, at most, in vectors, and never less than a register tile has: more fill the lanes of a matrix
#: product.
MOST_VECTORS = 1.25
#: Bytes of outputs above which writing them costs as much again: rows of all of them come at once, each into a line that is
#: far away, where others write a pixel at a time.
FAR_BYTES = 16 << 20
#: What a task costs besides, a row that is packed or written, and an element of it, in floating-point operations.
TASK_FLOPS, ROW_FLOPS, MOVE_FLOPS = 29_000, 840, 24


@dataclass(frozen=True)
class Prepared:
    """Weights as the kernel reads them, (G, block of outputs, C/G, tap, output), and the bias.

    Outputs stay between `bounds`; `adds`: they are added to what is there.
    """

    weights: np.ndarray
    bias: np.ndarray
    fresh: bool = False  # the weights are the caller's: the kernel brings them in order
    bounds: tuple[float, float] = UNBOUNDED
    adds: bool = False


class Pixelwise(Multiplying):
    """Lanes are pixels; see the module."""

    name = "pixelwise"
    summary = "every lane of a vector is a pixel; for few output channels, as of image filters; machine code"
    accuracy = ("standard", "fast")
    takes_groups = True

    def limits(self, geometry: ConvGeometry, dtype: np.dtype) -> str | None:
        if max(geometry.padded_shape, default=0) > FAR:
            return f"needs axes of up to {FAR} positions, padding included"
        outputs, most = geometry.per_group[1], max(len(NARROW), int(MOST_VECTORS * vector_bytes() // dtype.itemsize))
        if outputs > most:
            return f"needs up to {most} output channels in a group, there are {outputs}"
        return None

    def error_bound(self, geometry: ConvGeometry, dtype: np.dtype) -> ErrorBound:
        return ErrorBound(128, "window")

    def cost(self, geometry: ConvGeometry, dtype: np.dtype, direction: str = "forward") -> Cost:
        size, workers = dtype.itemsize, threads.current()
        if direction == "weight_grad":
            return self.weight_grad_cost(geometry, dtype)
        if not total(geometry.y_shape):
            return Cost(0, 0, 1, 0, engine="pixelwise")
        padded, weights, outputs = elements(geometry)
        moved = (padded + outputs + SCATTERED * scattered(geometry, size)) * size
        if outputs * size > FAR_BYTES:
            moved += outputs * size
        tasks, rows, packed = moves(geometry, size, workers)
        work = flops(geometry, size, workers) + TASK_FLOPS * tasks + ROW_FLOPS * rows + MOVE_FLOPS * (packed + outputs)
        brought = Cost(0, 3 * weights * size, 0 if borrows(geometry, size, workers) else 1, 0, engine="pixelwise")
        return Cost(work, moved, 1, workspace(geometry, size, workers), engine="pixelwise", preparation=brought)

    def prepare(self, w: np.ndarray, geometry: ConvGeometry, dtype: np.dtype) -> Prepared:
        w = np.asarray(w, dtype)
        to = np.empty(0, dtype)
        if total(geometry.w_shape):
            to = packing_of(geometry, weight_steps(w.strides, geometry), dtype).bring(address(w), dtype)
        return Prepared(to, zeros(geometry.out_channels, dtype))

    def borrow(self, w: np.ndarray, geometry: ConvGeometry, dtype: np.dtype) -> Prepared:
        if total(geometry.y_shape) and borrows(geometry, dtype.itemsize, threads.current()):
            return Prepared(np.asarray(w, dtype), zeros(geometry.out_channels, dtype), fresh=True)
        return self.prepare(w, geometry, dtype)

    def lend(
        self, w_strides: Ints, geometry: ConvGeometry, x_strides: Ints, out_strides: Ints, dtype: np.dtype
    ) -> Bound | None:
        workers, steps = threads.current(), weight_steps(w_strides, geometry)
        if not total(geometry.y_shape) or not total(geometry.w_shape):
            return None
        along = borrows(geometry, dtype.itemsize, workers)
        launch = plan(geometry, x_strides, out_strides, steps if along else None, dtype, workers)
        if launch is None:
            return None
        bias, within = address(zeros(geometry.out_channels, dtype)), address(bounds(dtype, *UNBOUNDED))
        found = launch.bound(w=0, bias=bias, bounds=within, adds=0)
        return found if along else Brought(found, packing_of(geometry, steps, dtype), dtype, workers)

    def with_bias(self, prepared: Prepared, bias: np.ndarray, geometry: ConvGeometry) -> Prepared:
        return replace(prepared, bias=np.array(bias, prepared.bias.dtype).reshape(-1))

    def with_bounds(self, prepared: Prepared, least: float, most: float) -> Prepared:
        return replace(prepared, bounds=(least, most))

    def with_sum(self, prepared: Prepared) -> Prepared:
        return replace(prepared, adds=True)

    def bind(
        self, prepared: Prepared, geometry: ConvGeometry, x_strides: Ints, out_strides: Ints, dtype: np.dtype
    ) -> Bound | None:
        steps = weight_steps(prepared.weights.strides, geometry) if prepared.fresh else None
        launch = plan(geometry, x_strides, out_strides, steps, dtype, threads.current())
        if launch is None:
            return None
        within = address(bounds(dtype, *prepared.bounds))
        return launch.bound(
            w=address(prepared.weights), bias=address(prepared.bias), bounds=within, adds=int(prepared.adds)
        )
