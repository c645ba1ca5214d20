"""Pooling as machine code (family "pools"): maxima, means and their gradients, lanes being pixels or channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..target import Target
from . import first, first_back, first_winners, last, last_back, last_tiled, last_winners, places, whole

MODULES = (
    first, first_winners, first_back,
    last, last_winners, last_back, last_tiled,
    whole, places,
)  # fmt: skip


def kernels(dtype: str, target: Target) -> dict[str, Callable[..., Any]]:
    """The kernels of one element type."""
    return {name: kernel for module in MODULES for name, kernel in module.kernels(dtype, target).items()}
