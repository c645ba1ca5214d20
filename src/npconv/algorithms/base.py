"""The contract of an algorithm, and the identities that make one forward pass enough.

An algorithm is one object with a name. It never sees layouts, batch splitting, budgets, bias, padding modes or input
dilation: those are settled before it runs. It gets canonical views, x (N, C, *in) and w (O, C/G, *k), a
`ConvGeometry`, and the array to write into. Correctness limits live in `why_not`, cost in `cost`; never mixed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..compiled import catalogue, threads
from ..compiled.calls import Bound, address
from ..compiled.chains import Chain
from ..compiled.panels import LINE
from ..geometry import ConvGeometry, Ints, total
from ..lazy import Later
from ..records import dataclass
from ..windows import pad_geometry

if TYPE_CHECKING:
    from ..compiled.outer import launch as outer_launch
else:  # only weight gradients need it
    outer_launch = Later("..compiled.outer.launch", __package__)

#: Bytes of weights that stay near the processor from call to call.
NEAR_BYTES = 1 << 20
#: What the products of x and g of one group cost besides their arithmetic, in floating-point operations.
GROUP_FLOPS = 60_000
#: How often elements are moved that are `scattered`, where pixels of one channel are brought together.
SCATTERED = 5
#: Positions of a padded axis that kernels which count them take at most: their arithmetic stays far from 64 bits.
FAR = 2**40
DIRECTIONS = ("forward", "input_grad", "weight_grad")
ACCURACIES = ("strict", "standard", "fast")


@dataclass(frozen=True)
class Cost:
    """What one call does, by arithmetic alone.

    Attributes
    ----------
    flops : floating-point operations inside matrix products.
    bytes : bytes read and written outside of them (packing, shifting, copies).
    calls : NumPy calls, each with a fixed overhead.
    workspace : bytes allocated beyond the output.
    butterflies : floating-point operations inside fast Fourier transforms.
    engine : what does the work, and so which prices hold: "numpy", or a family of compiled kernels.
    preparation : what `prepare` does besides, which a plan pays once; its workspace counts above.
    """

    flops: int
    bytes: int
    calls: int
    workspace: int
    butterflies: int = 0
    engine: str = "numpy"
    preparation: Cost | None = None


@dataclass(frozen=True)
class ErrorBound:
    """A promise on every output: ``|err| <= constant * u * scale`` with u the unit roundoff.

    ``scale`` is "window" (S, the sum of |x||w| over the output's own window), "plane" (R, the sum over channels of
    max|x_c| times the sum of |w_oc|: a transform also sees what an output does not read), "transform" (S with the
    absolute values of the transforms) or "norms" (the sum over channels of the norms of x_c and w_oc).
    """

    constant: float
    scale: str

    def __str__(self) -> str:
        names = {
            "window": "S(output)",
            "plane": "R(plane)",
            "transform": "Amp(output)",
            "norms": "sum_c |x_c| |w_oc|",
        }
        return f"{self.constant:g} u {names[self.scale]}"


class Algorithm:
    """Base class; a subclass needs `name`, `summary`, `cost` and `forward`."""

    name: str = ""
    summary: str = ""
    #: Tiers this algorithm may serve; `error_bound` says what it promises.
    accuracy: tuple[str, ...] = ACCURACIES
    #: The passes in which non-finite inputs reach exactly the outputs that read them; elsewhere npconv checks and repairs.
    exact_footprint: tuple[str, ...] = DIRECTIONS
    #: Whether integer data give exact results in float64.
    exact_on_integers: bool = True
    #: Whether "auto" may choose it.
    automatic: bool = True
    #: Whether it lives on NumPy's BLAS, whose threads keep processors busy for some 20 ms after a product.
    blas: bool = False
    #: Whether it takes weights as `input_grad_weights` gives them, groups an axis of their own, without a copy.
    takes_groups: bool = False

    def why_not(self, geometry: ConvGeometry, dtype: np.dtype) -> str | None:
        """The reason it cannot run, one clause, or None. It holds for all three passes."""
        return None

    def cost(self, geometry: ConvGeometry, dtype: np.dtype, direction: str = "forward") -> Cost:
        """Flops, bytes, calls and workspace of one pass over `geometry`."""
        raise NotImplementedError

    def error_bound(self, geometry: ConvGeometry, dtype: np.dtype) -> ErrorBound:
        """The bound that every output keeps."""
        return ErrorBound(32, "window")

    def tile(self, geometry: ConvGeometry, dtype: np.dtype, direction: str = "forward") -> tuple[int, Ints]:
        """The batch and output extents it likes to work on at once; the default is everything."""
        return geometry.batch, geometry.out_shape

    def prepare(self, w: np.ndarray, geometry: ConvGeometry, dtype: np.dtype) -> Any:
        """Whatever depends on the weights alone; `geometry` is that of the largest tile."""
        return np.asarray(w, dtype)

    def borrow(self, w: np.ndarray, geometry: ConvGeometry, dtype: np.dtype) -> Any:
        """`prepare` for weights that serve one call only; the result may refer to `w` itself."""
        return self.prepare(w, geometry, dtype)

    def with_bias(self, prepared: Any, bias: np.ndarray, geometry: ConvGeometry) -> Any:
        """`prepared` with one number per output channel that `forward` adds on its way; None: it cannot."""
        return None

    def with_bounds(self, prepared: Any, least: float, most: float) -> Any:
        """`prepared` for a `forward` that keeps its outputs, NaN aside, between two numbers; None: it cannot."""
        return None

    def with_sum(self, prepared: Any) -> Any:
        """`prepared` for a launch that adds its outputs to what is there, bounds applied to the sum; None: it cannot."""
        return None

    def forward(self, x: np.ndarray, prepared: Any, geometry: ConvGeometry, out: np.ndarray) -> bool | None:
        """Write the convolution of x with the prepared weights into `out`, (N, O, *out).

        What comes back says whether all outputs were finite before they were bounded; None: nobody looked.
        """
        raise NotImplementedError

    def bind(
        self, prepared: Any, geometry: ConvGeometry, x_strides: Ints, out_strides: Ints, dtype: np.dtype
    ) -> Bound | None:
        """The one launch that is `forward` for arrays of `dtype` and these strides; None: it takes more, or nothing at all."""
        return None

    def lend(
        self, w_strides: Ints, geometry: ConvGeometry, x_strides: Ints, out_strides: Ints, dtype: np.dtype
    ) -> Bound | None:
        """`bind` for any weights of these strides, each call's where it says; None: they have to be prepared."""
        return None

    def bind_weight_grad(
        self, geometry: ConvGeometry, x_strides: Ints, g_strides: Ints, out_strides: Ints, dtype: np.dtype, more: bool
    ) -> Chain | None:
        """The launches that are `weight_grad`, or without `more` `write_weight_grad`, for arrays of `dtype` and these strides.

        None: it takes more, or there is nothing to compute.
        """
        return None

    def in_lanes(self, bias: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
        """One number per output channel as what is lent reads it."""
        return bias

    def weight_grad(self, x: np.ndarray, g: np.ndarray, geometry: ConvGeometry, out: np.ndarray) -> None:
        """Add the weight gradient of this tile to `out`, (O, C/G, *k).

        The default is the identity ``dw[o, c, t] = sum over n, p of g[n, o, p] x[n, c, p s + t d - lo]``: a convolution
        of x, channels as batch, with g as a kernel of dilation s, at stride d.
        """
        problem, padded = geometry.weight_problem(), pad_geometry(x, geometry, out.dtype)
        c, o = problem.batch, problem.out_channels
        for i in range(geometry.groups):
            xs = padded[:, i * c : (i + 1) * c].swapaxes(0, 1)
            gs = g[:, i * o : (i + 1) * o].swapaxes(0, 1)
            part = np.empty((c, o, *geometry.kernel), out.dtype)
            self.forward(xs, self.borrow(gs, problem, out.dtype), problem, part)
            out[i * o : (i + 1) * o] += part.swapaxes(0, 1)

    def write_weight_grad(self, x: np.ndarray, g: np.ndarray, geometry: ConvGeometry, out: np.ndarray) -> None:
        """Write it, whatever `out` holds: what a pass needs unless tiles follow each other."""
        out[...] = 0
        self.weight_grad(x, g, geometry, out)


class Compiled(Algorithm):
    """An algorithm whose kernels are machine code, for float32 and float64 along up to three axes.

    A subclass has `bind`, where its forward pass is one launch, or `forward`.
    """

    def why_not(self, geometry: ConvGeometry, dtype: np.dtype) -> str | None:
        missing = catalogue.unavailable()
        if missing:
            return missing
        if dtype.kind != "f" or dtype.itemsize not in (4, 8):
            return f"needs float32 or float64, the dtype is {dtype}"
        if geometry.rank > 3:
            return f"needs up to 3 spatial axes, there are {geometry.rank}"
        return self.limits(geometry, dtype)

    def limits(self, geometry: ConvGeometry, dtype: np.dtype) -> str | None:
        """The reason these kernels cannot run where others of the kind can, one clause, or None."""
        return None

    def forward(self, x: np.ndarray, prepared: Any, geometry: ConvGeometry, out: np.ndarray) -> bool | None:
        x = np.asarray(x, out.dtype)
        bound = self.bind(prepared, geometry, x.strides, out.strides, out.dtype)
        if bound is None:
            return None
        finite = bound.run(address(x), address(out))
        return finite if bound.looks else None


class Linked(Compiled):
    """A compiled algorithm whose weight gradient is the launches that `bind_weight_grad` gives, where there is one at all."""

    def weight_grad(self, x: np.ndarray, g: np.ndarray, geometry: ConvGeometry, out: np.ndarray) -> None:
        self._weight_grad(x, g, geometry, out, more=True)

    def write_weight_grad(self, x: np.ndarray, g: np.ndarray, geometry: ConvGeometry, out: np.ndarray) -> None:
        self._weight_grad(x, g, geometry, out, more=False)

    def _weight_grad(self, x: np.ndarray, g: np.ndarray, geometry: ConvGeometry, out: np.ndarray, more: bool) -> None:
        x, g = np.asarray(x, out.dtype), np.asarray(g, out.dtype)
        found = self.bind_weight_grad(geometry, x.strides, g.strides, out.strides, out.dtype, more)
        if found is not None:
            found.run(address(x), address(g), address(out))
        elif not more:
            out[...] = 0


class Multiplying(Linked):
    """A compiled algorithm whose weight gradient is products of x and g as they are: `compiled.outer`."""

    def weight_grad_cost(self, geometry: ConvGeometry, dtype: np.dtype) -> Cost:
        """The cost of `weight_grad`."""
        size = dtype.itemsize
        work = outer_launch.flops(geometry, dtype) + GROUP_FLOPS * geometry.groups
        again = SCATTERED * scattered(geometry, size) if geometry.taps > 1 else 0  # one tap reads a line once
        moved = sum(elements(geometry)) + again
        return Cost(work, moved * size, 2, outer_launch.workspace(geometry, dtype), engine="outer")

    def bind_weight_grad(
        self, geometry: ConvGeometry, x_strides: Ints, g_strides: Ints, out_strides: Ints, dtype: np.dtype, more: bool
    ) -> Chain | None:
        return outer_launch.bind(geometry, x_strides, g_strides, out_strides, dtype, more, threads.current())


def input_grad_weights(w: np.ndarray, groups: int) -> np.ndarray:
    """The kernel of the input gradient, a view: taps flipped, in and out swapped, (C, O, *k); of groups (G, C/G, O/G, *k)."""
    o, i, *k = w.shape
    flipped = (..., *(slice(None, None, -1),) * len(k))
    if groups == 1:
        return w.swapaxes(0, 1)[flipped]
    return w.reshape(groups, o // groups if groups else 0, i, *k).swapaxes(1, 2)[flipped]


def joined(w: np.ndarray) -> np.ndarray:
    """Weights (G, O/G, C/G, *k) as (O, C/G, *k): a copy that keeps their order in memory, which copies fastest."""
    upright = (..., *[slice(None, None, -1 if step < 0 else 1) for step in w.strides[3:]])
    apart = w[upright]
    rest = sorted(range(1, apart.ndim), key=lambda axis: -abs(apart.strides[axis]))
    at = rest.index(1)
    joint = np.ascontiguousarray(apart.transpose(*rest[:at], 0, *rest[at:]))
    joint = joint.reshape([w.shape[0] * w.shape[1] if axis == 1 else apart.shape[axis] for axis in rest])
    return joint.transpose([rest.index(axis) for axis in range(1, apart.ndim)])[upright]


def streamed(weights: int) -> int:
    """Of so many bytes of prepared weights, those that come from memory at every call, however many threads there are."""
    return max(0, weights - NEAR_BYTES)


def elements(geometry: ConvGeometry) -> tuple[int, int, int]:
    """The element counts of the padded input, the weights and the output."""
    padded = geometry.batch * geometry.in_channels * total(geometry.padded_shape)
    return padded, total(geometry.w_shape), total(geometry.y_shape)


def scattered(geometry: ConvGeometry, itemsize: int) -> int:
    """The elements of the padded input and the output if, channels last, their neighbours in a cache line are of other groups."""
    padded, _, outputs = elements(geometry)
    return padded + outputs if geometry.groups * itemsize >= LINE else 0
