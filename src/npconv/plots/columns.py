"""im2col: the windows of an image as the rows of a matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import FigureBase
from numpy.typing import ArrayLike

from .. import conv
from .board import Board, Drawn, Panel, check_size, wrapped
from .drawable import arrays, drawable, in_shape


def im2col(x: ArrayLike, w: ArrayLike, *, row: int = 0, figure: FigureBase | None = None, **options: Any) -> Drawn:
    """A convolution as one matrix product: a row per window, a column per weight; one window is outlined.

    Parameters
    ----------
    x : array_like, (C, *in) or (*in)
        One image with one or two spatial axes; the channel axis may be left out.
    w : array_like, (O, C, *k) or (*k)
        As in `npconv.conv`, one group.
    row : int
        Which window to outline, -1 for the last.
    figure : matplotlib.figure.FigureBase, optional
        A new pyplot figure by default.
    **options
        The keywords of `npconv.conv`: stride, padding, dilation ...

    Returns
    -------
    dict
        For each matrix by its title: its cells, and their numbers row by row.

    Raises
    ------
    ValueError
        If there is more than one group, no such window, or too much to read.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from npconv import plots
    >>> drawn = plots.im2col(np.arange(9).reshape(3, 3), [[1, 0], [0, -1]], row=1, figure=Figure())
    >>> cells, texts = drawn["windows: 4 × 4"]
    >>> [text.get_text() for text in texts[4:8]]
    ['1', '2', '4', '5']
    """
    op = "plots.im2col"
    given = arrays(op, x=x, w=w)
    d = drawable(op, given["x"].shape, given["w"].shape, options)
    if d.channels[2] > 1:
        raise ValueError(f"{op}: groups={d.channels[2]}: each group is a matrix product of its own; draw one group")
    windows, outputs = d.out[0] * d.out[1], d.channels[1]
    taps = d.problem.geometry.terms
    check_size(op, d.x_shape, d.w_shape, (windows, taps), (windows, outputs))
    if not -windows <= row < windows:
        raise ValueError(f"{op}: row={row}, but there are {windows} windows")
    row %= windows
    x_all = in_shape(op, "x", given["x"], d.problem.x_shape)
    w_all = in_shape(op, "w", given["w"], d.problem.w_shape)
    frame, places = d.framed(x_all.reshape(d.x_shape)), [d.at(p) for p in np.ndindex(*d.out)]
    matrix = np.array([[frame[c][place] for c in range(len(frame))] for place in places]).reshape(windows, taps)
    y = conv(x_all, w_all, **options).reshape(outputs, windows).T
    this = np.arange(windows)[:, None] == row
    panels = {}
    for c, values in enumerate(frame):
        title = "x" if len(frame) == 1 else f"x[{c}]"
        panels[c, 0] = Panel(title, values, outlined=d.marked(places[row]), padding=~d.own)
    for column, (title, values, marked) in enumerate(
        (("windows", matrix, True), ("weights", w_all.reshape(outputs, taps).T, False), ("outputs", y, True)), 1
    ):
        outlined = this & np.ones(values.shape, bool) if marked else None
        height, width = values.shape
        panels[0, column] = Panel(f"{title}: {height} × {width}", values, outlined=outlined, tall=True)
    signs = {(0, column): sign for column, sign in ((1, "→"), (2, "×"), (3, "="))}
    position = np.unravel_index(row, d.out)[2 - d.problem.geometry.rank :]
    sentence = (
        f"row {row}, the window of output {[int(p) for p in position]}, times the weights is row {row} of the outputs"
    )
    caption = wrapped([sentence], Board(panels).size[0] - 0.6)
    board = Board(panels, signs, caption, len(caption))
    return board.draw(board.figure(figure))
