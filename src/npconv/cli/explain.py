"""npconv explain"""

from __future__ import annotations

from typing import Any

import click

from .. import MemoryLimitError
from .. import explain as explanation
from .options import Integers, per_axis


@click.command()
@click.argument("x_shape", type=Integers())
@click.argument("w_shape", type=Integers())
@click.option("--stride", type=Integers(), default="1", show_default=True)
@click.option(
    "--padding",
    type=Integers(words=True),
    default="0",
    show_default=True,
    help='A number, one per axis, or "same", "valid", "full" ...',
)
@click.option("--dilation", type=Integers(), default="1", show_default=True)
@click.option("--groups", type=int, default=1, show_default=True)
@click.option("--layout", default="channels_first", show_default=True)
@click.option("--dtype", default="float32", show_default=True)
@click.option(
    "--direction",
    type=click.Choice(["forward", "input_grad", "weight_grad"]),
    default="forward",
    show_default=True,
)
@click.option("--accuracy", type=click.Choice(["strict", "standard", "fast"]), default="standard", show_default=True)
@click.option("--algorithm", default="auto", show_default=True)
@click.option("--measure", is_flag=True, help="Also run every algorithm that can, and time it.")
def explain(x_shape: Any, w_shape: Any, **options: Any) -> None:
    """Say which algorithm would run for these shapes, why, and why not the others.

    X_SHAPE is the input's shape, batch and channels included; W_SHAPE is the kernel's.

    \b
    Examples:
      npconv explain 1,64,56,56 64,64,3,3 --padding 1
      npconv explain 1,64,56,56 64,64,3,3 --padding 1 --measure
      npconv explain 8,3,224,224 64,3,7,7 --stride 2 --padding same --direction weight_grad
    """
    try:
        click.echo(str(explanation(x_shape, w_shape, **{k: per_axis(v) for k, v in options.items()})))
    except (ValueError, TypeError, MemoryLimitError) as error:
        raise click.ClickException(str(error)) from error
