"""One's own numbers, picture and model in the explorer's page, by mouse and by keys."""

from __future__ import annotations

import io

import numpy as np
import pytest

import npconv
from explorer_page import Hand, number
from npconv import nn
from npconv.image_kernels import sobel


def drawn(seed: int, *shape: int) -> np.ndarray:
    """Whole numbers, which a cell shows in full."""
    return np.random.default_rng(seed).integers(-9, 10, shape).astype(np.float64)


def test_every_cell_of_input_and_kernel_can_be_changed(look, reader, host):
    """Row 8: type into a cell, paint over cells, take a preset; the output follows."""
    x, w = drawn(1, 1, 5, 6), drawn(2, 1, 1, 2, 3)
    shown = look(npconv.explore(x, w), host)
    hand, page = Hand(shown, reader), shown.page
    for name, array, plane, row, column, value in [("x", x, 0, 2, 3, -7.0), ("w", w, 0, 1, 0, 4.0)]:
        hand.write(name, plane, row, column, value)
        array.reshape(-1, *array.shape[-2:])[plane, row, column] = value
        now = shown.tensors()
        assert np.array_equal(now[name], array)
        assert np.array_equal(now["y"], npconv.conv(x, w))
    hand.number(page.get_by_role("spinbutton", name="Brush"), 8)
    hand.check(page.get_by_role("checkbox", name="Paint by dragging"))
    for column in range(1, 4):
        hand.point("x", 0, 4, column)
        if hand.keys:
            page.keyboard.press("Space")
        elif column == 1:
            page.mouse.down()
    page.mouse.up()
    x[0, 4, 1:4] = 8
    now = shown.tensors()
    assert np.array_equal(now["x"], x)
    assert np.array_equal(now["y"], npconv.conv(x, w))
    hand.check(page.get_by_role("checkbox", name="Paint by dragging"))
    hand.choose(page.get_by_label("Preset kernel"), "Sobel y: horizontal edges")
    hand.choose(page.get_by_label("Picture"), "checkerboard")
    now = shown.tensors()
    assert np.array_equal(now["w"][0, 0], sobel("y"))
    assert set(np.unique(now["x"])) == {0, 9}
    assert np.array_equal(now["y"], npconv.conv(now["x"], now["w"]))


def test_a_picture_of_ones_own_by_file_and_by_drop_or_paste(look, reader, host):
    """Row 9: a picture becomes the input, pixel by pixel; `look` sees that it goes nowhere."""
    pictures = pytest.importorskip("PIL.Image", reason="Pillow writes the pictures of this test")
    rng = np.random.default_rng(3)
    first, second = (rng.integers(0, 256, (16, 16, 3)).astype(np.uint8) for _ in range(2))

    def png(pixels: np.ndarray) -> bytes:
        file = io.BytesIO()
        pictures.fromarray(pixels).save(file, "png")
        return file.getvalue()

    shown = look(npconv.explore(np.zeros((3, 16, 16)), np.ones((1, 3, 1, 1))), host)
    hand, page = Hand(shown, reader), shown.page

    def is_input(pixels: np.ndarray) -> None:
        page.get_by_text("The picture is now the input: 32 × 32, red, green and blue.").wait_for()
        for name in ("Input height", "Input width"):  # small enough for numbers
            hand.number(page.get_by_role("spinbutton", name=name), 16)
        now = shown.tensors()
        assert np.array_equal(now["x"], np.moveaxis(pixels, -1, 0))
        assert np.array_equal(now["y"], npconv.conv(now["x"], now["w"]))

    with page.expect_file_chooser() as waiting:
        hand.press(page.get_by_role("button", name="Own image"))
    waiting.value.set_files([{"name": "own.png", "mimeType": "image/png", "buffer": png(first)}])
    is_input(first)
    page.get_by_role("status").get_by_text("The picture is now").evaluate("(node) => { node.textContent = ''; }")
    if hand.keys:
        page.evaluate(
            """async (bytes) => {
              const file = new Blob([Uint8Array.from(bytes)], { type: "image/png" });
              await navigator.clipboard.write([new ClipboardItem({ "image/png": file })]);
            }""",
            list(png(second)),
        )
        page.keyboard.press("Control+V")
    else:
        transfer = page.evaluate_handle(
            """(bytes) => {
              const transfer = new DataTransfer();
              transfer.items.add(new File([Uint8Array.from(bytes)], "own.png", { type: "image/png" }));
              return transfer;
            }""",
            list(png(second)),
        )
        for event in ("dragenter", "dragover", "drop"):
            shown.part("x").dispatch_event(event, {"dataTransfer": transfer})
    is_input(second)


@pytest.fixture(scope="module")
def network():
    """Whole numbers in and out, and every kind of step."""
    model = nn.Sequential(
        nn.Conv(1, 2, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool(2),
        nn.Conv(2, 3, 2, stride=2),
        nn.Flatten(),
        nn.Linear(12, 4),
    )
    rng = np.random.default_rng(4)
    for array in model.parameters().values():
        array[...] = rng.integers(-2, 3, array.shape)
    return model, rng.integers(-3, 4, (1, 1, 8, 8)).astype(np.float32)


def test_a_model_of_npconv_layer_by_layer(look, reader, host, network):
    """Rows 10 and 18: activations and gradients of every layer, a table of costs, and a layer opened number by number."""
    model, x = network
    labels = ["cat", "dog", "owl", "fox"]
    shown = look(npconv.explore(model, x, labels=labels, target=2), host)
    hand, page = Hand(shown, reader), shown.page
    scores = model(x)[0]
    best = page.get_by_role("list", name="largest scores").locator("li").all_inner_texts()
    assert [text.split(": ")[0] for text in best] == [labels[i] for i in np.argsort(-scores, kind="stable")]
    assert [number(text.split(": ")[1]) for text in best] == sorted(scores, reverse=True)

    table = page.get_by_role("region", name="layer table").locator("tbody tr")
    for row, expected in zip(table.all(), nn.summary(model, x.shape).rows, strict=True):
        kind, shape, parameters, macs, _, _, sees, step = row.locator("td").all_inner_texts()
        assert kind == expected.kind
        assert tuple(int(n) for n in shape.split(" × ")) == expected.out_shape[1:]
        assert (number(parameters or "0"), number(macs or "0")) == (expected.parameters, expected.macs)
        assert [number(sees), number(step)] == [expected.field[0], expected.step[0]]
    hand.press(table.nth(3).get_by_role("button"))
    assert page.evaluate("document.activeElement.textContent") == "3"

    strip = page.get_by_role("group", name="3 activation")
    hidden, saved = nn.Sequential(*list(model.children.values())[:3]).forward(x)
    y = model["3"](hidden)
    maps = strip.locator(".walk-map").evaluate_all("all => all.map((one) => one.getAttribute('aria-label'))")
    ranges = [text.rpartition("from ")[2].split(" to ") for text in maps]
    step = (y.max() - y.min()) / 255  # maps have 256 levels
    assert np.allclose([[number(n) for n in pair] for pair in ranges], [[c.min(), c.max()] for c in y[0]], atol=step)
    hand.check(page.get_by_role("radio", name="Gradients", exact=True))
    page.get_by_role("group", name="3 gradient of owl (output 2)").wait_for()

    hand.press(page.get_by_role("button", name="Open 3 number by number"))
    page.get_by_role("tab", name="Forward", selected=True).wait_for()
    now = shown.tensors()
    assert np.array_equal(now["x"], hidden[0])
    assert np.array_equal(now["y"], y[0])
    hand.press(page.get_by_role("tab", name="Forward" if hand.keys else "Backward"), "ArrowRight")
    rest = nn.Sequential(*list(model.children.values())[4:])
    _, saved = rest.forward(y)
    dy, _ = rest.backward(np.eye(4, dtype=np.float32)[[2]], saved)
    now = shown.tensors()
    assert np.array_equal(now["dy"], dy[0])
    assert np.array_equal(
        now["dx"], npconv.conv_input_grad(dy, model["3"].params["weight"], input_shape=hidden.shape, stride=2)[0]
    )


def test_an_onnx_model_from_a_map_to_its_arithmetic(look, reader, host):
    """Row 10: a model of another framework; a press on a map opens the layer there."""
    helper = pytest.importorskip("onnx.helper", reason="the model of this test is made by onnx")
    from onnx import TensorProto, numpy_helper

    w, x = drawn(5, 3, 1, 3, 3).astype(np.float32), drawn(6, 1, 1, 9, 9).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["seen"], "edges", pads=[1, 1, 1, 1], strides=[2, 2]),
            helper.make_node("Relu", ["seen"], ["y"], "light"),
        ],
        "eyes",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 3, 5, 5))],
        [numpy_helper.from_array(w, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    shown = look(npconv.explore(model.SerializeToString(), x), host)
    hand, page = Hand(shown, reader), shown.page
    maps = page.get_by_role("group", name="edges activation").locator(".walk-map")
    if hand.keys:
        hand.reach(maps.first)
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        assert "channel 2 of 3" in page.evaluate("document.activeElement.getAttribute('aria-label')")
        page.keyboard.press("Enter")
    else:
        maps.nth(2).click()
    page.get_by_role("tab", name="Forward", selected=True).wait_for()
    y = npconv.conv(x[0], w, padding=1, stride=2)
    now = shown.tensors()
    assert now["y"].shape[1:] == (5, 5)
    assert any(np.array_equal(plane, y[2]) for plane in now["y"])
    hand.press(page.get_by_role("button", name="← Model"))
    page.get_by_role("group", name="light activation").wait_for()
