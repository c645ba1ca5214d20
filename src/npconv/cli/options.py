"""What the commands share: errors of one line, integers with commas, a progress bar."""

from __future__ import annotations

import sys
from typing import Any

import click


class OneLine(click.Group):
    """A group whose errors are one line on stderr, and never a traceback."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        extra["standalone_mode"] = False  # click's own handling prints several lines
        if not standalone_mode:
            return super().main(*args, **extra)
        try:
            code = super().main(*args, **extra)
        except click.ClickException as error:
            words = " ".join(error.format_message().split())
            click.echo(f"npconv: {words}", err=True)
            sys.exit(error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            click.echo("npconv: stopped", err=True)
            sys.exit(130)
        sys.exit(code if isinstance(code, int) else 0)


class Integers(click.ParamType):
    """Integers with commas between them; a word is left as it is where words are allowed."""

    name = "integers"

    def __init__(self, words: bool = False) -> None:
        self.words = words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        if self.words and value.replace("_", "").isalpha():
            return value
        try:
            numbers = tuple(int(part) for part in value.replace(" ", "").strip("()").split(","))
        except ValueError:
            wanted = "integers with commas between them, such as 1,64,56,56"
            self.fail(f"{value!r} is not {'a name or ' if self.words else ''}{wanted}", param, ctx)
        return numbers


class Numbers(click.ParamType):
    """Numbers with commas between them."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not numbers with commas between them, such as 0.485,0.456,0.406", param, ctx)


def per_axis(value: Any) -> Any:
    """One number stands for every axis."""
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value


def bar(unit: str) -> Any:
    """A bar that is shown on a terminal only."""
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise click.ClickException(f'{error}: pip install "npconv[cli]"') from error
    return tqdm(total=1, unit=unit, disable=None, leave=False, bar_format="{desc} {bar} {percentage:3.0f} % {elapsed}")
