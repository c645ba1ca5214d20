"""Between the caller's arrays and planes of pixels: boxes of x taken apart by stride, rows of outputs into y, weights."""

from __future__ import annotations

from typing import Any

from ..build import inner
from ..emit import Vectors, prefetch, word
from ..packing import CLOSE, apart, turned


def planes(v: Vectors) -> Any:
    """pack_planes(to, ...): a box of x as planes, every row of a plane `pitch` elements, zeros outside of x."""
    size, lanes, width = v.size, v.lanes, v.width
    copy, clear, clear_first, copy_one, copy_span = v.copy, v.clear, v.clear_first, v.copy_one, v.copy_span
    turn, (apart2, apart3, apart4) = turned(v, few=True), (apart(v, m) for m in CLOSE)

    @inner
    def pack_row(to: int, to_c: int, x: int, step_c: int, step: int, channels: int, pixels: int) -> None:
        """Pixels of x, `step` bytes apart, side by side; a row for each channel, of which there is one, or all together."""
        p = 0
        many = step // size
        if 2 <= many <= 4 and channels <= many:  # the next pixel is there: all that is read exists
            while p + lanes < pixels:
                if many == 2:
                    apart2(to + p * size, to_c, x + p * step, channels)
                elif many == 3:
                    apart3(to + p * size, to_c, x + p * step, channels)
                else:
                    apart4(to + p * size, to_c, x + p * step, channels)
                p += lanes
        elif channels > 1:
            turn(to, to_c, x, step, pixels, channels)
            p = pixels
        for c in range(channels):
            at, source = to + c * to_c, x + c * step_c
            for q in range(p, pixels):
                copy_one(at + q * size, source + q * step)

    @inner
    def clear_run(at: int, count: int) -> None:
        for q in range(0, count, lanes):
            clear_first(at + q * size, count - q)

    @inner
    def pack_planes(
        to: int, to_c: int, plane: int, pitch: int, rows: int, tail: int, x: int, step_c: int, step_d: int, step_h: int,
        step_w: int, channels: int, in_d: int, in_h: int, in_w: int, low_d: int, low_h: int, low_w: int, stride_h: int,
        stride_w: int, count: int, parts: int,
    ) -> None:  # fmt: skip
        """`count` planes of each channel, `plane` bytes apart; `parts` says of each where in the box from (-low) on it begins.

        Behind the last one `tail` zeros follow, and zeros are all gaps. While a row of one channel is copied, that of the next
        is brought into the cache: hardware does not see where it lies. Rows are written in the order in which they lie, as
        the last vector of one may reach into the next.
        """
        step = stride_w * step_w
        together = channels if step_c == size and step != size else 1
        end = to + channels * to_c
        for c in range(0, channels, together):
            for i in range(count):
                d, top, left = (
                    word(parts, 3 * i) - low_d,
                    word(parts, 3 * i + 1) - low_h,
                    word(parts, 3 * i + 2) - low_w,
                )
                first, stop = max(0, -left), min(pitch, in_w - left)
                if stride_w > 1:  # divisions take as long as a short row
                    first = max(0, (stride_w - 1 - left) // stride_w)
                    stop = min(pitch, (in_w - left + stride_w - 1) // stride_w)
                for r in range(rows):
                    h = top + r * stride_h
                    row = to + c * to_c + i * plane + r * pitch * size
                    whole = pitch
                    if i == count - 1 and r == rows - 1:  # to the end of the channel
                        whole = (to_c - i * plane) // size - r * pitch
                    begins, ends = 0, 0  # what is written of it
                    if 0 <= d < in_d and first < stop and 0 <= h < in_h:
                        begins, ends = first, stop
                        source = x + c * step_c + d * step_d + h * step_h + left * step_w
                        if step != size:
                            pack_row(
                                row + first * size, to_c, source + first * step, step_c, step, together, stop - first
                            )
                        else:
                            begins, ends = first // lanes * lanes, (stop + lanes - 1) // lanes * lanes
                            for p in range(begins, stop, lanes):
                                prefetch(source + p * size + step_c)
                                if p >= first and p + lanes <= stop:
                                    copy(row + p * size, source + p * size)
                                else:
                                    copy_span(row + p * size, source + p * size, first - p, stop - p)
                    for k in range(together):
                        clear_run(row + k * to_c, begins)
                        clear_run(row + k * to_c + ends * size, whole - ends)
        for i in range(0, tail, width):
            clear(end + i)

    return pack_planes


def rows_out(v: Vectors) -> Any:
    """write_rows(y, ...): rows of pixels, an array of them for each output, to where they belong."""
    size, lanes, copy, copy_one, copy_first = v.size, v.lanes, v.copy, v.copy_one, v.copy_first
    turn = turned(v, few=True)

    @inner
    def write_rows(
        y: int, step_o: int, step_h: int, step_w: int, source: int, source_o: int, pitch: int, outputs: int, rows: int,
        pixels: int,
    ) -> None:  # fmt: skip
        beside = step_o == size and outputs > 1
        for r in range(rows):
            row, to = source + r * pitch * size, y + r * step_h
            if beside:
                turn(to, step_w, row, source_o, outputs, pixels)
            for o in range(0 if beside else outputs):
                at, place = row + o * source_o, to + o * step_o
                for q in range(0, pixels, lanes if step_w == size else 1):
                    if step_w != size:
                        copy_one(place + q * step_w, at + q * size)
                    elif q + lanes <= pixels:
                        copy(place + q * size, at + q * size)
                    else:
                        copy_first(place + q * size, at + q * size, pixels - q)

    return write_rows


def weights(v: Vectors) -> Any:
    """pack_weights(to, ...): those of one group, (block of outputs, channel, tap, output), blocks as even as can be."""
    size, copy_one = v.size, v.copy_one

    @inner
    def pack_weights(
        to: int, w: int, step_o: int, step_c: int, outputs: int, channels: int, taps: int, offsets: int, blocks: int
    ) -> None:
        for block in range(blocks):
            first, stop = outputs * block // blocks, outputs * (block + 1) // blocks
            for c in range(channels):
                for tap in range(taps):
                    at = w + c * step_c + word(offsets, tap)
                    for o in range(first, stop):
                        copy_one(to, at + o * step_o)
                        to += size

    return pack_weights
