"""Layers without space: a matrix product, what makes a plane a vector, and dropout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..arguments import common_dtypes, flag, operand
from ..geometry import Ints, total
from ..reading import one_int, shown
from . import initial as start
from .layer import Layer
from .shapes import check_gradient, expect, read_dtype, read_layout, told

if TYPE_CHECKING:
    from .layer import Array, Arrays


class Linear(Layer):
    """Every output is a weighted sum of all inputs: y = x w^T + b.

        (..., I) * (O, I) -> (..., O)

    Parameters
    ----------
    in_features, out_features : int
        I and O.
    bias : bool
        Whether a number is added to each output.
    initial, rng, dtype
        As for `Conv`.

    Examples
    --------
    >>> import numpy as np
    >>> from npconv import nn
    >>> layer = nn.Linear(3, 2, initial="ones", dtype=np.float64)
    >>> layer(np.array([[1.0, 2.0, 3.0]]))
    array([[6., 6.]])
    """

    keeps_input = True

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        initial: Any = "he_uniform",
        rng: Any = None,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        op = type(self).__name__
        self.in_features = one_int(op, "in_features", in_features, 1)
        self.out_features = one_int(op, "out_features", out_features, 1)
        kind, source, shape = read_dtype(op, dtype), start.generator(rng), (self.out_features, self.in_features)
        self.params["weight"] = start.drawn(op, initial, shape, source, kind)
        if flag(op, "bias", bias):
            self.params["bias"] = start.bias(initial, self.in_features, self.out_features, source, kind)

    def forward(self, x: Array, *, training: bool = True) -> tuple[Array, Any]:
        x = operand("linear", "x", x)
        return self(x), x

    def __call__(self, x: Array) -> Array:
        x = operand("linear", "x", x)
        self._expect(x.shape)
        dtypes = common_dtypes("linear", {"x": x.dtype, **{n: a.dtype for n, a in self.params.items()}})
        x, w = (a.astype(dtypes.compute, copy=False) for a in (x, self.params["weight"]))
        with np.errstate(all="ignore"):
            y = x @ w.T
            if "bias" in self.params:
                y += self.params["bias"]
        return y.astype(dtypes.result, copy=False)

    def backward(self, g: Array, saved: Any, *, input_grad: bool = True) -> tuple[Array | None, Arrays]:
        x = saved
        check_gradient("linear", g, (*x.shape[:-1], self.out_features))
        dtypes = common_dtypes("linear", {"x": x.dtype, "g": g.dtype, "weight": self.params["weight"].dtype})
        x, g, w = (a.astype(dtypes.compute, copy=False) for a in (x, g, self.params["weight"]))
        rows = g.reshape(-1, self.out_features)
        with np.errstate(all="ignore"):
            grads = {"weight": rows.T @ x.reshape(-1, self.in_features)}
            if "bias" in self.params:
                grads["bias"] = rows.sum(0, dtype=np.float64)
            gx = (g @ w).astype(dtypes.result, copy=False) if input_grad else None
        return gx, {name: grad.astype(self.params[name].dtype, copy=False) for name, grad in grads.items()}

    def _expect(self, shape: Ints) -> None:
        if not shape or shape[-1] != self.in_features:
            more = " after Flatten" if len(shape) > 2 and total(shape[1:]) == self.in_features else ""
            raise ValueError(
                f"linear: the input has shape {shape}, expected (..., {self.in_features}), in_features on the last axis"
                + (f"; it has as many{more}: put nn.Flatten() before this layer" if more else "")
            )

    def out_shape(self, shape: Ints) -> Ints:
        self._expect(shape)
        return (*shape[:-1], self.out_features)

    def macs(self, shape: Ints) -> int:
        return total(self.out_shape(shape)) * self.in_features

    def __repr__(self) -> str:
        return f"Linear({self.in_features}, {self.out_features}{'' if 'bias' in self.params else ', bias=False'})"


class Flatten(Layer):
    """All but the batch axis in one, channels first whatever the layout, so that weights do not depend on it.

        (N, C, *in) -> (N, C * in)

    Parameters
    ----------
    layout : {"channels_first", "channels_last"}
        Of the input.

    Examples
    --------
    >>> import numpy as np
    >>> from npconv import nn
    >>> x = np.array([[[1, 2], [3, 4]]])                 # two channels, two pixels
    >>> nn.Flatten()(x), nn.Flatten(layout="channels_last")(x)
    (array([[1, 2, 3, 4]]), array([[1, 3, 2, 4]]))
    """

    def __init__(self, *, layout: str = "channels_first") -> None:
        super().__init__()
        self.layout = read_layout(type(self).__name__, layout)

    def forward(self, x: Array, *, training: bool = True) -> tuple[Array, Any]:
        return self(x), np.shape(x)

    def __call__(self, x: Array) -> Array:
        x = operand("flatten", "x", x)
        shape = self.out_shape(x.shape)
        return (np.moveaxis(x, -1, 1) if self.layout == "channels_last" else x).reshape(shape)

    def backward(self, g: Array, saved: Any, *, input_grad: bool = True) -> tuple[Array | None, Arrays]:
        check_gradient("flatten", g, self.out_shape(saved))
        if not input_grad:
            return None, {}
        if self.layout == "channels_first":
            return g.reshape(saved), {}
        return np.ascontiguousarray(np.moveaxis(g.reshape(saved[0], saved[-1], *saved[1:-1]), 1, -1)), {}

    def out_shape(self, shape: Ints) -> Ints:
        expect("flatten", shape, self.layout)
        return (shape[0], total(shape[1:]))

    def __repr__(self) -> str:
        return f"Flatten({told(self.layout)[2:]})"


class Dropout(Layer):
    """In training every element is 0 with probability `rate`, and what is left grows by 1 / (1 - rate).

    In inference nothing happens (Srivastava et al., 2014, JMLR 15).

    Parameters
    ----------
    rate : float
        From 0 to 1.
    rng : None, int or numpy.random.Generator
        What decides; kept as the attribute `rng`.

    Examples
    --------
    >>> import numpy as np
    >>> from npconv import nn
    >>> y, saved = nn.Dropout(0.5, rng=0).forward(np.ones((1, 6)))
    >>> y
    array([[2., 2., 2., 0., 0., 0.]])
    """

    def __init__(self, rate: float = 0.5, *, rng: Any = None) -> None:
        super().__init__()
        if isinstance(rate, bool) or not isinstance(rate, (int, float, np.number)) or not 0 <= rate <= 1:
            raise ValueError(f"Dropout: rate must be a number from 0 to 1, got {shown(rate)}")
        self.rate = float(rate)
        self.rng = start.generator(rng)

    def forward(self, x: Array, *, training: bool = True) -> tuple[Array, Any]:
        x = operand("dropout", "x", x)
        if not training or self.rate == 0:
            return x, None
        keep = self.rng.random(x.shape, np.float32) >= self.rate
        return self._applied(x, keep), keep

    def __call__(self, x: Array) -> Array:
        return operand("dropout", "x", x)

    def backward(self, g: Array, saved: Any, *, input_grad: bool = True) -> tuple[Array | None, Arrays]:
        if not input_grad:
            return None, {}
        return (g if saved is None else self._applied(g, saved)), {}

    def _applied(self, x: Array, keep: Array) -> Array:
        """x where `keep`, scaled; the same on the way back."""
        y = x * keep
        if y.dtype.kind in "iu":
            y = y.astype(np.float64)
        y *= y.dtype.type(1 / (1 - self.rate) if self.rate < 1 else 0.0)
        return y

    def out_shape(self, shape: Ints) -> Ints:
        return shape

    def kept_bytes(self, shape: Ints, itemsize: int) -> int:
        return total(shape) if self.rate else 0

    def __repr__(self) -> str:
        return f"Dropout({self.rate})"
