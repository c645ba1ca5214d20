"""Winograd: prefer it for 3x3 kernels with many channels; fewer multiplications than there are products.

A tile of m outputs of an r-tap correlation needs only m + r - 1 multiplications once inputs and weights are transformed
(cook_toom.py derives the matrices). In two dimensions the tile is m x m and the saving squares: F(4, 3) does 36
multiplications instead of 144. Summed over channels, each of the transformed positions is one matrix product:

    y = A^T [ sum over c of (G w) * (B^T x) ] A        nested, one axis after the other, for any rank

The weight gradient transposes the same three maps: dw = G^T [ (A g) * (B^T x) ] G. The price is rounding: the
transforms amplify it, more with larger m. Sources: Winograd (1980), "Arithmetic complexity of computations"; Lavin and
Gray (2016), arXiv:1509.09308; errors: Barabasz et al. (2018), arXiv:1803.10986.
"""

from __future__ import annotations

import numpy as np

from ..geometry import ConvGeometry, Ints, ceil_div, covered_size, total
from ..windows import channels_innermost, pad, pad_geometry, view
from .base import Algorithm, Cost, ErrorBound
from .rounding import amplification

#: Bytes of transformed tiles worked on at once.
TILE_BYTES = 8 << 20
#: Bytes of transformed weights worked on at once.
PREPARE_BYTES = 1 << 20
#: Amplification up to which a nesting keeps the "standard" bound; F(4, 3) in two dimensions has 69.
STANDARD_AMPLIFICATION = 72
#: Finite interpolation points that cook_toom has defaults for.
MOST_POINTS = 9


class Winograd(Algorithm):
    """F(m, r) nested over the spatial axes, one matrix product per transformed position."""

    exact_footprint = ()
    exact_on_integers = False
    blas = True

    def __init__(self, m: int) -> None:
        self.m = m
        self.name = f"winograd_f{m}"
        self.summary = f"computes tiles of {m} outputs per axis with fewer multiplications, F({m}, k)"

    def _outputs(self, geometry: ConvGeometry) -> Ints:
        """Outputs of one tile per axis: an axis with a one-tap kernel needs no transform."""
        return tuple(1 if k == 1 else self.m for k in geometry.kernel)

    def _inputs(self, geometry: ConvGeometry) -> Ints:
        return tuple(m + k - 1 for m, k in zip(self._outputs(geometry), geometry.kernel, strict=True))

    def _counts(self, geometry: ConvGeometry) -> Ints:
        return tuple(ceil_div(n, m) for n, m in zip(geometry.out_shape, self._outputs(geometry), strict=True))

    def why_not(self, geometry: ConvGeometry, dtype: np.dtype) -> str | None:
        if geometry.taps == 1:
            return "needs a kernel of at least 2 taps on some axis"
        if any(s != 1 for s in geometry.stride):
            return f"needs stride 1, the stride is {geometry.stride}"
        if any(d != 1 for d, k in zip(geometry.dilation, geometry.kernel, strict=True) if k > 1):
            return f"needs dilation 1, the dilation is {geometry.dilation}"
        if any(self.m + k - 2 > MOST_POINTS for k in geometry.kernel if k > 1):
            return f"F({self.m}, k) has points up to k = {MOST_POINTS + 2 - self.m}, the kernel is {geometry.kernel}"
        return None

    def amplification(self, geometry: ConvGeometry) -> float:
        """How much larger the transformed products are than the plain ones, all axes together."""
        factor = 1.0
        for k in geometry.kernel:
            if k > 1:
                factor *= amplification(self.m, k)
        return factor

    def error_bound(self, geometry: ConvGeometry, dtype: np.dtype) -> ErrorBound:
        if self.amplification(geometry) <= STANDARD_AMPLIFICATION:
            return ErrorBound(128, "plane")
        return ErrorBound(8, "transform")

    def cost(self, geometry: ConvGeometry, dtype: np.dtype, direction: str = "forward") -> Cost:
        outputs, inputs = self._outputs(geometry), self._inputs(geometry)
        tiles, positions = geometry.batch * total(self._counts(geometry)), total(inputs)
        c, o, weights = geometry.in_channels, geometry.out_channels, total(geometry.w_shape[:2])
        flops = 2 * positions * tiles * weights
        for m, n in zip(outputs, inputs, strict=True):
            flops += 2 * positions * (n * tiles * c + m * tiles * o + n * weights)
        moved = positions * (5 * tiles * c + 5 * tiles * o + 3 * weights)
        held = positions * (2 * tiles * c + 2 * tiles * o + 2 * weights) + tiles * c * total(outputs) * 2
        return Cost(flops, moved * dtype.itemsize, 12 + 4 * total(outputs), held * dtype.itemsize)

    def tile(self, geometry: ConvGeometry, dtype: np.dtype, direction: str = "forward") -> tuple[int, Ints]:
        counts, m = self._counts(geometry), self._outputs(geometry)[0]
        size = total(self._inputs(geometry)) * (geometry.in_channels + geometry.out_channels) * dtype.itemsize
        row = size * total(counts[1:])
        rows = max(1, min(counts[0], TILE_BYTES // max(1, row)))
        if rows == counts[0]:
            return max(1, min(geometry.batch, TILE_BYTES // max(1, row * rows))), geometry.out_shape
        rows = ceil_div(counts[0], ceil_div(counts[0], rows))
        return 1, (min(rows * m, geometry.out_shape[0]), *geometry.out_shape[1:])

    def _matrices(self, geometry: ConvGeometry, which: int) -> list[np.ndarray | None]:
        """A^T, G or B^T (which = 0, 1, 2) for every axis; None where there is nothing to transform."""
        from .cook_toom import matrices

        return [None if k == 1 else matrices(self.m, k).arrays[which] for k in geometry.kernel]

    def prepare(self, w: np.ndarray, geometry: ConvGeometry, dtype: np.dtype) -> np.ndarray:
        """G w: (*n, G, O/G, C/G), transformed in double precision a few kernels at a time, and rounded once."""
        wide, matrices = np.result_type(dtype, np.float64), self._matrices(geometry, 1)
        taps_first = np.moveaxis(w, (0, 1), (-2, -1))
        o, per_in = w.shape[:2]
        positions = total(self._inputs(geometry))
        transformed = np.empty((positions, o, per_in), dtype)
        step = max(1, PREPARE_BYTES // max(1, positions * per_in * wide.itemsize))
        for i in range(0, o, step):
            some = np.asarray(taps_first[..., i : i + step, :], wide)
            transformed[:, i : i + step] = _nested(some, matrices).reshape(positions, -1, per_in)
        return transformed.reshape(positions, geometry.groups, o // geometry.groups, per_in)

    def forward(self, x: np.ndarray, prepared: np.ndarray, geometry: ConvGeometry, out: np.ndarray) -> None:
        group, tiles = geometry.groups, geometry.batch * total(self._counts(geometry))
        outputs = self._outputs(geometry)
        if channels_innermost(out) and group == 1:
            v = self._data(x, geometry, out.dtype, last=True)  # (*n, tiles, C)
            products = v.reshape(-1, tiles, geometry.in_channels) @ prepared[:, 0].swapaxes(1, 2)
        else:
            v = self._data(x, geometry, out.dtype, last=False)  # (*n, C, tiles)
            products = prepared @ v.reshape(-1, group, geometry.in_channels // group, tiles)
        del v
        last = products.ndim == 3
        y = _nested(products.reshape(*self._inputs(geometry), -1), self._matrices(geometry, 0))
        counts = self._counts(geometry)
        if last:
            y = np.moveaxis(y.reshape(*outputs, geometry.batch, *counts, geometry.out_channels), -1, geometry.rank + 1)
        else:
            y = y.reshape(*outputs, geometry.out_channels, geometry.batch, *counts)
            y = y.swapaxes(geometry.rank, geometry.rank + 1)
        for at in np.ndindex(*outputs):
            place = tuple(slice(a, None, m) for a, m in zip(at, outputs, strict=True))
            target = out[(..., *place)]
            target[...] = y[at][(..., *(slice(0, n) for n in target.shape[2:]))]

    def weight_grad(self, x: np.ndarray, g: np.ndarray, geometry: ConvGeometry, out: np.ndarray) -> None:
        group, tiles = geometry.groups, geometry.batch * total(self._counts(geometry))
        v = self._data(x, geometry, out.dtype, last=False).reshape(-1, group, geometry.in_channels // group, tiles)
        outputs, counts = self._outputs(geometry), self._counts(geometry)
        whole = tuple(m * t for m, t in zip(outputs, counts, strict=True))
        padded = pad(g, ((0, 0),) * geometry.rank, None, out.dtype, whole)
        gs = _tiles(padded, counts, outputs, outputs, last=False)
        transposed = [None if a is None else a.T for a in self._matrices(geometry, 0)]
        u = _nested(gs, transposed).reshape(-1, group, geometry.out_channels // group, tiles)
        products = (u @ v.swapaxes(2, 3)).reshape(*self._inputs(geometry), *geometry.w_shape[:2])
        back = [None if a is None else a.T for a in self._matrices(geometry, 1)]
        out += np.moveaxis(_nested(products, back), (-2, -1), (0, 1))

    def _data(self, x: np.ndarray, geometry: ConvGeometry, dtype: np.dtype, *, last: bool) -> np.ndarray:
        """B^T x: the transformed tiles, (*n, C, N t) or (*n, N t, C)."""
        outputs, inputs, counts = self._outputs(geometry), self._inputs(geometry), self._counts(geometry)
        shape = tuple(covered_size(n, m, t) for n, m, t in zip(inputs, outputs, counts, strict=True))
        padded = pad_geometry(x, geometry, dtype, shape)
        return _nested(_tiles(padded, counts, inputs, outputs, last=last), self._matrices(geometry, 2))


def _tiles(padded: np.ndarray, counts: Ints, size: Ints, step: Ints, *, last: bool) -> np.ndarray:
    """Overlapping tiles with their positions first: (*size, C, N t...) or (*size, N t..., C), copied once."""
    rank = len(counts)
    windows = view(padded, counts, size, step, (1,) * rank)
    within, across = range(2 + rank, 2 + 2 * rank), range(2, 2 + rank)
    order = (*within, 0, *across, 1) if last else (*within, 1, 0, *across)
    channels = padded.shape[1]
    return windows.transpose(order).reshape(*size, *((-1, channels) if last else (channels, -1)))


def _nested(array: np.ndarray, matrices: list[np.ndarray | None]) -> np.ndarray:
    """Apply one matrix along each of the leading axes: (n0, n1, ..., rest) -> (m0, m1, ..., rest)."""
    shape = list(array.shape)
    for axis, matrix in enumerate(matrices):
        if matrix is None:
            continue
        array = array.reshape(total(shape[:axis]), shape[axis], total(shape[axis + 1 :]))
        array = matrix.astype(array.dtype, copy=False) @ array
        shape[axis] = matrix.shape[0]
    return array.reshape(shape)
