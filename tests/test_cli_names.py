"""Hostile names, of files, layers, classes and in every argument, steer no terminal."""

import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("click", reason="the command needs the extra `cli`")
pytest.importorskip("tqdm", reason="the command needs the extra `cli`")

from command_processes import run

#: Names as a stranger may give them to files, layers and classes.
HOSTILE = [
    "\x1b[31mred", "\x1b[2J", "\x1b]0;title\x07", "\x1b[8m", "\x1bc", "\x9b31m", "\x07", "\x08\x08\x08", "\r!",
    "a\nb", "\n\nnpconv: ok", "\x0b", "\x0c", "\x00nul", "\x7f", "\x85", "\u2028line", "\u2029", "\u202egnp.exe",
    "\u2066x\u2069", "\u200b", "\ufeff", "\U000e0041", "\ud800", "<b>x</b>", "$HOME `id` $(id)", "%s%n{0}{x}",
    "--help", "漢字 é 😀", "a" * 3000,
]  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def is_plain(text: str) -> bool:
    return all(c.isprintable() or c == "\n" for c in text)


CALLS = {
    "command": lambda name: [name],
    "option": lambda name: ["doctor", f"--{name}"],
    "file": lambda name: ["filter", "--out", "o.png", "--", name],
    "out": lambda name: ["filter", "p.png", f"--out={name}.png"],
    "folder": lambda name: ["filter", "p.png", "p.png", f"--out={name}"],
    "kernel": lambda name: ["filter", "p.png", "--out", "o.png", f"--kernel={name}"],
    "choice": lambda name: ["filter", "p.png", "--out", "o.png", f"--mode={name}"],
    "number": lambda name: ["filter", "p.png", "--out", "o.png", f"--sigma={name}"],
    "model": lambda name: ["features", "p.png", "--out", "o.png", f"--model={name}"],
    "layers": lambda name: ["features", "p.png", "--out", "m.png", f"--layers={name}"],
    "shape": lambda name: ["explain", "--", name, "1,1,3,3"],
    "word": lambda name: ["explain", "1,1,4,4", "1,1,3,3", f"--layout={name}"],
    "dtype": lambda name: ["explain", "1,1,4,4", "1,1,3,3", f"--dtype={name}"],
    "peers": lambda name: ["bench", f"--peers={name}"],
    "algorithm": lambda name: ["verify", "--", name],
    "module": lambda name: ["verify", "--", f"{name}:x"],
    "run": lambda name: ["run", "--", name],
    "photo": lambda name: ["demo", f"--photo={name}"],
    "task": lambda name: ["train", "--", name],
    "shell": lambda name: ["completion", "--", name],
    "looked into": lambda name: ["explore", "--html=e.html", "--", name],
    "page": lambda name: ["explore", f"--html={name}"],
}  # fmt: skip


@pytest.mark.parametrize("where", CALLS)
def test_hostile_names_steer_no_terminal(where):
    image = pytest.importorskip("PIL.Image", reason="pictures are read with Pillow (the extra `plot`)")
    assert len(HOSTILE) == 30
    image.fromarray(np.ones((4, 4), np.uint8)).save("p.png")
    for name in HOSTILE:
        result = run(*CALLS[where](name), color=True)  # as to a terminal: click strips nothing
        assert is_plain(result.stdout), (name, result.stdout)
        assert is_plain(result.stderr), (name, result.stderr)
        assert result.stderr.count("\n") <= 1
        assert result.exit_code in (0, 1, 2)
        assert result.exit_code or result.stdout
        assert len(result.stderr) < 2100
    assert all(path.parent == Path() for path in Path().iterdir()), "a name led out of the folder"


def test_hostile_files_that_are_there():
    """Pictures that really have such names, as far as the file system takes them."""
    image = pytest.importorskip("PIL.Image", reason="pictures are read with Pillow (the extra `plot`)")
    made = []
    for name in HOSTILE:
        try:
            image.fromarray(np.ones((4, 4), np.uint8)).save(Path(f"{name}.png"))
            made.append(f"{name}.png")
        except (OSError, ValueError, UnicodeError):
            continue  # a NUL, a slash, a lone surrogate, 3000 letters
    assert len(made) > 20
    for i, name in enumerate(made):
        for result in (
            run("filter", f"--out={i}.png", "--", name, color=True),
            run("filter", "--out=0.png", "--", name, color=True),
            run("filter", f"--out=new-{name}", "--", "0.png", color=True),
        ):
            assert is_plain(result.stdout + result.stderr), (name, result.output)
            assert result.stdout.count("\n") + result.stderr.count("\n") == 1
    result = run("filter", "--out=all", "--", *made, color=True)
    assert (result.exit_code, result.stdout) == (0, f"{len(made)} of {len(made)} images in all\n")


def test_hostile_layers():
    """Names out of a model: on the terminal, in JSON, in pictures and in names of files."""
    onnx = pytest.importorskip("onnx", reason="the models are onnx's (the extra `onnx`)")
    pytest.importorskip("matplotlib", reason="the pictures need the extra `plot`")
    image = pytest.importorskip("PIL.Image", reason="pictures are read with Pillow (the extra `plot`)")
    helper = onnx.helper
    names = [name[:1000] for name in HOSTILE if name != "\ud800"] + ["$\\frac{$", "../../up"]  # UTF-8, of 1024 letters
    nodes = [helper.make_node("Relu", [a], [b]) for a, b in zip(["x", *names[:-1]], names, strict=True)]
    x, y = (helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, (1, 1, 4, 4)) for n in ("x", names[-1]))
    model = helper.make_model(helper.make_graph(nodes, "f", [x], [y]), opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, "m.onnx")
    image.fromarray(np.ones((4, 4), np.uint8)).save("p.png")
    result = run("features", "p.png", "--model", "m.onnx", "--layers", "all", "--out", "maps", color=True)
    assert result.exit_code == 0, result.stderr
    assert is_plain(result.stdout)
    assert result.stdout.count("\n") == len(names) + 3
    files = [path.name for path in Path("maps").iterdir()]
    assert len(files) == len(names) + 1
    assert all(re.fullmatch(r"\d\d-[\w.-]+\.png", name) for name in files)
    for more in ([], ["--json"]):
        result = run("run", "m.onnx", "--input", "p.png", *more, color=True)
        assert result.exit_code == 0, result.stderr
        assert is_plain(result.stdout)
