"""Seven classic networks, each written with the combinators on one page. Names load their module when first used."""

from __future__ import annotations

from typing import Any

from ...lazy import loaded

#: Where each model lives.
_HOME = {
    "lenet": ("lenet5",),
    "vgg": ("vgg11", "vgg13", "vgg16", "vgg19"),
    "resnet": ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    "densenet": ("densenet121", "densenet169", "densenet201"),
    "inception": ("googlenet",),
    "mobilenet": ("mobilenet_v2",),
    "u_net": ("unet",),
}

__all__ = sorted(name for names in _HOME.values() for name in names)


def __getattr__(name: str) -> Any:
    return loaded(__name__, _HOME, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
