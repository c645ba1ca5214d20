"""What follows the sum of products: a look for NaN."""

from __future__ import annotations

import numpy as np


def all_finite(array: np.ndarray) -> bool:
    """Whether no element is NaN or infinite; the sum tells in one pass unless it overflows itself."""
    return bool(np.isfinite(array.sum())) or bool(np.isfinite(array).all())
