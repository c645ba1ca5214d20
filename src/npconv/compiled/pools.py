"""Pooling as machine code (family "pools"): maxima, means and their gradients, lanes being pixels or channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import (
    pools_first,
    pools_first_back,
    pools_first_winners,
    pools_last,
    pools_last_back,
    pools_last_tiled,
    pools_last_winners,
    pools_places,
    pools_whole,
)
from .target import Target

MODULES = (
    pools_first, pools_first_winners, pools_first_back,
    pools_last, pools_last_winners, pools_last_back, pools_last_tiled,
    pools_whole, pools_places,
)  # fmt: skip


def kernels(dtype: str, target: Target) -> dict[str, Callable[..., Any]]:
    """The kernels of one element type."""
    return {name: kernel for module in MODULES for name, kernel in module.kernels(dtype, target).items()}
