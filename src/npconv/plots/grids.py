"""Several images together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import FigureBase
from matplotlib.image import AxesImage

from .images import image
from .style import figure_of


def image_grid(
    images: Sequence[Any] | np.ndarray,
    *,
    titles: Sequence[str] | None = None,
    columns: int = 3,
    title: str | None = None,
    limit: float | None = None,
    size: bool = True,
    figure: FigureBase | None = None,
) -> list[AxesImage]:
    """Draw images or feature maps (C, H, W) in rows, each with its size.

    Parameters
    ----------
    images : sequence of array_like
        Each as for `image`.
    titles : sequence of str, optional
        One per image.
    columns : int
        How many side by side.
    title : str, optional
        Above all of them.
    limit : float, optional
        One scale for all; each has its own otherwise.
    size : bool
        Whether to write each one's size.
    figure : matplotlib.figure.FigureBase, optional
        A figure or subfigure; a new pyplot figure by default.

    Returns
    -------
    list of matplotlib.image.AxesImage

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from npconv import plots
    >>> maps = np.arange(30.0).reshape(5, 2, 3)
    >>> len(plots.image_grid(maps, columns=3, title="layer 1", figure=Figure()))
    5
    """
    every = [np.asarray(picture) for picture in images]
    if not every:
        raise ValueError("plots.image_grid: images is empty")
    if titles is not None and len(titles) != len(every):
        raise ValueError(f"plots.image_grid: {len(titles)} titles for {len(every)} images")
    columns = min(columns, len(every))
    rows = -(-len(every) // columns)
    height, width = every[0].shape[:2]
    inches = 7.2 / columns
    whole = figure_of(figure, (7.2, rows * (inches * min(height / width, 2) + (0.3 if titles is None else 0.5)) + 0.3))
    grid = whole.subplots(rows, columns, squeeze=False).ravel()
    drawn = [
        image(picture, ax=ax, title=None if titles is None else titles[i], limit=limit, size=size)
        for i, (picture, ax) in enumerate(zip(every, grid, strict=False))
    ]
    for empty in grid[len(every) :]:
        empty.set_axis_off()
    if title is not None:
        whole.suptitle(title)
    return drawn
