"""Kernels ready to call: made ahead of time, or else compiled, or read from the store, when first used.

`kernel(family, name)` gives the address of an entry point and the names of its arguments. What was made ahead needs
neither Numba nor LLVM. Loading an object file of the store takes LLVM alone: where it is warm, Numba is never imported.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import threading
import warnings
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from ..records import dataclass
from . import ahead, store

if TYPE_CHECKING:  # what follows is imported where something is compiled, see `ahead`
    from pathlib import Path

#: family -> module that defines `kernels(dtype, target)`, a dict of functions by name.
FAMILIES = {
    "threads": "driver",
    "blocked": "blocked",
    "phased": "phased.kernels",
    "pointwise": "pointwise.kernels",
    "weights": "weights",
    "outer": "outer.kernels",
    "winograd": "winograd.kernels",
    "winograd_grad": "winograd.grad",
    "winograd_forms": "winograd.forms",
    "winograd_narrow": "winograd.narrow",
    "products": "products",
    "channelwise": "channelwise.kernels",
    "channelwise_tiles": "channelwise.register_tiles",
    "pixelwise": "pixelwise.kernels",
    "fourier": "fourier.kernels",
    "pools": "pools.kernels",
    "norms": "norms.kernels",
    "epilogue": "epilogue",
    "interleave": "interleave",
    "peak": "peak",
}
#: Those of which LLVM unrolls loops: of transforms, and of averages, whose registers it then knows better how to use.
UNROLLED = frozenset({"fourier", "norms"})
#: The first Numba whose LLVM has opaque pointers only.
OLDEST = (0, 62)
INSTALL = "compiled kernels need numba: pip install 'npconv[fast]'"

#: Called when compiled kernels turn out to be impossible: what empties the caches of choices that took them for granted.
forget: list[Callable[[], None]] = []

_lock = threading.RLock()
_failure: str | None = None


class KernelError(RuntimeError):
    """A family of kernels could not be compiled or loaded; from then on `unavailable` says why."""


@dataclass(frozen=True)
class Kernel:
    """A compiled entry point: its address, and the names of the words it takes."""

    name: str
    address: int
    arguments: tuple[str, ...]


def unavailable() -> str | None:
    """Why there are no compiled kernels here, or None."""
    return _failure or _missing()


def path() -> str:
    """Which of the three paths calls take: "ahead", "jit" or "numpy"."""
    if unavailable():
        return "numpy"
    return "jit" if ahead.loaded() is None else "ahead"


def provenance() -> str:
    """Where the machine code of calls comes from, in words."""
    made = ahead.loaded()
    return "compiled here" if made is None else f"compiled ahead of time for {made.kind.name}"


@cache
def _missing() -> str | None:
    if ahead.asked() == "numpy":
        return "NPCONV_KERNELS=numpy turns compiled kernels off"
    if ahead.loaded() is not None:
        return None
    if ahead.asked() not in ("", "jit"):
        return f"NPCONV_KERNELS={ahead.asked()} wants kernels made ahead of time, and {ahead.why_not()}"
    import re
    from importlib.metadata import PackageNotFoundError, version
    from importlib.util import find_spec

    if find_spec("numba") is None:
        return INSTALL
    try:
        found = version("numba")
    except PackageNotFoundError:
        return INSTALL
    if tuple(int(part) for part in re.findall(r"\d+", found)[:2]) < OLDEST:
        return f"compiled kernels need numba 0.62 or newer, this is {found}: pip install --upgrade 'npconv[fast]'"
    try:
        from .target import UnsupportedCPUError, host
    except ImportError:
        return INSTALL
    try:
        host()
    except ImportError:
        return INSTALL
    except UnsupportedCPUError as error:
        return str(error)
    return None


@cache
def kernel(family: str, name: str, dtype: str = "f4") -> Kernel:
    """An entry point, compiled now if it never was; its siblings wait until they are asked for.

    Raises
    ------
    KernelError
        If that fails, whatever the reason: NumPy can do the work.
    """
    global _failure
    with _lock:
        if _failure:
            raise KernelError(_failure)
        try:
            return _loaded(family, name, dtype)
        except Exception as error:
            why = " ".join(str(error).split())[:200]
            doing = "compiling" if ahead.loaded() is None else "loading"
            _failure = f"{doing} {name!r} of {family!r} failed: {type(error).__name__}: {why}"
            for clear in forget:
                clear()
            warnings.warn(f"npconv: {_failure}; NumPy does the work from here on", stacklevel=2)
            raise KernelError(_failure) from error


@cache  # within the lock, so that nothing is loaded twice
def _loaded(family: str, name: str, dtype: str) -> Kernel:
    made = ahead.loaded()
    if made is not None:
        return Kernel(name, *made.kernel(family, name, dtype))
    import llvmlite.binding as llvm

    from .target import host, machine, named, symbol

    arguments, parts, body = _object(family, name, dtype)
    for part in parts:
        llvm.add_symbol(part, _loaded(*named(part)).address)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine(host()))
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine))  # it owns the code, which workers may still be running at exit
    engine.add_object_file(llvm.ObjectFileRef.from_data(body))
    engine.finalize_object()
    return Kernel(name, engine.get_function_address(symbol(family, name, dtype)), arguments)


def _object(family: str, name: str, dtype: str) -> tuple[tuple[str, ...], tuple[str, ...], bytes]:
    """The arguments of a kernel, the parts that it calls, and its object file; the store has line breaks between."""
    at = key(family, name, dtype)
    found = store.read(at)
    if found is not None:
        names, called, body = found.split(b"\n", 2)
        return tuple(names.decode().split()), tuple(called.decode().split()), body
    from .build import argument_names, compile_family
    from .target import host, symbol

    kernel = functions(family, dtype)[name]
    body, parts = compile_family({symbol(family, name, dtype): kernel}, host(), family in UNROLLED)
    arguments = argument_names(kernel)
    store.write(at, f"{' '.join(arguments)}\n{' '.join(parts)}\n".encode() + body)
    return arguments, parts, body


@cache
def functions(family: str, dtype: str) -> dict[str, Callable[..., Any]]:
    """The kernels of a family as Python functions."""
    from .target import host

    made: dict[str, Callable[..., Any]]
    made = importlib.import_module(f".{FAMILIES[family]}", __package__).kernels(dtype, host())
    return made


def dtypes(family: str) -> tuple[str, ...]:
    """The element types that a family has kernels for."""
    return ("f4",) if family == "threads" else ("f4", "f8")


def everything() -> list[tuple[str, str, str]]:
    """All kernels there are: (family, kernel, dtype)."""
    made = ahead.loaded()
    if made is not None:
        return made.everything()
    return [(f, name, dtype) for f in FAMILIES for dtype in dtypes(f) for name in functions(f, dtype)]


def key(family: str, name: str, dtype: str) -> str:
    """A kernel's name in the store: everything that decides what its machine code is has a part in it."""
    import hashlib

    from .target import host

    digest = hashlib.sha256(f"{host()} {_versions()}".encode())
    for path in sorted({*_sources(FAMILIES[family]), *_sources("build")}, key=lambda path: (path.name, path)):
        digest.update(path.name.encode() + path.read_bytes())
    return f"{family}-{name}-{dtype}-{digest.hexdigest()[:24]}"


@cache
def _versions() -> str:
    from importlib.metadata import version

    return f"{sys.version_info[:2]} numba {version('numba')} llvmlite {version('llvmlite')}"


_IMPORT = r"(?m)^[ \t]*from (\.+)([\w.]*) import (\([^)]*\)|[^\n]*)"


@cache
def _sources(module: str) -> frozenset[Path]:
    """The file of one of our modules, and those of all that it imports from this package."""
    import re
    from pathlib import Path

    found: set[Path] = set()
    waiting = [Path(__file__).parent.joinpath(*module.split(".")).with_suffix(".py")]
    while waiting:
        path = waiting.pop()
        if path in found or not path.is_file():
            continue
        found.add(path)
        for dots, name, names in re.findall(_IMPORT, path.read_text(encoding="utf-8")):
            folder = path.parents[len(dots) - 1].joinpath(*name.split(".")) if name else path.parents[len(dots) - 1]
            waiting += [folder.with_suffix(".py"), *(folder / f"{each}.py" for each in re.findall(r"\w+", names))]
    return frozenset(found)


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
