"""A report of chapters as one HTML page that needs no other file, no network and no script."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from .style import STYLE

#: How Matplotlib draws all pictures.
LOOK: Any = {"font.family": "DejaVu Sans", "font.size": 13, "axes.titlesize": 12, "figure.titlesize": 13}


@dataclass(frozen=True)
class Text:
    """A paragraph; `backticks` mark code."""

    words: str


@dataclass(frozen=True)
class Formula:
    """Lines of arithmetic, kept as they are."""

    lines: str


@dataclass(frozen=True)
class Code:
    """Lines to run; they are complete in themselves."""

    lines: str


@dataclass(frozen=True)
class Table:
    """Rows under a head; cells are converted with str."""

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str


@dataclass(frozen=True)
class Picture:
    """A PNG file that was written, and what it shows."""

    path: Path
    caption: str
    alt: str


@dataclass(frozen=True)
class Folder:
    """Where the pictures go."""

    path: Path
    dpi: int = 120

    def save(self, figure: Figure, name: str, caption: str, alt: str) -> Picture:
        """Write `figure` as name.png; `alt` says in words what a reader who cannot see it misses."""
        path = self.path / f"{name}.png"
        figure.savefig(
            path,
            dpi=self.dpi,
            facecolor="white",
            metadata={"Software": None},
            bbox_inches="tight",
            pad_inches=0.12,
        )
        return Picture(path, caption, alt)


def canvas(height: float) -> Figure:
    """An empty figure as wide as the page, `height` inches high."""
    return Figure(figsize=(7.2, height), layout="constrained")


Block = Text | Formula | Code | Table | Picture


@dataclass(frozen=True)
class Chapter:
    """A section of the report; `summary` is a number for the top of the page: (value, what it is)."""

    name: str
    title: str
    blocks: Sequence[Block]
    summary: tuple[str, str] | None = None
    terminal: str = ""  # what a terminal shows of it


def page(title: str, lead: str, chapters: Sequence[Chapter]) -> str:
    """The whole report as HTML; every value is escaped, every picture is inside."""
    only = f"default-src 'none'; img-src data:; style-src '{_digest(STYLE)}'"
    policy = f"{only}; base-uri 'none'; form-action 'none'"
    links = "".join(f'<li><a href="#{_safe(c.name)}">{_safe(c.title)}</a></li>' for c in chapters)
    facts = "".join(
        f"<div><dt>{_safe(c.summary[1])}</dt><dd>{_safe(c.summary[0])}</dd></div>" for c in chapters if c.summary
    )
    body = "\n".join(_chapter(number, c) for number, c in enumerate(chapters, 1))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_safe(policy)}">
<meta name="color-scheme" content="light dark">
<title>{_safe(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{_safe(title)}</h1>
<p class="lead">{_inline(lead)}</p>
<dl class="facts">{facts}</dl>
<nav aria-label="Chapters"><ol>{links}</ol></nav>
</header>
<main>
{body}
</main>
</body>
</html>
"""


def _chapter(number: int, chapter: Chapter) -> str:
    blocks = "\n".join(_block(block) for block in chapter.blocks)
    heading = f"<h2>{number}. {_safe(chapter.title)}</h2>"
    return f'<section id="{_safe(chapter.name)}">\n{heading}\n{blocks}\n</section>'


def _block(block: Block) -> str:
    match block:
        case Text(words):
            return f"<p>{_inline(words)}</p>"
        case Formula(lines):
            return f'<pre class="formula" tabindex="0">{_safe(lines)}</pre>'
        case Code(lines):
            return f'<p class="do">Do it yourself:</p><pre tabindex="0"><code>{_safe(lines)}</code></pre>'
        case Table(head, rows, caption):
            top = "".join(f'<th scope="col">{_safe(cell)}</th>' for cell in head)
            body = "".join("<tr>" + "".join(f"<td>{_safe(cell)}</td>" for cell in row) + "</tr>" for row in rows)
            return (
                f'<p class="caption">{_inline(caption)}</p>'
                f'<div class="scroll" tabindex="0" role="region" aria-label="{_safe(caption)}">'
                f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
            )
        case Picture(path, caption, alt):
            data = base64.b64encode(path.read_bytes()).decode()
            return (
                f'<figure><img src="data:image/png;base64,{data}" alt="{_safe(alt)}">'
                f"<figcaption>{_inline(caption)} <small>{_safe(path.name)}</small></figcaption></figure>"
            )


def _safe(value: Any) -> str:
    return html.escape(str(value), quote=True)


def _inline(words: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", _safe(words))


def _digest(style: str) -> str:
    """The style's fingerprint: the page's own policy admits this one style and nothing else."""
    return "sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
