"""What `npconv features` draws: the feature maps of every layer of a model, for one image."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from .. import nn
from ..nn import models
from .feeding import Pixels, array_for
from .pictures import Array, InputError, check_free, place
from .words import shown

#: Layers drawn of a model that has more, and sides of a photograph that no model asks to be of another size.
MOST_DRAWN, LONGEST = 12, 640
#: Pixels that networks are made for, where they were made for some.
SIDES = {"lenet5": 28, "unet": 256}


@dataclass(frozen=True)
class Activations:
    """A model's name, the shape of what it was given, and the maps (C, H, W) and kind of each layer by name."""

    name: str
    input_shape: tuple[int, ...]
    maps: dict[str, Array]
    kinds: dict[str, str]


def of(
    image: Path,
    model: str | None,
    weights: Path | None,
    depth: int | None,
    seed: int,
    size: Any,
    scale: float | None,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Activations:
    """Run a model on an image, and keep what every layer gives."""
    pixels = Pixels(scale, mean, std)
    if depth is not None and model is not None:
        raise click.UsageError("--depth is for random layers, and --model names other ones")
    if weights is not None and model not in models.__all__:
        raise click.UsageError("--weights is for a network by name, such as --model resnet18")
    if size is not None and (len(size) > 2 or min(size) < 1):
        raise click.UsageError("--size is one number or two, high and wide, from 1")
    if model is not None and Path(model).suffix.lower() == ".onnx":
        return _of_onnx(image, Path(model), size, pixels)
    network, channels, side = _network(model, weights, depth or 4, seed)
    high, wide = (size[0], size[-1]) if size else (side, side)
    x = array_for(image, (1, channels, high, wide), np.dtype(np.float32), pixels, longest=LONGEST)
    maps, kinds = recorded(network, x)
    names = [name for name, a in maps.items() if _is_map(a)]
    found = {"input": x[0]} | {name: maps[name][0] for name in names}
    return Activations(model or f"{depth or 4} random layers", x.shape, found, kinds)


def recorded(model: nn.Layer, x: Array) -> tuple[dict[str, Array], dict[str, str]]:
    """What each innermost layer gives in inference, and what it is, by path."""
    leaves = {path: layer for path, layer in model.walk() if not layer.children}
    found: dict[str, Array] = {}

    def keep(path: str, forward: Any, x: Array, **how: Any) -> Any:
        y, saved = forward(x, **how)
        found[path] = y
        return y, saved

    try:
        for path, layer in leaves.items():
            layer.forward = partial(keep, path, layer.forward)
        model.forward(x, training=False)
    finally:
        for layer in leaves.values():
            vars(layer).pop("forward", None)
    return found, {path: type(layer).__name__ for path, layer in leaves.items()}


def chosen(maps: Mapping[str, Array], wanted: str | None) -> dict[str, Array]:
    """The layers to draw: those that a pattern names, or a dozen from first to last."""
    if not maps:
        raise InputError("the model has no layer with maps of more than one pixel")
    names = list(maps)
    if wanted is None:
        picked = np.unique(np.linspace(0, len(names) - 1, min(len(names), MOST_DRAWN)).round().astype(int))
        return {names[i]: maps[names[i]] for i in picked}
    patterns = [pattern.strip() for pattern in wanted.split(",")]
    for pattern in patterns:
        if pattern != "all" and not any(fnmatchcase(name, pattern) for name in names):
            few = ", ".join(map(shown, names[:8]))
            raise InputError(f"--layers {pattern}: there is no such layer; there are {few}{' ...' * (len(names) > 8)}")
    return {name: a for name, a in maps.items() if any(p == "all" or fnmatchcase(name, p) for p in patterns)}


def pictures(maps: Mapping[str, Array], count: int, out: Path, folder: bool, force: bool) -> list[Path]:
    """Write one picture of all layers, or one of each into a folder; the files."""
    from matplotlib.figure import Figure

    from .. import plots

    groups: Iterable[tuple[Path, dict[str, Array]]] = [(out, dict(maps))]
    if folder:
        files = (out / f"{i:02}-{_file_name(name)}.png" for i, name in enumerate(maps))
        groups = list(zip(files, ({name: a} for name, a in maps.items()), strict=True))
        for path, _ in groups:
            check_free(path, force, (".png",))
    for path, some in groups:
        figure = Figure()
        # a dollar sign would begin a formula
        titled = {shown(name, 60).replace("$", r"\$"): np.nan_to_num(a.astype(np.float64)) for name, a in some.items()}
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph ")  # a letter that the font has not is drawn as a box
            plots.feature_maps(titled, maps=count, figure=figure)
            figure.savefig(buffer, format="png", dpi=100, facecolor="white", metadata={"Software": None})
        place(path, buffer.getvalue())
    return [path for path, _ in groups]


def _network(model: str | None, weights: Path | None, depth: int, seed: int) -> tuple[nn.Layer, int, int | None]:
    """A model, the channels it takes, and the pixels, or None for any number."""
    rng = np.random.default_rng(seed)
    if model is None:
        layers: dict[str, nn.Layer] = {}
        for i in range(1, depth + 1):
            layers[f"conv{i}"] = nn.Conv(3 if i == 1 else 8, 8, 3, padding=1, rng=rng)
            layers[f"relu{i}"] = nn.ReLU()
        return nn.Sequential(**layers), 3, None
    if model in models.__all__:
        network = getattr(models, model)(rng=rng)
        if weights is not None:
            network.load(nn.match_weights(nn.load_weights(weights), network))
        channels = next(a for a in network.parameters().values() if a.ndim == 4).shape[1]
        return network, channels, SIDES.get(model, 224)
    if Path(model).suffix.lower() != ".npz":
        names = ", ".join(models.__all__)
        raise click.UsageError(f"--model {model!r} is no .onnx, no .npz and none of {names}")
    arrays = nn.load_weights(model)
    if "conv1.weight" not in arrays or "dense.weight" not in arrays:
        raise InputError(
            f"{model} is no model of npconv train; say which network it is for: --model NAME --weights {model}"
        )
    from ..demo.training import network as trained

    network = trained(len(arrays["dense.weight"]), rng)
    network.load(arrays)
    return network, 1, None


def _of_onnx(image: Path, path: Path, size: Any, pixels: Pixels) -> Activations:
    from ..integrations import onnx_runtime

    model = onnx_runtime.load(path, intermediate=True)
    if len(model.inputs) != 1:
        raise InputError(f"{path} takes {len(model.inputs)} inputs, and one image is given")
    (value,) = model.inputs.values()
    shape = value.shape
    if size and shape is not None and len(shape) == 4:
        at = 1 if shape[1] not in (1, 3) and shape[3] in (1, 3) else 2
        shape = (*shape[:at], size[0], size[-1], *shape[at + 2 :])
    x = array_for(image, shape, value.dtype, pixels, longest=LONGEST)
    maps = {name: a for name, a in model.run({value.name: x}).items() if name != value.name and _is_map(a)}
    last = x.ndim == 4 and x.shape[1] not in (1, 3) and x.shape[3] in (1, 3)  # as `array_for` put the channels
    maps = {"input": np.moveaxis(x, -1, 1) if last else x, **maps}
    found = {name: a[0] for name, a in maps.items() if _is_map(a) and a.dtype.kind in "fiu"}
    return Activations(path.name, x.shape, found, {})


def _is_map(a: Array) -> bool:
    """Whether an array is feature maps of one image, and there is something to see in them."""
    return a.ndim == 4 and len(a) == 1 and a.shape[2] * a.shape[3] > 1


def _file_name(name: str) -> str:
    """The name of a layer as one of a file, on every system."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in shown(name, 60)).strip(".") or "layer"
