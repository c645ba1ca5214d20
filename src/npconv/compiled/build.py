"""From kernels to machine code: compile a family of kernels to one object file for one CPU.

A kernel is a Python function ``name(lo, hi, thread, *arguments)`` over 64-bit integers. Its entry point is
``void symbol(lo, hi, thread, words)``, with the arguments as 64-bit words in memory, so one driver can run them
all. The object needs nothing but the C library, so that the same step can run ahead of time.

Numba types a function and lowers it to LLVM; from there on we do it ourselves. Left alone it would optimize every
function by itself, again inside each of its callers, and load them all, which takes longer than the rest together.
"""

from __future__ import annotations

import contextlib
import gc
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import llvmlite.binding as llvm
from numba import njit, types
from numba.core.cgutils import normalize_ir_text
from numba.core.codegen import CodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering

from .parts import Part
from .target import OURS, Target, machine


class Texts(CodeLibrary):
    """The LLVM text of one function, and the libraries of those it calls."""

    def __init__(self, codegen: Any, name: str) -> None:
        super().__init__(codegen, name)
        self.texts: list[str] = []
        self.called: list[Any] = []

    def add_linking_library(self, library: Any) -> None:
        self.called.append(library)

    def add_ir_module(self, ir_module: Any) -> None:
        self.texts.append(normalize_ir_text(str(ir_module)))

    def finalize(self) -> None:
        self._finalized = True

    def get_function(self, name: str) -> Any:
        raise NotImplementedError("a kernel is linked by compile_family")

    def get_asm_str(self) -> str:
        raise NotImplementedError("a kernel is linked by compile_family")

    def get_llvm_str(self) -> str:
        return "\n".join(self.texts)


@register_pass(mutates_CFG=True, analysis_only=False)
class LowerToText(NativeLowering):
    """Lower a function, and neither optimize nor load it."""

    _name = "npconv_lower_to_text"

    def run_pass(self, state: Any) -> bool:
        state.library = Texts(state.targetctx.codegen(), state.func_id.func_qualname)
        super().run_pass(state)
        key = object().__reduce_ex__  # callers find the function by its Python wrapper, which must be a builtin
        state["cr"] = state["cr"]._replace(cfunc=key)
        state.targetctx.insert_user_function(key, state["cr"].fndesc, [state.library])
        return True


#: Passes of Numba for what kernels never contain: closures, objects, exceptions, literals to be unrolled.
NEEDLESS = {
    "AnnotateTypes",
    "DumpParforDiagnostics",
    "FindLiterallyCalls",
    "IRLegalization",
    "InlineClosureLikes",
    "InlineInlinables",
    "InlineOverloads",
    "LiteralPropagationSubPipelinePass",
    "LiteralUnroll",
    "MakeFunctionToJitFunction",
    "NoPythonSupportedFeatureValidation",
    "RewriteDynamicRaises",
    "WithLifting",
}


class Remembering:
    """A typing context that knows what it said of the same operation on the same types: `+` of two ints, a load."""

    answers: ClassVar[dict[Any, Any]] = {}

    def __init__(self, context: Any) -> None:
        self.context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self.context, name)

    def resolve_function_type(self, func: Any, args: Any, kws: Any) -> Any:
        if kws or not isinstance(func, types.Function):
            return self.context.resolve_function_type(func, args, kws)
        # numba asks about literals first, and then, for all that kernels do with them, about their types
        plain = tuple(types.unliteral(a) for a in args)
        key = func, plain
        found = self.answers.get(key)
        if found is None:
            found = self.answers[key] = self.context.resolve_function_type(func, plain, kws)
        return found


class KernelCompiler(CompilerBase):
    """Numba's compiler up to LLVM's text."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.state.flags.no_compile = True
        self.state.typingctx = Remembering(self.state.typingctx)

    def define_pipelines(self) -> list[Any]:
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state, "npconv")
        kept = [(p, words) for p, words in passes.passes if p.__name__ not in NEEDLESS]
        passes.passes = [(LowerToText if p is NativeLowering else p, words) for p, words in kept]
        passes._finalized = False
        passes.finalize()
        self.state.type_annotation = None
        return [passes]


OPTIONS: dict[str, Any] = {
    "error_model": "numpy",
    "boundscheck": False,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "no_rewrites": True,
    "pipeline_class": KernelCompiler,
}


def inner(kernel: Callable[..., Any]) -> Any:
    """A function that kernels call: compiled where it is used, no Python in it."""
    return njit(**OPTIONS)(kernel)


def argument_names(kernel: Callable[..., Any] | Part) -> tuple[str, ...]:
    """What `kernel` takes besides its range and its thread, or all that a part takes."""
    if isinstance(kernel, Part):
        return kernel.arguments
    return tuple(inspect.signature(kernel).parameters)[3:]


def _lowered(kernel: Callable[..., Any]) -> tuple[Any, str]:
    """A kernel's library and the name of its function in it."""
    arguments = len(inspect.signature(kernel).parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dispatcher: Any = njit(types.void(*[types.intp] * arguments), **OPTIONS)(kernel)
    (result,) = dispatcher.overloads.values()
    return result.library, result.fndesc.llvm_func_name


def _entry(name: str, mangled: str, count: int) -> str:
    """A function that loads the arguments from memory and calls the kernel by Numba's convention."""
    lines = [
        f'declare i32 @"{mangled}"(ptr, ptr{", i64" * (count + 3)})',
        f"define void @{name}(i64 %lo, i64 %hi, i64 %thread, ptr %words) {{",
        "  %result = alloca ptr",
        "  %error = alloca ptr",
    ]
    passed = ["ptr %result", "ptr %error", "i64 %lo", "i64 %hi", "i64 %thread"]
    for i in range(count):
        lines += [f"  %p{i} = getelementptr i64, ptr %words, i64 {i}", f"  %w{i} = load i64, ptr %p{i}"]
        passed.append(f"i64 %w{i}")
    lines += [f'  %status = call i32 @"{mangled}"({", ".join(passed)})', "  ret void", "}"]
    return "\n".join(lines)


def _modules(library: Any, seen: list[Any]) -> Iterator[Any]:
    """The modules of a library and of everything it calls, each once."""
    if any(library is each for each in seen):
        return
    seen.append(library)
    if not isinstance(library, Texts):  # one of Numba's own
        yield llvm.parse_assembly(library.get_llvm_str())
        return
    for called in library.called:
        yield from _modules(called, seen)
    for text in library.texts:
        yield llvm.parse_assembly(text)


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Numba makes millions of small objects that live on; looking through them for garbage takes a sixth of its time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


#: Kernels by their symbols.
Kernels = Mapping[str, Callable[..., Any] | Part]


def linked(kernels: Kernels, target: Target, unrolled: bool) -> Any:
    """The optimized LLVM module of these kernels, of which only the entry points can be seen from outside."""
    module, optimizer = llvm.parse_assembly(""), machine(target)
    seen: list[Any] = []  # themselves, not their addresses, which others have when these are gone
    with _without_collection():
        for name, kernel in kernels.items():
            if isinstance(kernel, Part):
                module.link_in(llvm.parse_assembly(kernel.text(name, optimizer.triple)))
                continue
            library, mangled = _lowered(kernel)
            for part in _modules(library, seen):
                module.link_in(part)
            module.link_in(llvm.parse_assembly(_entry(name, mangled, len(argument_names(kernel)))))
    for symbol in (*module.functions, *module.global_variables):
        if not symbol.is_declaration and symbol.name not in kernels:
            symbol.linkage = "internal"
    module.triple, module.data_layout = optimizer.triple, str(optimizer.target_data)
    tuning = llvm.create_pipeline_tuning_options(speed_level=2)
    tuning.loop_vectorization = False  # vectors are explicit; left alone, LLVM makes scatters of strided copies
    tuning.loop_unrolling = unrolled
    passes = llvm.create_pass_builder(optimizer, tuning)
    passes.getModulePassManager().run(module, passes)
    return module


def compile_family(kernels: Kernels, target: Target, unrolled: bool = False) -> tuple[bytes, tuple[str, ...]]:
    """The object file of these kernels for `target`, and the symbols of the parts that it calls and has not."""
    module = linked(kernels, target, unrolled)
    absent = (function.name for function in module.functions if function.is_declaration)
    parts = tuple(name for name in absent if name.startswith(OURS))
    return machine(target).emit_object(module), parts


def assembly(kernels: Kernels, target: Target, unrolled: bool = False) -> str:
    """The same as text, to be read, with LLVM's remarks on loops and spills."""
    writer = machine(target)
    writer.set_asm_verbosity(True)
    return writer.emit_assembly(linked(kernels, target, unrolled))
