"""Several images together: grids and feature maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure, FigureBase
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike

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


def feature_maps(
    layers: Mapping[str, ArrayLike], *, maps: int = 3, figure: Figure | None = None
) -> dict[str, list[AxesImage]]:
    """Feature maps of every layer, a row per layer, labelled with the layer's name and shape.

    Of each layer the maps that vary most are shown, in their order: with random weights many are all zero.

    Parameters
    ----------
    layers : mapping of str to array_like
        Name to feature maps, each (C, H, W).
    maps : int
        How many of the C to show. Each is scaled for itself, its brightest 0.5 % all white.
    figure : matplotlib.figure.Figure, optional
        A new pyplot figure by default.

    Returns
    -------
    dict of str to list of matplotlib.image.AxesImage

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from npconv import plots
    >>> layers = {"layer 1": np.ones((8, 5, 5)), "layer 2": np.ones((4, 3, 3))}
    >>> drawn = plots.feature_maps(layers, figure=Figure())
    >>> [(name, len(row)) for name, row in drawn.items()]
    [('layer 1', 3), ('layer 2', 3)]
    """
    arrays = {name: np.asarray(values) for name, values in layers.items()}
    for name, array in arrays.items():
        if array.ndim != 3:
            raise ValueError(f"plots.feature_maps: {name!r} has shape {array.shape}, expected (C, H, W)")
    ratio = max(array.shape[1] / array.shape[2] for array in arrays.values())
    whole = figure_of(figure, (7.2, len(arrays) * (7.2 / maps * min(ratio, 2) + 0.75)))
    rows = whole.subfigures(len(arrays), 1, squeeze=False)[:, 0]
    drawn = {}
    for (name, array), row in zip(arrays.items(), rows, strict=True):
        channels, height, width = array.shape
        shown = sorted(np.argsort(-array.std(axis=(1, 2)), kind="stable")[:maps])
        drawn[name] = [
            image(array[i], ax=ax, limit=float(np.percentile(np.abs(array[i]), 99.5)) or None, size=False)
            for i, ax in zip(shown, row.subplots(1, len(shown), squeeze=False)[0], strict=True)
        ]
        for i, one in zip(shown, drawn[name], strict=True):
            one.axes.set_title(f"map {i + 1}", fontsize="small")
        row.suptitle(f"{name}: {channels} maps of {height} × {width}")
    return drawn
