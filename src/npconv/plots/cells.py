"""Small matrices as cells with their numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from numpy.typing import ArrayLike

from .style import COUNTS, GREY, SIGNED, axes_of, magnitude


def numbers(
    values: ArrayLike,
    *,
    ax: Axes | None = None,
    title: str | None = None,
    signed: bool = True,
    marked: ArrayLike | None = None,
    size: float | None = None,
) -> tuple[AxesImage, list[Text]]:
    """Draw a small matrix as coloured cells with their numbers.

    Parameters
    ----------
    values : array_like, (H, W)
        The numbers; integers are written without a point, others with up to two decimals.
    ax, title
        As `image`.
    signed : bool
        Blue, white and orange around zero; otherwise white to blue.
    marked : array_like of bool, (H, W), optional
        Cells to outline; zeros elsewhere are written in grey.
    size : float, optional
        Font size in points; by the number of cells otherwise.

    Returns
    -------
    cells : matplotlib.image.AxesImage
    texts : list of matplotlib.text.Text
        Row by row.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from npconv import plots
    >>> cells, texts = plots.numbers([[0, -1], [0.125, 5]], ax=Figure().subplots())
    >>> [text.get_text() for text in texts]
    ['0', '−1', '0.12', '5']
    """
    array = np.asarray(values)
    if array.ndim != 2:
        raise ValueError(f"plots.numbers: values.shape is {array.shape}, expected (H, W)")
    axes = axes_of(ax)
    top = magnitude(array)
    # Half of the scale is left over: the cells stay light enough for dark text and the sign stays visible.
    bottom, top, colours = (-1.6 * top, 1.6 * top, SIGNED) if signed else (0.0, 1.6 * top, COUNTS)
    cells = axes.imshow(array.astype(np.float64), cmap=colours, vmin=bottom, vmax=top)
    outlined = None if marked is None else np.asarray(marked, bool)
    texts = []
    fitting = fitting_size(array.shape, max((len(number_text(value)) for value in array.flat), default=1))
    for (i, j), value in np.ndenumerate(array):
        light = is_light(cells.to_rgba(value))
        plain = light and outlined is not None and not outlined[i, j] and not value
        colour = GREY if plain else "black" if light else "white"
        texts.append(
            axes.text(
                j,
                i,
                number_text(value),
                ha="center",
                va="center",
                color=colour,
                fontsize=size or fitting,
            )
        )
        if outlined is not None and outlined[i, j]:
            axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, edgecolor="black", linewidth=1.2, zorder=3))
    rows, columns = array.shape
    axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#c9cdd3", linewidth=0.6)
    axes.tick_params(which="both", length=0, labelbottom=False, labelleft=False)
    axes.set_xticks([])
    axes.set_yticks([])
    if title is not None:
        axes.set_title(title)
    return cells, texts


def is_light(rgba: Any) -> bool:
    """Whether black text reads better than white on it."""
    r, g, b = rgba[:3]
    return 0.299 * r + 0.587 * g + 0.114 * b > 0.45


def number_text(value: Any) -> str:
    """A number in as few characters as two decimals take."""
    if not np.isfinite(value):
        return f"{value:.0f}".replace("-", "−").replace("inf", "∞")
    decimals = 2 if abs(value) < 100 else 1 if abs(value) < 1000 else 0
    text = f"{value:.{decimals}f}".rstrip("0").rstrip(".") if value % 1 and decimals else f"{value:.0f}"
    return ("0" if text in ("-0", "") else text).replace("-", "−")


def fitting_size(shape: tuple[int, ...], longest: int) -> float:
    """A font size at which a number of that many characters stays in its cell."""
    cell = 15 if max(shape) <= 3 else 12 if max(shape) <= 6 else 10 if max(shape) <= 10 else 7
    return cell * min(1, 3.2 / longest)
