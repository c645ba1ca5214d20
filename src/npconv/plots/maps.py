"""Feature maps, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import FigureBase
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike

from ..nn import Layer
from .images import image as draw_image
from .layers import parts
from .style import figure_of


def feature_maps(
    layers: Mapping[str, ArrayLike] | Layer,
    image: ArrayLike | None = None,
    *,
    maps: int = 3,
    figure: FigureBase | None = None,
) -> dict[str, list[AxesImage]]:
    """Feature maps of every layer, a row per layer, labelled with the layer's name and shape.

    Of each layer the maps that vary most are shown, in their order: with random weights many are all zero.

    Parameters
    ----------
    layers : mapping of str to array_like, or npconv.nn.Layer
        Name to feature maps, each (C, H, W); or a model, which then runs on `image`.
    image : array_like, (C, H, W) or in the model's layout, optional
        What a model reads. Its rows are the image, and what comes out of each layer that slides or joins, together with
        the activations and norms behind it.
    maps : int
        How many of the C to show. Each is scaled for itself, its brightest 0.5 % all white.
    figure : matplotlib.figure.FigureBase, optional
        A figure or subfigure; a new pyplot figure by default.

    Returns
    -------
    dict of str to list of matplotlib.image.AxesImage

    Raises
    ------
    ValueError
        If there is nothing to draw, or a shape does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from npconv import nn, plots
    >>> model = nn.Sequential(nn.Conv(3, 8, 3, rng=0), nn.ReLU(), nn.MaxPool(2), nn.Flatten(), nn.Linear(288, 2, rng=1))
    >>> drawn = plots.feature_maps(model, np.ones((3, 14, 14)), figure=Figure())
    >>> [(name, len(row)) for name, row in drawn.items()]
    [('input', 1), ('0 Conv, ReLU', 3), ('2 MaxPool', 3)]
    """
    op = "plots.feature_maps"
    if isinstance(layers, Layer) == (image is None):
        raise ValueError(f"{op}: an image goes with a model, and with nothing else; give both, or arrays alone")
    if isinstance(layers, Layer):
        arrays = parts(op, layers, [] if image is None else image)
    else:
        arrays = {name: np.asarray(values) for name, values in layers.items()}
    for name, array in arrays.items():
        if array.ndim != 3 or not array.size:
            raise ValueError(f"{op}: {name!r} has shape {array.shape}, expected (C, H, W)")
    if not arrays or maps < 1:
        raise ValueError(f"{op}: {len(arrays)} layers and maps={maps} leave nothing to draw")
    ratio = max(array.shape[1] / array.shape[2] for array in arrays.values())
    whole = figure_of(figure, (7.2, len(arrays) * (7.2 / maps * min(ratio, 2) + 0.75)))
    rows = whole.subfigures(len(arrays), 1, squeeze=False)[:, 0]
    drawn = {}
    for (name, array), row in zip(arrays.items(), rows, strict=True):
        channels, height, width = array.shape
        if isinstance(layers, Layer) and name == "input" and _is_colour(array):
            drawn[name] = [draw_image(np.moveaxis(array, 0, -1), ax=row.subplots(), size=False)]
            row.suptitle(f"{name}: {height} × {width} in colour")
        else:
            shown = sorted(np.argsort(-array.std(axis=(1, 2)), kind="stable")[:maps])
            drawn[name] = [
                draw_image(array[i], ax=ax, limit=float(np.percentile(np.abs(array[i]), 99.5)) or None, size=False)
                for i, ax in zip(shown, row.subplots(1, len(shown), squeeze=False)[0], strict=True)
            ]
            for i, one in zip(shown, drawn[name], strict=True):
                one.axes.set_title(f"map {i + 1}", fontsize="small")
            row.suptitle(f"{name}: {channels} map{'s' * (channels > 1)} of {height} × {width}")
    return drawn


def _is_colour(array: np.ndarray) -> bool:
    return len(array) == 3 and bool((array >= 0).all() and (array <= 1).all())
