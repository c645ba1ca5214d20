"""Convolution itself: the door through which conv, conv1d, conv2d and conv3d pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import express
from .arguments import common_dtypes, operand, operation
from .conv_arguments import check_bias, read
from .memory import output

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]


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
        With u the unit roundoff, S the sum of |x||w| over a window and R the sum over channels of max|x| times the sum
        of |w|: strict keeps |err| <= 32 u S for every output (single precision is added up in double), standard
        128 u R, fast the chosen algorithm's own bound. The documentation's page on accuracy has the measurements.
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


def run_conv(op: str, rank: int | None, x: Any, w: Any, bias: Any, out: Array | None, options: dict[str, Any]) -> Array:
    """`conv` under the name `op`, its rank fixed or free; the door that conv1d and its relatives share."""
    key = express.key_of(op, rank, options, None, x, w) if bias is None and out is None else None
    done = express.served(key, x, w)
    if done is not None:
        return done
    operands = {"x": operand(op, "x", x), "w": operand(op, "w", w)}
    if bias is not None:
        operands["bias"] = operand(op, "bias", bias)
    p = read(op, operands["x"].shape, operands["w"].shape, options, rank)
    if bias is not None:
        check_bias(op, operands["bias"], p.geometry.out_channels)
    dtypes = common_dtypes(op, {name: a.dtype for name, a in operands.items()})
    y = output(op, out, p.y_shape, dtypes.result, operands)
    p.forward(operands["x"], operands["w"], operands.get("bias"), dtypes, y)
    express.remember(key, lambda: p.lane("forward", dtypes, operands["x"], operands["w"], y))
    return y
