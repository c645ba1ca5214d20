"""Blocked products in machine code: prefer it for most kernels; nothing is gathered, a register tile reads x in place.

Sixty-four output channels of seven pixels stay in registers while one pass over the taps and input channels adds up
their products. The input is packed box by box where it needs zeros around it, or other strides; the weights once.
Needs numba (extra `fast`). The kernel is `npconv.compiled.blocked`.

Sources: Georganas et al. (2020), "Harnessing deep learning via a single building block"; Dukhan (2019), "The indirect
convolution algorithm", arXiv:1907.02129.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import numpy as np

from ..compiled import catalogue, threads
from ..compiled.calls import Words, address, aligned
from ..compiled.outer import launch as outer_launch
from ..compiled.panels import CHUNK, SPARE, Panels, panels
from ..geometry import ConvGeometry, Ints, ceil_div, covered_size, effective_kernel, three_axes, total
from .base import Compiled, Cost, ErrorBound, elements

#: Bytes of one packed box: it should stay in the second-level cache with a panel of weights.
BOX_BYTES = 192 << 10
#: Boxes x parts below which a call is cut finer, so that all threads have work to the end.
TASKS = 8
#: Bytes of scratch for one thread that packs weights: a square of vectors.
SPARE_BYTES = 1024
#: Input channels below which packing is not cut further.
MIN_CUT = 16
#: Taps up to which a chunk of products runs over all of them.
MOST_TAPS = 32
#: Outputs per channel up to which borrowed weights are packed as they are used: no box packs them a second time.
FEW_PIXELS = 112
#: Writing one output of a tile takes the time of this many floating-point operations.
STORE_FLOPS = 8


@dataclass(frozen=True)
class Prepared:
    """Weights as the kernel reads them, (G, panel, tap, C/G, lanes), and the bias in the same order, if any.

    `fresh` weights are the caller's, which the kernel brings in order as it goes.
    """

    weights: np.ndarray
    bias: np.ndarray | None = None
    fresh: bool = False


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
            scratch, moved = outer_launch.workspace(geometry, dtype), 2 * sum(elements(geometry))
            return Cost(outer_launch.flops(geometry, dtype), moved * size, 3, scratch, engine="compiled")
        p = panels(geometry.out_channels // group, size) if geometry.out_channels else Panels(1, 1, 1, 1, 1)
        lanes = group * p.vectors * p.lanes  # channels computed, whole vectors
        vectors = n * total(geometry.out_shape) * lanes
        chunks = ceil_div(geometry.terms, CHUNK)
        weights = lanes * geometry.terms
        brought = Cost(0, 3 * weights * size, 1, 0, engine="compiled")
        padded = total(geometry.padded_shape) * geometry.in_channels * n
        moved = 2 * padded + total(geometry.y_shape)
        held = weights + BOX_BYTES // size * threads.current()
        flops = 2 * vectors * geometry.terms + STORE_FLOPS * vectors * chunks
        return Cost(flops, moved * size, 1, held * size, engine="compiled", preparation=brought)

    def weight_grad(self, x: np.ndarray, g: np.ndarray, geometry: ConvGeometry, out: np.ndarray) -> None:
        outer_launch.weight_grad(x, g, geometry, out)

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
        pixels = geometry.batch * total(geometry.out_shape)
        if (
            pixels <= FEW_PIXELS
            and geometry.taps <= MOST_TAPS
            and (dtype.itemsize in w.strides[:2] or _is_run(w.strides, w.shape[2:], w.itemsize))
        ):
            return Prepared(w, fresh=True)
        return self.prepare(w, geometry, dtype)

    def with_bias(self, prepared: Prepared, bias: np.ndarray, geometry: ConvGeometry) -> Prepared:
        per = geometry.out_channels // geometry.groups
        p = panels(per, prepared.weights.itemsize)
        padded = np.zeros((geometry.groups, p.count * p.columns * p.lanes), prepared.weights.dtype)
        padded[:, :per] = bias.reshape(geometry.groups, per)
        return replace(prepared, bias=padded)

    def forward(self, x: np.ndarray, prepared: Prepared, geometry: ConvGeometry, out: np.ndarray) -> None:
        x = np.asarray(x, out.dtype)
        w_strides = prepared.weights.strides if prepared.fresh else None
        launch = plan(geometry, x.strides, out.strides, w_strides, out.dtype, threads.current())
        if launch is None:
            return
        bias = 0 if prepared.bias is None else address(prepared.bias)
        scratch = aligned(launch.scratch * launch.threads)
        launch.words.run(
            launch.blocks,
            launch.flops,
            x=address(x),
            w=address(prepared.weights),
            bias=bias,
            y=address(out),
            scratch=address(scratch),
        )


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
    steps = np.array(
        [sum(t * s for t, s in zip(at, strides[2:], strict=True)) for at in np.ndindex(*shape[2:])], np.int64
    )
    full, last = (columns * p.lanes * size * c * taps for columns in (p.columns, p.last))
    run = _runs(strides[1], steps, size)
    cuts = max(1, min(c // MIN_CUT, ceil_div(TASKS, group * p.count)))
    values = {
        "step_g": o * strides[0], "step_o": strides[0], "step_c": strides[1], "taps": taps, "channels": c, "outputs": o,
        "panels": p.count, "columns": p.columns, "last_columns": p.last, "panel_step": full,
        "group_step": full * (p.count - 1) + last, "cuts": cuts, "run": int(run), "scratch_step": SPARE_BYTES,
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


def _runs(step_c: int, tap_steps: np.ndarray, size: int) -> bool:
    """Whether the taps of an input channel, and then the next channel's, follow each other in memory."""
    return step_c == len(tap_steps) * size and bool((tap_steps == np.arange(len(tap_steps)) * size).all())


@lru_cache(maxsize=1024)
def _is_run(strides: Ints, kernel: Ints, size: int) -> bool:
    return _runs(strides[1], _tap_steps(strides, kernel), size)


def _borrowed(strides: Ints, kernel: Ints, outputs: int, size: int) -> dict[str, int]:
    """How the kernel finds the caller's weights."""
    run = _runs(strides[1], _tap_steps(strides, kernel), size)
    return {"w_g": outputs * strides[0], "w_o": strides[0], "w_c": strides[1], "w_run": int(run)}


def _chunk(taps: int, channels: int) -> tuple[int, int]:
    """Taps and input channels of one chunk: all taps of some channels, where there are few taps."""
    if taps <= MOST_TAPS:
        return taps, ceil_div(channels, ceil_div(channels * taps, CHUNK // taps * taps))
    depth = min(channels, 16)
    return CHUNK // depth, depth


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
        merged = _merged((n, *outputs), (batch_step, *steps), (y_batch_step, *y_steps))
        (n, *sizes), (batch_step, *xs), (y_batch_step, *ys) = merged
        inputs = outputs = three_axes(tuple(sizes), 1)
        steps, y_steps = three_axes(tuple(xs), 0), three_axes(tuple(ys), 0)
    packs = not plain or x_strides[1] != size
    direct = y_strides[1] == size
    p = panels(o, size)
    effective = tuple(effective_kernel(k, d) for k, d in zip(kernel, dilation, strict=True))
    boxes = _boxes(outputs, effective, stride, c * size, n * group)
    counts = tuple(ceil_div(m, b) for m, b in zip(outputs, boxes, strict=True))
    box = tuple(covered_size(e, s, b) for e, s, b in zip(effective, stride, boxes, strict=True))
    row = c * size
    packed = (box[1] * box[2] * row, box[2] * row, row)
    within = packed if packs else steps
    parts = min(p.count, max(1, ceil_div(TASKS, n * group * total(counts))))
    tables = _tables(outputs, boxes, counts, stride, within, y_steps, steps, lows, p.columns * p.lanes * size)
    taps = [
        sum(t * d * step for t, d, step in zip(at, dilation, within, strict=True))
        for at in product(*(range(k) for k in kernel))
    ]
    full, last = c * p.columns * p.lanes * size, c * p.last * p.lanes * size
    chunk_taps, depth = _chunk(len(taps), c)
    chunk = depth * p.columns * p.lanes * size  # bytes of one tap of a chunk of weights
    borrowed = _borrowed(w_strides, geometry.kernel, o, size) if w_strides else {}
    arrays = {
        "tap_offsets": np.array(taps, np.int64),
        "w_offsets": np.array([i * full for i in range(len(taps))] + [i * last for i in range(len(taps))], np.int64),
        "chunk_offsets": np.array(
            [i * depth * k * p.lanes * size for k in (p.columns, p.last) for i in range(chunk_taps)], np.int64
        ),
        **tables,
    }
    if w_strides:
        arrays["w_taps"] = _tap_steps(w_strides, geometry.kernel)
    pack_bytes = -(-total(box) * row // 64) * 64 + 64 if packs else 0
    staged = 0 if direct else (total(boxes) + SPARE) * p.columns * p.lanes * size
    at_weights = -(-(pack_bytes + staged) // 64) * 64 + SPARE_BYTES
    values = {
        "boxes_d": counts[0], "boxes_h": counts[1], "boxes_w": counts[2],
        "size_d": boxes[0], "size_h": boxes[1], "size_w": boxes[2],
        "parts": parts, "groups": group, "panels": p.count, "columns": p.columns, "last_columns": p.last,
        "last_count": p.rest, "batch_step": batch_step, "y_batch_step": y_batch_step,
        "step_c": x_strides[1], "step_d": steps[0], "step_h": steps[1], "step_w": steps[2], "step_o": y_strides[1],
        "channels": c, "outputs": o, "in_d": inputs[0], "in_h": inputs[1], "in_w": inputs[2],
        "lo_d": lows[0], "lo_h": lows[1], "lo_w": lows[2],
        "stride_d": stride[0], "stride_h": stride[1], "stride_w": stride[2],
        "box_d": box[0], "box_h": box[1], "box_w": box[2], "y_step_p": y_steps[2], "packs": pack_bytes,
        "direct": int(direct), "taps": len(taps), "chunk_taps": chunk_taps, "chunk_depth": depth,
        "panel_step": full * len(taps), "group_step": (full * (p.count - 1) + last) * len(taps), "at_weights": at_weights,
        "scratch_step": -(-(at_weights + (chunk_taps * chunk if w_strides else 0) + 256) // 64) * 64,
        "fresh": int(w_strides is not None), "w_g": 0, "w_o": 0, "w_c": 0, "w_run": 0, **borrowed,
    }  # fmt: skip
    if w_strides is None:
        values["w_taps"] = 0
    words = Words(catalogue.kernel("blocked", "forward", f"f{size}"), values, arrays)
    blocks = n * group * total(counts) * parts
    return Launch(words, blocks, 2 * geometry.macs, values["scratch_step"], min(workers, blocks))


def _merged(sizes: Ints, x_steps: Ints, y_steps: Ints) -> tuple[list[int], list[int], list[int]]:
    """Fold axes that follow each other in memory, in x and in y, into the last: fewer and longer runs of pixels."""
    sizes, x_steps, y_steps = list(sizes), list(x_steps), list(y_steps)  # type: ignore[assignment]
    for i in (2, 1, 0):
        j = 3
        if x_steps[i] == sizes[j] * x_steps[j] and y_steps[i] == sizes[j] * y_steps[j]:
            sizes[j] *= sizes[i]  # type: ignore[index]
            sizes[i] = 1  # type: ignore[index]
        elif sizes[i] != 1:
            break
    return list(sizes), list(x_steps), list(y_steps)


def _boxes(outputs: Ints, effective: Ints, stride: Ints, pixel: int, images: int) -> Ints:
    """The outputs of one task along each axis: whole rows where they fit, and enough tasks for all threads."""
    boxes = list(outputs)
    wanted = ceil_div(TASKS, images)

    def bytes_of(shape: list[int]) -> int:
        return total([covered_size(e, s, b) for e, s, b in zip(effective, stride, shape, strict=True)]) * pixel

    def tasks(shape: list[int]) -> int:
        return total([ceil_div(m, b) for m, b in zip(outputs, shape, strict=True)])

    for axis, least in ((0, 1), (1, 1), (2, 28)):
        while boxes[axis] > least and (bytes_of(boxes) > BOX_BYTES or (tasks(boxes) < wanted and total(boxes) > 56)):
            boxes[axis] = ceil_div(boxes[axis], 2)
    return tuple(ceil_div(m, ceil_div(m, b)) for m, b in zip(outputs, boxes, strict=True))


def _tables(
    outputs: Ints,
    boxes: Ints,
    counts: Ints,
    stride: Ints,
    within: Ints,
    y_steps: Ints,
    x_steps: Ints,
    lows: Ints,
    staged_row: int,
) -> dict[str, np.ndarray]:
    """Where each pixel of a box starts to read, and where it is written; one table for every size a box can have."""
    rows: list[np.ndarray] = []
    places: list[np.ndarray] = []
    staged: list[np.ndarray] = []
    starts: dict[Ints, int] = {}
    corners = np.empty((*counts, 4), np.int64)
    at = 0
    for index in np.ndindex(*counts):
        first = tuple(i * b for i, b in zip(index, boxes, strict=True))
        shape = tuple(min(b, m - f) for b, m, f in zip(boxes, outputs, first, strict=True))
        if shape not in starts:
            starts[shape] = at
            grid = np.indices(shape, np.int64).reshape(3, -1)
            steps = np.array([s * w for s, w in zip(stride, within, strict=True)], np.int64)
            for table, values in (
                (rows, steps @ grid),
                (places, np.array(y_steps, np.int64) @ grid),
                (staged, np.arange(grid.shape[1], dtype=np.int64) * staged_row),
            ):
                table.append(np.concatenate([values, np.full(SPARE, values[-1])]))
            at += grid.shape[1] + SPARE
        corners[index] = (
            total(shape),
            starts[shape],
            sum((f * s - lo) * step for f, s, lo, step in zip(first, stride, lows, x_steps, strict=True)),
            sum(f * step for f, step in zip(first, y_steps, strict=True)),
        )
    return {
        "rows": np.concatenate(rows),
        "places": np.concatenate(places),
        "staged_rows": np.concatenate(staged),
        "corners": np.ascontiguousarray(corners.reshape(-1)),
    }
