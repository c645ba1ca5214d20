"""The gradient of a maximum whose places are known: every g is added where its window's maximum was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..build import inner
from ..emit import word
from ..target import Target
from .lanes import Lanes, quotient, remainder


def kernels(dtype: str, target: Target) -> dict[str, Callable[..., Any]]:
    """From g to the places given."""
    lanes = Lanes.of(dtype, target)
    v = lanes.v
    size, width, many = v.size, v.width, v.lanes
    store, store_some, one, put, put_word = lanes.store, lanes.store_some, lanes.one, lanes.put, lanes.put_word
    zero, first = lanes.zero, lanes.first
    within, all_within = lanes.within, lanes.all_within

    @inner
    def cleared(to: int, count: int) -> None:
        """`count` elements of zero."""
        whole = quotient(count, many) * width
        for at in range(to, to + whole, width):
            store(at, zero())
        store_some(to + whole, zero(), first(remainder(count, many)))

    @inner
    def all_inside(places: int, count: int, limit: int, step: int) -> bool:
        """Whether `count` places lie in their plane, so that what follows need not ask."""
        inside = True
        if step == 8:
            for i in range(0, count, many):
                inside &= all_within(places + 8 * i, first(count - i), limit)
        else:
            for i in range(count):
                inside &= within(word(places + i * step, 0), limit)
        return inside

    @inner
    def added(to: int, g: int, places: int, count: int, step: int, next_to: int, next_g: int, next_place: int) -> None:
        """Add `count` numbers of g where `places` say, `step` bytes for each."""
        for _ in range(count):
            at = to + word(places, 0) * step
            put(at, one(at) + one(g))
            to += next_to
            g += next_g
            places += next_place

    @inner
    def added_row(to: int, g: int, places: int, count: int) -> None:
        """The same where everything lies side by side."""
        for i in range(count):
            at = to + word(places, i) * size
            put(at, one(at) + one(g + i * size))

    def places_back(
        lo: int, hi: int, thread: int,
        g: int, places: int, dx: int, outside: int, parts: int, channels: int, limit: int,
        out_d: int, out_h: int, out_w: int, g_n: int, g_c: int, g_d: int, g_h: int, g_w: int,
        places_n: int, places_c: int, places_d: int, places_h: int, places_w: int, dx_n: int, dx_c: int, dx_w: int,
    ) -> None:  # fmt: skip
        """Blocks lo..hi of samples x parts of the channels; *outside becomes 1 where a place is not in its plane."""
        fine = True
        for block in range(lo, hi):
            n, part = quotient(block, parts), remainder(block, parts)
            start, stop = quotient(channels * part, parts), quotient(channels * (part + 1), parts)
            to = dx + n * dx_n + start * dx_c
            if dx_w == size:
                for c in range(start, stop):
                    cleared(dx + n * dx_n + c * dx_c, limit)
            else:
                for p in range(limit):
                    cleared(to + p * dx_w, stop - start)
            for i in range(out_d):
                for j in range(out_h):
                    from_g = g + n * g_n + start * g_c + i * g_d + j * g_h
                    place = places + n * places_n + start * places_c + i * places_d + j * places_h
                    if dx_w == size:
                        for c in range(stop - start):
                            row, from_row, those = to + c * dx_c, from_g + c * g_c, place + c * places_c
                            if not all_inside(those, out_w, limit, places_w):
                                fine = False
                            elif g_w == size and places_w == 8:
                                added_row(row, from_row, those, out_w)
                            else:
                                added(row, from_row, those, out_w, size, 0, g_w, places_w)
                    else:
                        for k in range(out_w):
                            if all_inside(place + k * places_w, stop - start, limit, places_c):
                                added(
                                    to, from_g + k * g_w, place + k * places_w, stop - start, dx_w, dx_c, g_c, places_c
                                )
                            else:
                                fine = False
        if not fine:
            put_word(outside, 1)

    return {"places_back": places_back}
