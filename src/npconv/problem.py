"""From what a caller wrote to a problem of plain ints, and its three passes on user arrays.

``read`` does everything that can be said from shapes; a `ConvProblem` then runs. conv, its gradients, its
transpose and its relatives all come through here, so each rule and each message stands once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import numpy as np

from . import dispatch, execution
from .algorithms.base import ACCURACIES, input_grad_weights
from .arguments import (
    Dtypes,
    MemoryLimitError,
    check_memory,
    choice,
    contiguous,
    flag,
    integer_compute,
    largest_magnitude,
    machine_memory,
    read_bytes,
)
from .geometry import (
    LARGEST,
    ConvGeometry,
    Ints,
    Pads,
    check_windows,
    did_you_mean,
    dilated_size,
    formula_text,
    one_int,
    per_axis,
    rank_source,
    resolve_padding,
    shown,
    spatial_axes,
    total,
)
from .layouts import KernelLayout, Layout, guess, input_layout, kernel_layout
from .windows import MODES, pad, pad_mode, pad_mode_adjoint


class ConvOptions(TypedDict, total=False):
    """The keywords that conv, its gradients and `explain` share; `npconv.conv` documents them."""

    stride: Any
    padding: Any
    dilation: Any
    groups: int
    input_dilation: Any
    padding_mode: str
    padding_value: Any
    flip: bool
    layout: str
    kernel_layout: str | None
    algorithm: str
    accuracy: str
    max_workspace: int | None


DEFAULTS: dict[str, Any] = {
    "stride": 1,
    "padding": 0,
    "dilation": 1,
    "groups": 1,
    "input_dilation": 1,
    "padding_mode": "zeros",
    "padding_value": 0,
    "flip": False,
    "layout": "channels_first",
    "kernel_layout": None,
    "algorithm": "auto",
    "accuracy": "standard",
    "max_workspace": None,
}


def with_defaults(op: str, options: Mapping[str, Any], extra: tuple[str, ...] = ()) -> dict[str, Any]:
    """`options` completed; an unknown keyword is refused with the closest known one."""
    for key in options:
        if key not in DEFAULTS:
            raise TypeError(f"{op}: unknown keyword {key!r}, needs {did_you_mean(key, [*extra, *DEFAULTS])}")
    return {**DEFAULTS, **options}


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

    @property
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
        return dispatch.Request(dtypes, direction, self.accuracy, self.algorithm, budget)

    # ------------------------------------------------------------------ views
    def inputs(self, x: np.ndarray, *, tangent: bool = False) -> np.ndarray:
        """x as the geometry reads it: canonical, and padded where the mode is not zeros."""
        view = self.x_layout.canonical(x)
        if self.padded is None:
            return view
        view = pad(view, ((0, 0),) * self.geometry.rank, self.input_dilation)
        if self.padded.mode == "constant":
            check_fill(self.op, self.padded.value, x.dtype)
        mode = "zeros" if tangent and self.padded.mode == "constant" else self.padded.mode
        return pad_mode(view, self.padded.pads, mode, self.padded.value)

    def weights(self, w: np.ndarray) -> np.ndarray:
        """w canonical, and flipped if the call asked for true convolution."""
        view = self.w_layout.canonical(w)
        return np.flip(view, tuple(range(2, view.ndim))) if self.flip else view

    def reserved(self, x: np.ndarray | None, compute: np.dtype, result: np.dtype, result_shape: Ints) -> int:
        """Bytes spent outside the algorithm: padded inputs and a result in the compute dtype."""
        spent = 0
        if x is not None and self.padded is not None:
            spent += total(self.geometry.x_shape) * x.itemsize
            check_memory(self.op, spent, f"an input padded to {self.geometry.in_shape}")
        if compute != result:
            spent += total(result_shape) * compute.itemsize
        return spent

    # ------------------------------------------------------------------ passes, on the caller's arrays
    def forward(
        self, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, dtypes: Dtypes, y: np.ndarray
    ) -> None:
        """Write conv(x, w) + bias into y."""
        compute = self._compute(dtypes, x, w, bias)
        (x, w), copied = self.settled(x, w)
        reserved = copied + self.reserved(x, compute, dtypes.result, y.shape)
        request = self.request(replace(dtypes, compute=compute), "forward", reserved)
        parts = execution.parts(self.geometry, "forward")
        pick = dispatch.picker(self.op, request)
        work = y if compute == y.dtype else np.empty(y.shape, compute)
        view = self.x_layout.canonical(work)
        with np.errstate(all="ignore"):
            execution.correlate(pick, self.inputs(x), self.weights(w), parts, view, request.limit)
            if bias is not None:
                view += bias.astype(compute).reshape(-1, *(1,) * self.geometry.rank)
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
        compute = self._compute(dtypes, g, w, bias, transposed=True)
        (g, w), copied = self.settled(g, w)
        reserved = copied + self.reserved(g, compute, dtypes.result, dx.shape)
        request = self.request(replace(dtypes, compute=compute), "input_grad", reserved)
        parts = execution.parts(self.geometry, "input_grad")
        pick = dispatch.picker(self.op, request)
        weights = input_grad_weights(self.weights(w), self.geometry.groups)
        if adjoint and weights.dtype.kind == "c":
            weights = weights.conj()
        with np.errstate(all="ignore"):
            gs = self.x_layout.canonical(g)
            if self.padded is None:
                work = dx if compute == dx.dtype else np.empty(dx.shape, compute)
                view = self.x_layout.canonical(work)
                execution.correlate(pick, gs, weights, parts, view, request.limit)
                if bias is not None:
                    view += bias.astype(compute).reshape(-1, *(1,) * self.geometry.rank)
                if work is not dx:
                    dx[...] = work
                return
            padded = np.empty(self.geometry.x_shape, compute)
            execution.correlate(pick, gs, weights, parts, padded, request.limit)
            dilated = tuple(
                dilated_size(n, D) for n, D in zip(self.in_shape, self.input_dilation, strict=True)
            )
            back = pad_mode_adjoint(padded, dilated, self.padded.pads, self.padded.mode)
            self.x_layout.canonical(dx)[...] = back[
                (..., *(slice(None, None, D) for D in self.input_dilation))
            ]

    def weight_grad(self, x: np.ndarray, g: np.ndarray, dtypes: Dtypes, dw: np.ndarray) -> None:
        """Write the gradient of w into dw."""
        compute = self._compute(dtypes, x, g, None, weights=True)
        canonical = self.w_layout.canonical(dw)
        (x, g), copied = self.settled(x, g)
        reserved = copied + self.reserved(x, compute, dtypes.result, dw.shape)
        request = self.request(replace(dtypes, compute=compute), "weight_grad", reserved)
        pick = dispatch.picker(self.op, request)
        work = np.empty(canonical.shape, compute)
        xs, gs = self.inputs(x), self.x_layout.canonical(g)
        if xs.dtype.kind == "c":
            xs = xs.conj()
        with np.errstate(all="ignore"):
            parts = execution.parts(self.geometry, "weight_grad")
            execution.weight_grad(pick, xs, gs, parts, work, request.limit)
            canonical[...] = np.flip(work, tuple(range(2, work.ndim))) if self.flip else work

    def _compute(
        self,
        dtypes: Dtypes,
        a: np.ndarray,
        b: np.ndarray,
        bias: np.ndarray | None,
        *,
        transposed: bool = False,
        weights: bool = False,
    ) -> np.dtype:
        """The compute dtype; for integers, from a bound on every partial sum."""
        if not dtypes.exact:
            return dtypes.compute
        g = self.geometry
        terms = total(g.y_shape) // max(1, g.out_channels) if weights else g.terms
        if transposed:
            terms = g.taps * (g.out_channels // g.groups)
        largest = largest_magnitude(a)
        if not weights and self.padded is not None and self.padded.mode == "constant":
            largest = max(largest, abs(int(self.padded.value)))
        bound = largest * largest_magnitude(b) * terms
        if bound > 2**53 and not weights and not transposed and b.size:
            # a sharper one: the sum of |w| of the heaviest output channel
            sums = np.abs(self.w_layout.canonical(b).astype(np.float64)).reshape(g.out_channels, -1).sum(1)
            bound = min(bound, int(largest * float(sums.max()) * (1 + 1e-9)) + 1)
        return integer_compute(self.op, bound + (largest_magnitude(bias) if bias is not None else 0))


# --------------------------------------------------------------------------- reading
def label(op: str, name: str) -> str:
    """What the caller calls the shape of x or w: gradients and `explain` take shapes instead of arrays."""
    if op == "explain":
        return f"{name}_shape"
    if op.endswith("input_grad") and name == "x":
        return "input_shape"
    return "kernel_shape" if op.endswith("weight_grad") and name == "w" else f"{name}.shape"


def check_rank(op: str, name: str, ndim: int, shape: Ints, rank: int | None, needed: str) -> int:
    """The spatial rank that weights of `shape` have, or an error that shows what weights look like."""
    if ndim < 2:
        raise ValueError(
            f"{op}: {label(op, name)} is {shape}, {ndim} axes, expected {needed}, 2 or more; use an array "
            "with both channel axes"
        )
    if rank is not None and ndim != rank + 2:
        spelled = needed.replace("*k", {1: "k", 2: "kh, kw", 3: "kd, kh, kw"}.get(rank, "*k"))
        raise ValueError(
            f"{op}: {label(op, name)} is {shape}, {ndim} axes, expected {rank + 2}: {spelled}; use "
            f"{_of_rank(op, ndim - 2)}"
        )
    return ndim - 2


def _of_rank(op: str, rank: int) -> str:
    """The relative of `op` for another rank: conv3d of conv2d; conv, which takes any, where there is none."""
    return f"{op[:-2]}{rank}d" if 1 <= rank <= 3 else op[:-2]


def check_input_rank(op: str, name: str, shape: Ints, rank: int, exact: bool, letters: bool) -> None:
    """Refuse an array with too few axes, or for the conv1d family with too many."""
    ndim = len(shape)
    if letters or (ndim >= rank + 1 and not (exact and ndim > rank + 2)):
        return
    allowed = f"{rank + 1} or {rank + 2}" if exact else f"{rank + 1} or more"
    hint = f"use {_of_rank(op, ndim - 2)}"
    if ndim == rank:
        array = label(op, name).endswith(".shape")
        hint = "add batch and channel axes: " + (
            f"{name}[None, None]" if array else f"(1, 1, *{label(op, name)})"
        )
    elif ndim < rank:
        hint = f"use an array with batch and channel axes and {spatial_axes(rank)}"
    raise ValueError(
        f"{op}: {label(op, name)} is {shape}, {ndim} axes, expected {allowed} for the {spatial_axes(rank)} "
        f"of {rank_source(op)}; {hint}"
    )


def read(
    op: str, x_shape: Ints, w_shape: Ints, options: Mapping[str, Any], rank: int | None = None
) -> ConvProblem:
    """Validate and normalise a convolution call from its shapes; nothing is allocated."""
    layout, given = options["layout"], options["kernel_layout"]
    needed = "(O, C/groups, *k)" if layout != "channels_last" else "(*k, C/groups, O)"
    exact = rank is not None
    rank = check_rank(op, "w", len(w_shape), w_shape, rank, needed)
    letters = layout not in ("channels_first", "channels_last")
    check_input_rank(op, "x", x_shape, rank, exact, letters)
    x_layout = input_layout(op, layout, len(x_shape), rank)
    w_layout = kernel_layout(op, given, layout, len(w_shape))
    batch, channels, *sizes = x_layout.canonical_shape(x_shape)
    out_channels, per_group, *kernel = w_layout.canonical_shape(w_shape)
    groups = one_int(op, "groups", options["groups"], 1)
    _check_channels(op, x_shape, w_shape, x_layout, w_layout, (channels, out_channels, per_group, groups))
    for i, k in enumerate(kernel):
        if k < 1:
            raise ValueError(
                f"{op}: kernel size must be >= 1, got {k} on spatial axis {i} of {label(op, 'w')} "
                f"{w_shape}; use 1 or more taps"
            )
    stride = per_axis(op, "stride", options["stride"], rank, 1)
    dilation = per_axis(op, "dilation", options["dilation"], rank, 1)
    input_dilation = per_axis(op, "input_dilation", options["input_dilation"], rank, 1)
    dilated = tuple(dilated_size(n, D) for n, D in zip(sizes, input_dilation, strict=True))
    for i, (size, D) in enumerate(zip(dilated, input_dilation, strict=True)):
        if size > LARGEST:
            raise ValueError(
                f"{op}: {label(op, 'x')} {x_shape} with input_dilation {D} makes the size of spatial axis "
                f"{i} {size}, "
                f"which exceeds 2^63-1 = {LARGEST}; use less"
            )
    pads = resolve_padding(op, options["padding"], dilated, tuple(kernel), stride, dilation)
    check_windows(op, dilated, tuple(kernel), dilation, pads)
    geometry = ConvGeometry(
        batch,
        channels,
        out_channels,
        tuple(sizes),
        tuple(kernel),
        stride,
        dilation,
        pads,
        input_dilation,
        groups,
    )
    padded = _read_mode(op, options, pads, dilated, geometry)
    if padded is not None:
        geometry = replace(
            geometry, in_shape=geometry.padded_shape, padding=((0, 0),) * rank, input_dilation=(1,) * rank
        )
    return ConvProblem(
        op,
        geometry,
        tuple(sizes),
        input_dilation,
        padded,
        flag(op, "flip", options["flip"]),
        x_layout,
        w_layout,
        x_shape,
        w_shape,
        dispatch.check_name(op, options["algorithm"]),
        choice(op, "accuracy", options["accuracy"], ACCURACIES),
        read_bytes(op, "max_workspace", options["max_workspace"]),
    )


def check_fill(op: str, value: Any, dtype: np.dtype) -> None:
    """Refuse a padding value that x's dtype cannot hold; NumPy would truncate it in silence."""
    real = complex(value).imag == 0
    whole = real and float(complex(value).real).is_integer()
    if dtype.kind == "c" or (dtype.kind not in "iu" and real):
        return
    if dtype.kind not in "iu" or not whole:
        wide = "complex128" if not real else "float64"
        raise TypeError(
            f"{op}: padding_value={value} does not fit x of dtype {dtype}; use x.astype(np.{wide})"
        )
    limits = np.iinfo(dtype)
    if not limits.min <= int(complex(value).real) <= limits.max:
        raise ValueError(
            f"{op}: padding_value={value} does not fit x of dtype {dtype}, {limits.min}..{limits.max}; use "
            "x.astype(np.int64)"
        )


def _read_mode(
    op: str, options: Mapping[str, Any], pads: Pads, dilated: Ints, geometry: ConvGeometry
) -> Padded | None:
    mode = choice(op, "padding_mode", options["padding_mode"], MODES)
    value = options["padding_value"]
    if isinstance(value, bool) or not isinstance(value, (int, float, complex, np.number)):
        raise TypeError(
            f"{op}: padding_value must be a number, got {shown(value)} of type {type(value).__name__}; "
            "write a float such as 0.5"
        )
    if mode != "constant" and value != 0:
        raise ValueError(
            f"{op}: padding_value={value} needs padding_mode='constant', got {mode!r}; use both or neither"
        )
    if mode == "zeros" or (mode == "constant" and value == 0) or all(p == (0, 0) for p in pads):
        return None
    for i, (size, p) in enumerate(zip(dilated, pads, strict=True)):
        if size == 0 and p != (0, 0) and mode != "constant":
            raise ValueError(
                f"{op}: padding_mode={mode!r} on spatial axis {i} has nothing to copy, its size is 0; "
                "use padding_mode='zeros'"
            )
    return Padded(pads, mode, value)


def _check_channels(
    op: str,
    x_shape: Ints,
    w_shape: Ints,
    x_layout: Layout,
    w_layout: KernelLayout,
    sizes: tuple[int, int, int, int],
) -> None:
    """Refuse channels that do not fit each other or the groups, with a guess at the cause."""
    channels, out_channels, per_group, groups = sizes
    if channels == per_group * groups and out_channels % groups == 0:
        return
    arrays = (
        f"({label(op, 'x')} {x_shape}, {label(op, 'w')} {w_shape}, layout {x_layout.name!r}, kernel_layout "
        f"{w_layout.name!r})"
    )
    if channels != per_group * groups and channels % groups == 0:
        hint = _channel_hint(x_shape, w_shape, x_layout, w_layout, sizes)
        raise ValueError(
            f"{op}: x has {channels} channels but w takes {per_group} * groups = {per_group} * {groups} = "
            f"{per_group * groups} {arrays}{hint}"
        )
    what, count = ("x", channels) if channels % groups else ("w", out_channels)
    raise ValueError(
        f"{op}: {what} has {count} {'output ' if what == 'w' else ''}channels, not divisible by "
        f"groups={groups}: "
        f"{count} = {count // groups} * {groups} + {count % groups} {arrays}; use a multiple of {groups} "
        "channels"
    )


def _channel_hint(
    x_shape: Ints, w_shape: Ints, x_layout: Layout, w_layout: KernelLayout, sizes: tuple[int, int, int, int]
) -> str:
    """What the caller may have meant: other groups, another layout, or more spatial axes."""
    channels, out_channels, per_group, groups = sizes
    needed = channels // per_group if per_group else 0
    regroup = ""
    if needed and channels % per_group == 0 and out_channels % needed == 0:
        regroup = f"; did you mean groups={needed}?"
    if per_group == 1 and regroup:  # depthwise weights
        return regroup
    if x_layout.batch_axes > 1:
        return (
            f"; w has {len(w_shape)} axes, so {spatial_axes(x_layout.rank)}, and the other "
            f"{x_layout.batch_axes} axes of x "
            f"are batch; use w of {len(x_shape)} axes if that is not meant"
        )
    return (
        guess(x_shape, w_shape, x_layout, w_layout, groups)
        or regroup
        or f"; use w with {channels // groups} input channels"
    )


def check_bias(op: str, bias: np.ndarray, channels: int) -> None:
    """Refuse a bias that is not one number per output channel."""
    if bias.shape != (channels,):
        fix = "bias.reshape(-1)" if bias.size == channels else f"{channels} numbers"
        raise ValueError(
            f"{op}: bias.shape is {bias.shape}, expected ({channels},), one number per output channel (by "
            f"w and groups); use {fix}"
        )


def check_gradient(p: ConvProblem, g: np.ndarray) -> None:
    """Refuse a gradient whose shape is not that of the output."""
    if g.shape == p.y_shape:
        return
    geometry = p.geometry
    pads = p.padded.pads if p.padded else geometry.padding
    formula = ""
    if g.ndim == len(p.y_shape):
        given = p.x_layout.canonical_shape(g.shape)[2:]
        wrong = [i for i, (a, b) in enumerate(zip(given, geometry.out_shape, strict=True)) if a != b]
        for i in wrong[:1]:
            size = dilated_size(p.in_shape[i], p.input_dilation[i])
            numbers = (size, *pads[i], geometry.kernel[i], geometry.dilation[i], geometry.stride[i])
            formula = f", so on spatial axis {i} {formula_text(*numbers)}"
    raise ValueError(
        f"{p.op}: g.shape is {g.shape}, expected {p.y_shape}, the output of {label(p.op, 'x')} {p.x_shape} "
        "and "
        f"{label(p.op, 'w')} {p.w_shape} with stride {geometry.stride}, padding {pads}, dilation "
        f"{geometry.dilation} and "
        f"input_dilation {p.input_dilation} in layout {p.x_layout.name!r} and kernel_layout "
        f"{p.w_layout.name!r}{formula}; "
        "use the shapes and options of the forward call"
    )
