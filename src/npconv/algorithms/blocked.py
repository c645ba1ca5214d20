"""Blocked products in machine code: prefer it for most kernels; nothing is gathered, a register tile reads x in place.

Sixty-four output channels of seven pixels stay in registers while one pass over the taps and input channels adds up
their products. The input is packed box by box where it needs zeros around it, or other strides; the weights once.
Needs numba (extra `fast`). The kernel is `npconv.compiled.blocked`.

Sources: Georganas et al. (2020), "Harnessing deep learning via a single building block"; Dukhan (2019), "The indirect
convolution algorithm", arXiv:1907.02129.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np

from ..compiled import catalogue, tasks, threads
from ..compiled.bringing import COPY_CYCLES, TRANSPOSE_CYCLES, Brought, goes_along
from ..compiled.calls import Bound, Launch, Words, address
from ..compiled.ordered import SPARE_BYTES, kinds, order_of, packing_of, tap_steps
from ..compiled.panels import (
    LINE,
    SPARE,
    SUMMED,
    UNBOUNDED,
    Panels,
    bounds,
    collide,
    from_memory,
    panels,
    rows_ahead,
    weight_steps,
    whole_lines,
)
from ..compiled.pointwise import launch as pointwise
from ..geometry import ConvGeometry, Ints, ceil_div, covered_size, effective_kernel, three_axes, total
from ..records import dataclass, replace
from .base import Cost, ErrorBound, Multiplying, scattered, streamed

#: Cycles to bring a vector of weights in order in the middle of a kernel, one number at a time; and those of a chunk's taps
#: of one channel, few columns of a square.
GATHER_CYCLES, EDGE_CYCLES = 40, 50
#: Bytes between rows of weights above which they are not read in place: each would lie in a page of its own.
PLACE_BYTES = 1024
#: What writing one output of a tile costs besides its products, in floating-point operations, a tap of a pixel, a pixel of
#: one panel, a row of a group, and a group of one image.
STORE_FLOPS, TAP_FLOPS, PIXEL_FLOPS, ROW_FLOPS, PLANE_FLOPS = 4, 10, 425, 2_100, 36_000
#: What a pixel of one panel costs besides where the kernel has one tap.
POINT_FLOPS = 110
#: Bytes of a pixel up to which hardware sees what comes next of images that are packed.
RUN_BYTES = 256
#: How often elements are moved that are scattered over cache lines.
SCATTERED = 2
#: How much longer a product takes in a panel of 1 or 2 vectors, which loads more for each, the last one partly filled.
NARROW = {1: 2.2, 2: 1.3}


@dataclass(frozen=True)
class Prepared:
    """Weights as the kernel reads them, (G, panel, tap, C/G, lanes), and the bias in the same order, if any.

    `fresh` weights are the caller's, which the kernel brings in order as it goes. Outputs stay between `bounds`; `adds`:
    they are added to what is there.
    """

    weights: np.ndarray
    bias: np.ndarray | None = None
    fresh: bool = False
    bounds: tuple[float, float] = UNBOUNDED
    adds: bool = False


class Blocked(Multiplying):
    """One register tile over every tap; see the module."""

    name = "blocked"
    summary = "keeps a tile of outputs in registers while it reads x in place; machine code"
    accuracy = ("standard", "fast")
    takes_groups = True

    def error_bound(self, geometry: ConvGeometry, dtype: np.dtype) -> ErrorBound:
        return ErrorBound(128, "window")

    def cost(self, geometry: ConvGeometry, dtype: np.dtype, direction: str = "forward") -> Cost:
        n, size, group = geometry.batch, dtype.itemsize, geometry.groups
        if direction == "weight_grad":
            return self.weight_grad_cost(geometry, dtype)
        p = panels(geometry.out_channels // group, size) if geometry.out_channels else Panels(1, 1, 1, 1, 1)
        lanes = group * p.computed
        vectors = n * total(geometry.out_shape) * lanes
        chunks = ceil_div(geometry.terms, SUMMED)
        weights = lanes * geometry.terms
        brought = Cost(0, 3 * weights * size, 1, 0, engine="blocked")
        padded = total(geometry.padded_shape) * geometry.in_channels * n
        matrices = geometry.taps == group == 1 and all(lo <= 0 and hi <= 0 for lo, hi in geometry.padding)
        moved = (1 if matrices else 2) * padded + total(geometry.y_shape) + SCATTERED * scattered(geometry, size)
        box = min(padded // n, 4 * tasks.BOX_BYTES // size) if n else 0
        held = weights + box * threads.current()
        planes, rows, pixels = (
            n * group * many for many in (1, total(geometry.out_shape[:-1]), total(geometry.out_shape))
        )
        longer = NARROW.get(p.columns, 1) if p.count == 1 and p.rest < p.lanes and not matrices else 1
        flops = int(2 * longer * vectors * geometry.terms) + STORE_FLOPS * vectors * chunks
        if matrices:  # nothing is packed, and no tap begins anew
            flops += pixels * POINT_FLOPS * p.count
        else:
            flops += pixels * (PIXEL_FLOPS * p.count + TAP_FLOPS * geometry.taps) + ROW_FLOPS * rows
        flops += PLANE_FLOPS * planes if group > 1 else 0
        return Cost(
            flops, moved * size + streamed(weights * size), 1, held * size, engine="blocked", preparation=brought
        )

    def prepare(self, w: np.ndarray, geometry: ConvGeometry, dtype: np.dtype) -> Prepared:
        w = np.asarray(w, dtype)
        return Prepared(packing_of(geometry, weight_steps(w.strides, geometry), dtype).bring(address(w), dtype))

    def borrow(self, w: np.ndarray, geometry: ConvGeometry, dtype: np.dtype) -> Prepared:
        w = np.asarray(w, dtype)
        if _borrows(geometry, weight_steps(w.strides, geometry), w.itemsize, threads.current()):
            return Prepared(w, fresh=True)
        return self.prepare(w, geometry, dtype)

    def with_bias(self, prepared: Prepared, bias: np.ndarray, geometry: ConvGeometry) -> Prepared:
        return replace(prepared, bias=self.in_lanes(bias.astype(prepared.weights.dtype), geometry))

    def in_lanes(self, bias: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
        per = geometry.out_channels // geometry.groups
        p = panels(per, bias.itemsize)
        padded = np.zeros((geometry.groups, p.count * p.columns * p.lanes), bias.dtype)
        padded[:, :per] = bias.reshape(geometry.groups, per)
        return padded

    def with_bounds(self, prepared: Prepared, least: float, most: float) -> Prepared:
        return replace(prepared, bounds=(least, most))

    def with_sum(self, prepared: Prepared) -> Prepared:
        return replace(prepared, adds=True)

    def bind(
        self, prepared: Prepared, geometry: ConvGeometry, x_strides: Ints, out_strides: Ints, dtype: np.dtype
    ) -> Bound | None:
        steps = weight_steps(prepared.weights.strides, geometry) if prepared.fresh else None
        across = pointwise.applies(geometry, x_strides, out_strides, steps, dtype.itemsize)
        make = pointwise.plan if across else plan
        launch = make(geometry, x_strides, out_strides, steps, dtype, threads.current())
        if launch is None or (prepared.adds and not across and out_strides[1] != dtype.itemsize):
            return None
        bias = 0 if prepared.bias is None else address(prepared.bias)
        within = address(bounds(dtype, *prepared.bounds))
        return launch.bound(w=address(prepared.weights), bias=bias, bounds=within, adds=2 * prepared.adds)

    def lend(
        self, w_strides: Ints, geometry: ConvGeometry, x_strides: Ints, out_strides: Ints, dtype: np.dtype
    ) -> Bound | None:
        steps, workers = weight_steps(w_strides, geometry), threads.current()
        across = pointwise.applies(geometry, x_strides, out_strides, steps, dtype.itemsize)
        fresh = across or _borrows(geometry, steps, dtype.itemsize, workers)
        make = pointwise.plan if across else plan
        launch = make(geometry, x_strides, out_strides, steps if fresh else None, dtype, workers)
        if launch is None:
            return None
        found = launch.bound(w=0, bias=0, bounds=address(bounds(dtype, *UNBOUNDED)), adds=0)
        return found if fresh else Brought(found, packing_of(geometry, steps, dtype), dtype, workers)


def _far_step(packs: bool, step_c: int, step_w: int, geometry: ConvGeometry, size: int) -> int:
    """Bytes from what a step of a product brings into the cache ahead to what the next one brings; 0: nothing.

    Pixels of which a group reads a part are brought one by one, those of a plane a line of each plane, others in one run.
    Where a box is much work, or hardware sees where it lies, that would only be in the way.
    """
    grouped = geometry.groups > 1
    if not packs:
        return LINE // 2
    if step_c == size:
        return step_w if grouped else LINE // 2 if geometry.in_channels * size > RUN_BYTES else 0
    return step_c if grouped or geometry.taps == 1 else 0


def _in_place(strides: Ints, geometry: ConvGeometry, p: Panels, merged: int, rows: int, size: int) -> bool:
    """Whether the caller's weights are rows of whole vectors, near each other, of which a cache holds the `rows` of a sum."""
    _, step_o, step_c, *taps = strides
    together = merged == 1 or taps[-1] == geometry.per_group[0] * step_c
    near = 0 < step_c <= PLACE_BYTES and not collide(rows, step_c, p.columns * p.lanes * size)
    return step_o == size and p.rest == p.lanes and near and together


@lru_cache(maxsize=4096)
def _borrows(geometry: ConvGeometry, strides: Ints, size: int, workers: int) -> bool:
    """Whether a kernel that brings the caller's weights in order as it goes is faster than one more launch."""
    if not total(geometry.y_shape):
        return False
    n, (c, o) = geometry.batch * geometry.groups, geometry.per_group
    p = panels(o, size)
    kernel, dilation, stride = (three_axes(a, 1) for a in (geometry.kernel, geometry.dilation, geometry.stride))
    merged, chunk_taps, depth = tasks.chunks(kernel, dilation, c)
    if _in_place(strides, geometry, p, merged, chunk_taps * depth, size):
        return True
    outputs = three_axes(geometry.out_shape, 1)
    effective = tuple(effective_kernel(k, d) for k, d in zip(kernel, dilation, strict=True))
    packs = any(lo > 0 or hi > 0 for lo, hi in geometry.padding)
    boxes, parts, cuts = tasks.split(outputs, effective, stride, geometry.taps, c * size, n, p, packs, 0, True, workers)
    times = geometry.batch * cuts * total([ceil_div(m, b) for m, b in zip(outputs, boxes, strict=True)])
    _, step_o, step_c, *_ = strides
    run, along = order_of(step_c, tap_steps(strides, geometry.kernel), size)
    many = merged * chunk_taps
    if step_o == size:
        each = COPY_CYCLES
    elif step_c == size or (run and many == geometry.taps):
        each = TRANSPOSE_CYCLES
    else:
        each = EDGE_CYCLES * ceil_div(many, p.lanes) // many if along else GATHER_CYCLES
    vectors = geometry.groups * p.vectors * geometry.terms
    return goes_along(vectors, times, each, geometry.groups * parts * times, workers)


@lru_cache(maxsize=4096)
def plan(
    geometry: ConvGeometry, x_strides: Ints, y_strides: Ints, w_steps: Ints | None, dtype: np.dtype, workers: int
) -> Launch | None:
    """The launch that computes `geometry`, with weights in steps of `w_steps`, or in order; None: nothing to compute."""
    if not total(geometry.y_shape):
        return None
    size = dtype.itemsize
    n, group = geometry.batch, geometry.groups
    c, o = geometry.per_group
    inputs, outputs = three_axes(geometry.in_shape, 1), three_axes(geometry.out_shape, 1)
    kernel = three_axes(geometry.kernel, 1)
    # steps that are never taken may be larger than a machine word
    stride = tuple(s if m > 1 else 1 for s, m in zip(three_axes(geometry.stride, 1), outputs, strict=True))
    dilation = tuple(d if k > 1 else 1 for d, k in zip(three_axes(geometry.dilation, 1), kernel, strict=True))
    lows = three_axes(tuple(lo for lo, _ in geometry.padding), 0)
    steps, y_steps = three_axes(x_strides[2:], 0), three_axes(y_strides[2:], 0)
    batch_step, y_batch_step = x_strides[0], y_strides[0]
    plain = all(lo <= 0 and hi <= 0 for lo, hi in geometry.padding)
    if plain and geometry.taps == 1 and all(s == 1 for s in stride) and not any(lows):
        folded = tasks.merged((n, *outputs), (batch_step, *steps), (y_batch_step, *y_steps))
        (n, *sizes), (batch_step, *xs), (y_batch_step, *ys) = folded
        inputs = outputs = three_axes(tuple(sizes), 1)
        steps, y_steps = three_axes(tuple(xs), 0), three_axes(tuple(ys), 0)
    merged, chunk_taps, depth = tasks.chunks(kernel, dilation, c)
    # a convolution has the same sums wherever x lies
    packs = not plain or x_strides[1] != size or (merged > 1 and steps[2] != c * size)
    direct = y_strides[1] == size
    p = panels(o, size)
    place = w_steps is not None and _in_place(w_steps, geometry, p, merged, chunk_taps * depth, size)
    fresh = w_steps is not None and not place
    effective = tuple(effective_kernel(k, d) for k, d in zip(kernel, dilation, strict=True))
    boxes, parts, cuts = tasks.split(
        outputs,
        effective,
        stride,
        geometry.taps,
        c * size,
        n * group,
        p,
        packs,
        0 if direct else p.columns * p.lanes * size,
        fresh,
        workers,
    )
    counts = tuple(ceil_div(m, b) for m, b in zip(outputs, boxes, strict=True))
    box = tuple(covered_size(e, s, b) for e, s, b in zip(effective, stride, boxes, strict=True))
    row = c * size
    within = (box[1] * box[2] * row, box[2] * row, row) if packs else steps
    tables = tasks.tables(
        outputs, boxes, counts, cuts, stride, within, y_steps, steps, lows, p.columns * p.lanes * size
    )
    offsets = [
        sum(t * d * step for t, d, step in zip(at, dilation, within, strict=True))
        for at in product(*(range(k) for k in kernel))
    ][::merged]
    taps = np.arange(len(offsets), dtype=np.int64)
    wide, last = (k * p.lanes * size for k in (p.columns, p.last))  # bytes of a row of weights
    deep = merged * c
    w_g, w_o, w_c, *_ = w_steps or (0, 0, 0)
    w_taps = tap_steps(w_steps, geometry.kernel) if w_steps else np.zeros(1, np.int64)
    run, along = order_of(w_c, w_taps, size) if w_steps else (False, 0)
    if place:
        w_offsets, w_row, panel_step, group_step = np.tile(w_taps[::merged], 2), w_c, wide, w_g
    else:
        w_offsets, w_row = np.concatenate([taps * deep * wide, taps * deep * last]), 0
        panel_step = deep * wide * len(taps)
        group_step = panel_step * (p.count - 1) + deep * last * len(taps)
    some = taps[:chunk_taps] * depth
    pixel, far_step = steps[2] * stride[2], 0
    if from_memory(total(geometry.x_shape) * size):
        far_step = _far_step(packs, x_strides[1], steps[2], geometry, size)
    arrays = {
        "tap_offsets": np.array(offsets, np.int64),
        "w_offsets": w_offsets,
        "chunk_offsets": np.concatenate([some * wide, some * last]),
        "w_taps": w_taps,
        "kinds": kinds(p, size, far_step > 0, not fresh and from_memory(total(geometry.w_shape) * size)),
        **tables,
    }
    pack_bytes = whole_lines(total(box) * row) + LINE if packs else 0
    staged = 0 if direct else (total(boxes) + SPARE) * wide
    at_weights = whole_lines(pack_bytes + staged) + SPARE_BYTES
    values = {
        "boxes_d": counts[0], "boxes_h": counts[1], "boxes_w": counts[2],
        "size_d": boxes[0], "size_h": boxes[1], "size_w": boxes[2],
        "parts": parts, "cuts": cuts, "groups": group, "panels": p.count, "columns": p.columns, "last_columns": p.last,
        "last_count": p.rest, "batch_step": batch_step, "y_batch_step": y_batch_step,
        "step_c": x_strides[1], "step_d": steps[0], "step_h": steps[1], "step_w": steps[2], "step_o": y_strides[1],
        "channels": c, "outputs": o, "in_d": inputs[0], "in_h": inputs[1], "in_w": inputs[2],
        "lo_d": lows[0], "lo_h": lows[1], "lo_w": lows[2],
        "stride_d": stride[0], "stride_h": stride[1], "stride_w": stride[2],
        "box_d": box[0], "box_h": box[1], "box_w": box[2], "y_step_p": y_steps[2], "packs": pack_bytes,
        "direct": int(direct), "taps": len(taps), "merged": merged, "chunk_taps": len(some), "chunk_depth": depth,
        "w_row": w_row, "panel_step": panel_step, "group_step": group_step,
        "fresh": int(fresh), "w_g": w_g, "w_o": w_o, "w_c": w_c, "w_run": int(run and len(some) == len(taps)),
        "w_along": along, "at_weights": at_weights, "halved": int(p.halved),
        "far": rows_ahead(p.columns, depth * len(some)) * pixel, "far_row": pixel, "far_step": far_step,
        "boxes": n * group * total(counts), "workers": workers,
        "scratch_step": whole_lines(at_weights + (len(some) * depth * wide if fresh else 0) + 256),
    }  # fmt: skip
    words = Words(catalogue.kernel("blocked", "forward", f"f{size}"), values, arrays)
    return Launch(words, n * group * total(counts) * parts * cuts, 2 * geometry.macs, values["scratch_step"])
