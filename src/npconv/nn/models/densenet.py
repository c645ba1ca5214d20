"""DenseNet (Huang, Liu, van der Maaten and Weinberger, 2017): every layer sees all that came before it in its block."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..activations import ReLU
from ..containers import Identity, Parallel, Sequential
from ..convolutions import Conv
from ..dense import Linear
from ..layer import Layer
from ..norms import BatchNorm
from ..pools import AvgPool, GlobalAvgPool, MaxPool

#: Layers of the four blocks, by depth; every layer adds GROWTH channels.
DEPTHS, GROWTH = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)}, 32


def densenet(
    depth: int,
    classes: int = 1000,
    *,
    channels: int = 3,
    layout: str = "channels_first",
    rng: Any = None,
    dtype: Any = np.float32,
) -> Sequential:
    """DenseNet-BC of `depth` layers with weights: (N, channels, H, W) -> (N, classes), for 32 pixels and up."""
    norm = partial(BatchNorm, layout=layout, dtype=dtype)
    same = {"bias": False, "initial": "he_normal", "layout": layout, "rng": np.random.default_rng(rng), "dtype": dtype}

    def dense_layer(inputs: int) -> Layer:
        squeeze = {"norm1": norm(inputs), "relu1": ReLU(), "conv1": Conv(inputs, 4 * GROWTH, 1, **same)}
        grow = {"norm2": norm(4 * GROWTH), "relu2": ReLU(), "conv2": Conv(4 * GROWTH, GROWTH, 3, padding=1, **same)}
        return Parallel(before=Identity(), added=Sequential(**squeeze, **grow), layout=layout)

    stem = Conv(channels, 64, 7, stride=2, padding=3, **same)
    layers: dict[str, Layer] = {"conv0": stem, "norm0": norm(64), "relu0": ReLU()}
    layers["pool0"], width = MaxPool(3, stride=2, padding=1, layout=layout), 64
    for i, count in enumerate(DEPTHS[depth], 1):
        block = {f"denselayer{j + 1}": dense_layer(width + j * GROWTH) for j in range(count)}
        layers[f"denseblock{i}"], width = Sequential(**block), width + count * GROWTH
        if i < len(DEPTHS[depth]):
            shrink = {"norm": norm(width), "relu": ReLU(), "conv": Conv(width, width // 2, 1, **same)}
            layers[f"transition{i}"] = Sequential(**shrink, pool=AvgPool(2, layout=layout))
            width //= 2
    layers |= {"norm5": norm(width), "relu5": ReLU()}
    return Sequential(
        features=Sequential(**layers),
        avgpool=GlobalAvgPool(layout=layout),
        classifier=Linear(width, classes, rng=same["rng"], dtype=dtype),
    )


densenet121, densenet169, densenet201 = (partial(densenet, depth) for depth in DEPTHS)
