"""The chapter on pools: fewer numbers, and the way back."""

from __future__ import annotations

import numpy as np

from .. import avg_pool, max_pool, max_pool_grad, plots
from .photograph import Photo, sizes
from .report import Chapter, Code, Folder, Formula, Text, canvas


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
            Formula(sizes(photo, size, 0, size)),
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
