"""Colours, axes, figures and scales: what every picture shares."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure, FigureBase
from numpy.typing import ArrayLike

#: Blue, white, orange: white is zero, exactly (an odd number of colours has a middle one).
SIGNED = LinearSegmentedColormap.from_list(
    "npconv_signed", ["#08306b", "#0072b2", "#ffffff", "#d55e00", "#6e2f00"], N=257
)
#: White to blue, for counts and confusion matrices.
COUNTS = LinearSegmentedColormap.from_list("npconv_counts", ["#ffffff", "#0072b2", "#08306b"])
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#8a8f98"


def axes_of(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    # Imported here: it picks a window system, which a caller who gives axes does not need.
    from matplotlib import pyplot

    return pyplot.gca()


def figure_of(figure: FigureBase | None, size: tuple[float, float]) -> FigureBase:
    """The figure given, or a new one of pyplot's; one that is empty gets the size that suits the picture."""
    if figure is None:
        from matplotlib import pyplot

        return pyplot.figure(figsize=size, layout="constrained")
    if isinstance(figure, Figure) and not figure.axes:
        figure.set_size_inches(size)
        figure.set_layout_engine("constrained")
    return figure


def magnitude(array: np.ndarray) -> float:
    """The largest finite magnitude, or 1 where there is none to scale by."""
    finite = np.abs(array[np.isfinite(array)])
    return float(finite.max(initial=0)) or 1.0


def has_sign(array: np.ndarray) -> bool:
    return bool((array < 0).any())


def shape_text(array: ArrayLike) -> str:
    height, width = np.shape(array)[-2:]
    return f"{height} × {width}"
