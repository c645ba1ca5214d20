"""VGG (Simonyan and Zisserman, 2015): nothing but 3x3 convolutions and max-pools, then three dense layers."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..activations import ReLU
from ..containers import Sequential
from ..convolutions import Conv
from ..dense import Dropout, Flatten, Linear
from ..layer import Layer
from ..norms import BatchNorm
from ..pools import AdaptiveAvgPool, MaxPool

#: Channels of the stages, and how many convolutions each has, by the number of layers with weights.
STAGES = (64, 128, 256, 512, 512)
DEPTHS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def vgg(
    depth: int,
    classes: int = 1000,
    *,
    channels: int = 3,
    hidden: int = 4096,
    batch_norm: bool = False,
    dropout: float = 0.5,
    layout: str = "channels_first",
    rng: Any = None,
    dtype: Any = np.float32,
) -> Sequential:
    """VGG of `depth` layers with weights: (N, channels, H, W) -> (N, classes), for images of 32 pixels and up."""
    rng = np.random.default_rng(rng)
    same: dict[str, Any] = {"rng": rng, "dtype": dtype}
    features: list[Layer] = []
    for width, count in zip(STAGES, DEPTHS[depth], strict=True):
        for _ in range(count):
            features.append(Conv(channels, width, 3, padding=1, layout=layout, **same))
            features += [BatchNorm(width, layout=layout, dtype=dtype)] if batch_norm else []
            features.append(ReLU())
            channels = width
        features.append(MaxPool(2, layout=layout))
    dense: list[Layer] = []
    for inputs in (512 * 7 * 7, hidden):
        dense += [Linear(inputs, hidden, **same), ReLU(), Dropout(dropout, rng=rng)]
    return Sequential(
        features=Sequential(*features),
        avgpool=AdaptiveAvgPool(7, layout=layout),
        flatten=Flatten(layout=layout),
        classifier=Sequential(*dense, Linear(hidden, classes, **same)),
    )


vgg11, vgg13, vgg16, vgg19 = (partial(vgg, depth) for depth in DEPTHS)
