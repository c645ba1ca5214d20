"""Whatever goes wrong in a command is one line on stderr and an exit code; a traceback only on request.

0     it worked
1     it did not; the line says why
2     the command line cannot be read
130   stopped by Ctrl-C
141   the reader of our output went away, as a shell reports it of any program
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from .words import shown

STOPPED, NOBODY_READS = 130, 141
#: The extra that brings a package, where its name does not say it.
EXTRAS = {
    "click": "cli", "tqdm": "cli", "matplotlib": "plot", "PIL": "plot", "onnx": "onnx", "keras": "keras",
    "h5py": "weights", "safetensors": "weights", "sklearn": "demo", "skimage": "demo", "numba": "fast",
    "anywidget": "widget",
}  # fmt: skip


class OneLine(click.Group):
    """A group whose errors are one line on stderr, and never a traceback."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        extra["standalone_mode"] = False  # click's own handling prints several lines
        extra.setdefault("complete_var", "_NPCONV_COMPLETE")  # also under python -m npconv.cli
        if not standalone_mode:
            return super().main(*args, **extra)
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # a terminal without a letter shows another; it is no reason to stop
                stream.reconfigure(errors="replace")
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            try:
                with translated():
                    code = super().main(*args, **extra)
            except click.exceptions.Exit as ended:
                code = ended.exit_code
            except click.ClickException as error:
                _complain(_words(error))
                code = error.exit_code
            except (click.Abort, KeyboardInterrupt):
                _complain("stopped")
                code = STOPPED
        sys.exit(code if isinstance(code, int) else 0)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with translated():  # --help prints from here
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with translated():
            return super().invoke(ctx)


@contextmanager
def translated() -> Iterator[None]:
    """Any error inside becomes one that click reports, with the words that help."""
    try:
        yield
    except (click.ClickException, click.Abort, click.exceptions.Exit):
        raise
    except BrokenPipeError as error:
        raise click.exceptions.Exit(NOBODY_READS) from error
    except Exception as error:
        if os.environ.get("NPCONV_TRACEBACK"):
            raise
        raise click.ClickException(described(error)) from error


def described(error: Exception) -> str:
    """An error in the words of a user of the command."""
    text = str(error)
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or text)
    if isinstance(error, ImportError):
        package = (error.name or "").partition(".")[0]
        if "pip install" in text or package not in EXTRAS:
            return text
        return f'this needs {package}: pip install "npconv[{EXTRAS[package]}]"'
    if isinstance(error, MemoryError):
        return text or "there is not enough memory"
    if isinstance(error, ValueError | TypeError) and text:
        return text
    return f"{type(error).__name__}: {text}; with NPCONV_TRACEBACK=1 it says where" if text else type(error).__name__


def _words(error: click.ClickException) -> str:
    words = " ".join(error.format_message().split())
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"{words}{'' if words.endswith(('.', '?')) else '.'} See {error.ctx.command_path} --help"
    return words


def _warn(message: Any, *place: Any, **more: Any) -> None:
    """A warning in one line: where it was raised is no news to a user."""
    _complain(f"warning: {' '.join(str(message).split())}")


def _complain(words: str) -> None:
    with suppress(OSError):  # nobody reads stderr either
        click.echo(f"npconv: {shown(words, 2000)}", err=True)
