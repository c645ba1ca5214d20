"""Clipping: gradients that are too long together are shortened together, so that one batch cannot undo a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..reading import shown

if TYPE_CHECKING:
    from .layer import Array

#: So many products are summed in float32 at a time.
PIECE = 1 << 17


def clip_gradients(grads: dict[str, Array], limit: float) -> float:
    """Shorten all gradients together so that their common norm is at most `limit`; the norm before.

    The arrays are replaced in the dict, not written to.

    Examples
    --------
    >>> import numpy as np
    >>> from npconv import nn
    >>> grads = {"weight": np.array([3.0]), "bias": np.array([4.0])}
    >>> nn.clip_gradients(grads, 1.0), grads["weight"].round(3).tolist()
    (5.0, [0.6])
    """
    if not limit > 0:
        raise ValueError(f"clip_gradients: limit is {shown(limit)}, needs a number above 0")
    norm = gradient_norm(grads)
    # torch divides by the norm + 1e-6 too, so that a norm just above the limit is not left there by rounding.
    scale = limit / (norm + 1e-6)
    if scale < 1:
        for name, g in grads.items():
            grads[name] = g * g.dtype.type(scale)
    return norm


def gradient_norm(grads: Mapping[str, Array]) -> float:
    """The root of the sum of the squares of all gradients."""
    return float(np.sqrt(sum(square_sum(g) for g in grads.values())))


def square_sum(g: Array) -> float:
    """The sum of squares, in float64 piece by piece."""
    flat = g.reshape(-1) if g.dtype in (np.float32, np.float64) else g.astype(np.float32).reshape(-1)
    # A product of float32 of this length errs by 1e-6 at most, and BLAS makes it in one pass.
    return sum(float(np.dot(part, part)) for part in np.array_split(flat, range(PIECE, flat.size, PIECE)))
