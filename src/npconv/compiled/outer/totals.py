"""The gradient of a bias: every channel of g summed in double precision, whatever its own.

With channels last a task owns a panel of four vectors of channels over a run of rows, with channels first a run of the
pixels of one channel, four vectors of them at a time. Totals of runs are added up by whoever asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from ..build import inner
from ..emit import I32, I64, Vectors, emitted, i64, pointer
from .layout import WIDE


def totals_of(v: Vectors) -> Callable[..., Any]:
    """The kernel."""
    size, lanes, width = v.size, v.lanes, v.width
    add_wide, add_rows, clear, fold = _add(v, WIDE), _add(v, 1), _clear(v), _fold(v)

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


def _wide(v: Vectors) -> Any:
    return ir.VectorType(ir.DoubleType(), v.lanes)


def _add(v: Vectors, columns: int) -> Any:
    """add(at, step, count, held, to): `count` rows, of which the last vector has `held` elements, to the sums."""
    wide = _wide(v)

    @emitted(5)
    def add(b: Any, a: Any) -> None:
        at, step, count, held, to = a
        mask = v.mask(b, held)
        places = [pointer(b, to, j * v.lanes * 8) for j in range(columns)]
        begun = [b.load(place, typ=wide, align=8) for place in places]
        before = b.block
        test, loop, done = (b.append_basic_block(name) for name in ("test", "loop", "done"))
        b.branch(test)
        b.position_at_end(test)
        i, source = b.phi(I64), b.phi(I64)
        sums = [b.phi(wide) for _ in places]
        b.cbranch(b.icmp_signed("<", i, count), loop, done)
        b.position_at_end(loop)
        added = []
        for j, total in enumerate(sums):
            whole = j < columns - 1
            value = v.load(b, source, j * v.width) if whole else v.masked_load(b, mask, source, j * v.width)
            added.append(b.fadd(total, value if v.size == 8 else b.fpext(value, wide)))
        values = zip((i, source, *sums), (i64(0), at, *begun), strict=True)
        following = (b.add(i, i64(1)), b.add(source, step), *added)
        for (value, first), after in zip(values, following, strict=True):
            value.add_incoming(first, before)
            value.add_incoming(after, loop)
        b.branch(test)
        b.position_at_end(done)
        for place, total in zip(places, sums, strict=True):
            b.store(total, place, align=8)

    return add


def _clear(v: Vectors) -> Any:
    """clear(to): `WIDE` vectors of sums."""

    @emitted(1)
    def clear(b: Any, a: Any) -> None:
        for j in range(WIDE):
            b.store(ir.Constant(_wide(v), None), pointer(b, a[0], j * v.lanes * 8), align=8)

    return clear


def _fold(v: Vectors) -> Any:
    """fold(from, to): the sum of `WIDE` vectors of sums, by halves."""

    @emitted(2)
    def fold(b: Any, a: Any) -> None:
        parts = [b.load(pointer(b, a[0], j * v.lanes * 8), typ=_wide(v), align=8) for j in range(WIDE)]
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
