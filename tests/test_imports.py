"""The import graph: it has a direction (docs/house.md), no circle, and costs little but NumPy."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import npconv
from npconv.lazy import Later

SRC = Path(__file__).parents[1] / "src"
PACKAGE = "npconv"

# Each line may import from the lines above it and from nothing else of ours.
# A package named here stands for all modules inside it that no earlier line names.
ORDER: list[set[str]] = [
    {"npconv.lazy", "npconv.records", "npconv.picture_files"},
    {"npconv.geometry", "npconv.gradcheck", "npconv.activations", "npconv.algorithms.cook_toom"},
    {"npconv.phases"},
    {"npconv.compiled", "npconv.reading"},
    {"npconv.memory"},
    {"npconv.windows", "npconv.layouts", "npconv.arguments", "npconv.reduction", "npconv.border_modes"},
    {"npconv.algorithms.base", "npconv.algorithms.products", "npconv.algorithms.rounding"}
    | {"npconv.indices", "npconv.image_kernels"},
    {"npconv.algorithms.*", "npconv.definition"},
    {"npconv.algorithms"},
    {"npconv.epilogue", "npconv.joining", "npconv.phased"},
    {"npconv.execution", "npconv.around"},
    {"npconv.dispatch", "npconv.single", "npconv.express"},
    {"npconv.problem", "npconv.pool_problem", "npconv.explanation"},
    {"npconv.conv_arguments"},
    {"npconv.convolution", "npconv.gradients", "npconv.transposed_problem", "npconv.local_problem"}
    | {"npconv.pool_passes"},
    {"npconv.explaining", "npconv.plan", "npconv.tangents", "npconv.transposed", "npconv.transposed_grads"}
    | {"npconv.tuning"}
    | {"npconv.depthwise", "npconv.local", "npconv.local_grads", "npconv.unfolding", "npconv.pooling_grads"},
    {"npconv.separable", "npconv.unpooling", "npconv.fractional"}
    | {"npconv.pooling", "npconv.adaptive", "npconv.global_pooling"},
    {"npconv.ranked"},
    {"npconv.ranked_pools"},
    {f"npconv.integrations.{name}" for name in ("refusals", "archives", "hdf5_file", "keras_config", "torch_pickle")}
    | {f"npconv.integrations.{kind}_file" for kind in ("keras", "npz", "safetensors", "torch")},
    {"npconv.nn", "npconv.filters", "npconv.testing"},
    {"npconv"},
    {"npconv.plots", "npconv.integrations"},
    {"npconv.explorer", "npconv.demo", "npconv.diagnosis"},
    {"npconv.cli"},
]
SIBLINGS_ALLOWED = {("npconv.algorithms.winograd", "npconv.algorithms.cook_toom")}

HEAVY = {"numba", "matplotlib", "torch", "onnx", "dask", "sklearn", "scipy", "click", "tqdm", "PIL", "jax"}


def module_name(path: Path) -> str:
    parts = list(path.relative_to(SRC).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted((SRC / PACKAGE).rglob("*.py"))}


def imports_of(name: str, source: str, modules: set[str], is_package: bool) -> tuple[set[str], set[str]]:
    """What `source` imports, anywhere in the file: (modules of ours, top-level names of others)."""
    ours, others = set(), set()
    package = name.split(".") if is_package else name.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            others |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                others.add((node.module or "").split(".")[0])
                continue
            base = package[: len(package) - node.level + 1]
            target = ".".join(base + ([node.module] if node.module else []))
            for alias in node.names:
                inner = f"{target}.{alias.name}"
                ours.add(inner if inner in modules else target)
    return ours, others


GRAPH = {
    name: imports_of(name, path.read_text(), set(FILES), path.name == "__init__.py") for name, path in FILES.items()
}


def line_of(name: str) -> int:
    """The line of ORDER that `name` stands on: its own entry, or that of the nearest package around it."""
    for level, line in enumerate(ORDER):
        if name in line:
            return level
    parent = name.rpartition(".")[0]
    for level, line in enumerate(ORDER):
        if f"{parent}.*" in line:
            return level
    if parent == PACKAGE or not parent:
        pytest.fail(f"{name} has no place in the import order: give it one in ORDER and in docs/house.md")
    return line_of(parent)


def same_package(importer: str, imported: str) -> bool:
    """Whether both belong to one entry of ORDER that is a package (nn, compiled, integrations ...)."""
    entry = ".".join(importer.split(".")[:2])
    inside = imported == entry or imported.startswith(entry + ".")
    return inside and entry not in ("npconv", "npconv.algorithms")


@pytest.mark.parametrize("name", FILES)
def test_imports_only_from_the_lines_above(name):
    wrong = [
        imported
        for imported in sorted(GRAPH[name][0])
        if line_of(imported) >= line_of(name)
        and (name, imported) not in SIBLINGS_ALLOWED
        and not same_package(name, imported)
    ]
    assert not wrong, f"{name} imports {wrong}, which stand on its own line of the order or below it"


def test_no_circle():
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, "a circle: " + " -> ".join((*path[path.index(name) :], name))
        if name not in done:
            for imported in GRAPH.get(name, (set(), set()))[0]:
                visit(imported, (*path, name))
            done.add(name)

    for name in FILES:
        visit(name, ())


@pytest.mark.parametrize("name", FILES)
def test_never_imports_itself_by_name(name):
    assert PACKAGE not in GRAPH[name][1], f"{name}: inside {PACKAGE}, imports are relative"


@pytest.mark.parametrize("name", FILES)
def test_numba_only_in_compiled(name):
    if not name.startswith("npconv.compiled"):
        assert "numba" not in GRAPH[name][1]


def test_geometry_imports_next_to_nothing_of_ours():
    assert GRAPH["npconv.geometry"][0] == {"npconv.records"}


@pytest.mark.parametrize(
    ("name", "source", "ours"),
    [
        ("npconv.dispatch", "from .algorithms import base", {"npconv.algorithms.base"}),
        ("npconv.dispatch", "from .algorithms import ALL", {"npconv.algorithms"}),
        ("npconv.algorithms.fft", "from ..geometry import Geometry", {"npconv.geometry"}),
        ("npconv.algorithms.fft", "def f():\n    from . import gemm", {"npconv.algorithms.gemm"}),
        ("npconv.filters", "from . import conv", {"npconv"}),
    ],
)
def test_the_reader_of_imports_reads(name, source, ours):
    """The walk itself: the graph above would be trusted for nothing if this missed an import."""
    modules = {
        "npconv",
        "npconv.geometry",
        "npconv.algorithms",
        "npconv.algorithms.base",
        "npconv.algorithms.gemm",
    }
    assert imports_of(name, source, modules, is_package=False)[0] == ours


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """What a fresh interpreter loads beyond NumPy: by the import, and by touching every public name."""
    code = (
        "import sys, numpy; before = set(sys.modules); import npconv; "
        "print(*set(sys.modules) - before); "
        "[getattr(npconv, name) for name in (*npconv.__all__, 'filters', 'gradcheck', 'testing')]; "
        "npconv.conv(numpy.ones((1, 9, 9)), numpy.ones((1, 1, 3, 3))); "
        "print(*set(sys.modules) - before)"
    )
    elsewhere, environment = tmp_path_factory.mktemp("elsewhere"), {**os.environ, "PYTHONPATH": str(SRC)}
    environment["NPCONV_KERNELS"] = "numpy"  # kernels load llvmlite, where it is installed
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=elsewhere, env=environment)
    by_import, by_use = (set(line.split()) for line in done.stdout.splitlines())
    return {"import": by_import, "use": by_use}


def top_level(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("when", ["import", "use"])
def test_no_extra_is_loaded(loaded, when):
    assert top_level(loaded[when]) & HEAVY == set()


@pytest.mark.parametrize("when", ["import", "use"])
def test_numpy_and_the_standard_library_suffice(loaded, when):
    assert top_level(loaded[when]) - set(sys.stdlib_module_names) - {PACKAGE, "numpy"} == set()


def test_what_was_loaded_was_seen(loaded):
    """The two tests above would pass on an empty list."""
    assert {"npconv", "npconv.convolution", "npconv.pooling", "npconv.filters"} <= loaded["use"]
    assert "npconv.plots" not in loaded["use"]


def test_the_import_loads_what_conv_needs_and_little_else(loaded):
    assert {"npconv.convolution", "npconv.dispatch", "npconv.compiled.threads"} <= loaded["import"]
    for later in ("dataclasses", "npconv.gradients", "npconv.plan", "npconv.pooling", "npconv.nn"):
        assert later not in loaded["import"]
    for part in ("compiled.outer", "compiled.phased", "compiled.winograd.grad_launch", "joining"):
        assert f"npconv.{part}" not in loaded["import"]


def test_a_later_module_is_loaded_by_its_first_name(monkeypatch):
    monkeypatch.delitem(sys.modules, "npconv.algorithms.cook_toom", raising=False)
    later = Later("..algorithms.cook_toom", "npconv.nn")
    assert "npconv.algorithms.cook_toom" not in sys.modules
    assert later.matrices is sys.modules["npconv.algorithms.cook_toom"].matrices
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = later.no_such_name


def test_the_stub_types_every_public_name():
    stub = (SRC / PACKAGE / "__init__.pyi").read_text()
    imported = {node.names[0].asname for node in ast.walk(ast.parse(stub)) if isinstance(node, ast.ImportFrom)}
    assert imported == set(npconv.__all__) | set(npconv._MODULES)


def test_every_test_of_kernels_loads_without_numba():
    """The tests are run without it as well, where no more than a skip may come of what they ask when they are loaded."""
    code = (
        "import sys; sys.modules['numba'] = sys.modules['llvmlite'] = None; import pytest; "
        "sys.exit(pytest.main(['--collect-only', '-qq', '-p', 'no:cacheprovider', *sys.argv[1:]]))"
    )
    tests = sorted(path for path in Path(__file__).parent.glob("test_*.py") if "compiled" in path.read_text())
    assert len(tests) > 20
    done = subprocess.run([sys.executable, "-c", code, *map(str, tests)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
