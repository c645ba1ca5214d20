"""The explorer's backward pass and its algorithms in a browser, by mouse and by keys, against npconv's numbers."""

from __future__ import annotations

import re

import numpy as np
import pytest

import npconv
from explorer_page import Hand, number


def drawn(seed: int, *shape: int) -> np.ndarray:
    """Whole numbers, which a cell shows in full."""
    return np.random.default_rng(seed).integers(-9, 10, shape).astype(np.float64)


def backward(shown, hand: Hand) -> None:
    """The backward view, from the tab of the forward one."""
    tab = shown.page.get_by_role("tab", name="Forward" if hand.keys else "Backward")
    hand.press(tab, "ArrowRight")


def checked(shown, cell: str) -> list[float]:
    """The gradient of a cell and the same by nudging, once they show."""
    check = shown.part("check")
    check.locator("dt", has_text=cell).wait_for()
    assert check.locator(".note").inner_text() == "They agree."
    return [number(text) for text in check.locator("dd").all_inner_texts()[:2]]


def test_gradients_of_a_convolution(look, reader, host):
    """Row 6: dX gathered and scattered, dW as a correlation of X with dY, db; a numeric check beside each."""
    x, w, b = drawn(1, 2, 5, 6), drawn(2, 2, 2, 3, 2), np.array([4.0, -7.0])
    options = {"stride": (2, 1), "padding": ((1, 1), (0, 1))}
    shown = look(npconv.explore(x, w, b, **options), host)
    hand, page = Hand(shown, reader), shown.page
    backward(shown, hand)
    now = shown.tensors()
    dy = now["dy"]
    assert dy.shape == npconv.conv(x, w, b, **options).shape
    dx, dw, db = npconv.conv_grads(dy, x, w, **options)
    assert len(np.unique(dy)) > 4
    assert np.array_equal(now["dx"], dx)
    hand.press(page.get_by_role("button", name="Step forward"))
    gradient, nudged = checked(shown, "dX[0, 0, 1]")
    assert gradient == dx[0, 0, 1] == pytest.approx(nudged, abs=1e-6)

    hand.write("dy", 1, 2, 0, 8)  # another loss
    dy[1, 2, 0] = 8
    dx, dw, db = npconv.conv_grads(dy, x, w, **options)
    now = shown.tensors()
    assert np.array_equal(now["dy"], dy)
    assert np.array_equal(now["dx"], dx)

    hand.check(page.get_by_role("radio", name="one source cell (scatter)"))
    hand.slide(page.get_by_role("slider", name="Step", exact=True), 9)
    early = np.where(np.arange(dy.size).reshape(dy.shape) <= 9, dy, 0)
    so_far = npconv.conv_input_grad(early, w, input_shape=x.shape, **options)
    assert np.array_equal(shown.tensors()["dx"], so_far), "ten cells of dY are scattered"
    assert np.any(so_far != dx)
    hand.press(page.get_by_role("button", name="Last step"))
    assert np.array_equal(shown.tensors()["dx"], dx)

    hand.check(page.get_by_role("radio", name="kernel: dW"))
    hand.check(page.get_by_role("radio", name="one result cell (gather)"))
    assert np.array_equal(shown.tensors()["dw"], dw)
    hand.slide(page.get_by_role("slider", name="Step", exact=True), 13)
    heard = shown.hears("Gradient dW output channel 1, input channel 0, row 0, column 1: ")
    assert number(re.search(r"sum (\S+)\.$", heard)[1]) == dw[1, 0, 0, 1]
    gradient, nudged = checked(shown, "dW[1, 0, 0, 1]")
    assert gradient == dw[1, 0, 0, 1] == pytest.approx(nudged, abs=1e-6)

    hand.check(page.get_by_role("radio", name="bias: db"))
    assert np.array_equal(shown.tensors()["db"], db)
    hand.press(page.get_by_role("button", name="Last step"))
    gradient, nudged = checked(shown, "db[1]")
    assert gradient == db[1] == pytest.approx(nudged, abs=1e-6)


def test_gradients_of_pools(look, reader, host):
    """Row 6: a maximum routes its gradient to the first largest cell, a mean spreads it evenly."""
    x = drawn(3, 2, 4, 6) // 3  # many ties
    shown = look(npconv.explore(x, operator="max_pool", kernel=(2, 3), stride=(1, 2)), host)
    hand, page = Hand(shown, reader), shown.page
    backward(shown, hand)
    now = shown.tensors()
    gradient = npconv.max_pool_grad(now["dy"], x, (2, 3), stride=(1, 2))
    assert np.array_equal(now["dx"], gradient)
    hand.check(page.get_by_role("radio", name="one source cell (scatter)"))
    hand.slide(page.get_by_role("slider", name="Step", exact=True), 4)
    shown.settle()
    o, row, column = np.unravel_index(4, now["dy"].shape)
    window = x[o, row : row + 2, 2 * column : 2 * column + 3]
    first = np.unravel_index(window.argmax(), window.shape)
    ringed = shown.part("x").locator("[role=gridcell].chosen")
    assert ringed.count() == 1
    assert ringed.get_attribute("aria-label").startswith(f"row {row + first[0]}, column {2 * column + first[1]}: ")
    hand.press(page.get_by_role("button", name="Last step"))
    assert np.array_equal(shown.tensors()["dx"], gradient)
    hand.choose(page.get_by_label("Operation", exact=True), "average pooling")
    hand.number(page.get_by_role("spinbutton", name="Window height", exact=True), 1)
    hand.number(page.get_by_role("spinbutton", name="Window width", exact=True), 2)
    hand.press(page.get_by_role("button", name="Last step"))
    now = shown.tensors()
    assert np.array_equal(now["dx"], npconv.avg_pool_grad(now["dy"], x.shape, (1, 2), stride=(1, 2)))


def test_five_algorithms_side_by_side(look, reader, host):
    """Row 7: each algorithm's multiplications, memory and time, its steps, and the output that it arrives at."""
    x, w = drawn(4, 2, 6, 6), drawn(5, 2, 2, 3, 3)
    shown = look(npconv.explore(x, w, padding=1), host)
    hand, page = Hand(shown, reader), shown.page
    tab = page.get_by_role("tab", name="Backward" if hand.keys else "Algorithms")
    if hand.keys:
        backward(shown, hand)
    hand.press(tab, "ArrowRight")
    if host == "page":
        hand.press(page.get_by_role("button", name="Time them"))
        page.get_by_text("Just measured, on this machine.").wait_for()
    else:
        page.get_by_text(re.compile(r"^Recorded on .+, \d{4}-\d\d-\d\d\.$")).wait_for()
    rows = page.locator("table.costs tbody tr")
    names = rows.locator("th").all_inner_texts()
    assert [name.split(":")[0] for name in names] == ["Loops", "Direct", "im2col", "Fourier", "Winograd"]
    products = [number(text) for text in rows.locator("td:nth-of-type(1) .bar-words").all_inner_texts()]
    definition = 2 * 2 * 36 * 9
    assert products[:3] == [definition] * 3
    assert products[4] < definition
    times = rows.locator("td.time").all_inner_texts()
    assert all(re.fullmatch(r"[\d.]+ (ns|µs|ms|s)", text) for text in times), times
    y = npconv.conv(x, w, padding=1)
    for name in names:
        hand.check(page.get_by_role("radio", name=name))
        hand.press(page.get_by_role("button", name="First step"))
        assert shown.tensors()["y"].shape == y.shape
        hand.press(page.get_by_role("button", name="Last step"))
        assert np.allclose(shown.tensors()["y"], y, rtol=0, atol=1e-9), name
        assert "1 of" not in shown.root.locator(".scrub").get_attribute("aria-valuetext")
