"""Run one algorithm over one problem: phases, tiles, budgets and the guard for non-finite values, once for all of them.

A tile of a convolution is a convolution of the same x with other padding, so splitting needs no help from an algorithm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from .algorithms.base import Algorithm, joined
from .algorithms.channelwise import ChannelwisePhases
from .compiled.calls import Bound, aligned
from .epilogue import all_finite
from .geometry import ConvGeometry, Ints, Phase, ceil_div, total
from .lazy import Later
from .phases import Joint, joint
from .records import dataclass, replace

if TYPE_CHECKING:
    from . import joining, phased
    from .activations import Activation
else:  # only strided transpositions have phases
    joining, phased = Later(".joining", __package__), Later(".phased", __package__)

#: The algorithm for a geometry; with True, one whose non-finite outputs are exactly those it should have.
Pick = Callable[[ConvGeometry, bool], Algorithm]
#: The seconds that a geometry should take with so many bytes copied besides, by the algorithm picked for it or by a given one.
Price = Callable[..., float]
Tile = tuple[slice, tuple[slice, ...], ConvGeometry]
#: Bytes of joint outputs that wait to be interleaved: they should not leave the cache.
JOINT_BYTES = 2 << 20
#: Bytes that are moved, or take as long, for each byte of weights that is brought in order first: of all phases, of one.
TURNED, TURNED_APART = 14, 4


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

    def exact(self, direction: str) -> bool:
        """Whether non-finite inputs reach exactly the outputs that read them."""
        return direction in self.algorithm.exact_footprint

    def tiles(self) -> Iterable[Tile]:
        """The boxes to compute one after the other."""
        return tiles(self.geometry, *(self.tile or (self.geometry.batch, self.geometry.out_shape)))

    @property
    def largest(self) -> ConvGeometry:
        """The first tile."""
        return self.geometry if self.tile is None else next(iter(self.tiles()))[2]

    def workspace(self, dtype: np.dtype) -> int:
        """Bytes that it allocates beyond the output, prepared weights included."""
        return self.algorithm.cost(self.largest, dtype).workspace

    def prepare(self, w: np.ndarray, dtype: np.dtype, once: bool = False) -> Any:
        """The weights as the algorithm wants them, for one call or many."""
        return self.make(w if self.taps is None else w[self.taps], dtype, once)

    def make(self, own: np.ndarray, dtype: np.dtype, once: bool) -> Any:
        """The same from the weights of this part alone."""
        if not self.algorithm.takes_groups:
            own = self.joined(own)
        make = self.algorithm.borrow if once and self.tile is None else self.algorithm.prepare
        return make(own, self.largest, dtype)

    def joined(self, w: np.ndarray) -> np.ndarray:
        """Weights as (O, C/G, *k), which those of an input gradient of groups are not."""
        return w if w.ndim == self.geometry.rank + 2 else joined(w)

    def with_bias(self, prepared: Any, bias: np.ndarray) -> Any:
        """`prepared` with a bias that the algorithm adds on its way; None: it cannot."""
        return self.algorithm.with_bias(prepared, bias, self.geometry)

    def in_lanes(self, bias: np.ndarray) -> np.ndarray:
        """A bias as what is lent reads it."""
        return self.algorithm.in_lanes(bias, self.geometry)

    def with_bounds(self, prepared: Any, least: float, most: float) -> Any:
        """`prepared` for outputs between two numbers; None: the algorithm cannot keep them there."""
        return self.algorithm.with_bounds(prepared, least, most)

    def with_sum(self, prepared: Any) -> Any:
        """`prepared` for a launch that adds to its outputs; None: the algorithm has none."""
        return self.algorithm.with_sum(prepared)

    def bind(self, prepared: Any, x_strides: Ints, out_strides: Ints, dtype: np.dtype) -> Bound | None:
        """What computes it for arrays of these strides without more questions; None: it takes more."""
        if self.tile is not None or self.out is not None:
            return None
        return self.algorithm.bind(prepared, self.geometry, x_strides, out_strides, dtype)

    def lend(self, w_strides: Ints, x_strides: Ints, out_strides: Ints, dtype: np.dtype) -> Bound | None:
        """The same for any weights of these strides, each call's where it says; None: they have to be prepared."""
        if self.tile is not None or self.out is not None or self.taps is not None:
            return None
        return self.algorithm.lend(w_strides, self.geometry, x_strides, out_strides, dtype)

    def forward(self, x: np.ndarray, prepared: Any, target: np.ndarray) -> bool | None:
        """Write this part of the convolution into its part of the output; whether it is finite, None if nobody looked."""
        if self.tile is None:
            return self.algorithm.forward(x, prepared, self.geometry, target)
        return _all(
            [
                self.algorithm.forward(x[batch], prepared, tile, target[(batch, slice(None), *box)])
                for batch, box, tile in self.tiles()
            ]
        )

    def weight_grad(self, x: np.ndarray, g: np.ndarray, into: np.ndarray) -> None:
        """Write this part of the weight gradient into its part of the weights."""
        if self.tile is None:
            self.algorithm.write_weight_grad(x, g, self.geometry, into)
            return
        take = self.algorithm.write_weight_grad
        for batch, box, tile in self.tiles():
            take(x[batch], g[(batch, slice(None), *box)], tile, into)
            take = self.algorithm.weight_grad


@dataclass(frozen=True)
class Joined(Step):
    """All parts of a pass as one convolution; see `npconv.joining`."""

    joint: Joint

    def exact(self, direction: str) -> bool:
        return super().exact(direction) and all(
            phase.geometry is None or phase.geometry.kernel == self.geometry.kernel for phase in self.joint.phases
        )

    def workspace(self, dtype: np.dtype) -> int:
        return super().workspace(dtype) + (total(self.largest.y_shape) + total(self.geometry.w_shape)) * dtype.itemsize

    def prepare(self, w: np.ndarray, dtype: np.dtype, once: bool = False) -> Any:
        return super().prepare(joining.weights(self.joint, w, dtype), dtype, once)

    def with_bias(self, prepared: Any, bias: np.ndarray) -> Any:
        return super().with_bias(prepared, self._each(bias))

    def with_sum(self, prepared: Any) -> Any:
        return None

    def bind(self, prepared: Any, x_strides: Ints, out_strides: Ints, dtype: np.dtype) -> Bound | None:
        def first(_: Ints, strides: Ints) -> Bound | None:
            return self.algorithm.bind(prepared, self.geometry, x_strides, strides, dtype)

        return None if self.tile is not None else joining.chained(self.joint, first, None, out_strides, dtype)

    def lend(self, w_strides: Ints, x_strides: Ints, out_strides: Ints, dtype: np.dtype) -> Bound | None:
        def first(steps: Ints, strides: Ints) -> Bound | None:
            return self.algorithm.lend(steps, self.geometry, x_strides, strides, dtype)

        return None if self.tile is not None else joining.chained(self.joint, first, w_strides, out_strides, dtype)

    def in_lanes(self, bias: np.ndarray) -> np.ndarray:
        return super().in_lanes(self._each(bias))

    def _each(self, bias: np.ndarray) -> np.ndarray:
        """The bias of all phases."""
        return np.repeat(bias.reshape(self.geometry.groups, 1, -1), len(self.joint.phases), 1).reshape(-1)

    def forward(self, x: np.ndarray, prepared: Any, target: np.ndarray) -> bool | None:
        shape = self.largest.y_shape
        last = target.strides[1] == target.itemsize < target.strides[-1]
        room = aligned(total(shape), target.dtype).reshape((shape[0], *shape[2:], shape[1]) if last else shape)
        parts = np.moveaxis(room, -1, 1) if last else room
        finite = []
        for batch, _, tile in self.tiles():
            here = parts[: tile.batch]
            finite.append(self.algorithm.forward(x[batch], prepared, tile, here))
            joining.interleave(self.joint, here, target[batch])
        return _all(finite)


@dataclass(frozen=True, eq=False)
class Weights:
    """The weights of a pass as its algorithms want them, part by part; the bias and the activation that they see to."""

    given: np.ndarray
    parts: tuple[Any, ...]
    bias: np.ndarray | None = None
    activation: Activation | None = None


@dataclass(frozen=True, eq=False)
class Pass:
    """One pass of a convolution made ready: its parts, each with an algorithm and the size of its tiles."""

    steps: tuple[Step, ...]
    zeros: tuple[tuple[Any, ...], ...]  # outputs that no tap reaches
    repair: Callable[[Step], list[Step]]  # the same by algorithms that spread NaN no further than they should
    dtype: np.dtype
    compiled: bool  # machine code does it all: it reads operands of any strides, to the same bits
    joint: Joint | None = None  # of the parts, whose weights may be brought in order together

    @property
    def workspace(self) -> int:
        """Bytes that the algorithms allocate beyond the output, prepared weights included."""
        turned = 0 if self.joint is None else total(self.joint.geometry.w_shape) * self.dtype.itemsize
        return turned + max((s.workspace(self.dtype) for s in self.steps), default=0)

    def prepare(
        self, w: np.ndarray, bias: np.ndarray | None = None, once: bool = False, activation: Activation | None = None
    ) -> Weights:
        """All that depends on the weights, for one call or many; with bias and activation where every algorithm can."""
        each = None if self.joint is None else joining.apart(self.joint, w, self.dtype)
        if each is None:
            plain = tuple([step.prepare(w, self.dtype, once) for step in self.steps])
        else:
            plain = tuple([s.make(part, self.dtype, once) for s, part in zip(self.steps, each, strict=True)])
        if bias is not None:
            both = tuple([step.with_bias(prepared, bias) for step, prepared in zip(self.steps, plain, strict=True)])
            if any(part is None for part in both):
                return Weights(w, plain)
            plain = both
        if activation is None or activation.bounds is None:
            return Weights(w, plain, bias)
        within = [s.with_bounds(part, *activation.bounds) for s, part in zip(self.steps, plain, strict=True)]
        if any(part is None for part in within):
            return Weights(w, plain, bias)
        return Weights(w, tuple(within), bias, activation)

    def forward(self, x: np.ndarray, weights: Weights, out: np.ndarray) -> None:
        """Write the convolution of x with the weights into `out`, (N, O, *out)."""
        bias = 0 if weights.bias is None else weights.bias.reshape(-1, *(1,) * (out.ndim - 2))
        for where in self.zeros:
            out[where] = bias
            _activate(out[where], weights.activation)
        doubtful = []
        for step, prepared in zip(self.steps, weights.parts, strict=True):
            finite = step.forward(x, prepared, out if step.out is None else out[step.out])
            if not finite and not step.exact("forward"):
                doubtful.append((step, finite))
        if all(finite is None for _, finite in doubtful) and (not doubtful or all_finite(out)):
            return
        for step, finite in doubtful:
            if finite is None and len(self.steps) > 1 and all_finite(out[step.out]):
                continue
            for again in self.repair(step):
                target = out if again.out is None else out[again.out]
                again.forward(x, again.prepare(weights.given, self.dtype, once=True), target)
                if weights.bias is not None:
                    target += bias
                _activate(target, weights.activation)

    def weight_grad(self, x: np.ndarray, g: np.ndarray, out: np.ndarray) -> None:
        """Write the gradient of the weights into `out`, (O, C/G, *k)."""
        only = len(self.steps) == 1 and self.steps[0].taps is None
        if not only:
            out[...] = 0
        for step in self.steps:
            into = out if step.taps is None else out[step.taps]
            gs = g if step.out is None else g[step.out]
            part = into if only else np.empty(into.shape, out.dtype)
            step.weight_grad(x, gs, part)
            if not step.exact("weight_grad") and not all_finite(part):
                self.repair(step)[0].weight_grad(x, gs, part)
            if part is not into:
                into += part


def _all(finite: list[bool | None]) -> bool | None:
    """What all parts say together."""
    return False if False in finite else None if None in finite else True


def _activate(outputs: np.ndarray, activation: Activation | None) -> None:
    if activation is not None:
        outputs[...] = activation(outputs)


def _index(where: tuple[slice, ...]) -> tuple[Any, ...] | None:
    """The index of these spatial slices, or None for everything."""
    return None if all(s == slice(None) for s in where) else (..., *where)


def ready(
    pick: Pick, phases: list[Phase], direction: str, dtype: np.dtype, budget: int, price: Price | None = None
) -> Pass:
    """Choose algorithms and tiles for `phases`, one by one or, where the price is less, for all in one convolution.

    "input_grad" counts as the forward pass that it is.
    """
    direction = "weight_grad" if direction == "weight_grad" else "forward"
    zeros, real = [], []
    for phase in phases:
        geometry = phase.geometry
        if geometry is None or not geometry.terms:
            zeros.append((..., *phase.out))
        elif total(geometry.w_shape if direction == "weight_grad" else geometry.y_shape) and geometry.batch:
            real.append(phase)
    whole = None if direction == "weight_grad" else together(pick, real, dtype, budget, price, bool(zeros))
    steps: list[Step] = [whole] if whole else [_step(pick, phase, direction, dtype, budget) for phase in real]

    def repair(step: Step) -> list[Step]:
        again = step.joint.phases if isinstance(step, Joined) else [real[steps.index(step)]]
        return [_step(pick, phase, direction, dtype, budget, exact=True) for phase in again]

    compiled = all(s.algorithm.cost(s.geometry, dtype, direction).engine != "numpy" for s in steps)
    run = Pass(tuple(steps), tuple(zeros), repair, dtype, compiled)
    if whole or direction == "weight_grad" or not compiled:
        return run
    turned = replace(run, joint=joint(real))
    return turned if turned.workspace <= budget else run


def _step(pick: Pick, phase: Phase, direction: str, dtype: np.dtype, budget: int, exact: bool = False) -> Step:
    if phase.geometry is None:
        raise ValueError(f"nothing to compute in {phase}")
    algorithm = pick(phase.geometry, exact)
    found = fit_tile(algorithm, phase.geometry, dtype, direction, budget)
    if isinstance(found, int):
        raise MemoryError(f"{algorithm.name} needs {found} bytes")  # dispatch refuses this before
    whole = found == (phase.geometry.batch, phase.geometry.out_shape)
    return Step(_index(phase.out), _index(phase.taps), phase.geometry, algorithm, None if whole else found)


def together(
    pick: Pick, phases: list[Phase], dtype: np.dtype, budget: int, price: Price | None, zeros: bool = False
) -> Step | None:
    """All phases in one convolution or one launch; None where that is impossible, slower or too large."""
    all_of = joint(phases) if price is not None else None
    if all_of is None or price is None:
        return None
    geometry, size = all_of.geometry, dtype.itemsize
    ways: list[tuple[Callable[[], float], Callable[[], Step]]] = [
        (lambda a=a: price(geometry, 0, a), lambda a=a: Step(None, None, geometry, a, None))  # type: ignore[misc]
        for a in (ChannelwisePhases(all_of), phased.Phased(all_of))
    ]
    if not zeros:
        tile = min(geometry.batch, max(1, JOINT_BYTES // (total(geometry.y_shape[1:]) * size))), geometry.out_shape
        ways.append(
            (
                lambda: price(
                    geometry, 2 * total(geometry.y_shape) * size, turned=TURNED * total(geometry.w_shape) * size
                ),
                lambda: Joined(
                    None, None, geometry, pick(geometry, False), None if tile[0] == geometry.batch else tile, all_of
                ),
            )
        )
    apart = [(g, TURNED_APART * total(g.w_shape) * size) for phase in phases if (g := phase.geometry) is not None]
    best, found = _price(lambda: sum(price(g, 0, turned=turned) for g, turned in apart)), None
    for seconds, make in ways:
        least = _price(seconds)
        if least < np.inf and least <= best and (step := make()).workspace(dtype) <= budget:
            best, found = least, step
    return found


def _price(of: Callable[[], float]) -> float:
    """A price, which is beyond all others where the algorithm asked for cannot, or none within the budget."""
    try:
        return of()
    except (ValueError, MemoryError):
        return np.inf


def correlate(pick: Pick, x: np.ndarray, w: np.ndarray, phases: list[Phase], out: np.ndarray, budget: int) -> None:
    """Write the convolution of x and w, split into `phases`, into `out`, (N, O, *out)."""
    run = ready(pick, phases, "forward", out.dtype, budget)
    run.forward(x, run.prepare(w, once=True), out)


def weight_grad(pick: Pick, x: np.ndarray, g: np.ndarray, phases: list[Phase], out: np.ndarray, budget: int) -> None:
    """Write the gradient of the weights of a convolution, split into `phases`, into `out`, (O, C/G, *k)."""
    ready(pick, phases, "weight_grad", out.dtype, budget).weight_grad(x, g, out)
