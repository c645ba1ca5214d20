"""Normalisation: numbers shifted and scaled to mean 0 and variance 1, then to what `weight` and `bias` say.

    y = (x - mean) / sqrt(var + eps) * weight + bias

The layers differ in what a mean is taken over: batch norm over all elements of a channel, in the whole batch; group norm
over a group of channels of one sample; layer norm over the last axes of one sample.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arguments import operand
from ..geometry import Ints, total
from ..reading import one_int, shown
from .layer import Layer
from .moments import affine, affine_back, moments
from .shapes import channel_axis, check_gradient, expect, read_dtype, read_layout, told

if TYPE_CHECKING:
    from .layer import Array, Arrays


def _read_eps(op: str, eps: Any) -> float:
    if isinstance(eps, bool) or not isinstance(eps, (int, float, np.number)) or not 0 <= eps < math.inf:
        raise ValueError(f"{op}: eps must be a number >= 0, got {shown(eps)}; use 1e-5")
    return float(eps)


class BatchNorm(Layer):
    """Each channel normalised over the batch (Ioffe and Szegedy, 2015, arXiv:1502.03167).

    In training with the batch's own mean and variance, which also move the running ones; in inference with those.

    Parameters
    ----------
    channels : int
        C.
    eps : float
        Added to the variance.
    momentum : float
        The weight of the new value in a running one, as torch counts it.
    layout : {"channels_first", "channels_last"}
        Of inputs and outputs.
    dtype : dtype
        Of parameters and state.

    Attributes
    ----------
    params, state : dict
        "weight" and "bias"; "running_mean" and "running_var", the latter unbiased.

    Examples
    --------
    >>> import numpy as np
    >>> from npconv import nn
    >>> layer = nn.BatchNorm(1, dtype=np.float64)
    >>> y, saved = layer.forward(np.array([[1.0], [3.0]]))
    >>> y.round(3).tolist(), layer.state["running_mean"].tolist()
    ([[-1.0], [1.0]], [0.2])
    """

    keeps_input = True

    def __init__(
        self,
        channels: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        layout: str = "channels_first",
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        op = type(self).__name__
        self.channels = one_int(op, "channels", channels, 1)
        self.eps = _read_eps(op, eps)
        if isinstance(momentum, bool) or not isinstance(momentum, (int, float, np.number)) or not 0 <= momentum <= 1:
            raise ValueError(f"{op}: momentum must be a number from 0 to 1, got {shown(momentum)}; use 0.1")
        self.momentum = float(momentum)
        self.layout = read_layout(op, layout)
        kind = read_dtype(op, dtype)
        self.params = {"weight": np.ones(channels, kind), "bias": np.zeros(channels, kind)}
        self.state = {"running_mean": np.zeros(channels, kind), "running_var": np.ones(channels, kind)}

    def forward(self, x: Array, *, training: bool = True) -> tuple[Array, Any]:
        x = operand("batch_norm", "x", x)
        self._expect(x.shape)
        axes = self._axes(x.ndim)
        count = total([x.shape[i] for i in axes])
        training = training and count > 0  # nothing to learn from
        if training and count == 1:
            raise ValueError(
                f"batch_norm: the input has shape {x.shape}, one value per channel, whose variance is always 0; "
                "train with more samples, or use training=False"
            )
        if training:
            mean, var = moments(x, axes)
            self._move("running_mean", mean)
            self._move("running_var", var * (count / (count - 1)))
        else:
            # copies: a training step between this forward and its backward moves the state
            running = (self.state[name].astype(np.float64) for name in ("running_mean", "running_var"))
            mean, var = (self._spread(a, x.ndim) for a in running)
        scale = 1 / np.sqrt(var + self.eps)
        weight, bias = (self._spread(self.params[name], x.ndim) for name in ("weight", "bias"))
        return affine(x, axes, mean, scale, weight, bias), (x, mean, scale, training)

    def backward(self, g: Array, saved: Any, *, input_grad: bool = True) -> tuple[Array | None, Arrays]:
        x, mean, scale, training = saved
        check_gradient("batch_norm", g, x.shape)
        weight = self._spread(self.params["weight"], x.ndim)
        back = affine_back(g, x, self._axes(x.ndim), mean, scale, weight, moved=training, wanted=input_grad)
        return back[0], _gradients(self, *back[1:])

    def kept_bytes(self, shape: Ints, itemsize: int) -> int:
        return _moment_bytes(self.channels)

    def _move(self, name: str, new: Array) -> None:
        """A running value on its way to the new one."""
        old = self.state[name]
        old[...] = old + self.momentum * (new.reshape(-1) - old)

    def _spread(self, array: Array, axes: int) -> Array:
        """One number per channel as it stands along x."""
        return array.reshape(-1, *(1,) * (axes - 2 if self.layout == "channels_first" else 0))

    def _axes(self, axes: int) -> Ints:
        """What a mean is taken over."""
        return tuple(i for i in range(axes) if i != channel_axis(self.layout, axes))

    def _expect(self, shape: Ints) -> None:
        expect("batch_norm", shape, self.layout, None, self.channels)

    def out_shape(self, shape: Ints) -> Ints:
        self._expect(shape)
        return shape

    def __repr__(self) -> str:
        momentum = "" if self.momentum == 0.1 else f", momentum={self.momentum:g}"
        return f"BatchNorm({self.channels}{_not_usual(self.eps)}{momentum}{told(self.layout)})"


class GroupNorm(Layer):
    """Each group of channels of each sample normalised (Wu and He, 2018, arXiv:1803.08494).

    Parameters
    ----------
    groups, channels : int
        How many groups, and C; one channel per group is instance norm.
    eps : float
        Added to the variance.
    layout : {"channels_first", "channels_last"}
        Of inputs and outputs.
    dtype : dtype
        Of the parameters.

    Attributes
    ----------
    params : dict
        "weight" and "bias", (C,).
    """

    keeps_input = True

    def __init__(
        self,
        groups: int,
        channels: int,
        *,
        eps: float = 1e-5,
        layout: str = "channels_first",
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        op = type(self).__name__
        self.groups, self.channels = one_int(op, "groups", groups, 1), one_int(op, "channels", channels, 1)
        if self.channels % self.groups:
            raise ValueError(f"{op}: channels={channels} is not divisible by groups={groups}")
        self.eps = _read_eps(op, eps)
        self.layout = read_layout(op, layout)
        kind = read_dtype(op, dtype)
        self.params = {"weight": np.ones(channels, kind), "bias": np.zeros(channels, kind)}

    def forward(self, x: Array, *, training: bool = True) -> tuple[Array, Any]:
        x = operand("group_norm", "x", x)
        expect("group_norm", x.shape, self.layout, None, self.channels)
        parts = self._split(x)
        mean, var = moments(parts, self._axes(parts.ndim))
        scale = 1 / np.sqrt(var + self.eps)
        y = affine(parts, self._axes(parts.ndim), mean, scale, *self._spread(parts.ndim))
        return y.reshape(x.shape), (x, mean, scale)

    def backward(self, g: Array, saved: Any, *, input_grad: bool = True) -> tuple[Array | None, Arrays]:
        x, mean, scale = saved
        check_gradient("group_norm", g, x.shape)
        parts = self._split(x)
        weight, _ = self._spread(parts.ndim)
        back = affine_back(self._split(g), parts, self._axes(parts.ndim), mean, scale, weight, wanted=input_grad)
        return None if back[0] is None else back[0].reshape(x.shape), _gradients(self, *back[1:])

    def kept_bytes(self, shape: Ints, itemsize: int) -> int:
        return _moment_bytes(shape[0] * self.groups)

    def _split(self, x: Array) -> Array:
        """x with the channels as two axes, groups and what is in them."""
        axis = channel_axis(self.layout, x.ndim)
        return x.reshape(*x.shape[:axis], self.groups, self.channels // self.groups, *x.shape[axis + 1 :])

    def _axes(self, axes: int) -> Ints:
        """What a mean is taken over, with the channels split."""
        groups = 1 if self.layout == "channels_first" else axes - 2
        return tuple(i for i in range(1, axes) if i != groups)

    def _spread(self, axes: int) -> tuple[Array, Array]:
        """weight and bias as they stand along the split channels."""
        ones = (1,) * (axes - 3 if self.layout == "channels_first" else 0)
        shape = (self.groups, self.channels // self.groups, *ones)
        return self.params["weight"].reshape(shape), self.params["bias"].reshape(shape)

    def out_shape(self, shape: Ints) -> Ints:
        expect("group_norm", shape, self.layout, None, self.channels)
        return shape

    def __repr__(self) -> str:
        return f"GroupNorm({self.groups}, {self.channels}{_not_usual(self.eps)}{told(self.layout)})"


class LayerNorm(Layer):
    """Each sample normalised over its last axes (Ba, Kiros and Hinton, 2016, arXiv:1607.06450).

    Parameters
    ----------
    shape : int or tuple of int
        Of the last axes.
    eps : float
        Added to the variance.
    dtype : dtype
        Of the parameters.

    Attributes
    ----------
    params : dict
        "weight" and "bias", of `shape`.
    """

    keeps_input = True

    def __init__(self, shape: int | tuple[int, ...], *, eps: float = 1e-5, dtype: Any = np.float32) -> None:
        super().__init__()
        op = type(self).__name__
        sizes = shape if isinstance(shape, (tuple, list)) else (shape,)
        self.shape = tuple(one_int(op, "shape", n, 1, f" entry {i}") for i, n in enumerate(sizes))
        if not self.shape:
            raise ValueError(f"{op}: shape is empty; name the size of the last axis at least")
        self.eps = _read_eps(op, eps)
        kind = read_dtype(op, dtype)
        self.params = {"weight": np.ones(self.shape, kind), "bias": np.zeros(self.shape, kind)}

    def forward(self, x: Array, *, training: bool = True) -> tuple[Array, Any]:
        x = operand("layer_norm", "x", x)
        axes = self._axes(x.shape)
        mean, var = moments(x, axes)
        scale = 1 / np.sqrt(var + self.eps)
        return affine(x, axes, mean, scale, self.params["weight"], self.params["bias"]), (x, mean, scale)

    def backward(self, g: Array, saved: Any, *, input_grad: bool = True) -> tuple[Array | None, Arrays]:
        x, mean, scale = saved
        check_gradient("layer_norm", g, x.shape)
        back = affine_back(g, x, self._axes(x.shape), mean, scale, self.params["weight"], wanted=input_grad)
        return back[0], _gradients(self, *back[1:])

    def kept_bytes(self, shape: Ints, itemsize: int) -> int:
        return _moment_bytes(total(shape[: -len(self.shape)]))

    def _axes(self, shape: Ints) -> Ints:
        n = len(self.shape)
        if shape[-n:] != self.shape:
            raise ValueError(
                f"layer_norm: the input has shape {shape}, expected (..., {', '.join(map(str, self.shape))})"
            )
        return tuple(range(len(shape) - n, len(shape)))

    def out_shape(self, shape: Ints) -> Ints:
        self._axes(shape)
        return shape

    def __repr__(self) -> str:
        return f"LayerNorm({self.shape}{_not_usual(self.eps)})"


def _gradients(layer: Layer, weight: Array, bias: Array) -> Arrays:
    """The gradients of both parameters in their shapes and dtypes."""
    found = {"weight": weight, "bias": bias}
    return {name: found[name].reshape(own.shape).astype(own.dtype) for name, own in layer.params.items()}


def _moment_bytes(count: int) -> int:
    """So many means and scales, in double precision."""
    return 2 * count * np.dtype(np.float64).itemsize


def _not_usual(eps: float) -> str:
    return "" if eps == 1e-5 else f", eps={eps:g}"
