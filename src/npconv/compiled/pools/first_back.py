"""The gradient of means where the pixels of a row lie side by side: lanes are neighbouring inputs.

Inputs whose position leaves the same remainder by the stride are read by the same taps, so each remainder is one sum of
shifted loads, and the sums are woven together (the polyphase form). Where windows are irregular, inputs go one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..build import inner
from ..emit import word
from ..packing import bring_all
from ..target import Target
from .lanes import Lanes, quotient, remainder
from .rows import row_words


def kernels(dtype: str, target: Target) -> dict[str, Callable[..., Any]]:
    """From g over its divisors to the inputs of its windows."""
    lanes = Lanes.of(dtype, target)
    size, width, many = lanes.v.size, lanes.v.width, lanes.v.lanes
    load, load_some, store, store_some, one, put = (
        lanes.load,
        lanes.load_some,
        lanes.store,
        lanes.store_some,
        lanes.one,
        lanes.put,
    )
    zero, plus, first, span, as_element = lanes.zero, lanes.plus, lanes.first, lanes.span, lanes.as_element
    (_, _, weave2, weave3, weave4) = lanes.weave
    _, fill, _, divided = row_words(lanes)

    @inner
    def gathered(
        parts: int, d0: int, d1: int, list_d: int, h0: int, h1: int, list_h: int,
        box_d: int, box_h: int, out_h: int, row: int, tap0: int, tap1: int, reaches: int,
    ) -> Any:  # fmt: skip
        """What flows back to a vector of inputs that lie one stride apart, window by window in row-major order."""
        total = zero()
        for i in range(d0, d1):
            for j in range(h0, h1):
                slot = parts + ((word(list_d, i) - box_d) * out_h + word(list_h, j) - box_h) * row
                for t in range(tap0, tap1):
                    total = plus(total, load(slot - word(reaches, t) * size))
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
        g: int, dx: int, scratch: int, scratch_step: int, channels: int, boxes_d: int, boxes_h: int, table_d: int, table_h: int,
        in_w: int, out_w: int, g_n: int, g_c: int, g_d: int, g_h: int, dx_n: int, dx_c: int, dx_d: int, dx_h: int,
        stride: int, low: int, row: int, slots: int, before: int, remainders: int, reaches: int,
        open_d: int, open_h: int, open_w: int, list_d: int, list_h: int, list_w: int,
        share_d: int, share_h: int, shares: int, inverse: int, far: int,
    ) -> None:  # fmt: skip
        """Blocks lo..hi of planes x boxes of their rows of inputs.

        Scratch: rows of g over its divisors (`slots` of `row` bytes, `before` numbers of room before each), and the
        vectors that are woven.
        """
        parts = scratch + thread * scratch_step
        mixed = parts + slots * row
        fill(parts, mixed, zero())
        for block in range(lo, hi):
            b_h, rest = remainder(block, boxes_h), quotient(block, boxes_h)
            b_d, plane = remainder(rest, boxes_d), quotient(rest, boxes_d)
            n, c = quotient(plane, channels), remainder(plane, channels)
            box_d, box_h = table_d + 32 * b_d, table_h + 32 * b_h
            o_d, o_h = word(box_d, 2), word(box_h, 2)
            out_h = word(box_h, 3) - o_h
            slot = parts + before * size
            for i in range(o_d, word(box_d, 3)):
                for j in range(o_h, word(box_h, 3)):
                    at = g + n * g_n + c * g_c + i * g_d + j * g_h
                    share = word(share_d, i) * word(share_h, j)
                    if far:
                        bring_all(at + far, 0, 1, out_w * size)
                    for q in range(0, out_w, many):
                        value = load_some(at + q * size, first(out_w - q), zero())
                        store(slot + q * size, divided(value, share, inverse, shares + q * size))
                    slot += row
            for i in range(word(box_d, 0), word(box_d, 1)):
                d0, d1 = word(open_d, i), word(open_d, i + 1)
                for j in range(word(box_h, 0), word(box_h, 1)):
                    h0, h1 = word(open_h, j), word(open_h, j + 1)
                    to = dx + n * dx_n + c * dx_c + i * dx_d + j * dx_h
                    if far:
                        bring_all(to + far, 0, 1, in_w * size)
                    if stride == 0:
                        for k in range(in_w):
                            s = as_element(0)
                            for a in range(d0, d1):
                                for b in range(h0, h1):
                                    at = parts + ((word(list_d, a) - o_d) * out_h + word(list_h, b) - o_h) * row
                                    for e in range(word(open_w, k), word(open_w, k + 1)):
                                        s += one(at + word(list_w, e) * size)
                            put(to + k * size, s)
                        continue
                    q = 0
                    while q * stride - low < in_w:
                        p = q * stride - low
                        for r in range(stride):
                            total = gathered(
                                parts + (before + q) * size, d0, d1, list_d, h0, h1, list_h, o_d, o_h, out_h, row,
                                word(remainders, r), word(remainders, r + 1), reaches,
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

    return {"first_back": first_back}
