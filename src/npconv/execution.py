"""Run one algorithm over one problem: phases, tiles, budgets and the guard for non-finite values, once for all of them.

A tile of a convolution is a convolution of the same x with other padding, so splitting needs no help from an algorithm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import product

import numpy as np

from .algorithms.base import Algorithm
from .geometry import ConvGeometry, Ints, Phase, ceil_div

#: The algorithm for a geometry; with True, one whose non-finite outputs are exactly those it should have.
Pick = Callable[[ConvGeometry, bool], Algorithm]
Tile = tuple[slice, tuple[slice, ...], ConvGeometry]


def problem(geometry: ConvGeometry, direction: str) -> ConvGeometry:
    """The convolution that computes `direction`: the input gradient is one of g."""
    return geometry.transposed() if direction == "input_grad" else geometry


def parts(geometry: ConvGeometry, direction: str) -> list[Phase]:
    """The convolutions without input dilation that together compute `direction`."""
    whole = problem(geometry, direction).tight()
    if all(D == 1 for D in whole.input_dilation):
        everything = (slice(None),) * geometry.rank
        return [Phase(everything, everything, whole)]
    return list(whole.phases())


@lru_cache(maxsize=4096)
def fit_tile(
    algorithm: Algorithm, geometry: ConvGeometry, dtype: np.dtype, direction: str, budget: int
) -> tuple[int, Ints] | int:
    """The largest tile whose workspace fits `budget`, or the bytes that the smallest would need."""
    batch, out = algorithm.tile(geometry, dtype, direction)
    while True:
        tile = geometry.with_out((0,) * geometry.rank, out, batch)
        needed = algorithm.cost(tile, dtype, direction).workspace
        if needed <= budget:
            return batch, out
        if batch > 1:
            batch = ceil_div(batch, 2)
        elif out and max(out) > 1:
            axis = out.index(max(out))
            out = (*out[:axis], ceil_div(out[axis], 2), *out[axis + 1 :])
        else:
            return needed


def tiles(geometry: ConvGeometry, batch: int, out: Ints) -> Iterator[Tile]:
    """Cut the batch and the outputs into tiles; the first is the largest."""
    if batch == geometry.batch and out == geometry.out_shape:
        yield slice(None), (slice(None),) * geometry.rank, geometry
        return
    starts = [range(0, n, t) for n, t in zip(geometry.out_shape, out, strict=True)]
    for first in range(0, geometry.batch, batch):
        here = slice(first, min(first + batch, geometry.batch))
        for start in product(*starts):
            size = tuple(min(t, n - a) for a, t, n in zip(start, out, geometry.out_shape, strict=True))
            box = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
            yield here, box, geometry.with_out(start, size, here.stop - here.start)


def _budgeted(
    algorithm: Algorithm, geometry: ConvGeometry, dtype: np.dtype, direction: str, budget: int
) -> Iterator[Tile]:
    found = fit_tile(algorithm, geometry, dtype, direction, budget)
    if isinstance(found, int):
        raise MemoryError(f"{algorithm.name} needs {found} bytes")  # dispatch refuses this before
    return tiles(geometry, *found)


def correlate(pick: Pick, x: np.ndarray, w: np.ndarray, phases: list[Phase], out: np.ndarray, budget: int) -> None:
    """Write the convolution of x and w, split into `phases`, into `out`, (N, O, *out)."""
    for phase in phases:
        target = out[(..., *phase.out)]
        if not target.size:
            continue
        if phase.geometry is None or not phase.geometry.terms:
            target[...] = 0
            continue
        algorithm = pick(phase.geometry, False)
        taps = w[(..., *phase.taps)]
        _correlate(algorithm, x, taps, phase.geometry, target, budget)
        if "forward" not in algorithm.exact_footprint and not _all_finite(target):
            _correlate(pick(phase.geometry, True), x, taps, phase.geometry, target, budget)


def _correlate(
    algorithm: Algorithm, x: np.ndarray, w: np.ndarray, geometry: ConvGeometry, out: np.ndarray, budget: int
) -> None:
    prepared = None
    for batch, box, tile in _budgeted(algorithm, geometry, out.dtype, "forward", budget):
        if prepared is None:  # the first tile is the largest
            prepared = algorithm.prepare(w, tile, out.dtype)
        algorithm.forward(x[batch], prepared, tile, out[(batch, slice(None), *box)])


def weight_grad(pick: Pick, x: np.ndarray, g: np.ndarray, phases: list[Phase], out: np.ndarray, budget: int) -> None:
    """Write the gradient of the weights of a convolution, split into `phases`, into `out`, (O, C/G, *k)."""
    out[...] = 0
    for phase in phases:
        into, gs = out[(..., *phase.taps)], g[(..., *phase.out)]
        if phase.geometry is None or not phase.geometry.batch or not into.size:
            continue
        part = into if len(phases) == 1 else np.zeros(into.shape, out.dtype)
        algorithm = pick(phase.geometry, False)
        _weight_grad(algorithm, x, gs, phase.geometry, part, budget)
        if "weight_grad" not in algorithm.exact_footprint and not _all_finite(part):
            part[...] = 0
            _weight_grad(pick(phase.geometry, True), x, gs, phase.geometry, part, budget)
        if part is not into:
            into += part


def _weight_grad(
    algorithm: Algorithm, x: np.ndarray, g: np.ndarray, geometry: ConvGeometry, out: np.ndarray, budget: int
) -> None:
    for batch, box, tile in _budgeted(algorithm, geometry, out.dtype, "weight_grad", budget):
        algorithm.weight_grad(x[batch], g[(batch, slice(None), *box)], tile, out)


def _all_finite(array: np.ndarray) -> bool:
    """Whether no element is NaN or infinite; the sum tells in one pass unless it overflows itself."""
    return bool(np.isfinite(array.sum())) or bool(np.isfinite(array).all())
