"""Forward mode: how the output of a convolution moves with its operands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from .arguments import operand, operation
from .conv_arguments import ConvOptions, read, with_defaults
from .convolution import run_conv

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]


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
