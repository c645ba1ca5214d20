"""Both gradients where the channels of a pixel lie side by side: lanes are channels, blocks are boxes of inputs.

First come the windows that read the box: the places of their maxima, or their shares, go to scratch. Then every input
gathers from the windows that read it, in row-major order, so that the sum is the same however blocks are cut.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..build import inner
from ..emit import word
from ..target import Target
from .channels import channel_winner
from .lanes import Lanes, quotient, remainder


def kernels(dtype: str, target: Target) -> dict[str, Callable[..., Any]]:
    """From g to the maxima of x, or over its divisors to all inputs."""
    lanes = Lanes.of(dtype, target)
    size, width, many = lanes.v.size, lanes.v.width, lanes.v.lanes
    load, load_some, store, store_some, load_numbers, store_numbers = (
        lanes.load,
        lanes.load_some,
        lanes.store,
        lanes.store_some,
        lanes.load_numbers,
        lanes.store_numbers,
    )
    splat, zero, plus, times, over, first = lanes.splat, lanes.zero, lanes.plus, lanes.times, lanes.over, lanes.first
    choose, steps, same, as_element = lanes.choose, lanes.steps, lanes.same, lanes.as_element
    winner = channel_winner(lanes)

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
                                    at + c * size,
                                    d,
                                    h,
                                    w,
                                    step_d,
                                    step_h,
                                    step_w,
                                    here,
                                    number_d,
                                    number_h,
                                    number_w,
                                    mask,
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

    return {"last_back": last_back}
