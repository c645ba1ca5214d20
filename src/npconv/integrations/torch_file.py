"""torch's .pt and .pth with a state_dict, read and written without torch and without pickle."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .archives import Archive, archive
from .refusals import MOST_AXES, WeightsError, checked_name, fill, opened, printable, refusing, widened
from .torch_pickle import ADVICE, DTYPES, Storage, Tensor, run, written

#: The program may be this long; a thousand tensors take 0.2 MB.
MOST_PROGRAM = 4 << 20
#: Elements that a tensor with repeated ones (`expand`) may have beyond those of its storage.
MOST_REPEATED = 1 << 20


def read(path: str | os.PathLike[str], key: str | None = None) -> dict[str, NDArray[Any]]:
    """The tensors of a state_dict by name; bfloat16 as float32.

    Tensors that share memory in the file share it here.
    """
    _refuse_old(path)
    with archive(path, packed=True) as file:
        programs = [entry for entry in file.entries if entry.endswith("/data.pkl") and entry.count("/") == 1]
        if len(programs) != 1:
            raise WeightsError(f"the archive holds {len(programs)} lists of tensors (data.pkl), not 1; {ADVICE}")
        root = programs[0].removesuffix("data.pkl")
        if root + "constants.pkl" in file.entries:
            raise WeightsError(f"this is a TorchScript program; load it in torch and {ADVICE}")
        if any(info.compress_type for info in file.entries.values()):
            raise WeightsError(f"the archive is compressed, as torch's never is; load it in torch and {ADVICE}")
        order = file.read(root + "byteorder", 16) if root + "byteorder" in file.entries else b"little"
        with refusing(f"the list of tensors is broken; {ADVICE}"):
            chosen = _chosen(run(file.read(programs[0], MOST_PROGRAM)), key)
        storages: dict[str, NDArray[np.uint8]] = {}
        wide: dict[str, NDArray[Any]] = {}
        return {name: _array(file, root, order, tensor, name, storages, wide) for name, tensor in chosen.items()}


def _refuse_old(path: str | os.PathLike[str]) -> None:
    with opened(path) as (file, _):
        start = file.read(512)
    if start[257:262] == b"ustar" or (start[:1] == b"\x80" and start[:4] != b"PK\x03\x04"):
        raise WeightsError(f"the file is older than torch 1.6, or a bare pickle; load it in torch and {ADVICE}")
    if start[:4] != b"PK\x03\x04":
        raise WeightsError(f"the file does not begin as torch's do (a zip archive); {ADVICE}")


def _chosen(whole: Any, key: str | None) -> dict[str, Tensor]:
    """The tensors by name: of the whole file, or of one table in it."""
    if not isinstance(whole, dict):
        raise WeightsError(f"the file holds a {type(whole).__name__} where a table of tensors should be; {ADVICE}")
    inner = [name for name, value in whole.items() if isinstance(value, dict) and _tensors(value)]
    offered = "; choose one of " + ", ".join(f"key={printable(str(name))!r}" for name in inner[:10]) if inner else ""
    if key is not None:
        if not isinstance(whole.get(key), dict):
            raise WeightsError(f"the file has no table {printable(key)!r}{offered}")
        whole = whole[key]
    elif offered:
        raise WeightsError(f"the weights are inside a larger checkpoint{offered}")
    if not _tensors(whole):
        raise WeightsError(f"the file holds no tensors; {ADVICE}")
    for name, value in whole.items():
        checked_name(name)
        if not isinstance(value, Tensor):
            raise WeightsError(f"{name!r} is no tensor but of type {type(value).__name__}; {ADVICE}")
    return whole


def _tensors(table: dict[Any, Any]) -> bool:
    return any(isinstance(value, Tensor) for value in table.values())


def _array(
    file: Archive,
    root: str,
    order: bytes,
    tensor: Tensor,
    name: str,
    storages: dict[str, NDArray[np.uint8]],
    wide: dict[str, NDArray[Any]],
) -> NDArray[Any]:
    """A tensor as a view of its storage, which is read once."""
    store = tensor.storage
    dtype = np.dtype("u2" if tensor.dtype == "bf16" else tensor.dtype)
    entry, size = (
        f"{root}data/{store.key}",
        store.count * (2 if store.dtype == "bf16" else np.dtype(store.dtype).itemsize),
    )
    if entry not in file.entries or file.size(entry) != size:
        raise WeightsError(f"{name!r}: its {size} bytes are not in the archive; fetch the file again")
    count, elements = size // dtype.itemsize, prod(tensor.shape)
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
    if elements > max(count, MOST_REPEATED):
        raise WeightsError(f"{name!r} declares {elements} numbers, but its storage has {count}; save it contiguous")
    if elements and last >= count:
        raise WeightsError(f"{name!r} reaches beyond its storage of {count} numbers; fetch the file again")
    if not elements:
        return np.empty(tensor.shape, np.float32 if tensor.dtype == "bf16" else dtype)
    if store.key not in storages:
        storages[store.key] = np.empty(size, np.uint8)
        with file.stream(entry) as stream:
            fill(stream, storages[store.key])
            stream.read(1)  # only at its end is an entry's checksum compared
    kept = f"{tensor.dtype} {store.key}"
    if kept not in wide:
        wide[kept] = _numbers(storages[store.key], tensor.dtype, dtype, order)
    numbers = wide[kept]
    strides = [step * numbers.itemsize for step in tensor.strides]
    return np.ndarray(tensor.shape, numbers.dtype, numbers, tensor.offset * numbers.itemsize, strides)


def _numbers(data: NDArray[np.uint8], name: str, dtype: np.dtype[Any], order: bytes) -> NDArray[Any]:
    numbers = data[: len(data) // dtype.itemsize * dtype.itemsize].view(dtype)
    if order.strip() != sys.byteorder.encode():
        numbers = numbers.byteswap()
    if name == "bf16":
        return widened(numbers)
    return data != 0 if name == "?" else numbers


def write(path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]]) -> None:
    """A state_dict that torch.load reads, with weights_only too; an array keeps its shape, its memory is in order."""
    codes = {np.dtype(code): code for code in DTYPES.values() if code not in ("bf16", "u2", "u4", "u8")}
    tensors: dict[str, Tensor] = {}
    data: list[NDArray[Any]] = []
    for name, a in arrays.items():
        code = "bf16" if a.dtype.name == "bfloat16" else codes.get(a.dtype.newbyteorder("="))
        if code is None or a.ndim > MOST_AXES:
            raise WeightsError(f"{name!r}: torch has no storage for {a.dtype} with {a.ndim} axes; convert it")
        bits = a.view(np.uint16) if code == "bf16" else a
        dense = np.ascontiguousarray(bits, bits.dtype.newbyteorder("<")).reshape(a.shape)
        strides = tuple(step // a.itemsize for step in dense.strides)
        tensors[name] = Tensor(Storage(str(len(data)), code, a.size), code, 0, a.shape, strides)
        data.append(dense)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", written(tensors))
        file.writestr("archive/byteorder", "little")
        for i, a in enumerate(data):
            with file.open(f"archive/data/{i}", "w", force_zip64=True) as stream:
                stream.write(a.reshape(-1).view(np.uint8).data)
        file.writestr("archive/version", "3\n")
