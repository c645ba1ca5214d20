"""Weights into the transformed domain: U = G w G^T, in the panels that the products read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..build import inner
from ..emit import Vectors, emitted, prefetch, word
from ..panels import LINE
from ..parts import invoke

#: Input channels that are brought into the cache ahead: one after the other they lie too far apart for hardware to see.
AHEAD = 6


def weights(v: Vectors) -> Callable[..., Any]:
    """The kernel that transforms weights of any strides by one of the matrices G."""
    lanes, width, bring = v.lanes, v.width, bringer(v)

    def weights(
        lo: int, hi: int, thread: int,
        w: int, to: int, scratch: int, scratch_step: int, transform: int, n_h: int, taps: int, w_taps: int,
        channels: int, w_g: int, w_o: int, w_c: int, w_h: int, w_w: int, w_j: int, side_h: int, side_w: int,
        lowest: int, run_taps: int, together: int, panels: int, columns: int, last_columns: int, last_count: int,
        u_panel: int, u_group: int, u_step: int, u_last: int, cuts: int,
    ) -> None:  # fmt: skip
        """Blocks lo..hi of groups x panels x cuts of the input channels."""
        held = scratch + thread * scratch_step
        for block in range(lo, hi):
            cut = block % cuts
            panel = block // cuts % panels
            group = block // (cuts * panels)
            final = panel == panels - 1
            these = last_columns if final else columns
            row = these * width
            first, stop = channels * cut // cuts, channels * (cut + 1) // cuts
            for tap in range(taps):
                brought = w_taps + 24 * tap
                bring(
                    transform, to + group * u_group + panel * u_panel + (tap * channels + first) * row, row, width,
                    u_last if final else u_step,
                    w + group * w_g + panel * columns * w_j + word(brought, 0) + first * w_c, w_o, w_c, w_h, w_w, w_j,
                    stop - first, these, last_count if final else lanes, word(brought, 1), word(brought, 2), side_h, side_w,
                    lowest, run_taps, together, n_h, held,
                )  # fmt: skip

    return weights


def bringer(v: Vectors) -> Any:
    """bring(transform, to, row, vector, step, w, ...): some input channels of some vectors of output channels, transformed.

    Channel c, vector j and position p go to to + c row + j vector + p step. Of the last vector `last` channels exist,
    zeros follow. Taps that lie side by side (`run` of them, perhaps backwards, the first `lowest` bytes away) are
    gathered, for `together` input channels at once if those lie side by side too; and so are single taps of input channels
    that lie side by side. There are taps_h x taps_w of them;
    for the side_h x side_w that the form has, zeros follow.
    """
    size, lanes, width = v.size, v.lanes, v.width
    gather, take, copy_one, clear = _gather(v), _take(v), v.copy_one, v.clear
    across = invoke(10)

    @inner
    def bring(
        transform: int, to: int, row: int, vector: int, step: int, w: int, w_o: int, w_c: int, w_h: int, w_w: int, w_j: int,
        channels: int, these: int, last: int, taps_h: int, taps_w: int, side_h: int, side_w: int, lowest: int, run: int,
        together: int, n_h: int, held: int,
    ) -> None:  # fmt: skip
        whole, complete = 0, taps_h == side_h and taps_w == side_w
        for i in range(0 if complete else side_h * side_w * together):
            clear(held + i * width)
        if w_o == size and complete:
            whole = these - (last < lanes)
            for c in range(channels if whole else 0):
                for a in range(taps_h):
                    for b in range(taps_w):
                        for j in range(whole):
                            prefetch(w + (c + AHEAD) * w_c + a * w_h + b * w_w + j * w_j)
                across(transform, n_h > 1, to + c * row, vector, step, w + c * w_c, w_j, w_h, w_w, 0, whole)
        for j in range(whole, these):
            valid = last if j == these - 1 else lanes
            at = to + j * vector
            for c in range(0, channels, together):
                many = min(together, channels - c)
                source = w + j * w_j + c * w_c
                if run:
                    for line in range(0, lanes * w_o if w_o == run * size else 0, LINE):  # those of an input gradient
                        prefetch(source + AHEAD * w_c + line)
                    for q in range(0, many * run, lanes):
                        gather(held + q * width, source + lowest + q * size, w_o, valid, many * run - q)
                    source, step_c, step_h, step_w = held - lowest * lanes, run * width, w_h * lanes, w_w * lanes
                elif together > 1:
                    for a in range(taps_h):
                        for b in range(taps_w):
                            gather(
                                held + (a * side_w + b) * lanes * width, source + a * w_h + b * w_w, w_o, valid, many
                            )
                    source, step_c, step_h, step_w = held, width, side_w * lanes * width, lanes * width
                else:  # one channel at a time
                    for a in range(taps_h):
                        for b in range(taps_w):
                            place, tap = held + (a * side_w + b) * width, source + a * w_h + b * w_w
                            if w_o == size:
                                take(place, tap, valid)
                            else:
                                clear(place)
                                for i in range(valid):
                                    copy_one(place + i * size, tap + i * w_o)
                    source, step_c, step_h, step_w = held, 0, side_w * width, width
                across(transform, n_h > 1, at, row, step, source, step_c, step_h, step_w, 0, many)
                at += many * row

    return bring


@inner
def no_weights(
    transform: int, to: int, row: int, vector: int, step: int, w: int, w_o: int, w_c: int, w_h: int, w_w: int, w_j: int,
    channels: int, these: int, last: int, taps_h: int, taps_w: int, side_h: int, side_w: int, lowest: int, run: int,
    together: int, n_h: int, held: int,
) -> None:  # fmt: skip
    """In the place of `bring` where weights are prepared: a kernel takes seconds to compile, and a third of it is that."""


def _take(v: Vectors) -> Any:
    """take(to, from, count): the first elements of a vector, zeros for the rest."""

    @emitted(3)
    def take(b: Any, a: Any) -> None:
        v.store(b, v.masked_load(b, v.mask(b, a[2]), a[1]), a[0])

    return take


def _gather(v: Vectors) -> Any:
    """gather(to, from, step, rows, count): transposed, the first `count` elements of the first rows; the rest zeros."""

    @emitted(5)
    def gather(b: Any, a: Any) -> None:
        to, source, step, count_rows, count = a
        rows = [v.masked_load(b, *row) for row in v.rows(b, source, step, count_rows, count)]
        for q, row in enumerate(v.transposed(b, rows)):
            v.store(b, row, to, q * v.width)

    return gather
