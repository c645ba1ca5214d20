"""Weights into panels, the order in which a product reads them: the launch that brings them there."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..geometry import ConvGeometry, Ints, ceil_div
from . import catalogue
from .bringing import Bringing
from .calls import Words
from .panels import Panels, panels

#: Bytes of scratch for one thread that packs weights: a square of vectors.
SPARE_BYTES = 1024
#: Input channels below which packing is not cut further.
MIN_CUT = 16
#: Pieces that packing is cut into.
PIECES = 8


@lru_cache(maxsize=1024)
def packing_of(geometry: ConvGeometry, strides: Ints, dtype: np.dtype) -> Bringing:
    """The launch for weights of these `panels.weight_steps`."""
    size, group, (c, o), taps = dtype.itemsize, geometry.groups, geometry.per_group, geometry.taps
    p = panels(o, size)
    step_g, step_o, step_c, *_ = strides
    steps = tap_steps(strides, geometry.kernel)
    full, last = (columns * p.lanes * size * c * taps for columns in (p.columns, p.last))
    run, along = order_of(step_c, steps, size)
    cuts = max(1, min(c // MIN_CUT, ceil_div(PIECES, group * p.count)))
    values = {
        "step_g": step_g, "step_o": step_o, "step_c": step_c, "taps": taps, "channels": c, "outputs": o,
        "panels": p.count, "columns": p.columns, "last_columns": p.last, "panel_step": full,
        "group_step": full * (p.count - 1) + last, "cuts": cuts, "run": int(run), "along": along, "scratch_step": SPARE_BYTES,
    }  # fmt: skip
    words = Words(catalogue.kernel("weights", "pack", f"f{size}"), values, {"tap_steps": steps})
    return Bringing(words, group * p.count * cuts, group * p.vectors * p.lanes * c * taps, SPARE_BYTES)


def kinds(p: Panels, size: int, rows: bool, columns: bool) -> np.ndarray:
    """The addresses of the products for panels but the last, and for the last: of a first panel, then of those after it.

    The first panel that reads some `rows` is the one to bring those to come ahead, `columns` are brought by all.
    """
    found = []
    for ahead in (rows or columns, columns):
        for name in ("bounded", "narrow" if p.halved else "bounded"):
            found.append(catalogue.kernel("products", name + "_ahead" * ahead, f"f{size}").address)
    return np.array(found, np.int64)


def tap_steps(strides: Ints, kernel: Ints) -> np.ndarray:
    """Bytes from the first tap to each, taps in C order."""
    steps = np.array(strides[3:], np.int64)
    return np.array([int(np.array(at, np.int64) @ steps) if at else 0 for at in np.ndindex(*kernel)], np.int64)


def order_of(step_c: int, tap_steps: np.ndarray, size: int) -> tuple[bool, int]:
    """Whether the taps of an input channel, and then the next channel's, follow each other in memory; and the taps' step.

    The step is 0 unless it is that of neighbours, up or down.
    """
    numbers = np.arange(len(tap_steps))
    up, down = (bool((tap_steps == numbers * step).all()) for step in (size, -size))
    along = 0 if len(tap_steps) == 1 else size if up else -size if down else 0
    return up and step_c == len(tap_steps) * size, along
