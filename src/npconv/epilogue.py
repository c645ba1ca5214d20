"""What follows the sum of products: bias, activation, and a look for NaN."""

from __future__ import annotations

import numpy as np

from .activations import Activation


def finish(work: np.ndarray, axis: int, bias: np.ndarray | None, activation: Activation | None) -> None:
    """Add one number per index of `axis` to `work`, in C order, then apply the activation, in place."""
    if bias is not None:
        work += bias.reshape(-1, *(1,) * (work.ndim - axis - 1))
    if activation is not None:
        work[...] = activation(work)


def all_finite(array: np.ndarray) -> bool:
    """Whether no element is NaN or infinite; the sum tells in one pass unless it overflows itself."""
    return bool(np.isfinite(array.sum())) or bool(np.isfinite(array).all())
