"""safetensors, read and written by its own library after checks of ours."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .refusals import MOST_AXES, MOST_HEADER, WeightsError, checked_name, checked_shape, fill, opened, refusing, widened

#: NumPy's dtype by the format's name. There is none for BF16: its bits are read, and widened.
DTYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4",
    "U64": "<u8", "I64": "<i8", "F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip


def _library() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError('.safetensors files need safetensors: pip install "npconv[weights]"') from error
    return safetensors


def read(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """The arrays of a .safetensors by name; bfloat16 as float32."""
    library = _library()
    with opened(path) as (file, size), refusing("the file is no proper .safetensors; fetch it again"):
        entries, start = _entries(file, size)
        with library.safe_open(path, framework="numpy") as official:  # its own checks, on top of ours
            if set(official.keys()) != set(entries):
                raise WeightsError("the library finds other names in the header than we do; save the file again")
        arrays: dict[str, NDArray[Any]] = {}
        for name, (code, shape, begin) in entries.items():
            a = np.empty(shape, DTYPES[code])
            file.seek(start + begin)
            fill(file, a)
            arrays[name] = widened(a) if code == "BF16" else a.astype(a.dtype.newbyteorder("="), copy=False)
        return arrays


def _entries(file: Any, size: int) -> tuple[dict[str, tuple[str, tuple[int, ...], int]], int]:
    """Of each tensor its dtype, shape and place; and where the places count from."""
    length = int.from_bytes(file.read(8), "little")
    if size < 10 or length > size - 8:
        raise WeightsError(f"the header should have {length} bytes, but the file has {size}; fetch it again")
    if length > MOST_HEADER:
        raise WeightsError(f"the header has {length} bytes; at most {MOST_HEADER} are read")
    header = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=_once)
    if not isinstance(header, dict):
        raise WeightsError("the header is not a table of names; save the file again")
    header.pop("__metadata__", None)
    entries: dict[str, tuple[str, tuple[int, ...], int]] = {}
    places = []
    for name, entry in header.items():
        checked_name(name)
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise WeightsError(f"{name!r} does not say dtype, shape and data_offsets")
        if entry["dtype"] not in DTYPES:
            raise WeightsError(f"{name!r} has dtype {entry['dtype']!r}; save it as F32, F16 or BF16")
        shape, offsets = checked_shape(entry["shape"], name), checked_shape(entry["data_offsets"], name, "place")
        if len(offsets) != 2 or prod(shape) * np.dtype(DTYPES[entry["dtype"]]).itemsize != offsets[1] - offsets[0]:
            raise WeightsError(f"{name!r}: {shape} of {entry['dtype']} do not fill the bytes {list(offsets)}")
        entries[name] = (entry["dtype"], shape, offsets[0])
        places.append((*offsets, name))
    at = 0
    for begin, end, name in sorted(places):
        if begin != at:
            raise WeightsError(f"{name!r} begins at byte {begin}, where {at} was due: a hole or an overlap")
        at = end
    if at != size - 8 - length:
        raise WeightsError(f"the tensors have {at} bytes, but the file has {size - 8 - length} for them")
    return entries, 8 + length


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise WeightsError("the header says a name twice; save the file again")
    return table


def write(path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]]) -> None:
    """A .safetensors that any of the format's readers reads."""
    codes = {np.dtype(dtype): code for code, dtype in DTYPES.items() if code != "BF16"}
    ready = {}
    for name, a in arrays.items():
        little = a.dtype if a.dtype.name == "bfloat16" else a.dtype.newbyteorder("<")
        if (little not in codes and little.name != "bfloat16") or name == "__metadata__":
            raise WeightsError(f"{name!r} of dtype {a.dtype} has no place in .safetensors; convert or rename it")
        if a.ndim > MOST_AXES:
            raise WeightsError(f"{name!r} has {a.ndim} axes; at most {MOST_AXES} are written")
        # the library writes a transposed array's memory under its shape (its issue 825): give it none
        ready[name] = np.ascontiguousarray(a, little).reshape(a.shape)
    _library().numpy.save_file(ready, path)
