"""What lies beyond an image's border, under the names of NumPy, SciPy, OpenCV and torch (rule R20)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

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
