"""Fourier tiles in machine code: prefer it for kernels of about 7 taps per axis and up; each tile stays in the cache.

Correlation is a product in frequency space, as in `fft`. Here vectors of channels are transformed side by side, so no
butterfly shuffles; two tiles of an image travel as the real and the imaginary part of one; the products over channels
are matrix products at each frequency. Everything runs in the dtype of the data. The kernel is `npconv.compiled.fourier`.

Needs numba (extra `fast`). Sources: Mathieu, Henaff and LeCun (2014), "Fast training of convolutional networks through
FFTs", arXiv:1312.5851; Zlateski, Jia, Li and Durand (2018), "FFT convolutions are faster than Winograd on modern CPUs",
arXiv:1809.07851; errors: Schatzman (1996), "Accuracy of the discrete Fourier transform and the fast Fourier transform".
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from ..compiled import threads
from ..compiled.fourier import steps
from ..compiled.fourier.cuts import Cut, cut
from ..compiled.fourier.tables import LENGTHS
from ..compiled.panels import vector_bytes
from ..geometry import ConvGeometry, ceil_div, three_axes, total, window_count
from ..lazy import Later
from .base import Compiled, Cost, ErrorBound

if TYPE_CHECKING:
    from ..compiled.fourier import gradients
else:
    gradients = Later("..compiled.fourier.gradients", __package__)

#: Points of one tile: both planes stay in the second-level cache.
POINTS = 8192


def work(geometry: ConvGeometry, c: Cut, dtype: np.dtype) -> tuple[int, int, int]:
    """(flops of the products, operations of the transforms, bytes of spectra) of one pass, idle lanes included."""
    wide, groups, pairs, size = (
        vector_bytes() // dtype.itemsize,
        geometry.groups,
        geometry.batch * c.pairs,
        dtype.itemsize,
    )
    if steps.channelwise(geometry):
        vectors = ceil_div(geometry.in_channels, wide) * (geometry.out_channels // groups)
        transforms = vectors * (2 * pairs + 1)
        points = total(c.lengths) * wide
        return 12 * pairs * vectors * points, transforms * c.butterflies * wide, size * points * transforms
    inputs, outputs = geometry.in_channels // groups, geometry.out_channels // groups
    vectors_in, vectors_out = ceil_div(inputs, wide), ceil_div(outputs, wide)
    rows = ceil_div(2 * pairs, 7) * 7
    flops = 8 * groups * c.frequencies * rows * inputs * vectors_out * wide
    halves = 2 * pairs * (vectors_in + vectors_out) + inputs * vectors_out
    moved = (
        groups * c.frequencies * size * wide * (rows * (6 * vectors_in + 4 * vectors_out) + 4 * inputs * vectors_out)
    )
    return flops, groups * halves * c.butterflies * wide // 2, moved


def workspace(geometry: ConvGeometry, c: Cut, dtype: np.dtype) -> int:
    """Bytes of prepared weights, of spectra in flight, and of the tiles that threads work on."""
    width, tiles = vector_bytes(), 4 * threads.current() * (total(c.lengths) + 1024)
    inputs, outputs = geometry.per_group
    if steps.channelwise(geometry):
        vectors = steps.vectors(geometry.in_channels, dtype)
        return width * (2 * tiles + 2 * c.frequencies * vectors * (outputs + gradients.parts(geometry, c, vectors)))
    vectors_in, vectors_out = steps.vectors(inputs, dtype), steps.vectors(outputs, dtype)
    rows = steps.in_flight(geometry, c, dtype, vectors_in, vectors_out)[1]
    weights = 2 * (geometry.groups + 1) * inputs * vectors_out
    return width * (tiles + c.frequencies * (rows * (3 * vectors_in + 2 * vectors_out) + weights))


def seconds(geometry: ConvGeometry, c: Cut, dtype: np.dtype) -> float:
    """What a cut costs, in units that only compare cuts."""
    flops, butterflies, moved = work(geometry, c, dtype)
    return flops / 100 + butterflies / 50 + moved / 25


@lru_cache(maxsize=1024)
def plan(geometry: ConvGeometry, dtype: np.dtype) -> Cut:
    """The cheapest cut."""
    axes, sides = [], list(zip(geometry.kernel, geometry.out_shape, strict=True))
    for k, out in sides:
        # of lengths that make as many tiles the shortest
        shortest = {ceil_div(out, window_count(n, k, 1)): n for n in reversed(LENGTHS) if n >= k}
        axes.append(sorted(shortest.values()))
    alike = [i for i in range(1, geometry.rank) if sides[i - 1] == sides[i]]  # to the axis before: no need to turn
    each = [n for n in product(*axes) if all(n[i - 1] <= n[i] for i in alike)]
    found = [cut(geometry, three_axes(lengths, 1)) for lengths in each]
    small = [c for c in found if total(c.lengths) <= POINTS] or [min(found, key=lambda c: total(c.lengths))]
    return min(small, key=lambda c: seconds(geometry, c, dtype))


class TiledFft(Compiled):
    """Products of spectra of tiles; see the module."""

    name = "tiled_fft"
    summary = "multiplies spectra of overlapping tiles in the dtype of the data; machine code"
    accuracy = ("standard", "fast")
    exact_footprint = ()
    exact_on_integers = False

    def limits(self, geometry: ConvGeometry, dtype: np.dtype) -> str | None:
        if any(s > 1 for s in geometry.stride):
            return f"makes every output, the stride is {geometry.stride}"
        if any(d > 1 for d in geometry.dilation):
            return f"transforms whole kernels, the dilation is {geometry.dilation}"
        if not geometry.rank:
            return "needs a spatial axis"
        longest = {1: 1536, 2: 48, 3: 12}[geometry.rank]
        if any(k > longest for k in geometry.kernel):
            return f"needs kernels up to {longest} for its tiles, this is {geometry.kernel}"
        return None

    def error_bound(self, geometry: ConvGeometry, dtype: np.dtype) -> ErrorBound:
        return ErrorBound(128, "plane")

    def cost(self, geometry: ConvGeometry, dtype: np.dtype, direction: str = "forward") -> Cost:
        if not total(geometry.y_shape):
            return Cost(0, 0, 1, 0, engine="fourier")
        c = plan(geometry, dtype)
        flops, butterflies, moved = work(geometry, c, dtype)
        launches = 4 if steps.channelwise(geometry) else 4 * geometry.groups
        return Cost(flops, moved, launches, workspace(geometry, c, dtype), butterflies, "fourier")

    def prepare(self, w: np.ndarray, geometry: ConvGeometry, dtype: np.dtype) -> steps.Spectra:
        return steps.prepare(np.asarray(w, dtype), geometry, plan(geometry, dtype))

    def forward(self, x: np.ndarray, prepared: steps.Spectra, geometry: ConvGeometry, out: np.ndarray) -> None:
        if not out.size:
            return
        x = np.asarray(x, out.dtype)
        steps.forward(x, prepared, geometry, cut(geometry, prepared.lengths), out)

    def weight_grad(self, x: np.ndarray, g: np.ndarray, geometry: ConvGeometry, out: np.ndarray) -> None:
        if not g.size or not out.size:
            return
        x, g = np.asarray(x, out.dtype), np.asarray(g, out.dtype)
        gradients.weight_grad(x, g, geometry, plan(geometry, out.dtype), out)
