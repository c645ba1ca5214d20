"""Transposed convolution: the adjoint of `conv` with the very same weights, and its gradients.

Its output size is the convolution's input size, which several values share when the stride exceeds 1; `output_padding` or
`output_size` chooses (rules R9 and R10). Everything else is `conv` read backwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from .arguments import common_dtypes, flag, operand, operation, output, shape_of
from .convolution import ConvGrads, bias_grad, run_weight_grad
from .geometry import (
    LARGEST,
    Ints,
    Pads,
    ceil_div,
    effective_kernel,
    named_pads,
    one_int,
    per_axis,
    resolve_padding,
    transposed_size,
)
from .layouts import input_layout
from .layouts import kernel_layout as read_kernel_layout
from .problem import ConvOptions, ConvProblem, check_bias, check_input_rank, check_rank, read, with_defaults

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]


class TransposeOptions(ConvOptions, total=False):
    """`ConvOptions`, and what chooses among the output sizes."""

    output_padding: Any
    output_size: Any


@operation
def conv_transpose(
    x: ArrayLike,
    w: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    output_size: Any = None,
    dilation: Any = 1,
    groups: int = 1,
    flip: bool = False,
    layout: str = "channels_first",
    kernel_layout: str | None = None,
    algorithm: str = "auto",
    accuracy: str = "standard",
    max_workspace: int | None = None,
    out: Array | None = None,
) -> Array:
    """Spread every element of `x` over the output by the kernel `w`: the adjoint of `conv`.

        (N, C, *in) * (C, O/G, *k) -> (N, O, *out)       out = (in - 1) stride - lo - hi + dilation (k - 1) + 1 + output_padding

    Parameters
    ----------
    x : array_like
        Input, (*batch, C, *in).
    w : array_like
        The weights of the convolution whose adjoint this is, in its kernel layout: (C, O/G, *k) as torch, or for
        channels_last (*k, O/G, C) as TensorFlow and Keras.
    bias : array_like, optional
        (O,).
    stride, dilation, groups, flip, layout, kernel_layout, algorithm, accuracy, max_workspace, out
        As in `npconv.conv`.
    padding : int, sequence of int, sequence of (lo, hi), or str
        What the convolution would have padded; here it is cut off. "same" gives in * stride outputs.
    output_padding : int or sequence of int
        Extra outputs at the end, computed like all others; less than stride or dilation.
    output_size : sequence of int, optional
        The spatial output size, instead of `output_padding`.

    Returns
    -------
    ndarray
        In x's layout. Complex weights are not conjugated: this is the transpose.

    Raises
    ------
    ValueError
        An output size that no output_padding reaches, or any reason that `npconv.conv` has.
    TypeError, MemoryLimitError
        As `npconv.conv`.

    Notes
    -----
    Dumoulin and Visin (2016), "A guide to convolution arithmetic for deep learning", arXiv:1603.07285. No zeros are
    inserted: each residue of the output modulo the stride is a convolution of its own (Shi et al. 2016, arXiv:1609.05158).

    Examples
    --------
    >>> import numpy as np, npconv
    >>> npconv.conv_transpose(np.array([[[1.0, 10.0]]]), np.array([[[1.0, 2.0, 3.0]]]), stride=2)
    array([[[ 1.,  2., 13., 20., 30.]]])
    """
    options: dict[str, Any] = {
        "stride": stride,
        "padding": padding,
        "output_padding": output_padding,
        "output_size": output_size,
        "dilation": dilation,
        "groups": groups,
        "flip": flip,
        "layout": layout,
        "kernel_layout": kernel_layout,
        "algorithm": algorithm,
        "accuracy": accuracy,
        "max_workspace": max_workspace,
    }
    return run_transpose("conv_transpose", None, x, w, bias, out, options)


def run_transpose(
    op: str, rank: int | None, x: Any, w: Any, bias: Any, out: Array | None, options: Mapping[str, Any]
) -> Array:
    """`conv_transpose` under the name `op`, its rank fixed or free."""
    operands = {"x": operand(op, "x", x), "w": operand(op, "w", w)}
    if bias is not None:
        operands["bias"] = operand(op, "bias", bias)
    p = read_transpose(op, operands["x"].shape, operands["w"].shape, options, rank)
    if bias is not None:
        check_bias(op, operands["bias"], p.geometry.in_channels)
    dtypes = common_dtypes(op, {name: a.dtype for name, a in operands.items()})
    y = output(op, out, p.x_shape, dtypes.result, operands)
    p.input_grad(operands["x"], operands["w"], dtypes, y, adjoint=False, bias=operands.get("bias"))
    return y


def read_transpose(
    op: str, x_shape: Ints, w_shape: Ints, options: Mapping[str, Any], rank: int | None = None
) -> ConvProblem:
    """The convolution whose adjoint the call asks for; its input is the call's output."""
    plain = dict(options)
    extra, wanted = plain.pop("output_padding", 0), plain.pop("output_size", None)
    plain = with_defaults(op, plain, ("output_padding", "output_size"))
    exact = rank is not None
    last = plain["layout"] == "channels_last"
    rank = check_rank(op, "w", len(w_shape), w_shape, rank, "(*k, O/groups, C)" if last else "(C, O/groups, *k)")
    check_input_rank(op, "x", x_shape, rank, exact, plain["layout"] not in ("channels_first", "channels_last"))
    x_layout = input_layout(op, plain["layout"], len(x_shape), rank)
    w_layout = read_kernel_layout(op, plain["kernel_layout"], plain["layout"], len(w_shape))
    _, channels, *sizes = x_layout.canonical_shape(x_shape)
    w_channels, per_group, *kernel = w_layout.canonical_shape(w_shape)
    if channels != w_channels:
        raise ValueError(
            f"{op}: x has {channels} channels but w takes {w_channels} (x.shape {x_shape}, w.shape {w_shape}, layout "
            f"{x_layout.name!r}, kernel_layout {w_layout.name!r}); w is that of the convolution whose adjoint this is"
        )
    out_sizes, pads = _sizes(op, tuple(sizes), tuple(kernel), plain, extra, wanted)
    groups = one_int(op, "groups", plain["groups"], 1)
    shape = x_layout.user_shape(x_shape, per_group * groups, out_sizes)
    return read(op, shape, w_shape, plain | {"padding": pads})


def _sizes(
    op: str, sizes: Ints, kernel: Ints, options: Mapping[str, Any], extra: Any, wanted: Any
) -> tuple[Ints, Pads]:
    """The output sizes, and the padding under which a convolution of them has exactly the input's sizes."""
    rank, padding = len(sizes), options["padding"]
    for i, (n, k) in enumerate(zip(sizes, kernel, strict=True)):
        if n < 1:
            raise ValueError(f"{op}: x has no elements on spatial axis {i}, needs at least 1")
        if k < 1:
            raise ValueError(f"{op}: kernel size must be >= 1, got {k} on axis {i} of w")
    stride = per_axis(op, "stride", options["stride"], rank, 1)
    dilation = per_axis(op, "dilation", options["dilation"], rank, 1)
    spans = [effective_kernel(k, d) for k, d in zip(kernel, dilation, strict=True)]
    more = per_axis(op, "output_padding", extra, rank, 0)
    if wanted is not None and any(more):
        raise ValueError(f"{op}: output_size={wanted} and output_padding={extra} exclude each other, give one")
    asked = None if wanted is None else per_axis(op, "output_size", wanted, rank, 0)
    if isinstance(padding, str) and padding in ("same", "same_lower"):
        outs = asked or tuple(n * s for n, s in zip(sizes, stride, strict=True))
        pads = tuple(named_pads(padding, n, e, s) for n, e, s in zip(outs, spans, stride, strict=True))
        for i, (n, size, s) in enumerate(zip(outs, sizes, stride, strict=True)):
            if ceil_div(n, s) != size:
                raise ValueError(
                    f"{op}: output_size {n} on axis {i} is not reachable with padding={padding!r}: "
                    f"ceil(output_size / stride) = ceil({n} / {s}) must be {size}, so {(size - 1) * s + 1}..{size * s}"
                )
        return outs, pads
    pads = resolve_padding(op, padding, sizes, kernel, stride, dilation)
    result, closing = [], []
    for i, (n, (lo, hi), e, s, d, m) in enumerate(zip(sizes, pads, spans, stride, dilation, more, strict=True)):
        least, limit = transposed_size(n, lo, hi, e, s, 0), max(s, d)
        if asked is not None:
            m = asked[i] - least
            if not 0 <= m < limit:
                raise ValueError(
                    f"{op}: output_size {asked[i]} on axis {i} is not reachable: (in - 1) stride - lo - hi + effective "
                    f"kernel = ({n} - 1) * {s} - {lo} - {hi} + {e} = {least}, so {least}..{least + limit - 1}"
                )
        if m >= limit:
            raise ValueError(
                f"{op}: output_padding {m} on axis {i} must be less than max(stride, dilation) = max({s}, {d}) = {limit}"
            )
        if not 1 <= least + m <= LARGEST:
            raise ValueError(
                f"{op}: output size (in - 1) stride - lo - hi + effective kernel + output_padding = ({n} - 1) * {s} - {lo} "
                f"- {hi} + {e} + {m} = {least + m} on axis {i} is not in 1..2^63-1; change padding or stride"
            )
        result.append(least + m)
        closing.append((lo, hi - m))
    return tuple(result), tuple(closing)


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
    g, w = operand(op, "g", g), operand(op, "w", w)
    p = read_transpose(op, shape_of(op, "input_shape", input_shape), w.shape, options)
    return _input_grad(p, g, w, out)


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
    x, g = operand(op, "x", x), operand(op, "g", g)
    p = read_transpose(op, x.shape, shape_of(op, "kernel_shape", kernel_shape), options)
    return _weight_grad(p, x, g, out)


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


def _input_grad(p: ConvProblem, g: Array, w: Array, out: Array | None) -> Array:
    _check_gradient(p, g)
    dtypes = common_dtypes(p.op, {"g": g.dtype, "w": w.dtype})
    dx = output(p.op, out, p.y_shape, dtypes.result, {"g": g, "w": w})
    p.forward(g, w.conj() if w.dtype.kind == "c" else w, None, dtypes, dx)
    return dx


def _weight_grad(p: ConvProblem, x: Array, g: Array, out: Array | None) -> Array:
    _check_gradient(p, g)
    dw = run_weight_grad(p, {"x": g, "g": x}, out)
    return np.conj(dw, out=dw) if dw.dtype.kind == "c" else dw


