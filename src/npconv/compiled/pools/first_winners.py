"""Maxima and where they are, where the pixels of a row lie side by side: lanes are neighbouring windows."""

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
    """Maxima and their 64-bit indices."""
    lanes = Lanes.of(dtype, target)
    size, many = lanes.v.size, lanes.v.lanes
    load_some, store, store_some, one, put, load_numbers = (
        lanes.load_some,
        lanes.store,
        lanes.store_some,
        lanes.one,
        lanes.put,
        lanes.load_numbers,
    )
    put_word, store_words, lowest, first, wins, choose = (
        lanes.put_word,
        lanes.store_words,
        lanes.lowest,
        lanes.first,
        lanes.wins,
        lanes.choose,
    )
    choose_numbers, steps, shifted = lanes.choose_numbers, lanes.steps, lanes.shifted
    tap, _, around, _ = row_words(lanes)

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
        y: int, indices: int, index_base: int, x: int, rows: int, pitch: int, end: int, d: int, h: int,
        step_d: int, step_h: int, out_w: int, begins: int, counts: int, from_w: int, start_w: int,
        stride: int, dilation: int, low: int, taps: int, number: int, number_d: int, number_h: int, number_w: int,
    ) -> None:  # fmt: skip
        """One row of maxima and of 64-bit indices."""
        if stride == 0:
            for o in range(out_w):
                m, code = window_winner(
                    x + word(begins, o), d, h, word(counts, o), step_d, step_h, dilation * size,
                    number + word(from_w, o), number_d, number_h, dilation * number_w,
                )  # fmt: skip
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
        far: int, fresh: int,
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
                if far:
                    bring_all(x + n * x_n + c * x_c + r * fresh + far, 0, 1, fresh)
                    bring_all(y + place + far, 0, 1, out_w * size)
                    bring_all(indices + quotient(place, size) * 8 + far, 0, 1, out_w * 8)
                row_winners(
                    y + place, indices + quotient(place, size) * 8, n * number_n + c * number_c,
                    x + n * x_n + c * x_c + word(begin_d, i) + word(begin_h, j), mine + margin * size, pitch, end,
                    word(count_d, i), word(count_h, j), step_d, step_h, out_w, begin_w, count_w, from_w, start_w,
                    stride, dilation, low, taps, word(from_d, i) + word(from_h, j), number_d, number_h, number_w,
                )  # fmt: skip

    return {"first_winners": first_winners}
