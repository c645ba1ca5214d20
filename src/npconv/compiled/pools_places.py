"""The gradient of a maximum whose places are known: every g is added where its window's maximum was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .build import inner
from .emit import word
from .pools_lanes import Lanes, quotient, remainder


def given_places(lanes: Lanes) -> dict[str, Callable[..., Any]]:
    """places_back."""
    v = lanes.v
    size, width, many = v.size, v.width, v.lanes
    store, store_some, one, put, put_word = lanes.store, lanes.store_some, lanes.one, lanes.put, lanes.put_word
    zero, first, as_element = lanes.zero, lanes.first, lanes.as_element
    within = lanes.within

    @inner
    def cleared(to: int, count: int) -> None:
        """`count` elements of zero."""
        whole = quotient(count, many) * width
        for at in range(to, to + whole, width):
            store(at, zero())
        store_some(to + whole, zero(), first(remainder(count, many)))

    @inner
    def added(
        to: int, g: int, places: int, count: int, limit: int, step: int, next_to: int, next_g: int, next_place: int
    ) -> bool:
        """Add `count` numbers of g where `places` say, `step` bytes for each; False where one lies outside."""
        inside = True
        for _ in range(count):
            place = word(places, 0)
            if within(place, limit):
                at = to + place * step
                put(at, one(at) + one(g))
            else:
                inside = False
            to += next_to
            g += next_g
            places += next_place
        return inside

    @inner
    def written(to: int, g: int, places: int, count: int, limit: int, step: int, next_g: int, next_place: int) -> bool:
        """The same where no two windows overlap."""
        inside = True
        for _ in range(count):
            place = word(places, 0)
            if within(place, limit):
                put(to + place * step, one(g) + as_element(0))
            else:
                inside = False
            g += next_g
            places += next_place
        return inside

    def places_back(
        lo: int, hi: int, thread: int,
        g: int, places: int, dx: int, outside: int, apart: int, parts: int, channels: int, limit: int,
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
                            if apart:
                                fine &= written(
                                    to + c * dx_c, from_g + c * g_c, place + c * places_c, out_w, limit, size, g_w, places_w
                                )
                            else:
                                fine &= added(
                                    to + c * dx_c, from_g + c * g_c, place + c * places_c, out_w, limit, size, 0, g_w, places_w
                                )
                    else:
                        for k in range(out_w):
                            fine &= added(
                                to, from_g + k * g_w, place + k * places_w, stop - start, limit, dx_w, dx_c, g_c, places_c
                            )
        if not fine:
            put_word(outside, 1)

    return {"places_back": places_back}
