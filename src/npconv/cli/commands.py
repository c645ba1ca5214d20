"""The group of all commands."""

from __future__ import annotations

import click

from .. import __version__
from .care import doctor, tune, warmup
from .demo import demo
from .explain import explain
from .options import OneLine
from .run import run
from .train import train


@click.group(cls=OneLine, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="npconv")
@click.pass_context
def npconv(ctx: click.Context) -> None:
    """Convolution and pooling for NumPy, forward and backward.

    \b
    Examples:
      npconv demo
      npconv demo --photo holiday.jpg
      npconv train digits
      npconv run model.onnx --input cat.jpg
      npconv explain 1,64,56,56 64,64,3,3 --padding 1 --measure
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


for command in (demo, train, run, explain, doctor, warmup, tune):
    npconv.add_command(command)
