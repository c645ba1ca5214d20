"""Everybody can use the explorer's page: axe-core, the Tab key, the focus ring, fingers, a phone, less motion, the dark."""

from __future__ import annotations

import numpy as np
import pytest

import npconv
from explorer_page import Hand
from npconv import nn

VIEWS = ("Forward", "Backward", "Algorithms", "Model")


def drawn(seed: int, *shape: int) -> np.ndarray:
    """Whole numbers, which a cell shows in full."""
    return np.random.default_rng(seed).integers(-9, 10, shape).astype(np.float64)


@pytest.fixture(scope="module")
def walk():
    """A model, whose page has all four views; with a layer to open, and scores."""
    layers = [nn.Conv(1, 2, 3, padding=1, rng=0), nn.ReLU(), nn.MaxPool(2), nn.Flatten(), nn.Linear(32, 3, rng=1)]
    return npconv.explore(nn.Sequential(*layers), drawn(1, 1, 1, 8, 8).astype(np.float32), labels=["cat", "dog", "owl"])


def to_view(shown, name: str) -> None:
    """A view, with more of it in sight than at the start."""
    if name == "Model":
        shown.page.get_by_role("tab", name=name).click()
        return
    if shown.page.get_by_role("tab", name="Model", selected=True).count():
        shown.page.get_by_role("button", name="Open 0 number by number").click()
    shown.page.get_by_role("tab", name=name).click()
    shown.page.get_by_role("button", name="Step forward").click()


@pytest.mark.parametrize(
    ("width", "dark"),
    [
        (1280, False),
        (360, True),
        *(pytest.param(*other, marks=pytest.mark.long) for other in [(1280, True), (360, False)]),
    ],
)
def test_axe_finds_nothing(look, walk, width, dark):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core comes in this package").Axe()
    shown = look(walk, width=width, dark=dark)
    found = {}
    for name in (*VIEWS, "Keys"):
        if name == "Keys":
            shown.page.get_by_role("button", name="Keys").click()
        else:
            to_view(shown, name)
        shown.settle()
        heard = axe.run(shown.page).response
        assert len(heard["passes"]) > 10
        for broken in heard["violations"]:
            found[f"{name}: {broken['id']}: {broken['help']}"] = [node["html"][:200] for node in broken["nodes"][:3]]
    assert found == {}


#: Notes what gets the focus, and whether it can be seen to have it.
_FOLLOW = """() => {
  window.npconvFocus = [];
  document.addEventListener("focusin", ({ target }) => {
    const rings = [target, target.nextElementSibling].filter(Boolean).map((one) => getComputedStyle(one));
    const ring = rings.some((style) => style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2);
    const name = target.getAttribute("aria-label") || target.labels?.[0]?.textContent || target.textContent;
    window.npconvFocus.push({ target, ring, name: `${target.tagName.toLowerCase()} ${name.slice(0, 60)}` });
  });
}"""

#: All that a mouse can use and that is in sight; of a group of radios and of a tensor one stands for all.
_USABLE = """() => {
  const seen = (one) => one.checkVisibility({ visibilityProperty: true }) && !one.disabled;
  const all = [...document.querySelectorAll("a[href], button, input, select, textarea, summary, [role=tab], [tabindex]")];
  const stops = all.filter((one) => seen(one) && (one.tabIndex >= 0 || one.getAttribute("role") === "tab"));
  const alone = (one) => one.type === "radio" ? one.checked : one.getAttribute("role") !== "tab" || one.ariaSelected === "true";
  const missed = stops.filter((one) => alone(one) && !window.npconvFocus.some(({ target }) => target === one));
  const order = window.npconvFocus.map(({ target }) => target);
  const back = order.filter((one, i) => i && order[i - 1].compareDocumentPosition(one) & Node.DOCUMENT_POSITION_PRECEDING);
  const name = (one) => one.outerHTML.slice(0, 120);
  return { missed: missed.map(name), back: back.map(name), stops: order.length };
}"""


def through(page) -> None:
    """Tab until the focus leaves the page; it goes on from its top."""
    for _ in range(150):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            return
    raise AssertionError("the focus does not leave the page")


@pytest.mark.parametrize("view", VIEWS)
def test_tab_gets_everywhere_in_order_and_shows_where_it_is(look, walk, view):
    """No trap, nothing that only a mouse reaches, and a ring around the place."""
    shown = look(walk)
    to_view(shown, view)
    page = shown.page
    through(page)  # to the end, wherever it began
    page.evaluate(_FOLLOW)
    through(page)
    found = page.evaluate(_USABLE)
    assert found["missed"] == []
    assert found["back"] == []
    assert found["stops"] > 10
    assert [one["name"] for one in page.evaluate("window.npconvFocus") if not one["ring"]] == []
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement !== document.body")


#: What is wider or higher than it should be; what a finger would miss.
_SMALL = """() => {
  const seen = [...document.querySelectorAll("button, input, select, summary, [role=gridcell]")].filter(
    (one) => one.checkVisibility({ visibilityProperty: true }) && !one.closest(".guide p, .pixels, .mini"));
  return seen.map((one) => [one, (one.closest("label.check") ?? one).getBoundingClientRect()])
    .filter(([one, box]) => box.width && (box.width < 24 || box.height < 24))
    .map(([one, box]) => `${Math.round(box.width)} x ${Math.round(box.height)}: ${one.outerHTML.slice(0, 120)}`);
}"""


def test_a_phone_shows_all_of_it_and_fingers_find_it(look, walk):
    """360 pixels wide: nothing to scroll sideways, and targets of 24 pixels."""
    shown = look(walk, width=360, height=640, touch=True)
    for view in VIEWS:
        to_view(shown, view)
        shown.settle()
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= 360, view
        assert shown.page.evaluate(_SMALL) == [], view
        assert shown.page.get_by_role("tablist").evaluate("(one) => one.scrollWidth <= one.clientWidth"), (
            "a tab is cut off"
        )
    shown.page.get_by_role("tab", name="Forward").tap()
    shown.part("x").locator("[role=gridcell]").nth(3).tap()
    assert shown.part("x").locator("[role=gridcell]").nth(3).evaluate("(one) => one.classList.contains('pinned')")


@pytest.mark.parametrize(
    ("x", "w", "options"),
    [
        ((1, 16, 16), (1, 1, 3, 3), {"padding": "same"}),
        ((1, 64, 64), (1, 1, 5, 5), {}),
        ((4, 9, 9), (4, 4, 3, 3), {}),
        ((2, 30), (2, 2, 5), {"padding": "causal"}),
    ],
    ids=["16 x 16", "64 x 64", "channels", "1-D"],
)
def test_large_problems_fit_a_phone(look, x, w, options):
    shown = look(npconv.explore(drawn(1, *x), drawn(2, *w), **options), width=360, height=640)
    for view in VIEWS[:3]:
        to_view(shown, view)
        shown.settle()
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= 360, view


def test_less_motion_for_those_who_ask(look):
    durations = {}
    for calm in (True, False):
        shown = look(npconv.explore(), calm=calm)
        shown.page.get_by_role("button", name="Step forward").click()
        shown.settle()
        moving = "document.getAnimations().length"
        durations[calm] = (
            shown.part("y").locator(".frame").evaluate("(one) => getComputedStyle(one).transitionDuration")
        )
        if calm:
            assert shown.page.evaluate(moving) == 0
            shown.page.get_by_role("radio", name="Arithmetic").locator("xpath=..").click()
            shown.settle()
            assert shown.page.evaluate(moving) == 0
    assert set(durations[True].split(", ")) == {"0s"}
    assert set(durations[False].split(", ")) != {"0s"}


def test_light_and_dark_and_zero_the_colour_of_the_paper(look, reader):
    """Row 15: by the system's wish and by the page's own switch; blue below zero, orange above."""
    x = np.array([[-4.0, 0.0, 4.0]])
    shown = look(npconv.explore(x, np.ones((1, 1)), padding=0), dark=True)
    hand, page = Hand(shown, reader), shown.page

    def colours() -> tuple[bool, list[list[int]], list[int]]:
        rgb = "(one) => getComputedStyle(one).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
        cells = [cell.evaluate(rgb) for cell in shown.part("x").locator("[role=gridcell]").all()]
        return shown.root.get_attribute("data-dark") is not None, cells, shown.root.evaluate(rgb)

    for expected in (True, False, True, True):  # as the system, light, dark, as the system
        shown.settle()
        dark, (below, zero, above), paper = colours()
        assert dark == expected
        assert np.abs(np.subtract(zero, paper)).max() <= 3
        assert below[2] > below[0] + 30
        assert above[0] > above[2] + 30
        assert (sum(paper) < 150) == dark
        if hand.keys:
            hand.reach(page.get_by_role("tab", name="Forward"))
            page.keyboard.press("t")
        else:
            page.get_by_role("button", name="theme").click()


def test_the_words_point_at_what_they_speak_of(look, walk, reader):
    """Row 20: every underlined word lights up a part that is in sight."""
    shown = look(walk)
    hand = Hand(shown, reader)
    for view in VIEWS[:3]:
        to_view(shown, view)
        words = shown.root.locator(".guide button:visible")
        assert words.count() >= 3
        for word in words.all():
            if hand.keys:
                hand.reach(word)
            else:
                word.hover()
            lit = shown.root.locator("[data-part].spotlight:visible")
            assert lit.count() == 1, (view, word.inner_text())


def test_every_key_of_the_list_works(look, walk):
    """Row 15: the shortcuts, as the dialogue of keys tells them."""
    shown = look(walk)
    to_view(shown, "Forward")
    page = shown.page
    place, lens = shown.root.locator(".player .place"), shown.part("lens")
    steps = int(place.inner_text().split("/")[1])

    def after(key: str) -> int:
        page.keyboard.press(key)
        shown.settle()
        return int(place.inner_text().split("/")[0])

    assert [after(key) for key in "[..,]"] == [1, 2, 3, 2, steps]
    assert after("[") == 1
    page.keyboard.press("z")
    running = lens.locator(".running")
    assert running.inner_text().startswith("Product 1 of 9: ")
    assert after(".") == 1
    assert running.inner_text().startswith("Product 2 of 9: ")
    page.keyboard.press("Escape")
    assert running.is_hidden()
    pace = shown.root.locator(".player .pace")
    for key, words in [(">", "8/s"), (">", "15/s"), ("<", "8/s")]:
        page.keyboard.press(key)
        assert pace.inner_text() == words
    page.keyboard.press("p")
    page.get_by_role("button", name="Pause").wait_for()
    page.keyboard.press("p")
    page.get_by_role("button", name="Play").wait_for()
    for key, view in [("b", "Backward"), ("a", "Algorithms"), ("m", "Model"), ("f", "Forward"), ("b", "Backward")]:
        page.keyboard.press(key)
        page.get_by_role("tab", name=view, selected=True).wait_for()
    page.keyboard.press("g")
    assert page.get_by_role("radio", name="one source cell (scatter)").is_checked()
    page.keyboard.press("d")
    assert page.get_by_role("checkbox", name="Paint by dragging").is_checked()
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keys")
    listed = dialog.locator("kbd").all_inner_texts()
    assert set(listed) >= set("fbamp.,[]<>zZgdt?")
    page.keyboard.press("Escape")
    assert dialog.is_hidden()


def test_the_live_region_speaks_of_the_step_and_not_of_every_frame(look):
    shown = look(npconv.explore(drawn(1, 9, 9), drawn(2, 2, 2)))
    page, live = shown.page, shown.root.locator(".live")
    assert live.get_attribute("aria-live") == "polite"
    page.get_by_role("button", name="Step forward").click()
    shown.hears("Output channel 0, row 0, column 1: 4 products, sum ")
    live.evaluate(
        "(node) => { window.npconvSaid = 0; new MutationObserver(() => window.npconvSaid++).observe(node, { childList: true }); }"
    )
    for _ in range(4):
        page.keyboard.press(">")
    page.get_by_role("button", name="Play", exact=True).click()
    page.wait_for_function("() => Number(document.querySelector('.player .place').textContent.split('/')[0]) > 40")
    page.get_by_role("button", name="Pause").click()
    assert page.evaluate("window.npconvSaid") <= 3
    shown.hears("Output channel 0, row ")
