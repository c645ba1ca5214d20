"""ONNX's convolutions of quantized integers: q stands for the number (q - zero_point) * scale.

The sums are computed in float64 by whatever algorithm is fastest there. They are integers far below 2**53, and an
error of rounding is far below a half, so rounding gives them exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun

from .. import conv
from .onnx_checks import ModelError
from .onnx_operators import Array, Attributes, conv_options


def integer_conv(x: Array, x_zero: Array | None, w: Array, w_zero: Array | None, attributes: Attributes) -> Array:
    """The exact sums, as float64."""
    wide = x.astype(np.float64)
    if x_zero is not None:
        if x_zero.size != 1:
            raise ModelError(f"x_zero_point has shape {x_zero.shape}, and only one number for all of x is supported")
        wide -= x_zero.item()
    kernel = w.astype(np.float64)
    if w_zero is not None:
        kernel -= per_channel(w_zero.astype(np.float64), w, "w_zero_point")
    return np.rint(conv(wide, kernel, **conv_options(attributes, x.shape, w.shape)))


def per_channel(a: Array, w: Array, name: str) -> Array:
    """One number, or one per output channel, beside weights."""
    if a.size not in (1, w.shape[0]):
        raise ModelError(f"{name} has shape {a.shape}, expected 1 number or {w.shape[0]}, one per output channel")
    return a.reshape(-1, *(1,) * (w.ndim - 1))


class ConvInteger(OpRun):
    """The sums themselves."""

    def _run(
        self, x: Array, w: Array, x_zero: Array | None = None, w_zero: Array | None = None, **attributes: Any
    ) -> tuple[Array]:
        return (integer_conv(x, x_zero, w, w_zero, attributes).astype(np.int32),)


class QLinearConv(OpRun):
    """The sums, quantized again."""

    def _run(
        self,
        x: Array,
        x_scale: Array,
        x_zero: Array,
        w: Array,
        w_scale: Array,
        w_zero: Array,
        y_scale: Array,
        y_zero: Array,
        bias: Array | None = None,
        **attributes: Any,
    ) -> tuple[Array]:
        sums = integer_conv(x, x_zero, w, w_zero, attributes)
        if bias is not None:
            sums += bias.reshape(-1, *(1,) * (w.ndim - 2))
        factor = x_scale.astype(np.float32) * per_channel(w_scale, w, "w_scale")[..., 0] / y_scale.astype(np.float32)
        limits = np.iinfo(y_zero.dtype)
        y = np.rint(sums.astype(np.float32) * factor) + y_zero.item()
        return (np.clip(y, limits.min, limits.max).astype(y_zero.dtype),)


QUANTIZED: tuple[type[OpRun], ...] = (ConvInteger, QLinearConv)
