"""Weights in the order in which a product reads them: panels of output channels, lanes innermost."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from .build import inner
from .emit import Vectors, word
from .target import Target


@cache
def vectors(v: Vectors) -> Any:
    """pack_vector, for kernels that bring weights in order as they go."""
    size, lanes, width = v.size, v.lanes, v.width
    copy, copy_one, clear_one, transpose = v.copy, v.copy_one, v.clear_one, v.transpose

    @inner
    def pack_vector(
        to: int, row: int, tap_row: int, w: int, step_o: int, step_c: int, tap_steps: int, taps: int, channels: int,
        valid: int, run: int, spare: int,
    ) -> None:  # fmt: skip
        """`valid` output channels of `channels` inputs to one vector per input and tap, `row` and `tap_row` apart."""
        done = 0
        if valid == lanes and step_o == size:
            for t in range(taps):
                source, at = w + word(tap_steps, t), to + t * tap_row
                for _ in range(channels):
                    copy(at, source)
                    at += row
                    source += step_c
            return
        if valid == lanes and run:  # (channel, tap) lie in one run
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
            done = whole
        elif valid == lanes and step_c == size:
            whole = channels // lanes * lanes
            for t in range(taps):
                for c in range(0, whole, lanes):
                    transpose(to + t * tap_row + c * row, row, w + word(tap_steps, t) + c * size, step_o)
            done = whole * taps
            for c in range(whole, channels):
                for t in range(taps):
                    for i in range(lanes):
                        at = to + t * tap_row + c * row + i * size
                        copy_one(at, w + word(tap_steps, t) + c * step_c + i * step_o)
            return
        for q in range(done, channels * taps):
            c = q // taps
            t = q - c * taps
            at = to + t * tap_row + c * row
            source = w + word(tap_steps, t) + c * step_c
            for i in range(valid):
                copy_one(at + i * size, source + i * step_o)
            for i in range(valid, lanes):
                clear_one(at + i * size)

    return pack_vector


def kernels(dtype: str, target: Target) -> dict[str, Callable[..., Any]]:
    """Packing."""
    v = Vectors(dtype, target.width)
    lanes, width = v.lanes, v.width
    pack_vector = vectors(v)

    def pack(
        lo: int, hi: int, thread: int, to: int, w: int, step_g: int, step_o: int, step_c: int, tap_steps: int, taps: int,
        channels: int, outputs: int, panels: int, columns: int, last_columns: int, panel_step: int, group_step: int,
        cuts: int, run: int, scratch: int, scratch_step: int,
    ) -> None:  # fmt: skip
        """Blocks lo..hi of groups x panels x cuts of the input channels."""
        spare = scratch + thread * scratch_step
        for block in range(lo, hi):
            cut = block % cuts
            panel = block // cuts % panels
            group = block // (cuts * panels)
            these = last_columns if panel == panels - 1 else columns
            first = channels * cut // cuts
            count = channels * (cut + 1) // cuts - first
            row = these * width
            at = to + group * group_step + panel * panel_step + first * row
            for j in range(these):
                o = (panel * columns + j) * lanes
                source = w + group * step_g + o * step_o + first * step_c
                valid = min(lanes, outputs - o)
                pack_vector(
                    at + j * width,
                    row,
                    channels * row,
                    source,
                    step_o,
                    step_c,
                    tap_steps,
                    taps,
                    count,
                    valid,
                    run,
                    spare,
                )

    return {"pack": pack}
