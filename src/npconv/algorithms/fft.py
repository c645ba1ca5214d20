"""Fourier transforms: prefer it for large kernels; its cost hardly depends on the kernel's size.

Correlation is a product in frequency space: transform, multiply conj(W) X at every frequency (a small matrix product over
channels), transform back. A circular transform of length B gives B - e + 1 outputs that do not wrap around, so a large
image is cut into overlapping blocks of B (overlap-save) and all blocks share the transformed weights. One block over
everything and many small ones are the two ends of one choice, made by counting operations.

Single precision is transformed in double and rounded once: a float32 transform spreads the error of the largest input
over the whole plane. Sources: Cooley and Tukey (1965); Stockham (1966); Mathieu, Henaff and LeCun (2014),
arXiv:1312.5851; errors: Schatzman (1996), "Accuracy of the discrete Fourier transform and the fast Fourier transform".
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from ..geometry import ConvGeometry, Ints, ceil_div, covered_size, dilated_size, total
from ..records import dataclass
from ..windows import pad, pad_geometry, view
from .base import Algorithm, Cost, ErrorBound


@lru_cache(maxsize=1024)
def fast_length(n: int) -> int:
    """The smallest length >= n without a prime factor over 5, even where that is free."""
    best = 1 << max(0, (n - 1).bit_length())
    five = 1
    while five < best:
        three = five
        while three < best:
            length = three << max(0, (ceil_div(n, three) - 1).bit_length())
            best = min(best, length)
            three *= 3
        five *= 5
    return best


@dataclass(frozen=True)
class Blocks:
    """How an image is cut: transform lengths, dense outputs per block, and blocks per axis."""

    lengths: Ints
    step: Ints
    counts: Ints

    @property
    def spectrum(self) -> Ints:
        """The shape of a real transform of one block."""
        return (*self.lengths[:-1], self.lengths[-1] // 2 + 1)

    @property
    def butterflies(self) -> int:
        """Operations of one real transform, 2.5 n log2 n."""
        n = total(self.lengths)
        return int(2.5 * n * math.log2(max(2, n)))


def cut(geometry: ConvGeometry, lengths: Ints) -> Blocks:
    """Blocks of the given lengths that cover every stride-1 output of `geometry`."""
    step = tuple(n - e + 1 for n, e in zip(lengths, geometry.effective, strict=True))
    dense = (p - e + 1 for p, e in zip(geometry.padded_shape, geometry.effective, strict=True))
    return Blocks(lengths, step, tuple(ceil_div(n, t) for n, t in zip(dense, step, strict=True)))


def operations(geometry: ConvGeometry, blocks: Blocks) -> tuple[int, int]:
    """(butterflies, flops of the products) when the image is cut so."""
    n = geometry.batch * total(blocks.counts)
    weights = total(geometry.w_shape[:2])
    transforms = n * (geometry.in_channels + geometry.out_channels) + weights
    return transforms * blocks.butterflies, 8 * n * weights * total(blocks.spectrum)


@lru_cache(maxsize=1024)
def plan(geometry: ConvGeometry) -> Blocks:
    """The cut with the fewest operations, from one block over all down to blocks twice the kernel."""
    # blocks below about 64 points are all overhead, and a small budget must not lead there
    least = math.ceil(64 ** (1 / geometry.rank))
    whole = tuple(fast_length(max(least, p)) for p in geometry.padded_shape)
    candidates = [cut(geometry, whole)]
    for factor in (2, 3, 4, 6, 8, 12, 16, 32):
        lengths = tuple(min(n, fast_length(max(8, factor * e))) for n, e in zip(whole, geometry.effective, strict=True))
        candidates.append(cut(geometry, lengths))
    # a butterfly costs about four times a flop of a matrix product
    return min(candidates, key=lambda b: 4 * operations(geometry, b)[0] + operations(geometry, b)[1])


@dataclass(frozen=True)
class Spectra:
    """Transformed weights (G, O/G, C/G, frequencies...), and the block length they fit."""

    values: np.ndarray
    lengths: Ints


class Fft(Algorithm):
    """Pointwise products of spectra over overlapping blocks."""

    exact_footprint = ()
    exact_on_integers = False

    def __init__(self, name: str, summary: str, single: bool) -> None:
        self.name, self.summary, self.single = name, summary, single

    def _working(self, dtype: np.dtype) -> np.dtype:
        """The dtype transforms are computed in."""
        if self.single:
            return dtype
        return np.dtype(np.complex128 if dtype.kind == "c" else np.float64)

    def why_not(self, geometry: ConvGeometry, dtype: np.dtype) -> str | None:
        if geometry.rank == 0:
            return "needs at least one spatial axis to transform"
        for k, s, d, out in zip(geometry.kernel, geometry.stride, geometry.dilation, geometry.out_shape, strict=True):
            if math.gcd(s, d) > 1 or s > k or dilated_size(out, s) < d:
                # a transform mixes those inputs' rounding errors into outputs that never read them
                return f"reads every input, kernel {k} at stride {s} and dilation {d} skips some"
        if self.single and dtype.name in ("float64", "complex128"):
            return "transforms in single precision, the data are double"
        return None

    def error_bound(self, geometry: ConvGeometry, dtype: np.dtype) -> ErrorBound:
        if self.single:
            return ErrorBound(math.log2(2 * total(geometry.padded_shape)), "norms")
        return ErrorBound(128, "plane")

    def cost(self, geometry: ConvGeometry, dtype: np.dtype, direction: str = "forward") -> Cost:
        blocks = plan(geometry)
        butterflies, flops = operations(geometry, blocks)
        size = self._working(dtype).itemsize * (1 if dtype.kind == "c" else 2)
        n, spectrum = geometry.batch * total(blocks.counts), total(blocks.spectrum)
        weights = total(geometry.w_shape[:2])
        sides = n * (geometry.in_channels + geometry.out_channels)
        held = size * spectrum * (3 * sides + 2 * weights)
        return Cost(flops, 4 * size * spectrum * (sides + weights), 30, held, butterflies)

    def prepare(self, w: np.ndarray, geometry: ConvGeometry, dtype: np.dtype) -> Spectra:
        lengths = plan(geometry).lengths
        working, group = self._working(dtype), geometry.groups
        spread = pad(w, ((0, 0),) * geometry.rank, geometry.dilation, working)
        values = _reversed(spread, lengths)
        return Spectra(values.reshape(group, geometry.out_channels // group, *values.shape[1:]), lengths)

    def forward(self, x: np.ndarray, prepared: Spectra, geometry: ConvGeometry, out: np.ndarray) -> None:
        blocks = cut(geometry, prepared.lengths)
        xs = _blocks_of(x, geometry, blocks, self._working(out.dtype))
        n, group = xs.shape[0], geometry.groups
        spectra = _transform(xs, blocks.lengths)
        del xs
        spectra = spectra.reshape(n, group, geometry.in_channels // group, *spectra.shape[2:])
        products = _mix(spectra, prepared.values)
        del spectra
        y = _inverse(products.reshape(n, geometry.out_channels, *products.shape[3:]), blocks.lengths, out.dtype.kind)
        del products
        y = y[(..., *(slice(0, t) for t in blocks.step))]
        _place(y, geometry, blocks, out)

    def weight_grad(self, x: np.ndarray, g: np.ndarray, geometry: ConvGeometry, out: np.ndarray) -> None:
        blocks, working, group = plan(geometry), self._working(out.dtype), geometry.groups
        spectra = _transform(_blocks_of(x, geometry, blocks, working), blocks.lengths)
        n = spectra.shape[0]
        dense = _gradient_blocks(g, geometry, blocks, working)
        gradients = _reversed(dense, blocks.lengths)
        frequencies = spectra.shape[2:]
        xs = np.moveaxis(spectra.reshape(n, group, geometry.in_channels // group, -1), (1, 3), (0, 1))
        gs = np.moveaxis(gradients.reshape(n, group, geometry.out_channels // group, -1), (1, 3), (0, 1))
        products = gs.swapaxes(2, 3) @ xs  # (G, f, O/G, C/G)
        products = np.moveaxis(products, 1, -1).reshape(*geometry.w_shape[:2], *frequencies)
        dw = _inverse(products, blocks.lengths, out.dtype.kind)
        out += dw[(..., *(slice(0, e, d) for e, d in zip(geometry.effective, geometry.dilation, strict=True)))]


def _axes(rank: int) -> Ints:
    return tuple(range(-rank, 0))


def _transform(blocks: np.ndarray, lengths: Ints) -> np.ndarray:
    """The Fourier transform over the trailing axes, zero-padded to `lengths`; half of it for real data."""
    function = np.fft.fftn if blocks.dtype.kind == "c" else np.fft.rfftn
    return function(blocks, lengths, _axes(len(lengths)))


def _reversed(blocks: np.ndarray, lengths: Ints) -> np.ndarray:
    """The transform of the blocks mirrored about the origin: products with it correlate instead of convolving."""
    return np.conj(_transform(blocks.conj() if blocks.dtype.kind == "c" else blocks, lengths))


def _inverse(spectra: np.ndarray, lengths: Ints, kind: str) -> np.ndarray:
    function = np.fft.ifftn if kind == "c" else np.fft.irfftn
    return function(spectra, lengths, _axes(len(lengths)))


def _mix(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Sum over channels at each frequency: (n, G, C/G, f...) * (G, O/G, C/G, f...) -> (n, G, O/G, f...)."""
    if w.shape[2] == 1:
        return x * w[None, :, :, 0]
    n, group, _, *f = x.shape
    xs = np.ascontiguousarray(np.moveaxis(x.reshape(n, group, x.shape[2], -1), (0, 3), (3, 1)))  # (G, f, C/G, n)
    ws = np.ascontiguousarray(np.moveaxis(w.reshape(group, *w.shape[1:3], -1), 3, 1))  # (G, f, O/G, C/G)
    return np.moveaxis(ws @ xs, (3, 1), (0, 3)).reshape(n, group, w.shape[1], *f)


def _blocks_of(x: np.ndarray, geometry: ConvGeometry, blocks: Blocks, dtype: np.dtype) -> np.ndarray:
    """The overlapping blocks of the padded input as a batch: (n, C, *lengths)."""
    shape = tuple(covered_size(n, t, c) for n, t, c in zip(blocks.lengths, blocks.step, blocks.counts, strict=True))
    padded = pad_geometry(x, geometry, dtype, shape)
    rank = geometry.rank
    windows = view(padded, blocks.counts, blocks.lengths, blocks.step, (1,) * rank)
    order = (0, *range(2, 2 + rank), 1, *range(2 + rank, 2 + 2 * rank))
    return windows.transpose(order).reshape(-1, geometry.in_channels, *blocks.lengths)


def _gradient_blocks(g: np.ndarray, geometry: ConvGeometry, blocks: Blocks, dtype: np.dtype) -> np.ndarray:
    """g on the dense stride-1 grid, cut into blocks that do not overlap: (n, O, *step)."""
    shape = tuple(t * c for t, c in zip(blocks.step, blocks.counts, strict=True))
    dense = pad(g, ((0, 0),) * geometry.rank, geometry.stride, dtype, shape)
    rank = geometry.rank
    windows = view(dense, blocks.counts, blocks.step, blocks.step, (1,) * rank)
    order = (0, *range(2, 2 + rank), 1, *range(2 + rank, 2 + 2 * rank))
    return windows.transpose(order).reshape(-1, geometry.out_channels, *blocks.step)


def _place(y: np.ndarray, geometry: ConvGeometry, blocks: Blocks, out: np.ndarray) -> None:
    """Put blocks of dense outputs (n, O, *step) side by side and keep every stride-th."""
    rank, counts = geometry.rank, blocks.counts
    pick = tuple(slice(0, dilated_size(n, s), s) for n, s in zip(geometry.out_shape, geometry.stride, strict=True))
    y = y.reshape(geometry.batch, *counts, *y.shape[1:])
    order = [0, 1 + rank]
    for i in range(rank):
        order += [1 + i, 2 + rank + i]
    dense = y.transpose(order).reshape(
        geometry.batch, geometry.out_channels, *(n * t for n, t in zip(counts, blocks.step, strict=True))
    )
    out[...] = dense[(..., *pick)]
