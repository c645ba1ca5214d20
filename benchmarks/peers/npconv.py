"""npconv, channels first and last; prepared means a plan and `out=`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

import npconv

from ..rows import Row
from . import Call, Candidate, Operands, channels_last, kernel_last


def setup(threads: int) -> None:
    if hasattr(npconv, "set_num_threads"):  # NumPy's own threads are set by the environment
        npconv.set_num_threads(threads)


def version() -> str:
    return f"{npconv.__version__} (NumPy {np.__version__})"


def to_numpy(result: Any) -> np.ndarray:
    return result


def candidates(row: Row, direction: str, arrays: Operands) -> Iterator[Candidate]:
    make = pool_call if row.pool else conv_call
    for layout in ("channels_first", "channels_last"):
        for kind in ("functional", "prepared") if direction == "forward" else ("functional",):
            yield Candidate(layout, kind, partial(make, row, direction, arrays, layout, kind))


def conv_call(row: Row, direction: str, arrays: Operands, layout: str, kind: str) -> Call:
    x, w, g = arrays
    if layout == "channels_last":
        x, w, g = channels_last(x), kernel_last(w), channels_last(g)
    how: dict[str, Any] = {
        "stride": row.stride,
        "padding": row.padding,
        "dilation": row.dilation,
        "groups": row.groups,
        "layout": layout,
    }
    suffix = "_transpose" if row.operator == "conv_transpose" else ""
    if direction == "input_grad":
        return partial(getattr(npconv, f"conv{suffix}_input_grad"), g, w, input_shape=x.shape, **how)
    if direction == "weight_grad":
        return partial(getattr(npconv, f"conv{suffix}_weight_grad"), x, g, kernel_shape=w.shape, **how)
    if kind == "functional":
        return partial(getattr(npconv, f"conv{suffix}"), x, w, **how)
    plan_for = getattr(npconv, f"plan_conv{suffix}", None)
    if plan_for is None:
        raise NotImplementedError(f"there is no plan_conv{suffix}")
    plan = plan_for(x.shape, w, **how)
    return partial(plan, x, out=plan(x))


def pool_call(row: Row, direction: str, arrays: Operands, layout: str, kind: str) -> Call:
    x, _, g = arrays
    if layout == "channels_last":
        x, g = channels_last(x), channels_last(g)
    how: dict[str, Any] = {"layout": layout}
    sizes: tuple[Any, ...] = ()
    if row.operator in ("max_pool", "avg_pool"):
        how |= {"stride": row.stride, "padding": row.padding}
        sizes = (row.kernel,)
    elif row.operator == "adaptive_avg_pool":
        sizes = (row.kernel,)
    forward = partial(getattr(npconv, row.operator), x, *sizes, **how)
    if direction == "forward":
        return forward if kind == "functional" else partial(forward, out=forward())
    backward = getattr(npconv, f"{row.operator}_grad")
    if row.operator != "max_pool":
        return partial(backward, g, x.shape, *sizes, **how)
    indices = forward(return_indices=True)[1]  # a training step has them from its forward pass, in torch too
    return partial(backward, g, x, *sizes, indices=indices, **how)
