"""Kernels between what they read and what they give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import FigureBase
from matplotlib.image import AxesImage
from matplotlib.text import Text
from numpy.typing import ArrayLike

from .. import conv, filters
from .cells import numbers
from .images import image
from .style import figure_of, magnitude, shape_text


def filtered(
    before: ArrayLike,
    kernel: ArrayLike,
    after: ArrayLike | None = None,
    *,
    titles: Sequence[str] = ("input", "kernel", "output"),
    limit: float | None = None,
    figure: FigureBase | None = None,
) -> tuple[AxesImage, list[Text], AxesImage]:
    """Input, kernel with its numbers, and output, side by side.

    Parameters
    ----------
    before : array_like, (H, W)
        The input.
    kernel : array_like, (h, w)
        The kernel.
    after : array_like, (H', W'), optional
        The output; `npconv.filters.apply` computes it by default.
    titles : sequence of str
        Of the three.
    limit : float, optional
        The output's scale, as in `image`.
    figure : matplotlib.figure.FigureBase, optional
        A new pyplot figure by default.

    Returns
    -------
    before : matplotlib.image.AxesImage
    texts : list of matplotlib.text.Text
        The kernel's numbers, row by row.
    after : matplotlib.image.AxesImage

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from npconv import filters, plots
    >>> x, kernel = np.eye(9), filters.sharpen()
    >>> before, texts, after = plots.filtered(x, kernel, figure=Figure())
    >>> texts[4].get_text(), after.get_array().shape
    ('5', (9, 9))
    """
    first = np.asarray(before)
    result = filters.apply(first, np.asarray(kernel)) if after is None else after
    ratio = first.shape[0] / first.shape[1]
    whole = figure_of(figure, (7.2, 2.9 * min(ratio, 2) + 0.7))
    left, middle, right = whole.subplots(1, 3, width_ratios=(2, 1, 2))
    drawn = image(before, ax=left, title=titles[0])
    _, texts = numbers(kernel, ax=middle, title=f"{titles[1]}\n{shape_text(kernel)}")
    return drawn, texts, image(result, ax=right, title=titles[2], limit=limit)


def products(
    channels: ArrayLike,
    kernel: ArrayLike,
    parts: ArrayLike | None = None,
    *,
    names: Sequence[str] | None = None,
    figure: FigureBase | None = None,
    **options: Any,
) -> list[AxesImage]:
    """Each input channel, its slice of the kernel, the product map, and in the last row the sum of the maps.

    Parameters
    ----------
    channels : array_like, (C, H, W)
        The input.
    kernel : array_like, (C, h, w)
        One output channel's weights.
    parts : array_like, (C, H', W'), optional
        What each slice gives on its channel alone; `npconv.conv` computes it by default.
    names : sequence of str, optional
        The channels' names.
    figure : matplotlib.figure.FigureBase, optional
        A new pyplot figure by default.
    **options
        The keywords of `npconv.conv`, where it computes the parts: stride, padding, dilation ...

    Returns
    -------
    list of matplotlib.image.AxesImage
        The C product maps and their sum, on one scale.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from npconv import plots
    >>> x, kernel = np.ones((2, 5, 5)), np.ones((2, 3, 3))
    >>> drawn = plots.products(x, kernel, figure=Figure())
    >>> len(drawn), float(drawn[-1].get_array()[0, 0])
    (3, 18.0)
    """
    x, w = np.asarray(channels), np.asarray(kernel)
    if parts is not None and options:
        raise TypeError(
            f"plots.products: {', '.join(options)} would compute the parts, and they are given; leave one out"
        )
    computed = parts is None and x.ndim == w.ndim == 3 and len(x) == len(w)
    maps = conv(x, w[:, None], groups=len(x), **options) if computed else np.asarray(parts)
    if not x.ndim == w.ndim == maps.ndim == 3 or not len(x) == len(w) == len(maps):
        raise ValueError(
            f"plots.products: channels {x.shape}, kernel {w.shape} and parts {maps.shape} "
            "must each be (C, height, width) with one C"
        )
    labels = [f"channel {i}" for i in range(len(x))] if names is None else list(names)
    ratio = x.shape[1] / x.shape[2]
    whole = figure_of(figure, (7.2, (len(x) + 1) * (2.9 * min(ratio, 2) + 0.45)))
    grid = whole.subplots(len(x) + 1, 3, width_ratios=(2, 1, 2), squeeze=False)
    limit = magnitude(np.stack([*maps, maps.sum(0)]))
    drawn = []
    for i, (left, middle, right) in enumerate(grid[:-1]):
        image(x[i], ax=left).axes.set_title(labels[i])
        numbers(w[i], ax=middle, title="weights")
        drawn.append(image(maps[i], ax=right, limit=limit, signed=True))
        drawn[-1].axes.set_title(f"{labels[i]} × weights")
    for empty in grid[-1, :2]:
        empty.set_axis_off()
    words = " + ".join(labels)
    grid[-1, 0].text(
        0.75,
        0.5,
        f"{words}\n= one output channel",
        ha="center",
        va="center",
        fontsize="large",
        transform=grid[-1, 0].transAxes,
    )
    drawn.append(image(maps.sum(0), ax=grid[-1, 2], limit=limit, signed=True))
    drawn[-1].axes.set_title("sum = output")
    return drawn
