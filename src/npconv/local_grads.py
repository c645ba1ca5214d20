"""The gradients of local convolution."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .arguments import common_dtypes, flag, operand, operation
from .geometry import total
from .gradients import bias_grad
from .local_problem import grouped, local_compute, read_local
from .windows import pad, pad_geometry, tap_slice

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]


class LocalGrads(NamedTuple):
    """Gradients of the operands of a local convolution; `bias` is None when it was not asked for."""

    x: Array
    w: Array
    bias: Array | None


@operation
def local_conv_grads(
    g: ArrayLike,
    x: ArrayLike,
    w: ArrayLike,
    *,
    bias: bool = True,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    layout: str = "channels_first",
) -> LocalGrads:
    """All gradients of `local_conv`: (g, x, w) -> (dx, dw, db), db one per output channel.

    Parameters
    ----------
    g, x, w : array_like
        Gradient of the output, input and weights of the forward call. The gradient of a bias per output is g summed
        over the batch.
    bias : bool
        Whether to return the bias gradient.
    stride, padding, dilation, groups, layout
        Those of the forward call.

    Returns
    -------
    LocalGrads
        Named tuple (x, w, bias).

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.local_conv`; also if g does not have the shape of the forward call's output.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> grads = npconv.local_conv_grads(np.ones((1, 1, 2)), np.array([[[3.0, 4.0]]]), np.array([[[[1.0, 10.0]]]]))
    >>> grads.x, grads.w
    (array([[[ 1., 10.]]]), array([[[[3., 4.]]]]))
    """
    op = "local_conv_grads"
    operands = {"g": operand(op, "g", g), "x": operand(op, "x", x), "w": operand(op, "w", w)}
    p, order = read_local(op, operands["x"], operands["w"].shape, stride, padding, dilation, groups, layout)
    geometry, gs = p.geometry, operands["g"]
    if gs.shape != p.y_shape:
        raise ValueError(f"{op}: g.shape is {gs.shape}, expected {p.y_shape}, the shape of the forward call's output")
    dtypes = common_dtypes(op, {name: a.dtype for name, a in operands.items()})
    terms = max(geometry.taps * (geometry.out_channels // geometry.groups), geometry.batch * total(geometry.out_shape))
    compute = local_compute(op, dtypes, operands, terms)
    (gs, xs, ws), _ = p.settled(gs, operands["x"], operands["w"])
    gc = p.x_layout.canonical(gs).astype(compute)
    xs = pad_geometry(p.x_layout.canonical(xs), geometry, compute).conj()
    wc = ws.transpose(order).astype(compute).conj()
    dxs, dw = np.zeros(xs.shape, compute), np.empty(wc.shape, compute)
    xg, wg, yg = grouped(geometry, xs, wc, gc)
    dxg, dwg, _ = grouped(geometry, dxs, dw, gc)
    with np.errstate(all="ignore"):
        for tap in product(*map(range, geometry.kernel)):
            where = tap_slice(tap, geometry.out_shape, geometry.stride, geometry.dilation)
            at = (slice(None),) * 3 + tap
            dxg[where] += np.einsum("ngo...,goc...->ngc...", yg, wg[at])
            dwg[at] = np.einsum("ngo...,ngc...->goc...", yg, xg[where])
        dx, dw_user = np.empty(p.x_shape, dtypes.result), np.empty(operands["w"].shape, dtypes.result)
        p.x_layout.canonical(dx)[...] = pad(dxs, tuple((-lo, -hi) for lo, hi in geometry.padding))
        dw_user.transpose(order)[...] = dw
    return LocalGrads(dx, dw_user, bias_grad(p, gs) if flag(op, "bias", bias) else None)
