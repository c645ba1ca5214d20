"""What LLVM made of the kernels, read from the assembly: inner loops stay in registers, nothing foreign is called."""

from __future__ import annotations

import importlib
import re
from functools import cache

import pytest

pytest.importorskip("numba", reason="machine code needs numba")

from npconv.compiled import catalogue

if catalogue.unavailable():
    pytest.skip(str(catalogue.unavailable()), allow_module_level=True)

from llvmlite import binding as llvm

from npconv.compiled.build import assembly
from npconv.compiled.target import Target, symbol

if "x86_64" not in llvm.get_process_triple():
    pytest.skip("reads x86 assembly", allow_module_level=True)

FAMILIES = [family for family in catalogue.FAMILIES if family != "threads"]
#: LLVM's names of CPUs, and the bytes of their vectors.
TARGETS = {"znver4": 64, "skylake-avx512": 64, "haswell": 32}
#: What a kernel may call besides parts: the C library alone, and of that what LLVM puts in for loops that copy and clear.
ALLOWED = {"memcpy", "memset", "memmove"}

LABEL = re.compile(r"^\.L(BB\d+_\d+):")
HEADER = re.compile(r"This Inner Loop Header: Depth=")
INSIDE = re.compile(r"in Loop: Header=(BB\d+_\d+) ")
FMA = re.compile(r"^\tvfn?m(add|sub)\d*p[sd]\t.*%[yz]mm")
STACK = re.compile(r"[xyz]mm.*(\(%rsp|(Spill|Reload)$)|\(%rsp.*[xyz]mm")


@cache
def text(family: str, dtype: str, cpu: str) -> str:
    target = Target(cpu, "", TARGETS[cpu])
    module = importlib.import_module(f"npconv.compiled.{catalogue.FAMILIES[family]}")
    return assembly(module.kernels(dtype, target), target, family in catalogue.UNROLLED)


def inner_loops(source: str) -> dict[str, list[str]]:
    """header -> the lines of an innermost loop, by LLVM's own remarks."""
    loops: dict[str, list[str]] = {}
    name, here = "", None
    for line in source.splitlines():
        label = LABEL.match(line)
        if label or line.startswith("# %bb."):
            name, here = label[1] if label else "", None
        if HEADER.search(line):
            here = loops.setdefault(name, [])
        inside = INSIDE.search(line)
        if inside:
            here = loops.get(inside[1])
        if here is not None and line.startswith("\t"):
            here.append(line)
    return loops


def products(source: str) -> dict[str, list[str]]:
    """The innermost loops that multiply and add vectors."""
    return {at: lines for at, lines in inner_loops(source).items() if any(FMA.match(line) for line in lines)}


#: (family, bytes of a vector) -> the vector moves to or from the stack in its worst loop: transforms, and polynomials with
#: their constants, that want more than the 16 registers of AVX2. May only fall.
SPILLS = {("channelwise_tiles", 32): 1, ("epilogue", 32): 1, ("fourier", 32): 16}
#: What every run looks at; the other combinations of dtype and CPU are for the long one.
USUAL = {("f4", "znver4"), ("f4", "haswell"), ("f8", "skylake-avx512")}
CASES = [
    pytest.param(family, dtype, cpu, marks=[] if (dtype, cpu) in USUAL else [pytest.mark.long])
    for family in FAMILIES
    for dtype in ("f4", "f8")
    for cpu in TARGETS
]
each = pytest.mark.parametrize(("family", "dtype", "cpu"), CASES)


@each
def test_no_inner_loop_of_products_touches_the_stack(family, dtype, cpu):
    found = {
        at: [line for line in lines if STACK.search(line)] for at, lines in products(text(family, dtype, cpu)).items()
    }
    worst = max((len(lines) for lines in found.values()), default=0)
    assert worst <= SPILLS.get((family, TARGETS[cpu]), 0), {at: lines for at, lines in found.items() if lines}


@each
def test_nothing_foreign_is_called(family, dtype, cpu):
    source = text(family, dtype, cpu)
    called = set(re.findall(r"^\t(?:callq|jmp)\t([A-Za-z_][\w.$]*)", source, re.MULTILINE))
    own = set(re.findall(r"^([A-Za-z_][\w.$]*):", source, re.MULTILINE))
    module = importlib.import_module(f"npconv.compiled.{catalogue.FAMILIES['products']}")
    parts = {symbol("products", name, dtype) for name in module.kernels(dtype, Target(cpu, "", TARGETS[cpu]))}
    assert called - own - ALLOWED - parts == set()


@pytest.mark.parametrize(("family", "dtype", "cpu"), [case for case in CASES if case.values[0] == "products"])
def test_the_micro_kernel_is_a_loop_of_its_tile(family, dtype, cpu):
    """An outer product of the register tile, and nothing else, in each of its loops."""
    from npconv.compiled.emit import Vectors

    v = Vectors(dtype, TARGETS[cpu])
    loops = products(text(family, dtype, cpu)).values()
    found = {sum(bool(FMA.match(line)) for line in lines) for lines in loops}
    assert {v.tile_rows(n) * n for n in range(1, v.widest + 1)} <= found
    for lines in loops:  # counters, a pointer per row, and those of what is fetched
        fetches = sum("prefetch" in line for line in lines)
        assert sum("mm" not in line for line in lines) - fetches <= (14 if fetches else 12)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_half_a_vector_is_multiplied_in_half_a_register(dtype):
    """A tile whose last vector is half empty: one narrow product for each of its rows."""
    from npconv.compiled.emit import Vectors

    v = Vectors(dtype, TARGETS["znver4"])
    found = set()
    for lines in products(text("products", dtype, "znver4")).values():
        sums = [line for line in lines if FMA.match(line)]
        found.add((sum("%ymm" in line for line in sums), len(sums)))
    assert {(v.tile_rows(n), v.tile_rows(n) * n) for n in range(1, v.widest + 1)} <= found


def test_a_spill_would_be_seen():
    lines = [
        "\tvfmadd231ps\t%zmm1, %zmm2, %zmm3",
        "\tvmovups\t64(%rsp), %zmm4           # 64-byte Reload",
        "\tjne\t.LBB0_1",
    ]
    source = "\n".join([".LBB0_1:  # =>This Inner Loop Header: Depth=1", *lines, ".LBB0_2:", "\tretq"])
    assert list(products(source)) == ["BB0_1"]
    assert [line for line in products(source)["BB0_1"] if STACK.search(line)] == lines[1:2]
