"""The first maximum of a window, lanes being channels."""

from __future__ import annotations

from typing import Any

from ..build import inner
from .lanes import Lanes


def channel_winner(lanes: Lanes) -> Any:
    """winner."""
    load_some, zero, wins, choose, choose_numbers, steps = (
        lanes.load_some,
        lanes.zero,
        lanes.wins,
        lanes.choose,
        lanes.choose_numbers,
        lanes.steps,
    )

    @inner
    def winner(
        x: int, d: int, h: int, w: int, step_d: int, step_h: int, step_w: int,
        number: int, number_d: int, number_h: int, number_w: int, mask: Any,
    ) -> Any:  # fmt: skip
        """The first maximum in row-major order of one vector of channels, and its number."""
        m = load_some(x, mask, zero())
        code = steps(number, 0)
        for i in range(d):
            for j in range(h):
                at = x + i * step_d + j * step_h
                here = number + i * number_d + j * number_h
                for _ in range(w):
                    a = load_some(at, mask, zero())
                    new = wins(a, m)
                    m = choose(new, a, m)
                    code = choose_numbers(new, steps(here, 0), code)
                    at += step_w
                    here += number_w
        return m, code

    return winner
