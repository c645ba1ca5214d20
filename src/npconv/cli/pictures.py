"""Pictures in and out: PNG and JPEG from files or a pipe, with limits, and never over a file that is there."""

from __future__ import annotations

import io
import os
import stat
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from .. import picture_files
from ..picture_files import deep

Array = NDArray[Any]

#: Bytes that a pipe may bring.
MOST_BYTES = 1 << 28
#: Standard input or output, as a file.
PIPE = Path("-")


class InputError(ValueError):
    """A file that is no input; the message says why."""


def opened(path: Path) -> Any:
    """The picture in a file or a pipe, as Pillow has it."""
    return picture_files.opened(_piped(), path) if path == PIPE else picture_files.opened(path)


def pixels(path: Path, grey: bool = False) -> Array:
    """The picture (H, W) or (H, W, 3) of uint8, or (H, W) of uint16; an array from an .npy as it is."""
    if path.suffix.lower() == ".npy":
        found = stored(path)
        if found.ndim not in (2, 3) or found.dtype.kind not in "iuf":
            raise InputError(f"{path} holds {found.dtype} of shape {found.shape}, needs numbers (H, W) or (H, W, C)")
        return np.asarray(found.mean(2) if grey and found.ndim == 3 else found)
    picture = opened(path)
    if deep(picture):
        return np.asarray(picture).astype(np.uint16)
    return np.asarray(picture.convert("L" if grey or picture.mode in ("1", "L") else "RGB"))


def stored(path: Path) -> Array:
    """The numbers of an .npy, mapped: no memory is taken for numbers that a header declares and the file has not."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise InputError(f"{path} is not a regular file")
    try:
        return np.load(path, allow_pickle=False, mmap_mode="r")
    except (ValueError, EOFError, TypeError, SyntaxError, OverflowError) as error:
        raise InputError(f"{path} is no .npy of plain numbers: {error}") from error


def check_free(path: Path, force: bool, kinds: tuple[str, ...]) -> None:
    """Refuse to write over a file, into a terminal, or a kind of file that is not written."""
    if path == PIPE:
        if sys.stdout.isatty():
            raise click.UsageError("standard output is a terminal, which shows no picture; send it to a file or a pipe")
        return
    if path.suffix.lower() not in kinds:
        raise click.UsageError(f"{path} is none of the kinds that are written: {', '.join(kinds)}")
    if path.is_dir():
        raise click.ClickException(f"{path} is a folder")
    if path.exists() and not force:
        raise click.ClickException(f"{path} exists; --force replaces it")
    if not path.parent.is_dir():
        raise click.ClickException(f"{path.parent} is no folder")


def write(path: Path, values: Array) -> None:
    """An array as PNG, JPEG or .npy, by the name of the file; all of it or nothing."""
    from PIL import Image

    buffer, kind = io.BytesIO(), path.suffix.lower()
    if kind == ".npy":
        np.lib.format.write_array(buffer, np.ascontiguousarray(values), allow_pickle=False)
    elif kind in (".jpg", ".jpeg"):
        if values.dtype != np.uint8:
            raise InputError(f"{path}: a JPEG has 8 bits a channel, and this picture has 16; write a .png")
        Image.fromarray(values).save(buffer, "JPEG", quality=95)
    else:
        Image.fromarray(values).save(buffer, "PNG")
    place(path, buffer.getvalue())


def place(path: Path, content: bytes) -> None:
    """Write a whole file in one step, or to standard output."""
    if path == PIPE:
        stream = sys.stdout.buffer
        stream.write(content)
        stream.flush()
        return
    part = path.with_name(f"{path.name[:200]}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


def _piped() -> io.BytesIO:
    stream = sys.stdin.buffer
    if stream.isatty():
        raise click.UsageError("standard input is a terminal; send a picture through a pipe")
    content = stream.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise InputError(f"standard input brings more than {MOST_BYTES} bytes")
    return io.BytesIO(content)
