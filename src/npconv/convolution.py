"""Convolution, its gradients, its forward-mode derivative, and the explanation of what would run.

The three passes are closed under differentiation: conv is linear in x and in w, so the gradient of each pass is one of
the other two. Double backward is a composition of `conv`, `conv_input_grad` and `conv_weight_grad`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import numpy as np

from . import dispatch
from .algorithms.base import DIRECTIONS
from .arguments import choice, common_dtypes, flag, operand, operation, output, shape_of
from .problem import ConvOptions, ConvProblem, check_bias, check_gradient, read, with_defaults

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]


class ConvGrads(NamedTuple):
    """Gradients of the three operands of a convolution; `bias` is None when it was not asked for."""

    x: Array
    w: Array
    bias: Array | None


@operation
def conv(
    x: ArrayLike,
    w: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    input_dilation: Any = 1,
    padding_mode: str = "zeros",
    padding_value: Any = 0,
    flip: bool = False,
    layout: str = "channels_first",
    kernel_layout: str | None = None,
    algorithm: str = "auto",
    accuracy: str = "standard",
    max_workspace: int | None = None,
    out: Array | None = None,
) -> Array:
    """Slide `w` over `x` and sum the products (cross-correlation).

        (N, C, *in) * (O, C/G, *k) -> (N, O, *out)       out = (in + lo + hi - dilation (k - 1) - 1) // stride + 1

    Parameters
    ----------
    x : array_like
        Input, (*batch, C, *in): any spatial rank from 0, and no, one or several batch axes.
    w : array_like
        Weights, (O, C/G, *k). The rank comes from them.
    bias : array_like, optional
        (O,), added to every output of its channel.
    stride, dilation, input_dilation : int or sequence of int
        Step between windows, between the taps of the kernel, and between the elements of x (zeros are put between them).
    padding : int, sequence of int, sequence of (lo, hi), or str
        Per axis and side; negative crops. "valid" (none), "same" (TensorFlow's rule: ceil(in / stride) outputs, the odd
        one at the end), "same_lower" (at the beginning), "same_torch" (stride 1 alone), "full", "causal".
    groups : int
        Group i convolves input channels [i C/G, (i+1) C/G) to output channels [i O/G, (i+1) O/G).
    padding_mode : {"zeros", "constant", "reflect", "symmetric", "replicate", "circular"}
        What the padding holds, by `numpy.pad`'s meaning of the names; any amount, it wraps as often as needed.
    padding_value : number
        For padding_mode="constant".
    flip : bool
        Flip w in space first: the mathematical convolution.
    layout, kernel_layout : str
        "channels_first" with (O, C/G, *k), "channels_last" with (*k, C/G, O), or letters such as "NCHW", "HWC", "OIHW".
    algorithm : str
        "auto", or the name of one (`npconv.explain` lists them and says which can run).
    accuracy : {"strict", "standard", "fast"}
        With u the unit roundoff and S the sum of |x||w| over a window: strict keeps |err| <= 32 u S for every output,
        standard 128 u max(S over the output's plane), fast the chosen algorithm's own bound.
    max_workspace : int, optional
        Bytes the call may allocate beyond its output.
    out : ndarray, optional
        C-contiguous array of the result's shape and dtype to write into.

    Returns
    -------
    ndarray
        In x's layout. The dtype follows NumPy promotion; float16 and bfloat16 compute in float32 and round once;
        integers accumulate exactly and give int64.

    Raises
    ------
    ValueError
        A value or shape is out of range; the message prints the broken equation.
    TypeError
        An argument is of the wrong kind, or a dtype has no kernel (bool, longdouble, object ...).
    MemoryLimitError
        The output or the workspace cannot fit; raised before anything is allocated.

    Notes
    -----
    The algorithm is chosen by `npconv.explain`'s rules; each has a page in the documentation with its source.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> x = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> w = np.array([[[[1.0, 0.0], [0.0, -1.0]]]])
    >>> npconv.conv(x, w)[0, 0]
    array([[-5., -5., -5.],
           [-5., -5., -5.],
           [-5., -5., -5.]])
    >>> npconv.conv(x, w, stride=2, padding="same").shape
    (1, 1, 2, 2)
    """
    options = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "input_dilation": input_dilation,
        "padding_mode": padding_mode,
        "padding_value": padding_value,
        "flip": flip,
        "layout": layout,
        "kernel_layout": kernel_layout,
        "algorithm": algorithm,
        "accuracy": accuracy,
        "max_workspace": max_workspace,
    }
    return run_conv("conv", None, x, w, bias, out, options)


def run_conv(
    op: str, rank: int | None, x: Any, w: Any, bias: Any, out: Array | None, options: dict[str, Any]
) -> Array:
    """`conv` under the name `op`, its rank fixed or free; the door that conv1d and its relatives share."""
    operands = {"x": operand(op, "x", x), "w": operand(op, "w", w)}
    if bias is not None:
        operands["bias"] = operand(op, "bias", bias)
    p = read(op, operands["x"].shape, operands["w"].shape, options, rank)
    if bias is not None:
        check_bias(op, operands["bias"], p.geometry.out_channels)
    dtypes = common_dtypes(op, {name: a.dtype for name, a in operands.items()})
    y = output(op, out, p.y_shape, dtypes.result, operands)
    p.forward(operands["x"], operands["w"], operands.get("bias"), dtypes, y)
    return y


@operation
def conv_input_grad(
    g: ArrayLike, w: ArrayLike, *, input_shape: tuple[int, ...], out: Array | None = None, **options: Unpack[ConvOptions]
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
    operands = {"g": operand(op, "g", g), "w": operand(op, "w", w)}
    p = read(op, shape_of(op, "input_shape", input_shape), operands["w"].shape, full)
    return run_input_grad(p, operands, out)


@operation
def conv_weight_grad(
    x: ArrayLike, g: ArrayLike, *, kernel_shape: tuple[int, ...], out: Array | None = None, **options: Unpack[ConvOptions]
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
    operands = {"x": operand(op, "x", x), "g": operand(op, "g", g)}
    p = read(op, operands["x"].shape, shape_of(op, "kernel_shape", kernel_shape), full)
    return run_weight_grad(p, operands, out)


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
    full = with_defaults(op, options, ("bias",))
    g, x, w = operand(op, "g", g), operand(op, "x", x), operand(op, "w", w)
    p = read(op, x.shape, w.shape, full)
    wanted = flag(op, "bias", bias)
    return ConvGrads(
        run_input_grad(p, {"g": g, "w": w}, None),
        run_weight_grad(p, {"x": x, "g": g}, None),
        bias_grad(p, g) if wanted else None,
    )


def run_input_grad(p: ConvProblem, operands: dict[str, Array], out: Array | None, *, adjoint: bool = True) -> Array:
    """The input gradient of a problem that was read, into `out`."""
    check_gradient(p, operands["g"])
    dtypes = common_dtypes(p.op, {name: a.dtype for name, a in operands.items()})
    dx = output(p.op, out, p.x_shape, dtypes.result, operands)
    p.input_grad(operands["g"], operands["w"], dtypes, dx, adjoint=adjoint)
    return dx


def run_weight_grad(p: ConvProblem, operands: dict[str, Array], out: Array | None) -> Array:
    """The weight gradient of a problem that was read, into `out`."""
    check_gradient(p, operands["g"])
    dtypes = common_dtypes(p.op, {name: a.dtype for name, a in operands.items()})
    dw = output(p.op, out, p.w_shape, dtypes.result, operands)
    p.weight_grad(operands["x"], operands["g"], dtypes, dw)
    return dw


def bias_grad(p: ConvProblem, g: Array) -> Array:
    """g summed over batch and space; single and half precision sum in double and round once."""
    dtypes = common_dtypes(p.op, {"g": g.dtype})
    wide = np.result_type(dtypes.result, np.int64 if dtypes.exact else np.float64)
    axes = (0, *range(2, 2 + p.geometry.rank))
    with np.errstate(all="ignore"):
        return p.x_layout.canonical(g).sum(axes, dtype=wide).astype(dtypes.result)


@operation
def conv_jvp(
    x: ArrayLike,
    w: ArrayLike,
    dx: ArrayLike | None = None,
    dw: ArrayLike | None = None,
    *,
    bias: ArrayLike | None = None,
    dbias: ArrayLike | None = None,
    **options: Unpack[ConvOptions],
) -> tuple[Array, Array]:
    """Forward-mode derivative of `conv`: the output, and its change along given changes of the operands.

        dy = conv(dx, w) + conv(x, dw) + dbias

    Parameters
    ----------
    x, w, bias : array_like
        The operands.
    dx, dw, dbias : array_like, optional
        Their tangents, each of its operand's shape; None is zero.
    **options
        The keywords of `npconv.conv`.

    Returns
    -------
    y, dy : ndarray

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.conv`; also if a tangent's shape is not its operand's.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> x, w = np.arange(4.0).reshape(1, 1, 4), np.array([[[1.0, -1.0]]])
    >>> npconv.conv_jvp(x, w, dw=np.array([[[0.0, 1.0]]]))
    (array([[[-1., -1., -1.]]]), array([[[1., 2., 3.]]]))
    """
    op = "conv_jvp"
    full = with_defaults(op, options, ("dx", "dw", "bias", "dbias"))
    values = {"x": operand(op, "x", x), "w": operand(op, "w", w)}
    if bias is not None:
        values["bias"] = operand(op, "bias", bias)
    tangents = {}
    for name, of, tangent in (("dx", "x", dx), ("dw", "w", dw), ("dbias", "bias", dbias)):
        if tangent is None:
            continue
        array = operand(op, name, tangent)
        if of not in values or array.shape != values[of].shape:
            expected = values[of].shape if of in values else "no tangent without a bias"
            raise ValueError(f"{op}: {name}.shape is {array.shape}, expected {expected}")
        tangents[of] = array
    y = run_conv(op, None, values["x"], values["w"], values.get("bias"), None, full)
    dy = np.zeros_like(y)
    if "x" in tangents:  # a constant border does not move with x
        still = full | ({"padding_mode": "zeros", "padding_value": 0} if full["padding_mode"] == "constant" else {})
        dy = dy + run_conv(op, None, tangents["x"], values["w"], None, None, still)
    if "w" in tangents:
        dy = dy + run_conv(op, None, values["x"], tangents["w"], None, None, full)
    if "bias" in tangents:
        p = read(op, values["x"].shape, values["w"].shape, full)
        shape = [1] * y.ndim
        shape[p.x_layout.order[p.x_layout.batch_axes]] = p.geometry.out_channels
        dy = dy + tangents["bias"].reshape(shape)
    return y, dy.astype(y.dtype, copy=False)


@operation
def explain(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    *,
    dtype: Any = "float32",
    direction: str = "forward",
    measure: bool = False,
    **options: Unpack[ConvOptions],
) -> dispatch.Explanation:
    """What `conv` would do with operands of these shapes, and why: print the result.

    Parameters
    ----------
    x_shape, w_shape : tuple of int
        Shapes in the layout given.
    dtype : dtype_like
        Of both operands.
    direction : {"forward", "input_grad", "weight_grad"}
        Which pass.
    measure : bool
        Also run every algorithm that can, on random data, and report the least time of three in seconds.
    **options
        The keywords of `npconv.conv`.

    Returns
    -------
    Explanation
        ``choice`` is the name of the algorithm; ``candidates`` holds for each registered one the verdict, flops, bytes
        moved, bytes of workspace, the error bound, and seconds estimated and measured.

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.conv`.

    Examples
    --------
    >>> import npconv
    >>> npconv.explain((1, 64, 56, 56), (64, 64, 1, 1)).choice
    'gemm'
    """
    op = "explain"
    full = with_defaults(op, options, ("dtype", "direction", "measure"))
    p = read(op, shape_of(op, "x_shape", x_shape), shape_of(op, "w_shape", w_shape), full)
    sample = operand(op, "dtype", np.empty(0, dtype))
    dtypes = common_dtypes(op, {"x": sample.dtype, "w": sample.dtype})
    request = p.request(dtypes, choice(op, "direction", direction, DIRECTIONS))
    return dispatch.explain(op, p.geometry, request, flag(op, "measure", measure))
