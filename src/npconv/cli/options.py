"""What the commands share: files, numbers with commas, a progress bar."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else.")


class Known(click.ParamType):
    """Text, of which a shell completes some words, and names of files where none of them fits."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name, self.known = name, tuple(known)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        return completed(self.known, incomplete) or completed((incomplete,), incomplete, type="file")


def completed(known: Iterable[str], incomplete: str, **more: str) -> list[Any]:
    """The words that begin like this, as click gives them to a shell."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(word, **more) for word in known if word.startswith(incomplete)]


class Integers(click.ParamType):
    """Integers with commas between them; a word is left as it is where words are allowed."""

    name = "integers"

    def __init__(self, words: bool = False, known: Iterable[str] = ()) -> None:
        self.words, self.known = words, tuple(known)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        return completed(self.known, incomplete)

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


def of_convolution(command: Any) -> Any:
    """The options of a convolution, as `npconv.conv` has them."""
    for option in reversed(
        (
            click.option(
                "--stride", type=Integers(), default="1", show_default=True, help="One number, or one per axis."
            ),
            click.option(
                "--padding",
                type=Integers(words=True),
                default="0",
                show_default=True,
                help='A number, one per axis, or "same", "valid", "full" ...',
            ),
            click.option("--dilation", type=Integers(), default="1", show_default=True, help="As --stride."),
            click.option("--groups", type=int, default=1, show_default=True, help="Of channels."),
            click.option("--dtype", default="float32", show_default=True, help="Of input and kernel."),
            click.option(
                "--direction",
                type=click.Choice(["forward", "input_grad", "weight_grad"]),
                default="forward",
                show_default=True,
                help="Which pass.",
            ),
            click.option(
                "--accuracy",
                type=click.Choice(["strict", "standard", "fast"]),
                default="standard",
                show_default=True,
                help="Which error bounds will do.",
            ),
        )
    ):
        command = option(command)
    return command


def bar(unit: str) -> Any:
    """A bar that is shown on a terminal only."""
    from tqdm import tqdm

    return tqdm(total=1, unit=unit, disable=None, leave=False, bar_format="{desc} {bar} {percentage:3.0f} % {elapsed}")
