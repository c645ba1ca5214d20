"""Compiled kernels on disk: whatever is wrong there, calls are right, and nothing is raised."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import pytest

from npconv.compiled import catalogue, store

posix = pytest.mark.skipif(os.name != "posix", reason="owners and modes are POSIX's")
BODY = bytes(range(256)) * 40


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NPCONV_CACHE_DIR", str(tmp_path / "kernels"))
    store._warn.cache_clear()
    return tmp_path / "kernels"


# ------------------------------------------------------------------------------------------------ the directory
def test_where_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("NPCONV_CACHE_DIR", str(tmp_path))
    assert store.directory() == str(tmp_path)
    for off in ("", "off"):
        monkeypatch.setenv("NPCONV_CACHE_DIR", off)
        assert (store.directory(), store.state(), store.read("a")) == (None, "off", None)
        store.write("a", BODY)
    monkeypatch.delenv("NPCONV_CACHE_DIR")
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert store.directory() == str(tmp_path / "npconv")
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", "/somewhere")
        assert store.directory() == "/somewhere/.cache/npconv"


def test_no_home(monkeypatch):
    monkeypatch.delenv("NPCONV_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # what it does where it does not know
    assert store.directory() is None
    store.write("a", BODY)
    assert store.read("a") is None


def test_what_is_written_is_read(folder):
    assert store.read("a") is None
    assert store.state() == f"{folder} (not made yet)"
    store.write("a", BODY)
    store.write("b", b"")
    store.write("a", BODY + b"!")
    assert (store.read("a"), store.read("b"), store.read("c")) == (BODY + b"!", b"", None)
    assert sorted(p.name for p in folder.iterdir()) == ["a.o", "b.o"]
    assert store.state() == f"{folder} (2 objects, 0.0 MB)"


@posix
def test_it_is_ours_alone(folder):
    store.write("a", BODY)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "a.o").stat().st_mode) & 0o077 == 0


@pytest.mark.parametrize(
    "damage", ["empty", "half", "one byte more", "one bit", "random", "header only", "a directory"]
)
def test_a_damaged_entry_is_none(folder, damage):
    store.write("a", BODY)
    path = folder / "a.o"
    content = bytearray(path.read_bytes())
    if damage == "a directory":
        path.unlink()
        path.mkdir()
    else:
        flipped = bytes(content[:-5]) + bytes([content[-5] ^ 1]) + bytes(content[-4:])
        found = {
            "empty": b"",
            "half": content[: len(content) // 2],
            "one byte more": bytes(content) + b"\0",
            "one bit": flipped,
            "random": os.urandom(len(content)),
            "header only": content[: len(store.MAGIC) + 32],
        }[damage]
        path.write_bytes(found)
    assert store.read("a") is None
    store.write("a", BODY)
    assert store.read("a") == (None if damage == "a directory" else BODY)


@posix
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_directory_that_others_may_write_to_is_not_used(folder, mode):
    store.write("a", BODY)
    folder.chmod(mode)
    with pytest.warns(UserWarning, match="can be written by others"):
        assert store.read("a") is None
    with warnings.catch_warnings():  # once is enough
        warnings.simplefilter("error")
        store.write("b", BODY)
    assert [p.name for p in folder.iterdir()] == ["a.o"]
    assert "not used" in store.state()


@posix
def test_an_entry_that_others_may_write_to_is_not_read(folder):
    store.write("a", BODY)
    (folder / "a.o").chmod(0o666)
    assert store.read("a") is None


@posix
@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_somebody_else_is_not_used(folder):
    store.write("a", BODY)
    os.chown(folder, 12345, 12345)
    with pytest.warns(UserWarning, match="belongs to"):
        assert store.read("a") is None


@pytest.mark.parametrize("error", [PermissionError(13, "denied"), OSError(28, "No space left on device")])
def test_a_directory_that_takes_nothing(folder, monkeypatch, error):
    def refuse(*arguments, **options):
        raise error

    store.write("a", BODY)
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "mkstemp", refuse)
        store.write("b", BODY)
    with monkeypatch.context() as patch:
        patch.setattr(store.os, "replace", refuse)
        store.write("c", BODY)
    assert ([p.name for p in folder.iterdir()], store.read("a")) == (["a.o"], BODY)


@pytest.mark.parametrize("at", ["file", "file/below"])
def test_a_file_where_the_directory_should_be(tmp_path, monkeypatch, at):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NPCONV_CACHE_DIR", str(tmp_path / at))
    store.write("a", BODY)
    assert store.read("a") is None
    assert str(tmp_path) in store.state()


# ------------------------------------------------------------------------------------------------ calls that use it
CALL = """
import sys
import numpy as np, npconv
x = np.arange(2 * 5 * 9 * 9, dtype=np.float32).reshape(2, 5, 9, 9) % 7
w = np.arange(3 * 5 * 3 * 3, dtype=np.float32).reshape(3, 5, 3, 3) % 5
y = npconv.conv(x, w, padding=1, algorithm="blocked")
assert np.array_equal(y, npconv.conv(x, w, padding=1, algorithm="direct"))
assert np.array_equal(y, npconv.plan_conv(x.shape, w, padding=1, algorithm="blocked")(x))  # weights by another kernel
print("numba" in sys.modules)
"""
needs_jit = pytest.mark.skipif(catalogue.path() != "jit", reason="nothing is compiled here")


def start(folder: Path, code: str = CALL, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "NPCONV_CACHE_DIR": str(folder), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outcome(process: subprocess.Popen[str]) -> tuple[str, str]:
    out, err = process.communicate(timeout=300)
    return err, out.strip()


@needs_jit
def test_a_warm_store_needs_no_numba_and_damage_is_mended(folder):
    assert outcome(start(folder)) == ("", "True")
    assert outcome(start(folder)) == ("", "False")
    entries = sorted(folder.glob("*.o"))
    assert len(entries) >= 2
    for i, entry in enumerate(entries):
        content = entry.read_bytes()
        entry.write_bytes([b"", content[: len(content) // 2], os.urandom(3000)][i % 3])
    assert outcome(start(folder)) == ("", "True")
    assert outcome(start(folder)) == ("", "False")


@needs_jit
def test_a_part_that_is_gone_is_made_again(folder):
    """A kernel is kept without the parts that it calls, and with their names."""
    assert outcome(start(folder)) == ("", "True")
    parts = list(folder.glob("products-*.o"))
    assert parts
    for entry in parts:
        entry.unlink()
    assert outcome(start(folder)) == ("", "True")
    assert sorted(folder.glob("products-*.o")) == sorted(parts)
    assert outcome(start(folder)) == ("", "False")


@needs_jit
def test_what_was_freed_hides_nothing():
    """Libraries come and go while a module is linked, and a new one may lie where another was."""
    from npconv.compiled import build

    class Library(build.Texts):
        def __init__(self):
            self.texts, self.called = [""], []

    seen = []
    for _ in range(50):
        library = Library()
        assert len(list(build._modules(library, seen))) == 1
        assert list(build._modules(library, seen)) == []
        del library


@needs_jit
def test_eight_processes_find_an_empty_store_at_once(folder):
    processes = [start(folder) for _ in range(8)]
    assert [outcome(process)[0] for process in processes] == [""] * 8
    assert outcome(start(folder)) == ("", "False")
    assert list(folder.glob("*.part")) == []


@needs_jit
@pytest.mark.parametrize("environment", [{"NPCONV_CACHE_DIR": "off"}, {"NPCONV_CACHE_DIR": "/dev/null/kernels"}])
def test_calls_work_without_a_store(folder, environment):
    assert outcome(start(folder, **environment)) == ("", "True")


@needs_jit
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="elsewhere a process needs more of its environment")
def test_calls_work_without_a_home(folder):
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", CALL],
        env={"PYTHONPATH": os.environ.get("PYTHONPATH", ""), "HOME": "/dev/null", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (process.stderr, process.stdout.strip()) == ("", "True")


@needs_jit
@pytest.mark.parametrize("change", ["source", "cpu", "features", "width", "numba"])
def test_a_key_has_everything_in_it_that_decides_what_the_code_is(change, monkeypatch, tmp_path):
    from dataclasses import replace

    from npconv.compiled import target

    before = catalogue.key("blocked", "forward", "f4")
    if change == "source":
        named = frozenset(tmp_path / path.name for path in catalogue._sources("blocked"))
        for path in catalogue._sources("blocked"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
        with monkeypatch.context() as patch:
            patch.setattr(catalogue, "_sources", lambda module: named)
            assert catalogue.key("blocked", "forward", "f4") == before
            (tmp_path / "emit.py").write_text("other")
            assert catalogue.key("blocked", "forward", "f4") != before
        return
    if change == "numba":
        monkeypatch.setattr(catalogue, "_versions", lambda: "other")
    else:
        other = {"cpu": {"cpu": "other"}, "features": {"features": "+other"}, "width": {"width": 8}}[change]
        host = replace(target.host(), **other)
        monkeypatch.setattr(target, "host", lambda: host)
    assert catalogue.key("blocked", "forward", "f4") != before


@needs_jit
def test_the_sources_of_a_family_are_all_it_imports():
    names = {path.name for path in catalogue._sources("blocked")}
    assert {"blocked.py", "packing.py", "products.py", "emit.py", "build.py", "target.py"} <= names


BROKEN = """
import sys, warnings
import numpy as np
import npconv, npconv.compiled.build as build
def fail(*arguments):
    raise RuntimeError("LLVM is out of sorts")
build.compile_family = fail
x, w = np.ones((1, 64, 30, 30), np.float32), np.ones((64, 64, 3, 3), np.float32)
calls = {
    "conv": lambda: np.allclose(npconv.conv(x, w), 576),
    "weights": lambda: np.allclose(npconv.conv_weight_grad(x, x[:, :, 2:, 2:], kernel_shape=w.shape), 784),
    "pool": lambda: np.allclose(npconv.max_pool(x, 2), 1),
    "plan": lambda: np.allclose(npconv.plan_conv(x.shape, w)(x), 576),
    "depthwise": lambda: np.allclose(npconv.depthwise_conv(x, w[:, :1]), 9),
}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    chosen = npconv.explain(x.shape, w.shape).choice
    for name in sys.argv[1:]:
        assert calls[name](), name
from npconv.compiled import catalogue
assert "LLVM is out of sorts" in catalogue.unavailable()
assert [str(w.message) for w in caught] == [f"npconv: {catalogue.unavailable()}; NumPy does the work from here on"]
again = npconv.explain(x.shape, w.shape).choice
print(chosen, again, chosen != again)
try:
    npconv.conv(x, w, algorithm="blocked")
except ValueError as error:
    assert "LLVM is out of sorts" in str(error)
"""


@needs_jit
@pytest.mark.parametrize("first", ["conv", "weights", "pool", "plan", "depthwise"])
def test_where_compiling_fails_numpy_does_the_work_after_one_warning(folder, first):
    err, out = outcome(start(folder, BROKEN.replace("sys.argv[1:]", f"[{first!r}, *calls]")))
    assert err == ""
    assert out.endswith("True")


@needs_jit
@pytest.mark.parametrize(("found", "why"), [("0.61.2", "this is 0.61.2"), ("0.62.0rc1", None), ("1.0", None)])
def test_an_old_numba_is_named(found, why, monkeypatch):
    import importlib.metadata

    monkeypatch.setattr(importlib.metadata, "version", lambda name: found)
    monkeypatch.delenv("NPCONV_KERNELS", raising=False)
    said = catalogue._missing.__wrapped__()
    assert (said is None) if why is None else (why in said)
