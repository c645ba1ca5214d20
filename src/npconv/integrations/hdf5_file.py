"""HDF5 from strangers: only plain arrays that lie in the file itself, each reached by one path."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .refusals import MOST_ENTRIES, MOST_HEADER, WeightsError, checked_name, checked_shape, refusing, widened

#: Groups and arrays of a file, and how deep they lie. Each takes the library 60 us.
MOST_NODES, MOST_DEPTH = 6_000, 16


def library() -> Any:
    """h5py, or how to get it."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError('Keras files need h5py: pip install "npconv[weights]"') from error
    return h5py


#: Groups at the root that are not weights; nothing looks into them.
_LEFT_ALONE = ("optimizer", "optimizer_weights")


@contextmanager
def tree(file: BinaryIO, size: int) -> Iterator[Tree]:
    """The groups and arrays of an HDF5 file, checked before the first is read."""
    h5py = library()
    with refusing("the HDF5 file is broken; fetch it again"):
        start = file.read(8)
        file.seek(0)
        if start != b"\x89HDF\r\n\x1a\n":
            raise WeightsError("the file does not begin as HDF5 does; fetch it again")
        with h5py.File(file, "r") as opened:
            yield Tree(h5py, opened, size)


class Tree:
    """What a checked HDF5 file holds, by path.

    Attributes
    ----------
    groups, arrays : dict
        h5py's groups and data sets by path, as "layers/conv2d/vars/0"; the root group is "".
    """

    def __init__(self, h5py: Any, root: Any, size: int) -> None:
        self.h5py, self.left = h5py, size
        self.groups: dict[str, Any] = {"": root}
        self.arrays: dict[str, Any] = {}
        self._seen = {h5py.h5o.get_info(root.id).addr}
        self._walk("", root, 0)

    def _walk(self, path: str, group: Any, depth: int) -> None:
        if depth > MOST_DEPTH:
            raise WeightsError(f"{path!r} is nested deeper than {MOST_DEPTH} groups")
        for key in group:
            name = f"{path}/{checked_name(key)}".lstrip("/")
            if name in _LEFT_ALONE:
                continue
            if len(self.groups) + len(self.arrays) > MOST_NODES:
                raise WeightsError(f"the file has more than {MOST_NODES} groups and arrays; save only the weights")
            if type(group.get(key, getlink=True)) is not self.h5py.HardLink:
                raise WeightsError(f"{name!r} is a link to somewhere else; copy the array into the file")
            inner = group[key]
            place = self.h5py.h5o.get_info(inner.id).addr
            if place in self._seen:
                raise WeightsError(f"{name!r} is reached by two paths; save the file again")
            self._seen.add(place)
            if isinstance(inner, self.h5py.Group):
                self.groups[name] = inner
                self._walk(name, inner, depth + 1)
            else:
                self.arrays[name] = self._checked(name, inner)

    def _checked(self, name: str, array: Any) -> Any:
        if not isinstance(array, self.h5py.Dataset) or array.shape is None:
            raise WeightsError(f"{name!r} is neither a group nor an array")
        made = array.id.get_create_plist()
        if made.get_external_count() or array.is_virtual:
            raise WeightsError(f"{name!r} keeps its numbers in another file; copy them into this one")
        if made.get_nfilters() or made.get_layout() == self.h5py.h5d.CHUNKED:
            raise WeightsError(f"{name!r} is compressed or in chunks, which Keras never writes; save it again")
        if array.dtype.kind not in "biufc" or array.dtype.hasobject:
            raise WeightsError(f"{name!r} holds {array.dtype}, not numbers")
        needed = prod(checked_shape(array.shape, name)) * array.dtype.itemsize
        if needed != array.id.get_storage_size() or needed > self.left:
            raise WeightsError(f"{name!r} declares {needed} bytes that are not in the file; fetch it again")
        self.left -= needed
        return array

    def read(self, path: str) -> NDArray[Any]:
        """An array; Keras' bfloat16 as float32."""
        array = self.arrays[path]
        numbers = np.asarray(array[()])
        if self.texts(array, "dtype") == ["bfloat16"] and numbers.dtype.itemsize == 2:
            return widened(numbers.view(np.uint16))
        return numbers.astype(numbers.dtype.newbyteorder("="), copy=False)

    def texts(self, of: Any, name: str) -> list[str]:
        """An attribute that is text, or several; none if there is none."""
        if name not in of.attrs:
            return []
        attribute = of.attrs.get_id(name)
        if attribute.shape is None or 0 in attribute.shape:
            return []  # Keras writes an empty list as numbers
        if prod(attribute.shape) > MOST_ENTRIES or attribute.get_storage_size() > MOST_HEADER:
            raise WeightsError(f"the attribute {name!r} is longer than any of Keras'")
        found = of.attrs[name]
        values = [found] if isinstance(found, str | bytes) else np.asarray(found).reshape(-1).tolist()
        return [value.decode("utf-8") if isinstance(value, bytes) else str(value) for value in values]
