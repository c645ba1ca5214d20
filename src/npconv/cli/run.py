"""npconv run"""

from __future__ import annotations

import json
import os
import zipfile
from itertools import count
from pathlib import Path
from typing import Any

import click
import numpy as np

from .feeding import Array, InputError, Pixels, array_for, read_labels
from .options import Numbers

#: Rows of a batch of scores that are printed; --json and --out have all.
MOST_ROWS = 20
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("model", type=FILE)
@click.option("--input", "inputs", multiple=True, metavar="[NAME=]FILE", help="PNG, JPEG or .npy; once per input.")
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="How many scores to print.")
@click.option("--labels", type=FILE, help="Text file with the name of a class per line.")
@click.option("--scale", type=float, help="What pixels 0..255 are multiplied by; 1/255 for a model of floats.")
@click.option("--mean", type=Numbers(), default="0", show_default=True, help="Then subtracted, per channel.")
@click.option("--std", type=Numbers(), default="1", show_default=True, help="Then divided by, per channel.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write all outputs to this .npz.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else.")
@click.option(
    "--memory", type=click.FloatRange(0, 1 << 20), help="GiB that the model may take; 4 or half the machine's."
)
@click.option("--external-data", is_flag=True, help="Let the model read weights from files beside it.")
def run(
    model: Path,
    inputs: tuple[str, ...],
    top: int,
    labels: Path | None,
    scale: float | None,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    out: Path | None,
    as_json: bool,
    memory: float | None,
    external_data: bool,
) -> None:
    """Run an ONNX model on pictures or arrays. Without --input: say what it takes and gives.

    A picture is cut to the model's proportions around its middle, resized, and becomes (pixel * scale - mean) / std.

    \b
    Examples:
      npconv run model.onnx
      npconv run model.onnx --input cat.jpg --labels classes.txt
      npconv run model.onnx --input cat.jpg --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
      npconv run model.onnx --input image=left.png --input depth=left.npy --out y.npz
    """
    try:
        from ..integrations import onnx_runtime

        limit = None if memory is None else int(memory * 2**30)
        loaded = onnx_runtime.load(model, external_data=external_data, max_memory=limit)
        if not inputs:
            click.echo(json.dumps(signature(loaded)) if as_json else described(loaded))
            return
        names = None if labels is None else read_labels(labels)
        pixels = Pixels(scale, mean, std)
        given = assigned(loaded, inputs)
        feeds = {name: array_for(p, loaded.inputs[name].shape, loaded.inputs[name].dtype, pixels) for name, p in given}
        found = loaded.run(feeds)
        if names is not None and not any(a.ndim > 1 and a.shape[1] == len(names) for a in found.values()):
            shapes = ", ".join(f"{name} has shape {a.shape}" for name, a in found.items())
            raise InputError(f"{labels} has {len(names)} labels, but {shapes}")
        told = {name: summary(a, top, names) for name, a in found.items()}
        if out is not None:
            write(out, found)
    except OSError as error:
        raise click.ClickException(f"{shown(str(error.filename or model), 500)}: {error.strerror or error}") from error
    except (ImportError, ValueError, MemoryError) as error:
        words = str(error).replace("use max_memory=", "use --memory").replace("external_data=True", "--external-data")
        raise click.ClickException(shown(words or type(error).__name__, 1000)) from error
    if as_json:
        click.echo(json.dumps({name: plain(one) for name, one in told.items()}))
        return
    for name, one in told.items():
        click.echo(f"{shown(name)}: {one['dtype']} {tuple(one['shape'])}")
        click.echo("\n".join(lines(one)))


def shown(text: str, longest: int = 80) -> str:
    """Text from a file, fit for a terminal."""
    kept = "".join(c if c.isprintable() else "?" for c in text[:longest])
    return kept if len(text) <= longest else kept[:-3] + "..."


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


def plain(value: Any) -> Any:
    """A value that JSON can hold: it has neither NaN nor infinity."""
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


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
