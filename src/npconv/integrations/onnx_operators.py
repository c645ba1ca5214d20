"""ONNX's convolutions and pools as npconv computes them, in the form that onnx's evaluator takes.

The class of an operator has the operator's name. Those of the domain `DOMAIN` are what `onnx_rewrite` puts in: a
convolution of constant weights, planned once, with what follows it; and the scale and shift of a normalization.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx.reference.op_run import OpRun

from .. import (
    ConvPlan,
    avg_pool,
    conv,
    conv_transpose,
    fold,
    global_avg_pool,
    global_max_pool,
    lp_pool,
    max_pool,
    max_unpool,
    plan_conv,
    plan_conv_transpose,
)
from ..activations import SLOPE, Activation
from ..geometry import Ints, effective_kernel, transposed_size
from .onnx_checks import ModelError

Array = NDArray[Any]
Attributes = Mapping[str, Any]

#: The domain of the operators that only a rewritten graph has.
DOMAIN = "npconv"
AUTO_PAD = {"VALID": "valid", "SAME_UPPER": "same", "SAME_LOWER": "same_lower"}
#: Shapes of inputs for which a node keeps its plan.
MOST_PLANS = 8


# --------------------------------------------------------------------------- attributes as npconv's keywords
def listed(attributes: Attributes, name: str, length: int, default: int) -> Ints:
    """An attribute of one number per axis."""
    value = attributes.get(name)
    if value is None or len(value) == 0:
        return (default,) * length
    if len(value) != length:
        raise ModelError(f"{name} has {len(value)} numbers, expected {length}")
    return tuple(int(n) for n in value)


def windows(attributes: Attributes, rank: int) -> dict[str, Any]:
    """Strides, dilations and padding; `pads` lists all the low sides, then all the high ones."""
    auto = attributes.get("auto_pad") or "NOTSET"
    if auto not in AUTO_PAD and auto != "NOTSET":
        raise ModelError(f"auto_pad is {auto!r}, expected NOTSET, {', '.join(AUTO_PAD)}")
    pads = listed(attributes, "pads", 2 * rank, 0)
    return {
        "stride": listed(attributes, "strides", rank, 1),
        "dilation": listed(attributes, "dilations", rank, 1),
        "padding": AUTO_PAD.get(auto) or tuple(zip(pads[:rank], pads[rank:], strict=True)),
    }


def conv_options(attributes: Attributes, x_shape: Ints, w_shape: Ints) -> dict[str, Any]:
    """The keywords of `npconv.conv`."""
    kernel = w_shape[2:]
    if listed(attributes, "kernel_shape", len(kernel), 0) not in (kernel, (0,) * len(kernel)):
        raise ModelError(f"kernel_shape is {tuple(attributes['kernel_shape'])}, but the weights have {kernel}")
    if len(x_shape) != len(w_shape):
        raise ModelError(f"the input has shape {x_shape}, but weights of shape {w_shape} need {len(w_shape)} axes")
    return {**windows(attributes, len(kernel)), "groups": int(attributes.get("group") or 1)}


def transpose_options(attributes: Attributes, x_shape: Ints, w_shape: Ints) -> dict[str, Any]:
    """The keywords of `npconv.conv_transpose`."""
    options, kernel = conv_options(attributes, x_shape, w_shape), w_shape[2:]
    extra = options["output_padding"] = listed(attributes, "output_padding", len(kernel), 0)
    wanted = attributes.get("output_shape")
    if (
        not wanted and any(extra) and options["padding"] in ("same", "same_lower")
    ):  # SAME: in * stride, the extra included
        wanted = [n * s for n, s in zip(x_shape[2:], options["stride"], strict=True)]
    if wanted:  # the pads follow from it, and the attribute `pads` is ignored (rule R9)
        spans = [effective_kernel(k, d) for k, d in zip(kernel, options["dilation"], strict=True)]
        sizes = zip(x_shape[2:], spans, options["stride"], extra, wanted[-len(kernel) :], strict=True)
        surplus = [transposed_size(n, 0, 0, e, s, more) - int(size) for n, e, s, more, size in sizes]
        upper = attributes.get("auto_pad") == "SAME_UPPER"
        options["padding"] = tuple((p // 2, p - p // 2) if upper else (p - p // 2, p // 2) for p in surplus)
    return options


def pool_options(attributes: Attributes, x_shape: Ints) -> tuple[Ints, dict[str, Any]]:
    """The window of a pool, and the keywords that all pools share."""
    kernel = tuple(int(k) for k in attributes.get("kernel_shape") or ())
    if len(kernel) != len(x_shape) - 2:
        raise ModelError(f"kernel_shape is {kernel}, expected a size for each spatial axis of an input of {x_shape}")
    return kernel, {**windows(attributes, len(kernel)), "ceil_mode": bool(attributes.get("ceil_mode") or 0)}


# --------------------------------------------------------------------------- operators of ONNX
class Conv(OpRun):
    """A convolution whose weights are computed on the way; those of constant weights are `PlannedConv`."""

    def _run(self, x: Array, w: Array, bias: Array | None = None, **attributes: Any) -> tuple[Array]:
        return (conv(x, w, bias, **conv_options(attributes, x.shape, w.shape)),)


class ConvTranspose(OpRun):
    """A transposed convolution whose weights are computed on the way."""

    def _run(self, x: Array, w: Array, bias: Array | None = None, **attributes: Any) -> tuple[Array]:
        return (conv_transpose(x, w, bias, **transpose_options(attributes, x.shape, w.shape)),)


class MaxPool(OpRun):
    """The largest value of every window, and where it is if anybody asks."""

    def _run(self, x: Array, **attributes: Any) -> tuple[Array, ...]:
        kernel, options = pool_options(attributes, x.shape)
        if len(self.onnx_node.output) < 2:
            return (max_pool(x, kernel, **options),)
        space = "onnx_column_major" if attributes.get("storage_order") else "onnx"
        y, indices = max_pool(x, kernel, return_indices=True, indices=space, **options)
        return y, indices


class AveragePool(OpRun):
    """The mean of every window."""

    def _run(self, x: Array, **attributes: Any) -> tuple[Array]:
        kernel, options = pool_options(attributes, x.shape)
        counted = bool(attributes.get("count_include_pad") or 0)
        return (avg_pool(x, kernel, count_include_pad=counted, **options),)


class LpPool(OpRun):
    """The p-norm of every window."""

    def _run(self, x: Array, **attributes: Any) -> tuple[Array]:
        kernel, options = pool_options(attributes, x.shape)
        return (lp_pool(x, kernel, p=float(attributes.get("p") or 2), **options),)


class GlobalAveragePool(OpRun):
    """The mean of every plane."""

    def _run(self, x: Array) -> tuple[Array]:
        return (global_avg_pool(x),)


class GlobalMaxPool(OpRun):
    """The largest value of every plane."""

    def _run(self, x: Array) -> tuple[Array]:
        return (global_max_pool(x),)


class GlobalLpPool(OpRun):
    """The p-norm of every plane."""

    def _run(self, x: Array, **attributes: Any) -> tuple[Array]:
        return (lp_pool(x, x.shape[2:], p=float(attributes.get("p") or 2)),)


class MaxUnpool(OpRun):
    """Values put back where a MaxPool took them from."""

    def _run(self, x: Array, indices: Array, output_shape: Array | None = None, **attributes: Any) -> tuple[Array]:
        kernel, options = pool_options(attributes, x.shape)
        where = {"stride": options["stride"], "padding": options["padding"], "indices_space": "onnx"}
        y = max_unpool(x, indices, kernel, **where)
        if output_shape is not None:  # indices count in the default size; a larger one adds zeros at the high ends
            y = np.pad(y, [(0, int(size) - n) for size, n in zip(output_shape, y.shape, strict=True)])
        return (y,)


class Col2Im(OpRun):
    """Columns added back to the image that they were cut from."""

    def _run(self, columns: Array, image_shape: Array, block_shape: Array, **attributes: Any) -> tuple[Array]:
        sizes, kernel = tuple(map(int, image_shape)), tuple(map(int, block_shape))
        return (fold(columns, sizes, kernel, **windows(attributes, len(kernel))),)


class BatchNormalization(OpRun):
    """Normalization in inference, by running statistics.

    onnx's evaluator computes the statistics of the batch for operator sets 9 to 13, whatever the node says.
    """

    def _run(self, x: Array, scale: Array, bias: Array, mean: Array, var: Array, **attributes: Any) -> tuple[Array]:
        if attributes.get("training_mode") or sum(map(bool, self.onnx_node.output)) > 1:
            raise ModelError("batch normalization in training mode is not supported: export the model for inference")
        if attributes.get("spatial", 1) == 0:
            raise ModelError("batch normalization with spatial=0 is not supported")
        factor, shift = scale_and_shift(scale, bias, mean, var, attributes.get("epsilon"))
        return (scaled(x, factor.astype(scale.dtype), shift.astype(scale.dtype)),)


class Softmax(OpRun):
    """e^x over its sum along an axis; up to operator set 12, along all axes from there on.

    onnx's evaluator takes the newer meaning, and the newer default of the axis, for every operator set.
    """

    def _run(self, x: Array, axis: int | None = None) -> tuple[Array]:
        older = self.run_params["opsets"][""] < 13
        if older and all(a.name != "axis" for a in self.onnx_node.attribute):
            axis = 1
        first = (-1 if axis is None else int(axis)) % x.ndim
        axes = tuple(range(first, x.ndim)) if older else first
        y = x - x.max(axes, keepdims=True)
        powers = np.exp(y)
        sums = powers.sum(axes, keepdims=True)
        return ((powers / sums if self.onnx_node.op_type == "Softmax" else y - np.log(sums)).astype(x.dtype),)


class LogSoftmax(Softmax):
    """The logarithm of Softmax."""


class LRN(OpRun):
    """Each value over a power of the mean square of those around it, along the channels.

    onnx's evaluator goes through as many channels as the batch has samples, and takes nothing for the others.
    """

    def _run(self, x: Array, alpha: float, beta: float, bias: float, size: int | None = None) -> tuple[Array]:
        if size is None or size < 1 or x.ndim < 2:
            raise ModelError(f"size is {size}, and the input has shape {x.shape}: expected 1 or more, and channels")
        channels = x.shape[1]
        before, after = min((size - 1) // 2, channels), min(size // 2, channels)
        squares = np.pad(x * x, [(0, 0), (before, after), *[(0, 0)] * (x.ndim - 2)])
        sums = sum(squares[:, i : i + channels] for i in range(before + after + 1))
        return ((x / (bias + alpha / size * sums) ** beta).astype(x.dtype),)


def scale_and_shift(
    scale: Array, bias: Array, mean: Array, var: Array, epsilon: float | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a normalization multiplies by and adds, per channel, in double precision."""
    wide = [a.astype(np.float64) for a in (scale, bias, mean, var)]
    factor = wide[0] / np.sqrt(wide[3] + float(np.float32(1e-5) if epsilon is None else epsilon))
    return factor, wide[1] - wide[2] * factor


def scaled(x: Array, factor: Array, shift: Array, activation: Activation | None = None) -> Array:
    """activation(x * factor + shift), channel by channel, in x's dtype; the numbers may have a wider one."""
    ones = (1,) * (x.ndim - 2)
    y: Array = x * factor.reshape(-1, *ones)
    y += shift.reshape(-1, *ones)
    y = y.astype(x.dtype, copy=False)
    if activation is None:
        return y
    return np.maximum(y, 0, out=y) if activation.name == "relu" else activation(y)


# --------------------------------------------------------------------------- operators of a rewritten graph
def slope_of(attributes: Attributes) -> float:
    """What a fused leaky_relu multiplies negative numbers by; 0 is a slope too."""
    slope = attributes.get("slope")
    return SLOPE if slope is None else float(slope)


class PlannedConv(OpRun):
    """A convolution of constant weights, with its bias and its activation in the same sweep."""

    op_domain = DOMAIN
    plan: Callable[..., ConvPlan] = staticmethod(plan_conv)
    options: Callable[..., dict[str, Any]] = staticmethod(conv_options)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.plans: dict[Any, ConvPlan] = {}

    def _run(self, x: Array, w: Array, bias: Array | None = None, **attributes: Any) -> tuple[Array]:
        key = x.shape, x.dtype
        plan = self.plans.get(key)
        if plan is None:
            options = self.options(attributes, x.shape, w.shape)
            then = {"activation": attributes.get("activation"), "slope": slope_of(attributes)}
            plan = self.plan(x.shape, w, bias, dtype=x.dtype, **then, **options)
            if len(self.plans) >= MOST_PLANS:
                self.plans.clear()
            self.plans[key] = plan
        return (plan(x),)


class PlannedConvTranspose(PlannedConv):
    """The same for a transposed convolution."""

    plan = staticmethod(plan_conv_transpose)
    options = staticmethod(transpose_options)


class ScaleShift(OpRun):
    """What is left of a normalization whose numbers are constant, and the activation after it."""

    op_domain = DOMAIN

    def _run(self, x: Array, factor: Array, shift: Array, **attributes: Any) -> tuple[Array]:
        name = attributes.get("activation")
        then = None if name is None else Activation(name, slope_of(attributes))
        return (scaled(x, factor, shift, then),)


OPERATORS: tuple[type[OpRun], ...] = (
    Conv,
    ConvTranspose,
    MaxPool,
    AveragePool,
    LpPool,
    GlobalAveragePool,
    GlobalMaxPool,
    GlobalLpPool,
    MaxUnpool,
    Col2Im,
    BatchNormalization,
    Softmax,
    LogSoftmax,
    LRN,
    PlannedConv,
    PlannedConvTranspose,
    ScaleShift,
)
