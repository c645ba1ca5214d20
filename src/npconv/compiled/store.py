"""Compiled kernels on disk: a private directory that only ever makes things faster.

An entry is one object file behind a header with its length and SHA-256. Whatever is wrong (no home, read-only, foreign,
damaged, another process writing) means compiling again or not storing; nothing here raises. Machine code is as
powerful as the code that loads it, so a directory that others may write to is not read at all.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile
import warnings
from pathlib import Path

MAGIC = b"npconv-object-1\n"


def directory() -> Path | None:
    """Where entries live: NPCONV_CACHE_DIR, or npconv in the user's cache directory; None for "off"."""
    given = os.environ.get("NPCONV_CACHE_DIR")
    if given is not None:
        return None if given in ("", "off") else Path(given)
    try:
        if sys.platform == "win32":
            base = os.environ.get("LOCALAPPDATA")
            return Path(base) / "npconv" if base else None
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches" / "npconv"
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "npconv"
    except RuntimeError:  # no home directory
        return None


def _private(folder: Path) -> bool:
    """Whether the folder is ours alone, made if it was missing."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError:
        return False
    if os.name != "posix":
        return True
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o022:
        warnings.warn(
            f"npconv: {folder} belongs to or can be written by others, so compiled kernels are not kept there; "
            "use NPCONV_CACHE_DIR to name a private directory",
            stacklevel=3,
        )
        return False
    return True


def read(key: str) -> bytes | None:
    """The object stored under `key`, if it is there and whole."""
    folder = directory()
    if folder is None or not folder.is_dir() or not _private(folder):
        return None
    try:
        content = (folder / f"{key}.o").read_bytes()
    except OSError:
        return None
    head, body = content[: len(MAGIC) + 32], content[len(MAGIC) + 32 :]
    return body if head == MAGIC + hashlib.sha256(body).digest() else None


def write(key: str, body: bytes) -> None:
    """Store an object under `key`; readers see all of it or nothing."""
    folder = directory()
    if folder is None or not _private(folder):
        return
    try:
        handle, name = tempfile.mkstemp(dir=folder, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(MAGIC + hashlib.sha256(body).digest() + body)
            os.replace(name, folder / f"{key}.o")
        except OSError:
            os.unlink(name)
    except OSError:
        return
