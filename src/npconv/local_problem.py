"""What local convolution and its gradients share: the ordinary problem of the same sizes, and where w's axes lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .arguments import Dtypes, integer_compute, largest_magnitude
from .conv_arguments import DEFAULTS, read
from .geometry import ConvGeometry, Ints, total
from .layouts import channels_are_last
from .memory import check_memory
from .problem import ConvProblem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


class LocalProblem(NamedTuple):
    """A local convolution's problem: the ordinary one of the same sizes, and where w's axes lie."""

    problem: ConvProblem
    order: Ints  # of w's axes: O, I, *k, *out


def read_local(
    op: str, x: Array, w_shape: Ints, stride: Any, padding: Any, dilation: Any, groups: int, layout: str
) -> LocalProblem:
    if not isinstance(layout, str):
        raise TypeError(f"{op}: layout must be a string, got {layout!r} of type {type(layout).__name__}")
    last = channels_are_last(layout)
    needed = "(*out, *k, C/groups, O)" if last else "(O, C/groups, *k, *out)"
    ndim = len(w_shape)
    if ndim < 2 or ndim % 2:
        raise ValueError(f"{op}: w.shape is {w_shape}, expected {needed}: an even number of axes")
    rank = (ndim - 2) // 2
    order = (ndim - 1, ndim - 2, *range(rank, 2 * rank), *range(rank)) if last else tuple(range(ndim))
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
    g = p.geometry
    check_memory(op, 8 * g.batch * g.in_channels * total(g.padded_shape), f"an x padded to {g.padded_shape}")
    return LocalProblem(p, order)


def grouped(geometry: ConvGeometry, x: Array, w: Array, y: Array) -> tuple[Array, Array, Array]:
    """x (N, G, C/G, ...), w (G, O/G, C/G, ...), y (N, G, O/G, ...)."""
    group = geometry.groups
    return (
        x.reshape(x.shape[0], group, x.shape[1] // group, *x.shape[2:]),
        w.reshape(group, w.shape[0] // group, *w.shape[1:]),
        y.reshape(y.shape[0], group, y.shape[1] // group, *y.shape[2:]),
    )


def local_compute(op: str, dtypes: Dtypes, operands: dict[str, Array], terms: int) -> np.dtype:
    """The compute dtype; exact integers need a bound on the sums."""
    if not dtypes.exact:
        return dtypes.compute
    largest = sorted((largest_magnitude(a) for a in operands.values()), reverse=True)
    integer_compute(op, largest[0] * max(1, largest[1]) * terms + largest[0])
    return np.dtype(np.int64)
