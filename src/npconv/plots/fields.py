"""What a unit of a network sees of the image."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from ..nn import Layer, Sequential
from .images import boxed
from .layers import Array, batched, channels_last, maps_of, of_ones, up_to
from .style import ORANGE, axes_of

#: Orange that darkens; how much of it is there is said by its opacity.
_HEAT = LinearSegmentedColormap.from_list("npconv_heat", [ORANGE, "#a03c00"])


def receptive_field(
    model: Layer,
    image: ArrayLike,
    *,
    layer: str | None = None,
    unit: tuple[int, int] | None = None,
    channel: int | None = None,
    effective: bool = True,
    ax: Axes | None = None,
) -> tuple[AxesImage, Rectangle, AxesImage | None]:
    """The pixels that a unit of a model depends on, as a frame, and how strongly on each, in orange.

    Parameters
    ----------
    model : npconv.nn.Layer
        Layers with two spatial axes first.
    image : array_like, (C, H, W) or in the model's layout
        What the model reads; its mean over the channels is drawn, in grey.
    layer : str, optional
        The path of the unit's layer, as `npconv.nn.summary` writes it; the last with two spatial axes by default.
    unit : (int, int), optional
        Row and column in the layer's output; the middle by default.
    channel : int, optional
        Its channel; the one of the largest output there by default. Only the orange depends on it.
    effective : bool
        Whether to draw the orange.
    ax : matplotlib.axes.Axes, optional
        Where; pyplot's current axes by default.

    Returns
    -------
    drawn : matplotlib.image.AxesImage
        The image.
    frame : matplotlib.patches.Rectangle
        Around everything inside the image that the unit can depend on, whatever the weights are.
    strength : matplotlib.image.AxesImage, or None
        The magnitude of the gradient of the unit, summed over the image's channels, its largest 1. The opacity is its
        square root.

    Raises
    ------
    ValueError
        If there is no such layer or unit.

    Notes
    -----
    The frame is found by a gradient too, that of a twin whose weights are all positive. That most of what a unit can see
    hardly matters to it: Luo et al. (2016), "Understanding the effective receptive field", arXiv:1701.04128.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from npconv import nn, plots
    >>> model = nn.Sequential(nn.Conv(1, 4, 3, rng=0), nn.ReLU(), nn.MaxPool(2), nn.Conv(4, 4, 3, rng=1))
    >>> _, frame, _ = plots.receptive_field(model, np.ones((1, 20, 20)), unit=(0, 1), ax=Figure().subplots())
    >>> frame.get_x(), frame.get_width()          # the first pixel's centre is at 0
    (1.5, 8)
    """
    op = "plots.receptive_field"
    x, last = batched(op, image), channels_last(model)
    path, layers = up_to(op, model, layer, x.shape)
    part = Sequential(*layers)
    outputs, height, width = maps_of(np.broadcast_to(0, part.out_shape(x.shape)), last).shape
    row, column = (height // 2, width // 2) if unit is None else unit
    if not (0 <= row < height and 0 <= column < width and (channel is None or 0 <= channel < outputs)):
        raise ValueError(
            f"{op}: unit={unit}, channel={channel} is not in the {outputs} × {height} × {width} of layer {path}"
        )
    seen = _gradient(of_ones(part, x.shape), x.astype(np.float64), last, row, column, 0, every=True)
    rows, columns = np.nonzero(seen.any(1))[0], np.nonzero(seen.any(0))[0]
    if not rows.size:
        raise ValueError(f"{op}: unit ({row}, {column}) of layer {path} depends on no pixel")
    (top, bottom), (left, right) = ((int(a[0]), int(a[-1]) + 1) for a in (rows, columns))
    axes = axes_of(ax)
    grey = maps_of(x, last).mean(0, dtype=np.float64)
    drawn, frame = boxed(grey - min(0, grey.min()), (top, bottom), (left, right), ax=axes)
    named = f"layer {path}" if path else "the layer"
    sides = f"{bottom - top} × {right - left} of {grey.shape[0]} × {grey.shape[1]} pixels"
    axes.set_title(f"unit ({row}, {column}) of {named}\nsees {sides}")
    if not effective:
        return drawn, frame, None
    if channel is None:
        channel = int(np.argmax(maps_of(part(x), last)[:, row, column]))
    strength = _gradient(part, x, last, row, column, channel)
    strength = strength / (strength.max() or 1)
    heat = axes.imshow(strength, cmap=_HEAT, vmin=0, vmax=1, alpha=np.sqrt(strength), interpolation="nearest", zorder=2)
    return drawn, frame, heat


def _gradient(
    model: Layer, x: Array, last: bool, row: int, column: int, channel: int, every: bool = False
) -> np.ndarray:
    """How strongly a unit, or `every` channel of it, depends on each pixel: (H, W)."""
    y, saved = model.forward(x, training=False)
    g = np.zeros_like(y)
    maps_of(g, last)[slice(None) if every else channel, row, column] = 1
    back = model.backward(g, saved)[0]
    return np.abs(maps_of(np.zeros_like(x) if back is None else back, last)).sum(0)
