"""The gradient of a bias: every channel of g summed in double precision, whatever its own.

With channels last a task owns a panel of four vectors of channels over a run of rows, with channels first a run of the
pixels of one channel, four vectors of them at a time. Totals of runs are added up by whoever asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from .. import doubles
from ..build import inner
from ..emit import I32, Vectors, emitted, pointer
from .layout import WIDE


def totals_of(v: Vectors) -> Callable[..., Any]:
    """The kernel."""
    size, lanes, width = v.size, v.lanes, v.width
    add_wide, add_rows, clear, fold = _add(v, WIDE), _add(v, 1), doubles.clear(v, WIDE), _fold(v)

    @inner
    def along(at: int, pixels: int, to: int) -> None:
        """Pixels that lie side by side, to `WIDE` vectors of sums."""
        many = pixels // (WIDE * lanes)
        add_wide(at, WIDE * width, many, lanes, to)
        at += many * WIDE * width
        pixels -= many * WIDE * lanes
        add_rows(at, width, pixels // lanes, lanes, to)
        add_rows(at + pixels // lanes * width, width, 1, pixels % lanes, to)

    def totals(
        lo: int, hi: int, thread: int,
        g: int, to: int, scratch: int, last: int, images: int, image_step: int, pixels: int, pixel_step: int,
        channels: int, channel_step: int, run: int, slots: int,
    ) -> None:  # fmt: skip
        """Tasks lo..hi of runs of `run` pixels x (panels if `last`, else channels); a run of totals has `slots` doubles."""
        sums = scratch + thread * (WIDE * lanes * 8)
        panels = slots // (WIDE * lanes)
        for task in range(lo, hi):
            if last:
                first, panel = task // panels * run, task % panels
                at = g + first * pixel_step + panel * WIDE * width
                count, held = min(run, pixels - first), channels - panel * WIDE * lanes
                place = to + (task // panels * slots + panel * WIDE * lanes) * 8
                clear(place)
                if held >= WIDE * lanes:
                    add_wide(at, pixel_step, count, lanes, place)
                else:
                    for j in range(0, held, lanes):
                        add_rows(at + j * size, pixel_step, count, min(lanes, held - j), place + j * 8)
            else:
                first, channel = task // channels * run, task % channels
                clear(sums)
                for image in range(images):
                    at = g + image * image_step + channel * channel_step + first * size
                    along(at, min(run, pixels - first), sums)
                fold(sums, to + (task // channels * slots + channel) * 8)

    return totals


def _add(v: Vectors, columns: int) -> Any:
    """add(at, step, count, held, to): `count` rows, of which the last vector has `held` elements, to the sums."""

    @emitted(5)
    def add(b: Any, a: Any) -> None:
        at, step, count, held, to = a
        mask = v.mask(b, held)

        def added(addresses: list[Any], sums: list[Any]) -> list[Any]:
            found = []
            for j, total in enumerate(sums):
                source, whole = addresses[0], j < columns - 1
                value = v.load(b, source, j * v.width) if whole else v.masked_load(b, mask, source, j * v.width)
                found.append(b.fadd(total, doubles.widened(v, b, value)))
            return found

        doubles.rows(v, b, count, [at], step, doubles.places(v, b, to, columns), added)

    return add


def _fold(v: Vectors) -> Any:
    """fold(from, to): the sum of `WIDE` vectors of sums, by halves."""

    @emitted(2)
    def fold(b: Any, a: Any) -> None:
        parts = doubles.held(v, b, doubles.places(v, b, a[0], WIDE))
        while len(parts) > 1:
            parts = [b.fadd(one, other) for one, other in zip(parts[::2], parts[1::2], strict=True)]
        (value,), n = parts, v.lanes
        while n > 1:
            n //= 2
            low, high = (
                b.shuffle_vector(value, value, ir.Constant(ir.VectorType(I32, n), list(range(start, start + n))))
                for start in (0, n)
            )
            value = b.fadd(low, high)
        b.store(b.extract_element(value, ir.Constant(I32, 0)), pointer(b, a[1]), align=8)

    return fold
