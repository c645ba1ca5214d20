"""From what a caller wrote to a `ConvProblem`: everything that can be said of a convolution call from its shapes.

conv, its gradients, its transpose and its relatives all come through `read`, so each rule and each message stands once.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np

from . import dispatch
from .algorithms.base import ACCURACIES
from .arguments import choice, flag, remembered
from .geometry import LARGEST, ConvGeometry, Ints, Pads, dilated_size
from .layouts import KernelLayout, Layout, guess, input_layout, kernel_layout
from .memory import read_bytes
from .problem import ConvProblem, Padded
from .reading import (
    check_windows,
    completed,
    formula_text,
    one_int,
    per_axis,
    rank_source,
    resolve_padding,
    shown,
    spatial_axes,
)
from .records import replace
from .windows import MODES


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


#: Beyond it an integer is no float.
LARGEST_FLOAT = int(sys.float_info.max)

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
    return completed(op, options, DEFAULTS, extra)


def label(op: str, name: str) -> str:
    """What the caller calls the shape of x or w: gradients and `explain` take shapes instead of arrays."""
    if op == "explain" or (op.startswith("plan_conv") and name == "x"):
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
        hint = "add batch and channel axes: " + (f"{name}[None, None]" if array else f"(1, 1, *{label(op, name)})")
    elif ndim < rank:
        hint = f"use an array with batch and channel axes and {spatial_axes(rank)}"
    raise ValueError(
        f"{op}: {label(op, name)} is {shape}, {ndim} axes, expected {allowed} for the {spatial_axes(rank)} "
        f"of {rank_source(op)}; {hint}"
    )


@remembered
def read(op: str, x_shape: Ints, w_shape: Ints, options: Mapping[str, Any], rank: int | None = None) -> ConvProblem:
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


def _read_mode(op: str, options: Mapping[str, Any], pads: Pads, dilated: Ints, geometry: ConvGeometry) -> Padded | None:
    mode = choice(op, "padding_mode", options["padding_mode"], MODES)
    value = options["padding_value"]
    if isinstance(value, bool) or not isinstance(value, (int, float, complex, np.number)):
        raise TypeError(
            f"{op}: padding_value must be a number, got {shown(value)} of type {type(value).__name__}; "
            "write a float such as 0.5"
        )
    if isinstance(value, int) and abs(value) > LARGEST_FLOAT:
        raise ValueError(
            f"{op}: padding_value is an integer of {value.bit_length()} bits, over the largest float, 1.8e308; "
            "use np.inf, or a smaller number"
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
    return Padded(pads, mode, value if value.imag else value.real)


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
