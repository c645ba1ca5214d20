"""Between the caller's channels and lanes, where groups do not fill theirs; and the packing of weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from ..build import inner
from ..emit import I32, Vectors, emitted, i64, word


def gapped(v: Vectors) -> tuple[Any, Any]:
    """(pack_groups, spread_groups): as in `packing`, for groups that do not fill their lanes."""
    size, copy_one, clear_one = v.size, v.copy_one, v.clear_one

    @inner
    def pack_groups(
        to: int, x: int, step_c: int, step_d: int, step_h: int, step_w: int, here: int, first: int, wide: int, groups: int,
        inputs: int, in_d: int, in_h: int, in_w: int, box_d: int, box_h: int, box_w: int, lo_d: int, lo_h: int, lo_w: int,
    ) -> None:  # fmt: skip
        """The box of inputs from (-lo) on, in the lanes from `first` on, zeros outside of x and in the gaps."""
        for d in range(-lo_d, box_d - lo_d):
            for h in range(-lo_h, box_h - lo_h):
                for q in range(-lo_w, box_w - lo_w):
                    real = 0 <= d < in_d and 0 <= h < in_h and 0 <= q < in_w
                    place = x + d * step_d + h * step_h + q * step_w
                    for lane in range(0, here, wide):
                        group = (first + lane) // wide
                        for i in range(wide):
                            if real and i < inputs:
                                copy_one(to, place + (group * inputs + i) * step_c)
                            else:
                                clear_one(to)
                            to += size

    @inner
    def spread_groups(
        y: int, step_o: int, places: int, source: int, row: int, pixels: int, here: int, first: int, wide: int,
        groups: int, outputs: int,
    ) -> None:  # fmt: skip
        for p in range(pixels):
            for lane in range(0, here, wide):
                at = y + word(places, p) + (first + lane) // wide * outputs * step_o
                for o in range(outputs):
                    copy_one(at + o * step_o, source + p * row + (lane + o) * size)

    return pack_groups, spread_groups


def repeating(v: Vectors) -> Any:
    """pack_repeated(to, ...): as `pack_box` in `packing`, for lanes of which `each` that follow each other read one channel."""
    size, clear, copy_one, clear_one, width, lanes = v.size, v.clear, v.copy_one, v.clear_one, v.width, v.lanes
    spreads = (2, 4, 8)

    @emitted(4)
    def repeat(b: Any, a: Any) -> None:
        """One pixel, its channels side by side: to `count` lanes."""
        to, source, each, count = a
        value = v.masked_load(b, v.mask(b, b.udiv(b.add(count, b.sub(each, i64(1))), each)), source)
        found = value
        for m in spreads:
            pick = ir.Constant(ir.VectorType(I32, v.lanes), [lane // m for lane in range(v.lanes)])
            wide = b.shuffle_vector(value, ir.Constant(v.vector, ir.Undefined), pick)
            found = b.select(b.icmp_signed("==", each, i64(m)), wide, found)
        v.masked_store(b, found, v.mask(b, count), to)

    @inner
    def pack_repeated(
        to: int, x: int, step_c: int, step_d: int, step_h: int, step_w: int, here: int, first: int, each: int,
        in_d: int, in_h: int, in_w: int, box_d: int, box_h: int, box_w: int, lo_d: int, lo_h: int, lo_w: int,
    ) -> None:  # fmt: skip
        row = here * size
        before = min(box_w, max(0, lo_w))
        start = max(0, -lo_w)
        stop = max(start, min(in_w, box_w - lo_w))
        beside = step_c == size and lanes % each == 0 and (each == 2 or each == 4 or each == 8)
        for d in range(box_d):
            for h in range(box_h):
                at = to + (d * box_h + h) * box_w * row
                i, j = d - lo_d, h - lo_h
                place, end = at, at + box_w * row
                if 0 <= i < in_d and 0 <= j < in_h:
                    end = at + before * row
                while place + width <= end:
                    clear(place)
                    place += width
                while place < end:
                    clear_one(place)
                    place += size
                if not (0 <= i < in_d and 0 <= j < in_h):
                    continue
                source = x + i * step_d + j * step_h + start * step_w
                if beside:
                    for q in range(stop - start):
                        repeat(place + q * row, source + first // each * size + q * step_w, each, here)
                else:
                    for lane in range(here):
                        channel = source + (first + lane) // each * step_c
                        for q in range(stop - start):
                            copy_one(place + q * row + lane * size, channel + q * step_w)
                place += (stop - start) * row
                end = at + box_w * row
                while place < end:
                    clear_one(place)
                    place += size

    return pack_repeated


def weights(v: Vectors) -> Any:
    """pack_vector(to, ...): the weights of one vector of channels; output i ^ r of a group from its input i."""
    size, lanes = v.size, v.lanes
    copy, copy_one, clear_one = v.copy, v.copy_one, v.clear_one

    @inner
    def pack_vector(
        to: int, step: int, w: int, vector: int, wide: int, groups: int, inputs: int, outputs: int, repeat: int, step_g: int,
        step_o: int, step_c: int, taps: int, tap_offsets: int,
    ) -> None:  # fmt: skip
        """To (tap, r, lanes), `step` from one r to the next; `repeat` groups that follow each other are the outputs of one."""
        beside = step_g == repeat * size and (repeat == 1 or step_o == size)
        if beside and wide == 1 and (vector + 1) * lanes <= groups:
            for tap in range(taps):
                copy(to + tap * step, w + vector * lanes * size + word(tap_offsets, tap))
            return
        for lane in range(lanes):
            channel = vector * lanes + lane
            group, i = channel // wide, channel % wide
            for r in range(wide):
                o = i ^ r
                at = to + r * step + lane * size
                source = w + group // repeat * step_g + (group % repeat + o) * step_o + i * step_c
                real = group < groups and i < inputs and o < outputs
                for tap in range(taps):
                    if real:
                        copy_one(at, source + word(tap_offsets, tap))
                    else:
                        clear_one(at)
                    at += wide * step

    return pack_vector


def prepare(v: Vectors) -> Callable[..., Any]:
    """The packing of all weights."""
    width = v.width
    pack_vector = weights(v)

    def prepare(
        lo: int, hi: int, thread: int,
        w: int, to: int, wide: int, groups: int, inputs: int, outputs: int, repeat: int, step_g: int, step_o: int,
        step_c: int, taps: int, tap_offsets: int,
    ) -> None:  # fmt: skip
        """Vectors lo..hi of w to (vector, tap, r, lanes)."""
        for vector in range(lo, hi):
            at = to + vector * taps * wide * width
            pack_vector(at, width, w, vector, wide, groups, inputs, outputs, repeat, step_g, step_o, step_c, taps,
                        tap_offsets)  # fmt: skip

    return prepare
