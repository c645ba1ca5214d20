"""Convolution within small groups of channels, depthwise above all: lanes are channels, sums stay in registers.

A block is an image, a band of output rows and a run of panels (vectors of channels). Where channels lie innermost, x is
read in place: inside the image by a tile that asks nothing, at its borders by one that reads zeros instead. Elsewhere, and
where a group is no power of two, the band is first packed to that form; outputs go through scratch likewise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import packing
from ..build import inner
from ..driver import call
from ..emit import Vectors, word
from ..panels import LINE, NONE
from ..parts import invoke
from ..target import Target
from .grad import gather, weight_grad
from .pack import gapped, prepare, repeating, weights
from .tiles import FRAME, put


def kernels(dtype: str, target: Target) -> dict[str, Callable[..., Any]]:
    """Forward and weight gradient, and what goes before and after."""
    v = Vectors(dtype, target.width)
    return {
        "prepare": prepare(v),
        "forward": forward(v),
        "bundle": bundle,
        "weight_grad": weight_grad(v),
        "gather": gather(v),
    }


AT = {name: 8 * i for i, name in enumerate(FRAME)}
X_PIXEL, ROWS, ROW, END_ROW, TAPS, TAP, TAP_STEP, Y_PIXEL, BEGIN_PIXEL = (AT[name] for name in FRAME[:9])
COLUMN_PIXEL, COLUMN_TAP, LIMITS, ZEROS, COUNT, Y_ROW, LIVE_ROWS, BOUNDS = (AT[name] for name in FRAME[9:17])
X_MOVE, W_MOVE, Y_MOVE, BEGIN_MOVE, COLUMN_MOVE, LIVE_MOVE = (AT[name] for name in FRAME[17:23])
WRAP, ROW_AT, COLUMN_END, Y_ROWS, Y_COLUMNS, DUMP, AHEAD = (AT[name] for name in FRAME[23:])


def sweep(v: Vectors) -> Any:
    """All pixels of one row with one panel, or with several: `panels`, each `panel` bytes after the last."""
    run, size = invoke(9), v.size

    @inner
    def sweep(
        tile: int, pixels: int, frame: int,
        panels: int, panel: int, w_panel: int, x: int, x_pixel: int, many: int, taps: int, w: int,
        w_tap: int, y: int, y_pixel: int, out: int, bias: int, bounds: int, zeros: int, column: int, column_pixel: int,
        column_tap: int, inside: int, care: int, in_w: int, chunk_rows: int, chunk_taps: int, before: int, after: int,
    ) -> None:  # fmt: skip
        """The first pixels (`before`) and the last (`after`) may be none, or half of a quad: they need care."""
        reach = (pixels - 1) * column_pixel + (taps - 1) * column_tap
        put(frame + X_MOVE, panel if panels else pixels * x_pixel)
        put(frame + W_MOVE, w_panel if panels else 0)
        put(frame + Y_MOVE, panel if panels else pixels * y_pixel)
        put(frame + COLUMN_MOVE, 0 if panels else pixels * column_pixel)
        put(frame + LIVE_MOVE, 0 if panels else -pixels)
        row = 0
        while row < many:
            these = min(chunk_rows, many - row)
            tap = 0
            while tap < taps:
                now = min(chunk_taps, taps - tap)
                first = row + tap == 0
                weights = w + (row * taps + tap) * w_tap
                put(frame + ROW, row)
                put(frame + END_ROW, row + these)
                put(frame + TAP, tap)
                put(frame + TAPS, now)
                put(frame + BOUNDS, bounds if row + these == many and tap + now == taps else bounds + NONE * size)
                put(frame + BEGIN_PIXEL, 0 if first else y_pixel)
                if panels:
                    put(frame + BEGIN_MOVE, panel if bias or not first else 0)
                else:
                    put(frame + BEGIN_MOVE, 0 if first else pixels * y_pixel)
                p = 0
                while p < out:
                    at = column + p * column_pixel
                    here, strip = care, 1
                    if inside and p >= before and p + pixels <= out - after and at >= 0 and at + reach < in_w:
                        here = 0
                    if not panels:  # as many tiles as are alike
                        if here == 0:
                            strip = min(
                                (out - after - p) // pixels, (in_w - 1 - reach - at) // (pixels * column_pixel) + 1
                            )
                        elif not inside or (at >= 0 and p >= before):
                            strip = (out - p - 1) // pixels + 1
                        elif at < 0:
                            strip = min((-at - 1) // (pixels * column_pixel) + 1, (out - p - 1) // pixels + 1)
                    target = y + p * y_pixel
                    begin = target
                    if first:
                        begin = bias if bias else zeros
                    run(
                        tile, here, frame, panels if panels else strip, x + p * x_pixel, weights, target, begin, at, out - p,
                    )  # fmt: skip
                    p += strip * pixels
                tap += now
            row += these

    return sweep


def forward(v: Vectors) -> Any:
    """The forward pass."""
    size, lanes, width = v.size, v.lanes, v.width
    (pack_box, spread), spread_run = packing.boxes(v), packing.spreader(v)
    pack_groups, spread_groups = gapped(v)
    pack_repeated = repeating(v)
    scan, pack_vector = sweep(v), weights(v)

    @inner
    def spread_quads(
        y: int, step_o: int, step_h: int, step_w: int, source: int, row: int, at_h: int, high: int, rows: int,
        at_w: int, broad: int, columns: int, channels: int,
    ) -> None:  # fmt: skip
        """`high` rows of `broad` outputs, of which the first would be at (at_h, at_w): those within rows x columns."""
        begin, end = max(0, -at_w), min(broad, columns - at_w)
        first, last, together = max(0, -at_h), min(high, rows - at_h), 1
        if end - begin == broad and step_h == broad * step_w:
            together = last - first
        for r in range(first, last, max(1, together)):
            spread_run(y + r * step_h + begin * step_w, step_o, step_w, source + (r * broad + begin) * row, row,
                       together * (end - begin), channels)  # fmt: skip

    def forward(
        lo: int, hi: int, thread: int,
        x: int, w: int, bias: int, bounds: int, y: int, scratch: int, scratch_step: int,
        tile: int, pixels: int, step_rows: int, wide: int, across: int, parts: int, vectors: int, used: int, out_d: int, bands: int,
        band: int, out_h: int, out_w: int,
        groups: int, inputs: int, outputs: int, stacked: int,
        batch_step: int, step_c: int, step_d: int, step_h: int, step_w: int, in_d: int, in_h: int, in_w: int,
        y_batch_step: int, step_o: int, y_step_d: int, y_step_h: int, y_step_w: int,
        lo_d: int, lo_h: int, lo_w: int, move_d: int, move_h: int, move_w: int,
        far_d: int, far_h: int, far_w: int, taps_d: int, taps_h: int, taps_w: int,
        taps: int, span: int, wrap: int, box_d: int, box_h: int, box_w: int, chunk_rows: int, chunk_taps: int,
        y_begin: int, y_rows: int, y_columns: int, first_h: int, first_w: int,
        fresh: int, w_step_g: int, w_step_o: int, w_step_c: int, tap_offsets: int, fresh_at: int, table_at: int,
        packs: int, repeat: int, stages: int, gaps: int, staged_at: int, packed_at: int, places: int, zeros: int,
        ahead: int,
    ) -> None:  # fmt: skip
        """Blocks lo..hi of batch x depth x bands x parts (runs of vectors): move and far are stride and dilation.

        `repeat` groups that follow each other read one channel of x; one group adds up `stacked` channels. `across`: row
        by row, the vectors of a part next to each other, as they lie in memory; else vector by vector.
        A tile computes `step_rows` rows of outputs from `span` rows of inputs, `far_h` apart, the first again from the
        `wrap`-th on. Where there are `y_rows`, outputs are quads of which the first begins at (first_h, first_w); their
        steps are those from quad to quad. `ahead`: what the next rows read is brought into the cache.
        """
        frame = (scratch + LINE - 1) // LINE * LINE + thread * scratch_step
        rows, packed, staged = frame + table_at, frame + packed_at, frame + staged_at
        many = stacked * taps_d * span
        limits = rows + 8 * many
        each = taps * wide * width  # the weights of a vector
        put(frame + ROWS, rows)
        put(frame + LIMITS, limits)
        put(frame + COLUMN_PIXEL, move_w)
        put(frame + COLUMN_TAP, far_w)
        put(frame + ZEROS, zeros)
        put(frame + WRAP, wrap)
        put(frame + COLUMN_END, first_w + 2 * out_w)
        put(frame + Y_ROWS, y_rows)
        put(frame + Y_COLUMNS, y_columns)
        put(frame + DUMP, frame + fresh_at - width)
        put(frame + AHEAD, ahead)
        for block in range(lo, hi):
            part = block % parts
            rest = block // parts
            first_row = rest % bands * band
            rest //= bands
            od = rest % out_d
            n = rest // out_d
            tall = min(out_h, first_row + band) - first_row
            x_image = x + n * batch_step
            corner_d, corner_h = od * move_d - lo_d, first_row * move_h - lo_h
            deep = corner_d >= 0 and corner_d + (taps_d - 1) * far_d < in_d
            begin, end = vectors * part // parts, vectors * (part + 1) // parts
            y_image = y + y_begin + n * y_batch_step + od * y_step_d + first_row * y_step_h
            for turn in range(0, tall if across else 1, step_rows):
                first = begin
                while first < end:
                    together = 1
                    if across:
                        together = end - first
                        if together > 1 and end * lanes > used:
                            together -= 1  # the last one has fewer channels
                    here = min(together * lanes, used - first * lanes)
                    count = here - (together - 1) * lanes
                    pixel, line, plane = step_w, step_h, step_d
                    source = x_image + first * width + corner_d * plane + corner_h * line - lo_w * pixel
                    column, width_in = -lo_w, in_w
                    if packs:
                        pixel = here * size
                        if repeat > 1:
                            pack_repeated(packed, x_image, step_c, step_d, step_h, step_w, here, first * lanes, repeat,
                                          in_d, in_h, in_w, box_d, box_h, box_w, -corner_d, -corner_h, lo_w)  # fmt: skip
                        elif gaps:
                            pack_groups(packed, x_image, step_c, step_d, step_h, step_w, here, first * lanes, wide, groups,
                                        inputs, in_d, in_h, in_w, box_d, box_h, box_w, -corner_d, -corner_h, lo_w)  # fmt: skip
                        else:
                            for c in range(stacked):
                                pack_box(packed + c * box_d * box_h * box_w * pixel,
                                         x_image + (first * lanes * stacked + c) * step_c, stacked * step_c, step_d, step_h,
                                         step_w, here, in_d, in_h, in_w, box_d, box_h, box_w, -corner_d, -corner_h,
                                         lo_w)  # fmt: skip
                        line = box_w * pixel
                        plane = box_h * line
                        source, column, width_in = packed, 0, box_w
                    target, y_line, y_pixel = y_image + first * width, y_step_h, y_step_w
                    if stages:
                        target, y_pixel = staged, 2 * width if y_rows else width
                        y_line = out_w * y_pixel * (2 if y_rows else 1)
                    factors = w + first * each
                    if fresh:
                        factors = frame + fresh_at + ((first - begin) * each if across else 0)
                        for c in range(together if turn == 0 else 0):
                            pack_vector(factors + c * each, width, w, first + c, wide, groups, inputs, outputs, repeat,
                                        w_step_g, w_step_o, w_step_c, taps, tap_offsets)  # fmt: skip
                    put(frame + COUNT, count)
                    put(frame + X_PIXEL, move_w * pixel)
                    put(frame + TAP_STEP, far_w * pixel)
                    put(frame + Y_PIXEL, y_pixel)
                    put(frame + Y_ROW, y_line)
                    for row in range(turn, turn + 1 if across else tall, step_rows):
                        put(frame + LIVE_ROWS, tall - row)
                        inside = deep or packs
                        if y_rows:
                            row_at = first_h + 2 * (first_row + row)
                            put(frame + ROW_AT, row_at)
                            inside = 0 <= row_at < y_rows - 1
                        k = 0
                        for deeper in range(stacked * taps_d):
                            c, kd = deeper // taps_d, deeper % taps_d
                            d = corner_d + kd * far_d
                            for i in range(span):
                                kh = i - wrap if i >= wrap else i
                                h = row * move_h + kh * far_h
                                exists = h < box_h if packs else 0 <= d < in_d and 0 <= corner_h + h < in_h
                                inside = inside and exists
                                put(rows + 8 * k, (c * box_d + kd * far_d) * plane + kh * far_h * line)
                                put(limits + 8 * k, width_in if exists else 0)
                                k += 1
                        care = 1 if count == lanes else 2
                        scan(tile, pixels, frame, together if across else 0, width, each,
                             source + row * move_h * line, move_w * pixel, many, taps_w, factors, wide * width,
                             target + row * y_line, y_pixel, out_w, bias + first * width if bias else 0, bounds, zeros, column,
                             move_w, far_w, care == 1 and inside and tall - row >= step_rows, care, width_in, chunk_rows,
                             chunk_taps, -first_w if y_rows else 0,
                             first_w + 2 * out_w - y_columns if y_rows else 0)  # fmt: skip
                    if stages:
                        if y_rows:
                            spread_quads(y_image + first * lanes * step_o, step_o, y_step_h // 2, y_step_w // 2, staged,
                                         width, first_h + 2 * first_row, 2 * tall, y_rows, first_w, 2 * out_w, y_columns,
                                         here)  # fmt: skip
                        elif gaps:
                            spread_groups(y_image, step_o, places, staged, width, tall * out_w, here,
                                          first * lanes, wide, groups, outputs)  # fmt: skip
                        else:
                            spread(y_image + first * lanes * step_o, step_o, places, staged, width, tall * out_w,
                                   here, y_step_w)  # fmt: skip
                    first += together

    return forward


def bundle(lo: int, hi: int, thread: int, entry: int, count: int, table: int, step: int) -> None:
    """Block after block of `count` launches of one kernel in turn: their words, `step` bytes apart, and their blocks."""
    for block in range(lo, hi):
        words, each = table + block % count * step, block // count
        if each < word(words + step - 8, 0):
            call(entry, each, each + 1, thread, words)
