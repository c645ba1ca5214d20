"""npconv features"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..nn.models import __all__ as MODELS
from .options import AS_JSON, FILE, Integers, Known, Numbers
from .words import say, say_json, shown, table


@click.command()
@click.argument("image", type=click.Path(allow_dash=True, path_type=Path))
@click.option(
    "--model",
    type=Known("model", MODELS),
    help="An .onnx, the model.npz of npconv train, or a network: lenet5, vgg16, resnet18 ...; random layers by default.",
)
@click.option("--weights", type=FILE, help="What to load into a network; its weights are random otherwise.")
@click.option("--depth", type=click.IntRange(1, 32), help="How many random layers, without --model; 4 by default.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of random weights.")
@click.option("--layers", help="Which to draw, with commas between: conv1,relu* or all.")
@click.option("--maps", type=click.IntRange(1, 64), default=4, show_default=True, help="How many of each layer.")
@click.option("--size", type=Integers(), help="Pixels the image is resized to: 224, or 240,320 (high, wide).")
@click.option("--scale", type=float, help="What pixels 0..255 are multiplied by; 1/255 for a model of floats.")
@click.option("--mean", type=Numbers(), default="0", show_default=True, help="Then subtracted, per channel.")
@click.option("--std", type=Numbers(), default="1", show_default=True, help="Then divided by, per channel.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A .png of all layers, or a folder.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@AS_JSON
def features(image: Path, out: Path, force: bool, as_json: bool, **options: Any) -> None:
    """Draw what the layers of a network make of an image.

    Of each layer the maps that vary most, with their sizes. Blue is negative, white zero, orange positive; maps without
    a sign go from black to white. Of a model of many layers twelve are drawn, unless --layers names others.

    \b
    Examples:
      npconv features photo.jpg --out maps.png
      npconv features photo.jpg --depth 2 --maps 8 --out maps.png
      npconv features digit.png --model npconv-digits/model.npz --out maps
      npconv features cat.jpg --model resnet18 --weights r18.pth --out maps.png
      npconv features cat.jpg --model model.onnx --layers "*conv*" --out maps
    """
    from . import activations
    from .pictures import check_free

    folder = not out.suffix
    if folder:
        out.mkdir(parents=True, exist_ok=True)
    else:
        check_free(out, force, (".png",))
    wanted, maps = options.pop("layers"), options.pop("maps")
    found = activations.of(image, **options)
    drawn = activations.chosen(found.maps, wanted)
    files = activations.pictures(drawn, maps, out, folder, force)
    if as_json:
        layers = [
            {
                "name": name,
                "kind": found.kinds.get(name),
                "shape": a.shape,
                "min": float(a.min()),
                "max": float(a.max()),
                "drawn": name in drawn,
            }
            for name, a in found.maps.items()
        ]
        said = {"model": found.name, "input_shape": found.input_shape, "layers": layers, "files": list(map(str, files))}
        say_json(said)
        return
    rows: list[tuple[str, ...]] = [("layer", "kind", "maps", "size", "least", "most")]
    for name, a in found.maps.items():
        size = f"{a.shape[1]} × {a.shape[2]}"
        rows.append((shown(name, 40), found.kinds.get(name, ""), str(len(a)), size, f"{a.min():.4g}", f"{a.max():.4g}"))
    say(table(rows, right=(2, 3, 4, 5)))
    where = f"{len(files)} file{'s' * (len(files) > 1)} in " * folder + shown(str(out), 500)
    some = f"; {len(drawn)} of {len(found.maps)} drawn, --layers names others"
    say(where + some * (len(drawn) < len(found.maps)))
