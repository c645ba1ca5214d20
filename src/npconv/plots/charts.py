"""Charts of times and of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from numpy.typing import ArrayLike

from ..explanation import Explanation
from .cells import fitting_size, numbers
from .style import BLUE, GREY, ORANGE, axes_of, figure_of


def race(
    names: Sequence[str] | Explanation,
    seconds: Sequence[float] | None = None,
    *,
    chosen: str | None = None,
    ax: Axes | None = None,
    title: str | None = None,
) -> list[Rectangle]:
    """Horizontal bars of times, the fastest at the top, each with its milliseconds.

    Parameters
    ----------
    names : sequence of str, or the return value of `npconv.explain`
        What ran; or an explanation with ``measure=True``, which brings its times and its choice.
    seconds : sequence of float, optional
        How long each took.
    chosen : str, optional
        The name of a bar to draw in orange.
    ax : matplotlib.axes.Axes, optional
        Where; pyplot's current axes by default.
    title : str, optional
        Above the bars.

    Returns
    -------
    list of matplotlib.patches.Rectangle
        The bars, fastest first.

    Raises
    ------
    ValueError
        If there are not as many times as names, or none, or a time is not a number >= 0, or nothing is called `chosen`.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from npconv import plots
    >>> bars = plots.race(["gemm", "fft"], [0.002, 0.004], chosen="gemm", ax=Figure().subplots())
    >>> [float(bar.get_width()) for bar in bars]
    [2.0, 4.0]
    """
    if isinstance(names, Explanation):
        if seconds is not None:
            raise ValueError("plots.race: an explanation brings its own times; leave seconds out")
        chosen = names.choice if chosen is None else chosen
        measured = {c.name: c.measured for c in names.candidates if c.measured is not None}
        if not measured:
            raise ValueError("plots.race: nothing was measured; use npconv.explain(..., measure=True)")
        names, seconds = list(measured), list(measured.values())
    seconds = [] if seconds is None else seconds
    if len(names) != len(seconds) or not names:
        raise ValueError(f"plots.race: {len(names)} names for {len(seconds)} times")
    if not all(0 <= t < np.inf for t in seconds):
        raise ValueError(f"plots.race: the times are {list(seconds)}, expected numbers >= 0")
    if chosen is not None and chosen not in names:
        raise ValueError(f"plots.race: chosen={chosen!r} is none of {', '.join(names)}")
    order = np.argsort(seconds, kind="stable")
    axes = axes_of(ax)
    sorted_names = [names[i] for i in order]
    times = [seconds[i] * 1e3 for i in order]
    colours = [ORANGE if name == chosen else BLUE for name in sorted_names]
    bars = axes.barh(sorted_names, times, color=colours)
    labels = [
        f"{_significant(t)} ms{' (chosen)' if name == chosen else ''}"
        for name, t in zip(sorted_names, times, strict=True)
    ]
    axes.bar_label(bars, labels, padding=4)
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds, least of several runs")
    axes.set_xlim(0, max(times) * 1.35 or 1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    if title is not None:
        axes.set_title(title, loc="left")
    return list(bars)


def history(
    loss: Sequence[float], accuracy: Mapping[str, Sequence[float]], *, figure: FigureBase | None = None
) -> list[Any]:
    """Loss and accuracies by epoch, one above the other.

    Parameters
    ----------
    loss : sequence of float
        After each epoch.
    accuracy : mapping of str to sequence of float
        By what they are of; fractions, drawn in per cent.
    figure : matplotlib.figure.FigureBase, optional
        A new pyplot figure by default.

    Returns
    -------
    list of matplotlib.lines.Line2D
        The loss, then the accuracies in their order.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from npconv import plots
    >>> lines = plots.history([1.0, 0.5], {"training": [0.8, 0.9], "held out": [0.7, 0.8]}, figure=Figure())
    >>> [line.get_label() for line in lines[1:]]
    ['training', 'held out']
    """
    whole = figure_of(figure, (7.2, 5.0))
    upper, lower = whole.subplots(2, 1, sharex=True)
    epochs = np.arange(1, len(loss) + 1)
    lines = upper.plot(epochs, loss, color=BLUE, marker="o")
    upper.set_title("training loss", loc="left")
    upper.set_ylim(bottom=0)
    looks = ((GREY, "s", "--"), (ORANGE, "o", "-"), (BLUE, "^", ":"), ("black", "v", "-."))
    for (label, values), (colour, marker, dash) in zip(accuracy.items(), cycle(looks), strict=False):
        lines += lower.plot(epochs, 100 * np.asarray(values), color=colour, marker=marker, linestyle=dash, label=label)
    lower.set_title("accuracy, %", loc="left")
    lower.set_xlabel("epoch (once through the training images)")
    lower.set_xticks(epochs[:: max(1, len(epochs) // 12)])
    if accuracy:
        lower.legend(frameon=False, loc="lower right")
    for axes in (upper, lower):
        axes.grid(color="#e3e6ea")
        axes.spines[["top", "right"]].set_visible(False)
    return lines


def confusion(counts: ArrayLike, *, labels: Sequence[str] | None = None, ax: Axes | None = None) -> list[Text]:
    """A confusion matrix: row = what it is, column = what was answered.

    Parameters
    ----------
    counts : array_like of int, (classes, classes)
        How often each answer was given for each class; the colours are on a square-root scale.
    labels : sequence of str, optional
        The classes' names, their numbers by default.
    ax : matplotlib.axes.Axes, optional
        Where; pyplot's current axes by default.

    Returns
    -------
    list of matplotlib.text.Text
        The counts, row by row; nothing is written for 0.

    Raises
    ------
    ValueError
        If the table is not square, a count is negative, or there are not as many labels as classes.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from npconv import plots
    >>> [text.get_text() for text in plots.confusion([[5, 1], [0, 4]], ax=Figure().subplots())]
    ['5', '1', '', '4']
    """
    table = np.asarray(counts)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or (table < 0).any():
        raise ValueError(
            f"plots.confusion: counts has shape {table.shape}, expected (classes, classes) of numbers >= 0"
        )
    if labels is not None and len(labels) != len(table):
        raise ValueError(f"plots.confusion: {len(labels)} labels for {len(table)} classes")
    axes = axes_of(ax)
    # The diagonal outweighs the rest by far: on a root scale a single mistake is still visible.
    size = fitting_size(table.shape, max((len(str(count)) for count in table.flat), default=1))
    _, texts = numbers(np.sqrt(table), ax=axes, signed=False, size=size)
    for text, value in zip(texts, table.ravel(), strict=True):
        text.set_text(str(value) if value else "")
    names = [str(i) for i in range(len(table))] if labels is None else list(labels)
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(which="major", labelbottom=True, labelleft=True)
    axes.set_xlabel("answered")
    axes.set_ylabel("is")
    return texts


def _significant(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
