"""Pooling where the channels of a pixel lie side by side: lanes are channels.

Every window is read through tables, one per axis (depth, height, width): where it begins in bytes, how many inputs it
reads, and for messages back, which windows read an input. So padding, ceiling, dilation and bins of unequal width need
no case of their own. Blocks are rows of output pixels, or boxes of input pixels for a gradient, and runs of channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..build import inner
from ..emit import word
from ..packing import bring_all
from ..target import Target
from .lanes import Lanes, quotient, remainder
from .rows import FEW


def kernels(dtype: str, target: Target) -> dict[str, Callable[..., Any]]:
    """Maxima and means."""
    lanes = Lanes.of(dtype, target)
    size, width, many = lanes.v.size, lanes.v.width, lanes.v.lanes
    load, load_some, store, store_some, splat, nan = (
        lanes.load,
        lanes.load_some,
        lanes.store,
        lanes.store_some,
        lanes.splat,
        lanes.nan,
    )
    zero, plus, times, over, larger, first = lanes.zero, lanes.plus, lanes.times, lanes.over, lanes.larger, lanes.first
    unordered, either, choose, as_element = lanes.unordered, lanes.either, lanes.choose, lanes.as_element

    @inner
    def largest_four(to: int, x: int, d: int, h: int, w: int, step_d: int, step_h: int, step_w: int) -> None:
        """The maxima of four vectors of channels."""
        m0, m1, m2, m3 = load(x), load(x + width), load(x + 2 * width), load(x + 3 * width)
        u0, u1, u2, u3 = unordered(m0, m0), unordered(m1, m1), unordered(m2, m2), unordered(m3, m3)
        for k in range(w):
            for j in range(h):
                at = x + k * step_w + j * step_h
                for _ in range(d):
                    a, b, c, e = load(at), load(at + width), load(at + 2 * width), load(at + 3 * width)
                    m0, m1, m2, m3 = larger(a, m0), larger(b, m1), larger(c, m2), larger(e, m3)
                    u0, u1 = either(u0, unordered(a, a)), either(u1, unordered(b, b))
                    u2, u3 = either(u2, unordered(c, c)), either(u3, unordered(e, e))
                    at += step_d
        store(to, choose(u0, nan(), m0))
        store(to + width, choose(u1, nan(), m1))
        store(to + 2 * width, choose(u2, nan(), m2))
        store(to + 3 * width, choose(u3, nan(), m3))

    @inner
    def largest_one(to: int, x: int, d: int, h: int, w: int, step_d: int, step_h: int, step_w: int, count: int) -> None:
        """The maxima of the first `count` channels of a vector."""
        mask = first(count)
        m = load_some(x, mask, zero())
        u = unordered(m, m)
        for k in range(w):
            for j in range(h):
                at = x + k * step_w + j * step_h
                for _ in range(d):
                    a = load_some(at, mask, zero())
                    m = larger(a, m)
                    u = either(u, unordered(a, a))
                    at += step_d
        store_some(to, choose(u, nan(), m), mask)

    @inner
    def sum_four(to: int, x: int, d: int, h: int, w: int, step_d: int, step_h: int, step_w: int, divisor: int) -> None:
        """The means of four vectors of channels; columns in runs of `FEW`, then rows."""
        t0, t1, t2, t3 = zero(), zero(), zero(), zero()
        if d == 1 and 0 < h <= FEW and w <= FEW:
            for k in range(w):
                at = x + k * step_w
                c0, c1, c2, c3 = load(at), load(at + width), load(at + 2 * width), load(at + 3 * width)
                for _ in range(1, h):
                    at += step_h
                    c0, c1 = plus(c0, load(at)), plus(c1, load(at + width))
                    c2, c3 = plus(c2, load(at + 2 * width)), plus(c3, load(at + 3 * width))
                t0, t1, t2, t3 = plus(t0, c0), plus(t1, c1), plus(t2, c2), plus(t3, c3)
        else:
            for begin_w in range(0, w, FEW):
                r0, r1, r2, r3 = zero(), zero(), zero(), zero()
                for k in range(begin_w, min(w, begin_w + FEW)):
                    c0, c1, c2, c3 = zero(), zero(), zero(), zero()
                    for i in range(d):
                        for begin_h in range(0, h, FEW):
                            at = x + i * step_d + begin_h * step_h + k * step_w
                            p0, p1, p2, p3 = load(at), load(at + width), load(at + 2 * width), load(at + 3 * width)
                            for _ in range(begin_h + 1, min(h, begin_h + FEW)):
                                at += step_h
                                p0, p1 = plus(p0, load(at)), plus(p1, load(at + width))
                                p2, p3 = plus(p2, load(at + 2 * width)), plus(p3, load(at + 3 * width))
                            c0, c1, c2, c3 = plus(c0, p0), plus(c1, p1), plus(c2, p2), plus(c3, p3)
                    r0, r1, r2, r3 = plus(r0, c0), plus(r1, c1), plus(r2, c2), plus(r3, c3)
                t0, t1, t2, t3 = plus(t0, r0), plus(t1, r1), plus(t2, r2), plus(t3, r3)
        if divisor & (divisor - 1):
            by = splat(as_element(divisor))
            t0, t1, t2, t3 = over(t0, by), over(t1, by), over(t2, by), over(t3, by)
        else:  # a power of two: the product is the same number
            by = splat(as_element(1) / as_element(divisor))
            t0, t1, t2, t3 = times(t0, by), times(t1, by), times(t2, by), times(t3, by)
        store(to, t0)
        store(to + width, t1)
        store(to + 2 * width, t2)
        store(to + 3 * width, t3)

    @inner
    def sum_one(
        to: int, x: int, d: int, h: int, w: int, step_d: int, step_h: int, step_w: int, divisor: int, count: int
    ) -> None:
        """The means of the first `count` channels of a vector, in the same order."""
        mask = first(count)
        t = zero()
        for begin_w in range(0, w, FEW):
            r = zero()
            for k in range(begin_w, min(w, begin_w + FEW)):
                c = zero()
                for i in range(d):
                    for begin_h in range(0, h, FEW):
                        at = x + i * step_d + begin_h * step_h + k * step_w
                        p = load_some(at, mask, zero())
                        for _ in range(begin_h + 1, min(h, begin_h + FEW)):
                            at += step_h
                            p = plus(p, load_some(at, mask, zero()))
                        c = plus(c, p)
                r = plus(r, c)
            t = plus(t, r)
        exact = divisor & (divisor - 1) == 0
        t = times(t, splat(as_element(1) / as_element(divisor))) if exact else over(t, splat(as_element(divisor)))
        store_some(to, t, mask)

    def last_reduce(
        lo: int, hi: int, thread: int,
        x: int, y: int, sums: int, chunks: int, parts: int, channels: int, out_d: int, out_h: int, out_w: int,
        x_n: int, step_d: int, step_h: int, step_w: int, y_n: int, y_d: int, y_h: int, y_w: int,
        begin_d: int, begin_h: int, begin_w: int, count_d: int, count_h: int, count_w: int,
        share_d: int, share_h: int, share_w: int, far: int, fresh: int,
    ) -> None:  # fmt: skip
        """Blocks lo..hi of rows of output pixels x chunks of a row x parts of the channels."""
        vectors = quotient(channels + many - 1, many)
        for block in range(lo, hi):
            part, row = remainder(block, parts), quotient(block, parts)
            chunk, row = remainder(row, chunks), quotient(row, chunks)
            j, rest = remainder(row, out_h), quotient(row, out_h)
            i, n = remainder(rest, out_d), quotient(rest, out_d)
            start = quotient(vectors * part, parts) * many
            stop = min(channels, quotient(vectors * (part + 1), parts) * many)
            d, h = word(count_d, i), word(count_h, j)
            share = word(share_d, i) * word(share_h, j)
            base = x + n * x_n + word(begin_d, i) + word(begin_h, j)
            target = y + n * y_n + i * y_d + j * y_h
            for k in range(quotient(out_w * chunk, chunks), quotient(out_w * (chunk + 1), chunks)):
                at, to, w = base + word(begin_w, k), target + k * y_w, word(count_w, k)
                divisor = share * word(share_w, k)
                if far and h > 0:
                    bring_all(at + far, step_h, h, fresh)
                    bring_all(to + far, 0, 1, (stop - start) * size)
                c = start
                while c + 4 * many <= stop:
                    if sums:
                        sum_four(to + c * size, at + c * size, d, h, w, step_d, step_h, step_w, divisor)
                    else:
                        largest_four(to + c * size, at + c * size, d, h, w, step_d, step_h, step_w)
                    c += 4 * many
                while c < stop:
                    count = min(many, stop - c)
                    if sums:
                        sum_one(to + c * size, at + c * size, d, h, w, step_d, step_h, step_w, divisor, count)
                    else:
                        largest_one(to + c * size, at + c * size, d, h, w, step_d, step_h, step_w, count)
                    c += many

    return {"last_reduce": last_reduce}
