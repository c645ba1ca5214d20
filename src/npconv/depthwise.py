"""Depthwise convolution, with the kernel order of TensorFlow and Keras as well as torch's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from .arguments import operand, operation
from .conv_arguments import with_defaults
from .convolution import run_conv
from .gradients import ConvGrads, run_grads
from .layouts import channels_are_last

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]


class DepthwiseOptions(TypedDict, total=False):
    """The keywords of `npconv.conv` that depthwise convolution shares; it decides the groups itself."""

    stride: Any
    padding: Any
    dilation: Any
    padding_mode: str
    padding_value: Any
    flip: bool
    layout: str
    algorithm: str
    accuracy: str
    max_workspace: int | None


def _as_conv(op: str, x: Array, w: Array, options: DepthwiseOptions) -> tuple[Array, dict[str, Any]]:
    """The grouped convolution that a depthwise one is: its weights as a view, and its keywords."""
    for key in ("groups", "kernel_layout", "input_dilation"):
        if key in options:
            raise TypeError(f"{op}: unknown keyword {key!r}; depthwise weights and groups follow from x and layout")
    full = with_defaults(op, options)
    layout = full["layout"]
    if not isinstance(layout, str):
        raise TypeError(f"{op}: layout must be a string, got {layout!r} of type {type(layout).__name__}")
    if w.ndim < 2:
        raise ValueError(f"{op}: w.shape is {w.shape}, expected (C * multiplier, 1, *k), or (*k, C, multiplier)")
    if channels_are_last(layout):
        *k, channels, multiplier = w.shape
        w = w.reshape(*k, 1, channels * multiplier)
    else:
        if w.shape[1] != 1:
            raise ValueError(
                f"{op}: w.shape is {w.shape}, expected (C * multiplier, 1, *k): axis 1 has size {w.shape[1]}"
            )
        channels = _channels(op, x, w.ndim - 2, layout)
        if channels == 0 or w.shape[0] % channels:
            raise ValueError(
                f"{op}: w.shape is {w.shape}, expected (C * multiplier, 1, *k): {w.shape[0]} is no multiple of x's "
                f"{channels} channels"
            )
    return w, full | {"groups": max(1, channels)}


def _channels(op: str, x: Array, rank: int, layout: str) -> int:
    if layout == "channels_first":
        return x.shape[-rank - 1] if x.ndim > rank else 0
    return x.shape[layout.index("C")] if "C" in layout and layout.index("C") < x.ndim else 0


@operation
def depthwise_conv(
    x: ArrayLike,
    w: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    out: Array | None = None,
    **options: Unpack[DepthwiseOptions],
) -> Array:
    """Convolve every channel with kernels of its own; channels do not mix.

        (N, C, *in) * (C m, 1, *k) -> (N, C m, *out)       output channel c m + j is channel c with its j-th kernel

    Parameters
    ----------
    x : array_like
        Input, (*batch, C, *in).
    w : array_like
        (C m, 1, *k) as torch; with the channels last, (*k, C, m) as TensorFlow and Keras.
    bias : array_like, optional
        (C m,).
    out : ndarray, optional
        C-contiguous array to write into.
    **options
        stride, padding, dilation, padding_mode, padding_value, flip, layout, algorithm, accuracy, max_workspace of
        `npconv.conv`.

    Returns
    -------
    ndarray
        In x's layout.

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.conv`; also if w is not depthwise.

    Notes
    -----
    Chollet (2017), "Xception: deep learning with depthwise separable convolutions", arXiv:1610.02357.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> npconv.depthwise_conv(np.array([[[1.0, 2.0], [3.0, 4.0]]]), np.array([[[10.0]], [[100.0]]]))
    array([[[ 10.,  20.],
            [300., 400.]]])
    """
    op = "depthwise_conv"
    x, w = operand(op, "x", x), operand(op, "w", w)
    weights, full = _as_conv(op, x, w, options)
    return run_conv(op, None, x, weights, bias, out, full)


@operation
def depthwise_conv_grads(
    g: ArrayLike, x: ArrayLike, w: ArrayLike, *, bias: bool = True, **options: Unpack[DepthwiseOptions]
) -> ConvGrads:
    """All gradients of `depthwise_conv`: (g, x, w) -> (dx, dw, db), dw in w's order.

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
        As `npconv.depthwise_conv`.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> x, w = np.array([[[1.0, 2.0], [3.0, 4.0]]]), np.array([[[10.0]], [[100.0]]])
    >>> npconv.depthwise_conv_grads(np.ones((1, 2, 2)), x, w).w.ravel()
    array([3., 7.])
    """
    op = "depthwise_conv_grads"
    x, w = operand(op, "x", x), operand(op, "w", w)
    weights, full = _as_conv(op, x, w, options)
    grads = run_grads(op, g, x, weights, bias, full)
    return grads._replace(w=grads.w.reshape(w.shape))
