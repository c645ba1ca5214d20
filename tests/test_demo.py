"""`npconv demo` as a newcomer runs it: what it writes is there, true, complete and quick enough."""

import base64
import contextlib
import hashlib
import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("click", reason="the command needs the extra `demo`")
pytest.importorskip("matplotlib", reason="the demo needs the extra `demo`")
pytest.importorskip("sklearn", reason="the demo needs the extra `demo`")
pytest.importorskip("skimage", reason="the demo needs the extra `demo`")

from click.testing import CliRunner
from PIL import Image

import npconv
from npconv import demo
from npconv.cli import main
from npconv.demo import report, training
from npconv.demo.checking import checked
from npconv.demo.layers import paths, stack

PICTURES = {
    "photograph", "sharpen-by-hand", "sharpen", "edges-vertical", "edges-horizontal", "edges", "channels",
    "pooling-by-hand", "pooling", "two-layers", "four-layers", "receptive-field", "padded-gradient",
    "training", "training-filters", "training-confusion", "training-mistakes", "training-faces", "race", "race-large",
}  # fmt: skip


class Page(HTMLParser):
    """The parts of a page that the tests ask about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)
        self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if self.open:
            self.texts[self.open[-1]][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One run of the whole demo: (folder, what was printed)."""
    folder = tmp_path_factory.mktemp("demo") / "new" / "folder"
    result = CliRunner().invoke(main, ["demo", "--out", str(folder)])
    assert result.exit_code == 0, result.output
    return folder, result.stdout


@pytest.fixture(scope="module")
def page(made) -> Page:
    return Page((made[0] / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A quick run on a tiny photograph whose name is a trap for HTML."""
    folder = tmp_path_factory.mktemp("own")
    path = folder / "me & you's <b>.png"
    pixels = np.random.default_rng(0).integers(0, 256, (21, 34, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    result = CliRunner().invoke(main, ["demo", "--quick", "--photo", str(path), "--out", str(folder / "out")])
    assert result.exit_code == 0, result.output
    return path, (folder / "out" / "report.html").read_text(encoding="utf-8")


# --------------------------------------------------------------------------- what is written
def test_prints_the_path_of_the_report_last(made):
    folder, printed = made
    assert Path(printed.splitlines()[-1]) == (folder / "report.html").resolve()


def test_prints_race_check_and_accuracy(made):
    printed = made[1]
    for algorithm in ("loops", "direct", "gemm", "fft", "winograd_f2", "depthwise"):
        assert re.search(rf"^{algorithm} ", printed, re.M), algorithm
    assert "chosen: the least estimated time" in printed
    assert "loops, on a crop only" in printed
    line = re.search(r"training: (\d+) of (\d+) held-out digits right \((.*)%\)", printed)
    right, total, percent = line.groups()
    assert int(total) == 450
    assert float(percent) == pytest.approx(100 * int(right) / 450, abs=0.01)
    assert int(right) / 450 >= 0.97


def test_writes_every_picture_and_nothing_else(made):
    files = {path.name for path in made[0].iterdir()}
    assert files == {f"{name}.png" for name in PICTURES} | {"report.html"}


@pytest.mark.parametrize("name", sorted(PICTURES))
def test_pictures_are_pictures(made, name):
    path = made[0] / f"{name}.png"
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    with Image.open(path) as opened:
        pixels = np.asarray(opened.convert("RGB"))
    assert 600 < pixels.shape[1] < 1200
    assert 100 < pixels.shape[0] < 2000
    assert pixels.std() > 15
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20


def test_the_edges_are_npconvs(made):
    """The picture, its frame cut off, against Sobel's kernels applied here with `conv`."""
    x = demo.flower().pixels @ [0.299, 0.587, 0.114]
    sobel = np.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    gx, gy = npconv.conv(x[None], np.stack([sobel, sobel.T])[:, None], padding=1, padding_mode="reflect")
    strength = np.hypot(gx, gy)
    with Image.open(made[0] / "edges.png") as opened:
        grey = np.asarray(opened.convert("L"), np.float64)
    dark = grey < 128
    rows, columns = np.nonzero(dark.mean(1) > 0.5)[0], np.nonzero(dark.mean(0) > 0.5)[0]
    inside = grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    top = np.percentile(strength, 99.5)
    expected = Image.fromarray(np.clip(strength / top * 255, 0, 255).astype(np.uint8))
    resized = np.asarray(expected.resize(inside.shape[::-1], Image.Resampling.BILINEAR), np.float64)
    assert np.corrcoef(inside.ravel(), resized.ravel())[0, 1] > 0.97
    assert np.corrcoef(inside.ravel(), resized[:, ::-1].ravel())[0, 1] < 0.9


# --------------------------------------------------------------------------- the report
def test_every_picture_is_inside(made, page):
    inlined = {
        hashlib.sha256(base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))).digest()
        for image in page.all("img")
    }
    assert inlined == {hashlib.sha256(path.read_bytes()).digest() for path in made[0].glob("*.png")}
    assert all(image["alt"] for image in page.all("img"))


def test_nothing_from_outside(made, page):
    text = re.sub(r"base64,[A-Za-z0-9+/=]*", "", (made[0] / "report.html").read_text(encoding="utf-8"))
    assert not re.search(r"https?:|//\w|@import|url\(", text.replace(" // ", " "))
    for _, attrs in page.tags:
        for name in ("src", "href"):
            assert attrs.get(name, "#").startswith(("#", "data:image/png;base64,"))
    assert not page.all("script")
    assert not [tag for tag, attrs in page.tags if "style" in attrs or any(a.startswith("on") for a in attrs)]


def test_the_policy_admits_this_style_only(page):
    (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    (style,) = page.texts["style"]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith("default-src 'none';")
    assert f"style-src 'sha256-{digest}'" in policy
    assert "script-src" not in policy


def test_links_lead_to_chapters(page):
    targets = [a["href"].removeprefix("#") for a in page.all("a")]
    assert targets == [section["id"] for section in page.all("section")]
    assert len(targets) == 11


def test_light_dark_and_narrow(page):
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    assert "prefers-color-scheme: dark" in page.texts["style"][0]


def test_values_are_escaped(tmp_path):
    trap = """<b a='1' b="2">&amp;"""
    picture = tmp_path / "p.png"
    picture.write_bytes(b"png")
    blocks = [
        report.Text(trap), report.Formula(trap), report.Code(trap), report.Table([trap], [[trap]], trap),
        report.Picture(picture, trap, trap),
    ]  # fmt: skip
    text = report.page(trap, trap, [report.Chapter("a", trap, blocks, summary=(trap, trap))])
    parsed = Page(text)
    assert not parsed.all("b")
    assert parsed.all("img")[0]["alt"] == trap
    assert trap in parsed.texts["td"] + parsed.texts["title"]
    assert "<b" not in text.replace("<body", "")


def test_backticks_are_code():
    text = report.page("t", "use `x < y` here", [])
    assert "use <code>x &lt; y</code> here" in text


# --------------------------------------------------------------------------- one's own photograph
def test_own_photo(own):
    path, text = own
    page = Page(text)
    assert not page.all("b")
    assert f"{path.name} is a NumPy array" in "".join(page.texts["p"])
    assert "(21, 34, 3)" in page.texts["code"]
    assert f"Image.open({str(path)!r})" in "".join(page.texts["code"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not a picture", "npconv: {} cannot be read as PNG or JPEG: cannot identify image file"),
        ((8, 40), "npconv: demo: {} is 8 × 40 pixels, needs at least 16 × 16\n"),
        (Image.new("1", (8001, 8000)), "npconv: {} has 8001 x 8000 pixels, over 64000000\n"),
        (Image.new("I;16", (20, 20)), "npconv: demo: {} has more than 8 bits a pixel; save it with 8\n"),
    ],
    ids=["none", "small", "large", "deep"],
)
def test_a_photo_that_is_none(tmp_path, content, message):
    path = tmp_path / "photo.png"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, tuple):
        Image.fromarray(np.zeros((*content, 3), np.uint8)).save(path)
    else:
        content.save(path)
    result = CliRunner().invoke(main, ["demo", "--photo", str(path), "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert result.stderr.startswith(message.format(path))
    assert result.stderr.count("\n") == 1


# --------------------------------------------------------------------------- what it teaches
def test_every_snippet_runs_and_prints_what_it_says(tmp_path):
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="pictures of the snippets")
    pyplot.switch_backend("Agg")
    steps: list[str] = []
    made = demo.run(tmp_path, quick=True, step=steps.append)
    assert len(steps) == demo.steps(quick=True)
    ran = []
    for chapter in made.chapters:
        for block in chapter.blocks:
            if isinstance(block, report.Code):
                printed = io.StringIO()
                with contextlib.redirect_stdout(printed):
                    exec(compile(block.lines, chapter.name, "exec"), {})
                pyplot.close("all")
                for promised in re.findall(r"^print\(.*\)\s+# ([-\d(].*)$", block.lines, re.M):
                    assert promised in printed.getvalue().splitlines(), (chapter.name, promised)
                ran.append(chapter.name)
    assert ran == [chapter.name for chapter in made.chapters]


def test_without_padding_layers_shrink_and_with_it_they_do_not():
    x = np.ones((3, 20, 30), np.float32)
    assert [y.shape for y in stack(x, 2, 0, np.random.default_rng(0))] == [(8, 18, 28), (8, 16, 26)]
    padded = stack(x, 4, 1, np.random.default_rng(0))
    assert [y.shape for y in padded] == [(8, 20, 30)] * 4
    assert min(y.min() for y in padded) == 0


def test_paths_are_trinomial():
    """(1 + t + t²)⁴ has the coefficients 1 4 10 16 19 16 10 4 1."""
    row = [1, 4, 10, 16, 19, 16, 10, 4, 1]
    assert (paths(4) == np.outer(row, row)).all()


def test_the_check_accepts_ours_and_rejects_the_others():
    right, wrong = checked()
    assert right.passed
    assert len(wrong) == 4
    assert not any(r.passed for r in wrong.values())
    assert all(r.inputs[1].passed and r.inputs[2].passed for r in wrong.values())


def test_training_is_repeatable_and_holds_out_what_it_says():
    first, second = (training.train("digits", epochs=1) for _ in range(2))
    assert first.history.loss == second.history.loss
    assert first.images == (1347, 450)
    assert first.confusion.sum() == 450
    assert np.trace(first.confusion) == 450 - len(first.mistaken)
    assert first.accuracy == pytest.approx(first.history.metrics["validation accuracy"][-1])
    assert all(is_ != answer for is_, answer in first.mistaken)


# --------------------------------------------------------------------------- the command
def test_version():
    assert CliRunner().invoke(main, ["--version"]).stdout == f"npconv, version {npconv.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["demo", "-h"], ["explain", "--help"]])
def test_help_has_examples(arguments):
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0
    assert re.search(r"^  Examples:\n    npconv \w+", result.stdout, re.M)


def test_explain_is_npconvs():
    arguments = ["explain", "1,4,9,9", "8, 2, 3, 3", "--padding", "same", "--groups", "2", "--stride", "2,1"]
    result = CliRunner().invoke(main, arguments)
    expected = npconv.explain((1, 4, 9, 9), (8, 2, 3, 3), padding="same", groups=2, stride=(2, 1))
    assert result.stdout == f"{expected}\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["explain", "1,4,9,9", "8,3,3,3"], 1, "npconv: explain: "),
        (["explain", "1,4,x", "8,4,3"], 2, "npconv: Invalid value for 'X_SHAPE': '1,4,x' is not integers"),
        (["explain", "1,4,9"], 2, "npconv: Missing argument 'W_SHAPE'."),
        (["explain", "1,4,9", "2,4,3", "--padding", "sane"], 1, "npconv: explain: padding"),
        (["explain", "1,4,9", "2,4,3", "--dtype", "bool"], 1, "npconv: explain: "),
        (["dem"], 2, "npconv: No such command 'dem'."),
        (["demo", "--photo", "nowhere.jpg"], 2, "npconv: Invalid value for '--photo'"),
    ],
)
def test_errors_are_one_line(arguments, code, message):
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    result = CliRunner().invoke(main, ["demo", "--out", str(tmp_path / "file" / "inside")])
    assert result.exit_code == 1
    assert result.stderr == f"npconv: demo: cannot write to {tmp_path / 'file' / 'inside'}: Not a directory\n"


@pytest.mark.parametrize("missing", ["click", "tqdm", "matplotlib", "sklearn", "skimage", "PIL"])
def test_a_missing_extra_is_named_in_one_line(missing, tmp_path):
    code = (
        f"import sys; sys.modules[{missing!r}] = None; sys.argv = ['npconv', 'demo']\n"
        "from npconv.cli import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("npconv: ")
    assert missing in done.stderr
    assert re.search(r'pip install "npconv\[(demo|plot)\]"$', done.stderr)


def test_importing_without_an_extra_names_it():
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "try:\n    import npconv.demo\nexcept ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == 'npconv.demo needs sklearn: pip install "npconv[demo]"\n'
