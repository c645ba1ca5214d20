"""Pooling over windows: the maximum, the average, the p-norm. Their gradients are in `pooling_grads`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .arguments import choice, flag, operation
from .indices import SPACES
from .memory import output
from .pool_passes import divisors, maxima, maxima_and_indices, means, norms, read_power
from .pool_problem import float_dtype, read_pool, real_operand

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]


@operation
def max_pool(
    x: ArrayLike,
    kernel: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    cover_all: bool = False,
    return_indices: bool = False,
    indices: str = "plane",
    layout: str = "channels_first",
    out: Array | None = None,
) -> Any:  # a union would make every caller unpack a type that `return_indices` already tells
    """Slide a window over every channel of `x` and keep the largest value.

        (N, C, *in) -> (N, C, *out)       out = (in + lo + hi - dilation (k - 1) - 1) // stride + 1

    Parameters
    ----------
    x : array_like
        (*batch, C, *in), real. A tuple `kernel` tells the rank, else letters, else the number of axes.
    kernel : int or sequence of int
        Window size.
    stride : int or sequence of int, optional
        Step between windows; the kernel by default.
    padding : int, sequence of int, sequence of (lo, hi), or str
        The grammar of `npconv.conv`. Padding never wins (rule R14) and is smaller than the effective kernel.
    dilation : int or sequence of int
        Step between the taps of a window.
    ceil_mode : bool
        Round the output size up, but drop a window that would start in the high padding (R3: torch, ONNX).
    cover_all : bool
        Round it up and drop nothing (Chainer).
    return_indices : bool
        Also return where each maximum is: of equal ones the first, and the first NaN of all (rule R15).
    indices : {"plane", "onnx", "onnx_column_major", "tf", "tf_batch"}
        What an index counts (rule R16): in the unpadded plane as torch, or as ONNX or TensorFlow do.
    layout : str
        "channels_first", "channels_last", or letters such as "NCHW" and "HWC".
    out : ndarray, optional
        C-contiguous array of the result's shape and dtype to write the maxima into.

    Returns
    -------
    ndarray or (ndarray, ndarray)
        The maxima, of x's dtype and layout; with `return_indices` also int64 indices.

    Raises
    ------
    ValueError
        A value or shape is out of range, or a window reads no input at all.
    TypeError
        An argument is of the wrong kind, or x is bool or complex.
    MemoryLimitError
        The output cannot fit.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> npconv.max_pool(np.arange(16.0).reshape(1, 1, 4, 4), 2)[0, 0]
    array([[ 5.,  7.],
           [13., 15.]])
    >>> npconv.max_pool(np.array([[[1.0, 3.0, 3.0, 2.0]]]), (2,), return_indices=True)
    (array([[[3., 3.]]]), array([[[1, 2]]]))
    """
    options = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "ceil_mode": ceil_mode,
        "cover_all": cover_all,
        "layout": layout,
    }
    return run_max_pool("max_pool", None, x, kernel, options, return_indices, indices, out)


def run_max_pool(
    op: str,
    rank: int | None,
    x: Any,
    kernel: Any,
    options: dict[str, Any],
    return_indices: Any = False,
    indices: Any = "plane",
    out: Array | None = None,
) -> Any:
    """`max_pool` under the name `op`, its rank fixed or free; the door of max_pool2d and its relatives."""
    x = real_operand(op, "x", x)
    p = read_pool(op, x.shape, kernel, options, rank)
    wanted, space = flag(op, "return_indices", return_indices), choice(op, "indices", indices, SPACES)
    return maxima_and_indices(p, x, space, out) if wanted else maxima(p, x, out)


@operation
def avg_pool(
    x: ArrayLike,
    kernel: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    cover_all: bool = False,
    count_include_pad: bool = True,
    divisor: int | None = None,
    layout: str = "channels_first",
    out: Array | None = None,
) -> Array:
    """Slide a window over every channel of `x` and take the mean.

        (N, C, *in) -> (N, C, *out)       out = (in + lo + hi - dilation (k - 1) - 1) // stride + 1

    Parameters
    ----------
    x, kernel, stride, padding, dilation, ceil_mode, cover_all, layout, out
        As for `npconv.max_pool`; padding counts as zeros.
    count_include_pad : bool
        What the sum is divided by (rule R13): the taps inside the padded input, without the overhang that
        rounding up adds (True, torch's default), or the taps that read an input (False, TensorFlow and ONNX).
    divisor : int, optional
        Divide by this instead.

    Returns
    -------
    ndarray
        In x's layout and dtype; float64 for integers. A window that counts nothing gives 0.

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.max_pool`; also if `divisor` is below 1.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> npconv.avg_pool(np.arange(16.0).reshape(1, 1, 4, 4), 2)[0, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]])
    >>> npconv.avg_pool(np.ones((1, 1, 4)), (2,), padding=1, count_include_pad=False)
    array([[[1., 1., 1.]]])
    """
    options = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "ceil_mode": ceil_mode,
        "cover_all": cover_all,
        "layout": layout,
    }
    return run_avg_pool("avg_pool", None, x, kernel, options, count_include_pad, divisor, out)


def run_avg_pool(
    op: str,
    rank: int | None,
    x: Any,
    kernel: Any,
    options: dict[str, Any],
    count_include_pad: Any = True,
    divisor: Any = None,
    out: Array | None = None,
) -> Array:
    """`avg_pool` under the name `op`, its rank fixed or free; the door of avg_pool2d and its relatives."""
    x = real_operand(op, "x", x)
    p = read_pool(op, x.shape, kernel, options, rank)
    return means(p, x, divisors(p, count_include_pad, divisor), out)


@operation
def lp_pool(
    x: ArrayLike,
    kernel: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    p: float = 2.0,
    ceil_mode: bool = False,
    cover_all: bool = False,
    layout: str = "channels_first",
    out: Array | None = None,
) -> Array:
    """Slide a window over every channel of `x` and take the p-norm (rule R18).

        y[n, c, o] = (sum over the window of |x|^p)^(1/p)

    Parameters
    ----------
    x, kernel, stride, padding, dilation, ceil_mode, cover_all, layout, out
        As for `npconv.max_pool`; padding counts as zeros.
    p : float
        Above 0; `inf` gives the largest |x|.

    Returns
    -------
    ndarray
        In x's layout and dtype; float64 for integers. A window that reads nothing gives 0.

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.max_pool`; also if `p` is not above 0.

    Notes
    -----
    Powers are summed in float64. Where they leave its range, the window is divided by its largest |x| first.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> npconv.lp_pool(np.array([[[-3.0, 4.0, -1.0, 0.0]]]), (2,))
    array([[[5., 1.]]])
    """
    options = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "ceil_mode": ceil_mode,
        "cover_all": cover_all,
        "layout": layout,
    }
    op = "lp_pool"
    x = real_operand(op, "x", x)
    problem, power = read_pool(op, x.shape, kernel, options), read_power(op, p)
    y = output(op, out, problem.y_shape, float_dtype(x.dtype), {"x": x})
    with np.errstate(all="ignore"):
        problem.layout.canonical(y)[...] = norms(problem, problem.layout.canonical(x), power)
    return y
