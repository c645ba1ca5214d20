"""`npconv features`: the maps are the model's, the pictures are there, hostile names stay outside."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("click", reason="the command needs the extra `cli`")
pytest.importorskip("matplotlib", reason="the pictures need the extra `plot`")
Image = pytest.importorskip("PIL.Image", reason="pictures are read with Pillow (the extra `plot`)")

from click.testing import CliRunner  # noqa: E402

import npconv  # noqa: E402
from npconv import nn  # noqa: E402
from npconv.cli import activations, main  # noqa: E402
from npconv.nn import models  # noqa: E402

HEADER = '<ir_version: 8, opset_import: ["": 17]>\n'


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def picture(*shape: int, name: str = "p.png") -> str:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(name)
    return name


def run(*arguments: object):
    return CliRunner().invoke(main, ["features", *map(str, arguments)])


def told(*arguments: object) -> dict:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_recorded_is_what_the_layers_give():
    """Every innermost layer, inside containers too, and the model is left as it was."""
    rng = np.random.default_rng(0)
    model = nn.Sequential(
        conv=nn.Conv(2, 4, 3, rng=rng),
        norm=nn.BatchNorm(4),
        both=nn.Residual(nn.Sequential(inner=nn.Conv(4, 4, 3, padding=1, rng=rng), relu=nn.ReLU())),
        drop=nn.Dropout(0.5, rng=rng),
        pool=nn.MaxPool(2),
    )
    x = rng.standard_normal((1, 2, 9, 8)).astype(np.float32)
    maps, kinds = activations.recorded(model, x)
    weights = model.weights()
    conv = npconv.conv(x, weights["conv.weight"]) + weights["conv.bias"][:, None, None]
    np.testing.assert_allclose(maps["conv"], conv, rtol=1e-5, atol=1e-5)
    inner = npconv.conv(maps["norm"], weights["both.body.inner.weight"], padding=1)
    inner = inner + weights["both.body.inner.bias"][:, None, None]
    np.testing.assert_allclose(maps["both.body.relu"], np.maximum(inner, 0), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(maps["pool"], model(x))
    assert kinds["both.body.inner"] == "Conv"
    assert set(maps) == {path for path, layer in model.walk() if not layer.children}
    assert all("forward" not in vars(layer) for _, layer in model.walk())


def test_random_layers():
    found = told(picture(20, 30, 3), "--depth", 2, "--out", "maps.png")
    assert [(one["name"], one["shape"]) for one in found["layers"]] == [
        ("input", [3, 20, 30]),
        ("conv1", [8, 20, 30]),
        ("relu1", [8, 20, 30]),
        ("conv2", [8, 20, 30]),
        ("relu2", [8, 20, 30]),
    ]
    assert found["files"] == ["maps.png"]
    assert found["layers"][1]["min"] < 0 == found["layers"][2]["min"]
    with Image.open("maps.png") as drawn:
        assert drawn.width > 600


def test_the_table_and_a_folder():
    result = run(picture(20, 30, 3), "--depth", 1, "--maps", 2, "--out", "maps")
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["layer", "kind", "maps", "size", "least", "most"]
    assert lines[2].split()[:6] == ["conv1", "Conv", "8", "20", "×", "30"]
    assert lines[-1] == "3 files in maps"
    assert sorted(path.name for path in Path("maps").iterdir()) == ["00-input.png", "01-conv1.png", "02-relu1.png"]
    again = run("p.png", "--depth", 1, "--out", "maps")
    assert again.exit_code == 1
    assert "exists; --force replaces it" in again.stderr
    assert run("p.png", "--depth", 1, "--out", "maps", "--force").exit_code == 0


def test_seed():
    picture(12, 12, 3)
    how = ("--depth", 1, "--maps", 1)
    first, same, other = (
        told("p.png", *how, "--seed", seed, "--out", f"{i}.png")["layers"] for i, seed in enumerate((3, 3, 4))
    )
    assert first == same
    assert first[1]["max"] != other[1]["max"]


def test_a_network_by_name_with_its_weights():
    model = models.lenet5(rng=5)
    nn.save_weights("w.npz", model)
    picture(28, 28)
    found = told("p.png", "--model", "lenet5", "--weights", "w.npz", "--layers", "conv*,pool2", "--out", "maps.png")
    x = np.asarray(Image.open("p.png"), np.float32)[None, None] / 255
    layers = {one["name"]: one for one in found["layers"]}
    assert layers["conv1"]["max"] == pytest.approx(float(model["conv1"](x).max()), rel=1e-5)
    assert layers["pool2"]["shape"] == [16, 5, 5]
    assert [name for name, one in layers.items() if one["drawn"]] == ["conv1", "conv2", "pool2"]
    assert "dense" not in " ".join(layers)


def test_the_model_of_npconv_train():
    pytest.importorskip("sklearn", reason="the demo needs the extra `demo`")
    pytest.importorskip("skimage", reason="the demo needs the extra `demo`")
    from npconv.demo.training import network

    model = network(10, np.random.default_rng(0))
    nn.save_weights("model.npz", model)
    found = told(picture(8, 8), "--model", "model.npz", "--out", "maps.png")
    assert [one["shape"] for one in found["layers"]][:2] == [[1, 8, 8], [24, 8, 8]]
    assert "conv3" in {one["name"] for one in found["layers"]}


def test_of_many_layers_a_dozen_is_drawn():
    result = run(picture(64, 64, 3), "--model", "resnet18", "--size", 64, "--maps", 1, "--out", "maps.png")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[-1] == f"maps.png; 12 of {len(lines) - 2} drawn, --layers names others"
    assert max(map(len, lines)) <= 80


def test_onnx_every_value():
    onnx = pytest.importorskip("onnx", reason="the models are onnx's (the extra `onnx`)")
    text = "f (float[N, 1, H, W] image) => (float[N, 1, H2, W2] strength) <float[1, 1, 1, 2] w = {1.0, -1.0}>"
    proto = onnx.parser.parse_model(HEADER + text + "{ change = Conv(image, w)  strength = Relu(change) }")
    onnx.save(proto, "m.onnx")
    found = told(picture(6, 9), "--model", "m.onnx", "--out", "maps.png")
    pixels = np.asarray(Image.open("p.png"), np.float64) / 255
    change = pixels[:, :-1] - pixels[:, 1:]
    named = {one["name"]: one for one in found["layers"]}
    assert list(named) == ["input", "change", "strength"]
    assert named["change"]["shape"] == [1, 6, 8]
    assert named["change"]["min"] == pytest.approx(change.min(), abs=1e-6)
    assert named["strength"]["min"] == 0
    found = told("p.png", "--model", "m.onnx", "--size", "4,5", "--out", "small.png")
    assert found["input_shape"] == [1, 1, 4, 5]


def test_onnx_with_the_channels_last():
    onnx = pytest.importorskip("onnx", reason="the models are onnx's (the extra `onnx`)")
    text = "f (float[1, 5, 7, 3] image) => (float[1, 3, 5, 7] y) { y = Transpose<perm = [0, 3, 1, 2]>(image) }"
    onnx.save(onnx.parser.parse_model(HEADER + text), "m.onnx")
    found = told(picture(5, 7, 3), "--model", "m.onnx", "--out", "maps.png")
    assert [(one["name"], one["shape"]) for one in found["layers"]] == [("input", [3, 5, 7]), ("y", [3, 5, 7])]


def test_a_large_photograph_is_made_smaller():
    found = told(picture(100, 1300, 3), "--depth", 1, "--out", "maps.png")
    assert found["input_shape"] == [1, 3, 49, 640]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "Missing argument 'IMAGE'"),
        (["none.png", "--out", "o.png"], 1, "none.png: No such file or directory"),
        (["text.png", "--out", "o.png"], 1, "text.png cannot be read as PNG or JPEG"),
        (["p.png", "--out", "o.jpg"], 2, "o.jpg is none of the kinds that are written: .png"),
        (["p.png", "--out", "p.png"], 1, "p.png exists; --force replaces it"),
        (["p.png", "--out", "o.png", "--model", "resnet"], 2, "'resnet' is no .onnx, no .npz and none of densenet121"),
        (["p.png", "--out", "o.png", "--model", "lenet5", "--depth", "2"], 2, "--depth is for random layers"),
        (["p.png", "--out", "o.png", "--weights", "p.png"], 2, "--weights is for a network by name"),
        (["p.png", "--out", "o.png", "--model", "lenet5", "--weights", "p.png"], 1, "does not end in a format's"),
        (["p.png", "--out", "o.png", "--model", "none.npz"], 1, "none.npz: No such file or directory"),
        (["p.png", "--out", "o.png", "--model", "other.npz"], 1, "is no model of npconv train; say which network"),
        (["p.png", "--out", "o.png", "--size", "1,2,3"], 2, "--size is one number or two"),
        (["p.png", "--out", "o.png", "--size", "0"], 2, "--size is one number or two"),
        (["p.png", "--out", "o.png", "--size", "9000"], 1, "pictures of 9000 x 9000 pixels"),
        (
            ["p.png", "--out", "o.png", "--layers", "conv9"],
            1,
            "--layers conv9: there is no such layer; there are input",
        ),
        (["p.png", "--out", "o.png", "--model", "lenet5", "--size", "9"], 1, "layer "),
    ],
)
def test_errors_are_one_line(arguments, code, message):
    picture(9, 9, 3)
    Path("text.png").write_text("no picture")
    np.savez("other.npz", a=np.ones(3, np.float32))
    before = {path.name for path in Path().iterdir()}
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert result.stderr.startswith("npconv: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert {path.name for path in Path().iterdir()} == before
