"""Whatever goes wrong in a command is one line and an exit code: errors, warnings, full disks, broken pipes, Ctrl-C."""

import errno
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

click = pytest.importorskip("click", reason="the command needs the extra `cli`")
pytest.importorskip("tqdm", reason="the command needs the extra `cli`")

from command_processes import SRC, START, process, run  # noqa: E402
from npconv import MemoryLimitError, diagnosis  # noqa: E402


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def missing(name: str) -> ImportError:
    return ImportError(f"No module named {name!r}", name=name)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a.png"), 1, "a.png: No such file or directory"),
        (PermissionError(errno.EACCES, "Permission denied", "/root/x"), 1, "/root/x: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device", "out.png"), 1, "out.png: No space left on device"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "d"), 1, "d: Is a directory"),
        (missing("matplotlib"), 1, 'this needs matplotlib: pip install "npconv[plot]"'),
        (missing("PIL.Image"), 1, 'this needs PIL: pip install "npconv[plot]"'),
        (missing("sklearn"), 1, 'this needs sklearn: pip install "npconv[demo]"'),
        (missing("tqdm"), 1, 'this needs tqdm: pip install "npconv[cli]"'),
        (missing("unheard_of"), 1, "No module named 'unheard_of'"),
        (ImportError('x needs y: pip install "npconv[onnx]"', name="onnx"), 1, 'x needs y: pip install "npconv[onnx]"'),
        (MemoryError(), 1, "there is not enough memory"),
        (MemoryLimitError("conv: needs 9 GB"), 1, "conv: needs 9 GB"),
        (ValueError("two\n  lines"), 1, "two lines"),
        (TypeError("conv: x must be an array"), 1, "conv: x must be an array"),
        (KeyError("tap"), 1, "KeyError: 'tap'; with NPCONV_TRACEBACK=1 it says where"),
        (ZeroDivisionError("division by zero"), 1, "ZeroDivisionError: division by zero; with NPCONV_TRACEBACK=1 it"),
        (RecursionError(), 1, "RecursionError"),
        (ValueError(), 1, "ValueError"),
        (KeyboardInterrupt(), 130, "stopped"),
        (EOFError(), 1, "EOFError"),
        (click.Abort(), 130, "stopped"),
    ],
)
def test_any_error_is_one_line(error, code, words, monkeypatch):
    def fail():
        raise error

    monkeypatch.delenv("NPCONV_TRACEBACK", raising=False)
    monkeypatch.setattr(diagnosis, "report", fail)
    result = run("doctor")
    assert result.exit_code == code
    assert result.stderr.strip("\n").startswith(f"npconv: {words}")
    assert result.stderr.strip("\n").count("\n") == 0
    assert result.stdout == ""


def test_a_traceback_for_those_who_ask(monkeypatch):
    monkeypatch.setenv("NPCONV_TRACEBACK", "1")
    monkeypatch.setattr(diagnosis, "report", lambda: {}["tap"])
    assert isinstance(run("doctor").exception, KeyError)


def test_warnings_are_one_line(monkeypatch):
    def report():
        warnings.warn("the cache\nis damaged \x1b[2J", RuntimeWarning, stacklevel=2)
        return [("npconv", "1")]

    monkeypatch.setattr(diagnosis, "report", report)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        result = run("doctor")
    assert result.stderr == "npconv: warning: the cache is damaged ?[2J\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("arguments", [["doctor", "--json"], ["--help"], ["explain", "1,1,4,4", "1,1,3,3"]])
def test_a_full_disk(arguments):
    with open("/dev/full", "w") as full:
        done = process(*arguments, stdout=full, stderr=subprocess.PIPE, capture_output=False)
    assert (done.returncode, done.stderr) == (1, "npconv: No space left on device\n")


@pytest.mark.skipif(os.name == "nt", reason="pipes break in another way on Windows")
@pytest.mark.parametrize("arguments", [["--help"], ["explain", "1,1,4,4", "1,1,3,3"], ["doctor", "--json"]])
def test_a_reader_who_leaves(arguments):
    """As `npconv ... | true`: nothing is said about it."""
    read, write = os.pipe()
    os.close(read)
    try:
        done = process(*arguments, stdout=write, stderr=subprocess.PIPE, capture_output=False)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(os.name == "nt", reason="signals are others on Windows")
def test_ctrl_c():
    waiting = "import npconv.tuning as t, time; t.tune = lambda *a, **k: (print('ready', flush=True), time.sleep(60));"
    started = subprocess.Popen(
        [sys.executable, "-c", waiting + START, "tune"],
        env=os.environ | {"PYTHONPATH": str(SRC)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    started.send_signal(signal.SIGINT)
    out, err = started.communicate(timeout=30)
    assert (started.returncode, out, err.strip()) == (130, "", "npconv: stopped")


@pytest.mark.skipif(os.name == "nt", reason="signals are others on Windows")
def test_ctrl_c_ends_the_other_processes():
    """A race is stopped at once, and leaves none of its libraries running."""
    watched = (
        "from npconv.cli import race; ask = race.Racer.ask\n"
        "def told(self, question):\n    print(self.process.pid, flush=True)\n    return ask(self, question)\n"
        "race.Racer.ask = told\n"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", watched + START, "bench", "--peers", "none", "--seconds", "500"],
        env=os.environ | {"PYTHONPATH": str(SRC)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    inside = int(started.stdout.readline())
    os.kill(inside, 0)
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=30)
    assert (started.returncode, err.strip()) == (130, "npconv: stopped")
    with pytest.raises(ProcessLookupError):
        os.kill(inside, 0)
