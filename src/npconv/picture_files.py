"""PNG and JPEG files, opened within limits; and pictures cut and resized to arrays. Needs Pillow (extra `plot`)."""

from __future__ import annotations

import os
import stat
import warnings
from typing import Any

import numpy as np

#: Pixels that a picture may have: 8000 x 8000. A file of a kilobyte can declare more than memory holds.
MOST_PIXELS = 64_000_000


class PictureError(ValueError):
    """A file or a picture that cannot be used; the message says why."""


def pillow() -> tuple[Any, Any]:
    """Pillow's modules Image and ImageOps."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError('npconv reads and writes pictures with Pillow: pip install "npconv[plot]"') from error
    return Image, ImageOps


def opened(file: Any, name: Any = None) -> Any:
    """The picture in a PNG or JPEG, turned as the camera was held, white where it was transparent.

    Parameters
    ----------
    file : str, path or binary stream
        What to read.
    name : optional
        What messages call it, where it is a stream.

    Raises
    ------
    PictureError
        If it is no such file, damaged, or of more than `MOST_PIXELS` pixels.
    """
    Image, ImageOps = pillow()
    path = isinstance(file, (str, os.PathLike))
    name = file if path else name
    if path and not stat.S_ISREG(os.stat(file).st_mode):
        raise PictureError(f"{name} is not a regular file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is lower
            picture = Image.open(file, formats=("PNG", "JPEG"))
        with picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise PictureError(f"{name} has {picture.width} x {picture.height} pixels, over {MOST_PIXELS}")
            turned = opaque(ImageOps.exif_transpose(picture))
            turned.load()
            return turned
    except (PictureError, FileNotFoundError):
        raise
    except (Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise PictureError(f"{name} cannot be read as PNG or JPEG: {error}") from error


def deep(picture: Any) -> bool:
    """Whether a picture has more than 8 bits a channel."""
    return bool(picture.mode[0] in "IF")


def opaque(picture: Any) -> Any:
    """The picture, white where it was transparent."""
    if not picture.has_transparency_data or deep(picture):
        return picture
    Image, _ = pillow()
    mode = "L" if picture.mode in ("1", "L", "LA") else "RGB"
    layer = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert(mode)


def fitted(picture: Any, width: int, height: int, channels: int) -> np.ndarray:
    """(height, width, channels) of uint8: the largest part in the middle that has the proportions, resized.

    The picture is not `deep`.

    Raises
    ------
    PictureError
        If the result would pass `MOST_PIXELS`.
    """
    Image, ImageOps = pillow()
    if width * height > MOST_PIXELS:
        raise PictureError(f"the model takes pictures of {width} x {height} pixels, over {MOST_PIXELS}")
    picture = opaque(picture).convert("RGB" if channels == 3 else "L")
    if picture.size != (width, height):
        picture = ImageOps.fit(picture, (width, height), Image.Resampling.BILINEAR)
    return np.asarray(picture).reshape(height, width, channels)
