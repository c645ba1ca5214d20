"""All kernels compiled ahead of time: one shared object for each kind of CPU, and the table that `ahead` reads.

    python -m npconv.compiled.shared FOLDER [KIND ...]

This is what building a wheel runs. It needs numba and a C compiler, which links; whoever uses the result needs neither.
Families are compiled side by side, one object file each. They are linked without the C library: the few functions
that they call of it (`ALLOWED`) every process has, whatever library it runs on.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from .ahead import KINDS, TABLE, Kind, checksum, key
from .catalogue import FAMILIES, UNROLLED, dtypes
from .target import HERE, symbol

#: What an object may take from the process that loads it.
ALLOWED = {"clock_gettime", "memcpy", "memmove", "memset", "syscall"}
LINK = (
    "-shared",
    "-nostdlib",
    "-s",
    "-Wl,-z,noexecstack",
    "-Wl,-z,relro,-z,now",
    "-Wl,--build-id=none",
    "-Wl,-Bsymbolic",
)


def compiler() -> str:
    """The system's C compiler: CC, or the first of the usual names that is there."""
    for name in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        if found := shutil.which(name):
            return found
    raise RuntimeError("there is no C compiler to link with (apt-get install gcc, or CC names one)")


def compile_part(kind: str, family: str, dtype: str) -> tuple[bytes, dict[str, str]]:
    """The object file of a family, and its part of the table."""
    from .build import argument_names, compile_family

    (target,) = (each.target for each in KINDS if each.name == kind)
    kernels = importlib.import_module(f".{FAMILIES[family]}", __package__).kernels(dtype, target)
    table = {key(family, name, dtype): " ".join(argument_names(kernel)) for name, kernel in kernels.items()}
    symbols = {symbol(family, name, dtype): kernel for name, kernel in kernels.items()}
    body, _ = compile_family(symbols, target, family in UNROLLED)
    return body, table


def link(parts: Iterable[bytes], to: Path) -> None:
    """One shared object of these object files."""
    linker = compiler()
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for i, part in enumerate(parts):
            paths.append(Path(folder) / f"{i}.o")
            paths[-1].write_bytes(part)
        done = subprocess.run([linker, *LINK, "-o", str(to), *map(str, paths)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{linker} cannot link: {' '.join(done.stderr.split())[-300:]}")


def build(folder: Path, kinds: Iterable[Kind], families: Iterable[str] = tuple(FAMILIES)) -> None:
    """Compile and link all kernels for these kinds of CPU, and write the table."""
    kinds, processors = list(kinds), len(os.sched_getaffinity(0))
    compiler()  # where there is none, say so before a minute has passed
    jobs = [(kind.name, family, dtype) for kind in kinds for family in families for dtype in dtypes(family)]
    with ProcessPoolExecutor(min(processors, len(jobs))) as pool:
        made = dict(zip(jobs, pool.map(compile_part, *zip(*jobs, strict=True)), strict=True))
    arguments: dict[str, str] = {}
    for (_, family, _), (_, table) in made.items():
        if any(arguments.setdefault(at, names) != names for at, names in table.items()):
            raise RuntimeError(f"the kernels of {family!r} take other arguments on another CPU")
    folder.mkdir(parents=True, exist_ok=True)
    for kind in kinds:
        link([part for (name, _, _), (part, _) in made.items() if name == kind.name], folder / kind.file)
        ctypes.CDLL(str(folder / kind.file))  # every symbol is found, or this raises
    dtypes_of: dict[tuple[str, str], list[str]] = {}
    for at, names in arguments.items():
        kernel, _, dtype = at.rpartition(" ")
        dtypes_of.setdefault((kernel, names), []).append(dtype)
    lines = [f"kernel {kernel} {','.join(dtypes)} {names}\n" for (kernel, names), dtypes in dtypes_of.items()]
    # last, so that half a table names no object
    lines += [f"object {kind.file} {checksum(str(folder / kind.file))}\n" for kind in kinds]
    (folder / TABLE).write_text("".join(lines), encoding="ascii")


if __name__ == "__main__":
    here = {kind.name: kind for kind in KINDS if kind.target.architecture == HERE}
    unknown = sorted(set(sys.argv[2:]) - set(here))
    if unknown or not here:
        sys.exit(
            f"there are no kernels for {', '.join(unknown) or HERE}, only for {', '.join(here) or 'other machines'}"
        )
    build(Path(sys.argv[1]), [here[name] for name in dict.fromkeys(sys.argv[2:])] or here.values())
