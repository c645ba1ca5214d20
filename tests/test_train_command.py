"""`npconv train`: what it learns, prints and writes."""

import json
import time

import numpy as np
import pytest

pytest.importorskip("click", reason="the command needs the extra `demo`")
pytest.importorskip("matplotlib", reason="the demo needs the extra `demo`")
pytest.importorskip("sklearn", reason="the demo needs the extra `demo`")
pytest.importorskip("skimage", reason="the demo needs the extra `demo`")

from click.testing import CliRunner

from npconv import nn
from npconv.cli import main
from npconv.demo import training


def told(*arguments):
    result = CliRunner().invoke(main, ["train", *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("seeds", [2, pytest.param(5, marks=pytest.mark.long)])
def test_digits(tmp_path, seeds):
    """The command in docs/training.md, at its promise; five seeds in 30 s on two cores."""
    began = time.process_time()
    found = told("digits", "--seeds", seeds, "--out", tmp_path)
    assert time.process_time() - began < 12 * seeds
    assert len(found["accuracies"]) == seeds
    assert found["mean"] == pytest.approx(np.mean(found["accuracies"]))
    assert found["mean"] >= 0.985
    assert found["epochs"] == training.TASKS["digits"].epochs


@pytest.mark.parametrize(("seeds", "epochs"), [(1, 8), pytest.param(5, 20, marks=pytest.mark.long)])
def test_faces(tmp_path, seeds, epochs):
    found = told("faces", "--seeds", seeds, "--epochs", epochs, "--out", tmp_path)
    assert min(found["accuracies"]) >= 0.9


def test_what_is_written_is_the_model(tmp_path):
    found = told("digits", "--epochs", 1, "--seed", 7, "--out", tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    pictures = {f"training{name}.png" for name in ("", "-filters", "-confusion", "-mistakes")}
    assert {path.name for path in folder.iterdir()} == pictures | {"history.json", "model.npz"}
    history = json.loads((folder / "history.json").read_text())
    assert history["accuracy"] == found["mean"]
    assert len(history["loss"]) == 1
    rng = np.random.default_rng(7)
    _, _, x, y = training.split(training.TASKS["digits"], rng)
    model = training.network(10, rng)
    assert (model(x).argmax(1) == y).mean() < 0.5
    model.load(nn.load_weights(folder / "model.npz"))
    assert (model(x).argmax(1) == y).mean() == pytest.approx(found["mean"])


def test_one_seed_one_result(tmp_path):
    """Every file, byte for byte; and another seed's are others."""
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        told("digits", "--epochs", 1, "--seed", seed, "--out", tmp_path / name)
    a, b, c = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "abc")
    assert len(a) == 6
    assert a == b
    assert all(a[name] != c[name] for name in a)


def test_mistakes_of_an_earlier_training_do_not_stay(tmp_path):
    told("digits", "--epochs", 1, "--out", tmp_path)
    assert (tmp_path / "training-mistakes.png").exists()
    assert told("faces", "--epochs", 8, "--out", tmp_path)["mean"] == 1
    assert not (tmp_path / "training-mistakes.png").exists()


def test_in_words(tmp_path):
    result = CliRunner().invoke(main, ["train", "digits", "--epochs", "1", "--seeds", "2", "--out", str(tmp_path)])
    lines = result.stdout.splitlines()
    assert [line[:8] for line in lines[:2]] == ["seed 0: ", "seed 1: "]
    assert "of 450 held-out images right" in lines[0]
    assert lines[2].startswith("mean of 2 seeds: ")
    assert lines[3] == f"6 files in {tmp_path.resolve()}"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["letters"], 2, "npconv: Invalid value for '{digits|faces}': 'letters' is not one of"),
        (["digits", "--epochs", "0"], 2, "npconv: Invalid value for '--epochs'"),
        (["digits", "--seed", "-1"], 2, "npconv: Invalid value for '--seed'"),
        ([], 2, "npconv: Missing argument '{digits|faces}'"),
    ],
)
def test_errors_are_one_line(arguments, code, message):
    result = CliRunner().invoke(main, ["train", *arguments])
    assert result.exit_code == code
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    result = CliRunner().invoke(main, ["train", "digits", "--out", str(tmp_path / "file" / "inside")])
    assert result.exit_code == 1
    assert result.stderr == f"npconv: train: cannot write to {tmp_path / 'file' / 'inside'}: Not a directory\n"


def test_faces_without_scikit_image(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "skimage.data", None)
    result = CliRunner().invoke(main, ["train", "faces", "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert result.stderr == 'npconv: the faces come with scikit-image: pip install "npconv[demo]"\n'
