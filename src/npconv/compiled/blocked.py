"""Convolution as blocked matrix products: any stride, dilation, rank and layout by one loop nest.

Lanes are output channels; the rows of a register tile are output pixels, addressed through a table, so that the kernel
never asks what the strides are (the indirect convolution of Dukhan 2019, arXiv:1907.02129, with offsets for pointers).
A task is a box of outputs and a run of channel panels:

1. pack the input box, zeros around it, pixels first and channels innermost (nothing is packed when x lies so already);
   weights that serve one call are packed too, a chunk at a time, where they are needed;
2. for each panel of output channels, chunk of products and register tile: one batch-reduce product;
3. where y is not channels-innermost, the tile rows go to scratch first and are transposed out.

No sum is longer than `SUMMED` products before it is rounded into the output, which keeps the error bound.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import packing, products, weights
from .emit import Vectors, word
from .panels import NONE
from .target import Target


def kernels(dtype: str, target: Target) -> dict[str, Callable[..., Any]]:
    """The forward pass and the packing of its weights."""
    v = Vectors(dtype, target.width)
    size, lanes, width = v.size, v.lanes, v.width
    (pack_box, spread), pack_panel = packing.boxes(v), weights.panel(v)
    invoke = products.INVOKED

    def forward(
        lo: int, hi: int, thread: int, x: int, w: int, bias: int, bounds: int, adds: int, y: int, scratch: int, scratch_step: int,
        boxes_d: int, boxes_h: int, boxes_w: int, size_d: int, size_h: int, size_w: int,
        parts: int, cuts: int, groups: int, panels: int, columns: int, last_columns: int, last_count: int,
        batch_step: int, y_batch_step: int, step_c: int, step_d: int, step_h: int, step_w: int, step_o: int,
        channels: int, outputs: int, in_d: int, in_h: int, in_w: int, lo_d: int, lo_h: int, lo_w: int,
        stride_d: int, stride_h: int, stride_w: int, box_d: int, box_h: int, box_w: int, y_step_p: int,
        packs: int, direct: int, rows: int, places: int, staged_rows: int, corners: int,
        taps: int, merged: int, tap_offsets: int, w_offsets: int, chunk_taps: int, chunk_depth: int, w_row: int,
        panel_step: int, group_step: int, fresh: int, w_g: int, w_o: int, w_c: int, w_taps: int, w_run: int, w_along: int,
        chunk_offsets: int, at_weights: int, kinds: int, halved: int,
        boxes: int, workers: int, far: int, far_row: int, far_step: int,
    ) -> None:  # fmt: skip
        """Tasks lo..hi of batch x boxes x groups x parts (runs of panels) x cuts (runs of pixels), the last innermost.

        `merged` taps lie side by side in x and count as one tap of so many times the channels. `adds` is 2 where the
        outputs are added to what is there. `kinds`: see `ordered.kinds`; `halved`: half of a last vector is enough.
        What `kinds` bring ahead lies `far` from a task's first pixel, or it is the box which this thread will have next
        if all `workers` are alike.
        """
        area = boxes_d * boxes_h * boxes_w
        depths = merged * channels
        mine = scratch + thread * scratch_step
        staged = mine + packs
        packed = -1
        for task in range(lo, hi):
            cut = task % cuts
            part = task // cuts % parts
            rest = task // (cuts * parts)
            group = rest % groups
            box = rest // groups
            corner = box % area
            n = box // area
            bw = corner % boxes_w
            bh = corner // boxes_w % boxes_h
            bd = corner // (boxes_w * boxes_h)
            corner = (corner * cuts + cut) * 4
            count_pixels = word(corners, corner)
            table = word(corners, corner + 1)
            base = x + n * batch_step + group * channels * step_c
            if packs:
                if packed != box * groups + group:
                    pack_box(
                        mine, base, step_c, step_d, step_h, step_w, channels, in_d, in_h, in_w, box_d, box_h, box_w,
                        lo_d - bd * size_d * stride_d, lo_h - bh * size_h * stride_h, lo_w - bw * size_w * stride_w,
                    )  # fmt: skip
                    packed = box * groups + group
                base = mine
                following = min((task + workers) // (cuts * parts), boxes - 1)
                box = following // groups
                coming = x + box // area * batch_step + following % groups * channels * step_c
                coming += word(corners, box % area * cuts * 4 + 2)
            else:
                base += word(corners, corner + 2)
                coming = base + word(rows, table) + far
            target = y + n * y_batch_step + word(corners, corner + 3) + group * outputs * step_o
            first_panel = panels * part // parts
            last_panel = panels * (part + 1) // parts
            for panel in range(first_panel, last_panel):
                coming_step = far_step if panel == first_panel else 0
                final = panel == panels - 1
                these = last_columns if final else columns
                count = last_count if final else lanes
                row = these * width
                if direct:
                    c, c_rows = target + panel * columns * width, places + 8 * table
                else:
                    c, c_rows = staged, staged_rows + 8 * table
                    count = lanes
                if final and halved:
                    count = min(count, lanes // 2)
                product = word(kinds, (2 if panel > first_panel else 0) + (1 if final else 0))
                row_step = w_row if w_row else row
                started = adds + (1 if bias else 0)
                first_bias = bias + (group * panels + panel) * columns * width
                tap = 0
                while tap < taps:
                    many = min(chunk_taps, taps - tap)
                    k = 0
                    while k < depths:
                        depth = min(chunk_depth, depths - k)
                        limits = bounds if tap + many == taps and k + depth == depths else bounds + NONE * size
                        if fresh:
                            at = mine + at_weights
                            first = panel * columns * lanes
                            pack_panel(
                                at, row, chunk_depth // merged * row, w + group * w_g + first * w_o + k * w_c, w_o, w_c,
                                w_taps + 8 * tap * merged, many * merged, depth // merged,
                                min(these * lanes, outputs - first), w_run, w_along, at - lanes * width,
                            )  # fmt: skip
                            offsets = chunk_offsets + 8 * (chunk_taps if final else 0)
                        else:
                            at = w + group * group_step + panel * panel_step + k * row_step
                            offsets = w_offsets + 8 * (tap + (taps if final else 0))
                        invoke(
                            product, these, base + k * size, rows + 8 * table, tap_offsets + 8 * tap, size, at, offsets, row_step,
                            many, depth, c, c_rows, count_pixels, count, started, first_bias, limits,
                            coming + k * step_c, far_row, coming_step,
                        )  # fmt: skip
                        started = 2
                        k += depth
                    tap += many
                if not direct:
                    width_here = (these - 1) * lanes + (last_count if final else lanes)
                    spread(
                        target + panel * columns * lanes * step_o, step_o, places + 8 * table, staged, columns * width,
                        count_pixels, width_here, y_step_p,
                    )  # fmt: skip

    return {"forward": forward}
