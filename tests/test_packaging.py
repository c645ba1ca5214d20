"""What a person installs: the wheel, its metadata, and the commands that the README and CI share."""

import email
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import npconv

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (importlib.util.find_spec("build") and importlib.util.find_spec("hatchling")):
        pytest.skip("needs build and hatchling, which the extra `test` installs")
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--skip-dependency-check"]
    environment = os.environ | {"NPCONV_BUILD_KERNELS": "none"}  # test_ahead_wheel.py builds them
    done = subprocess.run([*command, "--outdir", str(out), str(ROOT)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def names(wheel: Path) -> list[str]:
    return zipfile.ZipFile(wheel).namelist()


@pytest.fixture(scope="module")
def metadata(wheel: Path, names: list[str]) -> email.message.Message:
    (name,) = [name for name in names if name.endswith(".dist-info/METADATA")]
    return email.message_from_bytes(zipfile.ZipFile(wheel).read(name))


def test_the_wheel_is_small(wheel):
    assert wheel.stat().st_size < 1_000_000


def test_the_wheel_holds_the_package_and_nothing_else(names):
    assert {name.split("/")[0] for name in names} == {"npconv", f"npconv-{npconv.__version__}.dist-info"}
    assert "npconv/py.typed" in names
    in_source = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src" / "npconv").rglob("*.py*")}
    assert {name for name in names if name.endswith((".py", ".pyi"))} == {
        name for name in in_source if name.endswith((".py", ".pyi"))
    }


def test_the_wheel_needs_numpy_only(metadata):
    needed = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert [re.match(r"[\w.-]+", line)[0] for line in needed] == ["numpy"]


def test_no_upper_caps(metadata):
    """A cap breaks somebody's environment on a day nobody chose; the one pin is a test peer's."""
    capped = [line for line in metadata.get_all("Requires-Dist") if re.search(r"<|==|~=", line.split(";")[0])]
    assert [re.match(r"[\w.-]+", line)[0] for line in capped] == ["torch"]


def test_the_wheel_runs_where_it_is_unpacked(wheel, tmp_path):
    """Nothing is read from the source tree: the wheel alone computes a convolution."""
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import numpy as np, npconv; "
        "print(npconv.__file__); print(npconv.conv(np.ones((1, 3, 3)), np.ones((1, 1, 3, 3))).item())"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    where, value = done.stdout.split()
    assert Path(where).is_relative_to(tmp_path)
    assert value == "9.0"


def test_one_version():
    version = npconv.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert newest[1] == version


def test_all_is_the_union_of_the_user_extras():
    extras = PROJECT["optional-dependencies"]
    (whole,) = extras["all"]
    named = set(re.search(r"\[(.*)\]", whole)[1].split(","))
    assert named == set(extras) - {"all", "test"}


def test_ci_runs_the_readme_command():
    (command,) = [line for line in (ROOT / "README.md").read_text().splitlines() if line.endswith("python -m pytest")]
    assert command in (ROOT / ".ci" / "run").read_text()
