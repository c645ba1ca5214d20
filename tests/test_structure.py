"""The promises of docs/house.md that a reader would otherwise have to take on trust."""

import ast
import inspect
import statistics
from importlib import import_module
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "npconv"
FILES = sorted(SRC.rglob("*.py"))
IDS = [str(path.relative_to(SRC)) for path in FILES]
each_file = pytest.mark.parametrize("path", FILES, ids=IDS)

# What a formula for a size divides or multiplies by: the word, singular or plural, or the glossary's letter.
WORDS, LETTERS = ("stride", "dilation"), {"s", "d", "D"}
PRINTING = {"cli", "demo"}


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_files_are_short():
    sizes = {name: lines(path) for name, path in zip(IDS, FILES, strict=True)}
    assert {name: size for name, size in sizes.items() if size > 600} == {}
    assert statistics.median(sizes.values()) < 150


def test_the_house_has_a_line_for_every_room():
    tree = (SRC.parents[1] / "docs" / "house.md").read_text().split("```")[1]
    rooms = {name.removeprefix("algorithms/").split("/")[0] for name in IDS}
    assert [room for room in sorted(rooms) if room not in tree] == []


def test_no_room_without_a_name():
    assert {path.stem for path in FILES} & {"utils", "helpers", "core", "common", "misc"} == set()


@pytest.mark.parametrize("package", ["npconv", "npconv.nn", "npconv.nn.models", "npconv.plots"])
def test_no_public_function_has_a_module_name(package):
    """Importing the module would put it in the function's place."""
    home = import_module(package)
    names = {name for name in home.__all__ if not inspect.ismodule(getattr(home, name))}
    assert names & {path.stem for path in Path(home.__file__).parent.glob("*")} == set()


def is_step(node: ast.expr) -> bool:
    """`s`, `stride`, `self.stride`, `geometry.strides[axis]` ..."""
    if isinstance(node, ast.Subscript):
        return is_step(node.value)
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return name in LETTERS or name.rstrip("s").endswith(WORDS)


def is_minus_one(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Sub)
        and isinstance(node.right, ast.Constant)
        and node.right.value == 1
    )


def size_formulas(source: str) -> list[str]:
    """Expressions that compute a size: `n // stride`, `n % stride`, `dilation * (k - 1)` or its mirror."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.BinOp):
            divides = isinstance(node.op, ast.FloorDiv | ast.Mod) and is_step(node.right)
            sides = ((node.left, node.right), (node.right, node.left))
            spreads = isinstance(node.op, ast.Mult) and any(is_step(a) and is_minus_one(b) for a, b in sides)
            if divides or spreads:
                found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


def in_geometry(path: Path) -> bool:
    return path.relative_to(SRC).parts[0] in ("geometry.py", "geometry")


@each_file
def test_sizes_are_computed_in_geometry_only(path):
    if not in_geometry(path):
        assert size_formulas(path.read_text()) == []


def test_geometry_holds_the_formulas():
    assert any(size_formulas(path.read_text()) for path in FILES if in_geometry(path))


@pytest.mark.parametrize(
    "formula",
    [
        "(length + lo + hi - e) // stride + 1",
        "n % self.strides[axis]",
        "(n - e) // s",
        "dilation * (k - 1) + 1",
        "(k - 1) * g.dilation[0]",
    ],
)
def test_the_search_finds(formula):
    assert size_formulas(formula)


@each_file
def test_no_assert_in_the_package(path):
    """`python -O` removes them: a check that matters raises."""
    found = [node.lineno for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assert)]
    assert found == []


@each_file
def test_the_library_does_not_print(path):
    if path.relative_to(SRC).parts[0] in PRINTING:
        return
    called = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert [name.lineno for name in called if isinstance(name, ast.Name) and name.id == "print"] == []
