"""The explorer's forward pass in a browser: by mouse and by keys, as a file and as a local page, with npconv's numbers."""

from __future__ import annotations

import numpy as np
import pytest

import npconv
from explorer_page import Hand, number


def drawn(seed: int, *shape: int) -> np.ndarray:
    """Whole numbers, which a cell shows in full."""
    return np.random.default_rng(seed).integers(-9, 10, shape).astype(np.float64)


@pytest.fixture
def two_channels():
    """Every part of a convolution at once: two channels, a bias, a stride and one-sided padding."""
    x, w, b = drawn(1, 2, 5, 6), drawn(2, 2, 2, 3, 2), np.array([4.0, -7.0])
    options = {"stride": (2, 1), "padding": ((1, 1), (0, 1))}
    return x, w, b, options, npconv.conv(x, w, b, **options)


def matrices(look) -> list[list[float]]:
    """The small matrices of the lens, in order."""
    texts = (
        look.part("lens")
        .locator(".mini:visible")
        .evaluate_all(
            "all => all.map((one) => [...one.querySelectorAll('.mini-cells > span')].map((cell) => cell.textContent))"
        )
    )
    return [[number(text) for text in matrix] for matrix in texts]


def test_a_cell_is_made_of_window_kernel_products_sums_and_bias(look, reader, host, two_channels):
    """Row 1: each output cell's window, kernel, products, per-channel sums and bias."""
    x, w, b, options, y = two_channels
    shown = look(npconv.explore(x, w, b, **options), host)
    hand = Hand(shown, reader)
    assert np.array_equal(shown.tensors()["y"], y)
    for _ in range(8):
        hand.press(shown.page.get_by_role("button", name="Step forward"))
    lens = shown.part("lens")
    index = np.unravel_index(8, y.shape)
    lens.get_by_role("heading", name=f"Y[{', '.join(map(str, index))}]").wait_for()
    o, row, column = index
    padded = np.pad(x, ((0, 0), (1, 1), (0, 1)))
    expected, sums = [], []
    for c in range(2):
        window = padded[c, 2 * row : 2 * row + 3, column : column + 2]
        sums.append((window * w[o, c]).sum())
        expected += [window.ravel().tolist(), w[o, c].ravel().tolist(), (window * w[o, c]).ravel().tolist()]
    assert matrices(shown) == expected
    assert [number(text.removeprefix("sum ")) for text in lens.locator(".sum:visible").all_text_contents()] == sums
    said = lens.locator(".total").inner_text()
    assert number(said.rpartition("= ")[2]) == y[index]
    assert number(said.partition("bias ")[2].partition(" =")[0]) == b[o]
    heard = shown.hears(f"Output channel {o}, row {row}, column {column}: ")
    assert number(heard.rpartition("result ")[2].rstrip(".")) == y[index]


def test_stepping_back_scrubbing_speed_playing_and_a_pin(look, reader, host, two_channels):
    """Row 2: the time step goes forwards and backwards, by steps, by a slider and by itself."""
    x, w, b, options, y = two_channels
    shown = look(npconv.explore(x, w, b, **options), host)
    hand, page = Hand(shown, reader), shown.page
    place = shown.root.locator(".player .place")

    def at() -> int:
        return int(place.inner_text().split("/")[0])

    hand.slide(page.get_by_role("slider", name="Step", exact=True), 20)
    assert at() == 21
    hand.press(page.get_by_role("button", name="Step back"))
    assert at() == 20
    hand.press(page.get_by_role("button", name="Last step"))
    assert at() == y.size
    hand.press(page.get_by_role("button", name="First step"))
    assert at() == 1
    hand.slide(page.get_by_role("slider", name="Speed"), 7)
    assert "60" in shown.root.locator(".player .pace").inner_text()
    hand.slide(page.get_by_role("slider", name="Speed"), 5)
    hand.press(page.get_by_role("button", name="Play", exact=True))
    page.wait_for_function("(node) => Number(node.textContent.split('/')[0]) > 4", arg=place.element_handle())
    hand.press(page.get_by_role("button", name="Pause"))
    stopped = at()
    page.wait_for_timeout(150)
    assert at() == stopped < y.size
    hand.pick("y", 1, 1, 2)
    assert at() == 1 * y[0].size + 1 * y.shape[2] + 2 + 1
    hand.point("x", 0, 0, 0)  # a pinned cell stays in the lens when the cursor goes elsewhere
    shown.part("lens").get_by_role("heading", name="Y[1, 1, 2]").wait_for()


def meeting(x, w, y, tensor: str, chosen: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Which cells meet one cell, by the definition, product by product."""
    meets = {"x": np.zeros(x.shape), "w": np.zeros(w.shape), "y": np.zeros(y.shape)}
    for o, i, j in np.ndindex(y.shape):
        for c, u, v in np.ndindex(w.shape[1:]):
            cells = {"x": (c, 2 * i + u - 1, j + v), "w": (o, c, u, v), "y": (o, i, j)}
            inside = 0 <= cells["x"][1] < x.shape[1] and 0 <= cells["x"][2] < x.shape[2]
            if cells[tensor] == chosen and (inside or tensor == "y"):
                for name, cell in cells.items():
                    if inside or name == "w":  # of an output, the weights over padding too
                        meets[name][cell] = 1
    return meets


def test_pointing_at_a_cell_lights_up_all_that_meet_it(look, reader, host, two_channels):
    """Row 3: from the input to the output, from the output to the input, from a weight to both."""
    x, w, b, options, y = two_channels
    shown = look(npconv.explore(x, w, b, **options), host)
    hand = Hand(shown, reader)
    for tensor, plane, cell in [("x", 1, (1, 2, 3)), ("w", 2, (1, 0, 1, 0)), ("y", 1, (1, 2, 4))]:
        hand.point(tensor, plane, *cell[-2:])
        shown.settle()
        for name, expected in meeting(x, w, y, tensor, cell).items():
            if name != tensor:
                cells = shown.part(name).locator("[role=gridcell]")
                kind = "now" if tensor == "y" else "link"
                marks = cells.evaluate_all(
                    "(all, kind) => all.map((one) => Number(one.classList.contains(kind)))", kind
                )
                assert np.array_equal(np.reshape(marks, expected.shape), expected), (tensor, name)


def test_from_the_whole_picture_to_one_product(look, reader, host):
    """Rows 1 and 4: 64 x 64 as pixels, each with its number; nearer and nearer, to one product and the sum so far."""
    x, w = drawn(9, 64, 64), drawn(10, 3, 3)
    y = npconv.conv(x[None], w[None, None])[0]
    shown = look(npconv.explore(x, w), host)
    hand, page = Hand(shown, reader), shown.page
    lens = shown.part("lens")
    hand.check(page.get_by_role("radio", name="Tensors"))
    lens.wait_for(state="hidden")
    hand.check(page.get_by_role("radio", name="Cell"))
    hand.point("y", 0, 5, 7)
    shown.part("y").get_by_role("gridcell").wait_for()
    heard = shown.hears("Output channel 0, row 5, column 7: 9 products, sum ")
    assert number(heard.rpartition("sum ")[2].rstrip(".")) == y[5, 7]
    assert matrices(shown)[0] == x[5:8, 7:10].ravel().tolist()
    hand.pick("y", 0, 5, 7)
    hand.check(page.get_by_role("radio", name="Arithmetic"))
    running, products = lens.locator(".running"), (x[5:8, 7:10] * w).ravel()
    for step in range(3):
        said = running.inner_text()
        assert said.startswith(f"Product {step + 1} of 9: ")
        assert number(said.partition("= ")[2].partition(";")[0]) == products[step]
        assert number(said.rpartition("is ")[2].rstrip(".")) == products[: step + 1].sum()
        hand.press(page.get_by_role("button", name="Step forward"))
        shown.settle()


def test_every_size_follows_its_setting(look, reader, host):
    """Row 4: stride, padding of each side and of every kind, dilation, and the sizes of kernel and input."""
    shown = look(npconv.explore(drawn(3, 9, 8), drawn(4, 3, 3)), host)
    hand, page = Hand(shown, reader), shown.page

    def equals(**options) -> None:
        now = shown.tensors()
        assert np.array_equal(now["y"], npconv.conv(now["x"], now["w"], **options))

    def field(name: str):
        return page.get_by_role("spinbutton", name=name, exact=True)

    hand.number(field("Stride height"), 2)
    equals(stride=(2, 1))
    hand.number(field("Dilation width"), 2)
    equals(stride=(2, 1), dilation=(1, 2))
    hand.number(field("Kernel height"), 2)
    hand.number(field("Input width"), 10)
    sizes = {name: one.shape for name, one in shown.tensors().items()}
    assert sizes == {"x": (1, 9, 10), "w": (1, 1, 2, 3), "y": (1, 4, 6)}
    equals(stride=(2, 1), dilation=(1, 2))
    padding = page.get_by_label("Padding", exact=True)
    for words, name in [("same", "same"), ("same, odd one first", "same_lower"), ("full", "full")]:
        hand.choose(padding, words)
        equals(stride=(2, 1), dilation=(1, 2), padding=name)
    hand.choose(padding, "each side")
    for side, value in [("top", 1), ("bottom", 0), ("left", 3), ("right", 2)]:
        hand.number(field(f"Padding {side}"), value)
    pads = ((1, 0), (3, 2))
    for words, mode in [
        ("reflection, edge once", "reflect"),
        ("reflection, edge twice", "symmetric"),
        ("the edge's value", "replicate"),
        ("the other end", "circular"),
    ]:
        hand.choose(page.get_by_label("Padding holds"), words)
        equals(stride=(2, 1), dilation=(1, 2), padding=pads, padding_mode=mode)
    hand.choose(page.get_by_label("Padding holds"), "a constant")
    hand.number(field("Padding value"), 4)
    equals(stride=(2, 1), dilation=(1, 2), padding=pads, padding_mode="constant", padding_value=4)


def test_groups_transposed_one_axis_and_true_convolution(look, reader, host):
    """Row 5: from standard to depthwise by a slider, and the other forms."""
    x, w = drawn(5, 4, 5, 5), drawn(6, 4, 4, 3, 3)
    shown = look(npconv.explore(x, w), host)
    hand, page = Hand(shown, reader), shown.page
    for stop, groups, word in [(1, 2, "2 groups: grouped"), (2, 4, "4 groups: depthwise")]:
        hand.slide(page.get_by_role("slider", name="Groups"), stop)
        page.get_by_text(word, exact=True).wait_for()
        now = shown.tensors()
        assert now["w"].shape == (4, 4 // groups, 3, 3)
        assert np.array_equal(now["y"], npconv.conv(x, now["w"], groups=groups))
    hand.check(page.get_by_role("checkbox", name="Flip the kernel"))
    assert np.array_equal(shown.tensors()["y"], npconv.conv(x, now["w"], groups=4, flip=True))
    hand.check(page.get_by_role("checkbox", name="Flip the kernel"))
    hand.choose(page.get_by_label("Operation", exact=True), "transposed convolution")
    hand.number(page.get_by_role("spinbutton", name="Stride width", exact=True), 2)
    hand.press(page.get_by_role("button", name="Last step"))  # the stamps of all cells, added up
    now = shown.tensors()
    assert np.array_equal(now["y"], npconv.conv_transpose(x, now["w"], stride=(1, 2), groups=4))
    hand.choose(page.get_by_label("Operation", exact=True), "convolution")
    hand.check(page.get_by_role("radio", name="1-D"))
    hand.choose(page.get_by_label("Padding", exact=True), "causal")
    stride = int(page.get_by_role("spinbutton", name="Stride length").input_value())
    now = shown.tensors()
    assert now["x"].ndim == 2
    options = {"stride": stride, "groups": len(now["x"]) // now["w"].shape[1], "padding": "causal"}
    assert np.array_equal(now["y"], npconv.conv(now["x"], now["w"], **options))


def test_the_formula_and_the_lines_compute_what_is_shown(look, reader, host, two_channels):
    """Row 11: the formula has this cell's numbers; the lines, copied and run, give npconv's output."""
    torch = pytest.importorskip("torch", reason="the page shows PyTorch's lines too")
    x, w, b, options, y = two_channels
    shown = look(npconv.explore(x, w, b, **options), host)
    hand, page = Hand(shown, reader), shown.page
    hand.press(page.get_by_role("button", name="Last step"))
    formula = page.get_by_role("region", name="Formula").inner_text()
    assert number(formula.rpartition("=")[2]) == y[-1, -1, -1]
    for name in ("npconv", "PyTorch"):
        hand.press(page.get_by_role("button", name=f"Copy the {name} lines"))
        page.get_by_text("Copied.").first.wait_for()
        scope: dict = {}
        exec(page.evaluate("navigator.clipboard.readText()"), scope)
        result = scope["y"].numpy() if isinstance(scope["y"], torch.Tensor) else scope["y"]
        assert np.array_equal(np.reshape(result, y.shape), y), name


def test_sizes_are_explained_and_so_is_why_there_is_none(look, reader, host):
    """Row 12: the size equation with its numbers; an impossible size says which equation breaks, and a way out."""
    shown = look(npconv.explore(drawn(7, 7, 8), drawn(8, 3, 3), stride=2), host)
    hand, page = Hand(shown, reader), shown.page
    equations = shown.root.locator(".equations li").all_inner_texts()
    assert ["7" in equations[0], "8" in equations[1]] == [True, True]
    assert [text.rstrip(".").split()[-1] for text in equations] == ["3", "3"]
    hand.number(page.get_by_role("spinbutton", name="Dilation height", exact=True), 4)
    verdict = shown.root.locator(".verdict")
    assert verdict.inner_text().startswith("No output: ")
    assert "9" in verdict.inner_text(), "the kernel reaches over 9 rows, and there are 7"
    assert shown.root.locator(".refusal").is_visible()
    hand.number(page.get_by_role("spinbutton", name="Dilation height", exact=True), 3)
    assert shown.part("y").locator(".size").inner_text() == "1 × 1 × 3"
