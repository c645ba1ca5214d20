"""One resolved convolution call: a problem of plain ints, and its three passes on the caller's arrays."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from . import dispatch, execution
from .algorithms.base import input_grad_weights
from .arguments import Dtypes, integer_compute, largest_magnitude, working
from .compiled import catalogue
from .compiled.calls import address
from .epilogue import all_finite, finish
from .express import Lane
from .geometry import ConvGeometry, Ints, Pads, dilated_size, total
from .layouts import KernelLayout, Layout
from .memory import MemoryLimitError, check_memory, contiguous, machine_memory
from .records import dataclass, replace
from .single import Single, single
from .windows import pad, pad_mode, pad_mode_adjoint

if TYPE_CHECKING:
    from .activations import Activation

#: Memory layouts of operands for which a problem remembers whether there is a short way.
MOST_SINGLES = 64


@dataclass(frozen=True)
class Padded:
    """A padding that the algorithms do not do themselves: any mode but zeros."""

    pads: Pads
    mode: str
    value: Any


@dataclass(frozen=True)
class ConvProblem:
    """One resolved call: the geometry that runs, and the way there from the caller's arrays."""

    op: str
    geometry: ConvGeometry  # zero padding only; where `padded` is set, of the padded input
    in_shape: Ints  # the caller's spatial input sizes
    input_dilation: Ints
    padded: Padded | None
    flip: bool
    x_layout: Layout
    w_layout: KernelLayout
    x_shape: Ints
    w_shape: Ints
    algorithm: str
    accuracy: str
    max_workspace: int | None
    prepared: bool = False  # weights are brought in order once, for many calls

    @cached_property
    def y_shape(self) -> Ints:
        """The caller's output shape."""
        return self.x_layout.user_shape(self.x_shape, self.geometry.out_channels, self.geometry.out_shape)

    def settled(self, *operands: np.ndarray) -> tuple[list[np.ndarray], int]:
        """The operands in C order, and the bytes that their copies take."""
        limit = (machine_memory() if self.max_workspace is None else self.max_workspace) // 4
        done = [contiguous(a, limit) for a in operands]
        return done, sum(b.nbytes for a, b in zip(operands, done, strict=True) if a is not b)

    def request(self, dtypes: Dtypes, direction: str, reserved: int = 0) -> dispatch.Request:
        """What dispatch needs to know; `reserved` bytes of the budget are spent before an algorithm runs."""
        budget = self.max_workspace
        if budget is not None:
            if reserved > budget:
                raise MemoryLimitError(
                    f"{self.op}: max_workspace={budget} bytes is too little: converting and padding needs "
                    f"{reserved} bytes"
                )
            budget -= reserved
        dtypes = working(dtypes, self.accuracy)
        return dispatch.Request(dtypes, direction, self.accuracy, self.algorithm, budget, self.prepared)

    @cached_property
    def _passes(self) -> dict[tuple[Any, ...], execution.Pass]:
        """The passes made ready so far: a resolved call is kept, and called again."""
        return {}

    def make(self, direction: str, dtypes: Dtypes, itemsize: int, copied: int = 0) -> execution.Pass:
        """A pass over operands of `itemsize` bytes, `copied` bytes of which were copied first."""
        key = (direction, dtypes.compute, dtypes.result, itemsize, copied, catalogue.unavailable())
        found = self._passes.get(key)
        if found is None:
            result = {"forward": self.y_shape, "input_grad": self.x_shape, "weight_grad": self.w_shape}[direction]
            reserved = copied + self.reserved(itemsize, dtypes.compute, dtypes.result, result)
            request = self.request(dtypes, direction, reserved)
            pick, phases = dispatch.picker(self.op, request), execution.parts(self.geometry, direction)
            found = execution.ready(pick, phases, direction, request.dtypes.compute, request.limit, pick.seconds)
            self._passes[key] = found
        return found

    def ready(
        self, direction: str, dtypes: Dtypes, a: np.ndarray, b: np.ndarray
    ) -> tuple[execution.Pass, np.ndarray, np.ndarray]:
        """A pass, and its operands: copied to C order where the bits of a result would depend on strides."""
        run = self.make(direction, dtypes, a.itemsize)
        if run.compiled or (a.flags.c_contiguous and b.flags.c_contiguous):
            return run, a, b
        (a, b), copied = self.settled(a, b)
        return self.make(direction, dtypes, a.itemsize, copied), a, b

    @cached_property
    def _singles(self) -> dict[tuple[Any, ...], Single | None]:
        """The passes that can go the short way, and those that cannot, by what the caller's arrays are like."""
        return {}

    def single(self, direction: str, dtypes: Dtypes, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> Single | None:
        """The short way of a pass over these operands, if there is one."""
        key = (direction, a.strides, b.strides, out.strides, a.dtype, b.dtype, catalogue.unavailable())
        if key in self._singles:
            return self._singles[key]
        if len(self._singles) >= MOST_SINGLES:
            self._singles.clear()
        found = None
        if not dtypes.exact and a.dtype == b.dtype:
            run = self.make(direction, working(dtypes, self.accuracy), a.itemsize)
            layout = self.w_layout if direction == "weight_grad" else self.x_layout
            found = self.alone(run, direction, a, layout, out)
        self._singles[key] = found
        return found

    def went(self, short: Single, done: bool | None) -> bool:
        """Whether the short way led to the right outputs; where there turned out to be none, nobody tries it again."""
        if done is None:
            for key in [key for key, value in list(self._singles.items()) if value is short]:
                self._singles[key] = None
        return bool(done)

    def alone(
        self, run: execution.Pass, direction: str, a: np.ndarray, layout: Layout | KernelLayout, out: np.ndarray
    ) -> Single | None:
        """A pass as one that goes the short way from `a` to `out` of that layout, if it can."""
        if self.padded is not None or (self.flip and direction == "weight_grad"):
            return None
        return single(run, direction, (a, self.x_layout.canonical(a)), (out, layout.canonical(out)))

    def lane(self, direction: str, dtypes: Dtypes, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> Lane | None:
        """How calls with operands and an output like these go straight to a launch, if they may."""
        short = self.single(direction, dtypes, a, b, out)
        if short is None:
            return None
        if direction == "weight_grad":
            of_x, of_w = self.x_layout.canonical, self.w_layout.canonical
            g = of_x(b)
            chain = short.weight_chain(g.strides)
            if chain is None or address(g) != address(b):
                return Lane(lambda x, g, dw: short.weight_grad(of_x(x), of_x(g), of_w(dw)), out.shape, out.dtype)

            def weight_grad(x: np.ndarray, g: np.ndarray, dw: np.ndarray) -> bool:
                chain.run(address(x), address(g), address(dw))
                return short.exact or all_finite(dw)

            return Lane(weight_grad, out.shape, out.dtype)
        weights = self.weights(b)
        if direction == "input_grad":
            weights = input_grad_weights(weights, self.geometry.groups)
        lent = short.lent(weights.strides)
        if lent is None or not np.may_share_memory(weights, b):  # they were copied
            return None
        begin = address(weights) - address(b)
        return Lane(lambda x, w, y: lent.run_with(address(x), address(y), address(w) + begin), out.shape, out.dtype)

    # ------------------------------------------------------------------ views
    def inputs(self, x: np.ndarray) -> np.ndarray:
        """x as the geometry reads it: canonical, and padded where the mode is not zeros."""
        view = self.x_layout.canonical(x)
        if self.padded is None:
            return view
        view = pad(view, ((0, 0),) * self.geometry.rank, self.input_dilation)
        if self.padded.mode == "constant":
            check_fill(self.op, self.padded.value, x.dtype)
        return pad_mode(view, self.padded.pads, self.padded.mode, self.padded.value)

    def weights(self, w: np.ndarray) -> np.ndarray:
        """w canonical, and flipped if the call asked for true convolution."""
        view = self.w_layout.canonical(w)
        return flipped(view) if self.flip else view

    def reserved(self, itemsize: int, compute: np.dtype, result: np.dtype, result_shape: Ints) -> int:
        """Bytes spent outside the algorithm: padded inputs and a result in the compute dtype."""
        spent = 0
        if self.padded is not None:
            spent += total(self.geometry.x_shape) * itemsize
            check_memory(self.op, spent, f"an input padded to {self.geometry.in_shape}")
        if compute != result:
            spent += total(result_shape) * compute.itemsize
        return spent

    # ------------------------------------------------------------------ passes, on the caller's arrays
    def forward(self, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, dtypes: Dtypes, y: np.ndarray) -> None:
        """Write conv(x, w) + bias into y."""
        short = self.single("forward", dtypes, x, w, y)
        if short is not None and self.went(short, short.forward(x, self.weights(w), bias, y)):
            return
        dtypes = self.computing(dtypes, x, w, bias)
        run, x, w = self.ready("forward", dtypes, x, w)
        with np.errstate(all="ignore"):
            weights = run.prepare(self.weights(w), None if bias is None else bias.astype(run.dtype), once=True)
            self.write(run, self.inputs(x), weights, bias, self.x_layout, y)

    def write(
        self,
        run: execution.Pass,
        inputs: np.ndarray,
        weights: execution.Weights,
        bias: np.ndarray | None,
        layout: Layout,
        y: np.ndarray,
        activation: Activation | None = None,
    ) -> None:
        """Run a pass that gives an output in `layout`, and what follows it: bias, activation, one rounding."""
        work = y if run.dtype == y.dtype else np.empty(y.shape, run.dtype)
        run.forward(inputs, weights, layout.canonical(work))
        if weights.bias is not None:
            bias = None
        if weights.activation is not None:
            activation = None
        finish(work, layout.order[layout.batch_axes], None if bias is None else bias.astype(run.dtype), activation)
        if work is not y:
            y[...] = work

    def input_grad(
        self,
        g: np.ndarray,
        w: np.ndarray,
        dtypes: Dtypes,
        dx: np.ndarray,
        *,
        adjoint: bool = True,
        bias: np.ndarray | None = None,
    ) -> None:
        """Write the gradient of x into dx; not `adjoint`: the transpose, complex w not conjugated, + bias."""
        short = self.single("input_grad", dtypes, g, w, dx)
        if short is not None:
            flat = input_grad_weights(self.weights(w), self.geometry.groups)
            if self.went(short, short.forward(g, flat, bias, dx)):
                return
        dtypes = self.computing(dtypes, g, w, bias, transposed=True)
        run, g, w = self.ready("input_grad", dtypes, g, w)
        flat = input_grad_weights(self.weights(w), self.geometry.groups)
        if adjoint and flat.dtype.kind == "c":
            flat = flat.conj()
        with np.errstate(all="ignore"):
            weights = run.prepare(flat, None if bias is None else bias.astype(run.dtype), once=True)
            gs = self.x_layout.canonical(g)
            if self.padded is None:
                self.write(run, gs, weights, bias, self.x_layout, dx)
                return
            padded = np.empty(self.geometry.x_shape, run.dtype)
            run.forward(gs, weights, padded)
            dilated = tuple(dilated_size(n, D) for n, D in zip(self.in_shape, self.input_dilation, strict=True))
            back = pad_mode_adjoint(padded, dilated, self.padded.pads, self.padded.mode)
            self.x_layout.canonical(dx)[...] = back[(..., *(slice(None, None, D) for D in self.input_dilation))]

    def weight_grad(self, x: np.ndarray, g: np.ndarray, dtypes: Dtypes, dw: np.ndarray) -> None:
        """Write the gradient of w into dw."""
        canonical, short = self.w_layout.canonical(dw), self.single("weight_grad", dtypes, x, g, dw)
        if short is not None and short.weight_grad(self.x_layout.canonical(x), self.x_layout.canonical(g), canonical):
            return
        dtypes = self.computing(dtypes, x, g, None, weights=True)
        run, x, g = self.ready("weight_grad", dtypes, x, g)
        direct = run.compiled and run.dtype == dw.dtype and not self.flip
        work = canonical if direct else np.empty(canonical.shape, run.dtype)
        xs, gs = self.inputs(x), self.x_layout.canonical(g)
        if xs.dtype.kind == "c":
            xs = xs.conj()
        with np.errstate(all="ignore"):
            run.weight_grad(xs, gs, work)
            if work is not canonical:
                canonical[...] = flipped(work) if self.flip else work

    def computing(self, dtypes: Dtypes, a: np.ndarray, b: np.ndarray, bias: np.ndarray | None, **sums: bool) -> Dtypes:
        """`dtypes` with the compute dtype of a call: the tier's, or for integers what holds their sums."""
        if not dtypes.exact:
            return working(dtypes, self.accuracy)
        return replace(dtypes, compute=self._integers(a, b, bias, **sums))

    def _integers(
        self, a: np.ndarray, b: np.ndarray, bias: np.ndarray | None, *, transposed: bool = False, weights: bool = False
    ) -> np.dtype:
        """The dtype that is exact for these integers, from a bound on every partial sum."""
        g = self.geometry
        terms = total(g.y_shape) // max(1, g.out_channels) if weights else g.terms
        if transposed:
            terms = g.taps * (g.out_channels // g.groups)
        largest = largest_magnitude(a)
        if not (weights or transposed) and self.padded is not None and self.padded.mode == "constant":
            check_fill(self.op, self.padded.value, a.dtype)
            largest = max(largest, abs(int(self.padded.value)))
        bound = largest * largest_magnitude(b) * terms
        if bound > 2**53 and not weights and not transposed and b.size:
            # a sharper one: the sum of |w| of the heaviest output channel
            sums = np.abs(self.w_layout.canonical(b).astype(np.float64)).reshape(g.out_channels, -1).sum(1)
            bound = min(bound, int(largest * float(sums.max()) * (1 + 1e-9)) + 1)
        return integer_compute(self.op, bound + (largest_magnitude(bias) if bias is not None else 0))


def flipped(w: np.ndarray) -> np.ndarray:
    """(O, I, *k) weights with every spatial axis turned round, a view."""
    return w[(..., *(slice(None, None, -1),) * (w.ndim - 2))]


def check_fill(op: str, value: Any, dtype: np.dtype) -> None:
    """Refuse a padding value that x's dtype cannot hold; NumPy would truncate it in silence."""
    real = complex(value).imag == 0
    whole = real and float(complex(value).real).is_integer()
    if dtype.kind == "c" or (dtype.kind not in "iu" and real):
        return
    if dtype.kind not in "iu" or not whole:
        wide = "complex128" if not real else "float64"
        raise TypeError(f"{op}: padding_value={value} does not fit x of dtype {dtype}; use x.astype(np.{wide})")
    limits = np.iinfo(dtype)
    if not limits.min <= int(complex(value).real) <= limits.max:
        raise ValueError(
            f"{op}: padding_value={value} does not fit x of dtype {dtype}, {limits.min}..{limits.max}; use "
            "x.astype(np.int64)"
        )
