"""The gradients of transposed convolution: `conv` and its weight gradient, with the roles of input and output exchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from . import express
from .arguments import common_dtypes, flag, operand, operation, shape_of
from .geometry import Ints
from .gradients import ConvGrads, bias_grad, run_weight_grad
from .memory import output
from .problem import ConvProblem
from .transposed_problem import TransposeOptions, read_transpose

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]


@operation
def conv_transpose_input_grad(
    g: ArrayLike, w: ArrayLike, *, input_shape: Ints, out: Array | None = None, **options: Unpack[TransposeOptions]
) -> Array:
    """Gradient of `conv_transpose` with respect to x: a plain convolution of g with w.

        (N, O, *out) * (C, O/G, *k) -> (N, C, *in)

    Parameters
    ----------
    g, w : array_like
        Gradient of the output, and the weights of the forward call.
    input_shape : tuple of int
        The shape of x.
    out : ndarray, optional
        C-contiguous array to write into.
    **options
        The keywords of the forward call.

    Returns
    -------
    ndarray
        Of shape `input_shape`.

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.conv_transpose`; also if g does not have the shape of the forward call's output.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> g, w = np.arange(5.0).reshape(1, 1, 5), np.array([[[1.0, 2.0, 3.0]]])
    >>> npconv.conv_transpose_input_grad(g, w, input_shape=(1, 1, 2), stride=2)
    array([[[ 8., 20.]]])
    """
    op = "conv_transpose_input_grad"
    key = express.key_of(op, None, options, input_shape, g, w) if out is None else None
    done = express.served(key, g, w)
    if done is not None:
        return done
    g, w = operand(op, "g", g), operand(op, "w", w)
    p = read_transpose(op, shape_of(op, "input_shape", input_shape), w.shape, options)
    return _input_grad(p, g, w, out, key)


@operation
def conv_transpose_weight_grad(
    x: ArrayLike, g: ArrayLike, *, kernel_shape: Ints, out: Array | None = None, **options: Unpack[TransposeOptions]
) -> Array:
    """Gradient of `conv_transpose` with respect to w: that of `conv` with x and g in each other's place.

        (N, C, *in) * (N, O, *out) -> (C, O/G, *k)

    Parameters
    ----------
    x, g : array_like
        Input of the forward call, and the gradient of its output.
    kernel_shape : tuple of int
        The shape of w.
    out : ndarray, optional
        C-contiguous array to write into.
    **options
        The keywords of the forward call.

    Returns
    -------
    ndarray
        Of shape `kernel_shape`.

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.conv_transpose`; also if g does not have the shape of the forward call's output.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> x, g = np.array([[[1.0, 10.0]]]), np.arange(5.0).reshape(1, 1, 5)
    >>> npconv.conv_transpose_weight_grad(x, g, kernel_shape=(1, 1, 3), stride=2)
    array([[[20., 31., 42.]]])
    """
    op = "conv_transpose_weight_grad"
    key = express.key_of(op, None, options, kernel_shape, g, x) if out is None else None
    done = express.served(key, g, x)
    if done is not None:
        return done
    x, g = operand(op, "x", x), operand(op, "g", g)
    p = read_transpose(op, x.shape, shape_of(op, "kernel_shape", kernel_shape), options)
    return _weight_grad(p, x, g, out, key)


@operation
def conv_transpose_grads(
    g: ArrayLike, x: ArrayLike, w: ArrayLike, *, bias: bool = True, **options: Unpack[TransposeOptions]
) -> ConvGrads:
    """All gradients of `conv_transpose` at once: (g, x, w) -> (dx, dw, db).

    Parameters
    ----------
    g, x, w : array_like
        Gradient of the output, input and weights of the forward call.
    bias : bool
        Whether to return the bias gradient.
    **options
        The keywords of the forward call.

    Returns
    -------
    ConvGrads
        Named tuple (x, w, bias).

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.conv_transpose`; also if g does not have the shape of the forward call's output.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> x, w = np.array([[[1.0, 10.0]]]), np.array([[[1.0, 2.0, 3.0]]])
    >>> npconv.conv_transpose_grads(np.arange(5.0).reshape(1, 1, 5), x, w, stride=2).bias
    array([10.])
    """
    op = "conv_transpose_grads"
    g, x, w = operand(op, "g", g), operand(op, "x", x), operand(op, "w", w)
    p = read_transpose(op, x.shape, w.shape, options)
    wanted = flag(op, "bias", bias)
    return ConvGrads(_input_grad(p, g, w, None), _weight_grad(p, x, g, None), bias_grad(p, g) if wanted else None)


def _check_gradient(p: ConvProblem, g: Array) -> None:
    if g.shape != p.x_shape:
        geometry = p.geometry
        raise ValueError(
            f"{p.op}: g.shape is {g.shape}, expected {p.x_shape}, the output of x.shape {p.y_shape} and w.shape {p.w_shape} "
            f"with stride {geometry.stride}, padding {geometry.padding} and dilation {geometry.dilation}"
        )


def _input_grad(p: ConvProblem, g: Array, w: Array, out: Array | None, key: express.Key | None = None) -> Array:
    _check_gradient(p, g)
    dtypes = common_dtypes(p.op, {"g": g.dtype, "w": w.dtype})
    dx = output(p.op, out, p.y_shape, dtypes.result, {"g": g, "w": w})
    p.forward(g, w.conj() if w.dtype.kind == "c" else w, None, dtypes, dx)
    express.remember(key, lambda: p.lane("forward", dtypes, g, w, dx))
    return dx


def _weight_grad(p: ConvProblem, x: Array, g: Array, out: Array | None, key: express.Key | None = None) -> Array:
    _check_gradient(p, g)
    dw = run_weight_grad(p, {"x": g, "g": x}, out, key)
    return np.conj(dw, out=dw) if dw.dtype.kind == "c" else dw
