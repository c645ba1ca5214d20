"""The weight gradient within small groups: lanes are channels, the sums of a few taps stay in registers.

A block is a vector of channels and a slab: a run of bands of output rows. It adds up to `CHUNK` products at a time and then
adds to its own part of the result; the parts are summed two by two, so the result does not depend on who computed them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from .. import packing
from ..build import inner
from ..emit import I64, Vectors, emitted, i64, pointer, word
from ..flow import Loop
from ..panels import CHUNK, LINE
from ..parts import Part, cases, invoke
from .pack import gapped, repeating
from .sizes import WIDE, Taps
from .squares import (
    AHEAD,
    ANY,
    COUNT,
    G_PIXEL,
    G_ROW,
    LIMITS,
    ONE_ROW,
    ROWS,
    TO_MOVE,
    TWO_ROWS,
    WHOLE,
    X_PIXEL,
    ZEROS,
)
from .tiles import FAST, MASKED, SAFE, put, swapped


def gradient_part(v: Vectors, tile: Taps) -> Part:
    """A tile with each kind of care."""
    bodies = []
    for care in (FAST, MASKED if tile.Q > 1 else SAFE, MASKED):
        bodies.append((f"{tile.name}_{care}", lambda b, args, c=care: gradient_tile(v, b, tile, c, args)))
    pointers = "to, x, x_row, x_pixel, g, g_row, g_pixel, rows, pixels, offsets"
    return cases(f"care, {pointers}, column, column_pixel, ahead, limits, zeros, count", bodies)


def gradient_tile(v: Vectors, b: Any, shape: Taps, care: int, arguments: list[Any]) -> None:
    """Add the products of a rectangle of outputs to the sums of some taps.

    Arguments: to, (tap, r, lanes); x, where tap 0 of the first pixel reads, x_row and x_pixel; g, g_row and g_pixel; how
    many rows and pixels; offsets, of each tap. A tile with care also asks: the column that x stands at, columns per pixel;
    of each tap how many columns it lies further (`ahead`) and how wide its row is (`limits`); `zeros` to read beyond it
    and channels in the vector (`count`).
    """
    to, x, x_row, x_pixel, g, g_row, g_pixel, rows, pixels, offsets = arguments[:10]
    column, column_pixel, ahead, limits, zeros, count = arguments[10:]
    Q, taps = shape.Q, shape.taps
    safe, masked = care >= SAFE, care == MASKED
    mask = v.mask(b, count) if masked else None

    def table(base: Any, t: int) -> Any:
        return b.load(pointer(b, base, 8 * t), typ=I64, align=8)

    def load(where: Any) -> Any:
        return v.masked_load(b, mask, where) if masked else v.load(b, where)

    steps = [table(offsets, t) for t in range(taps)]
    further = [table(ahead, t) for t in range(taps)] if safe else []
    widths = [table(limits, t) for t in range(taps)] if safe else []
    outer = Loop(b, "row", [rows, x, g, *[ir.Constant(v.vector, None)] * (taps * Q)])
    row, x, g, *sums = outer.state
    inner = Loop(b, "pixel", [pixels, x, g, column, *sums])
    left, place, source, here, *sums = inner.state
    factor = load(source)
    values = []
    for t in range(taps):
        where = b.add(place, steps[t])
        if safe:
            inside = b.icmp_unsigned("<", b.add(here, further[t]), widths[t])
            where = b.select(inside, where, zeros)
        values.append(load(where))
    for r in range(Q):
        mixed = swapped(v, b, factor, r)
        for t in range(taps):
            sums[t * Q + r] = v.fma(b, values[t], mixed, sums[t * Q + r])
    left = b.sub(left, i64(1))
    state = [left, b.add(place, x_pixel), b.add(source, g_pixel), b.add(here, column_pixel), *sums]
    inner.close(state, b.icmp_signed(">", left, i64(0)))
    row = b.sub(row, i64(1))
    outer.close([row, b.add(x, x_row), b.add(g, g_row), *sums], b.icmp_signed(">", row, i64(0)))
    for i, value in enumerate(sums):
        v.store(b, b.fadd(v.load(b, to, i * v.width), value), to, i * v.width)


def weight_grad(v: Vectors) -> Callable[..., Any]:
    """The gradient of the weights, in parts."""
    size, lanes, width = v.size, v.lanes, v.width
    run, squares, clear = invoke(17), invoke(8), v.clear
    most = CHUNK // (2 * WIDE)
    pack_box, _ = packing.boxes(v)
    pack_groups, _ = gapped(v)
    pack_repeated = repeating(v)

    @inner
    def pack(
        to: int, source: int, step_c: int, step_d: int, step_h: int, step_w: int, here: int, first: int, wide: int,
        groups: int, channels: int, repeat: int, size_d: int, size_h: int, size_w: int, box_d: int, box_h: int, box_w: int,
        lo_d: int, lo_h: int, lo_w: int,
    ) -> None:  # fmt: skip
        if repeat > 1:
            pack_repeated(to, source, step_c, step_d, step_h, step_w, here, first, repeat,
                          size_d, size_h, size_w, box_d, box_h, box_w, lo_d, lo_h, lo_w)  # fmt: skip
        elif channels == wide:
            pack_box(to, source + first * step_c, step_c, step_d, step_h, step_w, here,
                     size_d, size_h, size_w, box_d, box_h, box_w, lo_d, lo_h, lo_w)  # fmt: skip
        else:
            pack_groups(to, source, step_c, step_d, step_h, step_w, here, first, wide, groups, channels,
                        size_d, size_h, size_w, box_d, box_h, box_w, lo_d, lo_h, lo_w)  # fmt: skip

    @inner
    def patch(
        tile: int, care: int, to: int, tile_taps: int, taps: int, wide: int, x: int, x_row: int, x_pixel: int, g: int,
        g_row: int, g_pixel: int, rows: int, pixels: int, offsets: int, column: int, column_pixel: int, ahead: int,
        limits: int, zeros: int, count: int, chunk: int,
    ) -> None:  # fmt: skip
        """All taps over a rectangle, no sum longer than `chunk`."""
        tall, long = max(1, chunk // max(1, pixels)), min(pixels, chunk)
        for tap in range(0, taps, tile_taps):
            for row in range(0, rows, tall):
                for p in range(0, pixels, long):
                    run(tile, care, to + tap * wide * width, x + row * x_row + p * x_pixel, x_row, x_pixel,
                        g + row * g_row + p * g_pixel, g_row, g_pixel, min(tall, rows - row), min(long, pixels - p),
                        offsets + 8 * tap, column + p * column_pixel, column_pixel, ahead + 8 * tap, limits + 8 * tap,
                        zeros, count)  # fmt: skip

    def weight_grad(
        lo: int, hi: int, thread: int,
        x: int, g: int, to: int, scratch: int, scratch_step: int,
        tile: int, square: int, square_tile: int,
        tile_taps: int, taps: int, wide: int, parts: int, vectors: int, used: int, slabs: int,
        units: int, out_d: int,
        bands: int, band: int, out_h: int, out_w: int, groups: int, inputs: int, outputs: int,
        batch_step: int, step_c: int, step_d: int, step_h: int, step_w: int, in_d: int, in_h: int, in_w: int,
        g_batch_step: int, g_step_c: int, g_step_d: int, g_step_h: int, g_step_w: int,
        lo_d: int, lo_h: int, lo_w: int, move_d: int, move_h: int, move_w: int,
        far_d: int, far_h: int, far_w: int, taps_d: int, taps_h: int, taps_w: int, box_d: int, box_h: int, box_w: int,
        packs: int, packs_g: int, table_at: int, packed_at: int, packed_g_at: int, edge_lo: int, edge_hi: int, zeros: int,
        chunk: int, repeat: int, repeat_g: int, ahead: int, spans: int, span: int,
    ) -> None:  # fmt: skip
        """Blocks lo..hi of slabs x parts (runs of vectors); the taps are padded to whole tiles by repeating the last.

        Rows are cut into `spans` of `span` pixels, each with sums of its own.

        `repeat` groups that follow each other read one channel of x, or `repeat_g` of g.
        `square`: 3 x 3 taps of that stride, in tiles of two rows; else pixel by pixel. `ahead`: such tiles bring what the
        next ones read into the cache.
        """
        frame = (scratch + LINE - 1) // LINE * LINE + thread * scratch_step
        offsets = frame + table_at
        ahead, limits = offsets + 8 * taps, offsets + 16 * taps
        lines = offsets + 24 * taps  # the rows of a square tile, and how wide they are
        many_lines = square + 3
        strips = out_w // WIDE if square else 0
        for block in range(lo, hi):
            part = block % parts
            slab = block // parts
            begin, end = vectors * part // parts, vectors * (part + 1) // parts
            every = vectors * taps * wide * width  # the sums of one span
            start = to + slab * spans * every
            for i in range(spans):
                for j in range(begin * taps * wide, end * taps * wide):
                    clear(start + i * every + j * width)
            first = begin
            while first < end:
                together = 1
                if square and not packs and not packs_g:
                    together = end - first
                    if together > 1 and end * lanes > used:
                        together -= 1  # the last one has fewer channels
                here = min(together * lanes, used - first * lanes)
                count = here - (together - 1) * lanes
                kind = WHOLE if count == lanes else ANY
                target = start + first * taps * wide * width
                for unit in range(units * slab // slabs, units * (slab + 1) // slabs):
                    first_row = unit % bands * band
                    od = unit // bands % out_d
                    n = unit // bands // out_d
                    rows = min(band, out_h - first_row)
                    corner_d, corner_h = od * move_d - lo_d, first_row * move_h - lo_h
                    image = x + n * batch_step
                    if packs:
                        pixel, column, width_in = here * size, 0, box_w
                        source = frame + packed_at
                        pack(source, image, step_c, step_d, step_h, step_w, here, first * lanes, wide, groups, inputs, repeat,
                             in_d, in_h, in_w, box_d, box_h, box_w, -corner_d, -corner_h, lo_w)  # fmt: skip
                        line = box_w * pixel
                        plane = box_h * line
                    else:
                        pixel, line, plane, column, width_in = step_w, step_h, step_d, -lo_w, in_w
                        source = image + first * width + corner_d * plane + corner_h * line - lo_w * pixel
                    gs = g + n * g_batch_step + od * g_step_d + first_row * g_step_h
                    if packs_g:
                        g_pixel = here * size
                        tall = 1 if g_step_h == out_w * g_step_w else rows  # of rows that follow each other
                        broad = out_w * rows // tall
                        pack(frame + packed_g_at, gs, g_step_c, 0, g_step_h, g_step_w, here, first * lanes, wide, groups, outputs,
                             repeat_g, 1, tall, broad, 1, tall, broad, 0, 0, 0)  # fmt: skip
                        gs, g_line = frame + packed_g_at, out_w * g_pixel
                    else:
                        gs, g_line, g_pixel = gs + first * width, g_step_h, g_step_w
                    for tap in range(taps):
                        real = min(tap, taps_d * taps_h * taps_w - 1)
                        kw, kh, kd = real % taps_w, real // taps_w % taps_h, real // (taps_w * taps_h)
                        put(offsets + 8 * tap, kd * far_d * plane + kh * far_h * line + kw * far_w * pixel)
                        put(ahead + 8 * tap, kw * far_w)
                        put(limits + 8 * tap, width_in)
                    put(frame + X_PIXEL, pixel)
                    put(frame + G_PIXEL, g_pixel)
                    put(frame + G_ROW, g_line)
                    put(frame + ROWS, lines)
                    put(frame + LIMITS, lines + 8 * many_lines)
                    put(frame + ZEROS, zeros)
                    put(frame + COUNT, count)
                    put(frame + TO_MOVE, taps * width)
                    put(frame + AHEAD, ahead)
                    row = 0
                    while square and row < rows:
                        top, two = corner_h + row * move_h, row + 2 <= rows
                        needed = many_lines if two else 3
                        for kd in range(taps_d):
                            d = corner_d + kd * far_d
                            for k in range(needed):
                                real = 0 <= d < in_d and 0 <= top + k < in_h
                                put(lines + 8 * k, kd * far_d * plane + k * line)
                                put(lines + 8 * (many_lines + k), width_in if real or packs else 0)
                            p = 0
                            while p < out_w:
                                some, moved, these = min(strips - p // WIDE, most), WIDE, kind
                                if not two or some <= 0:  # what squares leave, pixel by pixel
                                    some, moved, these = min(out_w - p, chunk // 2), 1, TWO_ROWS if two else ONE_ROW
                                squares(square_tile, these, frame, together, some, target + p // span * every + kd * 9 * width,
                                        source + row * move_h * line + p * move_w * pixel, gs + row * g_line + p * g_pixel,
                                        column + p * move_w)  # fmt: skip
                                p += some * moved
                        row += 2 if two else 1
                    while row < rows:
                        top = corner_h + row * move_h
                        # packed or not, the sums are cut alike, so that memory layout does not show in the result
                        inside = (
                            top >= 0
                            and top + (taps_h - 1) * far_h < in_h
                            and corner_d >= 0
                            and corner_d + (taps_d - 1) * far_d < in_d
                        )
                        many, p = 1, 0
                        if inside:
                            many = min(rows - row, (in_h - 1 - (taps_h - 1) * far_h - top) // move_h + 1)
                        if p < out_w and not inside and not packs:
                            for tap in range(taps):
                                real = min(tap, taps_d * taps_h * taps_w - 1)
                                d = corner_d + real // (taps_w * taps_h) * far_d
                                h = top + real // taps_w % taps_h * far_h
                                put(limits + 8 * tap, width_in if 0 <= d < in_d and 0 <= h < in_h else 0)
                        while p < out_w:
                            # the left edge, the middle, the right edge; where rows are at an edge too, all in one
                            care, stop = 1, out_w
                            if inside and p < edge_lo:
                                stop = edge_lo
                            elif inside and p < edge_hi:
                                care, stop = 0, edge_hi
                            stop = min(stop, p // span * span + span)
                            sums = target + p // span * every
                            for c in range(together):
                                last = c == together - 1 and count < lanes
                                patch(tile, 2 if last else care, sums + c * taps * wide * width, tile_taps, taps, wide,
                                      source + c * width + row * move_h * line + p * move_w * pixel, move_h * line,
                                      move_w * pixel, gs + c * width + row * g_line + p * g_pixel, g_line, g_pixel, many,
                                      stop - p, offsets, column + p * move_w, move_w, ahead, limits, zeros,
                                      count if last else lanes, chunk)  # fmt: skip
                            p = stop
                        if not inside:
                            for tap in range(taps):
                                put(limits + 8 * tap, width_in)
                        row += many
                first += together

    return weight_grad


def gather(v: Vectors) -> Callable[..., Any]:
    """The parts of a gradient, summed and brought to their places."""
    size, lanes, width = v.size, v.lanes, v.width
    copy, copy_one = v.copy, v.copy_one

    @emitted(2)
    def add(b: Any, a: Any) -> None:
        v.store(b, b.fadd(v.load(b, a[0]), v.load(b, a[1])), a[0])

    @emitted(2)
    def add_one(b: Any, a: Any) -> None:
        one, other = (b.load(pointer(b, at), typ=v.element, align=size) for at in a)
        b.store(b.fadd(one, other), pointer(b, a[0]), align=size)

    def gather(
        lo: int, hi: int, thread: int,
        parts: int, to: int, fresh: int, slabs: int, vectors: int, taps: int, wide: int, groups: int, inputs: int,
        outputs: int, repeat_g: int, step_o: int, step_c: int, real: int, tap_offsets: int,
    ) -> None:  # fmt: skip
        """Vectors lo..hi: add the slabs two by two, then every weight to its place; `fresh`: write it there."""
        each = taps * wide * width
        for vector in range(lo, hi):
            whole = parts + vector * each
            apart = 1
            while apart < slabs:  # by twos: the error grows with the logarithm of how many there are
                for slab in range(0, slabs - apart, 2 * apart):
                    part = whole + slab * vectors * each
                    for i in range(0, each, width):
                        add(part + i, part + apart * vectors * each + i)
                apart *= 2
            if wide == 1 and step_o == size and repeat_g == 1 and (vector + 1) * lanes <= groups:
                for tap in range(real):
                    place = to + vector * width + word(tap_offsets, tap)
                    if not fresh:
                        add(whole + tap * width, place)
                    copy(place, whole + tap * width)
                continue
            for lane in range(lanes):
                channel = vector * lanes + lane
                group, i = channel // wide, channel % wide
                if group < groups and i < inputs:
                    for r in range(wide):
                        o = i ^ r
                        if o < outputs:
                            place = to + (group // repeat_g * outputs + o) * step_o + (group % repeat_g + i) * step_c
                            source = whole + r * width + lane * size
                            for tap in range(real):
                                if fresh:
                                    copy_one(place + word(tap_offsets, tap), source)
                                else:
                                    add_one(place + word(tap_offsets, tap), source)
                                source += wide * width

    return gather
