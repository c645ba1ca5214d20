"""Weights in the order in which a product reads them: panels of output channels, lanes innermost."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from .build import inner
from .emit import Vectors, word
from .target import Target


@cache
def panel(v: Vectors) -> Any:
    """pack_panel, for kernels that bring weights in order as they go."""
    size, lanes, width = v.size, v.lanes, v.width
    copy, copy_head, copy_one, clear_one = v.copy, v.copy_head, v.copy_one, v.clear_one
    transpose, transpose_edge = v.transpose, v.transpose_edge

    @inner
    def pack_vector(
        to: int, row: int, tap_row: int, w: int, step_o: int, step_c: int, tap_steps: int, taps: int, channels: int,
        valid: int, run: int, along: int, spare: int,
    ) -> None:  # fmt: skip
        """One vector for each input and tap."""
        if run and valid == lanes:
            whole = channels * taps // lanes * lanes
            t, at = 0, to
            for q in range(0, whole, lanes):
                transpose(spare, width, w + q * size, step_o)
                for i in range(lanes):
                    copy(at + t * tap_row, spare + i * width)
                    t += 1
                    if t == taps:
                        t = 0
                        at += row
            for q in range(whole, channels * taps):
                c = q // taps
                at = to + (q - c * taps) * tap_row + c * row
                for i in range(lanes):
                    copy_one(at + i * size, w + q * size + i * step_o)
        elif step_c == size:
            for t in range(taps):
                for c in range(0, channels, lanes):
                    at, source, deep = to + t * tap_row + c * row, w + word(tap_steps, t) + c * size, channels - c
                    if deep >= lanes and valid == lanes:
                        transpose(at, row, source, step_o)
                    else:
                        transpose_edge(at, row, source, step_o, valid, min(lanes, deep), lanes)
        elif along:
            at, step, source = to, tap_row, w + word(tap_steps, 0)
            if along < 0:  # a flipped kernel: the last tap comes first
                at, step, source = to + (taps - 1) * tap_row, -tap_row, w + word(tap_steps, taps - 1)
            for _ in range(channels):
                for t in range(0, taps, lanes):
                    transpose_edge(at + t * step, step, source + t * size, step_o, valid, min(lanes, taps - t), lanes)
                at += row
                source += step_c
        else:
            for t in range(taps):
                at, source = to + t * tap_row, w + word(tap_steps, t)
                for _ in range(channels):
                    for i in range(valid):
                        copy_one(at + i * size, source + i * step_o)
                    for i in range(valid, lanes):
                        clear_one(at + i * size)
                    at += row
                    source += step_c

    @inner
    def pack_panel(
        to: int, row: int, tap_row: int, w: int, step_o: int, step_c: int, tap_steps: int, taps: int, channels: int,
        valid: int, run: int, along: int, spare: int,
    ) -> None:  # fmt: skip
        """`valid` output channels of `channels` inputs to a row of vectors per input and tap, `row`, `tap_row` apart.

        `run`: the taps of an input, and then the next one's, follow each other. `along`: the taps do, or if it is
        negative from the last one on.
        """
        if step_o == size:
            whole = valid // lanes * lanes
            for t in range(taps):
                at, source = to + t * tap_row, w + word(tap_steps, t)
                for _ in range(channels):
                    for o in range(0, whole, lanes):
                        copy(at + o * size, source + o * size)
                    if whole < valid:
                        copy_head(at + whole * size, source + whole * size, valid - whole)
                    at += row
                    source += step_c
            return
        for o in range(0, valid, lanes):
            pack_vector(
                to + o * size, row, tap_row, w + o * step_o, step_o, step_c, tap_steps, taps, channels,
                min(lanes, valid - o), run, along, spare,
            )  # fmt: skip

    return pack_panel


def kernels(dtype: str, target: Target) -> dict[str, Callable[..., Any]]:
    """Packing."""
    v = Vectors(dtype, target.width)
    lanes, width = v.lanes, v.width
    pack_panel = panel(v)

    def pack(
        lo: int, hi: int, thread: int, to: int, w: int, step_g: int, step_o: int, step_c: int, tap_steps: int, taps: int,
        channels: int, outputs: int, panels: int, columns: int, last_columns: int, panel_step: int, group_step: int,
        cuts: int, run: int, along: int, scratch: int, scratch_step: int,
    ) -> None:  # fmt: skip
        """Blocks lo..hi of groups x panels x cuts of the input channels."""
        for block in range(lo, hi):
            cut = block % cuts
            panel = block // cuts % panels
            group = block // (cuts * panels)
            these = last_columns if panel == panels - 1 else columns
            first = channels * cut // cuts
            count = channels * (cut + 1) // cuts - first
            row = these * width
            at = to + group * group_step + panel * panel_step + first * row
            first_o = panel * columns * lanes
            pack_panel(
                at, row, channels * row, w + group * step_g + first_o * step_o + first * step_c, step_o, step_c, tap_steps,
                taps, count, min(these * lanes, outputs - first_o), run, along, scratch + thread * scratch_step,
            )  # fmt: skip

    return {"pack": pack}
