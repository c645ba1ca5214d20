"""Weights that an ONNX model keeps in files beside it: off by default, and careful when asked for.

The file name comes from a stranger. It may only name a plain file below the model's own folder, reached through no
symbolic link and having no second name (a hard link), and every byte that is read must be there.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath
from typing import Any

from .onnx_checks import EXTERNAL, ModelError, printable, subgraphs, tensor_bytes

KEYS = {"location", "offset", "length", "checksum"}


def external_tensors(model: Any) -> list[Any]:
    """Every tensor of the model whose bytes are in another file."""
    found, pending = [], [model.graph, *model.functions]
    while pending:
        graph = pending.pop()
        found += [t for t in getattr(graph, "initializer", ()) if t.data_location == EXTERNAL]
        for node in graph.node:
            pending += subgraphs(node)
            for attribute in node.attribute:
                found += [t for t in (attribute.t, *attribute.tensors) if t.data_location == EXTERNAL]
    return found


def read_external(tensor: Any, folder: Path) -> bytes:
    """The bytes of a tensor that are in a file below `folder`."""
    name = printable(tensor.name)
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if not set(entries) <= KEYS or len(entries) != len(tensor.external_data):
        raise ModelError(f"onnx: tensor {name} has unknown or repeated keys for its external data")
    needed = tensor_bytes(tensor)
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", needed))
    except ValueError as error:
        raise ModelError(f"onnx: tensor {name}: offset and length of its external data are no numbers") from error
    if offset < 0 or length != needed:
        raise ModelError(
            f"onnx: tensor {name} needs {needed} bytes of external data, its entry says {length} at {offset}"
        )
    file = _opened(name, folder, entries.get("location", ""))
    try:
        size = os.fstat(file).st_size
        if offset + length > size:
            raise ModelError(f"onnx: tensor {name} ends at byte {offset + length} of a file of {size}")
        with open(file, "rb", closefd=False) as stream:
            stream.seek(offset)
            data = stream.read(length)
    finally:
        os.close(file)
    if len(data) != length:
        raise ModelError(f"onnx: tensor {name}: its external file ended while it was read")
    return data


def _opened(name: str, folder: Path, location: str) -> int:
    """A descriptor of the file at `location`, walked to step by step so that no link is followed."""
    parts = list(PurePosixPath(location).parts)
    plain = location.isprintable() and not any(c in location for c in "\\:")
    if not parts or not plain or location.startswith("/") or ".." in parts:
        raise ModelError(f"onnx: tensor {name} keeps its data in {printable(location)!r}, which is not below the model")
    *steps, last = parts
    nofollow = getattr(os, "O_NOFOLLOW", 0)
    where = os.open(folder, os.O_RDONLY)
    try:
        for step in steps:
            inner = os.open(step, os.O_RDONLY | nofollow | getattr(os, "O_DIRECTORY", 0), dir_fd=where)
            os.close(where)
            where = inner
        file = os.open(last, os.O_RDONLY | nofollow | getattr(os, "O_NONBLOCK", 0), dir_fd=where)
    except OSError as error:
        reason = error.strerror or "it cannot be opened"
        raise ModelError(f"onnx: tensor {name}: external file {printable(location)!r}: {reason}") from error
    finally:
        os.close(where)
    about = os.fstat(file)
    if not stat.S_ISREG(about.st_mode) or about.st_nlink != 1:
        os.close(file)
        raise ModelError(f"onnx: tensor {name}: {printable(location)!r} is not a plain file with one name")
    return file
