"""The short way: a pass that is one algorithm's work on the caller's arrays, as they lie and all at once.

A small layer takes no longer than the questions that its call asks; those here were asked at the first such call.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .algorithms.base import Algorithm
from .around import Looking, Part
from .compiled import threads
from .compiled.calls import Bound, address
from .compiled.chains import Chain
from .epilogue import all_finite
from .execution import Pass, Step
from .geometry import Ints
from .phases import strided
from .records import dataclass, replace


@dataclass(frozen=True, eq=False)
class Single:
    """What is known of such a pass: who does it, the strides of its canonical operands, and whether NaN stay in place."""

    step: Step
    strides: Ints
    out_strides: Ints
    elements: int  # of the output, which lie in a row
    dtype: np.dtype
    exact: bool
    rest: bool  # outputs that are not the step's are zero

    def bind(self, prepared: object) -> Bound | None:
        """What computes the output with prepared weights; None: it takes more."""
        if self.rest:
            return None
        return self.sure(self.step.bind(prepared, self.strides, self.out_strides, self.dtype))

    def sure(self, bound: Bound | None) -> Bound | None:
        """The launch; its outputs are right, or it says that they are not."""
        if bound is None or self.exact or bound.looks:
            return bound
        return Looking(bound, self.elements, self.dtype)

    def lent(self, w_strides: Ints) -> Bound | None:
        """The launch that takes the weights of a call, of these strides, if there is one."""
        return _lent(self, w_strides, threads.current())

    def lend(self, w_strides: Ints) -> Bound | None:
        """The same, made anew."""
        step, rank = self.step, self.step.geometry.rank
        if not self.rest:
            return self.sure(step.lend(w_strides, self.strides, self.out_strides, self.dtype))
        everything = (slice(None),) * rank
        w_at, taps = strided((step.taps or everything)[-rank:], w_strides[-rank:])
        y_at, places = strided((step.out or everything)[-rank:], self.out_strides[-rank:])
        part = replace(step, out=None, taps=None)
        w_steps, y_steps = (*w_strides[:-rank], *taps), (*self.out_strides[:-rank], *places)
        bound = part.lend(w_steps, self.strides, y_steps, self.dtype)
        return bound and self.sure(Part(bound, w_at, y_at, self.elements, self.dtype))

    def forward(self, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, y: np.ndarray) -> bool | None:
        """Write the convolution of x with canonical weights, + bias; whether it is right; None: there is no such launch."""
        if self.rest and bias is not None:
            return False
        if w.dtype == self.dtype:
            lent = self.lent(w.strides)
            if lent is not None:
                if bias is None:
                    return lent.run_with(address(x), address(y), address(w))
                lanes = self.step.in_lanes(bias.astype(self.dtype))
                return lent.run_with(address(x), address(y), address(w), address(lanes))
        if self.rest:
            return None
        prepared = self.step.prepare(w, self.dtype, once=True)
        if bias is not None:
            prepared = self.step.with_bias(prepared, bias.astype(self.dtype))
        bound = None if prepared is None else self.bind(prepared)
        if bound is None:
            return None
        return bound.run(address(x), address(y))

    def weight_chain(self, g_strides: Ints) -> Chain | None:
        """The launches that write the gradient of canonical weights from g of these strides, if there are any."""
        step = self.step
        return step.algorithm.bind_weight_grad(
            step.geometry, self.strides, g_strides, self.out_strides, self.dtype, False
        )

    def weight_grad(self, x: np.ndarray, g: np.ndarray, dw: np.ndarray) -> bool:
        """Write the gradient of canonical weights from canonical x and g; whether it is right."""
        self.step.algorithm.write_weight_grad(x, g, self.step.geometry, dw)
        return self.exact or all_finite(dw)


@lru_cache(maxsize=1024)
def _lent(of: Single, w_strides: Ints, workers: int) -> Bound | None:
    """The launch that takes the weights of a call, of these strides, on as many threads as there are now: `workers`."""
    return of.lend(w_strides)


def single(
    run: Pass, direction: str, operands: tuple[np.ndarray, np.ndarray], outputs: tuple[np.ndarray, np.ndarray]
) -> Single | None:
    """`run` as one, where it is, for a first operand and an output as the caller has them and canonical."""
    (a, operand), (out, target) = operands, outputs
    if not run.compiled or len(run.steps) != 1 or not a.dtype == out.dtype == run.dtype:
        return None
    (step,) = run.steps
    rest = bool(run.zeros)
    if step.tile is not None or (step.out is not None and not rest):
        return None
    if address(operand) != address(a) or address(target) != address(out):  # one was copied to be canonical
        return None
    weights = direction == "weight_grad"
    exact = step.exact("weight_grad" if weights else "forward")
    if (weights and (rest or step.taps is not None)) or not (
        weights or type(step.algorithm).bind is not Algorithm.bind
    ):
        return None
    return Single(step, operand.strides, target.strides, out.size, run.dtype, exact, rest)
