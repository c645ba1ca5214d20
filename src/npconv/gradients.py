"""The gradients of convolution.

The three passes are closed under differentiation: conv is linear in x and in w, so the gradient of each pass is one of
the other two. Double backward is a composition of `conv`, `conv_input_grad` and `conv_weight_grad`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import numpy as np

from . import express
from .arguments import common_dtypes, flag, operand, operation, shape_of
from .compiled.outer.bias import channel_sums
from .conv_arguments import ConvOptions, check_gradient, read, with_defaults
from .memory import output
from .problem import ConvProblem

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]


class ConvGrads(NamedTuple):
    """Gradients of the three operands of a convolution; `bias` is None when it was not asked for."""

    x: Array
    w: Array
    bias: Array | None


@operation
def conv_input_grad(
    g: ArrayLike,
    w: ArrayLike,
    *,
    input_shape: tuple[int, ...],
    out: Array | None = None,
    **options: Unpack[ConvOptions],
) -> Array:
    """Gradient of `conv` with respect to x, given g, the gradient of its output.

        (N, O, *out) * (O, C/G, *k) -> (N, C, *in)       dx[n, c, i] = sum of g[n, o, p] w[o, c, t] where p s + t d - lo = i

    Itself a convolution: of g, its elements spread `stride` apart, with the flipped, in/out-swapped kernel.

    Parameters
    ----------
    g : array_like
        Gradient of the output, (*batch, O, *out).
    w : array_like
        The weights of the forward call.
    input_shape : tuple of int
        The shape of x, batch and channels included: several input sizes give one output size.
    out : ndarray, optional
        C-contiguous array to write into.
    **options
        The keywords of the forward call, as `npconv.conv` documents them.

    Returns
    -------
    ndarray
        Of shape `input_shape`. For complex data the adjoint: w is conjugated, as torch does.

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.conv`; also if g does not have the shape of the forward call's output.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> w = np.array([[[1.0, 2.0, 3.0]]])
    >>> npconv.conv_input_grad(np.array([[[1.0, 0.0, 10.0]]]), w, input_shape=(1, 1, 5))
    array([[[ 1.,  2., 13., 20., 30.]]])
    """
    op = "conv_input_grad"
    full = with_defaults(op, options, ("input_shape", "out"))
    key = express.key_of(op, None, full, input_shape, g, w) if out is None else None
    done = express.served(key, g, w)
    if done is not None:
        return done
    operands = {"g": operand(op, "g", g), "w": operand(op, "w", w)}
    p = read(op, shape_of(op, "input_shape", input_shape), operands["w"].shape, full)
    return run_input_grad(p, operands, out, key)


@operation
def conv_weight_grad(
    x: ArrayLike,
    g: ArrayLike,
    *,
    kernel_shape: tuple[int, ...],
    out: Array | None = None,
    **options: Unpack[ConvOptions],
) -> Array:
    """Gradient of `conv` with respect to w, given g, the gradient of its output.

        (N, C, *in) * (N, O, *out) -> (O, C/G, *k)       dw[o, c, t] = sum over n, p of g[n, o, p] x[n, c, p s + t d - lo]

    Itself a convolution: of x, channels and batch swapped, with g as a kernel of dilation `stride`.

    Parameters
    ----------
    x : array_like
        The input of the forward call.
    g : array_like
        Gradient of the output, (*batch, O, *out).
    kernel_shape : tuple of int
        The shape of w.
    out : ndarray, optional
        C-contiguous array to write into.
    **options
        The keywords of the forward call, as `npconv.conv` documents them.

    Returns
    -------
    ndarray
        Of shape `kernel_shape`. For complex data x is conjugated, as torch does.

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.conv`; also if g does not have the shape of the forward call's output.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> x, g = np.arange(5.0).reshape(1, 1, 5), np.array([[[1.0, 0.0, 10.0]]])
    >>> npconv.conv_weight_grad(x, g, kernel_shape=(1, 1, 3))
    array([[[20., 31., 42.]]])
    """
    op = "conv_weight_grad"
    full = with_defaults(op, options, ("kernel_shape", "out"))
    key = express.key_of(op, None, full, kernel_shape, x, g) if out is None else None
    done = express.served(key, x, g)
    if done is not None:
        return done
    operands = {"x": operand(op, "x", x), "g": operand(op, "g", g)}
    p = read(op, operands["x"].shape, shape_of(op, "kernel_shape", kernel_shape), full)
    return run_weight_grad(p, operands, out, key)


@operation
def conv_grads(
    g: ArrayLike, x: ArrayLike, w: ArrayLike, *, bias: bool = True, **options: Unpack[ConvOptions]
) -> ConvGrads:
    """All gradients of `conv` at once: (g, x, w) -> (dx, dw, db).

    Parameters
    ----------
    g, x, w : array_like
        Gradient of the output, input and weights of the forward call.
    bias : bool
        Whether to return the bias gradient, the sum of g over everything but channels.
    **options
        The keywords of the forward call, as `npconv.conv` documents them.

    Returns
    -------
    ConvGrads
        Named tuple (x, w, bias).

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.conv`; also if g does not have the shape of the forward call's output.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> x, w = np.arange(5.0).reshape(1, 1, 5), np.array([[[1.0, 2.0, 3.0]]])
    >>> grads = npconv.conv_grads(np.array([[[1.0, 0.0, 10.0]]]), x, w)
    >>> grads.w, grads.bias
    (array([[[20., 31., 42.]]]), array([11.]))
    """
    op = "conv_grads"
    return run_grads(op, g, x, w, bias, with_defaults(op, options, ("bias",)))


def run_grads(op: str, g: Any, x: Any, w: Any, bias: Any, options: dict[str, Any]) -> ConvGrads:
    """`conv_grads` under the name `op`; the door that depthwise convolution shares."""
    g, x, w = operand(op, "g", g), operand(op, "x", x), operand(op, "w", w)
    p = read(op, x.shape, w.shape, options)
    wanted = flag(op, "bias", bias)
    return ConvGrads(
        run_input_grad(p, {"g": g, "w": w}, None),
        run_weight_grad(p, {"x": x, "g": g}, None),
        bias_grad(p, g) if wanted else None,
    )


def run_input_grad(
    p: ConvProblem,
    operands: dict[str, Array],
    out: Array | None,
    key: express.Key | None = None,
    *,
    adjoint: bool = True,
) -> Array:
    """The input gradient of a problem that was read, into `out`; calls of the same `key` may go a shorter way."""
    check_gradient(p, operands["g"])
    dtypes = common_dtypes(p.op, {name: a.dtype for name, a in operands.items()})
    dx = output(p.op, out, p.x_shape, dtypes.result, operands)
    p.input_grad(operands["g"], operands["w"], dtypes, dx, adjoint=adjoint)
    express.remember(key, lambda: p.lane("input_grad", dtypes, operands["g"], operands["w"], dx))
    return dx


def run_weight_grad(
    p: ConvProblem, operands: dict[str, Array], out: Array | None, key: express.Key | None = None
) -> Array:
    """The weight gradient of a problem that was read, into `out`; calls of the same `key` may go a shorter way."""
    check_gradient(p, operands["g"])
    dtypes = common_dtypes(p.op, {name: a.dtype for name, a in operands.items()})
    dw = output(p.op, out, p.w_shape, dtypes.result, operands)
    p.weight_grad(operands["x"], operands["g"], dtypes, dw)
    express.remember(key, lambda: p.lane("weight_grad", dtypes, operands["x"], operands["g"], dw))
    return dw


def bias_grad(p: ConvProblem, g: Array) -> Array:
    """g summed over batch and space; single and half precision sum in double and round once."""
    dtypes = common_dtypes(p.op, {"g": g.dtype})
    wide = np.result_type(dtypes.result, np.int64 if dtypes.exact else np.float64)
    axes = (0, *range(2, 2 + p.geometry.rank))
    (g,), _ = p.settled(g)
    view = p.x_layout.canonical(g)
    with np.errstate(all="ignore"):
        sums = channel_sums(view)
        return (view.sum(axes, dtype=wide) if sums is None else sums).astype(dtypes.result)
