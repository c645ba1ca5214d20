"""The photograph, and the chapters on its numbers: what they are, and one sum of them by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import filters, plots
from ..reading import formula_text
from .report import Chapter, Code, Folder, Formula, Text, canvas

Array = np.ndarray[Any, Any]

FLOWER = 'from sklearn.datasets import load_sample_image\nphoto = load_sample_image("flower.jpg")'


@dataclass(frozen=True)
class Photo:
    """Pixels (H, W, 3) of uint8, where they are from, and the lines that load them."""

    pixels: Array
    name: str
    code: str = FLOWER

    @property
    def red(self) -> Array:
        return self.pixels[:, :, 0]

    @property
    def grey(self) -> Array:
        """How bright the eye finds each pixel, 0 to 255 (the weights of Rec. 601)."""
        return self.pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)

    def smaller(self) -> Photo:
        """Every second row and column, unless few would be left."""
        if min(self.pixels.shape[:2]) < 128:
            return self
        return Photo(self.pixels[::2, ::2], self.name, f"{self.code}\nphoto = photo[::2, ::2]")

    def centre(self, size: int) -> tuple[slice, slice]:
        """The middle `size` rows and columns, or all there are."""
        rows, columns = self.pixels.shape[:2]
        top, left = max(0, (rows - size) // 2), max(0, (columns - size) // 2)
        return slice(top, min(rows, top + size)), slice(left, min(columns, left + size))


def sizes(photo: Photo, kernel: int = 3, padding: int = 0, step: int = 1) -> str:
    """The output size, formula and all, of both axes."""
    rows, columns = photo.pixels.shape[:2]
    return "\n".join(
        f"{name:<7} = (in + lo + hi - d * (k - 1) - 1) // s + 1\n"
        f"        = {formula_text(size, padding, padding, kernel, 1, step)}"
        for name, size in (("rows", rows), ("columns", columns))
    )


def numbers_of(photo: Photo, folder: Folder) -> Chapter:
    """A photograph is an array."""
    rows, columns = zoom = photo.centre(6)
    figure = canvas(3.4)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    plots.boxed(photo.pixels, (rows.start, rows.stop), (columns.start, columns.stop), ax=left, title="the photograph")
    plots.numbers(photo.red[zoom], ax=right, signed=False, title="red, inside the frame")
    shape = photo.pixels.shape
    return Chapter(
        "photograph",
        "A photograph is an array of numbers",
        [
            Text(
                f"{photo.name} is a NumPy array of shape `{shape}` and dtype `{photo.pixels.dtype}`: "
                f"{shape[0]} rows, {shape[1]} columns, and for every pixel the amounts of red, green and "
                "blue from 0 to 255."
            ),
            folder.save(
                figure,
                "photograph",
                "Left: the photograph with a small frame in its middle. Right: the red amounts of the "
                f"{rows.stop - rows.start} × {columns.stop - columns.start} pixels in it; darker blue is "
                "more.",
                "The photograph beside a small table of its red values",
            ),
            Code(f"{photo.code}\nprint(photo.shape, photo.dtype)\nprint(photo[:3, :3, 0])    # the red of nine pixels"),
        ],
    )


def sharpening(photo: Photo, folder: Folder) -> Chapter:
    """One number by hand, then the whole red channel."""
    red, kernel = photo.red, filters.sharpen()
    sharp = filters.apply(red, kernel)
    crop = photo.centre(120)
    inside = tuple(slice(part.start + 1, part.stop - 1) for part in crop)
    # Where sharpening changes most among the sums that are still a colour: a clear example.
    change = np.where((sharp >= 0) & (sharp <= 255), np.abs(sharp - red), -1)[inside]
    i, j = (
        int(k) + part.start for k, part in zip(np.unravel_index(change.argmax(), change.shape), inside, strict=True)
    )
    window, value = red[i - 1 : i + 2, j - 1 : j + 2].astype(np.int64), int(sharp[i, j])
    terms = [f"{w:+}*{x}" for w, x in zip(kernel.ravel(), window.ravel(), strict=True) if w]
    than = "darker" if value < red[i, j] else "brighter"
    outside = int(((sharp < 0) | (sharp > 255)).sum())

    by_hand = canvas(2.9)
    first, second, third = by_hand.subplots(1, 3)
    plots.numbers(window, ax=first, signed=False, title=f"red around ({i}, {j})")
    plots.numbers(kernel, ax=second, title="sharpen kernel")
    plots.numbers(window * kernel, ax=third, title=f"products, sum {value}")
    whole = canvas(3)
    shown = np.clip(sharp, 0, 255)[crop]
    plots.filtered(red[crop], kernel, shown, titles=("red channel", "kernel", "sharpened"), limit=255, figure=whole)
    return Chapter(
        "sharpen",
        "One number by hand, then all of them",
        [
            Text(
                "A convolution lays a small table of weights, the kernel, on the picture, multiplies every "
                "weight by the pixel under it, and adds up. That sum is one number of the output. Then the "
                "kernel moves on."
            ),
            folder.save(
                by_hand,
                "sharpen-by-hand",
                f"The output at row {i}, column {j}: nine products, one sum.",
                "Nine pixels, nine weights and their nine products, with the numbers in the cells",
            ),
            Formula(f"y[{i}, {j}] = {' '.join(terms)}\n        = {int((window * kernel).sum())}\nnpconv:   {value}"),
            Text(
                f"This pixel, {red[i, j]}, is {than} than its neighbours, and becomes {than} still: {value}. "
                "Where all five are equal nothing changes, for the weights sum to 1."
            ),
            folder.save(
                whole,
                "sharpen",
                "Input, kernel and output: the middle of the red channel.",
                "The red channel, the sharpen kernel's nine numbers, and the sharpened channel",
            ),
            Text(
                f"{outside} of the {sharp.size} sums fall outside 0 to 255. In uint8 they would wrap around "
                "to wrong "
                'colours; npconv computes integers exactly in int64, and `dtype="uint8"` clips them.'
            ),
            Code(
                f"{photo.code}\nfrom npconv import filters, plots\nred = photo[:, :, 0]\n"
                "sharp = filters.apply(red, filters.sharpen())\n"
                f"print(sharp[{i}, {j}])    # {value}\n"
                'plots.filtered(red, filters.sharpen(), filters.apply(red, "sharpen", dtype="uint8"))'
            ),
        ],
    )
