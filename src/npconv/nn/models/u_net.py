"""U-Net (Ronneberger, Fischer and Brox, 2015), padded: down to a coarse view and up again, each level beside its copy."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..activations import ReLU
from ..containers import Identity, Parallel, Sequential
from ..convolutions import Conv, ConvTranspose
from ..layer import Layer
from ..norms import BatchNorm
from ..pools import MaxPool


def unet(
    classes: int = 2,
    *,
    channels: int = 3,
    width: int = 64,
    depth: int = 4,
    layout: str = "channels_first",
    rng: Any = None,
    dtype: Any = np.float32,
) -> Sequential:
    """U-Net: scores of `classes` for every pixel, (N, channels, H, W) -> (N, classes, H, W).

    Parameters
    ----------
    classes, channels : int
        Of the output and of the images.
    width : int
        Channels of the finest level; each coarser one has twice as many.
    depth : int
        How often the image is halved; H and W are multiples of 2 ** depth.
    layout, rng, dtype
        As in `npconv.nn.Conv`.
    """
    same: dict[str, Any] = {"layout": layout, "rng": np.random.default_rng(rng), "dtype": dtype}

    def twice(inputs: int, outputs: int) -> Layer:
        steps: list[Layer] = []
        for c in (inputs, outputs):
            steps.append(Conv(c, outputs, 3, padding=1, bias=False, **same))
            steps += [BatchNorm(outputs, layout=layout, dtype=dtype), ReLU()]
        return Sequential(*steps)

    def level(inputs: int, w: int, below: int) -> Layer:
        """From `inputs` channels to `w`, by way of all the coarser levels."""
        if not below:
            return twice(inputs, w)
        coarse = Sequential(
            pool=MaxPool(2, layout=layout),
            level=level(w, 2 * w, below - 1),
            up=ConvTranspose(2 * w, w, 2, stride=2, **same),
        )
        return Sequential(down=twice(inputs, w), across=Parallel(Identity(), coarse, layout=layout), up=twice(2 * w, w))

    return Sequential(level=level(channels, width, depth), out=Conv(width, classes, 1, **same))
