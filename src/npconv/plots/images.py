"""One image, and a frame in it."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from .style import BLUE, SIGNED, axes_of, has_sign, magnitude


def image(
    values: ArrayLike,
    *,
    ax: Axes | None = None,
    title: str | None = None,
    limit: float | None = None,
    signed: bool | None = None,
    size: bool = True,
) -> AxesImage:
    """Draw an image (H, W), or (H, W, 3) of uint8 or of floats in [0, 1], with its size under the title.

    Parameters
    ----------
    values : array_like
        Integers from 0 to 255 other than uint8 must be converted first: they would be ambiguous.
    ax : matplotlib.axes.Axes, optional
        Where; pyplot's current axes by default.
    title : str, optional
        A line above the size.
    limit : float, optional
        From -limit to limit where there are negative values, else from 0; the largest magnitude by default.
    signed : bool, optional
        Whether to draw blue, white and orange around zero; by default where there are negative values.
    size : bool
        Whether to write the size under the title.

    Returns
    -------
    matplotlib.image.AxesImage

    Raises
    ------
    ValueError
        If the array is neither (H, W) nor (H, W, 3).

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from npconv import plots
    >>> drawn = plots.image(np.array([[-2.0, 0.0, 1.0]]), ax=Figure().subplots())
    >>> drawn.get_clim(), drawn.axes.get_title()
    ((-2.0, 2.0), '1 × 3')
    """
    array = np.asarray(values)
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[2] == 3):
        raise ValueError(f"plots.image: values.shape is {array.shape}, expected (H, W) or (H, W, 3)")
    axes = axes_of(ax)
    if array.ndim == 3:
        drawn = axes.imshow(array if array.dtype == np.uint8 else np.clip(array, 0, 1))
    else:
        array = array.astype(np.float64)
        top = magnitude(array) if limit is None else limit
        if has_sign(array) if signed is None else signed:
            # Where pixels are fewer than numbers, the mean of blue and orange is white, not brown.
            drawn = axes.imshow(array, cmap=SIGNED, vmin=-top, vmax=top, interpolation_stage="data")
        else:
            drawn = axes.imshow(array, cmap="gray", vmin=0, vmax=top)
    lines = [] if title is None else [title]
    axes.set_title("\n".join(lines + [f"{array.shape[0]} × {array.shape[1]}"] * size))
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color("#c9cdd3")
    axes.spines[:].set_visible(drawn.get_cmap() is SIGNED)  # a frame shows where a white picture ends
    return drawn


def boxed(
    values: ArrayLike,
    rows: tuple[int, int],
    columns: tuple[int, int],
    *,
    ax: Axes | None = None,
    title: str | None = None,
) -> tuple[AxesImage, Rectangle]:
    """An image with a frame around the pixels values[rows[0]:rows[1], columns[0]:columns[1]].

    Parameters
    ----------
    values, ax, title
        As in `image`.
    rows, columns : (int, int)
        The first row and column inside the frame, and the first behind it.

    Returns
    -------
    drawn : matplotlib.image.AxesImage
    frame : matplotlib.patches.Rectangle

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from npconv import plots
    >>> drawn, frame = plots.boxed(np.ones((9, 9)), (2, 5), (3, 6), ax=Figure().subplots())
    >>> frame.get_width(), frame.get_height()
    (3, 3)
    """
    drawn = image(values, ax=ax, title=title)
    (top, bottom), (left, right) = rows, columns
    frame = Rectangle(
        (left - 0.5, top - 0.5),
        right - left,
        bottom - top,
        fill=False,
        edgecolor="white",
        linewidth=2.5,
        zorder=3,
    )
    drawn.axes.add_patch(frame)
    inner = Rectangle(frame.get_xy(), right - left, bottom - top, fill=False, edgecolor=BLUE, linewidth=1.2, zorder=4)
    drawn.axes.add_patch(inner)
    return drawn, frame
