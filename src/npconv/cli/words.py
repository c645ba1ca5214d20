"""What is printed: text that steers no terminal, and JSON that every program reads."""

from __future__ import annotations

import json
import math
import shutil
import sys
from textwrap import TextWrapper
from typing import Any
from unicodedata import combining, east_asian_width

import click


def shown(text: str, longest: int = 80) -> str:
    """Text from a file, on one line and fit for a terminal: a name may hold letters that move the cursor."""
    kept = "".join(c if c.isprintable() else "?" for c in text[:longest])
    return kept if len(text) <= longest else kept[:-3] + "..."


def say(text: str, hang: int | None = 2) -> None:
    """Print lines; whatever else could steer the terminal becomes a question mark.

    On a terminal that is narrower, lines go on `hang` letters to the right; elsewhere, or with None, they stay whole.
    """
    lines = [shown(line, len(line)) for line in text.split("\n")]
    if hang is not None and sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        folds = TextWrapper(width, subsequent_indent=" " * hang, break_long_words=False, break_on_hyphens=False)
        lines = [part for line in lines for part in (folds.wrap(line) if len(line) > width else [line])]
    click.echo("\n".join(lines))


def seconds(value: float) -> str:
    """A time for a column."""
    return f"{value * 1e3:.3f} ms" if value < 10 else f"{value:.1f} s"


def say_json(value: Any) -> None:
    """Print one JSON document, in letters that every encoding has."""
    click.echo(json.dumps(finite(value)))


def finite(value: Any) -> Any:
    """A value that JSON can hold: it has neither NaN nor infinity."""
    if isinstance(value, dict):
        return {str(name): finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(rows: list[tuple[str, ...]], right: tuple[int, ...] = ()) -> str:
    """Rows under each other in columns, two spaces apart; those in `right` end together."""
    widths = [max(map(columns, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for i, (cell, n) in enumerate(zip(row, widths, strict=True)):
            room = " " * (n - columns(cell))
            cells.append(room + cell if i in right else cell + room)
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def columns(text: str) -> int:
    """The columns of a terminal that a text takes: a letter of Chinese takes two, an accent none."""
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def problem_document(explained: Any) -> dict[str, Any]:
    """What was asked, of an explanation, as JSON has it: sizes in elements."""
    g, r = explained.geometry, explained.request
    return {
        "x_shape": g.x_shape,
        "w_shape": g.w_shape,
        "y_shape": g.y_shape,
        "dtype": str(r.dtypes.result),
        "direction": r.direction,
    }
