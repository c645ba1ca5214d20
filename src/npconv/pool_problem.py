"""From what a caller wrote about a pooling to axes of plain ints: the door that all pools share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from .arguments import check_memory, common_dtypes, flag, integer_compute, largest_magnitude, operand, real_dtype
from .geometry import BinAxis, Ints, PoolGeometry, WindowAxis, did_you_mean, spatial_axes
from .layouts import NAMES, Layout, input_layout
from .reduction import Axis, overlap


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
    for key in options:
        if key not in DEFAULTS:
            raise TypeError(f"{op}: unknown keyword {key!r}, needs {did_you_mean(key, [*extra, *DEFAULTS])}")
    return {**DEFAULTS, **options}


@dataclass(frozen=True)
class PoolProblem:
    """One resolved pooling of (N, C, *in) to (N, C, *out), and the way there from the caller's arrays."""

    op: str
    layout: Layout
    x_shape: Ints
    axes: tuple[Any, ...]
    described: str  # for messages: what beside x.shape made the output's shape

    @property
    def canonical_shape(self) -> Ints:
        """(N, C, *in)."""
        return self.layout.canonical_shape(self.x_shape)

    @property
    def out_shape(self) -> Ints:
        return tuple(windows.out for windows in self.axes)

    @property
    def y_shape(self) -> Ints:
        """The caller's output shape."""
        return self.layout.user_shape(self.x_shape, self.canonical_shape[1], self.out_shape)

    def check_gradient(self, g: np.ndarray, name: str = "g") -> None:
        """Refuse a gradient, or saved indices, of another shape than the output."""
        if g.shape != self.y_shape:
            raise ValueError(
                f"{self.op}: {name}.shape is {g.shape}, expected {self.y_shape}, the output of x.shape {self.x_shape} "
                f"with {self.described}; use the arguments of the forward call"
            )

    def refuse_empty_windows(self) -> None:
        """A maximum over nothing has no value and no index."""
        for i, windows in enumerate(self.axes):
            o = windows.first_empty() if isinstance(windows, WindowAxis) else None
            if isinstance(windows, BinAxis) and windows.out and not windows.size:
                o = 0
            if o is not None:
                raise ValueError(
                    f"{self.op}: window {o} on axis {i} reads no input: its first tap stands at {windows.starts[o]}, "
                    f"taps are {windows.dilation} apart, inputs stand at 0 to {windows.size - 1}; "
                    "use less padding or pad the input first"
                )


def spatial_layout(op: str, name: str, shape: Ints, spatial: Any, layout: Any, rank: int | None = None) -> Layout:
    """The layout of an array whose rank a tuple `spatial` tells; else letters, else all axes after batch and channel."""
    if not isinstance(layout, str):
        raise TypeError(f"{op}: layout must be a string, got {layout!r:.60} of type {type(layout).__name__}")
    ndim, letters, exact = len(shape), layout not in NAMES, rank is not None
    if rank is None:
        if isinstance(spatial, (tuple, list)) or getattr(spatial, "ndim", 0) == 1:
            rank = len(spatial)
        else:
            rank = len(set(layout) - set("NC")) if letters else max(1, ndim - 2)
    if not letters and (ndim < rank + 1 or (exact and ndim > rank + 2)):
        allowed = f"{rank + 1} or {rank + 2}" if exact else f"{rank + 1} or more"
        fix = f"use {name}[None, None]" if ndim == rank else "use one axis per batch, channel and space"
        raise ValueError(
            f"{op}: {name}.shape is {shape}, {ndim} axes, expected {allowed} for {spatial_axes(rank)}; {fix}"
        )
    return input_layout(op, layout, ndim, rank)


def read_pool(
    op: str, x_shape: Ints, kernel: Any, options: Mapping[str, Any], rank: int | None = None
) -> PoolProblem:
    """Validate and normalise a pooling with windows from its shapes; nothing is allocated."""
    layout = spatial_layout(op, "x", x_shape, kernel, options["layout"], rank)
    geometry = PoolGeometry.read(
        op,
        layout.canonical_shape(x_shape)[2:],
        kernel,
        options["stride"],
        options["padding"],
        options["dilation"],
        flag(op, "ceil_mode", options["ceil_mode"]),
        flag(op, "cover_all", options["cover_all"]),
    )
    described = (
        f"kernel {geometry.kernel}, stride {geometry.stride}, padding {geometry.padding}, "
        f"dilation {geometry.dilation} and rounding {geometry.rounding!r}"
    )
    return countable(PoolProblem(op, layout, x_shape, geometry.axes, described))


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
