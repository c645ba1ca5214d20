"""Zip archives from strangers: every size is checked against the file before a byte is unpacked. Nothing is extracted."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from .refusals import MOST_ENTRIES, MOST_HEADER, WeightsError, checked_name, opened, refusing

#: Bytes that an archive may unpack to, times its size, and in any case: zeros shrink a thousandfold, weights hardly.
MOST_RATIO, SMALL = 50, 16 << 20
_HEADER = 30  # bytes of an entry before its name


class _Careful(io.RawIOBase):
    """The file for `zipfile`, which reads the whole table of contents at once, however long."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size, self.most = file, size, MOST_HEADER

    def read(self, size: int = -1) -> bytes:
        left = max(self.size - self.file.tell(), 0)
        size = left if size < 0 else min(size, left)
        if size > self.most:
            raise WeightsError(f"the zip archive's table of contents has {size} bytes; at most {self.most} are read")
        return self.file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


class Archive:
    """The entries of a checked zip archive by name."""

    def __init__(self, file: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo]) -> None:
        self.file, self.entries = file, entries

    def size(self, name: str) -> int:
        """Bytes of an entry, unpacked."""
        return self.entries[name].file_size

    def stream(self, name: str) -> Any:
        """An entry to be read from its beginning."""
        return self.file.open(self.entries[name])

    def read(self, name: str, most: int = MOST_HEADER) -> bytes:
        """All of a small entry."""
        if self.size(name) > most:
            raise WeightsError(f"{name!r} has {self.size(name)} bytes; at most {most} are read")
        with self.stream(name) as file:
            return file.read()


@contextmanager
def archive(path: str | os.PathLike[str], *, packed: bool) -> Iterator[Archive]:
    """Open a zip archive; `packed` allows entries that are compressed."""
    with opened(path) as (file, size), refusing("the zip archive is broken; fetch it again"):
        careful = _Careful(file, size)
        with zipfile.ZipFile(careful) as inner:
            careful.most = size
            yield Archive(inner, _checked(inner.infolist(), size, packed))


def _checked(infos: list[zipfile.ZipInfo], size: int, packed: bool) -> dict[str, zipfile.ZipInfo]:
    if len(infos) > MOST_ENTRIES:
        raise WeightsError(f"the zip archive has {len(infos)} entries; at most {MOST_ENTRIES} are read")
    entries: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = checked_name(info.filename)
        if name in entries:
            raise WeightsError(f"the zip archive has two entries named {name!r}; save it again")
        if info.flag_bits & 1:
            raise WeightsError(f"{name!r} is encrypted; save it without a password")
        if info.compress_type != zipfile.ZIP_STORED and not (packed and info.compress_type == zipfile.ZIP_DEFLATED):
            raise WeightsError(f"{name!r} is compressed in a way this format never is; save it again")
        if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
            raise WeightsError(f"{name!r} is not compressed, but declares two sizes; fetch it again")
        entries[name] = info
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise WeightsError(f"{info.filename!r} overlaps the entry before it; save it again")
        end = info.header_offset + _HEADER + info.compress_size
    if end > size:
        raise WeightsError(f"the zip archive ends {end - size} bytes early; fetch it again")
    total = sum(info.file_size for info in infos)
    if total > MOST_RATIO * size + SMALL:
        raise WeightsError(f"{size} bytes would unpack to {total}: that is no archive of weights")
    return entries
