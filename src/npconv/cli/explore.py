"""npconv explore"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import click

from .options import FILE, Integers, per_axis
from .words import say, shown


@click.command()
@click.argument("model", required=False)
@click.option(
    "--image", type=click.Path(exists=True, dir_okay=False), help="PNG, JPEG or .npy that the model looks at."
)
@click.option("--weights", type=FILE, help="What to load into a network named; its weights are random otherwise.")
@click.option("--labels", type=FILE, help="Text file with the name of a score per line.")
@click.option("--target", type=Integers(), help="Whose gradients: the index of a score; the largest score by default.")
@click.option("--size", type=Integers(), help="Pixels of the image: 224, or 240,320 (high, wide).")
@click.option("--input", "x_shape", type=Integers(), help="Shape of an input to draw: 3,12,12.")
@click.option("--kernel", "w_shape", type=Integers(), help="Shape of its kernel: 4,3,3,3; of a pool's window: 2,2.")
@click.option(
    "--operator",
    type=click.Choice(["conv", "conv_transpose", "max_pool", "avg_pool"]),
    help="What slides, with --input and --kernel; conv by default.",
)
@click.option("--stride", type=Integers(), help="One number, or one per axis.")
@click.option("--padding", type=Integers(words=True), help='A number, one per axis, or "same", "full" ...')
@click.option("--dilation", type=Integers(), help="As --stride.")
@click.option("--groups", type=int, help="Of channels.")
@click.option("--html", type=click.Path(path_type=Path), help="Write the page to this file, instead of showing it.")
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Of the local page; a free one by default.")
@click.option("--no-browser", is_flag=True, help="Print the address, but do not open it.")
def explore(
    model: str | None, image: str | None, html: Path | None, force: bool, port: int, no_browser: bool, **options: Any
) -> None:
    """Look into a convolution or a model, product by product.

    Without MODEL it is one convolution, which the page lets you change. MODEL is an .onnx, a network of npconv by name
    (lenet5, resnet18 ...), the model.npz of npconv train, or an .npz with arrays x, w and perhaps bias.

    The page is served to this machine alone, at an address with a random token, until Ctrl-C; with --html it is a file
    that needs no network. Nothing leaves the page.

    \b
    Examples:
      npconv explore
      npconv explore --input 2,9,9 --kernel 4,2,3,3 --padding same --stride 2
      npconv explore --input 1,8,8 --kernel 2,2 --operator max_pool
      npconv explore model.onnx --image photo.png --labels classes.txt
      npconv explore lenet5 --image digit.png --html lenet5.html
    """
    from .pictures import check_free, place

    if html is None and force:
        raise click.UsageError("--force is for --html")
    if html is not None:
        if port or no_browser:
            raise click.UsageError("--port and --no-browser are for the local page, and --html writes a file")
        check_free(html, force, (".html", ".htm"))
    shown_here = _opened(model, image, **options)
    if html is not None:
        place(html, shown_here.html().encode())
        say(f"{os.path.getsize(html):,} bytes in {shown(str(html), 200)}; open it in a browser")
        return
    try:
        shown_here.serve(port, open_browser=not no_browser)
    except OSError as error:
        raise click.ClickException(f"port {port}: {error.strerror or error}") from error


def _opened(model: str | None, image: str | None, x_shape: Any, w_shape: Any, **options: Any) -> Any:
    """What the arguments ask for."""
    from ..explorer import explore as look

    of_model = {name: options.pop(name) for name in ("target", "labels", "size", "weights")}
    given = {name: per_axis(value) for name, value in options.items() if value is not None}
    if model is None:
        stray = [f"--{name}" for name, value in {"image": image, **of_model}.items() if value is not None]
        if stray:
            raise click.UsageError(f"{', '.join(stray)}: there is no MODEL")
        if x_shape is None and w_shape is None and not given:
            return look()
        if x_shape is None or w_shape is None:
            raise click.UsageError("--input and --kernel go together, as in --input 3,12,12 --kernel 4,3,3,3")
        return _drawn(x_shape, w_shape, given)
    if x_shape is not None or w_shape is not None:
        raise click.UsageError("--input and --kernel are for a problem without MODEL")
    arrays = _arrays(model)
    if arrays is not None and "x" in arrays and image is None:
        return look(arrays["x"], arrays.get("w"), arrays.get("bias"), **given)
    if given:
        raise click.UsageError(f"--{next(iter(given))} is for a problem without MODEL")
    if image is None:
        raise click.UsageError("a model needs --image")
    return _walked(model, arrays, image, **of_model)


def _drawn(x_shape: Any, w_shape: Any, options: dict[str, Any]) -> Any:
    """A problem of these shapes, of small whole numbers; always the same ones."""
    import numpy as np

    from ..explorer import explore as look
    from ..explorer.problem import MOST_NUMBERS

    pools = options.get("operator", "conv").endswith("pool")
    for name, shape in (("--input", x_shape), ("--kernel", () if pools else w_shape)):
        if min(shape, default=1) < 1 or math.prod(shape) > MOST_NUMBERS:
            raise click.ClickException(f"{name} has sizes below 1, or more than {MOST_NUMBERS} numbers in all")
    rng = np.random.default_rng(0)
    x = rng.integers(-4, 5, x_shape).astype(np.float32)
    if pools:
        return look(x, kernel=w_shape, **options)
    return look(x, rng.integers(-2, 3, w_shape).astype(np.float32), **options)


def _arrays(model: str) -> dict[str, Any] | None:
    """What an .npz holds."""
    if Path(model).suffix.lower() != ".npz":
        return None
    from .. import nn

    return dict(nn.load_weights(model))


def _walked(
    model: str, arrays: dict[str, Any] | None, image: str, target: Any, labels: Path | None, size: Any, weights: Any
) -> Any:
    """A model and an image."""
    import numpy as np

    from .. import nn
    from ..explorer import explore as look
    from ..nn import models
    from .feeding import read_labels

    options: dict[str, Any] = {"labels": None if labels is None else read_labels(labels)}
    options["target"] = per_axis(target)
    options["size"] = None if size is None else (size[0], size[-1])
    if weights is not None and model not in models.__all__:
        raise click.UsageError("--weights is for a network by name, such as resnet18")
    if model in models.__all__:
        network = getattr(models, model)(rng=0)
        if weights is not None:
            network.load(nn.match_weights(nn.load_weights(weights), network))
        return look(network, image, name=model, **options)
    if arrays is not None:
        if "conv1.weight" not in arrays or "dense.weight" not in arrays:
            raise click.ClickException(f"{model} has no x and w, and is no model of npconv train")
        from ..demo.training import network as trained

        network = trained(len(arrays["dense.weight"]), np.random.default_rng(0))
        network.load(arrays)
        return look(network, image, name=Path(model).name, **options)
    if Path(model).suffix.lower() != ".onnx":
        raise click.UsageError(f"{model!r} is no .onnx, no .npz and none of {', '.join(models.__all__)}")
    return look(Path(model), image, name=Path(model).name, **options)
