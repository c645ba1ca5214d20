"""Matrices beside each other on one axes, measured in cells: what shows arithmetic step by step is drawn on it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure, FigureBase
from matplotlib.image import AxesImage
from matplotlib.text import Text

from .cells import is_light, number_text
from .style import GREY, SIGNED, magnitude

#: Inches of a cell, and how many characters of text stand beside each other in one.
CELL, CHARACTERS = 0.4, 4.4
TITLE, FOOT, GAP, LINE = 0.75, 0.65, 1.1, 0.62
PALE, LINES = "#eceef1", "#c9cdd3"
#: The cells of each matrix by its title, and their numbers.
Drawn = dict[str, tuple[AxesImage, list[Text]]]
#: Beyond it nobody reads the numbers, and a picture takes minutes.
MOST_CELLS = 2500


@dataclass(frozen=True)
class Panel:
    """A matrix with a title above and perhaps a word below; NaN is a cell that nothing is known of yet."""

    title: str
    values: np.ndarray  # (H, W)
    limit: float = 0.0  # the magnitude of the strongest colour; 0: the largest magnitude here
    outlined: np.ndarray | None = None  # (H, W) of bool: what this step is about
    padding: np.ndarray | None = None  # (H, W) of bool: cells that are not the caller's
    letters: np.ndarray | None = None  # (H, W) of str: which cells of two panels belong together
    texts: np.ndarray | None = None  # (H, W) of str, instead of the numbers
    foot: str = ""
    faded: bool = False
    tall: bool = False  # beside all rows, in the middle of them

    @property
    def width(self) -> float:
        """In cells, with the words above and below it."""
        return max(self.values.shape[1], 0.3 + max(len(self.title), len(self.foot)) / CHARACTERS)


@dataclass(frozen=True)
class Board:
    """Panels in rows and columns, signs between the columns, and lines of text below."""

    panels: Mapping[tuple[int, int], Panel]  # by (row, column)
    signs: Mapping[tuple[int, int], str] = field(default_factory=dict)  # what stands before a panel
    caption: tuple[str, ...] = ()
    lines: int = 0  # how many lines of caption there is room for
    caption_width: float = 0.0

    def _edges(self) -> tuple[list[float], list[float]]:
        """Where each column and each row begins, and the last ends."""
        columns, rows = [GAP / 2], [0.2]
        for j in range(1 + max(column for _, column in self.panels)):
            columns.append(columns[-1] + max((p.width for (_, c), p in self.panels.items() if c == j), default=0) + GAP)
        for i in range(1 + max(row for row, _ in self.panels)):
            inside = [p for (r, _), p in self.panels.items() if r == i and not p.tall]
            rows.append(rows[-1] + TITLE + self._foot + max((p.values.shape[0] for p in inside), default=0))
        needed = [TITLE + self._foot + p.values.shape[0] for p in self.panels.values() if p.tall]
        more = max(0, *needed, rows[-1] - rows[0]) - (rows[-1] - rows[0])
        return columns, [top + more * i / (len(rows) - 1) for i, top in enumerate(rows)]

    @property
    def _foot(self) -> float:
        """The same below every row, so that nothing moves from step to step."""
        return FOOT if any(p.foot for p in self.panels.values()) else 0.25

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in cells."""
        columns, rows = self._edges()
        return max(columns[-1] - GAP / 2, self.caption_width), rows[-1] + self.lines * LINE + (0.3 if self.lines else 0)

    def draw(self, ax: Axes) -> Drawn:
        """Draw everything into `ax`, which is cleared first; by title, the cells of each panel and their numbers, row by row."""
        columns, rows = self._edges()
        width, height = self.size
        ax.clear()
        ax.set_axis_off()
        points = 72 * ax.get_window_extent().width / ax.figure.dpi / width
        drawn: Drawn = {}
        for (row, column), panel in sorted(self.panels.items()):
            h, w = panel.values.shape
            left = columns[column] + (columns[column + 1] - columns[column] - GAP - w) / 2
            top = self._middle(rows, row, panel) - h / 2
            drawn[panel.title] = _panel(ax, panel, left, top, points)
        for (row, column), sign in self.signs.items():
            middle = self._middle(rows, row, self.panels[row, column])
            ax.text(columns[column] - GAP / 2, middle, sign, ha="center", va="center", fontsize=0.5 * points)
        for i, line in enumerate(self.caption):
            ax.text(0.3, rows[-1] + (i + 0.6) * LINE, line, va="center", fontsize=0.37 * points)
        ax.set_xlim(0, width)
        ax.set_ylim(height, 0)
        ax.set_aspect("equal")
        return drawn

    def _middle(self, rows: list[float], row: int, panel: Panel) -> float:
        """The height at which a panel's middle is."""
        first, end = (rows[0], rows[-1]) if panel.tall else (rows[row], rows[row + 1])
        return (first + TITLE + end - self._foot) / 2

    def figure(self, figure: FigureBase | None = None) -> Axes:
        """An axes that fills the figure, a new one of pyplot's unless given; an empty one gets the board's size."""
        inches = (self.size[0] * CELL, self.size[1] * CELL)
        if figure is None:
            from matplotlib import pyplot

            figure = pyplot.figure(figsize=inches)
        elif isinstance(figure, Figure) and not figure.axes:
            figure.set_size_inches(inches)
        return figure.add_axes((0, 0, 1, 1))


def wrapped(sentences: Sequence[str], width: float) -> tuple[str, ...]:
    """Lines of text that fit `width` cells."""
    found: list[str] = []
    for sentence in sentences:
        found += textwrap.wrap(sentence, int(width * CHARACTERS), break_long_words=False)
    return tuple(found)


def check_size(op: str, *shapes: tuple[int, ...]) -> None:
    """Refuse what would be too small to read, and what is empty."""
    cells = sum(map(prod, shapes))
    if cells > MOST_CELLS or not all(map(prod, shapes)):
        raise ValueError(
            f"{op}: the matrices are {', '.join(map(str, shapes))}, {cells} cells, and a picture has room for "
            f"{MOST_CELLS}, with at least one in each; use a part, such as x[:, :8, :8]"
        )


def _panel(ax: Axes, panel: Panel, left: float, top: float, points: float) -> tuple[AxesImage, list[Text]]:
    values = np.asarray(panel.values, np.float64)
    h, w = values.shape
    limit = 2.4 * (panel.limit or magnitude(values))
    strength = 0.25 if panel.faded else 1.0
    outside = np.zeros(values.shape, bool) if panel.padding is None else np.asarray(panel.padding, bool)
    corners = [
        [(left + j + a, top + i + b) for a, b in ((0, 0), (1, 0), (1, 1), (0, 1))] for i, j in np.argwhere(outside)
    ]
    ax.add_collection(PolyCollection(corners, facecolors=PALE, linewidths=0), autolim=False)
    known = np.ma.masked_invalid(values)
    cells = ax.imshow(
        known,
        cmap=SIGNED,
        vmin=-limit,
        vmax=limit,
        extent=(left, left + w, top + h, top),
        alpha=np.where(outside, np.where(values == 0, 0, 0.45), 1) * strength,
        interpolation="nearest",
    )
    cells.set_label(panel.title)
    colours = cells.to_rgba(known)
    words = panel.texts if panel.texts is not None else np.vectorize(number_text, otypes=[object])(values)
    longest = max((len(word) for word in words.ravel() if word != "nan"), default=1)
    size = points * min(0.4, 1.35 / max(longest, 1))
    texts = []
    for (i, j), value in np.ndenumerate(values):
        x, y = left + j + 0.5, top + i + 0.5
        dark = not (panel.faded or outside[i, j] or np.isnan(value) or is_light(colours[i, j]))
        colour = "#6b7079" if outside[i, j] else "white" if dark else "black"
        text = "" if np.isnan(value) and panel.texts is None else str(words[i, j])
        texts.append(
            ax.text(x, y, text, ha="center", va="center", color=colour, fontsize=size, alpha=0.35 if panel.faded else 1)
        )
        if panel.letters is not None and panel.letters[i, j]:
            ax.text(x - 0.42, y - 0.45, str(panel.letters[i, j]), va="top", color=colour, fontsize=0.27 * points)
    _lines(ax, panel, outside, left, top, strength)
    for word, above, align in ((panel.title, -0.12, "bottom"), (panel.foot, h + 0.12, "top")):
        ax.text(
            left + w / 2, top + above, word, ha="center", va=align, fontsize=0.37 * points, alpha=max(0.45, strength)
        )
    return cells, texts


def _lines(ax: Axes, panel: Panel, outside: np.ndarray, left: float, top: float, strength: float) -> None:
    """The grid, a line around what is the caller's, and a heavy one around what is outlined."""
    h, w = panel.values.shape
    grid = [[(j, 0), (j, h)] for j in range(w + 1)] + [[(0, i), (w, i)] for i in range(h + 1)]
    kinds = [(grid, LINES, 0.6), (_borders(~outside) if outside.any() else [], GREY, 1.4)]
    kinds += [] if panel.outlined is None else [(_borders(panel.outlined), "black", 2.2)]
    for lines, colour, thick in kinds:
        moved = [[(left + x, top + y) for x, y in line] for line in lines]
        collection = LineCollection(moved, colors=colour, linewidths=thick, alpha=max(0.5, strength))
        ax.add_collection(collection, autolim=False)


def _borders(mask: np.ndarray) -> list[list[tuple[int, int]]]:
    """The edges between cells that are in `mask` and cells that are not."""
    inside = np.pad(mask, 1)
    across = [[(j, i), (j + 1, i)] for i, j in np.argwhere(inside[1:, 1:-1] != inside[:-1, 1:-1]).tolist()]
    return across + [[(j, i), (j, i + 1)] for i, j in np.argwhere(inside[1:-1, 1:] != inside[1:-1, :-1]).tolist()]
