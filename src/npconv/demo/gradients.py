"""The chapter on going back: the gradient as the convolution that it is."""

from __future__ import annotations

import numpy as np

from .. import conv_input_grad, plots
from .report import Chapter, Code, Folder, Formula, Text, canvas


def padded_gradient(folder: Folder) -> Chapter:
    """The input gradient is a convolution of the spread, padded gradient with the flipped kernel."""
    g = np.arange(1, 17).reshape(1, 4, 4)
    w = np.array([[[[1, 2, 0], [0, 1, -1], [3, 0, -2]]]])
    figure = canvas(1)
    how = {"input_shape": (1, 7, 7), "stride": 2, "padding": 1}
    by_picture = plots.padded_gradient(g, w, figure=figure, **how)[-1].get_array()  # type: ignore[arg-type]
    by_function = conv_input_grad(g, w, **how)  # type: ignore[arg-type]
    return Chapter(
        "gradient",
        "Going back: the gradient is a convolution too",
        [
            Text(
                "Training asks: if this output should grow by g, how should each input change? Every input "
                "pixel collects g times the weight from each window it was in. Written down, that is a "
                "convolution again: spread g by the stride, pad it, flip the kernel, slide."
            ),
            folder.save(
                figure,
                "padded-gradient",
                "A kernel of 3 × 3 that went over 7 × 7 pixels with stride 2 and padding 1. Framed cells "
                "are g; the zeros between them are the stride, those around them the padding.",
                "Four tables: the gradient, the flipped kernel, the spread and padded gradient, the input gradient",
            ),
            Formula(
                "spread: (4 - 1) * 2 + 1 = 7      padded: 7 + 1 + 1 = 9      slid: 9 - 3 + 1 = 7\n"
                "padding of g: k - 1 - padding = 3 - 1 - 1 = 1\n"
                f"largest difference from npconv.conv_input_grad: {np.abs(by_picture - by_function).max()}"
            ),
            Code(
                "import numpy as np\nimport npconv\nfrom npconv import plots\n"
                "g = np.arange(1, 17).reshape(1, 4, 4)\n"
                "w = np.array([[[[1, 2, 0], [0, 1, -1], [3, 0, -2]]]])\n"
                "how = dict(input_shape=(1, 7, 7), stride=2, padding=1)\n"
                "dx = plots.padded_gradient(g, w, **how)[-1].get_array()\n"
                "print((dx == npconv.conv_input_grad(g, w, **how)[0]).all())"
            ),
        ],
    )
