"""The filters of a layer as small pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import FigureBase
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike

from ..nn import Layer
from .images import image
from .style import figure_of, magnitude


def kernels(
    weights: ArrayLike | Layer,
    *,
    columns: int = 8,
    numbered: bool = True,
    title: str | None = None,
    figure: FigureBase | None = None,
) -> list[AxesImage]:
    """The kernels of a layer side by side, all on one scale.

    Kernels of three channels are drawn in colour: middle grey is zero, and a channel's weight makes it brighter or
    darker. Of one channel: blue below zero, white at zero, orange above. Others take a row per output channel and a
    column per input channel.

    Parameters
    ----------
    weights : array_like, (O, C, h, w), or npconv.nn.Layer
        The weights; of a model, those of its first convolution.
    columns : int
        How many kernels of one or three channels side by side.
    numbered : bool
        Whether to write each kernel's output channel, or output and input channel, above it.
    title : str, optional
        Above all of them.
    figure : matplotlib.figure.FigureBase, optional
        A new pyplot figure by default.

    Returns
    -------
    list of matplotlib.image.AxesImage
        Kernel by kernel.

    Raises
    ------
    ValueError
        If the weights do not have two spatial axes, or the model has no convolution.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from npconv import nn, plots
    >>> model = nn.Sequential(nn.Conv(3, 8, 5, rng=0), nn.ReLU())
    >>> len(plots.kernels(model, figure=Figure()))
    8
    """
    w = np.asarray(_first_weights(weights) if isinstance(weights, Layer) else weights)
    if w.ndim != 4 or not w.size:
        raise ValueError(f"plots.kernels: weights.shape is {w.shape}, expected (O, C, h, w)")
    limit = magnitude(w)
    outputs, channels, height, width = w.shape
    if channels == 3:
        shown = [np.moveaxis(kernel, 0, -1) / (2 * limit) + 0.5 for kernel in w.astype(np.float64)]
    else:
        shown = [plane for kernel in w for plane in kernel]
    columns = channels if channels not in (1, 3) else min(columns, outputs)
    rows = -(-len(shown) // columns)
    inches = min(7.2 / columns, 1.4)
    above = 0.3 if numbered else 0.1
    size = (columns * inches, rows * (inches * height / width + above) + (0.4 if title else 0))
    whole = figure_of(figure, size)
    grid = whole.subplots(rows, columns, squeeze=False).ravel()
    drawn = []
    for i, (picture, ax) in enumerate(zip(shown, grid, strict=False)):
        one = image(picture, ax=ax, limit=limit, signed=True, size=False)
        if numbered:
            ax.set_title(str(i) if channels in (1, 3) else str(list(divmod(i, channels))), fontsize="small", pad=3)
        drawn.append(one)
    for empty in grid[len(shown) :]:
        empty.set_axis_off()
    if title is not None:
        whole.suptitle(title)
    return drawn


def _first_weights(model: Layer) -> Any:
    """The weights of the first convolution with two spatial axes."""
    for _, layer in model.walk():
        w = layer.params.get("weight")
        if w is not None and w.ndim == 4:
            return w
    raise ValueError(f"plots.kernels: {type(model).__name__} has no convolution with two spatial axes")
