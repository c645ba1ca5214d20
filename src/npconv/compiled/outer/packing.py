"""Rows for the weight gradient: boxes of x or g packed as planes or as panels of channels, results turned back.

A packed operand is described by a record of 64-bit words (`layout.RECORD`), so that one kernel packs both.
Planes are (channel, n, d, h, w), for the side that is broadcast; panels are (panel, n, d, h, w, lanes), for the other.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from ..build import inner
from ..emit import Vectors, emitted, i64, word
from .layout import RECORD

(
    TASKS, PLANES, PIECES, PIECE, RUNS, RUN, BATCH, COUNT, COLUMNS, LAST, CHANNELS, STEP_N, STEP_C, STEP_D, STEP_H, STEP_W,
    IN_D, IN_H, IN_W, LO_D, LO_H, LO_W, BOX_D, BOX_H, BOX_W, PANEL_STEP, GROUP_STEP,
) = range(len(RECORD))  # fmt: skip


def words_for(v: Vectors) -> tuple[Any, ...]:
    """(copy_part, add, put, put_part, turn_part, turn_put): the relatives of `copy` and `transpose`.

    Those that put take a last argument: whether to add to what is there. If not, it is not read.
    """

    @emitted(3)
    def copy_part(b: Any, a: Any) -> None:
        """copy_part(to, from, count): a whole vector is written, zeros after `count` elements."""
        v.store(b, v.masked_load(b, v.mask(b, a[2]), a[1]), a[0])

    @emitted(2)
    def add(b: Any, a: Any) -> None:
        """add(to, from): one vector is added to another."""
        v.store(b, b.fadd(v.load(b, a[0]), v.load(b, a[1])), a[0])

    def old(b: Any, place: Any, count: Any, more: Any) -> Any:
        """`count` elements of what is there, or zeros."""
        return v.masked_load(b, v.mask(b, b.mul(count, more)), place)

    @emitted(3)
    def put(b: Any, a: Any) -> None:
        """put(to, from, more): one vector."""
        v.store(b, b.fadd(old(b, a[0], i64(v.lanes), a[2]), v.load(b, a[1])), a[0])

    @emitted(4)
    def put_part(b: Any, a: Any) -> None:
        """put_part(to, from, count, more): `count` elements of a whole vector."""
        value = b.fadd(old(b, a[0], a[2], a[3]), v.load(b, a[1]))
        v.masked_store(b, value, v.mask(b, a[2]), a[0])

    @emitted(6)
    def turn_part(b: Any, a: Any) -> None:
        """turn_part(to, to_step, from, from_step, rows, count): `count` whole vectors, zeros after `rows` lanes."""
        to, to_step, source, step, rows, count = a
        read = [v.masked_load(b, *row) for row in v.rows(b, source, step, rows, count)]
        for row, place in zip(v.transposed(b, read), v.rows(b, to, to_step, count, i64(v.lanes)), strict=True):
            v.masked_store(b, row, *place)

    @emitted(7)
    def turn_put(b: Any, a: Any) -> None:
        """turn_put(to, to_step, from, from_step, rows, count, more): `count` rows of a block; all of `from` can be read."""
        to, to_step, source, step, rows, count, more = a
        read = [v.load(b, b.add(source, b.mul(step, i64(i)))) for i in range(v.lanes)]
        before, places = v.rows(b, to, to_step, count, b.mul(rows, more)), v.rows(b, to, to_step, count, rows)
        for row, old, place in zip(v.transposed(b, read), before, places, strict=True):
            v.masked_store(b, b.fadd(v.masked_load(b, *old), row), *place)

    return copy_part, add, put, put_part, turn_part, turn_put


@cache
def packing(v: Vectors) -> Any:
    """pack(record, source, to, task): one piece of a row of a box."""
    size, lanes, width = v.size, v.lanes, v.width
    copy, clear, copy_one, clear_one, transpose = v.copy, v.clear, v.copy_one, v.clear_one, v.transpose
    copy_part, _, _, _, turn_part, _ = words_for(v)

    @emitted(3)
    def move_part(b: Any, a: Any) -> None:
        """move_part(to, from, count): `count` elements, nothing else is touched."""
        mask = v.mask(b, a[2])
        v.masked_store(b, v.masked_load(b, mask, a[1]), mask, a[0])

    @inner
    def zeros(to: int, end: int) -> None:
        while to + width <= end:
            clear(to)
            to += width
        while to < end:
            clear_one(to)
            to += size

    @inner
    def plane_piece(to: int, source: int, step: int, pixels: int) -> None:
        if step == size:
            whole = pixels // lanes * width
            for at in range(0, whole, width):
                copy(to + at, source + at)
            if whole < pixels * size:
                move_part(to + whole, source + whole, pixels % lanes)
        else:
            for p in range(pixels):
                copy_one(to + p * size, source + p * step)

    @inner
    def panel_piece(to: int, source: int, step_c: int, step_w: int, columns: int, channels: int, pixels: int) -> None:
        pitch, rest = columns * width, channels - (columns - 1) * lanes
        if step_c == size:
            for p in range(pixels):
                at, place = source + p * step_w, to + p * pitch
                for j in range(0, pitch - width, width):
                    copy(place + j, at + j)
                copy_part(place + pitch - width, at + pitch - width, rest)
        elif step_w == size:
            for j in range(columns):  # one vector of channels after the other: few streams through memory at once
                rows = min(lanes, channels - j * lanes)
                for p in range(0, pixels, lanes):
                    at, place = source + p * size + j * lanes * step_c, to + p * pitch + j * width
                    count = min(lanes, pixels - p)
                    if rows == lanes and count == lanes:
                        transpose(place, pitch, at, step_c)
                    else:
                        turn_part(place, pitch, at, step_c, rows, count)
        else:
            for p in range(pixels):
                place = to + p * pitch
                for c in range(channels):
                    copy_one(place + c * size, source + p * step_w + c * step_c)
                zeros(place + channels * size, place + pitch)

    @inner
    def pack(record: int, source: int, to: int, task: int) -> None:
        pieces, piece, runs, run = word(record, PIECES), word(record, PIECE), word(record, RUNS), word(record, RUN)
        box_w, box_h, box_d = word(record, BOX_W), word(record, BOX_H), word(record, BOX_D)
        first, rest = task % pieces * piece, task // pieces
        first_row, rest = rest % runs * run, rest // runs
        slab = rest % (box_d * word(record, BATCH))
        panel = rest // (box_d * word(record, BATCH))
        stop, stop_row = min(box_w, first + piece), min(box_h, first_row + run)
        d, n = slab % box_d - word(record, LO_D), slab // box_d
        step_c, step_w, lo = word(record, STEP_C), word(record, STEP_W), word(record, LO_W)
        step_h, lo_h, in_h = word(record, STEP_H), word(record, LO_H), word(record, IN_H)
        columns, channels, pitch = 1, 1, size
        planes = word(record, PLANES)
        if planes:
            to += panel * word(record, PANEL_STEP)
            source += panel * step_c
        else:
            group, panel = panel // word(record, COUNT), panel % word(record, COUNT)
            widest = word(record, COLUMNS)
            columns = word(record, LAST) if panel == word(record, COUNT) - 1 else widest
            pitch = columns * width
            channels = min(columns * lanes, word(record, CHANNELS) - panel * widest * lanes)
            to += group * word(record, GROUP_STEP) + panel * word(record, PANEL_STEP)
            source += (group * word(record, CHANNELS) + panel * widest * lanes) * step_c
        to += (slab * box_h + first_row) * box_w * pitch
        begin = max(first, lo)
        end = max(begin, min(stop, lo + word(record, IN_W)))
        empty = begin >= end or d < 0 or d >= word(record, IN_D)
        source += n * word(record, STEP_N) + d * word(record, STEP_D) + (begin - lo) * step_w
        for row in range(first_row, stop_row):
            h = row - lo_h
            if empty or h < 0 or h >= in_h:
                zeros(to + first * pitch, to + stop * pitch)
            else:
                zeros(to + first * pitch, to + begin * pitch)
                if planes:
                    plane_piece(to + begin * pitch, source + h * step_h, step_w, end - begin)
                else:
                    panel_piece(to + begin * pitch, source + h * step_h, step_c, step_w, columns, channels, end - begin)
                zeros(to + end * pitch, to + stop * pitch)
            to += box_w * pitch

    return pack


@cache
def delivering(v: Vectors) -> Any:
    """deliver(...): rows of sums (row, lanes) to the gradient, row r at places[r], lanes `step` apart; `more` adds them."""
    size, lanes, width = v.size, v.lanes, v.width
    _, _, put, put_part, _, turn_put = words_for(v)

    @inner
    def deliver(to: int, step: int, places: int, source: int, pitch: int, rows: int, channels: int, more: int) -> None:
        if step == size:
            whole, rest = channels // lanes * width, channels % lanes
            for r in range(rows):
                place, at = to + word(places, r), source + r * pitch
                for j in range(0, whole, width):
                    put(place + j, at + j, more)
                if rest:
                    put_part(place + whole, at + whole, rest, more)
            return
        for j in range(0, channels, lanes):
            count = min(lanes, channels - j)
            for r in range(0, rows, lanes):
                many, at = min(lanes, rows - r), source + r * pitch + j * size
                place = to + word(places, r) + j * step
                together = word(places, r + many - 1) - word(places, r) == (many - 1) * size
                if together:
                    turn_put(place, step, at, pitch, many, count, more)
                else:
                    for i in range(many):
                        for k in range(count):
                            put_part(to + word(places, r + i) + (j + k) * step, at + i * pitch + k * size, 1, more)

    return deliver
