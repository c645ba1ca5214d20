"""npconv explain"""

from __future__ import annotations

import shutil
import sys
from textwrap import wrap
from typing import Any

import click

from .options import AS_JSON, Integers, of_convolution, per_axis
from .words import problem_document, say, say_json, seconds, table

#: A column of verdicts that is narrower is no longer read with ease.
LEAST_VERDICT = 24


@click.command()
@click.argument("x_shape", type=Integers())
@click.argument("w_shape", type=Integers())
@of_convolution
@click.option("--layout", default="channels_first", show_default=True, help="The order of the axes.")
@click.option("--algorithm", default="auto", show_default=True, help="Ask about one.")
@click.option("--measure", is_flag=True, help="Also run every algorithm that can, and time it.")
@AS_JSON
def explain(x_shape: Any, w_shape: Any, as_json: bool, **options: Any) -> None:
    """Say which algorithm would run for these shapes, and why.

    X_SHAPE is the input's shape, batch and channels included; W_SHAPE is the kernel's.

    \b
    Examples:
      npconv explain 1,64,56,56 64,64,3,3 --padding 1
      npconv explain 1,64,56,56 64,64,3,3 --padding 1 --measure
      npconv explain 8,3,224,224 64,3,7,7 --stride 2 --padding same --json
    """
    from .. import explain as explanation

    found = explanation(x_shape, w_shape, **{name: per_axis(value) for name, value in options.items()})
    if as_json:
        say_json(as_document(found))
        return
    text = str(found)
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        text = narrow(found, width) if max(map(len, text.splitlines())) > width else text
    say(text)


def as_document(found: Any) -> dict[str, Any]:
    """An explanation as JSON has it: sizes in elements, memory in bytes, times in seconds."""
    return {
        **problem_document(found),
        "accuracy": found.request.accuracy,
        "choice": found.choice,
        "parts": found.parts,
        "engine": found.engine,
        "notes": found.notes,
        "candidates": [
            {
                "name": c.name,
                "able": c.able,
                "verdict": c.verdict,
                "flops": c.cost and c.cost.flops + c.cost.butterflies,
                "bytes_moved": c.cost and c.cost.bytes,
                "workspace": c.cost and c.cost.workspace,
                "error_bound": c.bound and str(c.bound),
                "estimate": c.seconds,
                "measured": c.measured,
            }
            for c in found.candidates
        ],
    }


def narrow(found: Any, width: int) -> str:
    """The explanation for a terminal: fewer columns, and verdicts that are wrapped."""
    head = [wrap(line, width, subsequent_indent="  ") for line in str(found).splitlines()[: 3 + len(found.notes)]]
    timed = any(c.measured is not None for c in found.candidates)
    rows: list[tuple[str, ...]] = [("algorithm", "estimate", *["measured"] * timed, "verdict")]
    for c in found.candidates:
        times = (c.seconds, c.measured)[: 1 + timed]
        rows.append((c.name, *("" if s is None else seconds(s) for s in times), c.verdict))
    before = sum(2 + max(map(len, column)) for column in list(zip(*rows, strict=True))[:-1])
    lines: list[tuple[str, ...]] = []
    for *cells, verdict in rows:
        first, *more = wrap(verdict, max(LEAST_VERDICT, width - before)) or [""]
        lines.append((*cells, first))
        lines += [(*("" for _ in cells), line) for line in more]
    numbers = tuple(range(1, 2 + timed))
    return "\n".join([*(line for lines_ in head for line in lines_), table(lines, numbers)])
