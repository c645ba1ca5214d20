"""Pooling as machine code: maxima, means and their gradients, in both layouts (family "pools")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .emit import Vectors
from .pools_lanes import Lanes
from .pools_first import channels_first
from .pools_last import channels_last
from .pools_places import given_places
from .pools_whole import whole_planes
from .target import Target


def kernels(dtype: str, target: Target) -> dict[str, Callable[..., Any]]:
    """The kernels of one element type."""
    lanes = Lanes(Vectors(dtype, target.width))
    return {**channels_last(lanes), **channels_first(lanes), **whole_planes(lanes), **given_places(lanes)}
