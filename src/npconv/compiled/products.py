"""All rows of a matrix with one panel of another: the micro-kernel, tile after tile."""

from __future__ import annotations

from functools import cache
from typing import Any

from .build import inner
from .emit import Vectors
from .micro_kernel import micro_kernel
from .panels import REST


@cache
def multiply(v: Vectors, narrow: bool = False, bounded: bool = False, ahead: bool = False) -> Any:
    """multiply(columns, a, rows, ...): the arguments are those of `micro_kernel`, and `pixels`, the rows in all.

    The tables of rows must be `SPARE` entries longer than they have rows, filled with the last one.
    """
    widest = v.widest
    walk1, walk2 = _walk(v, 1, narrow, bounded, ahead), _walk(v, 2, narrow, bounded, ahead)
    walk3, walk4 = (
        (_walk(v, 3, narrow, bounded, ahead), _walk(v, 4, narrow, bounded, ahead)) if widest > 2 else (walk2, walk2)
    )

    @inner
    def multiply(
        columns: int, a: int, rows: int, a_offsets: int, a_step: int, w: int, w_offsets: int, w_step: int, batch: int,
        depth: int, c: int, c_rows: int, pixels: int, count: int, start: int, bias: int, bounds: int,
    ) -> None:  # fmt: skip
        """All rows of a box with one panel."""
        if columns == 1:
            walk1(
                a, rows, a_offsets, a_step, w, w_offsets, w_step, batch, depth, c, c_rows, pixels, count, start, bias, bounds,
            )  # fmt: skip
        elif columns == 2:
            walk2(
                a, rows, a_offsets, a_step, w, w_offsets, w_step, batch, depth, c, c_rows, pixels, count, start, bias, bounds,
            )  # fmt: skip
        elif columns == 3:
            walk3(
                a, rows, a_offsets, a_step, w, w_offsets, w_step, batch, depth, c, c_rows, pixels, count, start, bias, bounds,
            )  # fmt: skip
        else:
            walk4(
                a, rows, a_offsets, a_step, w, w_offsets, w_step, batch, depth, c, c_rows, pixels, count, start, bias, bounds,
            )  # fmt: skip

    return multiply


@cache
def _walk(v: Vectors, columns: int, narrow: bool, bounded: bool, ahead: bool) -> Any:
    """The rows of one width: tiles as tall as the registers allow, then short ones."""
    tall, width, last = v.tile_rows(columns), v.width, (columns - 1) * v.width
    block, rest = (micro_kernel(v, rows, columns, narrow, bounded, ahead) for rows in (tall, REST))

    @inner
    def walk(
        a: int, rows: int, a_offsets: int, a_step: int, w: int, w_offsets: int, w_step: int, batch: int, depth: int,
        c: int, c_rows: int, pixels: int, count: int, start: int, bias: int, bounds: int,
    ) -> None:  # fmt: skip
        p, turn = 0, 0
        while pixels - p > tall - REST:
            block(
                a, rows, a_offsets, a_step, w, w_offsets, w_step, batch, depth, c, c_rows, count, start, bias, bounds, turn,
            )  # fmt: skip
            turn = turn + width if turn < last else 0
            p += tall
            rows += 8 * tall
            c_rows += 8 * tall
        while p < pixels:
            rest(
                a, rows, a_offsets, a_step, w, w_offsets, w_step, batch, depth, c, c_rows, count, start, bias, bounds, turn,
            )  # fmt: skip
            turn = turn + width if turn < last else 0
            p += REST
            rows += 8 * REST
            c_rows += 8 * REST

    return walk
