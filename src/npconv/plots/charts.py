"""Charts of times and of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from numpy.typing import ArrayLike

from .cells import numbers
from .style import BLUE, GREY, ORANGE, axes_of, figure_of


def race(
    names: Sequence[str],
    seconds: Sequence[float],
    *,
    chosen: str | None = None,
    ax: Axes | None = None,
    title: str | None = None,
) -> list[Rectangle]:
    """Horizontal bars of times, the fastest at the top, each with its milliseconds; `chosen` in orange.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from npconv import plots
    >>> bars = plots.race(["gemm", "fft"], [0.002, 0.004], chosen="gemm", ax=Figure().subplots())
    >>> [float(bar.get_width()) for bar in bars]
    [2.0, 4.0]
    """
    if len(names) != len(seconds) or not names:
        raise ValueError(f"plots.race: {len(names)} names for {len(seconds)} times")
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
    axes.set_xlim(0, max(times) * 1.35)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    if title is not None:
        axes.set_title(title, loc="left")
    return list(bars)


def history(
    loss: Sequence[float], accuracy: Mapping[str, Sequence[float]], *, figure: FigureBase | None = None
) -> list[Any]:
    """Loss and accuracies by epoch, above each other; accuracies are fractions and are drawn in per cent.

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
    for (label, values), style in zip(
        accuracy.items(), ((GREY, "s", "--"), (ORANGE, "o", "-"), (BLUE, "^", ":")), strict=False
    ):
        colour, marker, dash = style
        lines += lower.plot(epochs, 100 * np.asarray(values), color=colour, marker=marker, linestyle=dash, label=label)
    lower.set_title("accuracy, %", loc="left")
    lower.set_xlabel("epoch (once through the training images)")
    lower.set_xticks(epochs[:: max(1, len(epochs) // 12)])
    lower.legend(frameon=False, loc="lower right")
    for axes in (upper, lower):
        axes.grid(color="#e3e6ea")
        axes.spines[["top", "right"]].set_visible(False)
    return lines


def confusion(counts: ArrayLike, *, labels: Sequence[str] | None = None, ax: Axes | None = None) -> list[Text]:
    """A confusion matrix: row = what it is, column = what was answered.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from npconv import plots
    >>> [text.get_text() for text in plots.confusion([[5, 1], [0, 4]], ax=Figure().subplots())]
    ['5', '1', '', '4']
    """
    table = np.asarray(counts)
    axes = axes_of(ax)
    # The diagonal outweighs the rest by far: on a root scale a single mistake is still visible.
    _, texts = numbers(np.sqrt(table), ax=axes, signed=False)
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
