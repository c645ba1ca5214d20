"""Which CPU the kernels are compiled for, and how wide its vectors are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

#: Bytes of a vector register, by the feature that brings it.
WIDTHS = {"avx512f": 64, "avx2": 32, "neon": 16}


class UnsupportedCPUError(RuntimeError):
    """The CPU lacks the instructions that the kernels are made of."""


@dataclass(frozen=True)
class Target:
    """A CPU by LLVM's name, its features by LLVM's names, and the bytes of a vector."""

    cpu: str
    features: str
    width: int


@lru_cache(maxsize=1)
def host() -> Target:
    """The machine we run on; NPCONV_VECTOR_BYTES=32 or 16 asks for narrower vectors than it has.

    The narrower code is also restricted to AVX2's instructions, so that it is what such a CPU would run.

    Raises
    ------
    UnsupportedCPUError
        If the CPU has no fused multiply-add.
    """
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    widest = max((size for name, size in WIDTHS.items() if features.get(name)), default=0)
    if not widest or not (features.get("fma") or features.get("neon")):
        raise UnsupportedCPUError(f"{llvm.get_host_cpu_name()} has no fused multiply-add on vectors")
    asked = os.environ.get("NPCONV_VECTOR_BYTES", "")
    width = min(widest, int(asked)) if asked in ("16", "32", "64") else widest
    if width < widest:
        return Target("haswell", "", width)
    return Target(llvm.get_host_cpu_name(), features.flatten(), width)


def machine(target: Target) -> Any:
    """LLVM's machine for `target`."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    triple = llvm.Target.from_triple(llvm.get_process_triple())
    return triple.create_target_machine(cpu=target.cpu, features=target.features, opt=3, reloc="pic", codemodel="small")
