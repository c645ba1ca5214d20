"""Maxima and where they are, where the channels of a pixel lie side by side: lanes are channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..emit import word
from ..packing import bring_all
from ..target import Target
from .channels import channel_winner
from .lanes import Lanes, quotient, remainder


def kernels(dtype: str, target: Target) -> dict[str, Callable[..., Any]]:
    """Maxima and their 64-bit indices."""
    lanes = Lanes.of(dtype, target)
    size, many = lanes.v.size, lanes.v.lanes
    store_some, store_words, first, steps, plus_numbers = (
        lanes.store_some,
        lanes.store_words,
        lanes.first,
        lanes.steps,
        lanes.plus_numbers,
    )
    winner = channel_winner(lanes)

    def last_winners(
        lo: int, hi: int, thread: int,
        x: int, y: int, indices: int, chunks: int, channels: int, out_d: int, out_h: int, out_w: int,
        x_n: int, step_d: int, step_h: int, step_w: int, y_n: int, y_d: int, y_h: int, y_w: int,
        begin_d: int, begin_h: int, begin_w: int, count_d: int, count_h: int, count_w: int,
        from_d: int, from_h: int, from_w: int, number_d: int, number_h: int, number_w: int, number_n: int, number_c: int,
        far: int, fresh: int,
    ) -> None:  # fmt: skip
        """Blocks lo..hi of rows of output pixels x chunks of a row: maxima and their 64-bit indices."""
        for block in range(lo, hi):
            chunk, row = remainder(block, chunks), quotient(block, chunks)
            j, rest = remainder(row, out_h), quotient(row, out_h)
            i, n = remainder(rest, out_d), quotient(rest, out_d)
            d, h = word(count_d, i), word(count_h, j)
            base = x + n * x_n + word(begin_d, i) + word(begin_h, j)
            number = word(from_d, i) + word(from_h, j)
            place = n * y_n + i * y_d + j * y_h
            for k in range(quotient(out_w * chunk, chunks), quotient(out_w * (chunk + 1), chunks)):
                at, w = base + word(begin_w, k), word(count_w, k)
                here = number + word(from_w, k)
                if far and h > 0:
                    bring_all(at + far, step_h, h, fresh)
                    bring_all(y + place + k * y_w + far, 0, 1, channels * size)
                    bring_all(indices + quotient(place + k * y_w, size) * 8 + far, 0, 1, channels * 8)
                for c in range(0, channels, many):
                    mask = first(min(many, channels - c))
                    m, code = winner(
                        at + c * size, d, h, w, step_d, step_h, step_w, here, number_d, number_h, number_w, mask
                    )
                    to = place + k * y_w + c * size
                    store_some(y + to, m, mask)
                    base_number = n * number_n + c * number_c
                    if number_c:
                        code = plus_numbers(code, steps(0, number_c))
                    store_words(indices + quotient(to, size) * 8, code, base_number, mask)

    return {"last_winners": last_winners}
