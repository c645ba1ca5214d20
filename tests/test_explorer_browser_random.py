"""The explorer's page under hands that do not know what they do."""

from __future__ import annotations

import numpy as np
import pytest

import npconv

#: One random change of one control, from the page's own list of those in sight.
_CHANGE = """([which, how]) => {
  const seen = (one) => one.checkVisibility() && !one.disabled && one.type !== "file" && !one.readOnly;
  const all = [...document.querySelectorAll(".npconv-explorer :is(input, select, button, [role=gridcell])")].filter(seen);
  const controls = all.filter((one) => !/Save|Copy|Own image|Time them/.test(one.ariaLabel || one.textContent));
  const one = controls[Math.floor(which * controls.length)];
  const tell = (type) => one.dispatchEvent(new Event(type, { bubbles: true }));
  const among = (low, high) => Math.round(low + how * (high - low));
  if (one.type === "number") {
    one.value = among(Math.max(Number(one.min || -3), -3), Math.min(Number(one.max || 9), 8));
    tell("input");
  } else if (one.type === "range") {
    one.value = among(Number(one.min), Number(one.max));
    tell("input");
  } else if (one.tagName === "SELECT") {
    const open = [...one.options].filter((option) => option.value !== "image");
    one.value = open[Math.floor(how * open.length)].value;
    tell("change");
  } else one.click();
  return `${one.tagName} ${one.ariaLabel || one.labels?.[0]?.textContent || one.textContent} ${one.value ?? ""}`;
}"""


def equal(shown) -> bool:
    """Whether the lines that the page gives compute what it draws; False where either is not there in full."""
    page = shown.page
    page.get_by_role("tab", name="Forward").click()
    last = page.get_by_role("button", name="Last step")
    if last.is_disabled() or page.locator(".panel .note:visible, canvas.picture:visible").count():
        return False
    last.click()  # of a scatter, all stamps
    text = page.get_by_role("region", name="npconv lines").inner_text()
    now = shown.tensors()
    if "x = np.array" not in text or ("w" in now and "w = np.array" not in text):
        return False
    scope: dict = {}
    exec(text, scope)
    y = np.asarray(scope["y"])
    assert y.shape == now["y"].shape, text
    assert np.allclose(now["y"], y, rtol=0.06, atol=1e-3, equal_nan=True), text
    return True


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
def test_two_hundred_random_changes(look, seed):
    """Nothing breaks, and what is drawn stays what npconv computes."""
    rng = np.random.default_rng(seed)
    options = {"width": 360, "height": 640} if seed % 2 else {}
    shown = look(npconv.explore(), **options)
    story, compared = [], 0
    for i in range(200):
        story.append(shown.page.evaluate(_CHANGE, rng.random(2).tolist()))
        shown.page.keyboard.press("Escape")
        if i % 4 == 3:
            shown.settle()
            assert shown.complaints == [], story[-6:]
            assert shown.page.evaluate("document.documentElement.scrollWidth") <= options.get("width", 1280), story[-8:]
            try:
                compared += equal(shown)
            except AssertionError as error:
                raise AssertionError(f"after {story[-8:]}: {error}") from None
    assert compared > 1, story
