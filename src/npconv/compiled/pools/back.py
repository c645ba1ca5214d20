"""Gradients of poolings as launches of kernels; as in `pools_calls`, None where no kernel fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...geometry import Ints, WindowAxis, ceil_div, total
from ..panels import LINE
from .launch import TASKS, Launch, cuts, launched
from .setting import (
    CACHED,
    Setting,
    Shares,
    ahead,
    five,
    named_strides,
    number_tables,
    one_window,
    per_axis,
    pixel,
    row_share_tables,
    row_walk,
    share_tables,
    tap_steps,
    whole_vectors,
    window_tables,
    work_of,
)
from .tables import LONGEST, AxisTables


def back(s: Setting, into: Setting, shares: Shares | None) -> Launch | None:
    """From g (the y of both settings) to dx, the x of `into`: of means, or of the maxima of the x of `s`."""
    planes = s.shape[0] * s.shape[1]
    maxima = shares is None
    given = "g x dx" if maxima else "g dx"
    values = {"maxima": int(maxima), "channels": s.shape[1], **per_axis("in", s.sizes), "out_w": s.outs[2], "x": 0}
    values |= named_strides("x", s.x) | named_strides("g", s.y) | named_strides("dx", into.x) | tap_steps(s)
    if one_window(s) and pixel(s) == pixel(into) == s.dtype.itemsize:
        values |= {"count": total(s.sizes), "divisor": total([int(v[0]) for v in share_tables(s, shares or ())])}
        return launched("whole_back", s.dtype, values, {}, given, planes, work_of(s))
    if any(t.crowded for t in s.axes) or total([t.overlap for t in s.axes]) > LONGEST or total(s.sizes) >= 2**31:
        return None
    ones: Shares = [[1] * t.axis.out for t in s.axes] if shares is None else shares
    _, h, w = s.sizes
    steps, tables = number_tables(s, (h * w, w, 1))
    arrays = window_tables(s) | tables
    values |= steps
    for letter, t in zip("dhw", s.axes, strict=True):
        arrays[f"open_{letter}"], arrays[f"list_{letter}"] = t.readers
    if s.last and s.x == into.x and all(t.tiles for t in s.axes):
        return _tiled(s, values | {"mode": int(maxima)}, arrays | per_axis("share", share_tables(s, ones)), given)
    if not s.last and maxima:
        return None  # to find the places first is faster
    if s.last:
        return _last_back(s, values, arrays | per_axis("share", share_tables(s, ones)), given)
    more, tables = row_share_tables(s, ones)
    return _first_back(s, values | more, arrays | tables, given)


def _tiled(s: Setting, values: dict[str, int], arrays: dict[str, np.ndarray], given: str) -> Launch | None:
    rows = s.shape[0] * s.outs[0] * s.outs[1]
    values |= {"chunks": cuts(rows, s.outs[2]), **per_axis("out", s.outs), **ahead(s)}
    values["parts"] = cuts(rows * values["chunks"], ceil_div(s.shape[1], s.lanes))
    blocks = rows * values["chunks"] * values["parts"]
    return launched(
        "last_tiled",
        s.dtype,
        {"x": 0, "places": 0} | named_strides("places", (0,) * 5) | values,
        arrays,
        given,
        blocks,
        work_of(s),
    )


def tiled_places(into: Setting, indices: Ints) -> Launch | None:
    """`places`, where each is in its window and every input in one window; else the launch fails."""
    if not into.last or not all(t.tiles for t in into.axes) or (indices[1] != 8 and into.shape[1] > 1):
        return None
    _, h, w = into.sizes
    steps, tables = number_tables(into, (h * w, w, 1))
    ones = [np.ones(t.axis.out, np.int64) for t in into.axes]
    values = {
        "mode": 2,
        "channels": into.shape[1],
        **steps,
        **tap_steps(into),
        **named_strides("places", five(indices, True)),
    }
    values |= named_strides("x", into.x) | named_strides("g", into.y) | named_strides("dx", into.x)
    return _tiled(into, values, window_tables(into) | tables | per_axis("share", ones), "g places dx")


def places(into: Setting, indices: Ints) -> Launch | None:
    """From g, the y of `into`, to dx: everything goes to its place in its plane; `indices` are their strides."""
    unit, channels = pixel(into), into.shape[1]
    if not unit or any(stride % 8 for stride in indices):
        return None
    parts = cuts(into.shape[0], ceil_div(channels * into.dtype.itemsize, LINE)) if into.last else channels
    values = {"parts": parts, "channels": channels, "dx_w": unit}
    values |= {"limit": total(into.sizes), **per_axis("out", into.outs), **named_strides("g", into.y)}
    values |= {"dx_n": into.x[0], "dx_c": into.x[1], **named_strides("places", five(indices, into.last))}
    return launched("places_back", into.dtype, values, {}, "g places dx", into.shape[0] * parts, 2 * work_of(into))


def _cut(axes: Sequence[AxisTables], bytes_of: Callable[[Ints], int], tasks: int) -> list[np.ndarray]:
    """Boxes of inputs along each axis: halved from the outermost on until scratch fits and threads have enough."""
    cuts = [1] * len(axes)
    boxes = [t.boxes(1) for t in axes]
    for axis, t in enumerate(axes):
        least = 4 * max(1, t.overlap)  # the windows at the borders of narrower boxes would cost too much
        while t.axis.size >= 2 * least * cuts[axis] and (
            bytes_of(widest(boxes)) > CACHED or tasks * total(cuts) < TASKS
        ):
            cuts[axis] *= 2
            boxes[axis] = t.boxes(cuts[axis])
    return boxes


def widest(boxes: Sequence[np.ndarray]) -> Ints:
    """How many windows a box needs at most, axis by axis."""
    return tuple(int((box[:, 3] - box[:, 2]).max()) for box in boxes)


def _last_back(s: Setting, values: dict[str, int], arrays: dict[str, np.ndarray], given: str) -> Launch | None:
    vectors = ceil_div(s.shape[1], s.lanes)
    parts = ceil_div(vectors, 16)
    width = ceil_div(vectors, parts) * s.lanes * s.dtype.itemsize
    boxes = _cut(s.axes, lambda outs: total(outs) * width, s.shape[0] * parts)
    values |= {"parts": parts, **per_axis("boxes", [len(b) for b in boxes])}
    arrays |= per_axis("table", boxes)
    values["scratch_step"] = total(widest(boxes)) * width + 256
    blocks = s.shape[0] * parts * total([len(b) for b in boxes])
    return launched("last_back", s.dtype, values, arrays, given, blocks, 3 * work_of(s), values["scratch_step"])


def _first_back(s: Setting, values: dict[str, int], arrays: dict[str, np.ndarray], given: str) -> Launch | None:
    axis, size = s.axes[2].axis, s.dtype.itemsize
    cropped = isinstance(axis, WindowAxis) and min(axis.lo, axis.hi) < 0
    walk = row_walk(s)
    stride, low = (0, 0) if cropped else (walk["stride"], walk["low"])
    arrays["remainders"] = arrays["reaches"] = np.zeros(1, np.int64)
    if stride:
        arrays["remainders"], arrays["reaches"] = s.axes[2].remainders(stride)
    before = int(arrays["reaches"].max(initial=0))
    longest = max(s.outs[2], ceil_div(s.sizes[2] + low, max(1, stride)))
    row = whole_vectors(s, before + longest + 2 * s.lanes) * size
    boxes = _cut(s.axes[:2], lambda outs: total(outs) * row, s.shape[0] * s.shape[1])
    slots = total(widest(boxes))
    scratch = slots * row + 8 * s.lanes * size + 256
    arrays |= {"table_d": boxes[0], "table_h": boxes[1]}
    values |= {"stride": stride, "low": low, "row": row, "slots": slots, "before": before, "scratch_step": scratch}
    values |= {"boxes_d": len(boxes[0]), "boxes_h": len(boxes[1]), **ahead(s)}
    blocks = s.shape[0] * s.shape[1] * len(boxes[0]) * len(boxes[1])
    return launched("first_back", s.dtype, values, arrays, given, blocks, 3 * work_of(s), scratch)
