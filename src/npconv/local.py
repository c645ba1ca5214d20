"""Local (unshared) convolution: a kernel of its own for every output position."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .arguments import (
    Dtypes,
    common_dtypes,
    flag,
    integer_compute,
    largest_magnitude,
    operand,
    operation,
    output,
)
from .geometry import ConvGeometry, Ints, total
from .gradients import bias_grad
from .layouts import channels_are_last
from .problem import DEFAULTS, ConvProblem, read
from .windows import pad, pad_geometry, tap_slice

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]


class LocalGrads(NamedTuple):
    """Gradients of the operands of a local convolution; `bias` is None when it was not asked for."""

    x: Array
    w: Array
    bias: Array | None


class _Local(NamedTuple):
    """A local convolution's problem: the ordinary one of the same sizes, and where w's axes lie."""

    problem: ConvProblem
    order: Ints  # of w's axes: O, I, *k, *out


def _read(op: str, x: Array, w_shape: Ints, stride: Any, padding: Any, dilation: Any, groups: int, layout: str) -> _Local:
    if not isinstance(layout, str):
        raise TypeError(f"{op}: layout must be a string, got {layout!r} of type {type(layout).__name__}")
    last = channels_are_last(layout)
    needed = "(*out, *k, C/groups, O)" if last else "(O, C/groups, *k, *out)"
    ndim = len(w_shape)
    if ndim < 2 or ndim % 2:
        raise ValueError(f"{op}: w.shape is {w_shape}, expected {needed}: an even number of axes")
    rank = (ndim - 2) // 2
    order = (
        (ndim - 1, ndim - 2, *range(rank, 2 * rank), *range(rank)) if last else tuple(range(ndim))
    )
    canonical = tuple(w_shape[a] for a in order)
    shared = canonical[: 2 + rank]
    if last:
        shared = (*shared[2:], shared[1], shared[0])
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "layout": layout}
    p = read(op, x.shape, shared, DEFAULTS | options)
    if canonical[2 + rank :] != p.geometry.out_shape:
        raise ValueError(
            f"{op}: w.shape is {w_shape}, expected {needed} with out = {p.geometry.out_shape}, got {canonical[2 + rank :]}"
        )
    return _Local(p, order)


def _grouped(geometry: ConvGeometry, x: Array, w: Array, y: Array) -> tuple[Array, Array, Array]:
    """x (N, G, C/G, ...), w (G, O/G, C/G, ...), y (N, G, O/G, ...)."""
    group = geometry.groups
    return (
        x.reshape(x.shape[0], group, x.shape[1] // group, *x.shape[2:]),
        w.reshape(group, w.shape[0] // group, *w.shape[1:]),
        y.reshape(y.shape[0], group, y.shape[1] // group, *y.shape[2:]),
    )


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
    p, order = _read(op, operands["x"], operands["w"].shape, stride, padding, dilation, groups, layout)
    if bias is not None:
        operands["bias"] = operand(op, "bias", bias)
    offset = _bias(op, operands.get("bias"), p, channels_are_last(layout))
    dtypes = common_dtypes(op, {name: a.dtype for name, a in operands.items()})
    y = output(op, out, p.y_shape, dtypes.result, operands)
    compute = _compute(op, dtypes, operands, p.geometry.terms)
    xs = pad_geometry(p.x_layout.canonical(operands["x"]), p.geometry, compute)
    total_y = np.zeros(p.geometry.y_shape, compute)
    xg, wg, yg = _grouped(p.geometry, xs, operands["w"].transpose(order).astype(compute), total_y)
    with np.errstate(all="ignore"):
        for tap in product(*map(range, p.geometry.kernel)):
            seen = xg[tap_slice(tap, p.geometry.out_shape, p.geometry.stride, p.geometry.dilation)]
            yg += np.einsum("ngc...,goc...->ngo...", seen, wg[(slice(None),) * 3 + tap])
        if offset is not None:
            total_y += offset.astype(compute)
        p.x_layout.canonical(y)[...] = total_y
    return y


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
    p, order = _read(op, operands["x"], operands["w"].shape, stride, padding, dilation, groups, layout)
    geometry, gs = p.geometry, operands["g"]
    if gs.shape != p.y_shape:
        raise ValueError(f"{op}: g.shape is {gs.shape}, expected {p.y_shape}, the shape of the forward call's output")
    dtypes = common_dtypes(op, {name: a.dtype for name, a in operands.items()})
    terms = max(geometry.taps * (geometry.out_channels // geometry.groups), geometry.batch * total(geometry.out_shape))
    compute = _compute(op, dtypes, operands, terms)
    gc = p.x_layout.canonical(gs).astype(compute)
    xs = pad_geometry(p.x_layout.canonical(operands["x"]), geometry, compute).conj()
    wc = operands["w"].transpose(order).astype(compute).conj()
    dxs, dw = np.zeros(xs.shape, compute), np.empty(wc.shape, compute)
    xg, wg, yg = _grouped(geometry, xs, wc, gc)
    dxg, dwg, _ = _grouped(geometry, dxs, dw, gc)
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


def _compute(op: str, dtypes: Dtypes, operands: dict[str, Array], terms: int) -> np.dtype:
    """The compute dtype; exact integers need a bound on the sums."""
    if not dtypes.exact:
        return dtypes.compute
    largest = sorted((largest_magnitude(a) for a in operands.values()), reverse=True)
    integer_compute(op, largest[0] * max(1, largest[1]) * terms + largest[0])
    return np.dtype(np.int64)


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
