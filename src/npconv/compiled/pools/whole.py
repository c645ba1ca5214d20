"""Pooling of whole planes that lie in one piece: lanes are neighbouring inputs of the one window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..build import inner
from ..target import Target
from .lanes import Lanes, quotient, remainder
from .rows import FEW


def kernels(dtype: str, target: Target) -> dict[str, Callable[..., Any]]:
    """Maxima and means, and both gradients."""
    lanes = Lanes.of(dtype, target)
    v = lanes.v
    size, width, many = v.size, v.width, v.lanes
    load, load_some, store, store_some, one, put = (
        lanes.load, lanes.load_some, lanes.store, lanes.store_some, lanes.one, lanes.put
    )  # fmt: skip
    plus, larger, splat, zero, lowest, first = (
        lanes.plus, lanes.larger, lanes.splat, lanes.zero, lanes.lowest, lanes.first
    )  # fmt: skip
    unordered, either, any_of = lanes.unordered, lanes.either, lanes.any
    sum_of, largest_of, as_element, nan = lanes.sum_of, lanes.largest_of, lanes.as_element, lanes.nan

    @inner
    def mean(x: int, count: int, divisor: int) -> Any:
        """Runs of FEW vectors, then of FEW runs, then all, then the lanes."""
        whole = quotient(count, many)
        t = load_some(x + whole * width, first(count - whole * many), zero())
        for outer in range(0, whole, FEW * FEW):
            s = zero()
            for begin in range(outer, min(whole, outer + FEW * FEW), FEW):
                r = load(x + begin * width)
                for i in range(begin + 1, min(whole, begin + FEW)):
                    r = plus(r, load(x + i * width))
                s = plus(s, r)
            t = plus(t, s)
        return sum_of(t) / as_element(divisor)

    @inner
    def largest(x: int, count: int) -> Any:
        """The largest element; NaN if there is one."""
        whole = quotient(count, many)
        m = load_some(x + whole * width, first(count - whole * many), lowest())
        u = unordered(m, m)
        k = lowest()
        i = 0
        while i + 2 <= whole:
            a, b = load(x + i * width), load(x + i * width + width)
            m, k = larger(a, m), larger(b, k)
            u = either(u, unordered(a, b))
            i += 2
        if i < whole:
            a = load(x + i * width)
            m = larger(a, m)
            u = either(u, unordered(a, a))
        if any_of(u):
            return largest_of(nan())
        return largest_of(larger(k, m))

    @inner
    def find(x: int, count: int, value: Any) -> int:
        """The first element that is `value`, or the first NaN if it is that."""
        i = 0
        while i < count:
            a = one(x + i * size)
            if a == value or (a != a and value != value):
                return i
            i += 1
        return 0

    def whole_reduce(
        lo: int, hi: int, thread: int, x: int, y: int, sums: int, channels: int, count: int, divisor: int,
        x_n: int, x_c: int, y_n: int, y_c: int,
    ) -> None:  # fmt: skip
        """Blocks lo..hi of planes."""
        for plane in range(lo, hi):
            n, c = quotient(plane, channels), remainder(plane, channels)
            at = x + n * x_n + c * x_c
            put(y + n * y_n + c * y_c, mean(at, count, divisor) if sums else largest(at, count))

    def whole_back(
        lo: int, hi: int, thread: int, x: int, g: int, dx: int, maxima: int, channels: int, count: int, divisor: int,
        x_n: int, x_c: int, g_n: int, g_c: int, dx_n: int, dx_c: int,
    ) -> None:  # fmt: skip
        """Blocks lo..hi of planes: g to the first maximum, or in equal shares to all."""
        for plane in range(lo, hi):
            n, c = quotient(plane, channels), remainder(plane, channels)
            to, value = dx + n * dx_n + c * dx_c, one(g + n * g_n + c * g_c)
            share = zero() if maxima else splat(value / as_element(divisor))
            whole = quotient(count, many)
            for i in range(whole):
                store(to + i * width, share)
            store_some(to + whole * width, share, first(count - whole * many))
            if maxima:
                at = x + n * x_n + c * x_c
                put(to + find(at, count, largest(at, count)) * size, value + as_element(0))

    return {"whole_reduce": whole_reduce, "whole_back": whole_back}
