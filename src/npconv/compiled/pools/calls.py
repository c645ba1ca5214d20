"""Poolings as launches of kernels: which kernel, with which tables, for arrays of given strides.

Each function answers None where no kernel fits: other dtypes, memory orders in which neither channels nor pixels are
neighbours, sums so long that they need other care. The caller keeps what it is given for calls that are alike.
"""

from __future__ import annotations

import numpy as np

from ...geometry import Ints, ceil_div, total
from .launch import Launch, cuts, launched
from .setting import (
    CACHED,
    Setting,
    Shares,
    ahead,
    named_strides,
    number_tables,
    one_window,
    per_axis,
    pixel,
    row_share_tables,
    row_walk,
    share_tables,
    tap_steps,
    three,
    too_long,
    window_tables,
    work_of,
)
from .tables import padded


def reduce(s: Setting, shares: Shares | None) -> Launch | None:
    """x to y: the means, with what to divide by, or the maxima."""
    values = {"sums": int(shares is not None), "channels": s.shape[1], **per_axis("out", s.outs), **ahead(s)}
    values |= named_strides("x", s.x) | named_strides("y", s.y) | tap_steps(s)
    if one_window(s):
        if pixel(s) != s.dtype.itemsize:
            return None
        values |= {"count": total(s.sizes), "divisor": total([int(v[0]) for v in share_tables(s, shares or ())])}
        return launched("whole_reduce", s.dtype, values, {}, "x y", s.shape[0] * s.shape[1], work_of(s))
    if shares is not None and too_long(s):
        return None  # others add them up by halves
    ones: Shares = [[1] * t.axis.out for t in s.axes] if shares is None else shares
    arrays = window_tables(s)
    if s.last:
        arrays |= per_axis("share", share_tables(s, ones))
        rows = s.shape[0] * s.outs[0] * s.outs[1]
        values["chunks"] = cuts(rows, s.outs[2])
        values["parts"] = cuts(rows * values["chunks"], ceil_div(s.shape[1], 4 * s.lanes))
        return launched(
            "last_reduce", s.dtype, values, arrays, "x y", rows * values["chunks"] * values["parts"], work_of(s)
        )
    walk = row_walk(s)
    more, tables = row_share_tables(s, ones)
    planes = s.shape[0] * s.shape[1]
    values |= walk | more
    values["parts"] = cuts(planes, s.outs[0] * s.outs[1])
    values["in_place"] = int(all((t.counts == 1).all() for t in s.axes[:2]))
    values["scratch_step"] = walk["pitch"] + 256
    return launched(
        "first_reduce",
        s.dtype,
        values,
        arrays | tables,
        "x y",
        planes * values["parts"],
        work_of(s),
        values["scratch_step"],
    )


def _starts(s: Setting, number: int) -> np.ndarray:
    """The numbers of the first inputs of a row's windows, as the lanes hold them."""
    starts = s.axes[2].begins * number
    return padded(starts, len(starts) + s.lanes).astype(f"i{s.dtype.itemsize}")


def winners(s: Setting, numbers: tuple[int, int, Ints]) -> Launch | None:
    """x to y and to 64-bit indices that lie like y; `numbers` is what a step along each axis adds to an index."""
    n, c, spatial = numbers
    if s.dtype.itemsize == 4 and s.shape[1] * total(s.sizes) >= 2**31:
        return None
    along = three(spatial, s.last, 0)
    steps, tables = number_tables(s, along)
    values = {"number_n": n, "number_c": c, "channels": s.shape[1], **per_axis("out", s.outs), **steps}
    values |= named_strides("x", s.x) | named_strides("y", s.y) | tap_steps(s) | ahead(s)
    arrays = window_tables(s) | tables
    if s.last:
        rows = s.shape[0] * s.outs[0] * s.outs[1]
        values["chunks"] = cuts(rows, s.outs[2])
        return launched("last_winners", s.dtype, values, arrays, "x y indices", rows * values["chunks"], 3 * work_of(s))
    walk = row_walk(s)
    held = _held(s, walk)
    arrays["start_w"] = _starts(s, along[2])
    planes = s.shape[0] * s.shape[1]
    values |= walk | {"parts": cuts(planes, s.outs[0] * s.outs[1]), "held": held}
    values["scratch_step"] = held * walk["pitch"] + 256
    if values["scratch_step"] > 8 * CACHED:
        return None
    blocks = planes * values["parts"]
    return launched(
        "first_winners", s.dtype, values, arrays, "x y indices", blocks, 3 * work_of(s), values["scratch_step"]
    )


def _held(s: Setting, walk: dict[str, int]) -> int:
    """How many padded rows a row of windows reads."""
    return s.axes[0].axis.taps * s.axes[1].axis.taps if walk["stride"] else 0
