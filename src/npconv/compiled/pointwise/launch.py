"""When pixels can be the lanes of a convolution with one tap, and the words of that launch; no Numba here."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ...geometry import ConvGeometry, Ints, ceil_div, total
from .. import catalogue, tasks
from ..calls import Launch, Words
from ..panels import LINE, SPARE, TILE_ROWS, WAY, panels, vector_bytes, whole_lines

#: The share of lanes that must be pixels, and their vectors at least, unless weights would have to be brought in order for
#: less than so many images.
FILLED, VECTORS, IMAGES = 0.8, 2, 4
#: Bytes of weights above which they must lie side by side from channel to channel, or there must be so many pixels.
SCATTERED_BYTES, MANY_PIXELS = 128 << 10, 512
#: Register tiles from which on a panel is copied whose vectors lie across cache lines, or meet in a set of it.
PACKING = 16


@lru_cache(maxsize=4096)
def applies(geometry: ConvGeometry, x_strides: Ints, y_strides: Ints, w_steps: Ints | None, size: int) -> bool:
    """Whether all that a convolution does is a product, pixels lie side by side in x and y, and this is the faster way.

    Weights lie in steps of `w_steps`, or in panels if that is None.
    """
    if geometry.taps > 1 or any(lo or hi for lo, hi in geometry.padding):
        return False
    outputs, pixels = geometry.out_shape, total(geometry.out_shape)
    if not total(geometry.y_shape) or any(s > 1 and m > 1 for s, m in zip(geometry.stride, outputs, strict=True)):
        return False
    if not all(_dense(outputs, strides[2:], size) for strides in (x_strides, y_strides)):
        return False
    lanes = vector_bytes() // size
    vectors = ceil_div(pixels, lanes)
    filled = vectors >= VECTORS and pixels >= FILLED * vectors * lanes
    if w_steps is None:
        return filled
    near = w_steps[2] == size or pixels >= MANY_PIXELS or total(geometry.w_shape) * size <= SCATTERED_BYTES
    return near and (filled or (geometry.batch < IMAGES and pixels >= lanes))


def _dense(sizes: Ints, strides: Ints, size: int) -> bool:
    """Whether elements follow each other in C order."""
    for n, step in zip(reversed(sizes), reversed(strides), strict=True):
        if n > 1 and step != size:
            return False
        size *= n
    return True


@lru_cache(maxsize=4096)
def plan(
    geometry: ConvGeometry, x_strides: Ints, y_strides: Ints, w_steps: Ints | None, dtype: np.dtype, workers: int
) -> Launch:
    """The launch that computes what it `applies` to; weights lie in steps of `w_steps`, or in panels if that is None."""
    size, lanes = dtype.itemsize, vector_bytes() // dtype.itemsize
    group, (c, o), pixels = geometry.groups, geometry.per_group, total(geometry.out_shape)
    p = panels(o, size)
    heights = TILE_ROWS[vector_bytes()]
    vectors, best = ceil_div(pixels, lanes), max(range(1, len(heights) + 1), key=lambda n: (n * heights[n - 1], -n))
    count = 1 if vectors <= len(heights) else ceil_div(vectors, best)
    columns, wider = divmod(vectors, count)
    tall = heights[columns + (wider > 0) - 1]
    tiles = ceil_div(o, tall)
    boxes, costs = geometry.batch * group, (columns + 1,) * wider + (columns,) * (count - wider)
    parts, cuts = tasks.shares(boxes, costs, workers, max(1, tiles // 2), False)
    _, _, depth = tasks.chunks((1, 1, 1), (1, 1, 1), c)
    numbers = np.arange(o, dtype=np.int64)
    if w_steps is None:
        wide, last = (many * lanes * size for many in (p.columns, p.last))
        panel, lane = np.divmod(numbers, p.columns * lanes)
        w_rows, w_c, last_w_c = panel * wide * c + lane * size, wide, last
        w_group, last_outputs = (wide * (p.count - 1) + last) * c, p.columns * lanes * (p.count - 1)
    else:
        w_group, w_o, w_c, *_ = w_steps
        w_rows, last_w_c, last_outputs = numbers * w_o, w_c, o
    spare = np.full(SPARE, -1)
    rows = np.concatenate([numbers, numbers[spare]])
    arrays = {"w_rows": w_rows[rows], "y_rows": (numbers * y_strides[1])[rows], "nothing": np.zeros(1, np.int64)}
    widest, packs = columns + (wider > 0), tiles >= PACKING and (x_strides[1] % LINE > 0 or x_strides[1] % WAY == 0)
    values = {
        "groups": group, "parts": parts, "cuts": cuts, "panels": count, "columns": columns, "wider": wider,
        "rest": pixels - (vectors - 1) * lanes, "batch_step": x_strides[0], "y_batch_step": y_strides[0],
        "step_c": x_strides[1], "step_o": y_strides[1], "channels": c, "outputs": o, "chunk": depth,
        "tiles": tiles, "tall": tall, "w_group": w_group, "w_c": w_c, "last_outputs": last_outputs, "last_w_c": last_w_c,
        "bias_group": p.count * p.columns * lanes * size, "packs": int(packs),
        "product": catalogue.kernel("products", "across", f"f{size}").address,
        "bringing": widest * tall,
        "scratch_step": whole_lines(depth * widest * vector_bytes()) + LINE,
    }  # fmt: skip
    words = Words(catalogue.kernel("pointwise", "forward", f"f{size}"), values, arrays)
    return Launch(words, boxes * parts * cuts, 2 * geometry.macs, values["scratch_step"])
