"""The weight gradient as a sum of outer products: two operands, pixels the dimension that is summed over.

    dw[o, c, t] = sum over n, p of  g[n, o, p] x[n, c, p s + t d - lo]

One operand gives the rows of a register tile, an element at a time, from wherever it lies: rows are channels, or pairs
(channel, tap), through a table. The other gives the lanes, panels of channels innermost. A launch packs what needs it
(zeros around x, channels innermost), a second one multiplies: a task owns some rows of one panel and walks over all
pixels, so no two tasks write to one place. Where there are few rows, tasks share the pixels as well, and a third
launch adds their sums. No sum is longer than `panels.SUMMED` products before it is rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import products
from ..emit import Vectors, word
from ..target import Target
from . import packing
from .totals import totals_of


def kernels(dtype: str, target: Target) -> dict[str, Callable[..., Any]]:
    """Packing, multiplying and gathering; and plain sums."""
    v = Vectors(dtype, target.width)
    size, lanes, width = v.size, v.lanes, v.width
    multiply, pack_piece, deliver = products.multiply(v), packing.packing(v), packing.delivering(v)
    invoke = products.INVOKED
    _, add, *_ = packing.words_for(v)

    def pack(lo: int, hi: int, thread: int, a_record: int, a: int, a_to: int, b_record: int, b: int, b_to: int) -> None:
        """Pieces of the rows of both operands."""
        first = word(a_record, packing.TASKS)
        for task in range(lo, hi):
            if task < first:
                pack_piece(a_record, a, a_to, task)
            else:
                pack_piece(b_record, b, b_to, task - first)

    def products_of(
        lo: int, hi: int, thread: int,
        a: int, b: int, out: int, more: int, scratch: int, scratch_step: int,
        blocks: int, panels: int, taps: int, groups: int, parts: int,
        row_count: int, block_rows: int, block_table: int, columns: int, last_columns: int, last_count: int,
        rows: int, places: int, staged_rows: int, a_offsets: int, b_offsets: int, b_last_offsets: int,
        tap_offsets: int, tap_places: int, steps: int, step_count: int,
        a_step: int, b_step: int, b_last_step: int, a_group: int, b_group: int, b_panel: int,
        out_group: int, out_panel: int, step_lane: int, ahead: int, far_a: int, far_b: int,
    ) -> None:  # fmt: skip
        """Tasks lo..hi of parts (of the pixels) x groups x taps x panels x blocks (of rows), the last innermost.

        Sums go to their place at once where lanes lie side by side; `more` adds to what is there, in the same order.
        `ahead`: the address of the products that fetch what lies `far_a` and `far_b` further in the operands, or 0.
        """
        pitch = columns * width
        direct = parts == 1 and step_lane == size and (more == 0 or step_count == 1)
        for task in range(lo, hi):
            block = task % blocks
            rest = task // blocks
            panel = rest % panels
            rest //= panels
            tap = rest % taps
            rest //= taps
            group = rest % groups
            part = rest // groups
            final = panel == panels - 1
            these = last_columns if final else columns
            here = min(block_rows, row_count - block * block_rows)
            table = 8 * block * block_table
            sums = scratch + (thread if parts == 1 else task) * scratch_step
            left = a + group * a_group
            right = b + group * b_group + panel * b_panel + word(tap_offsets, tap + taps if final else tap)
            right_offsets = b_last_offsets if final else b_offsets
            right_step = b_last_step if final else b_step
            first, stop = step_count * part // parts, step_count * (part + 1) // parts
            to = out + group * out_group + panel * out_panel + word(tap_places, tap)
            channels = (these - 1) * lanes + (last_count if final else lanes)
            goal, goal_rows, begin = sums, staged_rows, 0
            if direct:
                goal, goal_rows, begin = to, places + table, 2 * more
            for step in range(first, stop):
                at = 8 * word(steps, 3 * step)
                count = last_count if final and direct else lanes
                started = begin if step == first else 2
                many, depth = word(steps, 3 * step + 1), word(steps, 3 * step + 2)
                if ahead:
                    invoke(
                        ahead, these, left, rows + table, a_offsets + at, a_step, right, right_offsets + at, right_step, many,
                        depth, goal, goal_rows, here, count, started, 0, 0, far_a, 0, far_b,
                    )  # fmt: skip
                else:
                    multiply(
                        these, left, rows + table, a_offsets + at, a_step, right, right_offsets + at, right_step, many,
                        depth, goal, goal_rows, here, count, started, 0, 0,
                    )  # fmt: skip
            if parts == 1 and not direct:
                deliver(to, step_lane, places + table, sums, pitch, here, channels, more)

    def gather(
        lo: int, hi: int, thread: int,
        out: int, more: int, scratch: int, scratch_step: int,
        blocks: int, panels: int, taps: int, groups: int, parts: int,
        row_count: int, block_rows: int, block_table: int, columns: int, last_columns: int, last_count: int,
        places: int, tap_places: int, out_group: int, out_panel: int, step_lane: int,
    ) -> None:  # fmt: skip
        """Add what the parts found, and put it into the gradient; tasks as above, of one part."""
        pitch = columns * width
        for task in range(lo, hi):
            block = task % blocks
            rest = task // blocks
            panel = rest % panels
            rest //= panels
            tap = rest % taps
            final = panel == panels - 1
            channels = ((last_columns if final else columns) - 1) * lanes + (last_count if final else lanes)
            here = min(block_rows, row_count - block * block_rows)
            sums = scratch + task * scratch_step
            for part in range(1, parts):
                others = sums + part * (blocks * panels * taps * groups) * scratch_step
                for at in range(0, here * pitch, width):
                    add(sums + at, others + at)
            to = out + rest // taps * out_group + panel * out_panel + word(tap_places, tap)
            deliver(to, step_lane, places + 8 * block * block_table, sums, pitch, here, channels, more)

    return {"pack": pack, "products": products_of, "gather": gather, "totals": totals_of(v)}
