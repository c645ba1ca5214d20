"""A layer that enlarges a plane, without parameters."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arguments import choice, operand
from ..geometry import Ints, ceil_div, transposed_size
from ..pool_problem import compute_dtype, float_dtype
from ..pooling import avg_pool
from ..pooling_grads import avg_pool_grad
from ..reading import one_int, per_axis
from .layer import Layer
from .shapes import check_gradient, expect, read_layout, spatial, told

if TYPE_CHECKING:
    from .layer import Array, Arrays


class Upsample(Layer):
    """Make planes `scale` times as large.

    nearest repeats every element; linear puts new ones between, at the centres of equal parts, and repeats the border
    (torch's and Keras' "bilinear", without aligned corners), along one axis after the other.

    Parameters
    ----------
    scale : int or tuple of int
        How many outputs per input, for all spatial axes or for each.
    mode : {"nearest", "linear"}
        What they are.
    layout : {"channels_first", "channels_last"}
        Of inputs and outputs.

    Examples
    --------
    >>> import numpy as np
    >>> from npconv import nn
    >>> x = np.array([[[1.0, 5.0]]])
    >>> nn.Upsample(2)(x), nn.Upsample(2, mode="linear")(x)
    (array([[[1., 1., 5., 5.]]]), array([[[1., 2., 4., 5.]]]))
    """

    def __init__(self, scale: int | tuple[int, ...], *, mode: str = "nearest", layout: str = "channels_first") -> None:
        super().__init__()
        op = type(self).__name__
        several = isinstance(scale, (tuple, list))
        self.scale: Any = per_axis(op, "scale", scale, len(scale), 1) if several else one_int(op, "scale", scale, 1)  # type: ignore[arg-type]
        self.mode = choice(op, "mode", mode, ("nearest", "linear"))
        self.layout = read_layout(op, layout)

    def forward(self, x: Array, *, training: bool = True) -> tuple[Array, Any]:
        return self(x), np.shape(x)

    def __call__(self, x: Array) -> Array:
        x = operand("upsample", "x", x)
        shape, scales = self.out_shape(x.shape), self._scales(x.shape)
        if self.mode == "nearest":  # a copy to each output of a window is what the gradient of its sum would be
            return avg_pool_grad(x, shape, scales, divisor=1, layout=self.layout)
        y = x.astype(compute_dtype(float_dtype(x.dtype)), copy=False)
        for axis, s in enumerate(scales, 2 if self.layout == "channels_first" else 1):
            y = np.moveaxis(_between(np.moveaxis(y, axis, -1), s), -1, axis)
        return np.ascontiguousarray(y, float_dtype(x.dtype))

    def backward(self, g: Array, saved: Any, *, input_grad: bool = True) -> tuple[Array | None, Arrays]:
        check_gradient("upsample", g, self.out_shape(saved))
        if not input_grad:
            return None, {}
        scales = self._scales(saved)
        if self.mode == "nearest":
            return avg_pool(g, scales, divisor=1, layout=self.layout), {}
        gx = g.astype(compute_dtype(g.dtype), copy=False)
        for axis, s in enumerate(scales, 2 if self.layout == "channels_first" else 1):
            gx = np.moveaxis(_gathered(np.moveaxis(gx, axis, -1), s), -1, axis)
        return np.ascontiguousarray(gx, g.dtype), {}

    def out_shape(self, shape: Ints) -> Ints:
        expect("upsample", shape, self.layout, None if isinstance(self.scale, int) else len(self.scale))
        sizes = spatial(self.layout, shape)
        larger = [transposed_size(n, 0, 0, s, s, 0) for n, s in zip(sizes, self._scales(shape), strict=True)]
        return (*shape[:2], *larger) if self.layout == "channels_first" else (shape[0], *larger, shape[-1])

    def _scales(self, shape: Ints) -> Ints:
        return (self.scale,) * (len(shape) - 2) if isinstance(self.scale, int) else self.scale

    def reach(self, shape: Ints) -> list[tuple[int, Fraction]]:
        return [(2 if self.mode == "linear" and s > 1 else 1, Fraction(1, s)) for s in self._scales(shape)]

    def __repr__(self) -> str:
        return f"Upsample({self.scale}, mode={self.mode!r}{told(self.layout)})"


def _weights(s: int) -> list[tuple[int, float]]:
    """For each of the `s` outputs of an input: the neighbour that has a part in it, and how large a part."""
    offsets = [(q + 0.5) / s - 0.5 for q in range(s)]
    return [(-1 if offset < 0 else 1, abs(offset)) for offset in offsets]


def _between(x: Array, s: int) -> Array:
    """Linear interpolation along the last axis."""
    before = np.concatenate([x[..., :1], x[..., :-1]], -1)
    after = np.concatenate([x[..., 1:], x[..., -1:]], -1)
    y = np.empty((*x.shape, s), x.dtype)
    for q, (side, part) in enumerate(_weights(s)):
        y[..., q] = x * (1 - part) + (before if side < 0 else after) * part
    return y.reshape(*x.shape[:-1], x.shape[-1] * s)


def _gathered(g: Array, s: int) -> Array:
    """What `_between` spread, gathered again: its adjoint."""
    parts = g.reshape(*g.shape[:-1], ceil_div(g.shape[-1], s), s)
    gx = np.zeros(parts.shape[:-1], g.dtype)
    for q, (side, part) in enumerate(_weights(s)):
        gx += parts[..., q] * (1 - part)
        moved = parts[..., q] * part
        if side < 0:
            gx[..., :-1] += moved[..., 1:]
            gx[..., :1] += moved[..., :1]
        else:
            gx[..., 1:] += moved[..., :-1]
            gx[..., -1:] += moved[..., -1:]
    return gx
