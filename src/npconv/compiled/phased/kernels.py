"""The phases of a strided transposition side by side: a box of x is packed once, each phase writes to its own places.

A phase is a convolution of stride 1 (see `npconv.geometry.Phase`), its outputs a residue class of the output. What
`npconv.compiled.blocked` does for one of them happens here panel by panel for all: a panel belongs to one phase, which
has taps, pixels and places of its own. Nothing is computed twice or interleaved afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import packing, products, weights
from ..emit import Vectors, prefetch, word
from ..panels import LINE, NONE
from ..target import Target
from .records import CORNER, RECORD

(
    PHASE, COLUMNS, COUNT, TAPS, MERGED, DEEP, CHUNK_TAPS, CHUNK_DEPTH, TAP_AT, W_AT, CHUNK_AT, BIAS_AT, Y_AT, FROM, FROM_AT,
    KERNEL, TO_AT,
) = range(len(RECORD))  # fmt: skip

#: Input channels whose weights are brought into the cache ahead.
AHEAD = 4


def kernels(dtype: str, target: Target) -> dict[str, Callable[..., Any]]:
    """The forward pass and two ways to bring weights in order."""
    v = Vectors(dtype, target.width)
    size, lanes, width = v.size, v.lanes, v.width
    (pack_box, spread), pack_panel = packing.boxes(v), weights.panel(v)
    invoke = products.INVOKED
    copy, transpose, transpose_edge = v.copy, v.transpose, v.transpose_edge
    record_step, corner_step = 8 * len(RECORD), 8 * len(CORNER)

    def forward(
        lo: int, hi: int, thread: int, x: int, w: int, bias: int, bounds: int, y: int, scratch: int, scratch_step: int,
        boxes_d: int, boxes_h: int, boxes_w: int, size_d: int, size_h: int, size_w: int,
        parts: int, cuts: int, groups: int, pitch: int,
        batch_step: int, y_batch_step: int, step_c: int, step_d: int, step_h: int, step_w: int, step_o: int,
        channels: int, outputs: int, in_d: int, in_h: int, in_w: int, lo_d: int, lo_h: int, lo_w: int,
        box_d: int, box_h: int, box_w: int, y_step_p: int, packs: int, direct: int,
        rows: int, places: int, staged_rows: int, corners: int, records: int, edges: int, tap_offsets: int, w_offsets: int,
        w_group: int, bias_group: int, fresh: int, w_o: int, w_c: int, along: int, tap_steps: int, chunk_offsets: int,
        at_weights: int, kinds: int, halved: int, far: int, far_row: int, far_step: int,
    ) -> None:  # fmt: skip
        """Tasks lo..hi of batch x boxes x groups x parts (panels, by `edges`) x cuts (runs of pixels), the last innermost.

        `fresh` weights are the caller's, which are brought in order a chunk at a time. `kinds`: see `blocked`.
        """
        mine = scratch + thread * scratch_step
        staged = mine + packs
        packed = -1
        boxes = boxes_d * boxes_h * boxes_w
        for task in range(lo, hi):
            cut = task % cuts
            part = task // cuts % parts
            rest = task // (cuts * parts)
            group = rest % groups
            box = rest // groups
            corner = box % boxes
            n = box // boxes
            bw = corner % boxes_w
            bh = corner // boxes_w % boxes_h
            bd = corner // (boxes_w * boxes_h)
            base = x + n * batch_step + group * channels * step_c
            if packs:
                if packed != box * groups + group:
                    pack_box(
                        mine, base, step_c, step_d, step_h, step_w, channels, in_d, in_h, in_w, box_d, box_h, box_w,
                        lo_d - bd * size_d, lo_h - bh * size_h, lo_w - bw * size_w,
                    )  # fmt: skip
                    packed = box * groups + group
                base = mine
            first_panel = word(edges, part)
            for panel in range(first_panel, word(edges, part + 1)):
                record = records + record_step * panel
                about = corners + corner_step * ((word(record, PHASE) * boxes + corner) * cuts + cut)
                coming_step = far_step if panel == first_panel else 0
                pixels, table = word(about, 0), 8 * word(about, 1)
                if pixels == 0:
                    continue
                source = base if packs else base + word(about, 2)
                to = y + n * y_batch_step + group * outputs * step_o + word(about, 3) + word(record, Y_AT)
                these, count, taps, deep = (
                    word(record, COLUMNS), word(record, COUNT), word(record, TAPS), word(record, DEEP)
                )  # fmt: skip
                held = count
                row = these * width
                c, c_rows = to, places + table
                if not direct:
                    c, c_rows, count = staged, staged_rows + table, lanes
                short = halved != 0 and 2 * held <= lanes
                if short:
                    count = min(count, lanes // 2)
                product = word(kinds, (2 if panel > first_panel else 0) + (1 if short else 0))
                start, first_bias = 0, bias + group * bias_group + word(record, BIAS_AT)
                if bias:
                    start = 1
                tap = 0
                while tap < taps:
                    many = min(word(record, CHUNK_TAPS), taps - tap)
                    offsets = tap_offsets + 8 * (word(record, TAP_AT) + tap)
                    at_w = w_offsets + 8 * (word(record, W_AT) + tap)
                    k = 0
                    while k < deep:
                        depth = min(word(record, CHUNK_DEPTH), deep - k)
                        limits = bounds if tap + many == taps and k + depth == deep else bounds + NONE * size
                        at = w + group * w_group + k * row
                        if fresh:
                            merged, at = word(record, MERGED), mine + at_weights
                            pack_panel(
                                at, row, word(record, CHUNK_DEPTH) // merged * row,
                                w + group * w_group + word(record, FROM) * w_o + k * w_c, w_o, w_c,
                                tap_steps + 8 * (word(record, FROM_AT) + tap * merged), many * merged, depth // merged,
                                (these - 1) * lanes + held, 0, along, at - lanes * width,
                            )  # fmt: skip
                            at_w = chunk_offsets + 8 * word(record, CHUNK_AT)
                        invoke(
                            product, these, source + k * size, rows + table, offsets, size, at, at_w, row, many, depth, c,
                            c_rows, pixels, count, start, first_bias, limits,
                            source + k * size + word(rows, table >> 3) + far, far_row, coming_step,
                        )  # fmt: skip
                        start = 2
                        k += depth
                    tap += many
                if not direct:
                    spread(to, step_o, places + table, staged, pitch, pixels, (these - 1) * lanes + held, y_step_p)

    def pack(
        lo: int, hi: int, thread: int, to: int, w: int, w_g: int, w_o: int, w_c: int, channels: int,
        panels: int, cuts: int, records: int, tap_steps: int, w_group: int, along: int, scratch: int, scratch_step: int,
    ) -> None:  # fmt: skip
        """Blocks lo..hi of groups x panels x cuts of the input channels: weights of any strides, tap by tap."""
        for block in range(lo, hi):
            cut = block % cuts
            record = records + record_step * (block // cuts % panels)
            group = block // (cuts * panels)
            row = word(record, COLUMNS) * width
            first = channels * cut // cuts
            pack_panel(
                to + group * w_group + word(record, TO_AT) + first * row, row, channels * row,
                w + group * w_g + word(record, FROM) * w_o + first * w_c, w_o, w_c,
                tap_steps + 8 * word(record, FROM_AT), word(record, KERNEL), channels * (cut + 1) // cuts - first,
                (word(record, COLUMNS) - 1) * lanes + word(record, COUNT), 0, along, scratch + thread * scratch_step,
            )  # fmt: skip

    def turn(
        lo: int, hi: int, thread: int, to: int, w: int, w_g: int, w_o: int, w_c: int, channels: int, outputs: int,
        vectors: int, cuts: int, taps: int, places: int, steps: int, w_group: int, scratch: int, scratch_step: int,
    ) -> None:  # fmt: skip
        """Blocks lo..hi of groups x vectors of output channels x cuts of the input channels, all taps of all phases at once.

        Tap t of vector j goes to places[j taps + t], the next input channel `steps[j]` bytes on; the taps of `w` are one run.
        """
        spare = scratch + thread * scratch_step
        for block in range(lo, hi):
            cut = block % cuts
            j = block // cuts % vectors
            group = block // (cuts * vectors)
            valid, row, table = min(lanes, outputs - j * lanes), word(steps, j), places + 8 * j * taps
            for c in range(channels * cut // cuts, channels * (cut + 1) // cuts):
                source, at = w + group * w_g + j * lanes * w_o + c * w_c, to + group * w_group + c * row
                for line in range(0, lanes * w_o, LINE):  # short runs, far apart
                    prefetch(source + AHEAD * w_c + line)
                for t in range(0, taps, lanes):
                    many = min(lanes, taps - t)
                    if valid == lanes and many == lanes:
                        transpose(spare, width, source + t * size, w_o)
                    else:
                        transpose_edge(spare, width, source + t * size, w_o, valid, many, lanes)
                    for i in range(many):
                        copy(at + word(table, t + i), spare + i * width)

    return {"forward": forward, "pack": pack, "turn": turn}
