"""The command `npconv` as tests run it: in this process, in one of its own, and in a terminal."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import npconv

SRC = Path(npconv.__file__).parents[1]
START = "import sys; sys.argv[0] = 'npconv'; from npconv.cli import main; main()"
COMMAND = [sys.executable, "-c", START]


def run(*arguments: object, **more):
    """In this process, far from a terminal."""
    from click.testing import CliRunner

    from npconv.cli import main

    return CliRunner().invoke(main, list(map(str, arguments)), **more)


def command(name: str):
    """A command by its name."""
    import click

    from npconv.cli import main

    found = main.get_command(click.Context(main), name)
    assert found is not None
    return found


def process(*arguments: str, **more) -> subprocess.CompletedProcess:
    """The command in a process of its own, far from a terminal."""
    environment = os.environ | {"PYTHONPATH": str(SRC)} | more.pop("env", {})
    more = {"capture_output": True, "text": True, "encoding": "utf-8", "timeout": 120} | more
    return subprocess.run([*COMMAND, *arguments], env=environment, **more)


def in_terminal(*arguments: str, columns: int = 80, **environment: str) -> tuple[int, str]:
    """The exit code and everything that a terminal of this width was sent."""
    pty, fcntl, termios = (pytest.importorskip(name, reason="Unix") for name in ("pty", "fcntl", "termios"))
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, np.array([24, columns, 0, 0], np.uint16).tobytes())
    environment = (
        os.environ | {"PYTHONPATH": str(SRC), "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"} | environment
    )
    environment.pop("COLUMNS", None)
    started = subprocess.Popen([*COMMAND, *arguments], stdin=slave, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    sent = b""
    try:
        while more := os.read(master, 65536):
            sent += more
    except OSError:  # Linux says so when the other side is closed
        pass
    os.close(master)
    return started.wait(60), sent.decode().replace("\r\n", "\n")
