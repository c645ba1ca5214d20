"""Run one algorithm over one problem: phases, tiles, budgets and the guard for non-finite values, once for all of them.

A tile of a convolution is a convolution of the same x with other padding, so splitting needs no help from an algorithm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

from .algorithms.base import Algorithm
from .epilogue import all_finite
from .geometry import ConvGeometry, Ints, Phase, ceil_div, total

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


# --------------------------------------------------------------------------- a pass made ready, and run
@dataclass(frozen=True)
class Step:
    """One part of a pass, with the algorithm that computes it."""

    out: tuple[Any, ...] | None  # which outputs and which taps; None: all
    taps: tuple[Any, ...] | None
    geometry: ConvGeometry
    algorithm: Algorithm
    tile: tuple[int, Ints] | None  # None: all at once

    def tiles(self) -> Iterable[Tile]:
        """The boxes to compute one after the other."""
        return tiles(self.geometry, *(self.tile or (self.geometry.batch, self.geometry.out_shape)))

    @property
    def largest(self) -> ConvGeometry:
        """The first tile."""
        return self.geometry if self.tile is None else next(iter(self.tiles()))[2]

    def prepare(self, w: np.ndarray, dtype: np.dtype, once: bool = False) -> Any:
        """The weights as the algorithm wants them, for one call or many."""
        make = self.algorithm.borrow if once and self.tile is None else self.algorithm.prepare
        return make(w if self.taps is None else w[self.taps], self.largest, dtype)

    def forward(self, x: np.ndarray, prepared: Any, target: np.ndarray) -> None:
        """Write this part of the convolution into its part of the output."""
        if self.tile is None:
            self.algorithm.forward(x, prepared, self.geometry, target)
            return
        for batch, box, tile in self.tiles():
            self.algorithm.forward(x[batch], prepared, tile, target[(batch, slice(None), *box)])

    def weight_grad(self, x: np.ndarray, g: np.ndarray, into: np.ndarray) -> None:
        """Add this part of the weight gradient to its part of the weights."""
        for batch, box, tile in self.tiles():
            self.algorithm.weight_grad(x[batch], g[(batch, slice(None), *box)], tile, into)


@dataclass(frozen=True, eq=False)
class Weights:
    """The weights of a pass as its algorithms want them, part by part, and the bias that these hold already."""

    given: np.ndarray
    parts: tuple[Any, ...]
    bias: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Pass:
    """One pass of a convolution made ready: its parts, each with an algorithm and the size of its tiles."""

    steps: tuple[Step, ...]
    zeros: tuple[tuple[Any, ...], ...]  # outputs that no tap reaches
    repair: Callable[[Step], Step]  # the same part by an algorithm that spreads NaN no further than it should
    dtype: np.dtype
    compiled: bool  # machine code does it all: it reads operands of any strides, to the same bits

    @property
    def workspace(self) -> int:
        """Bytes that the algorithms allocate beyond the output, prepared weights included."""
        return max((s.algorithm.cost(s.largest, self.dtype).workspace for s in self.steps), default=0)

    def prepare(self, w: np.ndarray, bias: np.ndarray | None = None, once: bool = False) -> Weights:
        """All that depends on the weights, and on the bias where every algorithm can add it; for one call or many."""
        plain = tuple([step.prepare(w, self.dtype, once) for step in self.steps])
        if bias is None:
            return Weights(w, plain)
        both = []
        for step, prepared in zip(self.steps, plain, strict=True):
            both.append(step.algorithm.with_bias(prepared, bias, step.geometry))
            if both[-1] is None:
                return Weights(w, plain)
        return Weights(w, tuple(both), bias)

    def forward(self, x: np.ndarray, weights: Weights, out: np.ndarray) -> None:
        """Write the convolution of x with the weights into `out`, (N, O, *out)."""
        bias = 0 if weights.bias is None else weights.bias.reshape(-1, *(1,) * (out.ndim - 2))
        for where in self.zeros:
            out[where] = bias
        for step, prepared in zip(self.steps, weights.parts, strict=True):
            target = out if step.out is None else out[step.out]
            step.forward(x, prepared, target)
            if "forward" not in step.algorithm.exact_footprint and not all_finite(target):
                again = self.repair(step)
                again.forward(x, again.prepare(weights.given, self.dtype, once=True), target)
                if weights.bias is not None:
                    target += bias

    def weight_grad(self, x: np.ndarray, g: np.ndarray, out: np.ndarray) -> None:
        """Write the gradient of the weights into `out`, (O, C/G, *k)."""
        out[...] = 0
        for step in self.steps:
            into = out if step.taps is None else out[step.taps]
            gs = g if step.out is None else g[step.out]
            part = into if len(self.steps) == 1 else np.zeros(into.shape, out.dtype)
            step.weight_grad(x, gs, part)
            if "weight_grad" not in step.algorithm.exact_footprint and not all_finite(part):
                part[...] = 0
                self.repair(step).weight_grad(x, gs, part)
            if part is not into:
                into += part


def _index(where: tuple[slice, ...]) -> tuple[Any, ...] | None:
    """The index of these spatial slices, or None for everything."""
    return None if all(s == slice(None) for s in where) else (..., *where)


def ready(pick: Pick, phases: list[Phase], direction: str, dtype: np.dtype, budget: int) -> Pass:
    """Choose an algorithm and tiles for each of `phases`; "input_grad" counts as the forward pass that it is."""
    direction = "weight_grad" if direction == "weight_grad" else "forward"

    def step(geometry: ConvGeometry, out: tuple[Any, ...] | None, taps: tuple[Any, ...] | None, exact: bool) -> Step:
        algorithm = pick(geometry, exact)
        found = fit_tile(algorithm, geometry, dtype, direction, budget)
        if isinstance(found, int):
            raise MemoryError(f"{algorithm.name} needs {found} bytes")  # dispatch refuses this before
        whole = found == (geometry.batch, geometry.out_shape)
        return Step(out, taps, geometry, algorithm, None if whole else found)

    steps, zeros = [], []
    for phase in phases:
        geometry = phase.geometry
        if geometry is None or not geometry.terms:
            zeros.append((..., *phase.out))
        elif total(geometry.w_shape if direction == "weight_grad" else geometry.y_shape) and geometry.batch:
            steps.append(step(geometry, _index(phase.out), _index(phase.taps), False))
    return Pass(
        tuple(steps),
        tuple(zeros),
        lambda s: step(s.geometry, s.out, s.taps, True),
        dtype,
        all(s.algorithm.cost(s.geometry, dtype, direction).engine == "compiled" for s in steps),
    )


def correlate(pick: Pick, x: np.ndarray, w: np.ndarray, phases: list[Phase], out: np.ndarray, budget: int) -> None:
    """Write the convolution of x and w, split into `phases`, into `out`, (N, O, *out)."""
    run = ready(pick, phases, "forward", out.dtype, budget)
    run.forward(x, run.prepare(w, once=True), out)


def weight_grad(pick: Pick, x: np.ndarray, g: np.ndarray, phases: list[Phase], out: np.ndarray, budget: int) -> None:
    """Write the gradient of the weights of a convolution, split into `phases`, into `out`, (O, C/G, *k)."""
    ready(pick, phases, "weight_grad", out.dtype, budget).weight_grad(x, g, out)
