"""Kernels that were compiled when npconv was built: shared objects beside this file, called with NumPy alone.

There is one object for each kind of CPU; the best that this CPU can run is loaded, and which that is NumPy knows. A
table beside them has their checksums and the names of every kernel's arguments. What is damaged or missing costs one
warning: the next best object is taken, or kernels are compiled here, or NumPy does the work.

All of this is part of `import npconv`, so it imports little: no pathlib, no json, no hashlib.

`NPCONV_KERNELS` forces a path: "ahead", or one object by its name; "jit", compiled here; "numpy".
"""

from __future__ import annotations

import ctypes
import os
import warnings
import zlib
from functools import cache
from typing import Any

from ..records import dataclass
from .target import HERE, Target, asked_width, symbol

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "objects")
#: Lines "object FILE CHECKSUM" and "kernel FAMILY NAME DTYPE,DTYPE ARGUMENT ...".
TABLE = "kernels.txt"
#: Where building npconv left the reason if it could make no objects.
REASON = "missing.txt"


@dataclass(frozen=True)
class Kind:
    """A kind of CPU: what its object is compiled for, and sets of NumPy's names for features of which one must be there."""

    name: str
    target: Target
    needs: tuple[frozenset[str], ...]

    @property
    def file(self) -> str:
        return f"{self.target.architecture}-{self.name}.so"


def _kind(name: str, target: Target, *needs: str) -> Kind:
    return Kind(name, target, tuple(frozenset(words.split()) for words in needs))


#: The best first. NumPy 2.4 has names for levels of x86, earlier ones for what these consist of.
KINDS = (
    _kind("avx512", Target("skylake-avx512", "", 64, "x86_64"), "X86_V4", "AVX512_SKX"),
    _kind("avx2", Target("haswell", "", 32, "x86_64"), "X86_V3", "AVX2 FMA3"),
    _kind("neon", Target("generic", "", 16, "aarch64"), "ASIMD"),
)
PATHS = ("ahead", "jit", "numpy", *(kind.name for kind in KINDS))


class DamagedError(RuntimeError):
    """An object or the table is not what was installed."""


@dataclass(frozen=True)
class Objects:
    """A shared object in this process, and the names of the arguments of its kernels."""

    kind: Kind
    handle: Any
    arguments: dict[str, str]  # by `key`, with spaces between

    @property
    def target(self) -> Target:
        return self.kind.target

    def kernel(self, family: str, name: str, dtype: str) -> tuple[int, tuple[str, ...]]:
        """The address of a kernel, and its arguments."""
        found = self.handle[symbol(family, name, dtype)]
        address = ctypes.cast(found, ctypes.c_void_p).value
        return address or 0, tuple(self.arguments[key(family, name, dtype)].split())

    def everything(self) -> list[tuple[str, str, str]]:
        """All kernels of this object, which may lack some of others: (family, kernel, dtype)."""
        return [(a, b, c) for a, b, c in map(str.split, self.arguments) if hasattr(self.handle, symbol(a, b, c))]


def key(family: str, name: str, dtype: str) -> str:
    """A kernel's name in the table."""
    return f"{family} {name} {dtype}"


def asked() -> str:
    """The path that NPCONV_KERNELS asks for; empty where the choice is ours."""
    return os.environ.get("NPCONV_KERNELS", "").lower()


def features() -> frozenset[str]:
    """What this CPU can do, by NumPy's names; nothing where NumPy does not say."""
    try:
        from numpy._core._multiarray_umath import __cpu_features__ as found  # type: ignore[import-not-found]
    except ImportError:
        return frozenset()
    return frozenset(name for name, there in found.items() if there)


def candidates() -> list[Kind]:
    """The kinds that this CPU can run and that nobody asked us to leave out, the best first."""
    known, path, width = features(), asked(), asked_width()
    if path not in ("", "ahead", *(kind.name for kind in KINDS)):
        return []
    return [
        kind
        for kind in KINDS
        if kind.target.architecture == HERE and any(need <= known for need in kind.needs)
        if kind.target.width <= width and path in ("", "ahead", kind.name)
    ]


def load() -> None:
    """Do now what the first call would, which takes a millisecond; of damage that call will speak."""
    _search()


def loaded() -> Objects | None:
    """The best object for this CPU, or None: see `why_not`. What is damaged is warned of once, and passed over."""
    found, damage = _search()
    if damage and damage not in _told:
        _told.add(damage)  # first: a warning may be an error
        warnings.warn(damage, stacklevel=2)
    return found


_told: set[str] = set()


@cache
def _search() -> tuple[Objects | None, str]:
    """What is loaded, and what to say of the damage."""
    if not _installed() or not candidates():
        return None, ""
    found, damaged = None, []
    try:
        checksums, arguments = _table()
    except (OSError, ValueError) as error:
        checksums, damaged = {}, [f"{TABLE}: {error}"]
    for kind in candidates():
        if kind.file not in checksums:  # another machine's, or left out when npconv was built
            continue
        try:
            found = Objects(kind, _library(kind.file, checksums[kind.file]), arguments)
            break
        except (OSError, DamagedError) as error:
            damaged.append(f"{kind.file}: {error}")
    if not damaged:
        return found, ""
    instead = f"{found.kind.name} is used" if found else "they are not used"
    return found, (
        f"npconv: compiled kernels in {FOLDER} are not what was installed ({'; '.join(damaged)}): {instead}; "
        "install npconv again to mend it"
    )


def _installed() -> bool:
    return os.path.isdir(FOLDER) and not os.path.isfile(os.path.join(FOLDER, REASON))


def checksum(path: str) -> str:
    """Tells what is damaged; who could change a file on purpose could change this one."""
    value = 0
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(1 << 16):  # touching the pages of a whole object takes longer than reading it
            value = zlib.crc32(piece, value)
    return f"{value:08x}"


def _content(name: str) -> bytes:
    with open(os.path.join(FOLDER, name), "rb") as file:
        return file.read()


def _table() -> tuple[dict[str, str], dict[str, str]]:
    """The checksums of the objects, and the arguments of the kernels; lines are taken apart when they are used."""
    checksums, arguments = {}, {}
    for line in _content(TABLE).decode("ascii").splitlines():
        kind, *words = line.split(" ", 4)
        if kind == "object" and len(words) == 2:
            checksums[words[0]] = words[1]
        elif kind == "kernel" and len(words) >= 3:
            family, name, dtypes = words[:3]
            arguments.update({key(family, name, dtype): " ".join(words[3:]) for dtype in dtypes.split(",")})
        else:
            raise ValueError(f"it says {line[:40]!r}")
    if not checksums or not arguments:
        raise ValueError("it is incomplete")
    return checksums, arguments


def _library(name: str, right: str) -> Any:
    path = os.path.join(FOLDER, name)
    if checksum(path) != right:
        raise DamagedError("its checksum is another")
    return ctypes.CDLL(path)


def why_not() -> str:
    """Why no object is used."""
    if asked() not in ("", *PATHS):
        return f"NPCONV_KERNELS={asked()} is none of {', '.join(PATHS)}"
    if asked() in ("jit", "numpy"):
        return f"NPCONV_KERNELS={asked()}"
    if not os.path.isdir(FOLDER):
        return "npconv runs from its source, and they are made when it is installed as a wheel: pip install ."
    if not _installed():
        return f"npconv was installed without them: {_reason()}"
    if not candidates():
        return "there are none for this CPU, or none that the settings allow"
    return "what was installed is damaged or incomplete"


def _reason() -> str:
    try:
        return _content(REASON).decode().strip()
    except (OSError, ValueError):
        return "nobody knows why"
