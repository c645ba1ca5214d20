"""From files to what a model takes: arrays as they are, pictures resized, scaled and put in the model's order."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..picture_files import deep, fitted
from .pictures import PIPE, Array, InputError, opened, stored

MOST_LABELS = 1 << 20


@dataclass(frozen=True)
class Pixels:
    """What happens to the pixels 0..255 of a picture: (pixel * scale - mean) / std, per channel."""

    scale: float | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __call__(self, picture: Array, dtype: np.dtype) -> Array:
        """A picture (H, W, C) of uint8 as numbers; between 0 and 1 where the model takes floats and no scale is set."""
        channels = picture.shape[2]
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            if len(numbers) not in (1, channels):
                raise InputError(f"--{name} has {len(numbers)} numbers, expected 1 or {channels}, one per channel")
        if min(map(abs, self.std)) == 0:
            raise InputError("--std is 0, and the pixels are divided by it")
        scale = self.scale if self.scale is not None else 1 / 255 if dtype.kind == "f" else 1.0
        numbers = (picture * scale - np.array(self.mean)) / np.array(self.std)
        if dtype.kind == "f":
            return numbers.astype(dtype)
        limits = np.iinfo(dtype)
        return np.clip(np.rint(numbers), limits.min, limits.max).astype(dtype)


def array_for(
    path: Path, shape: tuple[Any, ...] | None, dtype: np.dtype, pixels: Pixels, longest: int | None = None
) -> Array:
    """The array in a file, .npy or a picture, for an input of this shape (sizes, names or None) and dtype.

    A picture whose size is open is made smaller where it is longer than `longest` pixels.
    """
    if path != PIPE and not stat.S_ISREG(path.stat().st_mode):
        raise InputError(f"{path} is not a regular file")
    if path.suffix.lower() == ".npy":
        return _cast(path, dtype)
    height, width, channels, last = _picture_axes(path, shape, dtype)
    picture = pixels(_picture(path, height, width, channels, longest), dtype)
    return (picture if last else np.moveaxis(picture, -1, 0))[None]


def _cast(path: Path, dtype: np.dtype) -> Array:
    a = stored(path)
    if not np.can_cast(a.dtype, dtype, "same_kind"):
        raise InputError(f"{path} holds {a.dtype}, the model takes {dtype}")
    return np.asarray(a, dtype)


def _picture_axes(path: Path, shape: tuple[Any, ...] | None, dtype: np.dtype) -> tuple[Any, Any, int, bool]:
    """Height and width (None if open), the channels, and whether these are the last axis."""
    if shape is None or len(shape) != 4 or dtype.kind not in "fiu":
        raise InputError(f"{path} is a picture, but the input is no batch of pictures; give it as .npy")
    if isinstance(shape[0], int) and shape[0] != 1:
        raise InputError(f"the model takes {shape[0]} pictures at once; give them as .npy")
    last = shape[1] not in (1, 3) and shape[3] in (1, 3)
    sizes, channels = (shape[1:3], shape[3]) if last else (shape[2:], shape[1])
    if isinstance(channels, int) and channels not in (1, 3):
        raise InputError(f"{path} is a picture, but the model takes {channels} channels; give it as .npy")
    height, width = (n if isinstance(n, int) else None for n in sizes)
    return height, width, channels if isinstance(channels, int) else 3, last


def _picture(path: Path, height: int | None, width: int | None, channels: int, longest: int | None) -> Array:
    """The picture (H, W, C) of uint8: the largest part in the middle that has the wanted proportions, resized."""
    picture = opened(path)
    if deep(picture):
        raise InputError(f"{path} has more than 8 bits a pixel; give it as .npy")
    wanted = width or picture.width, height or picture.height
    if longest is not None and height is None and width is None and max(wanted) > longest:
        wanted = (max(1, round(wanted[0] * longest / max(wanted))), max(1, round(wanted[1] * longest / max(wanted))))
    return fitted(picture, *wanted, channels)


def read_labels(path: Path) -> list[str]:
    """The lines of a text file; empty ones at its end do not count."""
    if not stat.S_ISREG(path.stat().st_mode) or os.path.getsize(path) > MOST_LABELS:
        raise InputError(f"{path} is no list of labels: not a regular file, or over {MOST_LABELS} bytes")
    try:
        return path.read_text("utf-8").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no list of labels: not UTF-8") from error
