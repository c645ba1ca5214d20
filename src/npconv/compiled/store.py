"""Compiled kernels on disk: a private directory that only ever makes things faster.

An entry is one object file behind a header with its SHA-256. Whatever is wrong (no home, read-only, foreign, damaged,
another process writing) means compiling again or not storing; nothing here raises. Machine code is as powerful as the
code that loads it, so a directory that others may write to is neither read nor written.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import warnings
from functools import cache

MAGIC = b"npconv-object-1\n"
HEAD = len(MAGIC) + 32


def directory() -> str | None:
    """Where entries live: NPCONV_CACHE_DIR, or npconv in the user's cache directory; None for "off"."""
    given = os.environ.get("NPCONV_CACHE_DIR")
    if given is not None:
        found = "" if given == "off" else given
    elif sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        found = os.path.join(base, "npconv") if base else ""
    elif sys.platform == "darwin":
        found = "~/Library/Caches/npconv"
    else:
        found = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "npconv")
    found = os.path.expanduser(found)
    if not found or found.startswith("~"):  # there is no home directory
        return None
    try:
        return os.path.abspath(found)
    except OSError:  # and no directory to be in
        return None


@cache
def _warn(folder: str) -> None:
    warnings.warn(
        f"npconv: {folder} belongs to or can be written by others, so compiled kernels are not kept there; "
        "use NPCONV_CACHE_DIR to name a private directory",
        stacklevel=5,
    )


def exposed(found: os.stat_result) -> bool:
    """Whether somebody else owns, or may write to, what `found` describes."""
    return os.name == "posix" and (found.st_uid != os.getuid() or bool(stat.S_IMODE(found.st_mode) & 0o022))


def _private(folder: str) -> bool:
    """Whether there is such a folder, and it is ours alone."""
    if not os.path.isdir(folder):
        return False
    if exposed(os.stat(folder)):
        _warn(folder)
        return False
    return True


def read(key: str) -> bytes | None:
    """The object stored under `key`, if it is there and whole."""
    content = load(f"{key}.o") or b""
    return content[HEAD:] if content[:HEAD] == _head(content[HEAD:]) else None


def write(key: str, body: bytes) -> bool:
    """Store an object under `key`; whether that worked."""
    return save(f"{key}.o", _head(body) + body)


def _head(body: bytes) -> bytes:
    import hashlib  # here, as other modules below: a process whose kernels were made ahead needs none of them

    return MAGIC + hashlib.sha256(body).digest()


def load(name: str) -> bytes | None:
    """A file of the directory, if it is there and nobody else can have written it."""
    folder = directory()
    try:
        if folder is None or not _private(folder):
            return None
        with open(os.path.join(folder, name), "rb") as file:
            return None if exposed(os.fstat(file.fileno())) else file.read()
    except OSError:
        return None


def save(name: str, content: bytes) -> bool:
    """Write a file of the directory, so that readers see all of it or nothing; whether that worked."""
    import tempfile

    folder = directory()
    if folder is None:
        return False
    try:
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        if not _private(folder):
            return False
        handle, part = tempfile.mkstemp(dir=folder, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.replace(part, os.path.join(folder, name))
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
        if not os.path.isdir(folder):
            return f"{folder} (not made yet)"
        if exposed(os.stat(folder)):
            return f"{folder} (not used: it belongs to or can be written by others)"
        sizes = [entry.stat().st_size for entry in os.scandir(folder) if entry.name.endswith(".o")]
        writable = "" if os.access(folder, os.W_OK) else ", read-only"
        return f"{folder} ({len(sizes)} objects, {sum(sizes) / 1e6:.1f} MB{writable})"
    except OSError as error:
        return f"{folder} (not used: {error.strerror})"
