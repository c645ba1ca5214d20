"""What is said of a model and of what it gives, and how its outputs are kept."""

from __future__ import annotations

import os
import zipfile
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from .pictures import Array, InputError
from .words import shown

#: Rows of a batch of scores that are printed; --json and --out have all.
MOST_ROWS = 20


def signature(model: Any) -> dict[str, Any]:
    """What a model takes and gives, as JSON has it."""
    takes = [{"name": v.name, "dtype": v.dtype.name, "shape": v.shape} for v in model.inputs.values()]
    return {"inputs": takes, "outputs": list(model.outputs)}


def described(model: Any) -> str:
    """The same for people."""
    said = [f"takes {shown(v.name)}: {v.dtype} {sizes(v.shape)}" for v in model.inputs.values()]
    return "\n".join((*said, *(f"gives {shown(name)}" for name in model.outputs)))


def sizes(shape: tuple[Any, ...] | None) -> str:
    """A shape whose open axes have their names, or "?"."""
    return "of any shape" if shape is None else f"({', '.join('?' if n is None else shown(str(n)) for n in shape)})"


def assigned(model: Any, inputs: tuple[str, ...]) -> list[tuple[str, Path]]:
    """Which file is for which input of the model."""
    found: dict[str, Path] = {}
    known = {shown(name): name for name in model.inputs}
    for text in inputs:
        name, equals, file = text.partition("=")
        if not (equals and name in known):
            if len(known) != 1:
                raise InputError(f"--input {text}: the model takes {', '.join(known) or 'nothing'}; use NAME=FILE")
            name, file = next(iter(known)), text
        if known[name] in found:
            raise InputError(f"--input {text}: {name} has a file already")
        found[known[name]] = Path(file)
    return list(found.items())


def summary(a: Array, top: int, names: list[str] | None) -> dict[str, Any]:
    """What is told of an output: the largest scores of each row where it is rows of scores, else its range."""
    told: dict[str, Any] = {"dtype": str(a.dtype), "shape": list(a.shape)}
    rows = a.reshape(a.shape[:2]) if a.ndim > 2 and a.shape[2:] == (1,) * (a.ndim - 2) else a
    if a.dtype.kind == "f" and rows.ndim == 2 and rows.size and rows.shape[1] > 1:
        fits = names is not None and len(names) == rows.shape[1]
        told["top"] = [
            [
                {"index": int(i), "score": float(row[i]), "label": shown(names[i]) if fits and names else None}
                for i in np.argsort(-row, kind="stable")[:top]  # NaN comes last
            ]
            for row in rows
        ]
    elif a.size and a.dtype.kind in "fiub":
        told |= {name: float(value) for name, value in (("min", a.min()), ("mean", a.mean()), ("max", a.max()))}
    return told


def lines(told: dict[str, Any]) -> list[str]:
    """An output for people."""
    if "top" not in told:
        return [f"  {name} {told[name]:.6g}" for name in ("min", "mean", "max") if name in told]
    found, many = [], len(told["top"]) > 1
    for i, row in enumerate(told["top"][:MOST_ROWS]):
        found += [f"  row {i}"] * many
        found += [f"  {one['index']:>6}  {one['score']:<10.6g}  {one['label'] or ''}".rstrip() for one in row]
    return found + [f"  {len(told['top']) - MOST_ROWS} rows more"] * (len(told["top"]) > MOST_ROWS)


def write(path: Path, arrays: dict[str, Array]) -> None:
    """An .npz under names that lead nowhere; all of it or nothing."""
    part, taken = path.with_name(f"{path.name}.{os.getpid()}.part"), set[str]()
    try:
        with zipfile.ZipFile(part, "w") as file:
            for name, a in arrays.items():
                safe = shown(name, 200).replace("/", "_").replace("\\", "_")
                safe = next(one for i in count(1) if (one := safe if i == 1 else f"{safe}_{i}") not in taken)
                taken.add(safe)
                with file.open(f"{safe}.npy", "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, a, allow_pickle=False)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
