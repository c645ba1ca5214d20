"""Convolution with one tap where pixels lie side by side: a matrix product that reads x and the weights, and writes y, in place.

    y[o, p] = sum over c of w[o, c] x[c, p]

Lanes are pixels, the rows of a register tile are output channels. The sums are those of the blocked convolution, product
after product, so that the same numbers in another memory layout give the same bits. A task is a run of panels of pixels
and a run of output channels. Nothing is brought in order but the last panel, where vectors would read behind the pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import products
from ..build import inner
from ..emit import Vectors
from ..panels import NONE
from ..target import Target


def kernels(dtype: str, target: Target) -> dict[str, Callable[..., Any]]:
    """The forward pass."""
    v = Vectors(dtype, target.width)
    size, lanes, width = v.size, v.lanes, v.width
    copy, copy_head, invoke = v.copy, v.copy_head, products.INVOKED

    @inner
    def pack(to: int, x: int, step_c: int, channels: int, vectors: int, rest: int) -> None:
        """Some vectors of pixels of each channel, the last of `rest` pixels, side by side."""
        for _ in range(channels):
            for j in range(vectors - 1):
                copy(to + j * width, x + j * width)
            copy_head(to + (vectors - 1) * width, x + (vectors - 1) * width, rest)
            to += vectors * width
            x += step_c

    def forward(
        lo: int, hi: int, thread: int, x: int, w: int, bias: int, bounds: int, adds: int, y: int, scratch: int, scratch_step: int,
        groups: int, parts: int, cuts: int, panels: int, columns: int, wider: int, rest: int, batch_step: int, y_batch_step: int,
        step_c: int, step_o: int, channels: int, outputs: int, chunk: int, tiles: int, tall: int,
        w_group: int, w_c: int, last_outputs: int, last_w_c: int, bias_group: int,
        w_rows: int, y_rows: int, nothing: int, product: int, bringing: int, packs: int,
    ) -> None:  # fmt: skip
        """Tasks lo..hi of batch x groups x parts (runs of panels of pixels) x cuts (runs of outputs), the last innermost.

        The first `wider` panels have a vector more than `columns`. Weights of the outputs from `last_outputs` on are
        `last_w_c` apart from channel to channel, not `w_c`. The first products with a panel, of `bringing` outputs, bring the
        next one into the cache: hardware does not see that it lies beside this one.
        """
        mine = scratch + thread * scratch_step
        for task in range(lo, hi):
            cut = task % cuts
            part = task // cuts % parts
            group = task // (cuts * parts) % groups
            n = task // (cuts * parts * groups)
            first, stop = min(outputs, tiles * cut // cuts * tall), min(outputs, tiles * (cut + 1) // cuts * tall)
            base, target = (
                x + n * batch_step + group * channels * step_c,
                y + n * y_batch_step + group * outputs * step_o,
            )
            for panel in range(panels * part // parts, panels * (part + 1) // parts):
                at = (panel * columns + min(panel, wider)) * width
                these = columns + (1 if panel < wider else 0)
                count = rest if panel == panels - 1 else lanes
                for c in range(0, channels, chunk):
                    depth = min(chunk, channels - c)
                    started = 2 if c else adds + (1 if bias else 0)
                    limits = bounds if c + depth == channels else bounds + NONE * size
                    source, step = base + c * step_c + at, step_c
                    if packs or count < lanes:
                        pack(mine, source, step_c, depth, these, count)
                        source, step = mine, these * width
                    o = first
                    while o < stop:
                        end, w_step, far = stop, last_w_c, 0
                        if o < last_outputs:
                            end, w_step = min(stop, last_outputs), w_c
                        if source != mine and o < first + bringing:
                            end, far = min(end, first + bringing), these * width
                        invoke(
                            product, these, w + group * w_group + c * w_step, w_rows + 8 * o, nothing, w_step, source, nothing,
                            step, 1, depth, target + at, y_rows + 8 * o, end - o, count, started,
                            bias + group * bias_group + o * size if bias else 0, limits, far, 0, 0,
                        )  # fmt: skip
                        o = end

    return {"forward": forward}
