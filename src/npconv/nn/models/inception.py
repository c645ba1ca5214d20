"""GoogLeNet, the first Inception (Szegedy et al., 2015), with batch norms: four branches side by side, again and again."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..activations import ReLU
from ..containers import Parallel, Sequential
from ..convolutions import Conv
from ..dense import Dropout, Linear
from ..layer import Layer
from ..norms import BatchNorm
from ..pools import GlobalAvgPool, MaxPool

#: Channels of the branches: 1x1; 1x1, 3x3; 1x1, 3x3 (5x5 in the paper); pool, 1x1. A pool follows 3b and 4e.
BLOCKS = {
    "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64), "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128),
}  # fmt: skip


def googlenet(
    classes: int = 1000, *, channels: int = 3, layout: str = "channels_first", rng: Any = None, dtype: Any = np.float32
) -> Sequential:
    """GoogLeNet without its auxiliary classifiers: (N, channels, H, W) -> (N, classes), for 32 pixels and up."""
    rng = np.random.default_rng(rng)

    def conv(inputs: int, outputs: int, k: int, stride: int = 1) -> Layer:
        layer = Conv(inputs, outputs, k, stride=stride, padding=k // 2, bias=False, layout=layout, rng=rng, dtype=dtype)
        return Sequential(conv=layer, bn=BatchNorm(outputs, eps=1e-3, layout=layout, dtype=dtype), relu=ReLU())

    def pool(k: int, stride: int = 2, padding: int = 0) -> Layer:
        return MaxPool(k, stride=stride, padding=padding, ceil_mode=True, layout=layout)

    def inception(inputs: int, one: int, red3: int, three: int, red5: int, five: int, pooled: int) -> Layer:
        return Parallel(
            branch1=conv(inputs, one, 1),
            branch2=Sequential(conv(inputs, red3, 1), conv(red3, three, 3)),
            branch3=Sequential(conv(inputs, red5, 1), conv(red5, five, 3)),
            branch4=Sequential(pool(3, 1, 1), conv(inputs, pooled, 1)),
            layout=layout,
        )

    layers = {
        "conv1": conv(channels, 64, 7, 2),
        "maxpool1": pool(3),
        "conv2": conv(64, 64, 1),
        "conv3": conv(64, 192, 3),
    }
    layers["maxpool2"], width = pool(3), 192
    for name, sizes in BLOCKS.items():
        layers[f"inception{name}"], width = inception(width, *sizes), sizes[0] + sizes[2] + sizes[4] + sizes[5]
        layers |= {"3b": {"maxpool3": pool(3)}, "4e": {"maxpool4": pool(2)}}.get(name, {})
    end = {"avgpool": GlobalAvgPool(layout=layout), "dropout": Dropout(0.2, rng=rng)}
    return Sequential(**layers, **end, fc=Linear(width, classes, rng=rng, dtype=dtype))
