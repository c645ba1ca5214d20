"""What one takes along from the explorer's page: pictures, an animation, the page itself, a link; and it needs no network."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest

import npconv
from explorer_page import Hand, number
from npconv import nn


def drawn(seed: int, *shape: int) -> np.ndarray:
    """Whole numbers, which a cell shows in full."""
    return np.random.default_rng(seed).integers(-9, 10, shape).astype(np.float64)


def changed(hand: Hand) -> None:
    """Another problem than the one that the page began with, another view and another step."""
    hand.number(hand.page.get_by_role("spinbutton", name="Stride width", exact=True), 2)
    hand.press(hand.page.get_by_role("tab", name="Forward" if hand.keys else "Backward"), "ArrowRight")
    for _ in range(3):
        hand.press(hand.page.get_by_role("button", name="Step forward"))


def test_png_svg_gif_and_html(look, reader, host):
    """Row 13: each file is what its name says, and shows the step."""
    images = pytest.importorskip("PIL.Image", reason="Pillow reads the saved pictures")
    x, w = drawn(1, 5, 6), drawn(2, 3, 3)
    shown = look(npconv.explore(x, w), host)
    hand, page = Hand(shown, reader), shown.page
    changed(hand)
    before = shown.tensors()
    assert np.array_equal(
        before["dx"], npconv.conv_input_grad(before["dy"], w[None, None], input_shape=x[None].shape, stride=(1, 2))
    )

    def saved(name: str):
        return shown.download(lambda: hand.press(page.get_by_role("button", name=name)))

    with images.open(saved("Save as PNG")) as picture:
        assert picture.format == "PNG"
        assert picture.width > 600
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 20
    root = ElementTree.parse(saved("Save as SVG")).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    written = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    numbers = [number(text) for text in written if re.fullmatch("[\u2212\\d.]+", text)]
    shapes = [text for text in written if "×" in text]
    assert len(shapes) == 3
    for name, values in before.items():  # the step is the fourth: later cells of the result are still unknown
        known = values.ravel() if name != "dx" else values.ravel()[:4]
        assert all(numbers.count(value) >= np.sum(known == value) for value in known), name
    with images.open(saved("Save the stepping as GIF")) as film:
        assert (film.format, film.n_frames, film.info["loop"]) == ("GIF", before["dx"].size, 0)
        frames = []
        for at in range(film.n_frames):
            film.seek(at)
            frames.append(film.convert("RGB").tobytes())
        assert len(set(frames)) == film.n_frames
    html = saved("Save the page as HTML")
    copy = look(html)
    after = copy.tensors()
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert copy.root.locator(".player .place").inner_text() == shown.root.locator(".player .place").inner_text()


def test_a_link_brings_the_state_along(look, reader, host):
    """Row 14: the address holds the problem, the view and the step; it is refused where it is too long or not ours."""
    shown = look(npconv.explore(drawn(1, 5, 6), drawn(2, 3, 3)), host)
    hand, page = Hand(shown, reader), shown.page
    changed(hand)
    before = shown.tensors()
    hand.press(page.get_by_role("button", name="Copy link"))
    page.get_by_text("Link: Copied.").wait_for()
    link = page.evaluate("navigator.clipboard.readText()")
    assert link.startswith(shown.url + "#")
    other = shown.context.new_page()
    other.goto(link)
    shown.page = other
    shown.root = other.locator(".npconv-explorer")
    after = shown.tensors()
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert shown.root.locator(".player .place").inner_text().startswith("4 /")


@pytest.mark.parametrize(
    "fragment", ["#npconv=", "#npconv=!!!", "#npconv=e30", "#npconv=" + "A" * 30_000, "#other", "#%00"]
)
def test_a_broken_link_shows_the_page_all_the_same(look, fragment):
    shown = look(npconv.explore(np.eye(4), np.ones((2, 2))), fragment=fragment)
    assert np.array_equal(shown.tensors()["y"], npconv.conv(np.eye(4)[None], np.ones((1, 1, 2, 2))))
    told = shown.page.locator(".toast").text_content()
    assert bool(told) == fragment.startswith("#npconv="), told


def test_it_works_offline(look):
    """Row 16: one file, no network."""
    shown = look(npconv.explore(), offline=True)
    for name in ("Backward", "Algorithms", "Forward"):
        shown.page.get_by_role("tab", name=name).click()
        assert shown.tensors()
    assert shown.requests == [shown.url]


@pytest.mark.parametrize("model", [False, True], ids=["problem", "model"])
def test_the_file_is_small(model):
    """Under a megabyte, and what is explored."""
    network = nn.Sequential(nn.Conv(3, 4, 3, rng=0), nn.ReLU())
    image = np.zeros((16, 16, 3), np.uint8)
    html = (npconv.explore(network, image) if model else npconv.explore()).html()
    data = re.search(r'<script type="application/json" id="npconv-data">(.*)</script>', html)[1]
    assert json.loads(data)["host"] == "file"
    assert len(html.encode()) - len(data.encode()) < 1_000_000
