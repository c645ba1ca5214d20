"""From what a caller has, a file, a picture or an array, to what a model takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..picture_files import PictureError, deep, fitted, opened, pillow

Array = NDArray[Any]

#: The longest side of a picture for a model that takes any, and the sizes that are tried on one that does not say.
LONGEST, USUAL = 256, (28, 32, 48, 64, 96, 128, 160, 192, 224, 256, 299)


def fed(
    image: Any, channels: int | None, last: bool, dtype: Any, size: Any, fits: Callable[[tuple[int, ...]], bool]
) -> Array:
    """A model's input of one image, (1, C, H, W) or (1, H, W, C).

    Files, Pillow's pictures and arrays (H, W) or (H, W, C) of uint8 are pictures: 0..255 become 0..1. Other arrays are
    what the model takes, with a batch axis or without.

    Parameters
    ----------
    image : str, path, PIL.Image.Image or array_like
        The image.
    channels : int or None
        What the model takes, if it says so.
    last : bool
        Whether its channels are the last axis.
    dtype : dtype
        Of its input.
    size : int, (int, int) or None
        Height and width for a picture; None for the first size that fits.
    fits : function
        Whether the model takes an input of a shape.

    Raises
    ------
    PictureError
        If the file is no picture, or no size fits.
    """
    if isinstance(image, (str, os.PathLike)) and Path(image).suffix.lower() == ".npy":
        image = np.load(image, allow_pickle=False, mmap_mode="r")
    if not _is_picture(image):
        a = np.asarray(image, dtype)
        tries = (a, a[None], a[None, None])
        return next((b for b in tries if fits(b.shape)), a if a.ndim > 3 else a[None])  # the model says what is wrong
    if channels not in (None, 1, 3):
        raise PictureError(
            f"explore: the model takes {channels} channels, and a picture has 1 or 3; give it as an array"
        )
    dtype = np.dtype(dtype)
    depth = channels or 3
    for height, width in _sizes(image, size):
        shape = (1, height, width, depth) if last else (1, depth, height, width)
        if fits(shape):
            pixels = _pixels(image, height, width, depth)
            a = pixels * np.asarray(1 / 255, dtype) if dtype.kind == "f" else pixels.astype(dtype)
            return np.ascontiguousarray(a if last else np.moveaxis(a, -1, 0))[None].astype(dtype, copy=False)
    raise PictureError(f"explore: the model takes no picture of {_listed(image, size)}; use size=(height, width)")


def _is_picture(image: Any) -> bool:
    if isinstance(image, np.ndarray):
        planes = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3, 4))
        return image.dtype == np.uint8 and planes and image.size > 0
    return isinstance(image, (str, os.PathLike)) or hasattr(image, "convert")


def _sizes(image: Any, size: Any) -> Iterator[tuple[int, int]]:
    """The sizes to try."""
    if size is not None:
        height, width = size if isinstance(size, (tuple, list)) else (size, size)
        yield int(height), int(width)
        return
    if isinstance(image, np.ndarray):
        height, width = image.shape[:2]
    else:
        width, height = opened(image).size if not hasattr(image, "convert") else image.size
    shrink = min(1.0, LONGEST / max(height, width))
    yield max(1, round(height * shrink)), max(1, round(width * shrink))
    yield from ((n, n) for n in USUAL)


def _listed(image: Any, size: Any) -> str:
    return " or ".join(dict.fromkeys(f"{h} x {w}" for h, w in _sizes(image, size)))


def _pixels(image: Any, height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """(height, width, channels): the largest part in the middle that has the proportions, resized."""
    if isinstance(image, np.ndarray):
        planes = image[..., None] if image.ndim == 2 else image
        if planes.shape == (height, width, channels):
            return planes
    if isinstance(image, np.ndarray):
        picture = pillow()[0].fromarray(planes[..., 0] if planes.shape[2] == 1 else planes)
    else:
        picture = image if hasattr(image, "convert") else opened(image)
        if deep(picture):
            raise PictureError("explore: the picture has more than 8 bits a pixel; give it as .npy")
    return fitted(picture, width, height, channels)
