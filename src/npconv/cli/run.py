"""npconv run"""

from __future__ import annotations

from pathlib import Path

import click

from .options import AS_JSON, FILE, Numbers
from .words import say, say_json, shown


@click.command()
@click.argument("model", type=FILE)
@click.option("--input", "inputs", multiple=True, metavar="[NAME=]FILE", help="PNG, JPEG or .npy; once per input.")
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="How many scores to print.")
@click.option("--labels", type=FILE, help="Text file with the name of a class per line.")
@click.option("--scale", type=float, help="What pixels 0..255 are multiplied by; 1/255 for a model of floats.")
@click.option("--mean", type=Numbers(), default="0", show_default=True, help="Then subtracted, per channel.")
@click.option("--std", type=Numbers(), default="1", show_default=True, help="Then divided by, per channel.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write all outputs to this .npz.")
@AS_JSON
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
      npconv run model.onnx --input cat.jpg --mean 0.5 --std 0.25,0.25,0.2
      npconv run model.onnx --input image=a.png --input depth=a.npy --out y.npz
    """
    from ..integrations import onnx_runtime
    from .feeding import Pixels, array_for, read_labels
    from .pictures import InputError
    from .scores import assigned, described, lines, signature, summary, write

    try:
        limit = None if memory is None else int(memory * 2**30)
        loaded = onnx_runtime.load(model, external_data=external_data, max_memory=limit)
        if not inputs:
            if as_json:
                say_json(signature(loaded))
            else:
                say(described(loaded))
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
    except (ValueError, MemoryError) as error:
        words = str(error).replace("use max_memory=", "use --memory").replace("external_data=True", "--external-data")
        raise click.ClickException(shown(words or type(error).__name__, 1000)) from error
    if as_json:
        say_json(told)
        return
    for name, one in told.items():
        say(f"{shown(name)}: {one['dtype']} {tuple(one['shape'])}")
        say("\n".join(lines(one)))
