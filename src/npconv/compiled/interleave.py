"""Boxes of numbers from one array to another, both of any strides: what takes weights apart and joins outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import packing
from .emit import Vectors, word
from .target import Target


def kernels(dtype: str, target: Target) -> dict[str, Callable[..., Any]]:
    """Copying, and turning weights."""
    v = Vectors(dtype, target.width)
    size, lanes, width = v.size, v.lanes, v.width
    copy, copy_one, transpose, turned = v.copy, v.copy_one, v.transpose, packing.turned(v, few=True)

    def copy_boxes(
        lo: int, hi: int, thread: int, source: int, to: int, table: int, from_p: int, from_c: int, to_p: int, to_c: int
    ) -> None:
        """Boxes lo..hi of the table: four words each, where it lies in `source` and in `to`, its pixels, its channels."""
        for box in range(lo, hi):
            begin, at = source + word(table, 4 * box), to + word(table, 4 * box + 1)
            pixels, channels = word(table, 4 * box + 2), word(table, 4 * box + 3)
            if from_c == size and to_c == size:
                whole = channels * size // width * width
                for p in range(pixels):
                    one, other = begin + p * from_p, at + p * to_p
                    for c in range(0, whole, width):
                        copy(other + c, one + c)
                    for c in range(whole, channels * size, size):
                        copy_one(other + c, one + c)
            elif from_c == size and to_p == size:
                turned(at, to_c, begin, from_p, pixels, channels)
            elif from_p == size and to_c == size:
                turned(at, to_p, begin, from_c, channels, pixels)
            else:
                for c in range(channels):
                    one, other = begin + c * from_c, at + c * to_c
                    for _ in range(pixels):
                        copy_one(other, one)
                        one += from_p
                        other += to_p

    def turn(
        lo: int, hi: int, thread: int, source: int, to: int, places: int, taps: int, outputs: int, channels: int,
        step_g: int, step_o: int, step_c: int, to_g: int, to_c: int, run: int, scratch: int, scratch_step: int,
    ) -> None:  # fmt: skip
        """Blocks lo..hi of groups x input channels: output channels side by side, tap t at places[2 t] to places[2 t + 1].

        Where the taps are one `run`, blocks of them and of outputs are transposed; the last one may overlap another.
        """
        spare = scratch + thread * scratch_step
        for block in range(lo, hi):
            group = block // channels
            c = block - group * channels
            begin, at = source + group * step_g + c * step_c, to + group * to_g + c * to_c
            whole = outputs // lanes * lanes if run and taps >= lanes else 0
            for o in range(0, whole, lanes):
                t = 0
                while t < taps:
                    t = min(t, taps - lanes)
                    transpose(spare, width, begin + word(places, 2 * t) + o * step_o, step_o)
                    for i in range(lanes):
                        copy(at + word(places, 2 * (t + i) + 1) + o * size, spare + i * width)
                    t += lanes
            for t in range(taps):
                tap, place = begin + word(places, 2 * t), at + word(places, 2 * t + 1)
                for o in range(whole, outputs):
                    copy_one(place + o * size, tap + o * step_o)

    return {"copy_boxes": copy_boxes, "turn": turn}
