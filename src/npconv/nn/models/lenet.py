"""LeNet-5 (LeCun, Bottou, Bengio and Haffner, 1998), with relu and max-pools as it is taught today.

(N, 1, 28, 28) -> conv 5x5, pool: 6 x 14 x 14 -> conv 5x5, pool: 16 x 5 x 5 -> dense 120 -> 84 -> 10 scores
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..activations import ReLU
from ..containers import Sequential
from ..convolutions import Conv
from ..dense import Flatten, Linear
from ..pools import MaxPool


def lenet5(
    classes: int = 10,
    *,
    channels: int = 1,
    layout: str = "channels_first",
    rng: Any = None,
    dtype: Any = np.float32,
) -> Sequential:
    """LeNet-5 for images of 28 x 28 pixels.

        (N, channels, 28, 28) -> (N, classes)

    Parameters
    ----------
    classes, channels : int
        Of the output and of the images.
    layout, rng, dtype
        As in `npconv.nn.Conv`.

    Examples
    --------
    >>> from npconv.nn import models
    >>> models.lenet5().out_shape((8, 1, 28, 28))
    (8, 10)
    """
    rng = np.random.default_rng(rng)
    same: dict[str, Any] = {"rng": rng, "dtype": dtype}
    return Sequential(
        conv1=Conv(channels, 6, 5, padding=2, layout=layout, **same),
        relu1=ReLU(),
        pool1=MaxPool(2, layout=layout),
        conv2=Conv(6, 16, 5, layout=layout, **same),
        relu2=ReLU(),
        pool2=MaxPool(2, layout=layout),
        flatten=Flatten(layout=layout),
        fc1=Linear(400, 120, **same),
        relu3=ReLU(),
        fc2=Linear(120, 84, **same),
        relu4=ReLU(),
        fc3=Linear(84, classes, **same),
    )
