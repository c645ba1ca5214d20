"""Gradients where every input is in one window and lanes are channels: windows write, nothing is added."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..emit import word
from ..packing import bring_all
from ..target import Target
from .channels import channel_winner
from .lanes import Lanes, quotient, remainder


def kernels(dtype: str, target: Target) -> dict[str, Callable[..., Any]]:
    """From g to maxima looked for or given, or in equal shares to all."""
    lanes = Lanes.of(dtype, target)
    size, many = lanes.v.size, lanes.v.lanes
    load_some, store_some, put_word, load_words, splat, zero = (
        lanes.load_some,
        lanes.store_some,
        lanes.put_word,
        lanes.load_words,
        lanes.splat,
        lanes.zero,
    )
    plus, times, over, first, either, lacks = (
        lanes.plus,
        lanes.times,
        lanes.over,
        lanes.first,
        lanes.either,
        lanes.lacks,
    )
    none, choose, steps, same, as_element = lanes.none, lanes.choose, lanes.steps, lanes.same, lanes.as_element
    winner = channel_winner(lanes)

    def last_tiled(
        lo: int, hi: int, thread: int,
        x: int, g: int, dx: int, places: int, outside: int, mode: int, chunks: int, parts: int, channels: int,
        out_d: int, out_h: int, out_w: int, x_n: int, step_d: int, step_h: int, step_w: int,
        g_n: int, g_d: int, g_h: int, g_w: int, dx_n: int, places_n: int, places_d: int, places_h: int, places_w: int,
        begin_d: int, begin_h: int, begin_w: int, count_d: int, count_h: int, count_w: int,
        from_d: int, from_h: int, from_w: int, number_d: int, number_h: int, number_w: int,
        share_d: int, share_h: int, share_w: int, far: int, fresh: int,
    ) -> None:  # fmt: skip
        """Gradients where every input is in one window: that window writes it, whole rows of outputs at a time.

        Mode 0 spreads means, 1 looks for the maxima of x, 2 takes their places, and *outside becomes 1 where a place is
        not in its window.
        """
        vectors = quotient(channels + many - 1, many)
        fine = True
        for block in range(lo, hi):
            part, row = remainder(block, parts), quotient(block, parts)
            chunk, row = remainder(row, chunks), quotient(row, chunks)
            j, rest = remainder(row, out_h), quotient(row, out_h)
            i, n = remainder(rest, out_d), quotient(rest, out_d)
            start = quotient(vectors * part, parts) * many
            stop = min(channels, quotient(vectors * (part + 1), parts) * many)
            d, h = word(count_d, i), word(count_h, j)
            share = word(share_d, i) * word(share_h, j)
            for k in range(quotient(out_w * chunk, chunks), quotient(out_w * (chunk + 1), chunks)):
                w, corner = word(count_w, k), word(begin_d, i) + word(begin_h, j) + word(begin_w, k)
                divisor = share * word(share_w, k)
                exact = divisor & (divisor - 1) == 0
                by = splat(as_element(1) / as_element(divisor) if exact else as_element(divisor))
                number = word(from_d, i) + word(from_h, j) + word(from_w, k)
                if far and h > 0:
                    bring_all(dx + n * dx_n + corner + far, step_h, h, fresh)
                    if mode == 1:
                        bring_all(x + n * x_n + corner + far, step_h, h, fresh)
                for c in range(start, stop, many):
                    mask = first(min(many, stop - c))
                    value = load_some(g + n * g_n + i * g_d + j * g_h + k * g_w + c * size, mask, zero())
                    to = dx + n * dx_n + corner + c * size
                    if mode == 0:
                        value = times(value, by) if exact else over(value, by)
                        for e in range(d):
                            for a in range(h):
                                at = to + e * step_d + a * step_h
                                for _ in range(w):
                                    store_some(at, value, mask)
                                    at += step_w
                    else:
                        value = plus(value, zero())
                        if mode == 1:
                            _, code = winner(
                                x + n * x_n + corner + c * size, d, h, w, step_d, step_h, step_w,
                                number, number_d, number_h, number_w, mask,
                            )  # fmt: skip
                        else:
                            place = n * places_n + i * places_d + j * places_h + k * places_w + 8 * c
                            code = load_words(places + place, mask)
                        hit = none()
                        for e in range(d):
                            for a in range(h):
                                at = to + e * step_d + a * step_h
                                here = number + e * number_d + a * number_h
                                for _ in range(w):
                                    won = same(code, steps(here, 0))
                                    hit = either(hit, won)
                                    store_some(at, choose(won, value, zero()), mask)
                                    at += step_w
                                    here += number_w
                        if lacks(mask, hit):
                            fine = False
        if not fine:
            put_word(outside, 1)

    return {"last_tiled": last_tiled}
