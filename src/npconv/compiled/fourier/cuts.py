"""How an image is cut into tiles for Fourier transforms, and what the kernels are told about a tensor."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np

from ...geometry import ConvGeometry, Ints, ceil_div, three_axes, total, window_count
from ...records import dataclass


@dataclass(frozen=True)
class Cut:
    """Transform lengths, outputs per tile, tiles per axis: always three axes."""

    lengths: Ints
    step: Ints
    counts: Ints

    @property
    def tiles(self) -> int:
        return total(self.counts)

    @cached_property
    def pairs(self) -> int:
        """Pairs of tiles in one image."""
        return ceil_div(self.tiles, 2)

    @cached_property
    def frequencies(self) -> int:
        """Half of a spectrum, and those that are their own negative."""
        alone = total([2 if n % 2 == 0 else 1 for n in self.lengths])
        return (total(self.lengths) + alone) // 2

    @property
    def butterflies(self) -> int:
        """Operations of one complex transform in one lane, some 4 n log2 n with passes of 4 and 8."""
        points = total(self.lengths)
        return int(4 * points * math.log2(points))


def cut(geometry: ConvGeometry, lengths: Ints) -> Cut:
    """Tiles of the given lengths over all outputs."""
    step = tuple(window_count(n, k, 1) for n, k in zip(lengths, three_axes(geometry.kernel, 1), strict=True))
    outputs = three_axes(geometry.out_shape, 1)
    return Cut(lengths, step, tuple(ceil_div(n, t) for n, t in zip(outputs, step, strict=True)))


def describe(strides: Ints, channels: int, sizes: Ints, c: Cut, filled: Ints, lows: Ints = (0, 0, 0)) -> np.ndarray:
    """The words by which kernels know a tensor (`fourier_tiles`); `filled` is how much of a tile is read or written."""
    steps = (*strides[:2], *three_axes(strides[2:], 0))
    return np.array((*steps, channels, *sizes, *lows, *c.step, *c.counts, *filled), np.int64)


def input_words(strides: Ints, channels: int, geometry: ConvGeometry, c: Cut) -> np.ndarray:
    """x, which ends where no window reads on."""
    lows = tuple(lo for lo, _ in geometry.padding)
    ends = tuple(min(n, p - lo) for n, p, lo in zip(geometry.in_shape, geometry.padded_shape, lows, strict=True))
    return describe(strides, channels, three_axes(ends, 1), c, c.lengths, three_axes(lows, 0))


def output_words(strides: Ints, channels: int, geometry: ConvGeometry, c: Cut) -> np.ndarray:
    """y or its gradient: tiles of outputs side by side."""
    return describe(strides, channels, three_axes(geometry.out_shape, 1), c, c.step)


def weight_words(strides: Ints, channels: int, geometry: ConvGeometry, c: Cut) -> np.ndarray:
    """The weights of one group: vectors of output channels, input channels as images of one tile."""
    kernel = three_axes(geometry.kernel, 1)
    only = Cut(c.lengths, (1, 1, 1), (1, 1, 1))
    return describe((strides[1], strides[0], *strides[2:]), channels, kernel, only, kernel)
