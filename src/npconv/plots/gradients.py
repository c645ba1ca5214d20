"""The picture of a padded gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import FigureBase
from numpy.typing import ArrayLike

from .. import conv
from ..conv_arguments import read, with_defaults
from ..windows import pad_geometry
from .cells import numbers
from .style import figure_of, shape_text


def padded_gradient(
    g: ArrayLike,
    w: ArrayLike,
    *,
    input_shape: tuple[int, ...],
    figure: FigureBase | None = None,
    **options: Any,
) -> np.ndarray:
    """A small gradient as the input gradient's convolution reads it: spread by the stride, then padded.

    Parameters
    ----------
    g : array_like, (1, *out)
        Gradient of an output of one channel.
    w : array_like, (1, 1, *k)
        The weights of the forward call, two spatial axes.
    input_shape : tuple of int
        The shape of x, (1, *in).
    figure : matplotlib.figure.FigureBase, optional
        A new pyplot figure by default.
    **options
        The keywords of the forward call: stride, padding, dilation.

    Returns
    -------
    ndarray, (1, *in)
        The input gradient, computed by sliding the flipped kernel over the picture's middle panel.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> from matplotlib.figure import Figure
    >>> from npconv import plots
    >>> g, w = np.array([[[1.0, 2.0], [3.0, 4.0]]]), np.arange(9.0).reshape(1, 1, 3, 3)
    >>> dx = plots.padded_gradient(g, w, input_shape=(1, 5, 5), stride=2, figure=Figure())
    >>> bool((dx == npconv.conv_input_grad(g, w, input_shape=(1, 5, 5), stride=2)).all())
    True
    """
    op = "plots.padded_gradient"
    gradient, kernel = np.asarray(g), np.asarray(w)
    if gradient.ndim != 3 or kernel.shape[:2] != (1, 1) or kernel.ndim != 4:
        raise ValueError(
            f"{op}: g.shape is {gradient.shape} and w.shape {kernel.shape}, expected (1, *out) and (1, 1, *k)"
        )
    problem = read(op, input_shape, kernel.shape, with_defaults(op, options, ("input_shape", "figure")))
    how = problem.geometry.transposed()
    spread = pad_geometry(gradient[None], how)[0]
    real = pad_geometry(np.ones_like(gradient[None], dtype=bool), how)[0, 0]
    flipped = kernel[:, :, ::-1, ::-1]
    dx = conv(spread, flipped, dilation=how.dilation)
    whole = figure_of(figure, (7.2, 6.6))
    grid = whole.subplots(2, 2)
    numbers(gradient[0], ax=grid[0, 0], title=f"g, the output's gradient\n{shape_text(gradient[0])}")
    numbers(flipped[0, 0], ax=grid[0, 1], title=f"the kernel, flipped\n{shape_text(flipped[0, 0])}")
    numbers(
        spread[0],
        ax=grid[1, 0],
        marked=real,
        title=f"g spread by the stride, padded\n{shape_text(spread[0])}",
    )
    numbers(dx[0], ax=grid[1, 1], title=f"the input's gradient\n{shape_text(dx[0])}")
    return dx
