"""What all tests share: Ctrl-C, narrower vectors, and the fixtures of the explorer's browser tests (`explorer_page.py`)."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.register_assert_rewrite("explorer_page")
# whoever runs the tests in the background ignores Ctrl-C, and so would the processes that they start
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=["32", "16"])
def narrower(request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment of a process whose kernels have vectors of so many bytes."""
    from npconv.compiled import catalogue

    width, path = request.param, catalogue.path()
    if path == "ahead" and width == "16":
        pytest.skip("no such kernels were compiled ahead of time")
    # NPCONV_KERNELS may name an object of wider vectors
    return {**os.environ, "NPCONV_VECTOR_BYTES": width, "NPCONV_KERNELS": path}


@pytest.fixture(params=["from cache", "from memory"])
def where_inputs_lie(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Kernels as for small inputs, and as for those so large that they bring what they read into the cache ahead."""
    from npconv.compiled import calls, panels

    calls.forget()
    monkeypatch.setattr(panels, "AHEAD_BYTES", 1 << 60 if request.param == "from cache" else -1)
    yield request.param
    calls.forget()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One browser for the tests of a module."""
    from explorer_page import ARGUMENTS, BROWSERS

    api = pytest.importorskip("playwright.sync_api", reason="the explorer is tested in a browser by Playwright")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"the explorer is tested in a browser, and there is none of {', '.join(BROWSERS)}")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(params=["mouse", "keyboard"])
def reader(request: pytest.FixtureRequest) -> str:
    """Who uses the page."""
    return str(request.param)


@pytest.fixture(params=["file", "page"])
def host(request: pytest.FixtureRequest) -> str:
    """Where the page comes from."""
    return str(request.param)


@pytest.fixture
def look(chromium: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Opens an explorer; at the end of the test, no page may have complained or talked to a stranger."""
    from explorer_page import Look
    from npconv.explorer import timing

    measure = timing.times
    monkeypatch.setattr(timing, "times", lambda problem: measure(problem, seconds=0.02))  # a time, not a good one
    opened: list[Any] = []

    def open_(explorer: Any, host: str = "file", **options: Any) -> Any:
        opened.append(Look(chromium, explorer, host, tmp_path, **options))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()
    for each in opened:
        each.check()


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A short run does each feature with the mouse in a file and with the keys on a local page; a long one crosses them."""
    for item in items:
        chosen = getattr(getattr(item, "callspec", None), "params", {})
        if "reader" in chosen and "host" in chosen and (chosen["reader"] == "mouse") != (chosen["host"] == "file"):
            item.add_marker(pytest.mark.long)
