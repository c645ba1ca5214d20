"""The code of a page, run block by block in one namespace; it needs neither Sphinx nor a browser.

A page has examples, which must print what it says they print, and blocks whose info word is `{picture}` or
`{explorer}`, which docs/_ext/executed.py turns into what a reader sees.
"""

from __future__ import annotations

import ast
import doctest
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[1] / "benchmarks.md"
FENCE = re.compile(r"^(?P<ticks>```+)(?P<info>[^\n]*)\n(?P<body>.*?)^(?P=ticks) *$", re.M | re.S)
OPTIONS = re.compile(r"\A(?::[\w-]+:[^\n]*\n)+")


@dataclass(frozen=True)
class Block:
    """A fenced block: what stands after its fence, its text, and the line it begins on, from 0."""

    info: str
    body: str
    line: int

    @property
    def kind(self) -> str:
        """The word in braces, "example", or nothing for text that is only shown."""
        return "example" if ">>>" in self.body else self.info[1:].split("}")[0] if self.info.startswith("{") else ""

    @property
    def code(self) -> str:
        """Without the options, which are lines such as `:alt: words`."""
        return OPTIONS.sub("", self.body)


def blocks(text: str) -> Iterator[Block]:
    for found in FENCE.finditer(text):
        yield Block(found["info"].strip(), found["body"], text.count("\n", 0, found.start("body")))


class Page:
    """What a page's code has done so far: its names, and how far it was run."""

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self.names: dict[str, Any] = {"__name__": "__main__", "recorded": recorded}
        self._waiting = [block for block in blocks(text) if block.kind == "example"][::-1]

    def run_until(self, line: int) -> list[str]:
        """Run the examples above `line`, counted from 0; what failed."""
        failures: list[str] = []
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        while self._waiting and self._waiting[-1].line < line:
            block = self._waiting.pop()
            # A name for each block: doctest finds the source of a traceback's lines by it.
            test = doctest.DocTestParser().get_doctest(
                block.body, self.names, f"{self.name}:{block.line}", self.name, block.line
            )
            runner.run(test, out=failures.append, clear_globs=False)
            self.names.update(test.globs)
        return failures

    def evaluate(self, code: str, line: int) -> Any:
        """Run the lines; the value of the last one, if it has one."""
        tree = ast.increment_lineno(ast.parse(code), line)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, self.name, "exec"), self.names)
        return None if last is None else eval(compile(ast.Expression(last.value), self.name, "eval"), self.names)


def table(section: str, columns: list[str]) -> dict[str, list[str]]:
    """The rows of a table of docs/benchmarks.md by their first cell, cut to some columns.

    Raises
    ------
    KeyError
        If there is no such section or column.
    """
    text = BENCHMARKS.read_text(encoding="utf-8")
    _, found, after = text.partition(f"\n## {section}\n")
    if not found:
        raise KeyError(f"docs/benchmarks.md has no section {section!r}")
    lines = [line for line in after.split("\n## ")[0].splitlines() if line.startswith("| ")]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    if missing := set(columns) - set(head):
        raise KeyError(f"docs/benchmarks.md, {section!r} has no columns {sorted(missing)}, only {head}")
    places = [head.index(column) for column in columns]
    return {row[0]: [row[place] for place in places] for row in rows}


def recorded(section: str, names: str, values: str) -> tuple[list[str], list[float]]:
    """Two columns of that table: names, and the numbers before any bracket."""
    rows = list(table(section, [names, values]).values())
    return [name for name, _ in rows], [float(value.split()[0]) for _, value in rows]
