"""The chapter on stacked layers: feature maps, their sizes, and what one number of them has seen."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import conv, conv_input_grad, plots
from .photograph import Photo
from .report import Chapter, Code, Folder, Formula, Table, Text, canvas

Array = np.ndarray[Any, Any]
MAPS = 8


def stack(x: Array, layers: int, padding: int, rng: np.random.Generator) -> list[Array]:
    """The outputs of `layers` random convolutions of 3 x 3, each followed by relu."""
    outputs = []
    for _ in range(layers):
        inputs = x.shape[0] * 9
        w = rng.standard_normal((MAPS, x.shape[0], 3, 3)) * np.sqrt(2 / inputs)
        x = np.maximum(conv(x, w.astype(np.float32), padding=padding), 0)
        outputs.append(x)
    return outputs


def paths(layers: int) -> Array:
    """In how many ways each pixel reaches one output of a stack: the gradient when all weights are 1."""
    g, ones = np.ones((1, 1, 1), np.int64), np.ones((1, 1, 3, 3), np.int64)
    for _ in range(layers):
        g = conv_input_grad(g, ones, input_shape=(1, g.shape[1] + 2, g.shape[2] + 2))
    return g[0]


def feature_maps(photo: Photo, folder: Folder) -> Chapter:
    """Two layers without padding, four with."""
    x = (photo.pixels.transpose(2, 0, 1) / 255).astype(np.float32)
    two, four = (stack(x, *how, np.random.default_rng(1)) for how in ((2, 0), (4, 1)))
    pictures = []
    for name, outputs, words in (
        ("two-layers", two, "without padding"),
        ("four-layers", four, "with padding 1"),
    ):
        figure = canvas(1)
        plots.feature_maps({f"layer {i}": y for i, y in enumerate(outputs, 1)}, figure=figure)
        pictures.append(
            folder.save(
                figure,
                name,
                f"{len(outputs)} layers {words}: the 3 of each layer's {MAPS} feature maps that vary most.",
                f"Grey feature maps of the photograph, a row for each of {len(outputs)} layers",
            )
        )
    seen = paths(4)
    figure = canvas(5.2)
    plots.numbers(seen, ax=figure.subplots(), signed=False, title="ways from each pixel to one number of layer 4")
    shape = x.shape[1:]
    rows = [
        (f"layer {i}", f"{y.shape[1]} × {y.shape[2]}", *(f"{n} × {n}" for n in paths(i).shape[:1]))
        for i, y in enumerate(two, 1)
    ]
    padded = [
        (f"layer {i}, padding 1", f"{y.shape[1]} × {y.shape[2]}", f"{len(paths(i))} × {len(paths(i))}")
        for i, y in enumerate(four, 1)
    ]
    return Chapter(
        "layers",
        "Layers: convolutions of convolutions",
        [
            Text(
                f"A layer has many kernels, here {MAPS} of random weights, and each makes a feature map. "
                "Relu sets negative numbers to 0, so black is nothing found. The next layer reads all maps "
                "of the one before."
            ),
            pictures[0],
            Text(
                "Without padding a kernel of 3 × 3 cannot be centred on the outermost pixels, and every "
                "layer loses one row and column on each side. With one pixel of padding all layers keep "
                "the photograph's size:"
            ),
            pictures[1],
            Table(
                ("layer", "size of a map", "pixels seen by one number"),
                [("photograph", f"{shape[0]} × {shape[1]}", "1 × 1"), *rows, *padded],
                "Each layer of 3 × 3 sees one pixel further in every direction.",
            ),
            folder.save(
                figure,
                "receptive-field",
                "What one number of layer 4 has seen: 9 × 9 pixels, the middle ones in many more ways. "
                "Computed by sending a gradient of 1 back through four kernels of ones.",
                "A 9 by 9 table of counts, 1 in the corners and 361 in the middle",
            ),
            Formula(
                f"weights of layer 1: {MAPS} * 3 * 3 * 3 = {MAPS * 27}\n"
                f"weights of layer 2: {MAPS} * {MAPS} * 3 * 3 = {MAPS * MAPS * 9}"
            ),
            Code(
                f"{photo.code}\nimport numpy as np\nimport npconv\nfrom npconv import plots\n"
                "rng = np.random.default_rng(1)\n"
                "x = (photo.transpose(2, 0, 1) / 255).astype(np.float32)\n"
                "w1 = rng.standard_normal((8, 3, 3, 3)).astype(np.float32)\n"
                "w2 = rng.standard_normal((8, 8, 3, 3)).astype(np.float32)\n"
                "y1 = np.maximum(npconv.conv(x, w1), 0)\n"
                "y2 = np.maximum(npconv.conv(y1, w2), 0)\n"
                'plots.feature_maps({"layer 1": y1, "layer 2": y2})'
            ),
        ],
    )
