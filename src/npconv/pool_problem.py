"""From what a caller wrote about a pooling to axes of plain ints: the door that all pools share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, TypedDict

import numpy as np

from .arguments import common_dtypes, flag, integer_compute, largest_magnitude, operand, real_dtype
from .geometry import Ints, PoolGeometry, effective_kernel
from .layouts import NAMES, Layout, input_layout
from .memory import check_memory
from .reading import check_windows, completed, per_axis, resolve_padding, spatial_axes
from .records import dataclass
from .reduction import Axis, along, overlap


class PoolOptions(TypedDict, total=False):
    """The keywords that the pools with a window share; `npconv.max_pool` documents them."""

    stride: Any
    padding: Any
    dilation: Any
    ceil_mode: bool
    cover_all: bool
    layout: str


DEFAULTS: dict[str, Any] = {
    "stride": None,
    "padding": 0,
    "dilation": 1,
    "ceil_mode": False,
    "cover_all": False,
    "layout": "channels_first",
}


def with_defaults(op: str, options: Mapping[str, Any], extra: tuple[str, ...] = ()) -> dict[str, Any]:
    """`options` completed; an unknown keyword is refused with the closest known one."""
    return completed(op, options, DEFAULTS, extra)


#: Divisors of a mean that are no number: the taps in the padded input (rule R13), the taps that read an input.
PADDED, READ = -1, 0


@dataclass(frozen=True)
class PoolProblem:
    """One resolved pooling of (N, C, *in) to (N, C, *out), and the way there from the caller's arrays."""

    op: str
    layout: Layout
    x_shape: Ints
    axes: tuple[Any, ...]
    described: str  # for messages: what beside x.shape made the output's shape

    @cached_property
    def canonical_shape(self) -> Ints:
        """(N, C, *in)."""
        return self.layout.canonical_shape(self.x_shape)

    @cached_property
    def out_shape(self) -> Ints:
        return tuple(windows.out for windows in self.axes)

    @cached_property
    def y_shape(self) -> Ints:
        """The caller's output shape."""
        return self.layout.user_shape(self.x_shape, self.canonical_shape[1], self.out_shape)

    @cached_property
    def channels_last(self) -> bool:
        """Whether the channels of a pixel lie side by side."""
        order = self.layout.order
        return order[self.layout.batch_axes] == len(order) - 1

    @cached_property
    def launches(self) -> dict[Any, Any]:
        """What machine code runs for arrays of which strides, as `pool_passes` found out."""
        return {}

    def shares(self, divisor: int) -> list[list[int]]:
        """What the sums of windows are divided by, as factors: one per window of each axis."""
        if divisor in (PADDED, READ):
            return [windows.counts(divisor == PADDED) for windows in self.axes]
        factors = [[1] * windows.out for windows in self.axes]
        return [[divisor] * len(factors[0]), *factors[1:]] if factors else []

    def divisor(self, divisor: int) -> int | np.ndarray:
        """One number for all windows, or an array that broadcasts over (N, C, *out); 1 for a count of 0."""
        if divisor not in (PADDED, READ):
            return divisor
        product: Any = 1
        for axis, counts in enumerate(self.shares(divisor), 2):
            if counts and min(counts) == max(counts):
                product = product * max(1, counts[0])
            else:
                product = product * along(axis, len(self.axes) + 2, np.maximum(counts, 1).astype(np.float64))
        return product

    @cached_property
    def empty_window(self) -> tuple[int, int] | None:
        """The first (axis, window) that reads no input."""
        for i, windows in enumerate(self.axes):
            o = windows.first_empty()
            if o is not None:
                return i, o
        return None

    def check_gradient(self, g: np.ndarray, name: str = "g") -> None:
        """Refuse a gradient, or saved indices, of another shape than the output."""
        if g.shape != self.y_shape:
            raise ValueError(
                f"{self.op}: {name}.shape is {g.shape}, expected {self.y_shape}, the output of x.shape "
                f"{self.x_shape} with {self.described}; use the arguments of the forward call"
            )

    def refuse_empty_windows(self) -> None:
        """A maximum over nothing has no value and no index."""
        if self.empty_window is None:
            return
        i, o = self.empty_window
        windows = self.axes[i]
        raise ValueError(
            f"{self.op}: window {o} on axis {i} reads no input: its taps stand at {windows.starts[o]} + "
            f"{windows.dilation} t for t < {windows.taps}, the inputs at 0 <= position < {windows.end}; "
            "use less padding or dilation, pad x first, or change ceil_mode, cover_all or "
            f"layout={self.layout.name!r}"
        )


def spatial_layout(op: str, name: str, shape: Ints, spatial: Any, layout: Any, rank: int | None = None) -> Layout:
    """The layout of an array. A tuple `spatial` tells the rank, else letters, else the number of axes."""
    if not isinstance(layout, str):
        raise TypeError(f"{op}: layout must be a string, got {layout!r:.60} of type {type(layout).__name__}")
    ndim, letters, exact = len(shape), layout not in NAMES, rank is not None
    if rank is None and (isinstance(spatial, (tuple, list)) or getattr(spatial, "ndim", 0) == 1):
        rank = len(spatial)
    if rank is None and letters:
        rank = len(set(layout) - set("NC"))
    if rank is None:  # never 0: a plane without batch and channel axes would go through untouched
        rank, fewest = max(1, ndim - 2), 3
    else:
        fewest = rank + 1
    if not letters and (ndim < fewest or (exact and ndim > rank + 2)):
        allowed = f"{rank + 1} or {rank + 2}" if exact else f"{fewest} or more"
        fix = f"use {name}[None, None]" if ndim < fewest else "use the operator without a number in its name"
        raise ValueError(
            f"{op}: {name}.shape is {shape}, {ndim} axes, expected {allowed}: batch, channels and "
            f"{spatial_axes(rank)} (by kernel and layout); {fix}"
        )
    return input_layout(op, layout, ndim, rank)


def read_pool(op: str, x_shape: Ints, kernel: Any, options: Mapping[str, Any], rank: int | None = None) -> PoolProblem:
    """Validate and normalise a pooling with windows from its shapes; nothing is allocated."""
    rounding = flag(op, "ceil_mode", options["ceil_mode"]), flag(op, "cover_all", options["cover_all"])
    window = kernel, options["stride"], options["padding"], options["dilation"]
    read = _read_once if is_plain(window) else _read
    if not isinstance(options["layout"], str):
        read = _read  # which refuses it
    return read(op, x_shape, window, rounding, options["layout"], rank)


#: The types of options that are looked up: 1, 1.0 and True are equal, but only the first is right.
PLAIN = {int, str, type(None)}


def is_plain(value: Any) -> bool:
    """Whether `value` can be looked up."""
    kind = type(value)
    if kind is not tuple:
        return kind in PLAIN
    kinds = set(map(type, value))
    return kinds <= PLAIN or (kinds <= PLAIN | {tuple} and all(map(is_plain, value)))


def _read(
    op: str,
    x_shape: Ints,
    window: tuple[Any, Any, Any, Any],
    rounding: tuple[bool, bool],
    layout: str,
    rank: int | None,
) -> PoolProblem:
    kernel, stride, padding, dilation = window
    order = spatial_layout(op, "x", x_shape, kernel, layout, rank)
    sizes = order.canonical_shape(x_shape)[2:]
    geometry = read_geometry(op, sizes, kernel, stride, padding, dilation, *rounding)
    described = (
        f"kernel {geometry.kernel}, stride {geometry.stride}, padding {geometry.padding}, "
        f"dilation {geometry.dilation} and rounding {geometry.rounding!r}"
    )
    return countable(PoolProblem(op, order, x_shape, geometry.axes, described))


_read_once = lru_cache(maxsize=1024)(_read)


def read_geometry(
    op: str,
    in_shape: Ints,
    kernel: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool = False,
    cover_all: bool = False,
) -> PoolGeometry:
    """Normalise and validate the sizes of a pooling."""
    rank = len(in_shape)
    k = per_axis(op, "kernel", kernel, rank, 1)
    s = k if stride is None else per_axis(op, "stride", stride, rank, 1)
    d = per_axis(op, "dilation", dilation, rank, 1)
    if ceil_mode and cover_all:
        raise ValueError(f"{op}: ceil_mode=True and cover_all=True exclude each other; use one of them")
    pads = resolve_padding(op, padding, in_shape, k, s, d)
    for i, ((lo, hi), n) in enumerate(zip(pads, k, strict=True)):
        e = effective_kernel(n, d[i])
        if max(lo, hi) >= e and lo + hi:
            raise ValueError(
                f"{op}: padding ({lo}, {hi}) on axis {i} would leave a window wholly in the padding: needs padding < "
                f"effective kernel {e} (kernel {n}, dilation {d[i]}); pad the input first if that is meant"
            )
    check_windows(op, in_shape, k, d, pads)
    return PoolGeometry(in_shape, k, s, d, pads, "ceil" if ceil_mode else "cover_all" if cover_all else "floor")


def countable(p: PoolProblem) -> PoolProblem:
    """`p`, refused where even one note per window and axis would fill the memory."""
    windows = sum(p.out_shape)
    check_memory(p.op, 128 * windows, f"a list of {windows} windows")
    return p


def real_operand(op: str, name: str, value: Any) -> np.ndarray:
    """`value` as an array of real numbers."""
    array = operand(op, name, value)
    real_dtype(op, name, array.dtype)
    return array


def compute_dtype(dtype: np.dtype) -> np.dtype:
    """Half floats compute in float32; everything else in itself."""
    return np.dtype(np.float32) if dtype.kind not in "iu" and dtype.itemsize == 2 else dtype


def float_dtype(dtype: np.dtype) -> np.dtype:
    """The result of an average: float64 for integers."""
    return np.dtype(np.float64) if dtype.kind in "iu" else dtype


def routed_dtype(op: str, operands: Mapping[str, np.ndarray], axes: Sequence[Axis]) -> np.dtype:
    """The result of a gradient that copies g; sums of integers must fit int64."""
    dtypes = common_dtypes(op, {name: array.dtype for name, array in operands.items()})
    if dtypes.exact:
        integer_compute(op, largest_magnitude(operands["g"]) * overlap(axes))
    return dtypes.result
