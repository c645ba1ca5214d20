"""Local (unshared) convolution: a kernel of its own for every output position."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from .arguments import common_dtypes, operand, operation
from .layouts import channels_are_last
from .local_problem import grouped, local_compute, read_local
from .memory import output
from .problem import ConvProblem
from .windows import pad_geometry, tap_slice

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]


@operation
def local_conv(
    x: ArrayLike,
    w: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    layout: str = "channels_first",
    out: Array | None = None,
) -> Array:
    """Convolve with weights that differ from position to position (locally connected, unshared).

        (N, C, *in) * (O, C/G, *k, *out) -> (N, O, *out)

    Parameters
    ----------
    x : array_like
        (*batch, C, *in).
    w : array_like
        (O, C/G, *k, *out); with the channels last (*out, *k, C/G, O).
    bias : array_like, optional
        (O,), or one per output: (O, *out), with the channels last (*out, O).
    stride, padding, dilation, groups, layout, out
        As in `npconv.conv`.

    Returns
    -------
    ndarray
        In x's layout.

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.conv`; also if w's trailing axes are not the output sizes.

    Notes
    -----
    Gregor and LeCun (2010), "Emergence of complex-like cells in a temporal product network with local receptive fields",
    arXiv:1006.0448.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> w = np.array([[[[1.0, 10.0]]]])                    # one tap, two output positions
    >>> npconv.local_conv(np.array([[[3.0, 4.0]]]), w)
    array([[[ 3., 40.]]])
    """
    op = "local_conv"
    operands = {"x": operand(op, "x", x), "w": operand(op, "w", w)}
    p, order = read_local(op, operands["x"], operands["w"].shape, stride, padding, dilation, groups, layout)
    if bias is not None:
        operands["bias"] = operand(op, "bias", bias)
    offset = _bias(op, operands.get("bias"), p, channels_are_last(layout))
    dtypes = common_dtypes(op, {name: a.dtype for name, a in operands.items()})
    y = output(op, out, p.y_shape, dtypes.result, operands)
    compute = local_compute(op, dtypes, operands, p.geometry.terms)
    (xs, ws), _ = p.settled(operands["x"], operands["w"])
    xs = pad_geometry(p.x_layout.canonical(xs), p.geometry, compute)
    total_y = np.zeros(p.geometry.y_shape, compute)
    xg, wg, yg = grouped(p.geometry, xs, ws.transpose(order).astype(compute), total_y)
    with np.errstate(all="ignore"):
        for tap in product(*map(range, p.geometry.kernel)):
            seen = xg[tap_slice(tap, p.geometry.out_shape, p.geometry.stride, p.geometry.dilation)]
            yg += np.einsum("ngc...,goc...->ngo...", seen, wg[(slice(None),) * 3 + tap])
        if offset is not None:
            total_y += offset.astype(compute)
        p.x_layout.canonical(y)[...] = total_y
    return y


def _bias(op: str, bias: Array | None, p: ConvProblem, last: bool) -> Array | None:
    """The bias as an array that broadcasts to (N, O, *out)."""
    if bias is None:
        return None
    channels, out = p.geometry.out_channels, p.geometry.out_shape
    if bias.shape == (channels,):
        return bias.reshape(channels, *(1,) * p.geometry.rank)
    full = (*out, channels) if last else (channels, *out)
    if bias.shape != full:
        raise ValueError(f"{op}: bias.shape is {bias.shape}, expected ({channels},) or {full}")
    return np.moveaxis(bias, -1, 0) if last else bias
