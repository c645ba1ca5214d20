"""The chapters on kernels: edges, and three channels at once."""

from __future__ import annotations

import numpy as np

from .. import conv, filters, plots
from .photograph import Photo, sizes
from .report import Chapter, Code, Folder, Formula, Text, canvas


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
            Text("The length of the two changes together is the strength of the edge, whatever its direction:"),
            Formula("strength = sqrt(gx * gx + gy * gy)\nsum of Sobel's weights = -1 + 1 - 2 + 2 - 1 + 1 = 0"),
            folder.save(
                both,
                "edges",
                "The strength of all edges; white is strong.",
                "A drawing of the photograph in white lines on black: its edges",
            ),
            Text("One pixel of padding on each side keeps the size; the formula of every output size, filled in:"),
            Formula(sizes(photo, padding=1)),
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
                "Red, green and blue channel with their kernels and product maps, and the sum of the three maps",
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
