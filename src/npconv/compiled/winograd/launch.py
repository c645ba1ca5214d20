"""The arguments of the Winograd kernels, once per geometry and memory layout: weights on their way in, and forward."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ...geometry import ConvGeometry, Ints, ceil_div, covered_size
from .. import catalogue
from ..calls import Words
from ..panels import CHUNK, SPARE, whole_lines
from .shape import TASKS, Axes, Cut, axes, cut, empty, image_table


@dataclass(frozen=True)
class Launch:
    """A kernel and its arguments."""

    words: Words
    blocks: int
    flops: float
    scratch: int  # bytes per thread
    elements: int  # of the result, where that is ours to make


def _weight_steps(c: Cut, a: Axes, channels: int, outputs: int) -> dict[str, int]:
    """Where transformed weights lie: (G, panel, position, depth tap, C/G, lanes)."""
    full, last = (c.positions * a.kernel[0] * channels * n * c.m_row // c.columns for n in (c.columns, c.last_columns))
    return {
        "u_panel": full, "u_group": full * (c.panels - 1) + last, "panels": c.panels, "columns": c.columns,
        "last_columns": c.last_columns, "last_count": outputs - (c.vectors - 1) * c.lanes, "taps": a.kernel[0],
    }  # fmt: skip


@lru_cache(maxsize=1024)
def weight_launch(
    geometry: ConvGeometry, n: int, columns: int, w_strides: Ints, dtype: np.dtype, workers: int
) -> Launch:
    """The launch that transforms the weights of `geometry`."""
    a, c, size = axes(geometry, n), cut(geometry, n, dtype.itemsize, workers, columns), dtype.itemsize
    if a is None:
        raise ValueError(f"no axis to transform in {geometry}")
    channels, outputs = geometry.per_group
    _, k_h, k_w = a.kernel
    width, steps = c.lanes * size, a.pick(w_strides[2:])
    places = sorted(i * steps[1] + j * steps[2] for i in range(k_h) for j in range(k_w))
    side_by_side = places == [places[0] + i * size for i in range(k_h * k_w)]
    cuts = max(1, min(channels // 8, ceil_div(TASKS, geometry.groups * c.panels)))
    values = {
        **_weight_steps(c, a, channels, outputs),
        "kind": a.kind, "n_h": c.n_h, "n_w": c.n_w, "channels": channels, "taps_h": k_h, "taps_w": k_w, "cuts": cuts,
        "w_g": outputs * w_strides[0], "w_o": w_strides[0], "w_c": w_strides[1], "w_h": steps[1], "w_w": steps[2],
        "lowest": places[0], "run": k_h * k_w if side_by_side else 0,
        "scratch_step": whole_lines((c.n_w * k_w + k_h * k_w + c.lanes) * width),
    }  # fmt: skip
    starts = {"tap_starts": np.arange(a.kernel[0], dtype=np.int64) * steps[0]}
    words = Words(catalogue.kernel("winograd", "weights", f"f{size}"), values, starts)
    elements = geometry.groups * values["u_group"] // size
    # moving a number costs about what 16 products do
    return Launch(words, geometry.groups * c.panels * cuts, 16.0 * elements, values["scratch_step"], elements)


@lru_cache(maxsize=4096)
def forward_launch(
    geometry: ConvGeometry, n: int, columns: int, x_strides: Ints, y_strides: Ints, dtype: np.dtype, workers: int
) -> Launch | None:
    """The launch that computes `geometry`; None where there is nothing to compute."""
    a, size = axes(geometry, n), dtype.itemsize
    if a is None or empty(geometry):
        return None
    c = cut(geometry, n, size, workers, columns)
    channels, outputs = geometry.per_group
    width = c.lanes * size
    x_steps, y_steps = a.steps(x_strides), a.steps(y_strides)
    in_place, direct = x_strides[1] == size and channels % c.lanes == 0, y_strides[1] == size
    tile, plane = c.slices * c.v_row, a.stride * c.v_row
    rows = [t * tile + d * plane for t in range(c.per) for d in range(c.depths)]
    taps, chunk = np.arange(a.kernel[0], dtype=np.int64), min(channels, CHUNK)
    tables = {
        "rows": np.array(rows + rows[-1:] * SPARE, np.int64),
        "products_rows": np.arange(len(rows) + SPARE, dtype=np.int64) * c.m_row,
        "tap_offsets": taps * (a.dilation[0] * c.v_row),
        "w_offsets": np.concatenate([taps * (channels * n * width) for n in (c.columns, c.last_columns)]),
    }
    tables["images"] = image_table(a, geometry.batch, x_strides, y_strides)
    m, across = c.m_w, min(c.per, c.tiles_w)
    at_v = whole_lines((c.n_w**2 + 1) * width)
    at_m = at_v + c.positions * c.v_step
    at_box = at_m + c.positions * c.m_step
    span = c.n_w if in_place else covered_size(c.n_w, m, across)
    at_out = at_box + whole_lines(c.slices * c.n_h * span * channels * size + width)
    staged = 0 if direct else (c.m_h * m * across + c.lanes) * c.m_row
    values = {
        **_weight_steps(c, a, channels, outputs),
        "kind": a.kind, "m_h": c.m_h, "m_w": m, "n_h": c.n_h, "n_w": c.n_w, "depths": c.depths, "slices": c.slices,
        "stride_d": a.stride, "tiles": c.tiles, "tiles_h": c.tiles_h, "tiles_w": c.tiles_w, "per": c.per,
        "runs": c.runs, "deep": c.deep, "parts": c.parts, "channels": channels, "outputs": outputs,
        "in_d": a.planes_in, "lo_d": a.plane_low, "out_d": a.planes_out, "x_c": x_strides[1], "y_c": y_strides[1],
        **{f"{of}_{axis}": step for of, steps in (("x", x_steps), ("y", y_steps)) for axis, step in zip("dhw", steps, strict=True)},
        "packs": int(not in_place), "direct": int(direct), "v_row": c.v_row, "v_step": c.v_step, "m_row": c.m_row,
        "m_step": c.m_step, "at_v": at_v, "at_m": at_m, "at_box": at_box, "at_out": at_out, "chunk": chunk,
        "chunk_taps": max(1, CHUNK // chunk), "scratch_step": whole_lines(at_out + staged),
    }  # fmt: skip
    words = Words(catalogue.kernel("winograd", "forward", f"f{size}"), values, tables)
    blocks = geometry.groups * c.deep * c.runs * c.parts
    return Launch(words, blocks, 2 * c.lanes * c.work, values["scratch_step"], 0)
