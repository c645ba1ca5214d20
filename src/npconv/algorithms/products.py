"""Matrix products whose sums keep the strict error bound, however long they are."""

from __future__ import annotations

import numpy as np

#: Products shorter than this keep 32 u S however the library adds them up (measured: 0.4 u sqrt(n) on positive data).
LONGEST_SUM = 512
#: Multiply-adds above which BLAS surely blocks the sums itself; small products it may add up in one go.
BLOCKED_ABOVE = 1 << 23


def product(a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """`a @ b`, long sums of small products split and added in order."""
    terms = a.shape[-1]
    if terms <= LONGEST_SUM or a.shape[-2] * terms * b.shape[-1] > BLOCKED_ABOVE:
        return np.matmul(a, b, out=out) if out is not None else a @ b
    whole = (
        np.matmul(a[..., :LONGEST_SUM], b[..., :LONGEST_SUM, :], out=out)
        if out is not None
        else (a[..., :LONGEST_SUM] @ b[..., :LONGEST_SUM, :])
    )
    for i in range(LONGEST_SUM, terms, LONGEST_SUM):
        whole += a[..., i : i + LONGEST_SUM] @ b[..., i : i + LONGEST_SUM, :]
    return whole
