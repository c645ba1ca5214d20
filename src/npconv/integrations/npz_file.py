"""NumPy's .npz: read without pickle, every header held against the bytes that are there."""

from __future__ import annotations

import ast
import os
import re
import zipfile
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .archives import Archive, archive
from .refusals import WeightsError, checked_name, checked_shape, fill, refusing

_MAGIC, _SUFFIX, _MOST = b"\x93NUMPY", ".npy", 10_000
_LENGTHS = {(1, 0): 2, (2, 0): 4, (3, 0): 4}  # of the field that says the header's length, by version
_NUMBERS = re.compile(r"[<>|=]?([biufc])(\d{1,2})")


def read(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz by name."""
    with archive(path, packed=True) as file:
        arrays: dict[str, NDArray[Any]] = {}
        for entry in file.entries:
            if not entry.endswith(_SUFFIX):
                raise WeightsError(f"{entry!r} is not an array (.npy); save the arrays with numpy.savez")
            name = checked_name(entry.removesuffix(_SUFFIX))
            with refusing(f"{name!r} is not a proper .npy; save it again with numpy.savez"):
                arrays[name] = _array(file, entry, name)
        return arrays


def _array(file: Archive, entry: str, name: str) -> NDArray[Any]:
    with file.stream(entry) as stream:
        start = stream.read(8)
        width = _LENGTHS.get((start[6], start[7])) if len(start) == 8 and start.startswith(_MAGIC) else None
        if width is None:
            raise WeightsError(f"{name!r} does not begin as an .npy does; save it again with numpy.savez")
        length = int.from_bytes(stream.read(width), "little")
        if length > _MOST:
            raise WeightsError(f"{name!r}: its header has {length} bytes; at most {_MOST} are read")
        header = ast.literal_eval(stream.read(length).decode("utf-8" if start[6] == 3 else "latin-1").strip())
        if not isinstance(header, dict) or set(header) != {"descr", "fortran_order", "shape"}:
            raise WeightsError(f"{name!r}: its header does not say descr, fortran_order and shape")
        dtype, shape = _dtype(header["descr"], name), checked_shape(header["shape"], name)
        there = file.size(entry) - 8 - width - length
        if prod(shape) * dtype.itemsize != there:
            raise WeightsError(f"{name!r}: {shape} of {dtype} are {prod(shape) * dtype.itemsize} bytes, not {there}")
        a = np.empty(shape, dtype, order="F" if header["fortran_order"] is True else "C")
        fill(stream, a.T if header["fortran_order"] is True else a)
        stream.read(1)  # only at its end is an entry's checksum compared
    return a.astype(dtype.newbyteorder("="), copy=False)


def _dtype(descr: Any, name: str) -> np.dtype[Any]:
    if not isinstance(descr, str) or not _NUMBERS.fullmatch(descr):
        what = "Python objects, which only pickle can read" if descr in ("O", "|O") else "no plain numbers"
        raise WeightsError(f"{name!r} holds {what}; save numbers, as array.astype('float32')")
    return np.dtype(descr)


def write(path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]]) -> None:
    """An .npz, as `numpy.savez` writes it, under any name."""
    with zipfile.ZipFile(path, "w") as file:
        for name, a in arrays.items():
            if not _NUMBERS.fullmatch(a.dtype.str):
                raise WeightsError(
                    f"{name!r} has dtype {a.dtype}, which .npz does not hold; save it as .safetensors or convert it"
                )
            with file.open(name + _SUFFIX, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, a, allow_pickle=False)
