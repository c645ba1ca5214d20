"""npconv bench"""

from __future__ import annotations

from typing import Any

import click

from .options import AS_JSON, Integers, bar, of_convolution, per_axis
from .words import say, say_json, table

#: Layers by name: input, kernel, options.
PRESETS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "resnet": ((1, 64, 56, 56), (64, 64, 3, 3), {"padding": 1}),
    "first": ((1, 3, 224, 224), (64, 3, 7, 7), {"padding": 3, "stride": 2}),
    "pointwise": ((1, 256, 28, 28), (128, 256, 1, 1), {}),
    "depthwise": ((1, 96, 112, 112), (96, 1, 3, 3), {"padding": 1, "groups": 96}),
    "deep": ((1, 512, 7, 7), (512, 512, 3, 3), {"padding": 1}),
    "image": ((3, 1, 427, 640), (1, 1, 31, 31), {"padding": "same"}),
    "audio": ((8, 16, 16000), (32, 16, 9), {"padding": "same"}),
}
PEERS = ("torch", "onnxruntime")


@click.command()
@click.argument(
    "x_shape", type=Integers(words=True, known=tuple(PRESETS)), default="resnet", metavar="[X_SHAPE|PRESET]"
)
@click.argument("w_shape", type=Integers(), required=False)
@of_convolution
@click.option("--threads", type=click.IntRange(1, 1024), help="Of every library; npconv's default unless given.")
@click.option("--peers", default="installed", show_default=True, help="torch,onnxruntime, or none.")
@click.option(
    "--seconds", type=click.FloatRange(0.01, 600), default=0.5, show_default=True, help="To spend on each way."
)
@AS_JSON
@click.pass_context
def bench(
    ctx: click.Context,
    x_shape: Any,
    w_shape: Any,
    threads: int | None,
    peers: str,
    seconds: float,
    as_json: bool,
    **options: Any,
) -> None:
    """Time every algorithm on a layer, and other libraries.

    The layer is given by its shapes as in npconv explain, or by name: resnet, first, pointwise, depthwise, deep,
    image, audio. Each library runs in a process of its own; they take turns, so that a machine that slows down slows
    all of them. Random numbers; results are compared. What a call returns is what it allocates: nothing is reused but
    where it says planned.

    \b
    Examples:
      npconv bench
      npconv bench depthwise --threads 1
      npconv bench 1,64,56,56 64,64,3,3 --padding 1 --peers none
      npconv bench first --direction weight_grad --json
    """
    from . import race

    if isinstance(x_shape, str):
        if w_shape is not None:
            raise click.UsageError(f"{x_shape!r} is a layer by name, or no shape; give two shapes or one name")
        if x_shape not in PRESETS:
            raise click.UsageError(f"{x_shape!r} is no layer; there are {', '.join(PRESETS)}")
        given = [name for name in ("stride", "padding", "dilation", "groups") if not _is_default(ctx, name)]
        if given:
            raise click.UsageError(f"the layer {x_shape!r} has its own --{given[0]}; give shapes instead")
        x_shape, w_shape, more = PRESETS[x_shape]
        options |= more
    elif w_shape is None:
        raise click.UsageError("the kernel's shape is missing, as 64,64,3,3")
    problem = race.Problem(x_shape, w_shape, {name: per_axis(value) for name, value in options.items()})
    libraries = race.libraries(peers, PEERS)
    with bar("way") as shown:

        def tell(words: str, done: int, total: int) -> None:
            if shown.total != total:
                shown.reset(total)
            shown.set_description_str(words, False)
            shown.update(done - shown.n)

        found = race.run(problem, libraries, threads, seconds, tell)
    if as_json:
        say_json(found.document())
    else:
        say(found.title())
        rows, right = found.rows()
        say(table(rows, right))
        for note in found.notes():
            say(note)
    if not found.timed:
        ctx.exit(1)


def _is_default(ctx: click.Context, name: str) -> bool:
    from click.core import ParameterSource

    return ctx.get_parameter_source(name) is ParameterSource.DEFAULT
