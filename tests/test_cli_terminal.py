"""Each command as a new user runs it, in a terminal and in a pipe; and JSON for programs."""

import importlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

click = pytest.importorskip("click", reason="the command needs the extra `cli`")
pytest.importorskip("tqdm", reason="the command needs the extra `cli`")

from command_processes import command, in_terminal, process, run  # noqa: E402
from npconv.compiled import catalogue  # noqa: E402


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# --------------------------------------------------------------------------- JSON
@pytest.mark.parametrize(
    "arguments",
    [
        ["doctor"],
        ["explain", "1,1,9,9", "1,1,3,3"],
        ["verify", "direct", "--cases", "1"],
        ["bench", "1,1,9,9", "1,1,3,3", "--peers", "none", "--seconds", "0.01"],
    ],
)
def test_json_is_one_document_and_nothing_else(arguments):
    done = process(*arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert isinstance(json.loads(done.stdout), dict)
    assert done.stdout.count("\n") == 1
    assert done.stdout.isascii()


@pytest.mark.parametrize("name", ["doctor", "explain", "bench", "verify", "run", "tune", "train", "features"])
def test_who_speaks_json(name):
    assert any("--json" in option.opts for option in command(name).params)


# --------------------------------------------------------------------------- a terminal
SESSIONS = [
    ([], 0, "Usage: npconv"),
    (["--version"], 0, "npconv, version"),
    (["nothing"], 2, "No such command 'nothing'"),
    (["filter", "p.png", "--out", "o.png"], 0, "o.png: 8 × 8 pixels, grey"),
    (["filter", "none.png", "--out", "o.png"], 1, "none.png: No such file"),
    (["filter", "p.png"], 2, "Missing option '--out'"),
    (["features", "p.png", "--depth", "1", "--maps", "1", "--out", "m.png"], 0, "conv1"),
    (["features", "cut.png", "--out", "m.png"], 1, "cut.png cannot be read as PNG or JPEG"),
    (["explain", "1,1,8,8", "1,1,3,3"], 0, "choice: "),
    (["explain", "1,1,8,8", "1,2,3,3"], 1, "explain: "),
    (["bench", "1,1,8,8", "1,1,3,3", "--peers", "none", "--seconds", "0.01"], 0, "npconv auto"),
    (["bench", "nothing"], 2, "'nothing' is no layer"),
    (["verify", "direct", "--cases", "1"], 0, "it is right"),
    (["verify", "nothing"], 2, "'nothing' is no algorithm"),
    (["doctor"], 0, "extra plot"),
    (["doctor", "--fast"], 2, "No such option"),
    (["tune", "--seconds", "0"], 2, "Invalid value for '--seconds'"),
    (["warmup"], 1, "there are no compiled kernels here: NPCONV_KERNELS"),
    (["train", "letters"], 2, "'letters' is not one of"),
    (["demo", "--photo", "cut.png", "--out", "d"], 1, "cut.png cannot be read as PNG or JPEG"),
    (["run", "cut.png"], 1, "this is no ONNX model"),
    (["completion", "tcsh"], 2, "'tcsh' is not one of"),
    (["explore", "--input", "1,4,4"], 2, "--input and --kernel go together"),
    (["explore", "--input", "1,8,8", "--kernel", "1,1,3,3", "--html", "e.html"], 0, "bytes in e.html"),
]


@pytest.mark.parametrize(("arguments", "code", "words"), SESSIONS, ids=[" ".join(one[0])[:40] for one in SESSIONS])
@pytest.mark.parametrize("where", ["terminal", "pipe"])
def test_as_a_new_user(where, arguments, code, words, monkeypatch):
    """Each command, with good input and bad, in a terminal and in a pipe: what is wanted, or one line that says why."""
    for name in ("PIL.Image", "matplotlib", "sklearn", "skimage", "onnx"):
        pytest.importorskip(name, reason="the extras `demo` and `onnx`")
    image = importlib.import_module("PIL.Image")
    image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save("p.png")
    Path("cut.png").write_bytes(Path("p.png").read_bytes()[:40])
    if where == "terminal":
        found, sent = in_terminal(*arguments, NPCONV_KERNELS="numpy")
        assert set(re.findall(r"[^\n -~\u00a0-\uffff]", sent)) <= {"\r", "\x1b"}
        assert set(re.findall(r"\x1b\[?[^a-zA-Z]*[a-zA-Z]?", sent)) <= {"\x1b[A"}, "nothing but what a bar needs"
        wide = [line for line in sent.split("\n") if len(line.rpartition("\r")[2]) > 80]
        assert code or wide == [], "a line that a terminal would break"
        said = sent
    else:
        monkeypatch.setenv("NPCONV_KERNELS", "numpy")
        monkeypatch.setattr(catalogue, "_failure", "NPCONV_KERNELS=numpy")
        done = run(*arguments)
        found, said = done.exit_code, done.stdout + done.stderr
        assert "\r" not in said
        assert (done.stderr == "") == (code == 0)
        assert done.stderr.count("\n") == (code != 0)
        assert done.stdout == "" or not code
    assert (found, words in said) == (code, True), said
    assert "Traceback" not in said


def test_a_terminal_gets_a_bar_and_no_colour():
    code, sent = in_terminal("verify", "direct", "gemm", "--cases", "2")
    assert code == 0
    assert "%" in sent
    assert "\r" in sent
    assert set(re.findall(r"\x1b\[[\d;]*[A-Za-z]", sent)) <= {"\x1b[A"}, "a colour, with NO_COLOR or without"
    last = sent.rstrip("\n").splitlines()[-1].rpartition("\r")[2]
    assert last.strip() == "2 algorithms are right"


def test_a_pipe_gets_no_bar():
    done = process("verify", "direct", "gemm", "--cases", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["direct", "gemm", "2"]


@pytest.mark.parametrize("columns", [72, 80, 200])
def test_explain_in_a_terminal(columns):
    code, sent = in_terminal("explain", "1,4,9,9", "8,4,3,3", "--padding", "1", columns=columns)
    assert code == 0
    lines = sent.splitlines()
    assert max(map(len, lines)) <= columns
    assert ("workspace" in sent) == (columns == 200)


def test_a_terminal_takes_no_picture():
    image = pytest.importorskip("PIL.Image", reason="pictures are read with Pillow (the extra `plot`)")
    image.fromarray(np.ones((4, 4), np.uint8)).save("p.png")
    code, sent = in_terminal("filter", "p.png", "--out", "-")
    assert code == 2
    assert sent.startswith("npconv: standard output is a terminal, which shows no picture")
    code, sent = in_terminal("filter", "-", "--out", "o.png")
    assert code == 2
    assert sent.startswith("npconv: standard input is a terminal")


def test_pictures_through_pipes(tmp_path):
    """As `npconv filter - --out - < p.png | npconv filter - --kernel blur --out soft.png`."""
    image = pytest.importorskip("PIL.Image", reason="pictures are read with Pillow (the extra `plot`)")
    image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save("p.png")
    with open("p.png", "rb") as file:
        first = process("filter", "-", "--kernel", "identity", "--out", "-", stdin=file, text=False, encoding=None)
    assert (first.returncode, first.stderr) == (0, b"")
    arguments = ("filter", "-", "--kernel", "identity", "--out", "soft.png")
    second = process(*arguments, input=first.stdout, text=False, encoding=None)
    assert (second.returncode, second.stdout.split()[0]) == (0, b"soft.png:")
    with image.open("soft.png") as found:
        np.testing.assert_array_equal(np.asarray(found), np.arange(64).reshape(8, 8))


def test_letters_that_the_output_has_not():
    """A terminal of ASCII, or an old Windows: a question mark, and no traceback."""
    image = pytest.importorskip("PIL.Image", reason="pictures are read with Pillow (the extra `plot`)")
    image.fromarray(np.ones((4, 4), np.uint8)).save("p.png")
    done = process("filter", "p.png", "--out", "o.png", env={"PYTHONIOENCODING": "cp1252"}, encoding="cp1252")
    assert (done.returncode, done.stdout, done.stderr) == (0, "o.png: 4 × 4 pixels, grey\n", "")
    for encoding in ("cp1252", "ascii"):
        done = process("filter", "漢.png", "--out", "漢2.png", env={"PYTHONIOENCODING": encoding}, encoding="utf-8")
        assert done.returncode == 1
        assert done.stderr in (
            "npconv: ?.png: No such file or directory\n",
            "npconv: 漢.png: No such file or directory\n",
        )
