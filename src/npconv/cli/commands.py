"""The group of all commands. A command's module is loaded when it is asked for, and loads NumPy when it runs."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module

import click

from .. import __version__
from .errors import OneLine

#: In the order of the help: the module of each command.
COMMANDS = {
    "See": {"demo": "demo", "filter": "filter", "features": "features", "explore": "explore"},
    "Models": {"train": "train", "run": "run"},
    "Algorithms": {"explain": "explain", "bench": "bench", "verify": "verify"},
    "Care": {"doctor": "care", "tune": "care", "warmup": "care", "completion": "completion"},
}
MODULES = {name: module for section in COMMANDS.values() for name, module in section.items()}


class Commands(OneLine):
    """All commands, by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in MODULES:
            return None
        command: click.Command = getattr(import_module(f".{MODULES[cmd_name]}", __package__), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        near = get_close_matches(args[0], MODULES, 1)
        if near and near[0] != args[0]:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        widest = max(map(len, MODULES))
        for section, names in COMMANDS.items():
            with formatter.section(section):
                room = formatter.width - widest - 4  # the indent, and what is between the columns
                found = ((name, self.get_command(ctx, name)) for name in names)
                rows = [(name.ljust(widest), command.get_short_help_str(room)) for name, command in found if command]
                formatter.write_dl(rows)


@click.group(cls=Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="npconv")
@click.pass_context
def npconv(ctx: click.Context) -> None:
    """Convolution and pooling for NumPy, forward and backward.

    \b
    Examples:
      npconv demo
      npconv filter photo.jpg --out edges.png
      npconv features photo.jpg --out maps.png
      npconv explore
      npconv run model.onnx --input cat.jpg
      npconv explain 1,64,56,56 64,64,3,3 --padding 1 --measure

    Each command has a --help with more.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
