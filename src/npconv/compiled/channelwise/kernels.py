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
from ..emit import Vectors
from ..panels import LINE
from ..target import Target
from .grad import gather, weight_grad
from .pack import gapped, prepare, weights
from .tiles import forward_tiles, put


def kernels(dtype: str, target: Target) -> dict[str, Callable[..., Any]]:
    """Forward and weight gradient, and what goes before and after."""
    v = Vectors(dtype, target.width)
    return {"prepare": prepare(v), "forward": forward(v), "weight_grad": weight_grad(v), "gather": gather(v)}


def sweep(v: Vectors) -> Any:
    """All pixels of one row with one panel."""
    run, pixels_of = forward_tiles(v)

    @inner
    def sweep(
        kind: int, x: int, x_pixel: int, rows: int, many: int, taps: int, tap_step: int, w: int, w_tap: int,
        y: int, y_pixel: int, out: int, bias: int, column: int, column_pixel: int, column_tap: int,
        limits: int, zeros: int, count: int, inside: int, care: int, in_w: int, chunk_rows: int, chunk_taps: int,
    ) -> None:  # fmt: skip
        pixels = pixels_of(kind)
        reach = (pixels - 1) * column_pixel + (taps - 1) * column_tap
        row = 0
        while row < many:
            these = min(chunk_rows, many - row)
            tap = 0
            while tap < taps:
                now = min(chunk_taps, taps - tap)
                first = row + tap == 0
                weights = w + (row * taps + tap) * w_tap
                p = 0
                while p < out:
                    at = column + p * column_pixel
                    strip = (out - p) // pixels
                    here = care
                    if inside and strip > 0 and at >= 0 and at + reach < in_w:
                        strip = min(strip, (in_w - 1 - reach - at) // (pixels * column_pixel) + 1)
                        here = 0
                    elif inside and at < 0:
                        strip = (-at - 1) // (pixels * column_pixel) + 1
                    else:
                        strip += 1
                    strip = min(strip, (out - p - 1) // pixels + 1)
                    target = y + p * y_pixel
                    run(kind + here, strip, x + p * x_pixel, x_pixel, rows, these, now, tap_step, weights,
                        target, y_pixel, bias if first else target, 0 if first else y_pixel,
                        at, column_pixel, column_tap, limits, zeros, out - p, count, row, tap)  # fmt: skip
                    p += strip * pixels
                tap += now
            row += these

    return sweep


def forward(v: Vectors) -> Any:
    """The forward pass."""
    size, lanes, width = v.size, v.lanes, v.width
    pack_box, spread = packing.boxes(v)
    pack_groups, spread_groups = gapped(v)
    scan, pack_vector = sweep(v), weights(v)
    grouped = 2 if v.registers == 16 else 4  # where the tiles of groups begin

    def forward(
        lo: int, hi: int, thread: int,
        x: int, w: int, bias: int, y: int, scratch: int, scratch_step: int,
        sliding: int, wide: int, parts: int, panels: int, pairs: int, used: int, out_d: int, bands: int, band: int,
        out_h: int, out_w: int,
        groups: int, inputs: int, outputs: int,
        batch_step: int, step_c: int, step_d: int, step_h: int, step_w: int, in_d: int, in_h: int, in_w: int,
        y_batch_step: int, step_o: int, y_step_d: int, y_step_h: int, y_step_w: int,
        lo_d: int, lo_h: int, lo_w: int, move_d: int, move_h: int, move_w: int,
        far_d: int, far_h: int, far_w: int, taps_d: int, taps_h: int, taps_w: int,
        box_d: int, box_h: int, box_w: int, chunk_rows: int, chunk_taps: int,
        fresh: int, w_step_o: int, w_step_c: int, tap_offsets: int, fresh_at: int,
        packs: int, stages: int, gaps: int, staged_at: int, packed_at: int, places: int, zeros: int,
    ) -> None:  # fmt: skip
        """Blocks lo..hi of batch x depth x bands x parts (runs of panels): move and far are stride and dilation."""
        rows = (scratch + LINE - 1) // LINE * LINE + thread * scratch_step
        many = taps_d * taps_h
        limits = rows + 8 * many
        packed, staged = rows + packed_at, rows + staged_at
        for block in range(lo, hi):
            part = block % parts
            rest = block // parts
            first_row = rest % bands * band
            rest //= bands
            od = rest % out_d
            n = rest // out_d
            last_row = min(out_h, first_row + band)
            x_image = x + n * batch_step
            corner_d, corner_h = od * move_d - lo_d, first_row * move_h - lo_h
            for row in range(first_row, last_row):
                for kd in range(taps_d):
                    d = corner_d + kd * far_d
                    for kh in range(taps_h):
                        h = row * move_h - lo_h + kh * far_h
                        limit = in_w
                        if packs:
                            limit = box_w
                        elif not (0 <= d < in_d and 0 <= h < in_h):
                            limit = 0
                        put(limits + 8 * ((row - first_row) * many + kd * taps_h + kh), limit)
            for panel in range(panels * part // parts, panels * (part + 1) // parts):
                columns, first = (2, 2 * panel) if panel < pairs else (1, panel + pairs)
                here = min(columns * lanes, used - first * lanes)
                count = here - (columns - 1) * lanes
                kind = sliding + 2 * (columns - 1) if wide == 1 else grouped + wide // 4
                kind *= 3
                if packs:
                    pixel = here * size
                    if gaps:
                        pack_groups(packed, x_image, step_c, step_d, step_h, step_w, here, first * lanes, wide, groups, inputs,
                                    in_d, in_h, in_w, box_d, box_h, box_w, -corner_d, -corner_h, lo_w)  # fmt: skip
                    else:
                        pack_box(packed, x_image + first * lanes * step_c, step_c, step_d, step_h, step_w, here,
                                 in_d, in_h, in_w, box_d, box_h, box_w, -corner_d, -corner_h, lo_w)  # fmt: skip
                    line = box_w * pixel
                    plane = box_h * line
                    source, column, width_in = packed, 0, box_w
                else:
                    pixel, line, plane = step_w, step_h, step_d
                    source = x_image + first * width + corner_d * plane + corner_h * line - lo_w * pixel
                    column, width_in = -lo_w, in_w
                for kd in range(taps_d):
                    for kh in range(taps_h):
                        put(rows + 8 * (kd * taps_h + kh), kd * far_d * plane + kh * far_h * line)
                y_image = y + n * y_batch_step + od * y_step_d + first_row * y_step_h
                target, y_line, y_pixel = y_image + first * width, y_step_h, y_step_w
                if stages:
                    target, y_pixel = staged, columns * width
                    y_line = out_w * y_pixel
                begin = bias + first * width if bias else zeros
                factors = w + first * many * taps_w * wide * width
                if fresh:
                    factors = rows + fresh_at
                    for c in range(columns):
                        pack_vector(factors + c * width, columns * width, w, first + c, wide, groups, inputs, outputs,
                                    w_step_o, w_step_c, many * taps_w, tap_offsets)  # fmt: skip
                for row in range(last_row - first_row):
                    top, deep = corner_h + row * move_h, taps_h - 1
                    care = 1 if here == columns * lanes else 2
                    inside = care == 1
                    if not packs:
                        inside = (
                            inside
                            and top >= 0
                            and top + deep * far_h < in_h
                            and corner_d >= 0
                            and corner_d + (taps_d - 1) * far_d < in_d
                        )
                    scan(kind, source + row * move_h * line, move_w * pixel, rows, many,
                         taps_w, far_w * pixel, factors, wide * columns * width, target + row * y_line, y_pixel, out_w,
                         begin, column, move_w, far_w, limits + 8 * row * many, zeros, count, inside, care,
                         width_in, chunk_rows, chunk_taps)  # fmt: skip
                if stages:
                    pixels = (last_row - first_row) * out_w
                    if gaps:
                        spread_groups(y_image, step_o, places, staged, columns * width, pixels, here, first * lanes,
                                      wide, groups, outputs)  # fmt: skip
                    else:
                        spread(y_image + first * lanes * step_o, step_o, places, staged, columns * width, pixels, here,
                               y_step_w)  # fmt: skip

    return forward
