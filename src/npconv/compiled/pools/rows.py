"""Rows of scratch and of outputs: what the kernels of pooling share whose lanes are neighbouring windows."""

from __future__ import annotations

from typing import Any

from ..build import inner
from .lanes import Lanes

#: Numbers added one after the other before their sum is added to the next: keeps the error at a few u.
FEW = 8


def row_words(lanes: Lanes) -> tuple[Any, Any, Any, Any]:
    """(tap, fill, around, divided)."""
    size, width = lanes.v.size, lanes.v.width
    load, store, splat, times, over, as_element = (
        lanes.load,
        lanes.store,
        lanes.splat,
        lanes.times,
        lanes.over,
        lanes.as_element,
    )
    (_, every1, every2, every3, every4) = lanes.every

    @inner
    def tap(x: int, stride: int) -> Any:
        """One tap of a vector of windows."""
        if stride == 1:
            return every1(x)
        if stride == 2:
            return every2(x)
        if stride == 3:
            return every3(x)
        return every4(x)

    @inner
    def fill(to: int, stop: int, value: Any) -> None:
        """Whole vectors from `to` up to `stop` or beyond."""
        while to < stop:
            store(to, value)
            to += width

    @inner
    def around(rows: int, count: int, pitch: int, margin: int, end: int, value: Any) -> None:
        """Rows of scratch whose inputs 0..end come later: `value` before and after them."""
        for _ in range(count):
            fill(rows, rows + margin * size, value)
            fill(rows + (margin + end) * size, rows + pitch, value)
            rows += pitch

    @inner
    def divided(s: Any, share: int, inverse: int, shares: int) -> Any:
        """Sums over `share` times their entries of a table, or where all are one power of two, times its inverse."""
        if inverse:
            return times(s, splat(as_element(1) / as_element(share * inverse)))
        return over(s, times(splat(as_element(share)), load(shares)))

    return tap, fill, around, divided
