"""Compiled kernels on disk: a private directory that only ever makes things faster.

An entry is one object file behind a header with its SHA-256. Whatever is wrong (no home, read-only, foreign, damaged,
another process writing) means compiling again or not storing; nothing here raises. Machine code is as powerful as the
code that loads it, so a directory that others may write to is neither read nor written.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import tempfile
import warnings
from functools import cache
from pathlib import Path

MAGIC = b"npconv-object-1\n"
HEAD = len(MAGIC) + 32


def directory() -> Path | None:
    """Where entries live: NPCONV_CACHE_DIR, or npconv in the user's cache directory; None for "off"."""
    given = os.environ.get("NPCONV_CACHE_DIR")
    try:
        if given is not None:
            return None if given in ("", "off") else Path(given).expanduser().absolute()
        if sys.platform == "win32":
            base = os.environ.get("LOCALAPPDATA")
            return Path(base) / "npconv" if base else None
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches" / "npconv"
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "npconv"
    except (RuntimeError, OSError):  # no home directory, or no directory to be in
        return None


@cache
def _warn(folder: Path) -> None:
    warnings.warn(
        f"npconv: {folder} belongs to or can be written by others, so compiled kernels are not kept there; "
        "use NPCONV_CACHE_DIR to name a private directory",
        stacklevel=5,
    )


def exposed(found: os.stat_result) -> bool:
    """Whether somebody else owns, or may write to, what `found` describes."""
    return os.name == "posix" and (found.st_uid != os.getuid() or bool(stat.S_IMODE(found.st_mode) & 0o022))


def _private(folder: Path) -> bool:
    """Whether there is such a folder, and it is ours alone."""
    if not folder.is_dir():
        return False
    if exposed(folder.stat()):
        _warn(folder)
        return False
    return True


def read(key: str) -> bytes | None:
    """The object stored under `key`, if it is there and whole."""
    content = load(f"{key}.o") or b""
    return content[HEAD:] if content[:HEAD] == MAGIC + hashlib.sha256(content[HEAD:]).digest() else None


def write(key: str, body: bytes) -> bool:
    """Store an object under `key`; whether that worked."""
    return save(f"{key}.o", MAGIC + hashlib.sha256(body).digest() + body)


def load(name: str) -> bytes | None:
    """A file of the directory, if it is there and nobody else can have written it."""
    folder = directory()
    try:
        if folder is None or not _private(folder):
            return None
        with (folder / name).open("rb") as file:
            return None if exposed(os.fstat(file.fileno())) else file.read()
    except OSError:
        return None


def save(name: str, content: bytes) -> bool:
    """Write a file of the directory, so that readers see all of it or nothing; whether that worked."""
    folder = directory()
    if folder is None:
        return False
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _private(folder):
            return False
        handle, part = tempfile.mkstemp(dir=folder, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.replace(part, folder / name)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(part)
            raise
    except OSError:
        return False
    return True


def state() -> str:
    """What `npconv doctor` says about the directory."""
    folder = directory()
    if folder is None:
        return "off"
    try:
        if not folder.is_dir():
            return f"{folder} (not made yet)"
        if exposed(folder.stat()):
            return f"{folder} (not used: it belongs to or can be written by others)"
        sizes = [entry.stat().st_size for entry in folder.glob("*.o")]
        writable = "" if os.access(folder, os.W_OK) else ", read-only"
        return f"{folder} ({len(sizes)} objects, {sum(sizes) / 1e6:.1f} MB{writable})"
    except OSError as error:
        return f"{folder} (not used: {error.strerror})"
