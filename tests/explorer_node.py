"""Run the explorer's modules in Node: one process for many tasks."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
WEB = HERE.parent / "src" / "npconv" / "explorer" / "web"
Run = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]


def runner(folder: Path) -> Run:
    """Copy the modules to `folder`; what is returned gives tasks to explorer_vectors.mjs there."""
    for file in WEB.glob("*.js"):
        shutil.copy(file, folder)
    (folder / "package.json").write_text('{"type": "module"}')

    def run(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
        (folder / "tasks.json").write_text(json.dumps(tasks, allow_nan=False))
        command = ["node", str(HERE / "explorer_vectors.mjs"), str(folder)]
        command += [str(folder / "tasks.json"), str(folder / "results.json")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        results = json.loads((folder / "results.json").read_text())
        for task, result in zip(tasks, results, strict=True):
            assert "thrown" not in result, (task, result)
        return results

    return run


def disagreement(actual: np.ndarray, expected: np.ndarray, bound: Any) -> str | None:
    """Why two arrays differ by more than `bound`; what is not finite must be equal."""
    if actual.shape != expected.shape:
        return f"shape {actual.shape}, npconv's is {expected.shape}"
    same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        wrong = ~same & ~(np.abs(actual - expected) <= bound)
    if not wrong.any():
        return None
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"{int(wrong.sum())} of {wrong.size} differ, first at {at}: {actual[at]!r}, npconv says {expected[at]!r}"
