"""Convolution with few outputs, lanes are pixels: no lane waits for an output that nobody wants.

A task is a box of outputs of one image, of one group or of several whose channels lie side by side:

1. bring the inputs it reads into planes, a row of pixels after the other, zeros around; what a stride steps over goes to
   planes of its own, so that neighbours of a plane are always read by neighbours of the outputs;
2. for a few outputs and a run of pixels at a time, sum the products with all taps in registers. A plane is one long row:
   the few pixels between two rows of outputs are computed too, and left behind;
3. bring the rows to their places in y.

No sum is longer than `CHUNK` products before it is rounded into memory, which keeps the error bound.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..emit import Vectors
from ..panels import NONE
from ..target import Target
from .pack import planes, rows_out, weights
from .sizes import REST, TAIL, TILES
from .tiles import forward_tiles


def kernels(dtype: str, target: Target) -> dict[str, Callable[..., Any]]:
    """The forward pass, and its weights brought in order."""
    v = Vectors(dtype, target.width)
    size, lanes, width = v.size, v.lanes, v.width
    pack_planes, write_rows, pack_weights, run = planes(v), rows_out(v), weights(v), forward_tiles(v)
    wide1, wide2, wide3, wide4 = TILES[v.registers]

    def prepare(
        lo: int, hi: int, thread: int,
        w: int, to: int, step_g: int, step_o: int, step_c: int, outputs: int, channels: int, taps: int, w_offsets: int,
        blocks: int,
    ) -> None:  # fmt: skip
        """Groups lo..hi of the weights."""
        for group in range(lo, hi):
            at = to + group * outputs * channels * taps * size
            pack_weights(at, w + group * step_g, step_o, step_c, outputs, channels, taps, w_offsets, blocks)

    def forward(
        lo: int, hi: int, thread: int,
        x: int, w: int, bias: int, bounds: int, adds: int, y: int, scratch: int, scratch_step: int,
        groups: int, bundle: int, channels: int, outputs: int, blocks: int, taps: int, chunk_taps: int, chunk_channels: int,
        batch_step: int, step_c: int, step_d: int, step_h: int, step_w: int, in_d: int, in_h: int, in_w: int,
        y_batch_step: int, step_o: int, y_step_d: int, y_step_h: int, y_step_w: int,
        out_d: int, out_h: int, out_w: int, boxes_h: int, boxes_w: int, box_h: int, box_w: int,
        lo_d: int, lo_h: int, lo_w: int, stride_d: int, stride_h: int, stride_w: int,
        pitch: int, rows: int, plane: int, count: int, parts: int, offsets: int, x_c: int, y_o: int, at_out: int,
        zeros: int, fresh: int, w_step_g: int, w_step_o: int, w_step_c: int, w_offsets: int, at_weights: int,
    ) -> None:  # fmt: skip
        """Tasks lo..hi of batch x bundles of groups x depth x boxes of rows and columns; `adds`: to what y holds."""
        mine = scratch + thread * scratch_step
        results = mine + at_out
        for task in range(lo, hi):
            left = task % boxes_w * box_w
            rest = task // boxes_w
            top = rest % boxes_h * box_h
            rest //= boxes_h
            od = rest % out_d
            rest //= out_d
            first = rest % (groups // bundle) * bundle
            n = rest // (groups // bundle)
            tall, broad = min(box_h, out_h - top), min(box_w, out_w - left)
            image = x + n * batch_step + first * channels * step_c
            pack_planes(
                mine, x_c, plane, pitch, rows, TAIL * width, image, step_c, step_d, step_h, step_w, bundle * channels,
                in_d, in_h, in_w, lo_d - od * stride_d, lo_h - top * stride_h, lo_w - left * stride_w, stride_h, stride_w,
                count, parts,
            )  # fmt: skip
            corner = y + n * y_batch_step + first * outputs * step_o + od * y_step_d + top * y_step_h + left * y_step_w
            if adds:
                pack_planes(
                    results, y_o, 0, pitch, tall, 0, corner, step_o, 0, y_step_h, y_step_w, bundle * outputs, 1, tall, broad,
                    0, 0, 0, 1, 1, 1, zeros,
                )  # fmt: skip
            vectors = ((tall - 1) * pitch + broad + lanes - 1) // lanes
            for group in range(first, first + bundle):
                inputs, sums = mine + (group - first) * channels * x_c, results + (group - first) * outputs * y_o
                factors = w + group * outputs * channels * taps * size
                if fresh:
                    factors = mine + at_weights
                    pack_weights(
                        factors, w + group * w_step_g, w_step_o, w_step_c, outputs, channels, taps, w_offsets, blocks
                    )
                for block in range(blocks):
                    o = outputs * block // blocks
                    these = outputs * (block + 1) // blocks - o
                    wide = wide1 if these == 1 else wide2 if these == 2 else wide3 if these == 3 else wide4
                    to, add, begin = sums + o * y_o, adds, bias + (group * outputs + o) * size
                    for c in range(0, channels, chunk_channels):
                        some = min(chunk_channels, channels - c)
                        for tap in range(0, taps, chunk_taps):
                            now = min(chunk_taps, taps - tap)
                            limits = bounds if c + some == channels and tap + now == taps else bounds + NONE * size
                            at, p = factors + ((o * channels + c * these) * taps + tap * these) * size, 0
                            while p < vectors:
                                narrow = 1 if p + wide > vectors + REST else 0
                                run(
                                    2 * these - 2 + narrow, inputs + c * x_c + p * width, x_c, offsets + 8 * tap, now, some, at,
                                    taps * these * size, to + p * width, y_o, begin, add, limits,
                                )  # fmt: skip
                                p += REST if narrow else wide
                            add, begin = 1, zeros
            write_rows(corner, step_o, y_step_h, y_step_w, results, y_o, pitch, bundle * outputs, tall, broad)

    return {"forward": forward, "prepare": prepare}
