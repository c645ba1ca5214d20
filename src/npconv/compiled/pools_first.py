"""Pooling where the pixels of a row lie side by side: lanes are neighbouring windows.

A row of outputs is reduced over depth and height first, into a row of scratch with room around it, and then along the
row: a tap of windows that start 1 to 4 inputs apart is one load, or as many loads shuffled into one vector. Other
windows (larger strides, bins of unequal width) are read one by one through tables. A gradient is gathered in the same
way: inputs whose position leaves the same remainder by the stride are read by the same taps, so each remainder is one
sum of shifted loads, and the sums are woven together (the polyphase form).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .build import inner
from .emit import word
from .pools_lanes import Lanes, quotient, remainder
from .pools_last import FEW


def channels_first(lanes: Lanes) -> dict[str, Callable[..., Any]]:
    """first_reduce (maxima and sums), first_winners (maxima and where they are), first_back (both gradients)."""
    v = lanes.v
    size, width, many = v.size, v.width, v.lanes
    load, load_some, store, store_some, one, put = (
        lanes.load, lanes.load_some, lanes.store, lanes.store_some, lanes.one, lanes.put
    )  # fmt: skip
    plus, times, over, larger, splat = lanes.plus, lanes.times, lanes.over, lanes.larger, lanes.splat
    zero, lowest, nan, first, either, unordered = (
        lanes.zero, lanes.lowest, lanes.nan, lanes.first, lanes.either, lanes.unordered
    )  # fmt: skip
    wins, choose, choose_numbers, steps, shifted, same = (
        lanes.wins, lanes.choose, lanes.choose_numbers, lanes.steps, lanes.shifted, lanes.same
    )  # fmt: skip
    load_numbers, store_numbers, store_words = lanes.load_numbers, lanes.store_numbers, lanes.store_words
    number_at, put_number, put_word, as_element = lanes.number, lanes.put_number, lanes.put_word, lanes.as_element
    (_, every1, every2, every3, every4), (_, _, weave2, weave3, weave4) = lanes.every, lanes.weave
    span = lanes.span

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
    def divided(s: Any, share: int, inverse: int, shares: int) -> Any:
        """Sums over `share` times their entries of a table, or where all are one power of two, times its inverse."""
        if inverse:
            return times(s, splat(as_element(1) / as_element(share * inverse)))
        return over(s, times(splat(as_element(share)), load(shares)))

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
        stride: int, dilation: int, low: int, taps: int, margin: int, pitch: int, in_place: int,
        share_d: int, share_h: int, shares: int, inverse: int,
    ) -> None:  # fmt: skip
        """Blocks lo..hi of planes x parts of their rows of outputs. `stride` 0 reads windows one by one."""
        row = scratch + thread * scratch_step
        if sums:
            around(row, 1, pitch, margin, end, zero())
        else:
            around(row, 1, pitch, margin, end, lowest())
        row += margin * size
        reach = (taps - 1) * dilation + stride * many
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
                            to + q * size, source + p * size, taps, stride, dilation, mask, share, inverse, shares + q * size
                        )
                    else:
                        along_largest(to + q * size, source + p * size, taps, stride, dilation, mask)

    @inner
    def winners(
        row: int, pitch: int, taps: int, stride: int, dilation: int, d: int, h: int,
        number: int, number_d: int, number_h: int, number_w: int, start: Any, far: Any,
    ) -> Any:  # fmt: skip
        """First maxima in row-major order of a vector of windows: d x h rows of scratch, `start` their first inputs."""
        m = lowest()
        code = shifted(start, number)
        for i in range(d):
            for j in range(h):
                here = number + i * number_d + j * number_h
                at = row
                for _ in range(taps):
                    a = tap(at, stride)
                    new = wins(a, m)
                    m = choose(new, a, m)
                    code = choose_numbers(new, shifted(far, here), code)
                    at += dilation * size
                    here += dilation * number_w
                row += pitch
        return m, code

    @inner
    def window_winner(
        x: int, d: int, h: int, w: int, step_d: int, step_h: int, step_w: int,
        number: int, number_d: int, number_h: int, number_w: int,
    ) -> Any:  # fmt: skip
        """The first maximum of one window, and its number."""
        m, code = one(x), number
        for i in range(d):
            for j in range(h):
                at, here = x + i * step_d + j * step_h, number + i * number_d + j * number_h
                for _ in range(w):
                    a = one(at)
                    if (a > m or a != a) and m == m:
                        m, code = a, here
                    at += step_w
                    here += number_w
        return m, code

    @inner
    def copied(rows: int, pitch: int, x: int, end: int, d: int, h: int, step_d: int, step_h: int) -> None:
        """d x h rows of x into scratch, which holds minus infinity around them."""
        for i in range(d):
            for j in range(h):
                at = x + i * step_d + j * step_h
                for p in range(0, end, many):
                    store(rows + p * size, load_some(at + p * size, first(end - p), lowest()))
                rows += pitch

    @inner
    def row_winners(
        y: int, indices: int, codes: int, index_base: int, x: int, rows: int, pitch: int, end: int, d: int, h: int,
        step_d: int, step_h: int, out_w: int, begins: int, counts: int, from_w: int, start_w: int,
        stride: int, dilation: int, low: int, taps: int, number: int, number_d: int, number_h: int, number_w: int,
    ) -> None:  # fmt: skip
        """One row of maxima, of 64-bit indices, or of codes; an address of 0 is not written."""
        if stride == 0:
            for o in range(out_w):
                m, code = window_winner(
                    x + word(begins, o), d, h, word(counts, o), step_d, step_h, dilation * size,
                    number + word(from_w, o), number_d, number_h, dilation * number_w,
                )  # fmt: skip
                if codes:
                    put_number(codes + o * size, code)
                else:
                    put(y + o * size, m)
                    put_word(indices + 8 * o, code + index_base)
            return
        copied(rows, pitch, x, end, d, h, step_d, step_h)
        for q in range(0, out_w, many):
            p = q * stride - low
            m, code = winners(
                rows + p * size, pitch, taps, stride, dilation, d, h, number, number_d, number_h, number_w,
                load_numbers(start_w + q * size), steps(p * number_w, stride * number_w),
            )  # fmt: skip
            if codes:
                store_numbers(codes + q * size, code)
            else:
                mask = first(out_w - q)
                store_some(y + q * size, m, mask)
                store_words(indices + 8 * q, code, index_base, mask)

    def first_winners(
        lo: int, hi: int, thread: int,
        x: int, y: int, indices: int, scratch: int, scratch_step: int, parts: int, channels: int, end: int,
        out_d: int, out_h: int, out_w: int, x_n: int, x_c: int, step_d: int, step_h: int,
        y_n: int, y_c: int, y_d: int, y_h: int, begin_d: int, begin_h: int, begin_w: int, count_d: int, count_h: int, count_w: int,
        from_d: int, from_h: int, from_w: int, start_w: int, number_d: int, number_h: int, number_w: int,
        number_n: int, number_c: int, stride: int, dilation: int, low: int, taps: int, margin: int, pitch: int, held: int,
    ) -> None:  # fmt: skip
        """Blocks lo..hi of planes x parts of their rows of outputs: maxima and their 64-bit indices."""
        mine = scratch + thread * scratch_step
        around(mine, held, pitch, margin, end, lowest())
        rows = out_d * out_h
        for block in range(lo, hi):
            part, plane = remainder(block, parts), quotient(block, parts)
            n, c = quotient(plane, channels), remainder(plane, channels)
            for r in range(quotient(rows * part, parts), quotient(rows * (part + 1), parts)):
                i, j = quotient(r, out_h), remainder(r, out_h)
                place = n * y_n + c * y_c + i * y_d + j * y_h
                row_winners(
                    y + place, indices + quotient(place, size) * 8, 0, n * number_n + c * number_c,
                    x + n * x_n + c * x_c + word(begin_d, i) + word(begin_h, j), mine + margin * size, pitch, end,
                    word(count_d, i), word(count_h, j), step_d, step_h, out_w, begin_w, count_w, from_w, start_w,
                    stride, dilation, low, taps, word(from_d, i) + word(from_h, j), number_d, number_h, number_w,
                )  # fmt: skip

    @inner
    def gathered(
        values: int, codes: int, far: Any, maxima: int, d0: int, d1: int, list_d: int, h0: int, h1: int, list_h: int,
        box_d: int, box_h: int, out_h: int, pitch: int, tap0: int, tap1: int, reaches: int,
    ) -> Any:  # fmt: skip
        """What flows back to a vector of inputs that lie one stride apart, window by window in row-major order."""
        total = zero()
        for i in range(d0, d1):
            for j in range(h0, h1):
                slot = ((word(list_d, i) - box_d) * out_h + word(list_h, j) - box_h) * pitch
                for t in range(tap0, tap1):
                    at = slot - word(reaches, t) * size
                    if maxima:
                        won = same(load_numbers(codes + at), far)
                        total = choose(won, plus(total, load(values + at)), total)
                    else:
                        total = plus(total, load(values + at))
        return total

    @inner
    def woven(to: int, source: int, stride: int) -> None:
        if stride == 1:
            store(to, load(source))
        elif stride == 2:
            weave2(to, source)
        elif stride == 3:
            weave3(to, source)
        else:
            weave4(to, source)

    def first_back(
        lo: int, hi: int, thread: int,
        x: int, g: int, dx: int, scratch: int, scratch_step: int, maxima: int,
        channels: int, boxes_d: int, boxes_h: int, table_d: int, table_h: int, end: int, in_h: int, in_w: int, out_w: int,
        x_n: int, x_c: int, step_d: int, step_h: int, g_n: int, g_c: int, g_d: int, g_h: int,
        dx_n: int, dx_c: int, dx_d: int, dx_h: int,
        begin_d: int, begin_h: int, begin_w: int, count_d: int, count_h: int, count_w: int,
        from_d: int, from_h: int, from_w: int, start_w: int, number_d: int, number_h: int, number_w: int,
        stride: int, dilation: int, low: int, taps: int, margin: int, pitch: int, held: int,
        row: int, slots: int, before: int, remainders: int, reaches: int,
        open_d: int, open_h: int, open_w: int, list_d: int, list_h: int, list_w: int,
        share_d: int, share_h: int, shares: int, inverse: int,
    ) -> None:  # fmt: skip
        """Blocks lo..hi of planes x boxes of their rows of inputs.

        Scratch: `held` padded rows of x of `pitch` bytes, rows of g or of its parts (`slots` rows of `row` bytes, `before`
        numbers of room before each), codes as many, and the vectors that are woven.
        """
        mine = scratch + thread * scratch_step
        values = mine + held * pitch
        codes = values + slots * row
        mixed = codes + slots * row
        around(mine, held, pitch, margin, end, lowest())
        fill(values, codes, zero())
        for block in range(lo, hi):
            b_h, rest = remainder(block, boxes_h), quotient(block, boxes_h)
            b_d, plane = remainder(rest, boxes_d), quotient(rest, boxes_d)
            n, c = quotient(plane, channels), remainder(plane, channels)
            box_d, box_h = table_d + 32 * b_d, table_h + 32 * b_h
            o_d, o_h = word(box_d, 2), word(box_h, 2)
            out_h = word(box_h, 3) - o_h
            slot = before * size
            for i in range(o_d, word(box_d, 3)):
                for j in range(o_h, word(box_h, 3)):
                    at = g + n * g_n + c * g_c + i * g_d + j * g_h
                    share = word(share_d, i) * word(share_h, j)
                    for q in range(0, out_w, many):
                        value = load_some(at + q * size, first(out_w - q), zero())
                        if not maxima:
                            value = divided(value, share, inverse, shares + q * size)
                        store(values + slot + q * size, value)
                    if maxima:
                        row_winners(
                            0, 0, codes + slot, 0, x + n * x_n + c * x_c + word(begin_d, i) + word(begin_h, j),
                            mine + margin * size, pitch, end, word(count_d, i), word(count_h, j), step_d, step_h,
                            out_w, begin_w, count_w, from_w, start_w, stride, dilation, low, taps,
                            word(from_d, i) + word(from_h, j), number_d, number_h, number_w,
                        )  # fmt: skip
                    slot += row
            for i in range(word(box_d, 0), word(box_d, 1)):
                d0, d1 = word(open_d, i), word(open_d, i + 1)
                for j in range(word(box_h, 0), word(box_h, 1)):
                    h0, h1 = word(open_h, j), word(open_h, j + 1)
                    to = dx + n * dx_n + c * dx_c + i * dx_d + j * dx_h
                    position = (i * in_h + j) * in_w
                    if stride == 0:
                        for k in range(in_w):
                            s = as_element(0)
                            for a in range(d0, d1):
                                for b in range(h0, h1):
                                    at = ((word(list_d, a) - o_d) * out_h + word(list_h, b) - o_h) * row + before * size
                                    for e in range(word(open_w, k), word(open_w, k + 1)):
                                        o = at + word(list_w, e) * size
                                        if not maxima or number_at(codes + o) == position + k:
                                            s += one(values + o)
                            put(to + k * size, s)
                        continue
                    q = 0
                    while q * stride - low < in_w:
                        p = q * stride - low
                        at = (before + q) * size
                        for r in range(stride):
                            total = gathered(
                                values + at, codes + at, steps(position + p + r, stride), maxima, d0, d1, list_d, h0, h1, list_h,
                                o_d, o_h, out_h, row, word(remainders, r), word(remainders, r + 1), reaches,
                            )  # fmt: skip
                            store(mixed + r * width, total)
                        if p >= 0 and p + stride * many <= in_w:
                            woven(to + p * size, mixed, stride)
                        else:
                            woven(mixed + 4 * width, mixed, stride)
                            for r in range(stride):
                                part = p + r * many
                                mask = span(-part, in_w - part)
                                store_some(to + part * size, load(mixed + (4 + r) * width), mask)
                        q += many

    return {"first_reduce": first_reduce, "first_winners": first_winners, "first_back": first_back}
