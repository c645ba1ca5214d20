"""Whatever a reader can run, runs: README, every page, every docstring; one test item per file."""

import doctest
import importlib
import pkgutil
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if "_build" not in page.parts]
MODULES = sorted(
    ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "src" / "npconv").rglob("*.py")
)
FENCE = re.compile(
    r"^(?P<indent> *)(?P<ticks>```+|~~~+)(?P<info>[^\n]*)\n(?P<body>.*?)^(?P=indent)(?P=ticks) *$",
    re.M | re.S,
)
FLAGS = doctest.ELLIPSIS


def blocks(text: str) -> Iterator[tuple[int, str, str]]:
    """The fenced blocks of a page: (line number from 0, info word, body without the fence's indent)."""
    for match in FENCE.finditer(text):
        indent = len(match["indent"])
        body = "".join(line[indent:] for line in match["body"].splitlines(keepends=True))
        yield text.count("\n", 0, match.start("body")), match["info"].strip().lower(), body


def run_page(text: str, name: str) -> list[str]:
    """Run the blocks in order, in one namespace; return what failed."""
    parser, failures, names = doctest.DocTestParser(), [], {"__name__": "__main__"}
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for line, info, body in blocks(text):
        if ">>>" in body:
            runner.run(
                parser.get_doctest(body, names, f"{name}:{line}", name, line), out=failures.append, clear_globs=False
            )
            names.update(runner.test.globs)
        elif info.split()[:1] in (["python"], ["py"], ["{code-block}", "python"]):
            try:
                exec(compile("\n" * line + body, name, "exec"), names)
            except Exception as error:
                failures.append(f"{name}, the block at line {line + 1}: {type(error).__name__}: {error}")
    return failures


@pytest.fixture(autouse=True)
def quiet_and_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An example may write files (not here) and must not warn."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("KERAS_BACKEND", "numpy")  # docs/keras.md sets it, and the next test shall not see it
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page(page: Path):
    failures = run_page(page.read_text(), str(page.relative_to(ROOT)))
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name: str):
    try:
        module: Any = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in ("numba", "llvmlite"):
            raise
        pytest.skip("kernels are made with numba")
    failures: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        runner.run(test, out=failures.append)
    assert not failures, "\n".join(failures)


LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    assert [to for to in LINK.findall(page.read_text()) if not (page.parent / to).exists()] == []


def test_every_public_name_is_in_the_reference():
    npconv = importlib.import_module("npconv")
    directive = re.compile(r"^\.\. auto(?:function|class|data|module):: (?:npconv\.)?([\w.]+)", re.M)
    documented = {name for page in (ROOT / "docs" / "api").glob("*.md") for name in directive.findall(page.read_text())}
    assert set(npconv.__all__) - documented == set()
    for name in documented:
        pkgutil.resolve_name(f"npconv.{name}")


def test_every_rule_has_its_section():
    anchors = re.findall(r"^\(r(\d+)-[\w-]+\)=\n## R\1 ", (ROOT / "docs" / "rules.md").read_text(), re.M)
    assert [int(number) for number in anchors] == list(range(1, 26))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("```python\n>>> 1 + 1\n2\n```\n", 0),
        ("```python\n>>> 1 + 1\n3\n```\n", 1),
        ("```pycon\n>>> a = 2\n```\n\n- item\n\n  ```python\n  >>> a\n  2\n  ```\n", 0),
        ("```python\nb = 1\n```\n```python\n>>> b\n1\n```\n", 0),
        ("```python\nraise ValueError\n```\n", 1),
        ("```python\nimport warnings; warnings.warn('old')\n```\n", 1),
        ("```text\n1 +\n```\n", 0),
    ],
)
def test_the_runner_can_fail(text, count):
    assert len(run_page(text, "a page")) == count
