"""Separable convolution: depthwise in space, then pointwise over channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

from .arguments import operand, operation
from .convolution import conv
from .depthwise import DepthwiseOptions, depthwise_conv, depthwise_conv_grads
from .gradients import conv_grads

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]


class SeparableGrads(NamedTuple):
    """Gradients of the operands of a separable convolution; `bias` is None when it was not asked for."""

    x: Array
    depthwise: Array
    pointwise: Array
    bias: Array | None


@operation
def separable_conv(
    x: ArrayLike,
    w_depthwise: ArrayLike,
    w_pointwise: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    out: Array | None = None,
    **options: Unpack[DepthwiseOptions],
) -> Array:
    """A depthwise convolution in space, then a pointwise one over channels.

        (N, C, *in) * (C m, 1, *k) -> (N, C m, *out) * (O, C m, *1) -> (N, O, *out)

    Parameters
    ----------
    x, w_depthwise : array_like
        As in `npconv.depthwise_conv`.
    w_pointwise : array_like
        (O, C m, 1, ...), with the channels last (1, ..., C m, O).
    bias : array_like, optional
        (O,).
    out : ndarray, optional
        C-contiguous array to write into.
    **options
        The keywords of `npconv.depthwise_conv`; stride, padding and dilation belong to its part.

    Returns
    -------
    ndarray
        In x's layout.

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.conv`.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> x = np.array([[[1.0, 2.0], [3.0, 4.0]]])
    >>> npconv.separable_conv(x, np.array([[[10.0]], [[100.0]]]), np.array([[[1.0], [1.0]]]))
    array([[[310., 420.]]])
    """
    op = "separable_conv"
    between = depthwise_conv(operand(op, "x", x), operand(op, "w_depthwise", w_depthwise), **options)
    return conv(between, w_pointwise, bias, out=out, **_pointwise(options))


@operation
def separable_conv_grads(
    g: ArrayLike,
    x: ArrayLike,
    w_depthwise: ArrayLike,
    w_pointwise: ArrayLike,
    *,
    bias: bool = True,
    **options: Unpack[DepthwiseOptions],
) -> SeparableGrads:
    """All gradients of `separable_conv`; the tensor between the two parts is computed again.

    Parameters
    ----------
    g, x, w_depthwise, w_pointwise : array_like
        Gradient of the output, and the operands of the forward call.
    bias : bool
        Whether to return the bias gradient.
    **options
        The keywords of the forward call.

    Returns
    -------
    SeparableGrads
        Named tuple (x, depthwise, pointwise, bias).

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.separable_conv`.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> x, wd, wp = np.ones((1, 2, 3)), np.ones((2, 1, 2)), np.ones((1, 2, 1))
    >>> npconv.separable_conv_grads(np.ones((1, 1, 2)), x, wd, wp).x
    array([[[1., 2., 1.],
            [1., 2., 1.]]])
    """
    op = "separable_conv_grads"
    x, w = operand(op, "x", x), operand(op, "w_depthwise", w_depthwise)
    between = depthwise_conv(x, w, **options)
    point = conv_grads(g, between, w_pointwise, bias=bias, **_pointwise(options))
    depth = depthwise_conv_grads(point.x, x, w, bias=False, **options)
    return SeparableGrads(depth.x, depth.w, point.w, point.bias)


def _pointwise(options: DepthwiseOptions) -> dict[str, Any]:
    """What of the options also holds for the pointwise part."""
    return {
        k: v
        for k, v in options.items()
        if k in ("layout", "algorithm", "accuracy", "max_workspace") and v != "depthwise"
    }
