"""Compiles the kernels when a wheel is built, so that whoever installs it needs NumPy alone.

Whatever stands in the way (no C compiler, no numba, another system than Linux) makes a wheel of Python alone, which
works everywhere, and a line in it that `npconv doctor` shows. An editable installation compiles when kernels are used.
NPCONV_BUILD_KERNELS chooses the kinds of CPU ("avx2 avx512"); "none" leaves kernels out.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "npconv/compiled/objects"
#: The wheel says which C library it runs on. Its objects are linked with none, and what they call is in all of these.
OLDEST_GLIBC = (2, 17)
PATIENCE = 1200
#: Runs the compiler from this tree. PYTHONPATH would not do: pip drops from it what an editable installation added too.
RUN = (
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); "
    "runpy.run_module('npconv.compiled.shared', run_name='__main__', alter_sys=True)"
)


class KernelsHook(BuildHookInterface):
    """Adds shared objects to a standard wheel, or the reason why there are none."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or version != "standard":
            return
        self.folder = tempfile.TemporaryDirectory()
        objects = Path(self.folder.name)
        why = self.compile(objects)
        if why:
            self.app.display_warning(f"npconv: no compiled kernels in this wheel: {why}")
            (objects / "missing.txt").write_text(why + "\n", encoding="utf-8")
        else:
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{platform_tag()}"
        build_data["force_include"].update({str(path): f"{PACKAGE}/{path.name}" for path in objects.iterdir()})

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()

    def compile(self, folder: Path) -> str:
        """Compile into `folder`; why that is not possible, if it is not."""
        asked = os.environ.get("NPCONV_BUILD_KERNELS", "").replace(",", " ").split()
        if asked == ["none"]:
            return "NPCONV_BUILD_KERNELS=none left them out"
        if sys.platform != "linux":
            return f"they are made for Linux, and this is {sys.platform}"
        command = [sys.executable, "-c", RUN, str(Path(self.root) / "src"), str(folder), *asked]
        self.app.display_info("npconv: compiling kernels, which takes a minute or two")
        with tempfile.TemporaryFile("w+") as said:  # a pipe would stay open as long as a worker of theirs lives
            running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True)
            try:
                status = running.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                return f"compiling took longer than {PATIENCE} s"
            finally:  # workers outlive a process that was killed
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(running.pid, signal.SIGKILL)
                running.wait()
            if not status:
                return ""
            said.seek(0)
            lines = said.read().strip().splitlines()  # none, if it was killed for its memory
        return lines[-1] if lines else f"compiling ended with status {status}"


def platform_tag() -> str:
    """The oldest system of this architecture that the wheel runs on."""
    name, found = platform.libc_ver()
    known = name == "glibc" and tuple(int(part) for part in found.split(".")[:2]) >= OLDEST_GLIBC
    return f"{'manylinux_2_17' if known else 'linux'}_{platform.machine()}"
