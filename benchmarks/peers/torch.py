"""torch in both memory formats, without autograd's bookkeeping.

Prepared is oneDNN's reordered weight, called directly: what a frozen `torch.compile` graph calls too. A frozen TorchScript
module was never faster (torch 2.13), so it is not timed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..rows import Row
from . import Call, Candidate, Operands

aten, mkldnn = torch.ops.aten, torch.ops.mkldnn
no_gradients = torch.inference_mode()


def setup(threads: int) -> None:
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    no_gradients.__enter__()  # for the life of the process


def version() -> str:
    return torch.__version__


def to_numpy(result: Any) -> np.ndarray:
    return result.numpy()


def candidates(row: Row, direction: str, arrays: Operands) -> Iterator[Candidate]:
    make = pool_call if row.pool else conv_call
    for layout in ("channels_first", "channels_last"):
        for kind in ("functional", "prepared") if direction == "forward" and not row.pool else ("functional",):
            yield Candidate(layout, kind, partial(make, row, direction, arrays, layout, kind))


def arranged(row: Row, arrays: Operands, layout: str, lift: bool) -> list[torch.Tensor]:
    """x, w and g; `lift` gives them a second spatial axis of size 1, for what exists in two dimensions only."""
    tensors = [torch.from_numpy(a) for a in arrays]
    if lift:
        tensors = [t.unsqueeze(2) if t.ndim else t for t in tensors]
    if layout == "channels_first":
        return tensors
    form = torch.channels_last_3d if row.rank == 3 else torch.channels_last
    return [t.contiguous(memory_format=form) if t.ndim else t for t in tensors]


def options(row: Row, lift: bool) -> tuple[list[int], list[int], list[int]]:
    """Stride, padding, dilation."""
    return [1] * lift + [*row.stride], [0] * lift + [*row.padding], [1] * lift + [*row.dilation]


def conv_call(row: Row, direction: str, arrays: Operands, layout: str, kind: str) -> Call:
    transposed = row.operator == "conv_transpose"
    lift = row.rank == 1 and (layout == "channels_last" or kind == "prepared")  # one dimension has no channels_last
    x, w, g = arranged(row, arrays, layout, lift)
    how = options(row, lift)
    rest = (transposed, [0] * len(how[0]), row.groups)
    if direction != "forward":
        which = ("input_grad", "weight_grad").index(direction)
        mask = [which == 0, which == 1, False]
        return lambda: aten.convolution_backward(g, x, w, None, *how, *rest, mask)[which]
    if kind == "functional":
        return partial(torch.convolution, x, w, None, *how, *rest)
    if row.dtype != "float32":
        raise NotImplementedError("oneDNN has float32 alone")
    stride, padding, dilation = how
    spread = (stride, dilation, row.groups)
    if transposed:
        none = [0] * len(stride)
        packed = mkldnn._reorder_convolution_transpose_weight(w, padding, none, *spread, list(x.shape))
        call = mkldnn._convolution_transpose_pointwise.default
        return partial(call, x, packed, None, padding, none, *spread, "none", [], "")
    packed = mkldnn._reorder_convolution_weight(w, padding, *spread, list(x.shape))
    return partial(mkldnn._convolution_pointwise.default, x, packed, None, padding, *spread, "none", [], "")


def pool_call(row: Row, direction: str, arrays: Operands, layout: str, kind: str) -> Call:
    lift = row.rank == 1 and (layout == "channels_last" or direction != "forward")
    x, _, g = arranged(row, arrays, layout, lift)
    rank = row.rank + lift
    kernel, (stride, padding, dilation) = [1] * lift + [*row.kernel], options(row, lift)
    if row.operator in ("global_avg_pool", "adaptive_avg_pool"):
        size = [1] * rank if row.operator == "global_avg_pool" else kernel
        if direction == "forward":
            return partial(getattr(F, f"adaptive_avg_pool{rank}d"), x, size)
        return partial(getattr(aten, f"_adaptive_avg_pool{rank}d_backward"), g, x)
    if direction == "forward":
        return partial(getattr(F, f"{row.operator}{rank}d"), x, kernel, stride, padding)
    if row.operator == "avg_pool":
        return partial(getattr(aten, f"avg_pool{rank}d_backward"), g, x, kernel, stride, padding, False, True, None)
    with_indices = getattr(aten, f"max_pool{rank}d_with_indices")
    backward = getattr(aten, f"max_pool{rank}d_with_indices_backward")
    indices = with_indices(x, kernel, stride, padding, dilation, False)[1]
    return partial(backward, g, x, kernel, stride, padding, dilation, False, indices)
