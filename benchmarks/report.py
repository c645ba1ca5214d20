"""Write a run into the documentation: the marked parts of docs/benchmarks.md and README.md, and the plot.

python -m benchmarks.report speed.json
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from .plot import draw
from .summary import (
    COLUMNS,
    DIRECTIONS,
    TITLES,
    aims,
    at,
    cells,
    disturbed,
    group_means,
    heads,
    in_group,
    markdown,
    problems,
    ratio,
    score,
    times_of,
)

ROOT = Path(__file__).parents[1]
PLOT = ROOT / "docs" / "benchmarks.svg"
#: What the README shows; the rest is on the page.
README_LAYERS = (
    *("3x3 64@56", "3x3 512@28", "1x1 1024->256@14", "7x7 s2 3->64@224", "depthwise 3x3 512@14", "15x15 32@128"),
    *("3x3 g32 128@56", "3x3x3 32@16x28x28", "transposed 4x4 s2 64->32@28", "3x3 64@56 float64"),
)


def replace(path: Path, text: str, part: str = "speed") -> None:
    """Put `text` between the page's markers of that part."""
    page = path.read_text(encoding="utf-8")
    marked = re.compile(rf"(<!-- {part}: begin -->\n).*(<!-- {part}: end -->)", re.S)
    if not marked.search(page):
        raise ValueError(f"{path} has no <!-- {part}: begin --> and end")
    path.write_text(marked.sub(lambda found: found[1] + text.rstrip("\n") + "\n" + found[2], page), encoding="utf-8")


def where(run: dict[str, Any]) -> str:
    versions = ", ".join(f"{peer} {version}" for peer, version in run["versions"].items())
    return f"{run['machine']}. {versions}."


def page(run: dict[str, Any]) -> str:
    """The page's tables: aims and groups, then every row, then what was left out."""
    lines = [where(run), "", "![Every row's ratio, by group](benchmarks.svg)", ""]
    for threads in run["threads"]:
        results = at(run["results"], threads)
        lines += [f"## By group, threads: {threads}", "", "The geometric mean, and the worst row in brackets.", ""]
        lines += [*group_means(results, threads), "", f"## Aims, threads: {threads}", "", *aims(results, threads), ""]
    for threads in run["threads"]:
        for direction in DIRECTIONS:
            chosen = [r for r in at(run["results"], threads) if r["direction"] == direction]
            if chosen:
                peers = list(chosen[0]["peers"])
                lines += [f"## {TITLES[direction].capitalize()}, threads: {threads}", ""]
                lines += [*markdown(heads(direction, peers), (cells(result, peers) for result in chosen)), ""]
    return "\n".join(
        [
            *lines,
            "## Left out or failed",
            "",
            *(problems(run["results"]) or ["Nothing."]),
            "",
            disturbed(run["results"]),
        ]
    )


def readme(run: dict[str, Any]) -> str:
    """A few layers and the means, at the larger number of threads."""
    threads = max(run["threads"])
    results = at(run["results"], threads)
    lines = []
    for name in README_LAYERS:
        found = {result["direction"]: result for result in results if result["row"] == name}
        values = [ratio(found[d], kind, peer) if d in found else None for d, kind, peer in COLUMNS.values()]
        if found:
            lines.append([name, *map(times_of, values)])
    scores = [score(results, "all", *column) for column in COLUMNS.values()]
    count = len({result["row"] for result in results if in_group(result, "all")})
    means = [
        f"**{found.mean:.2f}**" + f", {found.failed} failed" * bool(found.failed) if found else "–" for found in scores
    ]
    lines.append([f"**geometric mean of {count} float32 layers**", *means])
    return "\n".join(
        [
            "Speed as a multiple of the peer's, each in its faster layout: 2 is twice as fast. The best peer is the fastest of "
            f"{', '.join(peer for peer in run['versions'] if peer != 'npconv')}, with prepared weights. "
            f"{run['machine']}, {threads} threads, `python -m benchmarks.run`. [Every row](docs/benchmarks.md).",
            "",
            *markdown(("layer, batch 1", *COLUMNS), lines),
        ]
    )


def main() -> None:
    run = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    draw(run, str(PLOT))
    replace(ROOT / "docs" / "benchmarks.md", page(run))
    replace(ROOT / "README.md", readme(run))


if __name__ == "__main__":
    main()
