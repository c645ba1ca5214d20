"""The arguments of the phased kernels, once per joint problem and memory layout: forward, and weights on their way in."""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np

from ...geometry import ConvGeometry, Ints, ceil_div, effective_kernel, three_axes, total
from ...phases import Joint
from ...records import dataclass, replace
from .. import catalogue, tasks
from ..bringing import COPY_CYCLES, TRANSPOSE_CYCLES, Bringing, goes_along
from ..calls import Launch, Words
from ..ordered import SPARE_BYTES, kinds
from ..panels import LINE, SPARE, Panels, from_memory, panels, rows_ahead, vector_bytes, whole_lines
from .records import RECORD

#: Input channels below which packing is not cut further, and pieces that it is cut into.
MIN_CUT, PIECES = 16, 16


@dataclass(frozen=True)
class Laid:
    """How weights lie: by group, phase, panel, tap, input channel and lane; what the kernels are told of each panel."""

    p: Panels  # of one phase
    vectors: int  # of all phases together, of one group
    elements: int
    records: tuple[tuple[int, ...], ...]
    w_offsets: tuple[int, ...]  # of a row of taps, panel after panel
    chunk_offsets: tuple[int, ...]  # the same within a chunk of weights that are brought in order as they are used
    chunk_bytes: int  # of the largest
    taps: tuple[tuple[Ints, ...], ...]  # by phase: the indices of its taps in the kernel of all


def phases(joint: Joint) -> list[ConvGeometry]:
    """The convolutions of the phases, all of which there are."""
    return [phase.geometry for phase in joint.phases if phase.geometry is not None]


@lru_cache(maxsize=1024)
def lay(joint: Joint, size: int) -> Laid:
    """The order of weights; offsets in bytes."""
    whole, each = joint.geometry, phases(joint)
    c, o = whole.per_group[0], whole.per_group[1] // len(each)
    p = panels(o, size)
    width, records, all_taps = p.lanes * size, [], []
    offsets: list[int] = []
    chunk_offsets: list[int] = []
    at = tap_at = from_at = chunk = 0
    for i, (phase, g) in enumerate(zip(joint.phases, each, strict=True)):
        ranges = [range(n)[taps] for n, taps in zip(joint.kernel, phase.taps, strict=True)]
        all_taps.append(tuple(product(*ranges)))
        merged, chunk_taps, depth = tasks.chunks(three_axes(g.kernel, 1), dilation(g), c)
        rows = g.taps // merged
        for panel in range(p.count):
            columns, last = (p.last, p.rest) if panel == p.count - 1 else (p.columns, p.lanes)
            first = panel * p.columns * p.lanes
            found = {
                "phase": i, "columns": columns, "count": last, "taps": rows, "merged": merged, "deep": merged * c,
                "chunk_taps": chunk_taps, "chunk_depth": depth, "tap_at": tap_at, "w_at": len(offsets),
                "chunk_at": len(chunk_offsets), "bias_at": (i * p.vectors * p.lanes + first) * size, "y_at": first,
                "from": first, "from_at": from_at, "kernel": g.taps, "to_at": at,
            }  # fmt: skip
            records.append(tuple(found[name] for name in RECORD))
            offsets += [at + t * merged * c * columns * width for t in range(rows)]
            chunk_offsets += [t * depth * columns * width for t in range(chunk_taps)]
            chunk = max(chunk, min(chunk_taps, rows) * depth * columns * width)
            at += g.taps * c * columns * width
        tap_at, from_at = tap_at + rows, from_at + g.taps
    elements = at // size
    return Laid(
        p, len(each) * p.vectors, elements, tuple(records), tuple(offsets), tuple(chunk_offsets), chunk, tuple(all_taps)
    )


def _cost(record: tuple[int, ...]) -> int:
    """Vectors of weights per input channel, as which a panel takes its time."""
    return record[RECORD.index("kernel")] * record[RECORD.index("columns")]


def dilation(g: ConvGeometry) -> Ints:
    """Steps between taps, which do not matter where there is one."""
    return tuple(d if k > 1 else 1 for d, k in zip(three_axes(g.dilation, 1), three_axes(g.kernel, 1), strict=True))


@lru_cache(maxsize=1024)
def weight_launch(joint: Joint, strides: Ints, dtype: np.dtype) -> tuple[Bringing, int]:
    """The launch that brings weights in order, and the bytes from the first of `w` to the lowest that it reads."""
    size, groups, (c, outputs) = dtype.itemsize, joint.geometry.groups, joint.geometry.per_group
    laid, o = lay(joint, size), outputs // len(joint.phases)
    offsets = _steps(laid, strides)
    lowest, order = min(offsets), sorted(offsets)
    run = total(joint.kernel)
    common = {
        "w_g": o * strides[0], "w_o": strides[0], "w_c": strides[1], "channels": c, "w_group": laid.elements * size,
        "scratch_step": SPARE_BYTES,
    }  # fmt: skip
    elements = groups * laid.elements
    if strides[0] != size != strides[1] and run > 1 and order == [lowest + t * size for t in range(run)]:
        cuts = max(1, min(c // MIN_CUT, ceil_div(PIECES, groups * laid.p.vectors)))
        places = np.empty((laid.p.vectors, run), np.int64)
        width = laid.p.lanes * size
        row = np.array(
            [
                (laid.p.columns if j < laid.p.columns * (laid.p.count - 1) else laid.p.last) * width
                for j in range(laid.p.vectors)
            ],
            np.int64,
        )
        for record in laid.records:
            of = dict(zip(RECORD, record, strict=True))
            for t in range(of["kernel"]):
                place = (offsets[of["from_at"] + t] - lowest) // size
                for j in range(of["columns"]):
                    vector = of["from"] // laid.p.lanes + j
                    places[vector, place] = of["to_at"] + t * c * of["columns"] * width + j * width
        values = {**common, "outputs": o, "vectors": laid.p.vectors, "cuts": cuts, "taps": run}
        words = Words(catalogue.kernel("phased", "turn", f"f{size}"), values, {"places": places, "steps": row})
        return Bringing(words, groups * laid.p.vectors * cuts, elements, SPARE_BYTES), lowest
    count = len(laid.records)
    cuts = max(1, min(c // MIN_CUT, ceil_div(PIECES, groups * count)))
    values = {**common, "panels": count, "cuts": cuts, "along": _along(laid, offsets, size)}
    tables = {"records": np.array(laid.records, np.int64), "tap_steps": np.array(offsets, np.int64)}
    words = Words(catalogue.kernel("phased", "pack", f"f{size}"), values, tables)
    return Bringing(words, groups * count * cuts, elements, SPARE_BYTES), 0


def _steps(laid: Laid, strides: Ints) -> list[int]:
    """Bytes from the first tap of the whole kernel to each tap, phase after phase."""
    steps = np.array(strides[2:], np.int64)
    return [int(np.array(at, np.int64) @ steps) for taps in laid.taps for at in taps]


def _along(laid: Laid, offsets: list[int], size: int) -> int:
    """`size` if the taps of each phase follow each other, or its negative if they do from the last one on; else 0."""
    ends = np.cumsum([len(taps) for taps in laid.taps])
    each = [part.tolist() for part in np.split(np.array(offsets, np.int64), ends[:-1])]
    for step in (size, -size):
        if max(map(len, each)) > 1 and all(part == [part[0] + t * step for t in range(len(part))] for part in each):
            return step
    return 0


@dataclass(frozen=True)
class Cut:
    """Boxes of outputs, the same for all phases; where their inputs begin, and how far those reach."""

    low: Ints  # the largest padding of all
    lows: tuple[Ints, ...]
    sizes: tuple[Ints, ...]
    reach: Ints
    boxes: Ints
    counts: Ints
    parts: tuple[Ints, ...]  # the panels of each
    cuts: int


@lru_cache(maxsize=1024)
def _cut(joint: Joint, size: int, packs: bool, staged_row: int, fresh: bool, workers: int) -> Cut:
    whole, each, laid = joint.geometry, phases(joint), lay(joint, size)
    lows = tuple(three_axes(tuple(lo for lo, _ in g.padding), 0) for g in each)
    sizes = tuple(three_axes(g.out_shape, 1) for g in each)
    low = tuple(max(axis) for axis in zip(*lows, strict=True))
    outputs = tuple(max(axis) for axis in zip(*sizes, strict=True))
    spans = [
        [
            a - lo + effective_kernel(k, d)
            for a, lo, k, d in zip(low, mine, three_axes(g.kernel, 1), dilation(g), strict=True)
        ]
        for g, mine in zip(each, lows, strict=True)
    ]
    reach = tuple(max(axis) for axis in zip(*spans, strict=True))
    costs = tuple(map(_cost, laid.records))
    boxes, parts, cuts = tasks.split(
        outputs, reach, (1, 1, 1), total(reach), whole.per_group[0] * size, whole.batch * whole.groups,
        replace(laid.p, count=len(laid.records)), packs, staged_row, fresh, workers, costs,
    )  # fmt: skip
    counts = tuple(ceil_div(m, b) for m, b in zip(outputs, boxes, strict=True))
    return Cut(low, lows, sizes, reach, boxes, counts, tuple(map(tuple, tasks.evenly(costs, parts))), cuts)


@lru_cache(maxsize=1024)
def forward_launch(
    joint: Joint, x_strides: Ints, y_strides: Ints, w_strides: Ints | None, dtype: np.dtype, workers: int
) -> Launch:
    """The launch that computes all phases from x and writes them to their places; with `w_strides`, from fresh weights."""
    size, whole, each = dtype.itemsize, joint.geometry, phases(joint)
    laid, groups, n, c = lay(joint, size), whole.groups, whole.batch, whole.per_group[0]
    p, o = laid.p, whole.per_group[1] // len(each)
    inputs, steps = three_axes(whole.in_shape, 1), three_axes(x_strides[2:], 0)
    row = c * size
    plain = all(lo <= 0 and hi <= 0 for g in each for lo, hi in g.padding)
    merges = any(tasks.chunks(three_axes(g.kernel, 1), dilation(g), c)[0] > 1 for g in each)
    packs = not plain or x_strides[1] != size or (merges and steps[2] != row)
    direct = y_strides[1] == size
    width = p.lanes * size
    staged_row = 0 if direct else p.columns * width
    fresh = w_strides is not None
    at = _cut(joint, size, packs, staged_row, fresh, workers)
    low, lows, sizes, boxes, counts, cuts = at.low, at.lows, at.sizes, at.boxes, at.counts, at.cuts
    box = tuple(b - 1 + r for b, r in zip(boxes, at.reach, strict=True))
    within = (box[1] * box[2] * row, box[2] * row, row) if packs else steps
    pitch = p.columns * width
    tables: dict[str, list[np.ndarray]] = {"rows": [], "places": [], "staged_rows": [], "corners": []}
    offsets: list[int] = []
    for phase, g, mine, shape in zip(joint.phases, each, lows, sizes, strict=True):
        scale = tuple(where.step or 1 for where in phase.out)
        first = tuple(where.start or 0 for where in phase.out)
        of_y = three_axes(tuple(s * step for s, step in zip(scale, y_strides[2:], strict=True)), 0)
        here = tasks.tables(shape, boxes, counts, cuts, (1, 1, 1), within, of_y, steps, low, pitch)
        corners = here["corners"].reshape(-1, 4)
        corners[:, 1] += sum(map(len, tables["rows"]))
        corners[:, 3] += sum(a * step for a, step in zip(first, y_strides[2:], strict=True))
        for name, table in here.items():
            tables[name].append(table)
        shift = sum((a - lo) * step for a, lo, step in zip(low, mine, within, strict=True))
        kernel_here = three_axes(g.kernel, 1)
        offsets += [
            shift + sum(t * d * step for t, d, step in zip(at, dilation(g), within, strict=True))
            for at in np.ndindex(*kernel_here)
        ][:: tasks.chunks(kernel_here, dilation(g), c)[0]]
    pack_bytes = whole_lines(total(box) * row) + LINE if packs else 0
    staged = 0 if direct else (total(boxes) + SPARE) * pitch
    far_step = 0 if packs or not from_memory(total(whole.x_shape) * size) else LINE // 2
    records = np.array([laid.records[panel] for part in at.parts for panel in part], np.int64)
    records[:, RECORD.index("y_at")] *= y_strides[1]
    values = {
        "boxes_d": counts[0], "boxes_h": counts[1], "boxes_w": counts[2],
        "size_d": boxes[0], "size_h": boxes[1], "size_w": boxes[2], "parts": len(at.parts), "cuts": cuts, "groups": groups,
        "pitch": pitch, "batch_step": x_strides[0], "y_batch_step": y_strides[0], "step_c": x_strides[1],
        "step_d": steps[0], "step_h": steps[1], "step_w": steps[2], "step_o": y_strides[1], "channels": c, "outputs": o,
        "in_d": inputs[0], "in_h": inputs[1], "in_w": inputs[2], "lo_d": low[0], "lo_h": low[1], "lo_w": low[2],
        "box_d": box[0], "box_h": box[1], "box_w": box[2], "y_step_p": of_y[2], "packs": pack_bytes, "direct": int(direct),
        "w_group": laid.elements * size, "bias_group": laid.vectors * width, "fresh": int(fresh), "w_o": 0, "w_c": 0,
        "along": 0, "at_weights": whole_lines(pack_bytes + staged) + SPARE_BYTES, "halved": int(laid.p.halved),
        "far": rows_ahead(laid.p.columns, c) * steps[2], "far_row": steps[2], "far_step": far_step,
    }  # fmt: skip
    w_steps = [0]
    if w_strides is not None:
        w_steps = _steps(laid, w_strides)
        values |= {
            "w_group": o * w_strides[0],
            "w_o": w_strides[0],
            "w_c": w_strides[1],
            "along": _along(laid, w_steps, size),
        }
    values["scratch_step"] = whole_lines(values["at_weights"] + laid.chunk_bytes * fresh + 256)
    arrays = {
        **{name: np.concatenate(parts_of) for name, parts_of in tables.items()},
        "records": records, "edges": np.cumsum([0, *map(len, at.parts)], dtype=np.int64),
        "tap_offsets": np.array(offsets, np.int64), "w_offsets": np.array(laid.w_offsets, np.int64),
        "kinds": kinds(laid.p, size, far_step > 0, not fresh and from_memory(groups * laid.elements * size)),
        "chunk_offsets": np.array(laid.chunk_offsets, np.int64), "tap_steps": np.array(w_steps, np.int64),
    }  # fmt: skip
    words = Words(catalogue.kernel("phased", "forward", f"f{size}"), values, arrays)
    flops = 2.0 * sum(g.macs for g in each)
    return Launch(words, n * groups * total(counts) * len(at.parts) * cuts, flops, values["scratch_step"])


@lru_cache(maxsize=4096)
def borrows(joint: Joint, strides: Ints, size: int, workers: int) -> bool:
    """Whether a kernel that brings the caller's weights in order as it goes is faster than one more launch."""
    if strides[1] != size and strides[0] != size:
        return False
    laid, groups = lay(joint, size), joint.geometry.groups
    at = _cut(joint, size, True, 0, True, workers)
    vectors = groups * laid.elements * size // vector_bytes()
    each = COPY_CYCLES if strides[0] == size else TRANSPOSE_CYCLES
    times = joint.geometry.batch * total(at.counts) * at.cuts
    return goes_along(vectors, times, each, times * groups * len(at.parts), workers)
