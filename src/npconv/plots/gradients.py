"""The picture of a padded gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import FigureBase
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike

from .. import conv
from ..windows import pad_geometry
from .board import check_size
from .cells import numbers
from .drawable import arrays, drawable, in_shape
from .style import figure_of, shape_text


def padded_gradient(
    g: ArrayLike,
    w: ArrayLike,
    *,
    input_shape: tuple[int, ...],
    figure: FigureBase | None = None,
    **options: Any,
) -> list[AxesImage]:
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
        The keywords of the forward call: stride, padding, dilation, input_dilation.

    Returns
    -------
    list of matplotlib.image.AxesImage
        The gradient, the flipped kernel, the spread and padded gradient, and the input gradient, which was computed by
        sliding the second over the third.

    Raises
    ------
    ValueError
        If the shapes do not fit, there are several channels, or the padding copies elements.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> from matplotlib.figure import Figure
    >>> from npconv import plots
    >>> g, w = np.array([[[1.0, 2.0], [3.0, 4.0]]]), np.arange(9.0).reshape(1, 1, 3, 3)
    >>> drawn = plots.padded_gradient(g, w, input_shape=(1, 5, 5), stride=2, figure=Figure())
    >>> dx = npconv.conv_input_grad(g, w, input_shape=(1, 5, 5), stride=2)
    >>> bool((drawn[-1].get_array() == dx[0]).all())
    True
    """
    op = "plots.padded_gradient"
    given = arrays(op, g=g, w=w)
    gradient, kernel = given["g"], given["w"]
    if gradient.ndim != 3 or kernel.shape[:2] != (1, 1) or kernel.ndim != 4:
        raise ValueError(
            f"{op}: g.shape is {gradient.shape} and w.shape {kernel.shape}, expected (1, *out) and (1, 1, *k)"
        )
    d = drawable(op, tuple(input_shape), kernel.shape, options)
    if d.problem.padded is not None:
        raise ValueError(
            f"{op}: padding_mode={d.problem.padded.mode!r} copies elements, and their gradients meet again; "
            'use plots.sliding(..., what="input_grad")'
        )
    in_shape(op, "g", gradient, d.problem.y_shape)
    how = d.problem.geometry.transposed()
    spread = pad_geometry(gradient[None], how)[0]
    real = pad_geometry(np.ones_like(gradient[None], dtype=bool), how)[0, 0]
    flipped = kernel[:, :, ::-1, ::-1]
    dx = conv(spread, flipped, stride=how.stride, dilation=how.dilation)
    check_size(op, spread.shape, dx.shape)
    whole = figure_of(figure, (7.2, 6.6))
    grid = whole.subplots(2, 2).ravel()
    shown = (
        (gradient[0], None, "g, the output's gradient"),
        (flipped[0, 0], None, "the kernel, flipped"),
        (spread[0], real, "g spread by the stride, padded"),
        (dx[0], None, "the input's gradient"),
    )
    return [
        numbers(values, ax=ax, marked=marked, title=f"{title}\n{shape_text(values)}")[0]
        for ax, (values, marked, title) in zip(grid, shown, strict=True)
    ]
