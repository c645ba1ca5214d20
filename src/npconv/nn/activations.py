"""Layers that do the same to every element. `npconv.activations` defines the functions; here are their slopes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..activations import SLOPE, Activation, gelu, sigmoid
from ..arguments import flag, operand, operation
from ..compiled.norms.launch import rectified
from ..epilogue import finish
from ..geometry import Ints
from ..reading import one_int, shown
from .layer import Layer
from .shapes import channel_axis, check_gradient, read_layout, told

if TYPE_CHECKING:
    from .layer import Array, Arrays


class _Elementwise(Layer):
    """An activation by its name; subclasses know its slope."""

    name: str

    def forward(self, x: Array, *, training: bool = True) -> tuple[Array, Any]:
        x = operand(self.name, "x", x)
        y = self(x)
        return y, (y if self.keeps_output else x)

    def __call__(self, x: Array) -> Array:
        return activated(operand(self.name, "x", x), self._activation())

    def backward(self, g: Array, saved: Any, *, input_grad: bool = True) -> tuple[Array | None, Arrays]:
        check_gradient(self.name, g, saved.shape)
        if not input_grad:
            return None, {}
        with np.errstate(all="ignore"):
            return self._back(_wide(g), _wide(saved)).astype(g.dtype, copy=False), {}

    def _activation(self) -> Activation:
        return Activation(self.name)

    def _back(self, g: Array, saved: Array) -> Array:
        """g times the slope, from the input, or from the output where `keeps_output`."""
        raise NotImplementedError

    def out_shape(self, shape: Ints) -> Ints:
        return shape

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def fused_name(layer: Layer) -> str | None:
    """What `npconv.activations` calls the activation that a layer is, or None."""
    return layer.name if isinstance(layer, _Elementwise) else None


class ReLU(_Elementwise):
    """max(x, 0); slope 1 above 0, else 0."""

    name, keeps_output = "relu", True

    def __call__(self, x: Array) -> Array:
        return cut(operand(self.name, "x", x))

    def _back(self, g: Array, saved: Array) -> Array:
        return cut(saved, g)


class ReLU6(_Elementwise):
    """min(max(x, 0), 6); slope 1 between, else 0."""

    name, keeps_output = "relu6", True

    def _back(self, g: Array, saved: Array) -> Array:
        return np.where((saved > 0) & (saved < 6), g, g.dtype.type(0))


class LeakyReLU(_Elementwise):
    """x where x > 0, else slope x.

    Parameters
    ----------
    slope : float
        What numbers below 0 are multiplied by.
    """

    name, keeps_input = "leaky_relu", True

    def __init__(self, slope: float = SLOPE) -> None:
        super().__init__()
        if isinstance(slope, bool) or not isinstance(slope, (int, float, np.number)):
            raise TypeError(f"LeakyReLU: slope must be a number, got {shown(slope)}; use 0.01")
        self.slope = float(slope)

    def _activation(self) -> Activation:
        return Activation(self.name, self.slope)

    def _back(self, g: Array, saved: Array) -> Array:
        return np.where(saved > 0, g, g * g.dtype.type(self.slope))

    def __repr__(self) -> str:
        return f"LeakyReLU({self.slope:g})"


class Sigmoid(_Elementwise):
    """y = 1 / (1 + e^-x); slope y (1 - y)."""

    name, keeps_output = "sigmoid", True

    def _back(self, g: Array, saved: Array) -> Array:
        return g * (saved * (1 - saved))


class Tanh(_Elementwise):
    """y = tanh x; slope 1 - y^2."""

    name, keeps_output = "tanh", True

    def _back(self, g: Array, saved: Array) -> Array:
        return g * (1 - saved * saved)


class SiLU(_Elementwise):
    """x s with s = 1 / (1 + e^-x); slope s (1 + x (1 - s))."""

    name, keeps_input = "silu", True

    def _back(self, g: Array, saved: Array) -> Array:
        s = sigmoid(saved)
        return g * (s * (1 + saved * (1 - s)))


class GELU(_Elementwise):
    """x Phi(x), Phi the normal distribution; slope Phi(x) + x phi(x), phi its density.

    Parameters
    ----------
    approximate : bool
        x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 instead.
    """

    keeps_input = True

    def __init__(self, approximate: bool = False) -> None:
        super().__init__()
        self.approximate = flag("GELU", "approximate", approximate)
        self.name = "gelu_tanh" if approximate else "gelu"

    def _back(self, g: Array, saved: Array) -> Array:
        x = np.clip(saved.astype(np.float64), -1000.0, 1000.0)  # the slope is 0 or 1 long before
        if self.approximate:
            scale = math.sqrt(8 / math.pi)
            s = sigmoid(scale * (x + 0.044715 * x**3))
            slope = s * (1 + x * (1 - s) * scale * (1 + 3 * 0.044715 * x**2))
        else:
            share = np.divide(gelu(x), x, out=np.full_like(x, 0.5), where=x != 0)
            slope = share + x * np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
        return g * slope.astype(g.dtype)

    def __repr__(self) -> str:
        return "GELU(approximate=True)" if self.approximate else "GELU()"


class Softmax(Layer):
    """y = e^x / sum of e^x along an axis: numbers that add up to 1.

    For training prefer `CrossEntropy`, which takes scores and does this itself.

    Parameters
    ----------
    axis : int or "channels"
        Along which axis; "channels" is that of the layout.
    layout : {"channels_first", "channels_last"}
        For axis="channels".

    Examples
    --------
    >>> import numpy as np
    >>> from npconv import nn
    >>> nn.Softmax()(np.log([[1.0, 2.0, 5.0]]))
    array([[0.125, 0.25 , 0.625]])
    """

    keeps_output = True

    def __init__(self, axis: int | str = -1, *, layout: str = "channels_first") -> None:
        super().__init__()
        self.axis = axis if axis == "channels" else one_int("Softmax", "axis", axis)
        self.layout = read_layout("Softmax", layout)

    def forward(self, x: Array, *, training: bool = True) -> tuple[Array, Any]:
        y = self(x)
        return y, y

    def __call__(self, x: Array) -> Array:
        x = operand("softmax", "x", x)
        axis, wide = self._axis(x.ndim), _wide(x)
        with np.errstate(all="ignore"):
            y = np.exp(wide - wide.max(axis, keepdims=True, initial=-np.inf))
            y /= y.sum(axis, keepdims=True)
        return y.astype(x.dtype if x.dtype.kind not in "iu" else y.dtype, copy=False)

    def backward(self, g: Array, saved: Any, *, input_grad: bool = True) -> tuple[Array | None, Arrays]:
        check_gradient("softmax", g, saved.shape)
        if not input_grad:
            return None, {}
        axis, gs, y = self._axis(g.ndim), _wide(g), _wide(saved)
        with np.errstate(all="ignore"):
            return (y * (gs - (gs * y).sum(axis, keepdims=True))).astype(g.dtype, copy=False), {}

    def _axis(self, axes: int) -> int:
        axis = channel_axis(self.layout, axes) if isinstance(self.axis, str) else self.axis
        if not -axes <= axis < axes:
            raise ValueError(f"softmax: axis is {axis}, but the input has {axes} axes")
        return axis

    def out_shape(self, shape: Ints) -> Ints:
        self._axis(len(shape))
        return shape

    def __repr__(self) -> str:
        return f"Softmax({self.axis!r}{told(self.layout)})"


@operation
def cut(x: Array, g: Array | None = None) -> Array:
    """max(x, 0); or g where x > 0, else 0."""
    done = rectified(x, g)
    if done is not None:
        return done
    return np.maximum(x, 0) if g is None else np.where(x > 0, g, g.dtype.type(0))


@operation
def activated(x: Array, activation: Activation) -> Array:
    """The activation of every element in a new array; halves are computed in float32, integers in float64."""
    kept = x.dtype if x.dtype.kind not in "iu" else np.dtype(np.float64)
    y = np.array(_wide(x), order="C")
    with np.errstate(all="ignore"):
        finish(y, 0, None, activation)
    return y.astype(kept, copy=False)


def _wide(x: Array) -> Array:
    """x in the dtype that it is computed in."""
    if x.dtype.kind in "iu":
        return x.astype(np.float64)
    return x.astype(np.float32) if x.dtype.itemsize == 2 else x
