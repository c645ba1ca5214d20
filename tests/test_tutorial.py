"""The tutorial: its code, its pictures and explorers, its order, and that no word is used before it is explained."""

import importlib
import re
import sys
from itertools import pairwise
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
INDEX = (DOCS / "tutorial" / "index.md").read_text(encoding="utf-8")
CHAPTERS = sorted(path for path in (DOCS / "tutorial").glob("[0-9]*.md"))
FENCE = re.compile(r"^(```+)[^\n]*\n.*?^\1 *$", re.M | re.S)
#: How a word may be written, where an s is not all: by the word as the tutorial's table has it.
FORMS = {
    "average pooling": r"average pool(ing|s)?|avg_pool",
    "bias": r"bias(es)?",
    "convolution": r"convol(ution|utions|ve|ved|ves)",
    "cross-entropy": r"cross[- ]?entropy",
    "global pooling": r"global[_ ](avg_|max_|average |max-)?pool(ing|s)?",
    "held out": r"held[- ]out",
    "max-pooling": r"max[-_ ]?pool(ing|s)?",
    "padding": r"pad(s|ded|ding)?",
    "pooling": r"pool(s|ed|ing)?",
    "spatial axes": r"spatial ax(is|es)",
}
#: Words of the glossary that mean here what they mean everywhere.
EVERYDAY = {"direction", "map", "layout"}
#: Words that other texts use without a thought; here they are not used at all, or explained.
JARGON = (
    "tensor|neuron|logit|hyperparameter|SIMD|latency|throughput|FLOPs?|backprop\\w*|Jacobian|Hadamard|Toeplitz|filter|"
    "stochastic|regulari\\w+|hidden|overfit\\w*|inference|dense layer|chain rule|derivative|partial|differentia\\w+|adjoint"
)


@pytest.fixture(scope="module")
def pages():
    sys.path.insert(0, str(DOCS / "_ext"))
    try:
        yield importlib.import_module("pages")
    finally:
        sys.path.remove(str(DOCS / "_ext"))


def words() -> dict[str, str]:
    """The file of the chapter that explains each word, from the table of the tutorial's first page."""
    rows = re.findall(r"^\| \[[^]]+\]\(([\w.]+)\) \|[^|]*\| ([^|]+) \|$", INDEX, re.M)
    return {word.strip(): file for file, listed in rows for word in listed.split(",")}


def pattern(word: str) -> re.Pattern[str]:
    """The word with its endings, also as a part of a name such as `max_pool`, not of a longer word."""
    return re.compile(rf"(?<![a-z])(?:{FORMS.get(word, re.escape(word) + '(e?s)?')})(?![a-z])", re.I)


def read(text: str) -> str:
    """The text with blanks for what only names things to come: headings, and links to other chapters."""
    return re.sub(r"^#+ .*$|\[[^]]*\]\(\d\d_\w+\.md\)", lambda found: " " * len(found[0]), text, flags=re.M)


def first_uses(chapters: dict[str, str], words: dict[str, str]) -> list[str]:
    """What is wrong: words that are not explained where the table says, or that are used before."""
    order, wrong = list(chapters), []
    for word, home in words.items():
        explained = next((m.start() for m in re.finditer(r"\*\*(.+?)\*\*", chapters[home]) if _is(m[1], word)), -1)
        if explained < 0:
            wrong.append(f"{home}: {word!r} is not explained in **bold**")
            continue
        for file in order[: order.index(home) + 1]:
            found = pattern(word).search(read(chapters[file]))
            if found and (file != home or found.start() < explained):
                line = chapters[file].count("\n", 0, found.start()) + 1
                wrong.append(f"{file}:{line}: {found[0]!r} is used before {home} explains it")
    return wrong


def _is(bold: str, word: str) -> bool:
    return pattern(word).fullmatch(bold.rstrip(".")) is not None


def test_no_word_is_used_before_it_is_explained():
    chapters = {path.name: path.read_text(encoding="utf-8") for path in CHAPTERS}
    assert first_uses(chapters, words()) == []


def test_bold_is_for_explanations_alone():
    listed = words()
    for path in CHAPTERS:
        for bold in re.findall(r"\*\*(.+?)\*\*", FENCE.sub("", path.read_text(encoding="utf-8"))):
            assert any(_is(bold, word) for word, home in listed.items() if home == path.name), (path.name, bold)


def test_words_of_the_glossary_are_explained():
    """Those that the tutorial uses; and what is no word of anybody's everyday language is not used at all."""
    glossary = re.findall(r"^([a-z][\w ]*)\n: ", (DOCS / "glossary.md").read_text(encoding="utf-8"), re.M)
    assert len(glossary) > 20
    prose = "\n".join(FENCE.sub("", read(path.read_text(encoding="utf-8"))) for path in CHAPTERS)
    prose = re.sub(r"`[^`]*`|\]\([^)]*\)", "", prose)
    listed = " ".join(words())
    used = {word for word in glossary if pattern(word).search(prose)} - EVERYDAY
    assert {word for word in used if not pattern(word).search(listed)} == set()
    assert re.findall(rf"\b(?:{JARGON})\b", prose, re.I) == []


@pytest.mark.parametrize(
    ("chapters", "count"),
    [
        ({"1.md": "A **stride** is a distance. stride=2"}, 0),
        ({"1.md": "stride=2. A **stride** is a distance."}, 1),
        ({"0.md": "Strides are large.", "1.md": "A **stride** is a distance."}, 1),
        ({"0.md": "# On strides\nSee [Stride](01_one.md), astride.", "1.md": "**Stride**: a distance."}, 0),
        ({"1.md": "A stride is a distance."}, 1),
    ],
)
def test_the_check_of_words_can_fail(chapters, count):
    assert len(first_uses(chapters, {"stride": "1.md"})) == count


def test_ten_chapters_in_order():
    assert [path.name[:2] for path in CHAPTERS] == [f"{n:02}" for n in range(1, 11)]
    toctree = INDEX.split("{toctree}")[1]
    assert re.findall(r"^\d\d_\w+$", toctree, re.M) == [path.stem for path in CHAPTERS]
    assert list(dict.fromkeys(words().values())) == [path.name for path in CHAPTERS]
    for path, after in pairwise(CHAPTERS):
        end = path.read_text(encoding="utf-8").split("## What this showed")[1]
        assert f"]({after.name})" in end, path.name


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_has_its_parts(path, pages):
    text = path.read_text(encoding="utf-8")
    kinds = [block.kind for block in pages.blocks(text)]
    assert kinds.count("explorer") == 1
    assert kinds.count("picture") >= 1
    assert kinds[0] == "example"
    assert text.count("<details><summary>Answer</summary>") == text.count("</details>") == 3
    prose = len(re.sub(r"[^\w\s]", "", FENCE.sub("", text)).split())
    assert 500 <= prose <= 1250, f"{prose} words"
    for block in pages.blocks(text):
        if block.kind == "picture":
            alt = re.search(r"^:alt: (.+)$", block.body, re.M)
            assert alt, block.info
            assert len(alt[1]) > 40, block.info


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_pictures_and_explorers(path, pages):
    """What the documentation's build does, without Sphinx; tests/test_docs.py checks the examples in the same way."""
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="pictures need matplotlib")
    plots = importlib.import_module("npconv.plots")
    pyplot.switch_backend("agg")
    text = path.read_text(encoding="utf-8")
    page = pages.Page(text, path.name)
    for block in pages.blocks(text):
        if block.kind not in ("picture", "explorer"):
            continue
        assert page.run_until(block.line) == []
        value = page.evaluate(block.code, block.line)
        if block.kind == "explorer":
            shown = value.html()
            assert shown.lstrip().lower().startswith("<!doctype html>")
            assert len(shown) < 1_000_000
        elif isinstance(value, plots.Animation):
            assert 4 <= len(value) <= 60
        else:
            assert pyplot.gcf().axes, block.info
        pyplot.close("all")


def test_recorded_rows_are_there(pages):
    """Figures of the race are read from docs/benchmarks.md, never copied."""
    found = 0
    for path in CHAPTERS:
        for block in pages.blocks(path.read_text(encoding="utf-8")):
            if block.kind == "recorded":
                columns = re.search(r"^:columns: (.+)$", block.body, re.M)[1].split(", ")
                rows = pages.table(block.info.split("} ")[1], columns)
                for name in block.code.splitlines():
                    assert len(rows[name]) == len(columns), name
                    found += 1
    assert found > 10
    # What chapter 9 says about these rows. If they were measured anew, its words may have to follow.
    said = {
        "3x3 64@56": (1.5, 9),
        "1x1 64->256@56": (0.85, 1.2),
        "3x3 s2 128@56": (0.8, 1.35),
        "15x15 32@128": (2, 99),
        "depthwise 3x3 32@112": (0.8, 2),
        "3x3 g32 256@28": (0.8, 2),
    }
    ratios = dict(zip(*pages.recorded("Forward, threads: 2", "layer", "ratio"), strict=True))
    assert {name: ratios[name] for name, (low, high) in said.items() if not low <= ratios[name] <= high} == {}
    means = dict(zip(*pages.recorded("By group, threads: 2", "group", "forward / torch"), strict=True))
    assert means["all"] > 1
    with pytest.raises(KeyError):
        pages.table("Forward, threads: 99", ["layer"])


def test_each_algorithm_has_a_page():
    """Linked from the list of algorithms and from the navigation, in the tutorial's order."""
    registered = importlib.import_module("npconv.algorithms").registered()
    table = (DOCS / "algorithms" / "index.md").read_text(encoding="utf-8")
    home = dict(_homes(table))
    assert {algorithm.name for algorithm in registered} <= set(home)
    toctree = re.findall(r"^algorithms/(\w+)$", (DOCS / "index.md").read_text(encoding="utf-8"), re.M)
    pages_of = {path.stem for path in (DOCS / "algorithms").glob("*.md")}
    assert set(toctree) == pages_of
    assert {file.removesuffix(".md") for file in home.values()} <= pages_of
    linked = re.findall(r"\]\(\.\./algorithms/(\w+)\.md\)", "\n".join(path.read_text("utf-8") for path in CHAPTERS))
    assert set(linked) == pages_of - {"index"}
    assert [name for name in toctree if name in linked] == list(dict.fromkeys(linked))


def _homes(table: str) -> list[tuple[str, str]]:
    """Each name of an algorithm with the page of its row."""
    rows = re.findall(r"^\| \[[^]]+\]\((\w+\.md)\) \| ([^|]+) \|", table, re.M)
    return [(name, file) for file, names in rows for name in re.findall(r'"(\w+)"', names)]


@pytest.mark.parametrize("module", ["plots", "nn", "nn.models", "filters", "gradcheck", "testing", "explorer"])
def test_every_public_name_of_a_module_is_in_the_reference(module):
    found = importlib.import_module(f"npconv.{module}")
    public = getattr(found, "__all__", None) or [
        name
        for name, value in vars(found).items()
        if name[0] != "_" and getattr(value, "__module__", "") == found.__name__
    ]
    text = "\n".join(path.read_text(encoding="utf-8") for path in (DOCS / "api").glob("*.md"))
    named = set(re.findall(rf"^\.\. (?:auto|py:)(?:function|class|data):: npconv\.{module}\.(\w+)$", text, re.M))
    if module == "nn.models":
        named |= set(re.findall(r"`(\w+)`", (DOCS / "api" / "models.md").read_text(encoding="utf-8")))
    if re.search(rf"^\.\. automodule:: npconv\.{module}\n((?:   :.*\n)*?)   :members:$", text, re.M):
        named |= {name for name in public if callable(getattr(found, name))}  # the directive takes those
    elsewhere = set(importlib.import_module("npconv").__all__)  # tests/test_docs.py looks for these
    assert len(public) > 1
    assert {name for name in public if not name.isupper()} - named - elsewhere == set()
