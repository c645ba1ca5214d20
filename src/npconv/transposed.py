"""Transposed convolution: the adjoint of `conv` with the very same weights.

Its output size is the convolution's input size, which several values share when the stride exceeds 1; `output_padding` or
`output_size` chooses. Everything else is `conv` read backwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import express
from .arguments import common_dtypes, operand, operation
from .conv_arguments import check_bias
from .memory import output
from .transposed_problem import read_transpose

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]


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
    key = express.key_of(op, rank, options, None, x, w) if bias is None and out is None else None
    done = express.served(key, x, w)
    if done is not None:
        return done
    operands = {"x": operand(op, "x", x), "w": operand(op, "w", w)}
    if bias is not None:
        operands["bias"] = operand(op, "bias", bias)
    p = read_transpose(op, operands["x"].shape, operands["w"].shape, options, rank)
    if bias is not None:
        check_bias(op, operands["bias"], p.geometry.in_channels)
    dtypes = common_dtypes(op, {name: a.dtype for name, a in operands.items()})
    y = output(op, out, p.x_shape, dtypes.result, operands)
    p.input_grad(operands["x"], operands["w"], dtypes, y, adjoint=False, bias=operands.get("bias"))
    express.remember(key, lambda: p.lane("input_grad", dtypes, operands["x"], operands["w"], y))
    return y
