"""What every reader of weights refuses, in one kind of error: the file is data from a stranger until it is checked."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

#: Letters, bytes and steps that a header may have. A network of a thousand layers needs a tenth of each.
MOST_NAME, MOST_HEADER, MOST_ENTRIES, MOST_AXES = 1024, 1 << 20, 10_000, 32


class WeightsError(ValueError):
    """A file of weights that is not read, or arrays that cannot be written; the message says what to do."""


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Whatever goes wrong inside is the file's fault: libraries raise many kinds of errors over a broken one."""
    try:
        yield
    except WeightsError:
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise WeightsError(f"{what}: {printable(text)}") from None


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[tuple[BinaryIO, int]]:
    """A regular file and its size. A pipe or a device would never end."""
    with open(path, "rb", opener=_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise WeightsError(f"{printable(str(path))} is not a regular file; copy it to one")
        yield file, status.st_size


def _without_waiting(path: str, flags: int) -> int:
    """Open without waiting for a writer, should it be a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def suffix(path: str | os.PathLike[str]) -> str:
    """The end of a file's name that says its format, in small letters."""
    return Path(path).suffix.lower()


def printable(text: str) -> str:
    """Text from a file as a message may show it: short, and without letters that steer a terminal."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text[:200])
    return shown + ("..." if len(text) > 200 else "")


def checked_name(name: Any) -> str:
    """A name that is text, short, printable, and nobody's path out of a folder."""
    if not isinstance(name, str):
        raise WeightsError(f"a name is of type {type(name).__name__}, not text")
    if not name or len(name.encode("utf-8", "replace")) > MOST_NAME:
        raise WeightsError(f"a name has {len(name)} letters; it has 1 to {MOST_NAME} bytes: {printable(name)!r}")
    if not name.isprintable():
        raise WeightsError(f"the name {printable(name)!r} has letters that cannot be printed")
    if name.startswith("/") or "\\" in name or ".." in name.split("/"):
        raise WeightsError(f"the name {printable(name)!r} leads out of its folder")
    return name


def checked_shape(shape: Any, name: str, what: str = "shape") -> tuple[int, ...]:
    """A shape of integers that are not negative, as a tuple."""
    if not isinstance(shape, list | tuple) or any(type(n) is not int or n < 0 for n in shape):
        raise WeightsError(f"{name!r}: its {what} is not made of integers from 0; save it again")
    if len(shape) > MOST_AXES:
        raise WeightsError(f"{name!r} has {len(shape)} axes; at most {MOST_AXES} are read")
    return tuple(shape)


def fill(file: Any, a: np.ndarray[Any, Any]) -> None:
    """Read the bytes of a contiguous array from a stream, a megabyte at a time."""
    view = a.reshape(-1).view(np.uint8).data
    done = 0
    while done < len(view):
        count = file.readinto(view[done : done + (1 << 20)])
        if not count:
            raise WeightsError(f"the file ends {len(view) - done} bytes early; fetch it again")
        done += count


def widened(bits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The float32 values of bfloat16 bits, which are their upper halves: exact."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
