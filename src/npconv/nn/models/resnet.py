"""ResNet (He, Zhang, Ren and Sun, 2016): blocks that learn what to add to their input. The stride is at the 3x3."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..activations import ReLU
from ..containers import Residual, Sequential
from ..convolutions import Conv
from ..dense import Linear
from ..layer import Layer
from ..norms import BatchNorm
from ..pools import GlobalAvgPool, MaxPool

#: Blocks of the four stages by depth; from 50 on a block is a bottleneck: 1x1, 3x3, 1x1 to four times the channels.
DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def resnet(
    depth: int,
    classes: int = 1000,
    *,
    channels: int = 3,
    layout: str = "channels_first",
    rng: Any = None,
    dtype: Any = np.float32,
) -> Sequential:
    """ResNet of `depth` layers with weights: (N, channels, H, W) -> (N, classes), for images of any size."""
    norm = partial(BatchNorm, layout=layout, dtype=dtype)
    same = {"bias": False, "initial": "he_normal", "layout": layout, "rng": np.random.default_rng(rng), "dtype": dtype}

    def block(inputs: int, width: int, stride: int) -> Layer:
        sizes, outputs = [(inputs, width, 3, stride), (width, width, 3, 1)], width
        if depth >= 50:
            sizes, outputs = [(inputs, width, 1, 1), (width, width, 3, stride), (width, 4 * width, 1, 1)], 4 * width
        body: dict[str, Layer] = {}
        for i, (c, o, k, s) in enumerate(sizes, 1):
            body |= {f"conv{i}": Conv(c, o, k, stride=s, padding=k // 2, **same), f"bn{i}": norm(o)}
            body |= {f"relu{i}": ReLU()} if i < len(sizes) else {}
        fits = stride == 1 and inputs == outputs
        shortcut = None if fits else Sequential(Conv(inputs, outputs, 1, stride=stride, **same), norm(outputs))
        return Sequential(add=Residual(Sequential(**body), shortcut), relu=ReLU())

    stages, inputs = {}, 64
    for i, count in enumerate(DEPTHS[depth]):
        blocks = []
        for j in range(count):
            blocks.append(block(inputs, 64 << i, 2 if i and not j else 1))
            inputs = (64 << i) * (1 if depth < 50 else 4)
        stages[f"layer{i + 1}"] = Sequential(*blocks)
    stem = {"conv1": Conv(channels, 64, 7, stride=2, padding=3, **same), "bn1": norm(64), "relu": ReLU()}
    stem["maxpool"] = MaxPool(3, stride=2, padding=1, layout=layout)
    end = {"avgpool": GlobalAvgPool(layout=layout), "fc": Linear(inputs, classes, rng=same["rng"], dtype=dtype)}
    return Sequential(**stem, **stages, **end)


resnet18, resnet34, resnet50, resnet101, resnet152 = (partial(resnet, depth) for depth in DEPTHS)
