"""What building a wheel makes of the kernels: shared objects where it can, and otherwise a wheel that says why."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OBJECTS = "npconv/compiled/objects/"

if not (importlib.util.find_spec("build") and importlib.util.find_spec("hatchling")):
    pytest.skip("needs build and hatchling, which the extra `test` installs", allow_module_level=True)


def built(out: Path, what: str = "--wheel", source: Path = ROOT, **environment: str) -> Path:
    """The wheel or sdist of this tree, built in this environment."""
    command = [sys.executable, "-m", "build", what, "--no-isolation", "--skip-dependency-check", "--outdir", str(out)]
    inherited = {name: value for name, value in os.environ.items() if name != "NPCONV_BUILD_KERNELS"}
    given = inherited | environment
    done = subprocess.run([*command, str(source)], capture_output=True, text=True, env=given, timeout=1500)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.iterdir()
    return path


def stand_in(folder: Path, code: str) -> None:
    """Modules that a build finds in place of numba and llvmlite."""
    for name in ("numba", "llvmlite"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(code)


def reason(wheel: Path) -> str:
    """Why a wheel of Python alone is one."""
    assert wheel.name.endswith("-py3-none-any.whl")
    archive = zipfile.ZipFile(wheel)
    assert [name for name in archive.namelist() if name.startswith(OBJECTS)] == [OBJECTS + "missing.txt"]
    return archive.read(OBJECTS + "missing.txt").decode().strip()


def doctor(wheel: Path, folder: Path) -> dict[str, str]:
    """What the doctor says of an unpacked wheel where numba is not installed."""
    zipfile.ZipFile(wheel).extractall(folder)
    code = (
        "import sys; sys.modules['numba'] = sys.modules['llvmlite'] = None; from npconv.diagnosis import report; "
        "print(*(f'{subject}={finding}' for subject, finding in report()), sep='\\n')"
    )
    environment = {name: value for name, value in os.environ.items() if name != "NPCONV_KERNELS"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert done.stderr == ""
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def running(pid: int) -> bool:
    """Whether a process is there that is not just waiting to be counted."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_kernels_can_be_left_out(tmp_path):
    assert reason(built(tmp_path, NPCONV_BUILD_KERNELS="none")) == "NPCONV_BUILD_KERNELS=none left them out"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is another reason")
def test_without_a_compiler_the_doctor_says_so(tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("git", "env"):
        if found := shutil.which(name):
            (tools / name).symlink_to(found)
    wheel = built(tmp_path / "out", PATH=str(tools), CC="")
    assert "there is no C compiler" in reason(wheel)
    found = doctor(wheel, tmp_path / "site")
    assert found["compiled kernels"] == "not used: compiled kernels need numba: pip install 'npconv[fast]'"
    assert "installed without them: " in found["ahead of time"]
    assert "there is no C compiler to link with (apt-get install gcc, or CC names one)" in found["ahead of time"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is another reason")
@pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="needs a C compiler")
def test_a_build_that_is_killed_is_a_wheel_without_kernels(tmp_path):
    """Nothing waits for its workers, and none of them stays behind."""
    left = tmp_path / "left"
    stand_in(
        tmp_path,
        "import os, signal, subprocess, sys\n"
        "sleeper = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(900)'])\n"
        f"with open({str(left)!r}, 'a') as file:\n    print(sleeper.pid, file=file)\n"
        "os.kill(os.getppid(), signal.SIGKILL)\nos._exit(1)\n",
    )
    assert reason(built(tmp_path / "out", PYTHONPATH=str(tmp_path))) == "compiling ended with status -9"
    for pid in left.read_text().split():
        assert not running(int(pid))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is another reason")
def test_a_kind_of_cpu_that_does_not_exist_is_named(tmp_path):
    assert reason(built(tmp_path, NPCONV_BUILD_KERNELS="avx2 avx3")).startswith("there are no kernels for avx3")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is another reason")
def test_the_tree_is_found_where_pip_drops_it_from_the_path(tmp_path):
    """As in the build environment of a pip whose own has this tree installed editable."""
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys\nsys.path = [path for path in sys.path if path != {str(ROOT / 'src')!r}]\n"
    )
    wheel = built(tmp_path / "out", PYTHONPATH=str(tmp_path), NPCONV_BUILD_KERNELS="avx3")
    assert reason(wheel).startswith("there are no kernels for avx3")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is another reason")
@pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="needs a C compiler")
def test_without_numba_the_doctor_says_so(tmp_path):
    stand_in(tmp_path, "raise ImportError('No numba here')\n")
    wheel = built(tmp_path / "out", PYTHONPATH=str(tmp_path))
    assert "No numba here" in reason(wheel)
    assert "No numba here" in doctor(wheel, tmp_path / "site")["ahead of time"]


# ------------------------------------------------------------------------------------------------ the whole of it
TESTS = [
    "test_activations.py", "test_compiled_blocked.py", "test_compiled_channelwise.py", "test_compiled_fourier.py",
    "test_compiled_outer.py", "test_compiled_pixelwise.py", "test_compiled_pools.py", "test_compiled_threads.py",
    "test_compiled_winograd.py",
    "test_conv_against_reference.py", "test_door.py", "test_identities.py", "test_plan.py",
    "test_pooling_against_reference.py", "test_silent_wrong_answers.py",
]  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel with all kernels, built from the sdist."""
    if sys.platform != "linux" or not importlib.util.find_spec("numba"):
        pytest.skip("kernels are made on Linux, with numba")
    sdist = built(tmp_path_factory.mktemp("sdist"), "--sdist")
    folder = tmp_path_factory.mktemp("source")
    shutil.unpack_archive(sdist, folder, filter="data")
    (source,) = folder.iterdir()
    return built(tmp_path_factory.mktemp("wheel"), source=source)


@pytest.mark.long
def test_the_wheel_is_small_and_says_what_it_runs_on(wheel):
    assert wheel.stat().st_size < 5_000_000
    assert re.search(r"-py3-none-(many)?linux_\w+\.whl$", wheel.name)
    with zipfile.ZipFile(wheel) as archive:
        assert sum(info.file_size for info in archive.infolist()) < 8_000_000
        tag = archive.read(next(name for name in archive.namelist() if name.endswith("dist-info/WHEEL"))).decode()
        assert any(name.startswith(OBJECTS) and name.endswith(".so") for name in archive.namelist())
    assert "Root-Is-Purelib: false" in tag


@pytest.mark.long
def test_auditwheel_agrees(wheel):
    if not importlib.util.find_spec("auditwheel"):
        pytest.skip("needs auditwheel")
    done = subprocess.run(
        [sys.executable, "-m", "auditwheel", "show", str(wheel)], capture_output=True, text=True, check=True
    )
    assert re.search(r'consistent with the\s+following platform tag: "manylinux_', done.stdout)
    assert "requires no external shared libraries" in done.stdout


@pytest.mark.long
@pytest.mark.parametrize("path", ["ahead", "avx512", "avx2", "numpy"])
def test_all_is_right_without_numba(wheel, tmp_path, path):
    from npconv.compiled import ahead

    if path.startswith("avx") and not any(
        need <= ahead.features() for k in ahead.KINDS if k.name == path for need in k.needs
    ):
        pytest.skip("this CPU cannot run it")
    zipfile.ZipFile(wheel).extractall(tmp_path)
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules['numba'] = sys.modules['llvmlite'] = None\n", encoding="utf-8"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "NPCONV_KERNELS": path}
    check = (
        f"from npconv.compiled import catalogue; print(catalogue.path() == {'numpy' if path == 'numpy' else 'ahead'!r})"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == ("True\n", "")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "xfail_strict=true"]
    files = [str(ROOT / "tests" / name) for name in TESTS]
    done = subprocess.run([*command, *files], capture_output=True, text=True, env=environment, cwd=ROOT / "tests")
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"\d{3,} passed", done.stdout)
