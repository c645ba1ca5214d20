"""Weights into the transformed domain: U = G w G^T, in the panels that the products read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..build import inner
from ..emit import Vectors, emitted, i64, word
from .lines import Rows, line
from .tiles import one_of


def weights(v: Vectors, maps: list[Rows]) -> Callable[..., Any]:
    """The kernel that transforms weights of any strides by one of the matrices G."""
    size, lanes, width = v.size, v.lanes, v.width
    gather, copy_one, clear = _gather(v), v.copy_one, v.clear
    across = one_of([_across(v, rows) for rows in maps])

    def transform(
        lo: int, hi: int, thread: int,
        w: int, u: int, scratch: int, scratch_step: int, kind: int, n_h: int, n_w: int, taps: int, tap_starts: int,
        channels: int, w_g: int, w_o: int, w_c: int, w_h: int, w_w: int, taps_h: int, taps_w: int,
        lowest: int, run: int, panels: int, columns: int, last_columns: int, last_count: int,
        u_panel: int, u_group: int, cuts: int,
    ) -> None:  # fmt: skip
        """Blocks lo..hi of groups x panels x cuts of the input channels."""
        spare = scratch + thread * scratch_step
        held = spare + n_w * taps_w * width
        for block in range(lo, hi):
            cut = block % cuts
            panel = block // cuts % panels
            group = block // (cuts * panels)
            final = panel == panels - 1
            these = last_columns if final else columns
            row = these * width
            first, stop = channels * cut // cuts, channels * (cut + 1) // cuts
            for tap in range(taps):
                to = u + group * u_group + panel * u_panel + tap * channels * row + first * row
                start = w + group * w_g + panel * columns * lanes * w_o + word(tap_starts, tap)
                for c in range(first, stop):
                    for j in range(these):
                        valid = last_count if final and j == these - 1 else lanes
                        source, step_h, step_w = start + c * w_c + j * lanes * w_o, w_h, w_w
                        if w_o != size or valid < lanes:
                            if run:  # a lane's taps lie side by side, perhaps backwards
                                for q in range(0, run, lanes):
                                    gather(held + q * width, source + lowest + q * size, w_o, valid, run - q)
                                source, step_h, step_w = held - lowest * lanes, w_h * lanes, w_w * lanes
                            else:
                                for q in range(taps_h * taps_w):
                                    clear(held + q * width)
                                for a in range(taps_h):
                                    for b in range(taps_w):
                                        at = held + (a * taps_w + b) * width
                                        for i in range(valid):
                                            copy_one(at + i * size, source + a * w_h + b * w_w + i * w_o)
                                source, step_h, step_w = held, taps_w * width, width
                        across(kind, to + j * width, taps * channels * row, source, step_h, step_w, n_h, spare)
                    to += row

    return transform


def _across(v: Vectors, rows: Rows) -> Any:
    """across(to, to_step, from, step_h, step_w, n_h, spare): G w G^T of one vector of output channels."""
    width, n, r, apply = v.width, len(rows), len(rows[0]), line(v, rows)

    @inner
    def across(to: int, to_step: int, source: int, step_h: int, step_w: int, n_h: int, spare: int) -> None:
        if n_h == 1:
            apply(to, to_step, source, step_w)
            return
        for j in range(r):
            apply(spare + j * width, r * width, source + j * step_w, step_h)
        for i in range(n):
            apply(to + i * n * to_step, to_step, spare + i * r * width, width)

    return across


def _gather(v: Vectors) -> Any:
    """gather(to, from, step, rows, count): transposed, the first `count` elements of the first rows; the rest zeros."""

    @emitted(5)
    def gather(b: Any, a: Any) -> None:
        to, source, step, count_rows, count = a
        mask = v.mask(b, count)
        nothing = v.mask(b, i64(0))
        rows = []
        for r in range(v.lanes):
            some = b.select(b.icmp_signed("<", i64(r), count_rows), mask, nothing)
            rows.append(v.masked_load(b, some, b.add(source, b.mul(step, i64(r)))))
        for q, row in enumerate(v.transposed(b, rows)):
            v.store(b, row, to, q * v.width)

    return gather
