"""Draw a run: every row's ratio, group by group, on a logarithmic scale.

python -m benchmarks.plot speed.json docs/benchmarks.svg
"""

from __future__ import annotations

import json
import sys
from typing import Any

import matplotlib

from .summary import COLUMNS, at, geometric_mean, score

matplotlib.use("Agg")
matplotlib.rcParams |= {"svg.hashsalt": "npconv", "svg.fonttype": "none", "font.size": 8}
INK, DOT, MEAN = "#4a4a4a", "#5b8db8", "#c44e52"


def draw(run: dict[str, Any], path: str, threads: int | None = None) -> None:
    """One panel per pass; a dot per row, a bar at the group's geometric mean."""
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter, NullFormatter

    threads = threads or max(run["threads"])
    results = at(run["results"], threads)
    groups = list(dict.fromkeys(["all", *(group for result in results for group in result["groups"])]))
    figure, panels = pyplot.subplots(1, len(COLUMNS), figsize=(11, 0.6 + 0.24 * len(groups)), sharey=True, sharex=True)
    for panel, (title, column) in zip(panels, COLUMNS.items(), strict=True):
        for height, group in enumerate(groups):
            found = score(results, group, *column)
            values = [value for value in found.medians.values() if value > 0] if found else []
            if values:
                mean = geometric_mean(values)
                panel.plot(values, [height] * len(values), "o", ms=3, mew=0, alpha=0.45, color=DOT, clip_on=False)
                panel.plot([mean, mean], [height - 0.35, height + 0.35], color=MEAN, lw=2)
        panel.axvline(1, color=INK, lw=0.8)
        panel.set_title(title, fontsize=8, color=INK)
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter(
            FuncFormatter(lambda value, _: f"{value:g}" if value >= 1 else f"1/{1 / value:g}")
        )
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.tick_params(colors=INK, length=2)
        panel.tick_params(axis="y", length=0)
        panel.set_ylim(len(groups) - 0.4, -0.6)
        panel.grid(axis="x", lw=0.3, alpha=0.6)
        for side in ("top", "right", "left"):
            panel.spines[side].set_visible(False)
    panels[0].set_yticks(range(len(groups)), groups)
    figure.supxlabel(
        f"peer's time / npconv's time, {threads} threads; a dot is a layer, the bar the geometric mean", fontsize=8
    )
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None, "Creator": None} if path.endswith("svg") else None)
    pyplot.close(figure)


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        draw(json.load(file), sys.argv[2])
