"""All rows of a matrix with one panel of another: the micro-kernel, tile after tile."""

from __future__ import annotations

from functools import cache
from typing import Any

from .build import inner
from .emit import Vectors


@cache
def multiply(v: Vectors) -> Any:
    """multiply(columns, a, rows, ...): the arguments are those of `emit.micro_kernel`, and `pixels`, the rows in all.

    The tables of rows must be `SPARE` entries longer than they have rows, filled with the last one.
    """
    widest = v.widest
    r1, r2, r3, r4 = (v.tile_rows(n) for n in (1, 2, 3, 4))
    b1, b2, b3, b4 = (v.block(v.tile_rows(n), n) for n in (1, 2, 3, 4))

    @inner
    def multiply(
        columns: int,
        a: int,
        rows: int,
        a_offsets: int,
        a_step: int,
        w: int,
        w_offsets: int,
        w_step: int,
        batch: int,
        depth: int,
        c: int,
        c_rows: int,
        pixels: int,
        count: int,
        start: int,
        bias: int,
    ) -> None:
        """All rows of a box with one panel."""
        p = 0
        if columns == 1:
            while p < pixels:
                b1(
                    a,
                    rows + 8 * p,
                    a_offsets,
                    a_step,
                    w,
                    w_offsets,
                    w_step,
                    batch,
                    depth,
                    c,
                    c_rows + 8 * p,
                    count,
                    start,
                    bias,
                )
                p += r1
        elif columns == 2:
            while p < pixels:
                b2(
                    a,
                    rows + 8 * p,
                    a_offsets,
                    a_step,
                    w,
                    w_offsets,
                    w_step,
                    batch,
                    depth,
                    c,
                    c_rows + 8 * p,
                    count,
                    start,
                    bias,
                )
                p += r2
        elif columns == 3 and widest > 2:
            while p < pixels:
                b3(
                    a,
                    rows + 8 * p,
                    a_offsets,
                    a_step,
                    w,
                    w_offsets,
                    w_step,
                    batch,
                    depth,
                    c,
                    c_rows + 8 * p,
                    count,
                    start,
                    bias,
                )
                p += r3
        elif widest > 2:
            while p < pixels:
                b4(
                    a,
                    rows + 8 * p,
                    a_offsets,
                    a_step,
                    w,
                    w_offsets,
                    w_step,
                    batch,
                    depth,
                    c,
                    c_rows + 8 * p,
                    count,
                    start,
                    bias,
                )
                p += r4

    return multiply
