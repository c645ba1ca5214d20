"""Augmentation: more training images from few, by changes that leave the class as it is; and images of one scale.

fit(..., augment=augment(flip=True, crop=2))       every batch anew, by fit's generator
model = Sequential(Normalise.of(x), ...)           part of the model, so that nobody forgets it later
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..geometry import Ints
from ..layouts import NAMES
from ..reading import shown
from .layer import Layer

if TYPE_CHECKING:
    from .layer import Array, Arrays


def augment(
    *, flip: bool | tuple[int, ...] = False, crop: int = 0, layout: str = "channels_first"
) -> Callable[[Array, np.random.Generator], Array]:
    """A function (images, generator) -> images that mirrors and shifts each image at random.

    Parameters
    ----------
    flip : bool or tuple of int
        Whether half of the images are mirrored left to right; or along which spatial axes, the first being 0.
    crop : int
        The largest shift along each spatial axis: as if the image had a frame of so many zeros, and a window of its
        own size were cut out anywhere.
    layout : {"channels_first", "channels_last"}
        Where the channels are.

    Examples
    --------
    >>> import numpy as np
    >>> from npconv import nn
    >>> change = nn.augment(flip=True, crop=1)
    >>> x = np.arange(1.0, 10).reshape(1, 1, 3, 3)
    >>> change(x, np.random.default_rng(2))[0, 0]         # mirrored, then moved up and left
    array([[5., 4., 0.],
           [8., 7., 0.],
           [0., 0., 0.]])
    """
    if layout not in NAMES:
        raise ValueError(f"augment: layout is {shown(layout)}; it is 'channels_first' or 'channels_last'")
    if isinstance(crop, bool) or not isinstance(crop, int) or crop < 0:
        raise ValueError(f"augment: crop is {shown(crop)}, needs a whole number of at least 0")

    def change(x: Array, rng: np.random.Generator) -> Array:
        axes = spatial_axes(x, layout)
        y = x.copy()
        for i in (len(axes) - 1,) if flip is True else flip or ():
            if not 0 <= i < len(axes):
                raise ValueError(f"augment: flip names the spatial axis {i}, but the images have {len(axes)}")
            mirrored = rng.random(len(x)) < 0.5
            y[mirrored] = np.flip(y[mirrored], axes[i])
        return shifted(y, rng.integers(-crop, crop + 1, (len(x), len(axes))), axes) if crop else y

    return change


def shifted(x: Array, by: Array, axes: Ints) -> Array:
    """Every image moved by its own row of `by`, with zeros where it came from."""
    y = np.zeros_like(x)
    for image, moved, steps in zip(x, y, by.tolist(), strict=True):
        to, source = [slice(None)] * image.ndim, [slice(None)] * image.ndim
        for axis, step in zip(axes, steps, strict=True):
            length = image.shape[axis - 1]
            to[axis - 1] = slice(max(step, 0), max(length + min(step, 0), 0))
            source[axis - 1] = slice(max(-step, 0), max(length - max(step, 0), 0))
        moved[tuple(to)] = image[tuple(source)]
    return y


def spatial_axes(x: Array, layout: str) -> Ints:
    """The axes that are neither batch nor channels."""
    return tuple(range(2, x.ndim)) if layout == "channels_first" else tuple(range(1, x.ndim - 1))


class Normalise(Layer):
    """Subtract each channel's mean and divide by its deviation: y = (x - mean) / deviation.

    The numbers are state, saved with the model but not trained.

    Parameters
    ----------
    mean, deviation : array_like, (C,)
        One number per channel.
    layout : {"channels_first", "channels_last"}
        Where the channels are.
    dtype : dtype
        Of the output.

    Examples
    --------
    >>> import numpy as np
    >>> from npconv import nn
    >>> x = np.random.default_rng(0).normal(5, 2, (100, 3, 8, 8))
    >>> y = nn.Normalise.of(x)(x)
    >>> y.dtype, bool(abs(y.mean()) < 1e-5), bool(abs(y.std() - 1) < 1e-5)
    (dtype('float32'), True, True)
    """

    def __init__(self, mean: Any, deviation: Any, *, layout: str = "channels_first", dtype: Any = np.float32) -> None:
        super().__init__()
        self.state = {"mean": np.array(mean, dtype, ndmin=1), "deviation": np.array(deviation, dtype, ndmin=1)}
        self.layout = layout
        shapes = [a.shape for a in self.state.values()]
        if layout not in NAMES:
            raise ValueError(f"Normalise: layout is {shown(layout)}; it is 'channels_first' or 'channels_last'")
        if shapes[0] != shapes[1] or len(shapes[0]) != 1:
            raise ValueError(f"Normalise: mean has shape {shapes[0]} and deviation {shapes[1]}, needs (C,) for both")
        if not (self.state["deviation"] > 0).all():
            raise ValueError("Normalise: a deviation is not above 0")

    @classmethod
    def of(cls, x: Any, *, layout: str = "channels_first", dtype: Any = np.float32) -> Normalise:
        """The layer that gives these images mean 0 and deviation 1; a constant channel is only shifted."""
        images = np.asarray(x)
        if images.ndim < 2 or not images.size:
            raise ValueError(f"Normalise.of: x has shape {images.shape}, needs (N, C, ...) with something in it")
        axes = (0, *spatial_axes(images, layout))
        deviation = images.std(axes, dtype=np.float64)
        return cls(images.mean(axes, np.float64), np.where(deviation > 0, deviation, 1), layout=layout, dtype=dtype)

    def _shape(self, x: Array) -> Ints:
        """The statistics' shape beside x."""
        axis = 1 if self.layout == "channels_first" else x.ndim - 1
        channels = len(self.state["mean"])
        if x.ndim < 2 or x.shape[axis] != channels:
            raise ValueError(f"x has shape {x.shape}, needs {channels} channels on axis {axis}")
        return tuple(channels if i == axis else 1 for i in range(x.ndim))

    def forward(self, x: Array, *, training: bool = True) -> tuple[Array, Any]:
        shape = self._shape(x)
        mean, deviation = (self.state[name].reshape(shape) for name in ("mean", "deviation"))
        return ((x - mean) / deviation).astype(mean.dtype, copy=False), shape

    def backward(self, g: Array, saved: Any, *, input_grad: bool = True) -> tuple[Array | None, Arrays]:
        return g / self.state["deviation"].reshape(saved) if input_grad else None, {}

    def out_shape(self, shape: Ints) -> Ints:
        return shape

    def __repr__(self) -> str:
        return f"Normalise({len(self.state['mean'])} channels)"
