"""From kernels to machine code: compile a family of kernels to one object file for one CPU.

A kernel is a Python function ``name(lo, hi, thread, *arguments)`` over 64-bit integers. Its entry point is
``void name(lo, hi, thread, words)``, with the arguments as 64-bit words in memory, so one driver can run them all. The
object needs nothing but the C library, so that the same step can run ahead of time.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from numba import njit, types

from .target import Target


def argument_names(kernel: Callable[..., Any]) -> tuple[str, ...]:
    """What `kernel` takes besides its range and its thread."""
    return tuple(inspect.signature(kernel).parameters)[3:]


def inner(kernel: Callable[..., Any]) -> Any:
    """A function that kernels call: compiled where it is used, no Python in it."""
    return njit(error_model="numpy", boundscheck=False)(kernel)


def _compiled(kernel: Callable[..., Any]) -> tuple[str, str]:
    """The LLVM text of a kernel and the name of its function in it."""
    arguments = len(inspect.signature(kernel).parameters)
    options = {"error_model": "numpy", "boundscheck": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dispatcher = njit(types.void(*[types.intp] * arguments), **options)(kernel)
    (result,) = dispatcher.overloads.values()
    return result.library.get_llvm_str(), result.fndesc.llvm_func_name


def _entry(name: str, mangled: str, count: int) -> str:
    """A function that loads the arguments from memory and calls the kernel by Numba's convention."""
    lines = [
        f'declare i32 @"{mangled}"(ptr, ptr{", i64" * (count + 3)})',
        f"define void @npconv_{name}(i64 %lo, i64 %hi, i64 %thread, ptr %words) {{",
        "  %result = alloca ptr",
        "  %error = alloca ptr",
    ]
    passed = ["ptr %result", "ptr %error", "i64 %lo", "i64 %hi", "i64 %thread"]
    for i in range(count):
        lines += [f"  %p{i} = getelementptr i64, ptr %words, i64 {i}", f"  %w{i} = load i64, ptr %p{i}"]
        passed.append(f"i64 %w{i}")
    lines += [f'  %status = call i32 @"{mangled}"({", ".join(passed)})', "  ret void", "}"]
    return "\n".join(lines)


def compile_family(kernels: dict[str, Callable[..., Any]], target: Target) -> bytes:
    """The object file of these kernels for `target`."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = None
    for name, kernel in kernels.items():
        text, mangled = _compiled(kernel)
        body = llvm.parse_assembly(text)
        entry = llvm.parse_assembly(
            f'target triple = "{body.triple}"\n' + _entry(name, mangled, len(argument_names(kernel)))
        )
        body.link_in(entry)
        if module is None:
            module = body
        else:
            module.link_in(body)
    if module is None:
        raise ValueError("a family needs a kernel")
    return machine(target).emit_object(module)


def machine(target: Target) -> Any:
    """LLVM's description of `target`."""
    triple = llvm.Target.from_triple(llvm.get_process_triple())
    return triple.create_target_machine(cpu=target.cpu, features=target.features, opt=3, reloc="pic", codemodel="small")
