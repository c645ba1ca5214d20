"""The command line as a whole: help, start, completion, and what is not installed."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

click = pytest.importorskip("click", reason="the command needs the extra `cli`")
pytest.importorskip("tqdm", reason="the command needs the extra `cli`")

import npconv  # noqa: E402
from command_processes import SRC, START, command, process, run  # noqa: E402
from npconv.cli.commands import COMMANDS, MODULES  # noqa: E402


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# --------------------------------------------------------------------------- help
def test_the_help_names_every_command():
    result = run("--help")
    for section, names in COMMANDS.items():
        assert f"\n{section}:\n" in result.stdout
        for name in names:
            assert re.search(rf"^  {name} +[A-Z].*[a-z]\.$", result.stdout, re.M), name
    assert run().stdout == result.stdout


@pytest.mark.parametrize("name", MODULES)
def test_every_help_has_examples_and_fits(name):
    result = run(name, "--help", terminal_width=80)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "  Examples:\n    " in result.stdout
    assert re.search(rf"^    .*npconv {name}\b", result.stdout, re.M)
    too_long = [line for line in result.stdout.splitlines() if len(line) > 80]
    assert [line for line in too_long if "Usage" not in line] == []
    assert all(option.help for option in command(name).params if isinstance(option, click.Option)), (
        "an option unexplained"
    )


@pytest.mark.parametrize("name", MODULES)
def test_every_example_is_accepted(name):
    """Each example's options exist and its values convert; nothing is run."""
    text = run(name, "--help").stdout
    lines = re.findall(r"^    .*?(?<![\w/])npconv (.*)", text.partition("Examples:\n")[2].split("\n\n")[0], re.M)
    assert lines
    for line in lines:
        words = re.findall(r'"([^"]*)"|([^\s"]+)', line.split(" > ")[0].split("  ")[0].rstrip('")'))
        arguments = [a or b for a, b in words]
        assert arguments[0] == name
        for word in arguments[1:]:
            if "." in word and not word.startswith("-") and "=" not in word:
                Path(word).parent.mkdir(exist_ok=True)
                Path(word).touch()  # files that must exist
        with command(name).make_context(name, arguments[1:]) as context:
            assert context.params is not None


@pytest.mark.parametrize(
    ("typed", "meant"), [("dcotor", "doctor"), ("filters", "filter"), ("benhc", "bench"), ("xplain", "explain")]
)
def test_a_slip_of_the_finger(typed, meant):
    result = run(typed)
    assert result.exit_code == 2
    assert result.stderr == f"npconv: No such command '{typed}'. Did you mean '{meant}'? See npconv --help\n"


def test_version():
    assert run("--version").stdout == f"npconv, version {npconv.__version__}\n"


# --------------------------------------------------------------------------- start and completion
LOADED = "import atexit, sys; atexit.register(lambda: print(*sorted(sys.modules), sep='\\n', file=sys.stderr));"


def loaded(*arguments: str, **environment: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", LOADED + START, *arguments],
        env=os.environ | {"PYTHONPATH": str(SRC)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def ours(modules: set[str]) -> set[str]:
    return {name for name in modules if name.startswith("npconv")}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([name, "--help"] for name in MODULES)])
def test_help_loads_next_to_nothing(arguments):
    """Modules are counted, not milliseconds: no NumPy, no algorithm, no library but click."""
    found = loaded(*arguments)
    outside = {name.partition(".")[0] for name in found} - set(sys.stdlib_module_names) - {"npconv", "click"}
    heavy = outside & {"numpy", "PIL", "tqdm", "matplotlib", "onnx", "numba", "llvmlite", "torch", "sklearn"}
    assert heavy == set()
    assert "npconv.cli.commands" in found
    assert len(ours(found)) <= (11 if arguments[0] != "--help" else 24)


def completed(*words: str) -> list[str]:
    environment = {"COMP_WORDS": "npconv " + " ".join(words), "COMP_CWORD": str(len(words))}
    done = process(env=environment | {"_NPCONV_COMPLETE": "bash_complete"})
    assert (done.returncode, done.stderr) == (0, "")
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("fi",), ["filter"]),
        (("filter", "--ker"), ["--kernel"]),
        (("filter", "--kernel", "sob"), ["sobel", "sobel-x", "sobel-y"]),
        (("filter", "--mode", "torch.re"), ["torch.reflect", "torch.replicate"]),
        (("features", "a.png", "--model", "lenet"), ["lenet5"]),
        (("bench", "de"), ["depthwise", "deep"]),
        (("verify", "winograd_f4", "fused_winograd_f"), ["fused_winograd_f2", "fused_winograd_f4"]),
        (("train", "f"), ["faces"]),
        (("completion", "z"), ["zsh"]),
        (("filter", "--kernel", "my"), ["my"]),
    ],
)
def test_completion(words, found):
    assert completed(*words) == found


@pytest.mark.parametrize("line", ["npconv ", "npconv filter --kernel s", "npconv verify f", "npconv bench "])
def test_completing_needs_no_numpy(line):
    words = str(len(line.split(" ")) - 1)
    found = loaded(COMP_WORDS=line, COMP_CWORD=words, _NPCONV_COMPLETE="bash_complete")
    assert not found & {"numpy", "PIL", "tqdm"}
    assert "npconv.cli.commands" in found


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell(shell, tmp_path):
    """The script, read by the shell itself where it is installed, completes the name of a command."""
    script = process("completion", shell).stdout
    assert "_NPCONV_COMPLETE" in script
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    (tmp_path / "script").write_text(script)
    if shell == "zsh":  # completes at a prompt only: its grammar is looked at
        assert subprocess.run(["zsh", "-n", "script"], capture_output=True).returncode == 0
        return
    program = tmp_path / "npconv"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{SRC}" exec "{sys.executable}" -c "{START}" "$@"\n')
    program.chmod(0o755)
    asking = {
        "bash": "source ./script; COMP_WORDS=(npconv ver); COMP_CWORD=1; _npconv_completion npconv; echo ${COMPREPLY[@]}",
        "fish": "source ./script; complete -C 'npconv ver'",
    }[shell]
    home = {"HOME": str(tmp_path), "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([shell, "-c", asking], capture_output=True, text=True, env=os.environ | home, timeout=60)
    assert done.stdout.split()[:1] == ["verify"], done.stderr


# --------------------------------------------------------------------------- what is missing
@pytest.mark.parametrize(
    ("package", "arguments", "extra"),
    [
        ("PIL", ["filter", "p.png", "--out", "o.png"], "plot"),
        ("tqdm", ["tune"], "cli"),
        ("matplotlib", ["features", "p.png", "--out", "o.png"], "plot"),
        ("onnx", ["run", "p.png"], "onnx"),
        ("onnx", ["features", "p.png", "--model", "m.onnx", "--out", "o.png"], "onnx"),
        ("click", ["filter"], "demo"),
    ],
)
def test_a_missing_extra_is_named(package, arguments, extra):
    image = pytest.importorskip("PIL.Image", reason="the picture is written with Pillow (the extra `plot`)")
    image.fromarray(np.ones((4, 4), np.uint8)).save("p.png")
    Path("m.onnx").touch()
    code = f"import sys; sys.modules[{package!r}] = None; {START}"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": str(SRC)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("npconv: ")
    assert done.stderr.endswith(f'pip install "npconv[{extra}]"\n')
    assert done.stderr.count("\n") == 1


def test_no_command_is_forgotten():
    folder = Path(importlib.import_module("npconv.cli").__file__).parent
    found = {}
    for path in folder.glob("[!_]*.py"):
        module = importlib.import_module(f"npconv.cli.{path.stem}")
        for name, value in vars(module).items():
            if isinstance(value, click.Command) and value.callback.__module__ == module.__name__:
                found[name] = path.stem
    assert found == MODULES | {"npconv": "commands"}
