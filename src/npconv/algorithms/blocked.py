"""Blocked products in machine code: prefer it for most kernels; nothing is gathered, a register tile reads x in place.

Sixty-four output channels of seven pixels stay in registers while one pass over the taps and input channels adds up
their products. The input is packed box by box where it needs zeros around it, or other strides; the weights once.
Needs numba (extra `fast`). The kernel is `npconv.compiled.blocked`.

Sources: Georganas et al. (2020), "Harnessing deep learning via a single building block"; Dukhan (2019), "The indirect
convolution algorithm", arXiv:1907.02129.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from itertools import product

import numpy as np

from ..compiled import catalogue, tasks, threads
from ..compiled.calls import Bound, Words, address, aligned
from ..compiled.outer import launch as outer_launch
from ..compiled.panels import CHUNK, LINE, SPARE, UNBOUNDED, Panels, bounds, panels, whole_lines
from ..geometry import ConvGeometry, Ints, ceil_div, covered_size, effective_kernel, three_axes, total
from ..records import dataclass
from .base import Compiled, Cost, ErrorBound, elements, streamed

#: Bytes of scratch for one thread that packs weights: a square of vectors.
SPARE_BYTES = 1024
#: Input channels below which packing is not cut further.
MIN_CUT = 16
#: Pieces that packing is cut into; the cycles that it takes: to begin with, and for each vector into its place.
PIECES, LAUNCH_CYCLES, PACK_CYCLES = 8, 30_000, 8
#: Cycles to bring a vector of weights in order in the middle of a kernel: copied, transposed, one by one.
COPY_CYCLES, TRANSPOSE_CYCLES, GATHER_CYCLES = 3, 8, 40
#: Bytes between rows of weights above which they are not read in place: too many would share a line of the cache.
PLACE_BYTES = 1024
#: Writing one output of a tile takes the time of this many floating-point operations.
STORE_FLOPS = 8


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


class Blocked(Compiled):
    """One register tile over every tap; see the module."""

    name = "blocked"
    summary = "keeps a tile of outputs in registers while it reads x in place; machine code"
    accuracy = ("standard", "fast")

    def error_bound(self, geometry: ConvGeometry, dtype: np.dtype) -> ErrorBound:
        return ErrorBound(128, "window")

    def cost(self, geometry: ConvGeometry, dtype: np.dtype, direction: str = "forward") -> Cost:
        n, size, group = geometry.batch, dtype.itemsize, geometry.groups
        if direction == "weight_grad":
            scratch, moved = outer_launch.workspace(geometry, dtype), sum(elements(geometry))
            return Cost(outer_launch.flops(geometry, dtype), moved * size, 2, scratch, engine="outer")
        p = panels(geometry.out_channels // group, size) if geometry.out_channels else Panels(1, 1, 1, 1, 1)
        lanes = group * p.computed
        vectors = n * total(geometry.out_shape) * lanes
        chunks = ceil_div(geometry.terms, CHUNK)
        weights = lanes * geometry.terms
        brought = Cost(0, 3 * weights * size, 1, 0, engine="blocked")
        padded = total(geometry.padded_shape) * geometry.in_channels * n
        moved = 2 * padded + total(geometry.y_shape)
        box = min(padded // n, 4 * tasks.BOX_BYTES // size) if n else 0
        held = weights + box * threads.current()
        flops = 2 * vectors * geometry.terms + STORE_FLOPS * vectors * chunks
        return Cost(
            flops, moved * size + streamed(weights * size), 1, held * size, engine="blocked", preparation=brought
        )

    def weight_grad(self, x: np.ndarray, g: np.ndarray, geometry: ConvGeometry, out: np.ndarray) -> None:
        outer_launch.weight_grad(x, g, geometry, out)

    def write_weight_grad(self, x: np.ndarray, g: np.ndarray, geometry: ConvGeometry, out: np.ndarray) -> None:
        outer_launch.weight_grad(x, g, geometry, out, more=False)

    def prepare(self, w: np.ndarray, geometry: ConvGeometry, dtype: np.dtype) -> Prepared:
        w = np.asarray(w, dtype)
        packing = _packing(geometry.groups, w.shape, w.strides, dtype)
        weights = aligned(packing.elements, dtype)
        scratch = aligned(min(threads.current(), packing.blocks) * SPARE_BYTES)
        # moving a number costs about what 16 products do
        packing.words.run(
            packing.blocks, 16.0 * packing.elements, to=address(weights), w=address(w), scratch=address(scratch)
        )
        return Prepared(weights)

    def borrow(self, w: np.ndarray, geometry: ConvGeometry, dtype: np.dtype) -> Prepared:
        w = np.asarray(w, dtype)
        if _borrows(geometry, w.strides, w.itemsize, threads.current()):
            return Prepared(w, fresh=True)
        return self.prepare(w, geometry, dtype)

    def with_bias(self, prepared: Prepared, bias: np.ndarray, geometry: ConvGeometry) -> Prepared:
        per = geometry.out_channels // geometry.groups
        p = panels(per, prepared.weights.itemsize)
        padded = np.zeros((geometry.groups, p.count * p.columns * p.lanes), prepared.weights.dtype)
        padded[:, :per] = bias.reshape(geometry.groups, per)
        return replace(prepared, bias=padded)

    def with_bounds(self, prepared: Prepared, least: float, most: float) -> Prepared:
        return replace(prepared, bounds=(least, most))

    def with_sum(self, prepared: Prepared) -> Prepared:
        return replace(prepared, adds=True)

    def bind(
        self, prepared: Prepared, geometry: ConvGeometry, x_strides: Ints, out_strides: Ints, dtype: np.dtype
    ) -> Bound | None:
        w_strides = prepared.weights.strides if prepared.fresh else None
        launch = plan(geometry, x_strides, out_strides, w_strides, dtype, threads.current())
        if launch is None or (prepared.adds and out_strides[1] != dtype.itemsize):
            return None
        bias, scratch = 0 if prepared.bias is None else address(prepared.bias), launch.scratch * launch.threads
        fixed = {"bias": bias, "bounds": address(bounds(dtype, *prepared.bounds)), "adds": 2 * prepared.adds}
        return Bound(launch.words, launch.blocks, launch.flops, scratch, w=address(prepared.weights), **fixed)


@dataclass(frozen=True)
class Packing:
    """The launch that brings weights of one shape and layout into panels."""

    words: Words
    blocks: int
    elements: int


@lru_cache(maxsize=1024)
def _packing(group: int, shape: Ints, strides: Ints, dtype: np.dtype) -> Packing:
    size, c, taps = dtype.itemsize, shape[1], total(shape[2:])
    o = shape[0] // group
    p = panels(o, size)
    steps = _tap_steps(strides, shape[2:])
    full, last = (columns * p.lanes * size * c * taps for columns in (p.columns, p.last))
    run, along = _order(strides[1], steps, size)
    cuts = max(1, min(c // MIN_CUT, ceil_div(PIECES, group * p.count)))
    values = {
        "step_g": o * strides[0], "step_o": strides[0], "step_c": strides[1], "taps": taps, "channels": c, "outputs": o,
        "panels": p.count, "columns": p.columns, "last_columns": p.last, "panel_step": full,
        "group_step": full * (p.count - 1) + last, "cuts": cuts, "run": int(run), "along": along, "scratch_step": SPARE_BYTES,
    }  # fmt: skip
    words = Words(catalogue.kernel("weights", "pack", f"f{size}"), values, {"tap_steps": steps})
    return Packing(words, group * p.count * cuts, group * p.vectors * p.lanes * c * taps)


@dataclass(frozen=True)
class Launch:
    """A kernel and its arguments for one geometry and one pair of memory layouts."""

    words: Words
    blocks: int
    flops: int
    scratch: int  # bytes per thread
    threads: int


def _tap_steps(strides: Ints, kernel: Ints) -> np.ndarray:
    """Bytes from the first tap to each, taps in C order."""
    steps = np.array(strides[2:], np.int64)
    return np.array([int(np.array(at, np.int64) @ steps) if at else 0 for at in np.ndindex(*kernel)], np.int64)


def _order(step_c: int, tap_steps: np.ndarray, size: int) -> tuple[bool, int]:
    """Whether the taps of an input channel, and then the next channel's, follow each other in memory; and the taps' step.

    The step is 0 unless it is that of neighbours, up or down.
    """
    numbers = np.arange(len(tap_steps))
    up, down = (bool((tap_steps == numbers * step).all()) for step in (size, -size))
    along = 0 if len(tap_steps) == 1 else size if up else -size if down else 0
    return up and step_c == len(tap_steps) * size, along


def _in_place(strides: Ints, geometry: ConvGeometry, p: Panels, merged: int, size: int) -> bool:
    """Whether the caller's weights are rows of whole vectors, near each other."""
    together = merged == 1 or strides[-1] == geometry.per_group[0] * strides[1]
    return strides[0] == size and p.rest == p.lanes and 0 < strides[1] <= PLACE_BYTES and together


@lru_cache(maxsize=4096)
def _borrows(geometry: ConvGeometry, strides: Ints, size: int, workers: int) -> bool:
    """Whether a kernel that brings the caller's weights in order as it goes is faster than one more launch."""
    if not total(geometry.y_shape):
        return False
    n, (c, o) = geometry.batch * geometry.groups, geometry.per_group
    p = panels(o, size)
    kernel, dilation, stride = (three_axes(a, 1) for a in (geometry.kernel, geometry.dilation, geometry.stride))
    if _in_place(strides, geometry, p, tasks.chunks(kernel, dilation, c)[0], size):
        return True
    outputs = three_axes(geometry.out_shape, 1)
    effective = tuple(effective_kernel(k, d) for k, d in zip(kernel, dilation, strict=True))
    packs = any(lo > 0 or hi > 0 for lo, hi in geometry.padding)
    boxes, parts, cuts = tasks.split(outputs, effective, stride, geometry.taps, c * size, n, p, packs, 0, True, workers)
    times = geometry.batch * cuts * total([ceil_div(m, b) for m, b in zip(outputs, boxes, strict=True)])
    along = _order(strides[1], _tap_steps(strides, geometry.kernel), size)[1]
    each = COPY_CYCLES if strides[0] == size else TRANSPOSE_CYCLES if along or strides[1] == size else GATHER_CYCLES
    vectors = geometry.groups * p.vectors * geometry.terms
    busy = min(workers, geometry.groups * parts * times)
    return vectors * times * each // busy < LAUNCH_CYCLES + vectors * PACK_CYCLES // workers


@lru_cache(maxsize=4096)
def plan(
    geometry: ConvGeometry, x_strides: Ints, y_strides: Ints, w_strides: Ints | None, dtype: np.dtype, workers: int
) -> Launch | None:
    """The launch that computes `geometry`; None where there is nothing to compute."""
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
    place = w_strides is not None and _in_place(w_strides, geometry, p, merged, size)
    fresh = w_strides is not None and not place
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
    w_steps = _tap_steps(w_strides, geometry.kernel) if w_strides is not None else np.zeros(1, np.int64)
    run, along = _order(w_strides[1], w_steps, size) if w_strides is not None else (False, 0)
    w_g, w_o, w_c = (o * w_strides[0], w_strides[0], w_strides[1]) if w_strides is not None else (0, 0, 0)
    if place:
        w_offsets, w_row, panel_step, group_step = np.tile(w_steps[::merged], 2), w_c, wide, w_g
    else:
        w_offsets, w_row = np.concatenate([taps * deep * wide, taps * deep * last]), 0
        panel_step = deep * wide * len(taps)
        group_step = panel_step * (p.count - 1) + deep * last * len(taps)
    some = taps[:chunk_taps] * depth
    arrays = {
        "tap_offsets": np.array(offsets, np.int64),
        "w_offsets": w_offsets,
        "chunk_offsets": np.concatenate([some * wide, some * last]),
        "w_taps": w_steps,
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
        "w_along": along, "at_weights": at_weights,
        "scratch_step": whole_lines(at_weights + (len(some) * depth * wide if fresh else 0) + 256),
    }  # fmt: skip
    words = Words(catalogue.kernel("blocked", "forward", f"f{size}"), values, arrays)
    blocks = n * group * total(counts) * parts * cuts
    return Launch(words, blocks, 2 * geometry.macs, values["scratch_step"], min(workers, blocks))
