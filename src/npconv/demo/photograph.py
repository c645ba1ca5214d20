"""The chapters that look at the photograph: its numbers, edges, sharpening, channels and pools."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import avg_pool, conv, filters, max_pool, max_pool_grad, plots
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

    def centre(self, size: int) -> tuple[slice, slice]:
        """The middle `size` rows and columns, or all there are."""
        rows, columns = self.pixels.shape[:2]
        top, left = max(0, (rows - size) // 2), max(0, (columns - size) // 2)
        return slice(top, min(rows, top + size)), slice(left, min(columns, left + size))


def _sizes(photo: Photo, kernel: int = 3, padding: int = 0, step: int = 1) -> str:
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
    plots.boxed(
        photo.pixels, (rows.start, rows.stop), (columns.start, columns.stop), ax=left, title="the photograph"
    )
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
            Code(
                f"{photo.code}\nprint(photo.shape, photo.dtype)\nprint(photo[:3, :3, 0])    # the red of "
                "nine pixels"
            ),
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
        int(k) + part.start
        for k, part in zip(np.unravel_index(change.argmax(), change.shape), inside, strict=True)
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
    plots.filtered(
        red[crop], kernel, shown, titles=("red channel", "kernel", "sharpened"), limit=255, figure=whole
    )
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
            Formula(
                f"y[{i}, {j}] = {' '.join(terms)}\n        = {int((window * kernel).sum())}\nnpconv:   "
                f"{value}"
            ),
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


def edges(photo: Photo, folder: Folder) -> Chapter:
    """Sobel's two kernels."""
    grey = photo.grey
    across, down = filters.apply(grey, filters.sobel("x")), filters.apply(grey, filters.sobel("y"))
    strength = np.hypot(across, down)
    top = float(np.percentile(strength, 99.5))
    vertical, horizontal, both = canvas(3), canvas(3), canvas(5)
    names = ("brightness", "Sobel x", "vertical edges"), ("brightness", "Sobel y", "horizontal edges")
    plots.filtered(grey, filters.sobel("x"), across, titles=names[0], limit=top, figure=vertical)
    plots.filtered(grey, filters.sobel("y"), down, titles=names[1], limit=top, figure=horizontal)
    plots.image(strength, ax=both.subplots(), title="edges of every direction", limit=top)
    return Chapter(
        "edges",
        "Edges: vertical, horizontal, all",
        [
            Text(
                "A kernel whose weights sum to zero is silent where the picture is even and speaks where "
                "it changes. Sobel's kernel for x is right minus left: orange where it gets brighter to "
                "the right, blue where it gets darker, white where nothing happens."
            ),
            folder.save(
                vertical,
                "edges-vertical",
                "Vertical edges: the change from left to right.",
                "The photograph's brightness, Sobel's kernel for x and the signed map of vertical edges",
            ),
            folder.save(
                horizontal,
                "edges-horizontal",
                "Horizontal edges: the same kernel turned, the change from top to bottom.",
                "The photograph's brightness, Sobel's kernel for y and the signed map of horizontal edges",
            ),
            Text(
                "The length of the two changes together is the strength of the edge, whatever its direction:"
            ),
            Formula(
                "strength = sqrt(gx * gx + gy * gy)\nsum of Sobel's weights = -1 + 1 - 2 + 2 - 1 + 1 = 0"
            ),
            folder.save(
                both,
                "edges",
                "The strength of all edges; white is strong.",
                "A drawing of the photograph in white lines on black: its edges",
            ),
            Text(
                "One pixel of padding on each side keeps the size; the formula of every output size, "
                "filled in:"
            ),
            Formula(_sizes(photo, padding=1)),
            Code(
                f"{photo.code}\nfrom npconv import filters, plots\n"
                "grey = photo @ [0.299, 0.587, 0.114]\n"
                'gx = filters.apply(grey, filters.sobel("x"))\n'
                'gy = filters.apply(grey, filters.sobel("y"))\n'
                "plots.image((gx**2 + gy**2) ** 0.5)"
            ),
        ],
    )


def channels(photo: Photo, folder: Folder) -> Chapter:
    """Three channels, one output: the products of each and their sum."""
    x = photo.pixels.transpose(2, 0, 1)
    smooth = np.outer((1, 2, 1), (1, 2, 1))
    w = np.stack([2 * smooth, -smooth, -smooth])
    parts = np.concatenate([conv(x[c : c + 1], w[None, c : c + 1], padding=1) for c in range(3)])
    y = conv(x, w[None], padding=1)[0]
    figure = canvas(9)
    plots.products(x, w, parts, names=("red", "green", "blue"), figure=figure)
    rows, columns = y.shape
    return Chapter(
        "channels",
        "Three channels in, one out",
        [
            Text(
                "A colour picture needs a kernel with a slice for each channel. Each slice gives a map of "
                "its own, and the maps are added: that is the step most home-made convolutions forget. "
                "This kernel asks how much more red than green and blue there is."
            ),
            folder.save(
                figure,
                "channels",
                "Each channel, its weights, and its products; the last map is their sum. All maps have one "
                "scale: orange above zero, blue below.",
                "Red, green and blue channel with their kernels and product maps, and the sum of the three "
                "maps",
            ),
            Formula(
                f"(C, H, W) * (O, C, h, w) -> (O, H, W)\n"
                f"(3, {rows}, {columns}) * (1, 3, 3, 3) -> (1, {rows}, {columns})\n"
                "largest difference between npconv's output and the sum of the three maps: "
                f"{np.abs(parts.sum(0) - y).max()}"
            ),
            Code(
                f"{photo.code}\nimport numpy as np\nimport npconv\n"
                "x = photo.transpose(2, 0, 1)                         # channels first\n"
                "smooth = np.outer([1, 2, 1], [1, 2, 1])\n"
                "w = np.stack([2 * smooth, -smooth, -smooth])[None]   # (1, 3, 3, 3)\n"
                "print(npconv.conv(x, w, padding=1).shape)            # (1, %d, %d)" % (rows, columns)
            ),
        ],
    )


def pooling(photo: Photo, folder: Folder) -> Chapter:
    """Max and average pools, and where the gradient of a maximum goes."""
    rng = np.random.default_rng(4)
    small = rng.permutation(16).reshape(1, 4, 4).astype(np.float64)
    largest, g = max_pool(small, (2, 2)), np.array([[[1.0, 2.0], [3.0, 4.0]]])
    routed = max_pool_grad(g, small, (2, 2))
    cells = canvas(2.5)
    first, second, third, fourth = cells.subplots(1, 4, width_ratios=(4, 2.6, 2.6, 4))
    plots.numbers(small[0], ax=first, marked=routed[0] != 0, signed=False, title="input")
    plots.numbers(largest[0], ax=second, signed=False, title="maxima")
    plots.numbers(g[0], ax=third, title="gradient")
    plots.numbers(routed[0], ax=fourth, marked=routed[0] != 0, title="goes back to")

    x = photo.pixels.transpose(2, 0, 1)
    size = 8 if min(x.shape[1:]) >= 64 else 2
    peaks, means = max_pool(x, (size, size)), avg_pool(x, (size, size))
    pictures = canvas(3)
    shown = [peaks.transpose(1, 2, 0), means.transpose(1, 2, 0) / 255]
    titles = [f"largest of {size} × {size}", f"mean of {size} × {size}"]
    plots.image_grid(shown, titles=titles, columns=2, figure=pictures)
    return Chapter(
        "pooling",
        "Pooling: fewer numbers",
        [
            Text(
                "A pool slides a window too, and keeps its largest value or its mean. Max-pooling asks "
                "whether something was there, not where exactly. Going back, all of a window's gradient "
                "goes to the pixel that won."
            ),
            folder.save(
                cells,
                "pooling-by-hand",
                "Windows of 2 × 2: the winners are framed; the gradient returns to them and to nobody else.",
                "A 4 by 4 table, its four maxima, a gradient, and the gradient sent back to the winners",
            ),
            folder.save(
                pictures,
                "pooling",
                f"The photograph, every {size} × {size} pixels made one. Maxima brighten it, means do not.",
                "The photograph at an eighth of its size, once by maxima and once by means",
            ),
            Formula(_sizes(photo, size, 0, size)),
            Text(
                "Rows that do not fill a window are dropped; `ceil_mode=True` keeps them: "
                f"`{max_pool(x, (size, size), ceil_mode=True).shape}` instead of `{peaks.shape}`."
            ),
            Code(
                f"{photo.code}\nimport npconv\n"
                f'small = npconv.max_pool(photo, ({size}, {size}), layout="HWC")\n'
                f"print(small.shape)    # {(*peaks.shape[1:], 3)}"
            ),
        ],
    )
