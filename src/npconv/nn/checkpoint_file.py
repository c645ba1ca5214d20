"""The file of a checkpoint: arrays by name and a header, written whole or not at all, and checked before it is believed.

    8 bytes of magic, the SHA-256 of all that follows, the length of the header in 8 bytes, the header as JSON,
    then the arrays, C-ordered and little-endian, each at its offset

Nothing in it is ever executed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..reading import shown

if TYPE_CHECKING:
    from .layer import Array, Arrays

MAGIC = b"npconv\x00\x01"
PREFIX = len(MAGIC) + 32 + 8
ALIGNMENT = 64
#: A header has some hundred bytes per array; more than this is no checkpoint.
LARGEST_HEADER = 1 << 28
#: How the name of a file begins while it is written.
PASSING = ".step-"


class CheckpointError(ValueError):
    """A checkpoint that is damaged, or that does not belong to this training."""


def write(path: Path, arrays: Mapping[str, Array], header: Mapping[str, Any]) -> None:
    """Write a file that is there whole or not at all."""
    table: dict[str, Any] = {}
    offset = 0
    ordered = {name: np.asarray(a, order="C") for name, a in arrays.items()}
    for name, a in ordered.items():
        if a.dtype.kind not in "biufc" and a.dtype.name != "bfloat16":
            raise TypeError(f"save_checkpoint: {name!r} has dtype {a.dtype}, which is no number's")
        table[name] = {"dtype": a.dtype.name, "shape": a.shape, "offset": offset}
        offset += a.nbytes + -a.nbytes % ALIGNMENT
    text = json.dumps({**header, "arrays": table, "size": offset, "order": "little"}, allow_nan=True).encode()
    text += b" " * (-(PREFIX + len(text)) % ALIGNMENT)
    digest = hashlib.sha256()
    handle, passing = tempfile.mkstemp(prefix=PASSING, suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(MAGIC + bytes(32))
            for piece in _pieces(text, ordered):
                digest.update(piece)
                file.write(piece)
            file.seek(len(MAGIC))
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
        os.replace(passing, path)
    except BaseException as error:
        Path(passing).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk does not say which file it has no room for
        raise
    _flush_names(path.parent)


def _pieces(text: bytes, arrays: Mapping[str, Array]) -> Iterator[bytes | memoryview]:
    """What follows the checksum, in order."""
    yield len(text).to_bytes(8, "little")
    yield text
    for a in arrays.values():
        yield _little(a).reshape(-1).view(np.uint8).data
        yield bytes(-a.nbytes % ALIGNMENT)


def _flush_names(folder: Path) -> None:
    """Bring the folder's list of names to the disk, where the system lets one."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """The arrays and the header of a file; every size is checked before anything is made of it.

    Raises
    ------
    CheckpointError
        If it is no checkpoint, or not all of one.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror or error}") from error
    if len(data) < PREFIX or not data.startswith(MAGIC):
        raise CheckpointError("is not a checkpoint of npconv, or cut short")
    body = memoryview(data)[len(MAGIC) + 32 :]
    if hashlib.sha256(body).digest() != data[len(MAGIC) : len(MAGIC) + 32]:
        raise CheckpointError("is damaged: its checksum is wrong")
    length = int.from_bytes(body[:8], "little")
    if length > min(len(body) - 8, LARGEST_HEADER):
        raise CheckpointError("is damaged: its header is longer than the file")
    try:
        header = json.loads(bytes(body[8 : 8 + length]))
        arrays = {name: _array(name, entry, body[8 + length :]) for name, entry in header.pop("arrays").items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"is damaged: {error}") from error
    return arrays, header


def _array(name: str, entry: dict[str, Any], data: memoryview) -> Array:
    dtype = dtype_named(entry["dtype"])
    shape, offset = tuple(entry["shape"]), entry["offset"]
    if not all(type(n) is int and n >= 0 for n in (*shape, offset)) or len(shape) > 32:
        raise ValueError(f"{shown(name)} has the shape {shown(shape)} at {shown(offset)}")
    size = math.prod(shape) * dtype.itemsize
    if offset + size > len(data):
        raise ValueError(f"{shown(name)} ends at byte {offset + size} of {len(data)}")
    found = np.frombuffer(data[offset : offset + size], dtype).reshape(shape)
    return found.astype(dtype.newbyteorder("="))  # a copy: the file's bytes may go


def dtype_named(name: Any) -> np.dtype[Any]:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    dtype = np.dtype(str(name))
    if dtype.kind not in "biufc":
        raise ValueError(f"{shown(name)} is no dtype of numbers")
    return dtype.newbyteorder("<")


def _little(a: Array) -> Array:
    """The array in little-endian bytes."""
    return a if a.dtype.byteorder != ">" and np.little_endian else a.astype(a.dtype.newbyteorder("<"))
