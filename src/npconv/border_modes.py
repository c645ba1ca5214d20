"""What lies beyond an image's border, under the names of NumPy, SciPy, OpenCV and torch (rule R20)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

_OURS = ("zeros", "constant", "reflect", "symmetric", "replicate", "circular")
_THEIRS = {
    "numpy": {
        "constant": "constant",
        "edge": "replicate",
        "reflect": "reflect",
        "symmetric": "symmetric",
        "wrap": "circular",
    },
    "scipy": {
        "constant": "constant",
        "grid-constant": "constant",
        "nearest": "replicate",
        "mirror": "reflect",
        "reflect": "symmetric",
        "grid-mirror": "symmetric",
        "wrap": "circular",
        "grid-wrap": "circular",
    },
    "opencv": {
        "constant": "constant",
        "replicate": "replicate",
        "reflect": "symmetric",
        "reflect_101": "reflect",
        "default": "reflect",
        "wrap": "circular",
    },
    "torch": {
        "zeros": "zeros",
        "constant": "constant",
        "reflect": "reflect",
        "replicate": "replicate",
        "circular": "circular",
    },
}

#: Every name that `mode=` takes, and which of ours it means.
modes: Mapping[str, str] = MappingProxyType(
    {
        **{name: name for name in _OURS},
        **{f"{library}.{name}": ours for library, names in _THEIRS.items() for name, ours in names.items()},
    }
)


def source_positions(size: int, lo: int, hi: int, mode: str) -> np.ndarray:
    """Which input each padded position copies, for one axis and any amount of padding (rule R20)."""
    position = np.arange(-lo, size + hi)
    if mode == "replicate" or size == 1:
        return position.clip(0, size - 1)
    if mode == "circular":
        return position % size
    if mode == "symmetric":
        position = position % (2 * size)
        return np.minimum(position, 2 * size - 1 - position)
    position = position % (2 * size - 2)  # reflect
    return np.minimum(position, 2 * size - 2 - position)
