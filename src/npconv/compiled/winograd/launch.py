"""The arguments of the Winograd kernels, once per geometry and memory layout: weights on their way in, and forward."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ...geometry import ConvGeometry, Ints, ceil_div, covered_size, total
from .. import catalogue
from ..bringing import Bringing
from ..calls import Launch, Words
from ..panels import SPARE, from_memory, odd_lines, whole_lines
from .shape import LONGEST, TASKS, Axes, Cut, axes, cut, empty, image_table, position_taps, transform

#: What `forward` is told of weights that it transforms.
LATE = (
    "late", "weight_transform",
    "w_taps", "w_g", "w_o", "w_c", "w_h", "w_w", "w_j", "side_h", "side_w", "lowest", "run_taps", "together",
    "at_u", "late_step", "at_held",
)  # fmt: skip


def _weight_steps(c: Cut, a: Axes, channels: int, outputs: int) -> dict[str, int]:
    """Where transformed weights lie: (G, panel, position, phase, depth tap, C/G, lanes)."""
    step, last = (odd_lines(a.direct * channels * n * c.m_row // c.columns) for n in (c.columns, c.last_columns))
    full = c.positions * step
    return {
        "u_step": step, "u_last": last, "u_panel": full, "u_group": full * (c.panels - 1) + c.positions * last,
        "panels": c.panels, "columns": c.columns,
        "last_columns": c.last_columns, "last_count": outputs - (c.vectors - 1) * c.lanes, "taps": a.direct,
    }  # fmt: skip


def _taps(c: Cut, a: Axes, w_strides: Ints, size: int) -> tuple[dict[str, int], dict[str, np.ndarray], int]:
    """How weights of these strides are read, and the bytes that a thread needs for it."""
    k_h, k_w = a.taps
    step_g, step_o, step_c, *each = w_strides
    steps, run = a.pick(tuple(each)), k_h * k_w
    step_h, step_w = steps[1] * a.apart[1], steps[2] * a.apart[2]
    places = sorted(i * step_h + j * step_w for i in range(k_h) for j in range(k_w))
    side_by_side = len(a.phases) == 1 and places == [places[0] + i * size for i in range(run)]
    near = step_c == (run * size if side_by_side else size)
    together = c.lanes if near and step_o != size else 1
    read = {
        "w_g": step_g, "w_o": step_o, "w_c": step_c, "w_h": step_h, "w_w": step_w,
        "w_j": c.lanes * step_o, "side_h": k_h, "side_w": k_w, "lowest": places[0], "run_taps": run * side_by_side,
        "together": together,
    }  # fmt: skip
    found = [
        (d * steps[0] + i * steps[1] + j * steps[2], many_h, many_w)
        for i, j, many_h, many_w in a.phases
        for d in range(a.kernel[0])
    ]
    tables = {"w_taps": np.array(found, np.int64).reshape(-1)}
    return read, tables, whole_lines((together * run + c.lanes) * c.lanes * size)


@lru_cache(maxsize=1024)
def weight_launch(
    geometry: ConvGeometry, n: int, columns: int, w_strides: Ints, dtype: np.dtype, workers: int
) -> Bringing:
    """The launch that transforms the weights of `geometry`, whose strides are `panels.weight_steps`."""
    a, c, size = axes(geometry, n), cut(geometry, n, dtype.itemsize, workers, columns), dtype.itemsize
    if a is None:
        raise ValueError(f"no axis to transform in {geometry}")
    channels, outputs = geometry.per_group
    read, tables, held = _taps(c, a, w_strides, size)
    cuts = max(1, min(channels // 16, ceil_div(TASKS, geometry.groups * c.panels)))
    values = {
        **_weight_steps(c, a, channels, outputs), **read, "transform": transform("weights", a.kind, size), "n_h": c.n_h,
        "channels": channels, "cuts": cuts, "scratch_step": held,
    }  # fmt: skip
    words = Words(catalogue.kernel("winograd", "weights", f"f{size}"), values, tables)
    elements = geometry.groups * values["u_group"] // size
    return Bringing(words, geometry.groups * c.panels * cuts, elements, held)


@lru_cache(maxsize=4096)
def forward_launch(
    geometry: ConvGeometry, n: int, columns: int, x_strides: Ints, w_strides: Ints | None, y_strides: Ints,
    dtype: np.dtype, workers: int,
) -> Launch | None:  # fmt: skip
    """The launch that computes `geometry`, with prepared weights or with such of `w_strides`; None: nothing to do."""
    a, size = axes(geometry, n), dtype.itemsize
    if a is None or empty(geometry):
        return None
    c = cut(geometry, n, size, workers, columns, w_strides is not None)
    (channels, outputs), bundle = geometry.per_group, max(1, c.bundle)
    width = c.lanes * size
    x_steps, y_steps = a.input_steps(x_strides), a.steps(y_strides)
    inputs = bundle * channels
    in_place, direct = x_strides[1] == size and inputs % c.lanes == 0, y_strides[1] == size
    tile, plane = c.slices * c.v_row, a.stride * c.v_row
    rows = [t * tile + d * plane for t in range(c.per) for d in range(c.depths)]
    phases, per_phase = len(a.phases), c.slices // len(a.phases)
    taps = [(f * per_phase + d * a.dilation[0]) * c.v_row for f in range(phases) for d in range(a.kernel[0])]
    serve = position_taps(a, c.n_h, c.n_w)
    sets = list(dict.fromkeys(map(tuple, serve)))  # the first has all
    begins = np.cumsum([0, *map(len, sets)])
    flat = np.array([tap for some in sets for tap in some], np.int64)
    tables = {
        "rows": np.array(rows + rows[-1:] * SPARE, np.int64),
        "products_rows": np.arange(len(rows) + SPARE, dtype=np.int64) * c.m_row,
        "tap_offsets": np.array(taps, np.int64)[flat],
        "w_offsets": np.concatenate([flat * (channels * n * width) for n in (c.columns, c.last_columns)]),
        "position_taps": np.array([(len(some), begins[sets.index(tuple(some))]) for some in serve], np.int64).reshape(
            -1
        ),
    }
    tables["images"] = image_table(a, geometry.batch, x_strides, y_strides)
    m, across = c.m_w, min(c.per, c.tiles_w)
    at_seen = whole_lines((c.n_w**2 + 1) * width)
    at_v = at_seen + whole_lines(width)
    at_m = at_v + c.positions * c.v_step
    at_box = at_m + c.positions * c.m_step
    span = c.n_w if in_place else covered_size(c.n_w, m, across)
    at_out = at_box + whole_lines(per_phase * c.n_h * span * inputs * size + width)
    at_u = whole_lines(at_out + (0 if direct else (c.m_h * m * across + c.lanes) * c.m_row))
    # the tile after the next; stores wait for the last cache less than loads, and pixels of many groups meet in one set
    many = from_memory(total(geometry.y_shape) * size // 2) and geometry.groups == 1
    far = 2 * m * y_steps[2] if direct and many else 0
    late = dict.fromkeys(LATE, 0)
    end, steps = at_u, _weight_steps(c, a, channels, outputs)
    next_group = steps["u_group"]
    stationary = catalogue.kernel("winograd_narrow", f"products_{c.bundle}", f"f{size}").address if c.bundle else 0
    if w_strides is not None:
        del late["w_taps"]  # a table
        read, more, held = _taps(c, a, w_strides, size)
        tables |= more
        late_step = odd_lines(c.piece * c.m_row)
        late |= read | {
            "late": 1,
            "weight_transform": transform("weights", a.kind, size),
            "at_u": at_u,
            "late_step": late_step,
        }
        next_group = c.positions * late_step
        late["at_held"] = at_u + bundle * next_group
        end = late["at_held"] + held
    values = {
        **steps,
        "input_transform": transform("inputs", a.kind, size), "output_transform": transform("outputs", a.kind, size),
        "m_h": c.m_h, "m_w": m, "n_h": c.n_h, "n_w": c.n_w, "depths": c.depths, "slices": per_phase,
        "phases": phases, "entries": len(flat), "stride_d": a.stride, "tiles": c.tiles,
        "tiles_h": c.tiles_h, "tiles_w": c.tiles_w, "per": c.per,
        "runs": c.runs, "deep": c.deep, "parts": c.parts, "channels": channels, "inputs": inputs, "outputs": bundle * outputs,
        "stationary": stationary, "bundle": bundle, "next_group": next_group,
        "in_d": a.planes_in, "lo_d": a.plane_low, "out_d": a.planes_out, "x_c": x_strides[1], "y_c": y_strides[1],
        **{f"{of}_{axis}": step for of, steps in (("x", x_steps), ("y", y_steps)) for axis, step in zip("dhw", steps, strict=True)},
        "packs": int(not in_place), "direct": int(direct), "far": far, "v_row": c.v_row, "v_step": c.v_step, "m_row": c.m_row,
        "m_step": c.m_step, "at_seen": at_seen, "at_v": at_v, "at_m": at_m, "at_box": at_box, "at_out": at_out,
        "piece": c.piece, "pieces": c.pieces, "v_piece": c.v_piece, "together_taps": max(1, LONGEST // c.piece),
        "scratch_step": whole_lines(end), **late,
    }  # fmt: skip
    words = Words(catalogue.kernel("winograd", "late" if w_strides else "forward", f"f{size}"), values, tables)
    blocks = geometry.groups // bundle * c.deep * c.runs * c.parts
    return Launch(words, blocks, 2 * c.lanes * c.work, values["scratch_step"])
