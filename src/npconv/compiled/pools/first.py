"""Pooling where the pixels of a row lie side by side: lanes are neighbouring windows.

A row of outputs is reduced over depth and height first, into a row of scratch with room around it, and then along the
row: a tap of windows that start 1 to 4 inputs apart is one load, or as many loads shuffled into one vector. Other
windows (larger strides, bins of unequal width) are read one by one through tables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..build import inner
from ..emit import word
from ..packing import bring_all
from ..target import Target
from .lanes import Lanes, quotient, remainder
from .rows import FEW, row_words


def kernels(dtype: str, target: Target) -> dict[str, Callable[..., Any]]:
    """Maxima and means."""
    lanes = Lanes.of(dtype, target)
    size, many = lanes.v.size, lanes.v.lanes
    load_some, store, store_some, one, put, lowest = (
        lanes.load_some,
        lanes.store,
        lanes.store_some,
        lanes.one,
        lanes.put,
        lanes.lowest,
    )
    nan, zero, plus, larger, first, unordered = (
        lanes.nan,
        lanes.zero,
        lanes.plus,
        lanes.larger,
        lanes.first,
        lanes.unordered,
    )
    either, choose, as_element = lanes.either, lanes.choose, lanes.as_element
    tap, _, around, divided = row_words(lanes)

    @inner
    def down_largest(row: int, x: int, p: int, stop: int, end: int, d: int, h: int, step_d: int, step_h: int) -> None:
        """The maxima over depth and height of the inputs p..stop of a row that ends at `end`."""
        while p < stop:
            mask = first(end - p)
            m = lowest()
            u = unordered(m, m)
            for j in range(h):
                at = x + p * size + j * step_h
                for _ in range(d):
                    a = load_some(at, mask, lowest())
                    m = larger(a, m)
                    u = either(u, unordered(a, a))
                    at += step_d
            store(row + p * size, choose(u, nan(), m))
            p += many

    @inner
    def down_sum(row: int, x: int, p: int, stop: int, end: int, d: int, h: int, step_d: int, step_h: int) -> None:
        """The sums over depth and height of the inputs p..stop of a row that ends at `end`."""
        while p < stop:
            mask = first(end - p)
            t = zero()
            for i in range(d):
                for begin_h in range(0, h, FEW):
                    r = zero()
                    at = x + p * size + i * step_d + begin_h * step_h
                    for _ in range(begin_h, min(h, begin_h + FEW)):
                        r = plus(r, load_some(at, mask, zero()))
                        at += step_h
                    t = plus(t, r)
            store(row + p * size, t)
            p += many

    @inner
    def along_largest(to: int, row: int, taps: int, stride: int, dilation: int, mask: Any) -> None:
        """The maxima of one vector of windows of a row."""
        m = tap(row, stride)
        u = unordered(m, m)
        for t in range(1, taps):
            a = tap(row + t * dilation * size, stride)
            m = larger(a, m)
            u = either(u, unordered(a, a))
        store_some(to, choose(u, nan(), m), mask)

    @inner
    def along_sum(
        to: int, row: int, taps: int, stride: int, dilation: int, mask: Any, share: int, inverse: int, shares: int
    ) -> None:
        """The means of one vector of windows of a row."""
        s = zero()
        for begin in range(0, taps, FEW):
            r = tap(row + begin * dilation * size, stride)
            for t in range(begin + 1, min(taps, begin + FEW)):
                r = plus(r, tap(row + t * dilation * size, stride))
            s = plus(s, r)
        store_some(to, divided(s, share, inverse, shares), mask)

    @inner
    def windows_largest(to: int, row: int, out: int, begins: int, counts: int, dilation: int) -> None:
        """The maxima of all windows of a row, one by one."""
        for o in range(out):
            at = row + word(begins, o)
            m = one(at)
            for _ in range(1, word(counts, o)):
                at += dilation * size
                a = one(at)
                if (a > m or a != a) and m == m:
                    m = a
            put(to + o * size, m)

    @inner
    def windows_sum(
        to: int, row: int, out: int, begins: int, counts: int, dilation: int, share: int, inverse: int, shares: int
    ) -> None:
        """The means of all windows of a row, one by one."""
        for o in range(out):
            at, count = row + word(begins, o), word(counts, o)
            s = as_element(0)
            for begin in range(0, count, FEW):
                r = as_element(0)
                for _ in range(begin, min(count, begin + FEW)):
                    r += one(at)
                    at += dilation * size
                s += r
            if inverse:
                put(to + o * size, s * (as_element(1) / as_element(share * inverse)))
            else:
                put(to + o * size, s / (as_element(share) * one(shares + o * size)))

    def first_reduce(
        lo: int, hi: int, thread: int,
        x: int, y: int, scratch: int, scratch_step: int, sums: int, parts: int, channels: int, end: int,
        out_d: int, out_h: int, out_w: int, x_n: int, x_c: int, step_d: int, step_h: int,
        y_n: int, y_c: int, y_d: int, y_h: int, begin_d: int, begin_h: int, begin_w: int, count_d: int, count_h: int, count_w: int,
        stride: int, dilation: int, low: int, taps: int, margin: int, pitch: int, in_place: int, reach: int,
        share_d: int, share_h: int, shares: int, inverse: int, far: int, fresh: int,
    ) -> None:  # fmt: skip
        """Blocks lo..hi of planes x parts of their rows of outputs. `stride` 0 reads windows one by one."""
        row = scratch + thread * scratch_step
        if sums:
            around(row, 1, pitch, margin, end, zero())
        else:
            around(row, 1, pitch, margin, end, lowest())
        row += margin * size
        rows = out_d * out_h
        for block in range(lo, hi):
            part, plane = remainder(block, parts), quotient(block, parts)
            n, c = quotient(plane, channels), remainder(plane, channels)
            for r in range(quotient(rows * part, parts), quotient(rows * (part + 1), parts)):
                i, j = quotient(r, out_h), remainder(r, out_h)
                at = x + n * x_n + c * x_c + word(begin_d, i) + word(begin_h, j)
                to = y + n * y_n + c * y_c + i * y_d + j * y_h
                d, h = word(count_d, i), word(count_h, j)
                share = word(share_d, i) * word(share_h, j)
                if far:
                    bring_all(x + n * x_n + c * x_c + r * fresh + far, 0, 1, fresh)
                    bring_all(to + far, 0, 1, out_w * size)
                if not in_place:
                    if sums:
                        down_sum(row, at, 0, end, end, d, h, step_d, step_h)
                    else:
                        down_largest(row, at, 0, end, end, d, h, step_d, step_h)
                if stride == 0:
                    source = at if in_place else row
                    if sums:
                        windows_sum(to, source, out_w, begin_w, count_w, dilation, share, inverse, shares)
                    else:
                        windows_largest(to, source, out_w, begin_w, count_w, dilation)
                    continue
                for q in range(0, out_w, many):
                    p = q * stride - low
                    source = row
                    if in_place:
                        if p >= 0 and p + reach <= end:
                            source = at
                        elif sums:
                            down_sum(row, at, max(0, p), min(end, p + reach), end, d, h, step_d, step_h)
                        else:
                            down_largest(row, at, max(0, p), min(end, p + reach), end, d, h, step_d, step_h)
                    mask = first(out_w - q)
                    if sums:
                        along_sum(
                            to + q * size,
                            source + p * size,
                            taps,
                            stride,
                            dilation,
                            mask,
                            share,
                            inverse,
                            shares + q * size,
                        )
                    else:
                        along_largest(to + q * size, source + p * size, taps, stride, dilation, mask)

    return {"first_reduce": first_reduce}
