"""The sessions in docs/command_line.md: what a reader sees there is what they print."""

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import npconv

pytest.importorskip("click", reason="the command needs the extra `cli`")
pytest.importorskip("tqdm", reason="the command needs the extra `cli`")

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "command_line.md").read_text("utf-8")
START = "import sys; sys.argv[0] = 'npconv'; from npconv.cli import main; main()"


def sessions(page: str) -> list[list[tuple[str, str]]]:
    """For each block of a console: what is typed, and what is printed after it."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", page, re.M | re.S):
        parts = re.split(r"^\$ (.*)\n", block, flags=re.M)
        found.append(list(zip(parts[1::2], parts[2::2], strict=True)))
    return found


def printed(typed: str) -> str:
    """What a shell shows, and the exit code in brackets where it is not 0."""
    done = subprocess.run(
        ["bash", "-c", f'set -o pipefail; npconv() {{ \'{sys.executable}\' -c "{START}" "$@"; }}; {typed}'],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(Path(npconv.__file__).parents[1])},
    )
    return done.stdout + done.stderr + f"[{done.returncode}]\n" * (done.returncode != 0)


def same(expected: str, got: str) -> bool:
    return doctest.OutputChecker().check_output(expected, got, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a photograph, and the model of docs/onnx.md."""
    image = pytest.importorskip("PIL.Image", reason="pictures are read with Pillow (the extra `plot`)")
    pytest.importorskip("matplotlib", reason="the pictures need the extra `plot`")
    datasets = pytest.importorskip("sklearn.datasets", reason="the photograph is scikit-learn's")
    pytest.importorskip("skimage", reason="npconv train needs the extra `demo`")
    onnx = pytest.importorskip("onnx", reason="npconv run needs the extra `onnx`")
    written = re.search(r"parse_model\('''\n(.*?)'''\)", (ROOT / "docs" / "onnx.md").read_text("utf-8"), re.S)
    assert written is not None
    folder = tmp_path_factory.mktemp("desk")
    onnx.save(onnx.parser.parse_model(written[1].replace("... ", "")), folder / "edges.onnx")
    image.fromarray(datasets.load_sample_image("flower.jpg")).save(folder / "photo.jpg")
    return folder


@pytest.mark.skipif(os.name == "nt", reason="the sessions are a Unix shell's")
def test_the_sessions_are_true(desk, monkeypatch):
    monkeypatch.chdir(desk)
    wrong = []
    for session in sessions(PAGE):
        for typed, expected in session:
            got = printed(typed)
            if not same(expected, got):
                wrong.append(f"$ {typed}\n{got}")
    assert wrong == [], "\n".join(wrong)


def test_there_are_sessions():
    assert len([typed for session in sessions(PAGE) for typed, _ in session]) >= 15
    assert all("npconv" in typed for session in sessions(PAGE) for typed, _ in session)


@pytest.mark.parametrize(
    ("expected", "got", "equal"),
    [
        ("a ... c\n", "a b c\n", True),
        ("a\n", "b\n", False),
        ("a\n", "a\n[1]\n", False),
        ("a\nb\n", "a\n", False),
    ],
)
def test_the_comparison_can_fail(expected, got, equal):
    assert same(expected, got) == equal


def test_every_command_and_exit_code_is_there():
    from npconv.cli import errors
    from npconv.cli.commands import MODULES

    assert [name for name in MODULES if f"`{name}`" not in PAGE] == []
    codes = set(re.findall(r"^\| (\d+) \|", PAGE, re.M))
    assert codes == {"0", "1", "2", str(errors.STOPPED), str(errors.NOBODY_READS)}
