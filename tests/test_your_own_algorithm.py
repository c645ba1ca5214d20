"""The example of docs/your_own_algorithm.md, installed by pip, joins npconv without a change in it."""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import npconv

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "npconv-mec"
PAGE = (ROOT / "docs" / "your_own_algorithm.md").read_text()
SOURCE = Path(npconv.__file__).parent


def digest() -> str:
    """npconv's own files, in one number."""
    state = hashlib.sha256()
    for path in sorted(SOURCE.rglob("*.py")):
        state.update(path.read_bytes())
    return state.hexdigest()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pip put the example: a directory on no path but the subprocesses'."""
    if not (importlib.util.find_spec("pip") and importlib.util.find_spec("hatchling")):
        pytest.skip("needs pip and hatchling, which a virtual environment and the extra `test` bring")
    folder = tmp_path_factory.mktemp("own")
    copy, target = folder / "npconv-mec", folder / "site"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    command += ["--no-deps", "--no-build-isolation", "--target", str(target), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def ask(code: str, *paths: Path) -> str:
    """What a fresh interpreter with these packages prints."""
    path = os.pathsep.join(str(p) for p in (*paths, SOURCE.parent))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
        cwd=paths[0] if paths else None,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_the_package_there_is_no_such_algorithm():
    code = "import npconv; npconv.conv([[1.0, 2.0]], [[[1.0]]], algorithm='mec')"
    with pytest.raises(AssertionError, match="algorithm='mec'"):
        ask(code)


def test_it_passes_the_whole_suite(installed):
    code = (
        "import npconv.testing; from npconv.algorithms import named; "
        "print(npconv.testing.verify_algorithm(named('mec')))"
    )
    printed = ask(code, installed)
    assert re.match(r"mec: \d+ problems right, the worst error 0\.\d+ of its bound; \d+ refused\n", printed)
    assert "  refused: needs a spatial axis whose rows can overlap\n" in printed
    assert int(printed.split()[1]) > 150


def test_the_suite_can_fail(installed):
    """A tap that is off by one row is found."""
    code = """
import npconv.testing
from npconv_mec import Mec
class Wrong(Mec):
    name = "wrong"
    def prepare(self, w, geometry, dtype):
        return super().prepare(w[:, :, ::-1], geometry, dtype)
try:
    npconv.testing.verify_algorithm(Wrong())
except npconv.testing.VerificationError as error:
    print(error)
"""
    message = r"wrong: forward in float32: output \(.*\) is .*, the definition gives"
    assert re.match(message, ask(code, installed))


def test_explain_lists_it_and_measure_races_it(installed):
    code = """
import json, npconv
found = npconv.explain((1, 8, 24, 24), (8, 8, 3, 3), padding=1, measure=True)
row = next(c for c in found.candidates if c.name == "mec")
asked = npconv.explain((1, 8, 24, 24), (8, 8, 3, 3), padding=1, algorithm="mec")
print(json.dumps([str(found).splitlines(), row.able, row.cost.workspace, row.measured, asked.choice]))
"""
    lines, able, workspace, measured, choice = json.loads(ask(code, installed))
    (line,) = [each for each in lines if each.startswith("mec ")]
    assert "32 u S(output)" in line
    assert able
    # padded input, lowered input (26 x 24 x 3 x 8), weights, one row of outputs
    assert workspace == 4 * (8 * 26 * 26 + 26 * 24 * 3 * 8 + 8 * 8 * 9 + 8 * 24)
    assert measured > 0
    assert choice == "mec"


def test_all_three_passes_run_through_the_public_functions(installed):
    """Equal to the loop nest, on integers to the last bit; strides, dilation, groups and ranks included."""
    code = """
import numpy as np, npconv
rng = np.random.default_rng(5)
for x_shape, w_shape, options in (
    ((2, 3, 9), (4, 3, 3), dict(padding=1)),
    ((2, 4, 9, 8), (6, 2, 3, 2), dict(stride=(2, 1), padding=((1, 0), (0, 2)), groups=2)),
    ((1, 3, 10, 9), (2, 3, 3, 3), dict(dilation=(2, 1), padding="same")),
    ((9, 9, 3), (3, 3, 3, 2), dict(stride=3, layout="channels_last")),
    ((1, 2, 5, 6, 4), (3, 2, 2, 3, 2), dict(padding=1, padding_mode="reflect")),
):
    x, w = rng.integers(-9, 9, x_shape) * 1.0, rng.integers(-9, 9, w_shape) * 1.0
    shape = npconv.conv(x, w, **options).shape
    g = rng.integers(-9, 9, shape) * 1.0
    mine, *others = (
        (npconv.conv(x, w, algorithm=a, **options), *npconv.conv_grads(g, x, w, algorithm=a, **options))
        for a in ("mec", "loops", "gemm")
    )
    for other in others:
        assert all(np.array_equal(a, b) for a, b in zip(mine, other, strict=True))
    print(shape)
"""
    assert len(ask(code, installed).splitlines()) == 5


def test_npconv_was_not_changed(installed):
    before = digest()
    ask("import npconv; print(npconv.explain((1, 4, 9, 9), (4, 4, 3, 3), algorithm='mec'))", installed)
    assert digest() == before


def test_the_page_shows_the_file_as_it_is():
    assert (EXAMPLE / "npconv_mec.py").read_text() in PAGE
    assert (EXAMPLE / "pyproject.toml").read_text() in PAGE
