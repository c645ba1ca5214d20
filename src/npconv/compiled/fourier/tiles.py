"""Tiles of a tensor as planes of vectors: cut out with zeros around, transformed along each axis, written back.

A tensor is described to the kernels by `SHAPE` words: the steps of batch, channel and three axes in bytes; its channels;
three sizes; how far before the tensor the first tile begins; from tile to tile; tiles; and how much of a tile counts.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from ..build import inner
from ..emit import Vectors, emitted, i64, word
from .lines import lines

#: Where the words of a tensor begin: steps, channels, sizes, low pads, tile steps, tile counts, filled extents.
STEPS, CHANNELS, SIZES, LOWS, STRIDES, COUNTS, FILLED, SHAPE = 0, 5, 6, 9, 12, 15, 18, 21
#: Where the words of a tile begin (`fourier_tables.Tile`).
LENGTHS, POSITIONS, PLANE, PLANS, PAIRS, TABLE, NEEDED, NEEDED_AT = 0, 3, 6, 7, 10, 11, 12, 13


@cache
def partial(v: Vectors) -> tuple[Any, Any, Any, Any, Any]:
    """(load_part, store_part, block_in, block_flip, block_out): where only some elements of a vector or block exist."""

    @emitted(3)
    def load_part(b: Any, a: Any) -> None:
        """The first a[2] elements at a[1], zeros behind them, to a[0]."""
        v.store(b, v.masked_load(b, v.mask(b, a[2]), a[1]), a[0])

    @emitted(3)
    def store_part(b: Any, a: Any) -> None:
        """The first a[2] elements at a[1] to a[0]."""
        v.masked_store(b, v.load(b, a[1]), v.mask(b, a[2]), a[0])

    def read(b: Any, a: Any) -> list[Any]:
        """A transposed block of which a[4] rows of a[5] elements exist."""
        return v.transposed(b, [v.masked_load(b, *row) for row in v.rows(b, *a[2:])])

    def write(b: Any, block: list[Any], where: list[tuple[Any, Any]]) -> None:
        for row, place in zip(block, where, strict=True):
            v.masked_store(b, row, *place)

    @emitted(6)
    def block_in(b: Any, a: Any) -> None:
        """Transpose a[4] rows of a[5] elements; the block at a[0] is written whole, with zeros where nothing was."""
        for i, row in enumerate(read(b, a)):
            v.store(b, row, b.add(a[0], b.mul(a[1], i64(i))))

    @emitted(6)
    def block_flip(b: Any, a: Any) -> None:
        """The same, but just the a[5] rows that hold data are written, each whole."""
        write(b, read(b, a), v.rows(b, a[0], a[1], a[5], i64(v.lanes)))

    @emitted(6)
    def block_out(b: Any, a: Any) -> None:
        """Transpose a whole block; a[4] rows of a[5] elements of it are written."""
        block = v.transposed(b, [v.load(b, b.add(a[2], b.mul(a[3], i64(r)))) for r in range(v.lanes)])
        write(b, block, v.rows(b, a[0], a[1], a[4], a[5]))

    return load_part, store_part, block_in, block_flip, block_out


@cache
def rows(v: Vectors) -> tuple[Any, Any, Any]:
    """(zero, gather, scatter): runs of pixels between a tensor and vectors of channels, one vector a pixel."""
    load_part, store_part, block_in, block_flip, block_out = partial(v)
    size, lanes, width = v.size, v.lanes, v.width
    clear, copy, copy_one, transpose = v.clear, v.copy, v.copy_one, v.transpose

    @inner
    def zero(to: int, pixels: int) -> None:
        for p in range(pixels):
            clear(to + p * width)

    @inner
    def gather(to: int, x: int, step_c: int, step_w: int, count: int, pixels: int) -> None:
        """`count` channels of each pixel; up to lanes - 1 pixels behind the last are overwritten."""
        if step_c == size:
            if count == lanes:
                for p in range(pixels):
                    copy(to + p * width, x + p * step_w)
            else:
                for p in range(pixels):
                    load_part(to + p * width, x + p * step_w, count)
        elif step_w == size:
            for p in range(0, pixels, lanes):
                if count == lanes and p + lanes <= pixels:
                    transpose(to + p * width, width, x + p * size, step_c)
                else:
                    block_in(to + p * width, width, x + p * size, step_c, count, pixels - p)
        elif step_w == -size:  # a flipped kernel
            for p in range(0, pixels, lanes):
                last = min(pixels, p + lanes) - 1
                block_flip(to + last * width, -width, x - last * size, step_c, count, last - p + 1)
        else:
            for p in range(pixels):
                clear(to + p * width)
                for c in range(count):
                    copy_one(to + p * width + c * size, x + p * step_w + c * step_c)

    @inner
    def scatter(y: int, step_c: int, step_w: int, source: int, count: int, pixels: int) -> None:
        """`count` channels of each pixel back to a tensor."""
        if step_c == size:
            if count == lanes:
                for p in range(pixels):
                    copy(y + p * step_w, source + p * width)
            else:
                for p in range(pixels):
                    store_part(y + p * step_w, source + p * width, count)
        elif step_w == size:
            for p in range(0, pixels, lanes):
                if count == lanes and p + lanes <= pixels:
                    transpose(y + p * size, step_c, source + p * width, width)
                else:
                    block_out(y + p * size, step_c, source + p * width, width, count, pixels - p)
        else:
            for p in range(pixels):
                for c in range(count):
                    copy_one(y + p * step_w + c * step_c, source + p * width + c * size)

    return zero, gather, scatter


@cache
def cuts(v: Vectors) -> tuple[Any, Any]:
    """(cut, paste): one plane of a tile out of a tensor, and what counts of it back into one."""
    lanes = v.lanes
    zero, gather, scatter = rows(v)

    @inner
    def cut(to: int, tile: int, x: int, shape: int, index: int, vector: int) -> None:
        """Tile `index` of the image at x, the `vector`-th vector of its channels."""
        step_c, step_d, step_h, step_w = word(shape, 1), word(shape, 2), word(shape, 3), word(shape, 4)
        count = min(lanes, word(shape, CHANNELS) - vector * lanes)
        nw = word(tile, LENGTHS + 2)
        filled_d, filled_h, filled_w = word(shape, FILLED), word(shape, FILLED + 1), word(shape, FILLED + 2)
        across, down = word(shape, COUNTS + 2), word(shape, COUNTS + 1)
        first_w = index % across * word(shape, STRIDES + 2) - word(shape, LOWS + 2)
        first_h = index // across % down * word(shape, STRIDES + 1) - word(shape, LOWS + 1)
        first_d = index // (across * down) * word(shape, STRIDES) - word(shape, LOWS)
        before = min(filled_w, max(0, -first_w))
        after = max(before, min(filled_w, word(shape, SIZES + 2) - first_w))
        x += vector * lanes * step_c + (first_w + before) * step_w
        for d in range(word(tile, LENGTHS)):
            i = first_d + d
            inside = d < filled_d and 0 <= i < word(shape, SIZES)
            for h in range(word(tile, LENGTHS + 1)):
                j = first_h + h
                at = to + d * word(tile, POSITIONS) + h * word(tile, POSITIONS + 1)
                if inside and h < filled_h and 0 <= j < word(shape, SIZES + 1) and after > before:
                    zero(at, before)
                    width = word(tile, POSITIONS + 2)
                    gather(at + before * width, x + i * step_d + j * step_h, step_c, step_w, count, after - before)
                    zero(at + after * width, nw - after)
                else:
                    zero(at, nw)

    @inner
    def paste(source: int, tile: int, y: int, shape: int, index: int, vector: int) -> None:
        """The filled part of a plane to tile `index` of the image at y."""
        step_c, step_d, step_h, step_w = word(shape, 1), word(shape, 2), word(shape, 3), word(shape, 4)
        count = min(lanes, word(shape, CHANNELS) - vector * lanes)
        across, down = word(shape, COUNTS + 2), word(shape, COUNTS + 1)
        first_w = index % across * word(shape, STRIDES + 2)
        first_h = index // across % down * word(shape, STRIDES + 1)
        first_d = index // (across * down) * word(shape, STRIDES)
        pixels = min(word(shape, FILLED + 2), word(shape, SIZES + 2) - first_w)
        y += vector * lanes * step_c + first_d * step_d + first_h * step_h + first_w * step_w
        for d in range(min(word(shape, FILLED), word(shape, SIZES) - first_d)):
            for h in range(min(word(shape, FILLED + 1), word(shape, SIZES + 1) - first_h)):
                at = source + d * word(tile, POSITIONS) + h * word(tile, POSITIONS + 1)
                scatter(y + d * step_d + h * step_h, step_c, step_w, at, count, pixels)

    return cut, paste


@cache
def transforms(v: Vectors) -> tuple[Any, Any]:
    """(forward, backward): all axes of one tile, in place."""
    ahead, back = lines(v)

    @inner
    def forward(re: int, tile: int, filled_d: int, filled_h: int, real: int) -> None:
        """Only the first filled rows hold data; `real`: only the frequencies that a real transform needs are right."""
        im = re + word(tile, PLANE)
        nd, nh, nw = word(tile, LENGTHS), word(tile, LENGTHS + 1), word(tile, LENGTHS + 2)
        step_d, step_h, step_w = word(tile, POSITIONS), word(tile, POSITIONS + 1), word(tile, POSITIONS + 2)
        for d in range(filled_d):
            for h in range(filled_h):
                at = d * step_d + h * step_h
                ahead(re + at, im + at, step_w, word(tile, PLANS + 2))
        columns = word(tile, NEEDED) if real else nw
        for i in range(columns if nh > 1 or nd > 1 else 0):
            w = word(word(tile, NEEDED_AT), i) if real else i * step_w
            if nh > 1:
                for d in range(filled_d):
                    ahead(re + w + d * step_d, im + w + d * step_d, step_h, word(tile, PLANS + 1))
            if nd > 1:
                for h in range(nh):
                    ahead(re + w + h * step_h, im + w + h * step_h, step_d, word(tile, PLANS))

    @inner
    def backward(re: int, tile: int, kept_d: int, kept_h: int) -> None:
        """Only the first kept rows are made."""
        im = re + word(tile, PLANE)
        nd, nh, nw = word(tile, LENGTHS), word(tile, LENGTHS + 1), word(tile, LENGTHS + 2)
        step_d, step_h, step_w = word(tile, POSITIONS), word(tile, POSITIONS + 1), word(tile, POSITIONS + 2)
        for i in range(nw if nh > 1 or nd > 1 else 0):
            w = i * step_w
            if nd > 1:
                for h in range(nh):
                    back(re + w + h * step_h, im + w + h * step_h, step_d, word(tile, PLANS))
            if nh > 1:
                for d in range(kept_d):
                    back(re + w + d * step_d, im + w + d * step_d, step_h, word(tile, PLANS + 1))
        for d in range(kept_d):
            for h in range(kept_h):
                at = d * step_d + h * step_h
                back(re + at, im + at, step_w, word(tile, PLANS + 2))

    return forward, backward
