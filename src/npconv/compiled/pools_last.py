"""Pooling where the channels of a pixel lie side by side: lanes are channels.

Every window is read through tables, one per axis (depth, height, width): where it begins in bytes, how many inputs it
reads, and for messages back, which windows read an input. So padding, ceiling, dilation and bins of unequal width need
no case of their own. Blocks are rows of output pixels, or boxes of input pixels for a gradient, and runs of channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .build import inner
from .emit import word
from .pools_lanes import Lanes, quotient, remainder

#: Numbers added one after the other before their sum is added to the next: keeps the error at a few u.
FEW = 8


def channels_last(lanes: Lanes) -> dict[str, Callable[..., Any]]:
    """last_reduce (maxima and sums), last_winners (maxima and where they are), last_back (both gradients)."""
    v = lanes.v
    size, width, many = v.size, v.width, v.lanes
    load, load_some, store, store_some = lanes.load, lanes.load_some, lanes.store, lanes.store_some
    plus, times, over, larger, splat = lanes.plus, lanes.times, lanes.over, lanes.larger, lanes.splat
    zero, lowest, nan, first, either, unordered = (
        lanes.zero, lanes.lowest, lanes.nan, lanes.first, lanes.either, lanes.unordered
    )  # fmt: skip
    wins, choose, choose_numbers, steps, same = (
        lanes.wins, lanes.choose, lanes.choose_numbers, lanes.steps, lanes.same
    )  # fmt: skip
    load_numbers, store_numbers, store_words = lanes.load_numbers, lanes.store_numbers, lanes.store_words
    as_element, plus_numbers = lanes.as_element, lanes.plus_numbers
    load_words, lacks, none, put_word = lanes.load_words, lanes.lacks, lanes.none, lanes.put_word

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
    def largest_one(
        to: int, x: int, d: int, h: int, w: int, step_d: int, step_h: int, step_w: int, count: int
    ) -> None:
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
    def sum_four(
        to: int, x: int, d: int, h: int, w: int, step_d: int, step_h: int, step_w: int, divisor: int
    ) -> None:
        """The means of four vectors of channels; columns in runs of `FEW`, then rows."""
        t0, t1, t2, t3 = zero(), zero(), zero(), zero()
        if d == 1 and h <= FEW and w <= FEW:
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
        if divisor & (divisor - 1):
            t = over(t, splat(as_element(divisor)))
        else:
            t = times(t, splat(as_element(1) / as_element(divisor)))
        store_some(to, t, mask)

    def last_reduce(
        lo: int, hi: int, thread: int,
        x: int, y: int, sums: int, chunks: int, parts: int, channels: int, out_d: int, out_h: int, out_w: int,
        x_n: int, step_d: int, step_h: int, step_w: int, y_n: int, y_d: int, y_h: int, y_w: int,
        begin_d: int, begin_h: int, begin_w: int, count_d: int, count_h: int, count_w: int,
        share_d: int, share_h: int, share_w: int,
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

    def last_winners(
        lo: int, hi: int, thread: int,
        x: int, y: int, indices: int, chunks: int, channels: int, out_d: int, out_h: int, out_w: int,
        x_n: int, step_d: int, step_h: int, step_w: int, y_n: int, y_d: int, y_h: int, y_w: int,
        begin_d: int, begin_h: int, begin_w: int, count_d: int, count_h: int, count_w: int,
        from_d: int, from_h: int, from_w: int, number_d: int, number_h: int, number_w: int, number_n: int, number_c: int,
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

    @inner
    def shared(to: int, g: int, channels: int, divisor: int) -> None:
        """Every g over its divisor, whole vectors."""
        exact = divisor & (divisor - 1) == 0
        by = splat(as_element(1) / as_element(divisor) if exact else as_element(divisor))
        for c in range(0, channels, many):
            value = load_some(g + c * size, first(min(many, channels - c)), zero())
            store(to + c * size, times(value, by) if exact else over(value, by))

    @inner
    def gathered(
        dx: int, g: int, held: int, pitch: int, position: int, maxima: int,
        d0: int, d1: int, list_d: int, h0: int, h1: int, list_h: int, w0: int, w1: int, list_w: int,
        g_d: int, g_h: int, g_w: int, box_d: int, box_h: int, box_w: int, out_h: int, out_w: int, mask: Any,
    ) -> None:  # fmt: skip
        """What flows back to one vector of channels of one input pixel, window by window in row-major order."""
        total = zero()
        mine = steps(position, 0)
        for i in range(d0, d1):
            o_d = word(list_d, i)
            for j in range(h0, h1):
                o_h = word(list_h, j)
                for k in range(w0, w1):
                    o_w = word(list_w, k)
                    slot = ((o_d - box_d) * out_h + o_h - box_h) * out_w + o_w - box_w
                    if maxima:
                        value = load_some(g + o_d * g_d + o_h * g_h + o_w * g_w, mask, zero())
                        won = same(load_numbers(held + slot * pitch), mine)
                        total = choose(won, plus(total, value), total)
                    else:
                        total = plus(total, load(held + slot * pitch))
        store_some(dx, total, mask)

    @inner
    def gathered_four(
        dx: int, g: int, held: int, pitch: int, position: int, maxima: int,
        d0: int, d1: int, list_d: int, h0: int, h1: int, list_h: int, w0: int, w1: int, list_w: int,
        g_d: int, g_h: int, g_w: int, box_d: int, box_h: int, box_w: int, out_h: int, out_w: int,
    ) -> None:  # fmt: skip
        """The same for four vectors of channels."""
        t0, t1, t2, t3 = zero(), zero(), zero(), zero()
        mine = steps(position, 0)
        for i in range(d0, d1):
            o_d = word(list_d, i)
            for j in range(h0, h1):
                o_h = word(list_h, j)
                base = g + o_d * g_d + o_h * g_h
                row = held + (((o_d - box_d) * out_h + o_h - box_h) * out_w - box_w) * pitch
                for k in range(w0, w1):
                    o_w = word(list_w, k)
                    at, slot = base + o_w * g_w, row + o_w * pitch
                    if maxima:
                        t0 = choose(same(load_numbers(slot), mine), plus(t0, load(at)), t0)
                        t1 = choose(same(load_numbers(slot + width), mine), plus(t1, load(at + width)), t1)
                        t2 = choose(same(load_numbers(slot + 2 * width), mine), plus(t2, load(at + 2 * width)), t2)
                        t3 = choose(same(load_numbers(slot + 3 * width), mine), plus(t3, load(at + 3 * width)), t3)
                    else:
                        t0, t1 = plus(t0, load(slot)), plus(t1, load(slot + width))
                        t2, t3 = plus(t2, load(slot + 2 * width)), plus(t3, load(slot + 3 * width))
        store(dx, t0)
        store(dx + width, t1)
        store(dx + 2 * width, t2)
        store(dx + 3 * width, t3)

    def last_back(
        lo: int, hi: int, thread: int,
        x: int, g: int, dx: int, scratch: int, scratch_step: int, maxima: int,
        parts: int, channels: int, boxes_d: int, boxes_h: int, boxes_w: int, table_d: int, table_h: int, table_w: int,
        x_n: int, step_d: int, step_h: int, step_w: int,
        g_n: int, g_d: int, g_h: int, g_w: int, dx_n: int, dx_d: int, dx_h: int, dx_w: int,
        begin_d: int, begin_h: int, begin_w: int, count_d: int, count_h: int, count_w: int,
        from_d: int, from_h: int, from_w: int, number_d: int, number_h: int, number_w: int, in_h: int, in_w: int,
        open_d: int, open_h: int, open_w: int, list_d: int, list_h: int, list_w: int,
        share_d: int, share_h: int, share_w: int,
    ) -> None:  # fmt: skip
        """Blocks lo..hi of samples x parts of the channels x boxes of inputs."""
        mine = scratch + thread * scratch_step
        vectors = quotient(channels + many - 1, many)
        for block in range(lo, hi):
            b_w, rest = remainder(block, boxes_w), quotient(block, boxes_w)
            b_h, rest = remainder(rest, boxes_h), quotient(rest, boxes_h)
            b_d, rest = remainder(rest, boxes_d), quotient(rest, boxes_d)
            part, n = remainder(rest, parts), quotient(rest, parts)
            first_vector, last_vector = quotient(vectors * part, parts), quotient(vectors * (part + 1), parts)
            start, stop = first_vector * many, min(channels, last_vector * many)
            pitch = (last_vector - first_vector) * width
            box_d, box_h, box_w = table_d + 32 * b_d, table_h + 32 * b_h, table_w + 32 * b_w
            o_d, o_h, o_w = word(box_d, 2), word(box_h, 2), word(box_w, 2)
            out_h, out_w = word(box_h, 3) - o_h, word(box_w, 3) - o_w
            slot = mine
            for i in range(o_d, word(box_d, 3)):
                for j in range(o_h, word(box_h, 3)):
                    share = word(share_d, i) * word(share_h, j)
                    for k in range(o_w, word(box_w, 3)):
                        if maxima:
                            at = x + n * x_n + word(begin_d, i) + word(begin_h, j) + word(begin_w, k)
                            here = word(from_d, i) + word(from_h, j) + word(from_w, k)
                            d, h, w = word(count_d, i), word(count_h, j), word(count_w, k)
                            for c in range(start, stop, many):
                                mask = first(min(many, stop - c))
                                _, code = winner(
                                    at + c * size, d, h, w, step_d, step_h, step_w, here, number_d, number_h, number_w, mask
                                )
                                store_numbers(slot + (c - start) * size, code)
                        else:
                            divisor = share * word(share_w, k)
                            at = g + n * g_n + i * g_d + j * g_h + k * g_w
                            shared(slot, at + start * size, stop - start, divisor)
                        slot += pitch
            for i in range(word(box_d, 0), word(box_d, 1)):
                for j in range(word(box_h, 0), word(box_h, 1)):
                    for k in range(word(box_w, 0), word(box_w, 1)):
                        to = dx + n * dx_n + i * dx_d + j * dx_h + k * dx_w
                        c = start
                        while c + 4 * many <= stop:
                            gathered_four(
                                to + c * size, g + n * g_n + c * size, mine + (c - start) * size, pitch,
                                (i * in_h + j) * in_w + k, maxima,
                                word(open_d, i), word(open_d, i + 1), list_d, word(open_h, j), word(open_h, j + 1), list_h,
                                word(open_w, k), word(open_w, k + 1), list_w, g_d, g_h, g_w, o_d, o_h, o_w, out_h, out_w,
                            )  # fmt: skip
                            c += 4 * many
                        while c < stop:
                            gathered(
                                to + c * size, g + n * g_n + c * size, mine + (c - start) * size, pitch,
                                (i * in_h + j) * in_w + k, maxima,
                                word(open_d, i), word(open_d, i + 1), list_d, word(open_h, j), word(open_h, j + 1), list_h,
                                word(open_w, k), word(open_w, k + 1), list_w,
                                g_d, g_h, g_w, o_d, o_h, o_w, out_h, out_w, first(min(many, stop - c)),
                            )  # fmt: skip
                            c += many

    def last_tiled(
        lo: int, hi: int, thread: int,
        x: int, g: int, dx: int, places: int, outside: int, mode: int, chunks: int, parts: int, channels: int,
        out_d: int, out_h: int, out_w: int, x_n: int, step_d: int, step_h: int, step_w: int,
        g_n: int, g_d: int, g_h: int, g_w: int, dx_n: int, places_n: int, places_d: int, places_h: int, places_w: int,
        begin_d: int, begin_h: int, begin_w: int, count_d: int, count_h: int, count_w: int,
        from_d: int, from_h: int, from_w: int, number_d: int, number_h: int, number_w: int,
        share_d: int, share_h: int, share_w: int,
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

    return {
        "last_reduce": last_reduce, "last_winners": last_winners, "last_back": last_back, "last_tiled": last_tiled
    }  # fmt: skip
