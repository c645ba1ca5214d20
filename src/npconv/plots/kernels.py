"""Kernels and gradients, small enough to write the numbers into the cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from numpy.typing import ArrayLike

from .. import conv
from ..conv_arguments import read, with_defaults
from ..windows import pad_geometry
from .images import image
from .style import COUNTS, GREY, SIGNED, axes_of, figure_of, magnitude, shape_text


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
    for (i, j), value in np.ndenumerate(array):
        light = _light(cells.to_rgba(value))
        plain = light and outlined is not None and not outlined[i, j] and not value
        colour = GREY if plain else "black" if light else "white"
        texts.append(
            axes.text(
                j,
                i,
                _number(value),
                ha="center",
                va="center",
                color=colour,
                fontsize=size or _fitting(array.shape),
            )
        )
        if outlined is not None and outlined[i, j]:
            axes.add_patch(
                Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, edgecolor="black", linewidth=1.2, zorder=3)
            )
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


def filtered(
    before: ArrayLike,
    kernel: ArrayLike,
    after: ArrayLike,
    *,
    titles: Sequence[str] = ("input", "kernel", "output"),
    limit: float | None = None,
    figure: FigureBase | None = None,
) -> tuple[AxesImage, list[Text], AxesImage]:
    """Input, kernel with its numbers, and output, side by side; `limit` is the output's scale, as in `image`.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from npconv import filters, plots
    >>> x, kernel = np.eye(9), filters.sharpen()
    >>> before, texts, after = plots.filtered(x, kernel, filters.apply(x, kernel), figure=Figure())
    >>> texts[4].get_text(), after.get_array().shape
    ('5', (9, 9))
    """
    first = np.asarray(before)
    ratio = first.shape[0] / first.shape[1]
    whole = figure_of(figure, (7.2, 2.9 * min(ratio, 2) + 0.7))
    left, middle, right = whole.subplots(1, 3, width_ratios=(2, 1, 2))
    drawn = image(before, ax=left, title=titles[0])
    _, texts = numbers(kernel, ax=middle, title=f"{titles[1]}\n{shape_text(kernel)}")
    return drawn, texts, image(after, ax=right, title=titles[2], limit=limit)


def products(
    channels: ArrayLike,
    kernel: ArrayLike,
    parts: ArrayLike,
    *,
    names: Sequence[str] | None = None,
    figure: FigureBase | None = None,
) -> list[AxesImage]:
    """Each input channel, its slice of the kernel, the product map, and in the last row the sum of the maps.

    Parameters
    ----------
    channels : array_like, (C, H, W)
        The input.
    kernel : array_like, (C, h, w)
        One output channel's weights.
    parts : array_like, (C, H', W')
        What each slice gives on its channel alone.
    names : sequence of str, optional
        The channels' names.
    figure : matplotlib.figure.FigureBase, optional
        A new pyplot figure by default.

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
    >>> parts = np.full((2, 3, 3), 9.0)
    >>> len(plots.products(x, kernel, parts, figure=Figure()))
    3
    """
    x, w, maps = np.asarray(channels), np.asarray(kernel), np.asarray(parts)
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
        0.75, 0.5, f"{words}\n= one output channel", ha="center", va="center", transform=grid[-1, 0].transAxes
    )
    drawn.append(image(maps.sum(0), ax=grid[-1, 2], limit=limit, signed=True))
    drawn[-1].axes.set_title("sum = output")
    return drawn


def padded_gradient(
    g: ArrayLike,
    w: ArrayLike,
    *,
    input_shape: tuple[int, ...],
    figure: FigureBase | None = None,
    **options: Any,
) -> np.ndarray:
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
        The keywords of the forward call: stride, padding, dilation.

    Returns
    -------
    ndarray, (1, *in)
        The input gradient, computed by sliding the flipped kernel over the picture's middle panel.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> from matplotlib.figure import Figure
    >>> from npconv import plots
    >>> g, w = np.array([[[1.0, 2.0], [3.0, 4.0]]]), np.arange(9.0).reshape(1, 1, 3, 3)
    >>> dx = plots.padded_gradient(g, w, input_shape=(1, 5, 5), stride=2, figure=Figure())
    >>> bool((dx == npconv.conv_input_grad(g, w, input_shape=(1, 5, 5), stride=2)).all())
    True
    """
    op = "plots.padded_gradient"
    gradient, kernel = np.asarray(g), np.asarray(w)
    if gradient.ndim != 3 or kernel.shape[:2] != (1, 1) or kernel.ndim != 4:
        raise ValueError(
            f"{op}: g.shape is {gradient.shape} and w.shape {kernel.shape}, expected (1, *out) and (1, 1, *k)"
        )
    problem = read(op, input_shape, kernel.shape, with_defaults(op, options, ("input_shape", "figure")))
    how = problem.geometry.transposed()
    spread = pad_geometry(gradient[None], how)[0]
    real = pad_geometry(np.ones_like(gradient[None], dtype=bool), how)[0, 0]
    flipped = kernel[:, :, ::-1, ::-1]
    dx = conv(spread, flipped, dilation=how.dilation)
    whole = figure_of(figure, (7.2, 6.6))
    grid = whole.subplots(2, 2)
    numbers(gradient[0], ax=grid[0, 0], title=f"g, the output's gradient\n{shape_text(gradient[0])}")
    numbers(flipped[0, 0], ax=grid[0, 1], title=f"the kernel, flipped\n{shape_text(flipped[0, 0])}")
    numbers(
        spread[0],
        ax=grid[1, 0],
        marked=real,
        title=f"g spread by the stride, padded\n{shape_text(spread[0])}",
    )
    numbers(dx[0], ax=grid[1, 1], title=f"the input's gradient\n{shape_text(dx[0])}")
    return dx


def _light(rgba: Any) -> bool:
    """Whether black text reads better than white on it."""
    r, g, b = rgba[:3]
    return 0.299 * r + 0.587 * g + 0.114 * b > 0.45


def _number(value: Any) -> str:
    text = f"{value:.2f}".rstrip("0").rstrip(".") if value % 1 else f"{value:.0f}"
    return ("0" if text in ("-0", "") else text).replace("-", "−")


def _fitting(shape: tuple[int, ...]) -> float:
    return 15 if max(shape) <= 3 else 12 if max(shape) <= 6 else 10 if max(shape) <= 10 else 7
