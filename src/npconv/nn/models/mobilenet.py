"""MobileNet-V2 (Sandler et al., 2018): widen by 1x1, filter each channel by itself, narrow by 1x1; little arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..activations import ReLU6
from ..containers import Residual, Sequential
from ..convolutions import Conv
from ..dense import Dropout, Linear
from ..layer import Layer
from ..norms import BatchNorm
from ..pools import GlobalAvgPool

#: Of each stage: how much wider the middle is, channels, blocks, the stride of the first.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def mobilenet_v2(
    classes: int = 1000,
    *,
    channels: int = 3,
    dropout: float = 0.2,
    layout: str = "channels_first",
    rng: Any = None,
    dtype: Any = np.float32,
) -> Sequential:
    """MobileNet-V2 of width 1: (N, channels, H, W) -> (N, classes), for images of any size."""
    rng = np.random.default_rng(rng)

    def conv(inputs: int, outputs: int, k: int, stride: int = 1, groups: int = 1, relu: bool = True) -> list[Layer]:
        layer = Conv(
            inputs, outputs, k, stride=stride, padding=k // 2, groups=groups, bias=False,
            initial="he_normal", layout=layout, rng=rng, dtype=dtype,
        )  # fmt: skip
        return [layer, BatchNorm(outputs, layout=layout, dtype=dtype), *([ReLU6()] if relu else [])]

    def block(inputs: int, wider: int, outputs: int, stride: int) -> Layer:
        middle = inputs * wider
        steps = [Sequential(*conv(inputs, middle, 1))] if wider > 1 else []
        steps.append(Sequential(*conv(middle, middle, 3, stride, groups=middle)))
        body = Sequential(conv=Sequential(*steps, *conv(middle, outputs, 1, relu=False)))
        return Residual(body) if stride == 1 and inputs == outputs else body

    features: list[Layer] = [Sequential(*conv(channels, 32, 3, 2))]
    inputs = 32
    for wider, outputs, count, stride in STAGES:
        for i in range(count):
            features.append(block(inputs, wider, outputs, stride if i == 0 else 1))
            inputs = outputs
    features.append(Sequential(*conv(inputs, 1280, 1)))
    return Sequential(
        features=Sequential(*features),
        avgpool=GlobalAvgPool(layout=layout),
        classifier=Sequential(Dropout(dropout, rng=rng), Linear(1280, classes, rng=rng, dtype=dtype)),
    )
