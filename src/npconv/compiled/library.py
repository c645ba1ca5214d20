"""Kernels ready to call: families are compiled, or read from the store, when first used.

`kernel(family, name)` gives the address of an entry point and the names of its arguments. Loading an object file takes
LLVM alone: where the store is warm, Numba is never imported.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import threading
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from . import store

#: family -> module that defines `kernels(dtype, target)`, a dict of functions by name.
FAMILIES = {
    "threads": "driver",
    "blocked": "blocked",
    "weights": "weights",
    "outer": "outer",
    "winograd": "winograd",
    "channelwise": "channelwise",
    "fourier": "fourier",
    "pools": "pools",
    "epilogue": "epilogue",
}

_lock = threading.RLock()
_engines: list[Any] = []  # an engine owns its machine code: never let one go


@dataclass(frozen=True)
class Kernel:
    """A compiled entry point: its address, and the names of the words it takes."""

    name: str
    address: int
    arguments: tuple[str, ...]


@lru_cache(maxsize=1)
def unavailable() -> str | None:
    """Why there are no compiled kernels here, or None."""
    if os.environ.get("NPCONV_COMPILED", "1") == "0":
        return "NPCONV_COMPILED=0 turns compiled kernels off"
    try:
        import llvmlite.binding
    except ImportError:
        return "compiled kernels need numba: pip install 'npconv[fast]'"
    from importlib.util import find_spec

    from .target import UnsupportedCPU, host

    if find_spec("numba") is None:
        return "compiled kernels need numba: pip install 'npconv[fast]'"
    try:
        host()
    except UnsupportedCPU as error:
        return str(error)
    return None if llvmlite.binding else None


@cache
def _sources() -> str:
    """A digest of everything that decides what the machine code is."""
    import llvmlite

    digest = hashlib.sha256(llvmlite.__version__.encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _object(family: str, dtype: str) -> tuple[bytes, dict[str, tuple[str, ...]]]:
    from .target import host

    target = host()
    text = f"{family} {dtype} {target} {_sources()}"
    key = f"{family}-{dtype}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"
    found = store.read(key)
    if found is not None:
        lines, _, body = found.partition(b"\n\n")
        try:
            pairs = [line.split(" ") for line in lines.decode().splitlines()]
            return body, {name: tuple(rest) for name, *rest in pairs}
        except UnicodeDecodeError:
            pass
    from .build import argument_names, compile_family

    kernels = importlib.import_module(f".{FAMILIES[family]}", __package__).kernels(dtype, target)
    body = compile_family(kernels, target)
    names = {name: argument_names(kernel) for name, kernel in kernels.items()}
    header = "\n".join(" ".join((name, *rest)) for name, rest in names.items()).encode()
    store.write(key, header + b"\n\n" + body)
    return body, names


@cache
def _family(family: str, dtype: str) -> dict[str, Kernel]:
    with _lock:
        return _load(family, dtype)


@cache
def _load(family: str, dtype: str) -> dict[str, Kernel]:
    import llvmlite.binding as llvm

    from .target import host

    body, names = _object(family, dtype)
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = host()
    machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        cpu=target.cpu, features=target.features, opt=3, reloc="pic", codemodel="small"
    )
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(body))
    engine.finalize_object()
    _engines.append(engine)
    return {name: Kernel(name, engine.get_function_address(f"npconv_{name}"), rest) for name, rest in names.items()}


def kernel(family: str, name: str, dtype: str = "f4") -> Kernel:
    """An entry point, compiled now if it never was."""
    return _family(family, dtype)[name]
