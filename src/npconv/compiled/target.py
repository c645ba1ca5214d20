"""Which CPU the kernels are compiled for, and how wide its vectors are."""

from __future__ import annotations

import importlib
import os
import platform
from functools import lru_cache
from typing import Any

from ..records import dataclass

#: Bytes of a vector register, by the feature that brings it.
WIDTHS = {"avx512f": 64, "avx2": 32, "neon": 16}
#: What we are compiled for ourselves.
HERE = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())

#: What the symbols of kernels begin with.
OURS = "npconv_"


class UnsupportedCPUError(RuntimeError):
    """The CPU lacks the instructions that the kernels are made of."""


@dataclass(frozen=True)
class Target:
    """A CPU by LLVM's name, its features by LLVM's names, the bytes of a vector, and the instruction set."""

    cpu: str
    features: str
    width: int
    architecture: str = HERE


def symbol(family: str, name: str, dtype: str) -> str:
    """A kernel's name in an object."""
    return f"{OURS}{family}_{name}_{dtype}"


def named(symbol: str) -> tuple[str, str, str]:
    """The family, the name and the element type of a part with this symbol: its family is one word."""
    family, _, rest = symbol.removeprefix(OURS).partition("_")
    name, _, dtype = rest.rpartition("_")
    return family, name, dtype


def asked_width() -> int:
    """The widest vectors that NPCONV_VECTOR_BYTES allows, in bytes."""
    asked = os.environ.get("NPCONV_VECTOR_BYTES", "")
    return int(asked) if asked in ("16", "32", "64") else max(WIDTHS.values())


@lru_cache(maxsize=1)
def host() -> Target:
    """What kernels are compiled for: the machine we run on, or what those made ahead of time were made for.

    NPCONV_VECTOR_BYTES=32 or 16 asks for narrower vectors than the machine has. The narrower code is also restricted
    to AVX2's instructions, so that it is what such a CPU would run.

    Raises
    ------
    UnsupportedCPUError
        If the CPU has no fused multiply-add.
    """
    # no import statement: what was made ahead has no part in what is compiled, see `catalogue.key`
    made = importlib.import_module(".ahead", __package__).loaded()
    if made is not None:
        return made.target
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    widest = max((size for name, size in WIDTHS.items() if features.get(name)), default=0)
    if not widest or not (features.get("fma") or features.get("neon")):
        raise UnsupportedCPUError(f"{llvm.get_host_cpu_name()} has no fused multiply-add on vectors")
    width = min(widest, asked_width())
    if width < widest:
        return Target("haswell", "", width)
    return Target(llvm.get_host_cpu_name(), features.flatten(), width)


def machine(target: Target) -> Any:
    """LLVM's machine for `target`."""
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    here = llvm.get_process_triple()
    triple = llvm.Target.from_triple(here.replace(HERE, target.architecture, 1))
    return triple.create_target_machine(cpu=target.cpu, features=target.features, opt=3, reloc="pic", codemodel="small")
