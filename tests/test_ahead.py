"""Kernels compiled ahead of time: which object is taken, what happens when it is damaged, and calls without numba."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from npconv.compiled import ahead, catalogue
from npconv.compiled.target import HERE

SOURCE = Path(__file__).parents[1] / "src" / "npconv"
X86 = [kind.file for kind in ahead.KINDS if kind.target.architecture == "x86_64"]
V4, V3 = {"X86_V3", "X86_V4"}, {"AVX2", "FMA3"}
linux = pytest.mark.skipif(sys.platform != "linux", reason="objects are made on Linux")
compiler = pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="needs a C compiler")


@pytest.fixture
def choose(monkeypatch):
    """The names of the kinds that a CPU with `features` takes, under settings of the environment."""

    def names(features: set[str], here: str = "x86_64", **environment: str) -> list[str]:
        for name in ("NPCONV_KERNELS", "NPCONV_VECTOR_BYTES"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(ahead, "HERE", here)
        monkeypatch.setattr(ahead, "features", lambda: frozenset(features))
        return [kind.name for kind in ahead.candidates()]

    return names


# ------------------------------------------------------------------------------------------------ which object
@pytest.mark.parametrize(
    ("features", "here", "expected"),
    [
        (V4, "x86_64", ["avx512", "avx2"]),
        ({"AVX512_SKX", *V3}, "x86_64", ["avx512", "avx2"]),
        ({"AVX512F", *V3}, "x86_64", ["avx2"]),  # Knights Landing: 512 bits, but not all that came with them later
        (V3, "x86_64", ["avx2"]),
        ({"X86_V3"}, "x86_64", ["avx2"]),
        ({"AVX2"}, "x86_64", []),
        ({"SSE42", "X86_V2"}, "x86_64", []),
        (set(), "x86_64", []),
        ({"ASIMD"}, "aarch64", ["neon"]),
        ({"ASIMD"}, "x86_64", []),
        (V4, "aarch64", []),
        (V4, "riscv64", []),
    ],
)
def test_the_best_that_the_cpu_can_run_comes_first(choose, features, here, expected):
    assert choose(features, here) == expected


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("NPCONV_KERNELS", "ahead", ["avx512", "avx2"]),
        ("NPCONV_KERNELS", "AVX2", ["avx2"]),
        ("NPCONV_KERNELS", "avx512", ["avx512"]),
        ("NPCONV_KERNELS", "neon", []),
        ("NPCONV_KERNELS", "jit", []),
        ("NPCONV_KERNELS", "numpy", []),
        ("NPCONV_KERNELS", "other", []),
        ("NPCONV_VECTOR_BYTES", "64", ["avx512", "avx2"]),
        ("NPCONV_VECTOR_BYTES", "32", ["avx2"]),
        ("NPCONV_VECTOR_BYTES", "16", []),
    ],
)
def test_the_environment_forces_a_path(choose, setting, value, expected):
    assert choose(V4, **{setting: value}) == expected


def test_numpy_says_what_this_cpu_can_do():
    assert HERE not in ("x86_64", "aarch64") or ahead.features()


# ------------------------------------------------------------------------------------------------ damage
@pytest.fixture
def installed(tmp_path, monkeypatch, choose):
    """A folder of objects that hold one name, for a CPU with vectors of 512 bits."""
    if HERE != "x86_64":
        pytest.skip("the objects are for x86")
    source = tmp_path / "empty.c"
    source.write_text(f"int {ahead.symbol('a', 'b', 'f4')};\n")
    folder = tmp_path / "objects"
    folder.mkdir()
    for name in X86:
        subprocess.run(["cc", "-shared", "-nostdlib", "-o", str(folder / name), str(source)], check=True)
    objects = (f"object {name} {ahead.checksum(str(folder / name))}\n" for name in X86)
    (folder / ahead.TABLE).write_text("".join(objects) + "kernel a b f4,f8 x y\n")
    monkeypatch.setattr(ahead, "FOLDER", str(folder))
    choose(V4)
    return folder


def load() -> tuple[str | None, str]:
    """The name of the kind that is loaded, and the warning."""
    found, damage = ahead._search.__wrapped__()
    return found and found.kind.name, damage


@linux
@compiler
def test_what_is_whole_is_loaded(installed):
    assert load() == ("avx512", "")
    found, _ = ahead._search.__wrapped__()
    assert found.everything() == [("a", "b", "f4")]
    assert found.arguments == {"a b f4": "x y", "a b f8": "x y"}


def test_a_warning_that_is_an_error_comes_once_too(monkeypatch):
    monkeypatch.setattr(ahead, "_search", lambda: (None, "damage"))
    monkeypatch.setattr(ahead, "_told", set())
    with pytest.raises(UserWarning, match="damage"):  # warnings are errors in this suite
        ahead.loaded()
    assert ahead.loaded() is None


@linux
@compiler
def test_a_kind_that_was_left_out_is_no_damage(installed):
    table = (installed / ahead.TABLE).read_text()
    (installed / ahead.TABLE).write_text("".join(line for line in table.splitlines(True) if "avx512" not in line))
    assert load() == ("avx2", "")


@linux
@compiler
@pytest.mark.parametrize(
    "damage", ["missing", "empty", "half", "one bit", "one byte more", "a directory", "no library"]
)
def test_the_next_best_takes_the_place_of_a_damaged_object(installed, damage):
    path = installed / "x86_64-avx512.so"
    content = path.read_bytes()
    path.unlink()
    if damage == "a directory":
        path.mkdir()
    elif damage != "missing":
        flipped = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
        path.write_bytes(
            {
                "empty": b"",
                "half": content[:99],
                "one bit": flipped,
                "one byte more": content + b"!",
                "no library": b"?",
            }[damage]
        )
    if damage == "no library":  # its checksum is right, and yet it cannot be loaded
        table = (installed / ahead.TABLE).read_text()
        (installed / ahead.TABLE).write_text(re.sub(r"512.so \w+", f"512.so {ahead.checksum(str(path))}", table))
    name, said = load()
    assert (name, "x86_64-avx512.so: " in said, "avx2 is used" in said) == ("avx2", True, True)


@linux
@compiler
@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "\n",
        "{}\n",
        "object x86_64-avx512.so\n",
        "kernel a b\n",
        "kernel a b f4 x\n",
        "object a b\n",
        "\0\xff",
    ],
)
def test_without_the_table_nothing_is_loaded(installed, content):
    (installed / ahead.TABLE).unlink()
    if content is not None:
        (installed / ahead.TABLE).write_text(content, encoding="latin-1")
    name, said = load()
    assert (name, ahead.TABLE in said, "they are not used" in said) == (None, True, True)
    assert ahead.why_not() == "what was installed is damaged or incomplete"


@linux
@compiler
def test_all_objects_damaged_is_one_warning(installed):
    for name in X86:
        (installed / name).write_bytes(b"")
    name, said = load()
    assert name is None
    assert all(file in said for file in X86)


def test_why_there_are_none(tmp_path, monkeypatch, choose):
    monkeypatch.setattr(ahead, "FOLDER", str(tmp_path / "objects"))
    choose(V4)
    assert load() == (None, "")
    assert "runs from its source" in ahead.why_not()
    (tmp_path / "objects").mkdir()
    (tmp_path / "objects" / ahead.REASON).write_text("no compiler\n")
    assert load() == (None, "")
    assert ahead.why_not() == "npconv was installed without them: no compiler"
    (tmp_path / "objects" / ahead.REASON).write_bytes(b"\xff")
    assert ahead.why_not() == "npconv was installed without them: nobody knows why"
    (tmp_path / "objects" / ahead.REASON).unlink()
    choose(set())
    assert ahead.why_not() == "there are none for this CPU, or none that the settings allow"
    choose(V4, NPCONV_KERNELS="jit")
    assert ahead.why_not() == "NPCONV_KERNELS=jit"
    monkeypatch.setattr(ahead, "loaded", lambda: None)
    choose(V4, NPCONV_KERNELS="fast")
    assert ahead.why_not() == "NPCONV_KERNELS=fast is none of ahead, jit, numpy, avx512, avx2, neon"
    assert catalogue._missing.__wrapped__().startswith("NPCONV_KERNELS=fast wants kernels made ahead of time, and NPC")
    choose(V4, NPCONV_KERNELS="numpy")
    assert catalogue._missing.__wrapped__() == "NPCONV_KERNELS=numpy turns compiled kernels off"


# ------------------------------------------------------------------------------------------------ real objects
@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to import npconv from, with some kernels compiled for the best kind of this CPU."""
    if sys.platform != "linux" or not any(map(shutil.which, ("cc", "gcc", "clang"))):
        pytest.skip("objects are made on Linux, with a C compiler")
    if not importlib.util.find_spec("numba"):
        pytest.skip("compiling needs numba")
    kinds = [kind for kind in ahead.KINDS if kind.target.architecture == HERE and kind.needs]
    kinds = [kind for kind in kinds if any(need <= ahead.features() for need in kind.needs)][:1]
    if not kinds:
        pytest.skip("no object runs on this CPU")
    from npconv.compiled.shared import build

    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(SOURCE, folder / "npconv", ignore=shutil.ignore_patterns("__pycache__", "objects"))
    build(folder / "npconv" / "compiled" / "objects", kinds, ("threads", "blocked", "products", "weights", "epilogue"))
    return folder


CALL = """
import sys, warnings
if "with numba" not in sys.argv:
    sys.modules["numba"] = sys.modules["llvmlite"] = None  # as if they were not installed
import numpy as np, npconv
from npconv.compiled import catalogue
x = np.arange(2 * 50 * 29 * 29, dtype=np.float32).reshape(2, 50, 29, 29) % 7
w = np.arange(33 * 50 * 3 * 3, dtype=np.float32).reshape(33, 50, 3, 3) % 5
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    found = []
    for n in (1, 2, 3):
        with npconv.num_threads(n):
            found.append(npconv.conv(x, w, padding=1, algorithm="gemm" if catalogue.unavailable() else "blocked"))
right = npconv.conv(x, w, padding=1, algorithm="direct")
assert all(np.array_equal(y, found[0]) for y in found), "not the same bits"
assert np.abs(found[0] - right).max() < 0.1, "wrong"  # of some thousands
print(catalogue.path(), len(caught), sys.modules.get("numba") is not None)
print(npconv.explain(x.shape, w.shape, padding=1, algorithm="direct" if catalogue.unavailable() else "blocked").engine)
"""


def call(site: Path, *arguments: str, **environment: str) -> tuple[str, str]:
    """What CALL prints: path, warnings, whether numba was loaded; and the engine."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("NPCONV_KERNELS", "NPCONV_VECTOR_BYTES")}
    given = inherited | {"PYTHONPATH": str(site), "NPCONV_CACHE_DIR": str(site / "cache")} | environment
    command = [sys.executable, "-W", "error", "-c", CALL, *arguments]
    done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=300, cwd=site)
    assert done.stderr == ""
    first, second = done.stdout.splitlines()
    return first, second


def test_a_call_without_numba(site):
    path, engine = call(site)
    assert path == "ahead 0 False"
    assert engine.startswith("machine code, compiled ahead of time for ")


def test_where_numba_is_installed_it_is_not_loaded_either(site):
    assert call(site, "with numba")[0] == "ahead 0 False"


def test_a_first_call_loads_nothing_that_the_import_did_not(site):
    """What is left to it are some milliseconds: finding the kernels, choosing, starting threads."""
    code = (
        "import sys, numpy as np, npconv; before = set(sys.modules); "
        "x, w = np.ones((1, 16, 20, 20), np.float32), np.ones((16, 16, 3, 3), np.float32); "
        "npconv.conv(x, w, algorithm='blocked'); print(sorted(set(sys.modules) - before))"
    )
    environment = os.environ | {"PYTHONPATH": str(site), "NPCONV_KERNELS": "ahead"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_import_finds_the_kernels_and_is_silent_about_damage(site):
    (path,) = (site / "npconv" / "compiled" / "objects").glob("*.so")
    content = path.read_bytes()
    code = "import npconv; print(npconv.compiled.ahead._search.cache_info().currsize)"
    environment = os.environ | {"PYTHONPATH": str(site), "NPCONV_KERNELS": "ahead"}
    path.write_bytes(content[:-1])
    try:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code], env=environment, capture_output=True, text=True
        )
    finally:
        path.write_bytes(content)
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_numpy_can_be_forced(site):
    path, engine = call(site, NPCONV_KERNELS="numpy")
    assert path == "numpy 0 False"
    assert engine.startswith("NumPy; NPCONV_KERNELS=numpy")


def test_a_cpu_that_nobody_knows_falls_back(site):
    """NumPy knows none of its features."""
    (site / "sitecustomize.py").write_text(
        "import numpy._core._multiarray_umath as m\nm.__cpu_features__.clear()\n", encoding="utf-8"
    )
    try:
        assert call(site) == ("numpy 0 False", "NumPy; compiled kernels need numba: pip install 'npconv[fast]'")
    finally:
        (site / "sitecustomize.py").unlink()


def test_a_damaged_object_is_one_warning_and_the_next_path(site):
    (path,) = (site / "npconv" / "compiled" / "objects").glob("*.so")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    try:
        assert call(site)[0] == "numpy 1 False"
        assert call(site, "with numba")[0] == "jit 1 True"
    finally:
        path.write_bytes(content)


def test_a_kernel_that_is_missing_is_one_warning(site):
    """An object of another version; no other algorithm's kernels are there at all."""
    table = site / "npconv" / "compiled" / "objects" / ahead.TABLE
    whole = table.read_text()
    table.write_text(whole.replace("blocked forward f4", "blocked backward f4"))
    try:
        done = subprocess.run(
            [sys.executable, "-c", CALL.replace('algorithm="gemm" if catalogue.unavailable() else "blocked"', "")],
            env=os.environ | {"PYTHONPATH": str(site), "NPCONV_KERNELS": "ahead"},
            capture_output=True,
            text=True,
        )
        assert done.stdout.splitlines()[0] == "numpy 1 False", done.stderr
        assert "NumPy; loading " in done.stdout
    finally:
        table.write_text(whole)


def test_objects_need_the_c_library_alone(site):
    if not shutil.which("nm"):
        pytest.skip("nm reads the symbols")
    from npconv.compiled.shared import ALLOWED

    (path,) = (site / "npconv" / "compiled" / "objects").glob("*.so")
    listed = subprocess.run(["nm", "-D", str(path)], capture_output=True, text=True, check=True).stdout.splitlines()
    assert {line.split()[-1] for line in listed if " U " in line} <= ALLOWED
    assert all(line.split()[-1].startswith("npconv_") for line in listed if " T " in line)
