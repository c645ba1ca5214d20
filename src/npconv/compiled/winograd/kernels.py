"""Fused Winograd convolution: tiles are transformed, multiplied and transformed back while they are in the cache.

Lanes are channels throughout. A task is a run of tiles (over images, tile rows and tile columns; `depths` output planes
each) and a run of panels of output channels:

1. V = B^T x B for every tile;
2. per panel and transformed position, the batch-reduce product M (+)= V U over input channels and depth taps, or with
   weights that stay in registers (`narrow`), where a task may be several groups that share vectors;
3. y = A^T M A + bias, written at once, or by way of scratch where y is not channels-innermost.

Consecutive tasks share V. Weights that serve one call may be transformed in step 2, a piece of U at a time. Axes come as
(depth, height, width): depth taps are summed directly, the height may go untransformed (one tap), the width never does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import packing, products
from ..emit import Vectors, word
from ..parts import invoke
from ..target import Target
from . import narrow
from .tiles import reader, teller, writer
from .weights import bringer, no_weights, weights


def kernels(dtype: str, target: Target) -> dict[str, Callable[..., Any]]:
    """The forward pass with prepared weights and with others, and the weights on their way in."""
    v = Vectors(dtype, target.width)
    return {
        "forward": forward_kernel(v, no_weights),
        "late": forward_kernel(v, bringer(v)),
        "weights": weights(v),
    }


def forward_kernel(v: Vectors, bring: Any) -> Callable[..., Any]:
    """The three steps, task by task."""
    size, lanes, width, read, write = v.size, v.lanes, v.width, reader(v), writer(v)
    multiply, spread, tell, clear = products.multiply(v, "columns_ahead"), packing.spreader(v), teller(v), v.clear
    multiply_narrow = invoke(len(narrow.ARGUMENTS.split()))

    def forward(
        lo: int, hi: int, thread: int,
        x: int, w: int, bias: int, bounds: int, y: int, found: int, scratch: int, scratch_step: int,
        input_transform: int, weight_transform: int, output_transform: int,
        m_h: int, m_w: int, n_h: int, n_w: int, depths: int, slices: int, phases: int, stride_d: int,
        tiles: int, tiles_h: int, tiles_w: int, per: int, runs: int, deep: int, parts: int,
        channels: int, inputs: int, outputs: int, stationary: int, bundle: int, next_group: int,
        images: int, in_d: int, lo_d: int, out_d: int,
        x_c: int, x_d: int, x_h: int, x_w: int, y_c: int, y_d: int, y_h: int, y_w: int,
        packs: int, direct: int, v_row: int, v_step: int, m_row: int, m_step: int, at_seen: int, at_v: int, at_m: int, at_box: int,
        at_out: int, rows: int, products_rows: int, tap_offsets: int, w_offsets: int, position_taps: int,
        entries: int, taps: int, together_taps: int,
        piece: int, pieces: int, v_piece: int, panels: int, columns: int, last_columns: int, last_count: int,
        u_panel: int, u_group: int, u_step: int, u_last: int,
        far: int, late: int, w_taps: int, w_g: int, w_o: int, w_c: int, w_h: int, w_w: int, w_j: int,
        side_h: int, side_w: int, lowest: int, run_taps: int, together: int, at_u: int, late_step: int, at_held: int,
    ) -> None:  # fmt: skip
        """Tasks lo..hi of groups x depth blocks x runs of tiles x parts (runs of panels).

        The word at `found` becomes 1 if an output is not finite, before it is bounded.
        """
        spare = scratch + thread * scratch_step
        seen = spare + at_seen
        clear(seen)
        data, sums, box, staged = spare + at_v, spare + at_m, spare + at_box, spare + at_out
        current = -1
        for task in range(lo, hi):
            part = task % parts
            block = task // parts
            run = block % runs
            plane = block // runs % deep * depths
            group = block // (runs * deep)
            first, stop = per * run, min(tiles, per * (run + 1))
            if current != block:
                current = block
                read(
                    input_transform, data, v_step, v_row, v_piece - v_row, spare, box, first, stop, plane * stride_d, packs,
                    x + group * inputs * x_c, images, x_c, x_d, x_h, x_w, inputs, in_d, lo_d,
                    tiles_h, tiles_w, m_h, m_w, n_h, n_w, slices, phases,
                )  # fmt: skip
            for panel in range(panels * part // parts, panels * (part + 1) // parts):
                final = panel == panels - 1
                these = last_columns if final else columns
                step = these * width
                weights = w + group * bundle * u_group + panel * u_panel
                position_step, offsets = u_last if final else u_step, w_offsets + (8 * entries if final else 0)
                turns, piece_first, piece_stop = 1, 0, pieces
                if late:
                    weights, position_step, turns = spare + at_u, late_step, taps * pieces
                for turn in range(turns):
                    if late:
                        brought, piece_first = w_taps + 24 * (turn // pieces), turn % pieces
                        piece_stop, k = piece_first + 1, piece_first * piece
                        for i in range(bundle):
                            bring(
                                weight_transform, weights + i * next_group, step, width, late_step,
                                w + (group * bundle + i) * w_g + panel * columns * w_j + word(brought, 0) + k * w_c,
                                w_o, w_c, w_h, w_w, w_j,
                                min(piece, channels - k), these, last_count if final else lanes, word(brought, 1),
                                word(brought, 2), side_h, side_w, lowest, run_taps, together, n_h, spare + at_held,
                            )  # fmt: skip
                    for position in range(n_h * n_w if stationary else 0):
                        multiply_narrow(
                            stationary, data + position * v_step, weights + position * position_step, next_group,
                            position_step, sums + position * m_step, stop - first, spare,
                        )  # fmt: skip
                    for position in range(0 if stationary else n_h * n_w):
                        tap = word(position_taps, 2 * position + 1)
                        tap_stop = tap + word(position_taps, 2 * position)
                        shift = 0
                        if late:  # one tap at a time, those that meet only zeros too
                            tap, tap_stop = turn // pieces, turn // pieces + 1
                            shift = 8 * tap
                        start = 2 if turn else 0
                        while tap < tap_stop:
                            many = min(together_taps, tap_stop - tap)
                            for i in range(piece_first, piece_stop):
                                multiply(
                                    these, data + position * v_step + i * v_piece, rows, tap_offsets + 8 * tap, size,
                                    weights + position * position_step + (i - piece_first) * piece * step,
                                    offsets + 8 * tap - shift, step, many, min(piece, channels - i * piece),
                                    sums + position * m_step, products_rows, (stop - first) * depths, lanes, start, 0, 0,
                                )  # fmt: skip
                                start = 2
                            tap += many
                t = first
                added = bias + (group * panels + panel) * columns * width
                while t < stop:
                    tx = t % tiles_w
                    ty = t // tiles_w % tiles_h
                    count = min(stop - t, tiles_w - tx)
                    about = images + t // (tiles_w * tiles_h) * 64 * phases
                    out_h, out_w = word(about, 6), word(about, 7)
                    many_h, many_w = min(m_h, out_h - ty * m_h), min(count * m_w, out_w - tx * m_w)
                    # of images of unequal size, the smaller ones may have no outputs here
                    for d in range(min(depths, out_d - plane) if many_h > 0 and many_w > 0 else 0):
                        corner = y + word(about, 1) + (plane + d) * y_d + ty * m_h * y_h + tx * m_w * y_w
                        corner += (group * outputs + panel * columns * lanes) * y_c
                        to, step_h, step_w = corner, y_h, y_w
                        if not direct:
                            to, step_h, step_w = staged, many_w * step, step
                        for i in range(count):
                            source = sums + ((t - first + i) * depths + d) * m_row
                            valid = min(m_w, many_w - i * m_w)
                            write(
                                output_transform, m_w, to, step_h, step_w, far, source, m_step, n_h > 1, many_h, valid, these,
                                last_count * bundle if direct and final else lanes, added, bounds, seen, spare,
                            )  # fmt: skip
                            to += m_w * step_w
                        if not direct:
                            held = (these - 1) * lanes + (last_count * bundle if final else lanes)
                            if many_w == out_w and y_h == out_w * y_w:
                                spread(corner, y_c, y_w, staged, step, many_h * many_w, held)
                            else:
                                for i in range(many_h):
                                    spread(corner + i * y_h, y_c, y_w, staged + i * step_h, step, many_w, held)
                    t += count
        tell(seen, found)

    return forward
