"""Models in the explorer: what is shown of a layer is what the layer computed, and a piece of it computes the same."""

import base64
import json

import numpy as np
import pytest

import npconv
from npconv import nn
from npconv.explorer.crops import MOST_IN, MOST_OUT, SIDE, Site, crop
from npconv.explorer.maps import maps
from npconv.explorer.page import html
from npconv.explorer.walk import MOST_MAP_DATA, MOST_PROBLEM_DATA, Step, Walk
from npconv.explorer.walk_layers import walk_layers
from npconv.explorer.wire import ProblemError, read_problem
from npconv.nn import models

RNG = np.random.default_rng(3)


def drawn(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def numbers(array: dict) -> np.ndarray:
    return np.array(array["data"], np.float64).reshape(array["shape"])


def biased(model: nn.Sequential) -> nn.Sequential:
    """Every bias another number: they start at zero."""
    for name, a in model.parameters().items():
        if name.endswith("bias"):
            a[...] = np.arange(1, len(a) + 1)
    return model


def mixed() -> nn.Sequential:
    """Every kind of layer that slides, with what can go wrong at their borders."""
    last = {"layout": "channels_last"}
    layers = nn.Sequential(
        nn.Conv(2, 4, (5, 3), stride=(2, 1), padding=((1, 2), (0, 3)), dilation=(1, 2), rng=0, **last),
        nn.ReLU(),
        nn.MaxPool(3, stride=2, padding=1, ceil_mode=True, **last),
        nn.AvgPool(3, stride=2, padding=1, ceil_mode=True, **last),
        nn.AvgPool(2, stride=1, padding=1, count_include_pad=False, **last),
        nn.ConvTranspose(4, 6, 4, stride=3, padding=1, output_padding=1, groups=2, rng=1, **last),
        nn.ConvTranspose(6, 3, 2, stride=3, rng=1, **last),
        nn.Conv(3, 3, 3, padding="same", padding_mode="reflect", rng=2, **last),
        nn.Conv(3, 9, 3, groups=3, padding=(-1, 2), rng=2, **last),
        nn.Conv(9, 12, 3, padding="full", padding_mode="circular", rng=3, **last),
        nn.Conv(12, 12, 3, stride=3, groups=2, padding=2, rng=3, **last),
    )
    return biased(layers)


def signal() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv(1, 4, (5,), padding="causal", rng=0),
        nn.AvgPool((4,), stride=3, padding=2, count_include_pad=False, ceil_mode=True),
        nn.Conv(4, 12, (3,), groups=4, padding="same", rng=3),
        nn.ConvTranspose(12, 2, (5,), stride=2, dilation=2, rng=4),
    )


WALKS = {
    "mixed": lambda: walk_layers(mixed(), drawn(1, 61, 50, 2)),
    "signal": lambda: walk_layers(signal(), drawn(1, 1, 61)),
    "lenet5": lambda: walk_layers(biased(models.lenet5(rng=0)), drawn(1, 1, 28, 28)),
    "unet": lambda: walk_layers(models.unet(depth=2, width=6, rng=0), drawn(1, 3, 32, 24)),
}
_made: dict[str, Walk] = {}


@pytest.fixture(params=WALKS)
def walk(request) -> Walk:
    if request.param not in _made:
        _made[request.param] = WALKS[request.param]()
    return _made[request.param]


# --------------------------------------------------------------------------- what the layers computed
@pytest.mark.parametrize("name", ["mixed", "signal", "lenet5", "unet"])
def test_the_last_layer_gives_what_the_model_gives(name):
    rng = np.random.default_rng(5)
    model, x = {
        "mixed": (mixed(), rng.standard_normal((1, 61, 50, 2))),
        "signal": (signal(), rng.standard_normal((1, 1, 61))),
        "lenet5": (models.lenet5(rng=0), rng.standard_normal((1, 1, 28, 28))),
        "unet": (models.unet(depth=2, width=6, rng=0), rng.standard_normal((1, 3, 32, 24))),
    }[name]
    x = x.astype(np.float32)
    before = {key: a.copy() for key, a in model.weights().items()}
    found, y = walk_layers(model, x), model(x)
    last = np.moveaxis(y[0], -1, 0) if name == "mixed" else y[0]
    np.testing.assert_allclose(found.layers[-1].y, last, rtol=1e-5, atol=1e-5)
    for key, a in model.weights().items():
        np.testing.assert_array_equal(a, before[key])
    assert "forward" not in {key for layer in dict(model.walk()).values() for key in vars(layer)}


def test_rows_are_those_of_the_summary():
    model, x = models.resnet18(7, rng=0), drawn(1, 3, 64, 64)
    rows = nn.summary(model, x.shape).rows
    found = walk_layers(model, x).layers
    assert [(s.name, s.kind, s.shape, s.parameters, s.macs) for s in found] == [
        (r.path, r.kind, r.out_shape, r.parameters, r.macs) for r in rows
    ]
    assert [s.y.shape for s in found] == [r.out_shape[1:] for r in rows]
    assert [s.field_size for s in found] == [r.field for r in rows]


def test_gradients_are_those_of_the_chosen_score():
    """dy of a layer, against differences of the score when that layer's output is moved a little."""
    model = nn.Sequential(
        conv=nn.Conv(1, 3, 3, padding=1, rng=0, dtype=np.float64),
        act=nn.Sigmoid(),
        both=nn.Residual(nn.Conv(3, 3, 3, padding=1, rng=1, dtype=np.float64)),
        pool=nn.AvgPool(2),
        flat=nn.Flatten(),
        dense=nn.Linear(27, 4, rng=2, dtype=np.float64),
    )
    x = RNG.standard_normal((1, 1, 6, 6))
    found = walk_layers(model, x, target=2)
    assert found.output["chosen"] == [2]
    step = next(s for s in found.layers if s.name == "act")
    rest = nn.Sequential(*[layer for name, layer in model.children.items() if name not in ("conv", "act")])
    for at in [(0, 0, 0), (1, 2, 3), (2, 5, 5)]:
        y = step.y[None].copy()
        y[(0, *at)] += 1e-6
        high = rest(y)[0, 2]
        y[(0, *at)] -= 2e-6
        assert step.dy[at] == pytest.approx((high - rest(y)[0, 2]) / 2e-6, rel=1e-4)
    np.testing.assert_array_equal(found.layers[-1].dy, [0, 0, 1, 0])


def test_a_layer_that_serves_twice():
    shared = nn.Conv(2, 2, 3, padding=1, rng=0)
    model = nn.Sequential(first=shared, act=nn.ReLU(), second=shared)
    x = drawn(1, 2, 8, 8)
    found = walk_layers(model, x).layers
    np.testing.assert_allclose(found[0].y, shared(x)[0], rtol=1e-6)
    np.testing.assert_allclose(found[2].y, model(x)[0], rtol=1e-6)
    assert found[0].dy is not None
    assert not np.array_equal(found[0].dy, found[2].dy)


@pytest.mark.parametrize("target", [(1,), 3, (0, 2, 3), -1])
def test_targets(target):
    model = nn.Sequential(nn.Conv(1, 4, 3, rng=0))
    found = walk_layers(model, drawn(1, 1, 6, 6), target=target)
    expected = np.zeros((4, 4, 4))
    expected[target] = 1
    np.testing.assert_array_equal(found.layers[0].dy, expected)


@pytest.mark.parametrize("target", [4, -5, (0, 4, 0), (0, 0, 0, 0), "cat", 1.5])
def test_targets_that_are_none(target):
    with pytest.raises(ValueError, match="explore: target is"):
        walk_layers(nn.Sequential(nn.Conv(1, 4, 3, rng=0)), drawn(1, 1, 6, 6), target=target)


# --------------------------------------------------------------------------- pieces
def places(site: Site) -> list:
    """The corners, the middle, and some others."""
    spans = site.y.shape[1:]
    corners = [tuple(0 for _ in spans), tuple(n - 1 for n in spans), tuple(n // 2 for n in spans)]
    more = [tuple(int(RNG.integers(n)) for n in spans) for _ in range(6)]
    return [None, *[(int(RNG.integers(len(site.y))), at) for at in corners + more]]


def test_a_piece_computes_what_the_layer_computed(walk):
    """At every corner and inside: with all channels the outputs are the layer's, and the asked place is in the piece."""
    whole = partial = 0
    for step in walk.layers:
        if step.site is None:
            continue
        site = step.site()
        np.testing.assert_array_equal(site.y, step.y)
        for place in places(site):
            found = crop(site, *(place or ()))
            assert max(found.problem.x.shape[1:]) <= SIDE
            assert len(found.inputs) <= max(MOST_IN, 4 * MOST_OUT)
            if place is not None:
                channel, at = place
                assert channel in found.outputs
                spread = site.operator == "conv_transpose"
                assert spread or all(s.start <= i < s.stop for s, i in zip(found.box, at, strict=True))
            assert found.problem.y_shape == site.y[(found.outputs, *found.box)].shape
            np.testing.assert_array_equal(found.dy, step.dy[(found.outputs, *found.box)])
            if found.partial:
                partial += 1
                assert "partial sums" in found.words
                continue
            whole += 1
            np.testing.assert_allclose(found.problem(), site.y[(found.outputs, *found.box)], rtol=1e-4, atol=1e-4)
    assert whole > 10 or partial > 10


def test_a_partial_piece_is_the_sum_of_its_channels():
    """32 channels: the eight that weigh most, and the words say so."""
    x, w = drawn(32, 20, 20), drawn(16, 32, 3, 3)
    options = {"stride": (1, 1), "dilation": (1, 1), "padding": ((1, 1), (1, 1)), "groups": 1}
    site = Site("conv", x, npconv.conv(x, w, padding=1), w, None, options)
    found = crop(site, 5, (10, 10))
    assert found.partial
    assert len(found.inputs) == MOST_IN
    assert "partial sums: 8 of 32 input channels" in found.words
    some = npconv.conv(x[found.inputs], w[found.outputs][:, found.inputs], padding=1)
    np.testing.assert_allclose(found.problem(), some[(slice(None), *found.box)], rtol=1e-4, atol=1e-4)


def test_one_group_of_a_transposed_convolution():
    x, w, bias = drawn(4, 20, 20), drawn(4, 6, 3, 3), drawn(12)
    options = {"stride": (2, 2), "dilation": (1, 1), "padding": ((0, 0), (0, 0)), "output_padding": (0, 0), "groups": 2}
    y = npconv.conv_transpose(x, w, bias, stride=2, groups=2)
    found = crop(Site("conv_transpose", x, y, w, bias, options), 11, (20, 20))
    assert (found.inputs, found.outputs, found.partial) == ([2, 3], [8, 9, 10, 11], False)
    np.testing.assert_allclose(found.problem(), y[(found.outputs, *found.box)], rtol=1e-4, atol=1e-4)


def test_a_piece_of_a_transposed_convolution_has_all_outputs_that_are_its_own():
    """16 inputs, 2 apart under 4 taps, reach 34 outputs; the first two and the last two are their neighbours' too."""
    x, w = drawn(1, 40), drawn(1, 1, 4)
    options = {"stride": (2,), "dilation": (1,), "padding": ((0, 0),), "output_padding": (0,), "groups": 1}
    y = npconv.conv_transpose(x, w, stride=2)
    found = crop(Site("conv_transpose", x, y, w, None, options), 0, (40,))
    assert found.problem.x.shape == (1, 16)
    assert found.problem.y_shape == (1, 30)
    np.testing.assert_allclose(found.problem(), y[(found.outputs, *found.box)], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("include", [True, False])
def test_a_last_window_that_overhangs(include):
    """A mean divides by what lies in the padded input, not by what rounding up added."""
    x = drawn(1, 30, 30)
    y = npconv.avg_pool(x, (3, 3), stride=2, padding=1, ceil_mode=True, count_include_pad=include)
    options = {"kernel": (3, 3), "stride": (2, 2), "dilation": (1, 1), "padding": ((1, 1), (1, 1))}
    options |= {"ceil_mode": True, "count_include_pad": include}
    for at in [(15, 15), (15, 3), (3, 15), (0, 0)]:
        found = crop(Site("avg_pool", x, y, None, None, options), 0, at)
        np.testing.assert_allclose(found.problem(), y[(found.outputs, *found.box)], rtol=1e-5, atol=1e-6)


def test_whole_layers_are_told_as_whole():
    x, w = drawn(2, 9, 9), drawn(3, 2, 3, 3)
    options = {"stride": (1, 1), "dilation": (1, 1), "padding": ((0, 0), (0, 0)), "groups": 1}
    site = Site("conv", x, npconv.conv(x, w), w, None, options)
    assert crop(site).words == "the whole layer: x is (2, 9, 9), y is (3, 7, 7)"


def test_a_padding_that_copies_is_told():
    model = nn.Sequential(nn.Conv(1, 2, 3, padding=1, padding_mode="circular", rng=0))
    (step,) = walk_layers(model, drawn(1, 1, 8, 8)).layers
    expected = "the whole layer: x is (1, 10, 10), y is (2, 8, 8); x has its circular padding in it"
    assert crop(step.site()).words == expected


def test_a_window_beyond_the_page_is_no_piece():
    x, w = drawn(1, 90, 90), drawn(1, 1, 2, 2)
    options = {"stride": (1, 1), "dilation": (80, 80), "padding": ((0, 0), (0, 0)), "groups": 1}
    y = npconv.conv(x, w, dilation=80)
    assert crop(Site("conv", x, y, w, None, options)) is None


@pytest.mark.parametrize(("channel", "at"), [(-1, (0, 0)), (3, (0, 0)), (0, (7, 0)), (0, (0, -1))])
def test_places_that_are_none(channel, at):
    x, w = drawn(2, 9, 9), drawn(3, 2, 3, 3)
    options = {"stride": (1, 1), "dilation": (1, 1), "padding": ((0, 0), (0, 0)), "groups": 1}
    with pytest.raises(ValueError, match="no element"):
        crop(Site("conv", x, npconv.conv(x, w), w, None, options), channel, at)


# --------------------------------------------------------------------------- maps
def decoded(found: dict) -> np.ndarray:
    codes = np.frombuffer(base64.b64decode(found["data"]), np.uint8)
    values = found["low"] + codes * ((found["high"] - found["low"]) / 255)
    return values.reshape(found["channels"], found["height"], found["width"])


@pytest.mark.parametrize("shift", [0, 5, -5, 100])
def test_a_byte_is_a_number(shift):
    a = drawn(5, 9, 7) + shift
    found = maps(a)
    np.testing.assert_allclose(decoded(found), a, atol=(found["high"] - found["low"]) / 255 * 0.51)


def test_zero_is_exact():
    a = drawn(3, 8, 8)
    a[:, ::2] = 0
    assert np.all(decoded(maps(a))[:, ::2] == pytest.approx(0, abs=1e-12))
    assert maps(np.maximum(a, 0))["low"] == 0


def test_large_planes_are_means_of_blocks():
    a = drawn(20, 130, 65)
    found = maps(a)
    assert (found["channels"], found["of"], found["height"], found["width"]) == (16, 20, 44, 33)
    assert (found["block"], found["size"]) == ([3, 2], [130, 65])
    shown = decoded(found)
    tolerance = (found["high"] - found["low"]) / 255 * 0.51
    assert shown[7, 3, 4] == pytest.approx(a[7, 9:12, 8:10].mean(), abs=tolerance)
    assert shown[7, 43, 32] == pytest.approx(a[7, 129:, 64:].mean(), abs=tolerance)


def test_vectors_signals_and_stacks():
    assert (maps(drawn(10))["height"], maps(drawn(10))["width"]) == (1, 10)
    assert (maps(drawn(130))["height"], maps(drawn(130))["width"]) == (3, 64)
    assert (maps(drawn(3, 10))["channels"], maps(drawn(3, 10))["height"]) == (3, 1)
    stack = drawn(2, 5, 4, 4)
    assert maps(stack)["slice"] == [2]
    np.testing.assert_allclose(decoded(maps(stack)), stack[:, 2], atol=0.03)
    assert maps(np.zeros((0, 3, 3))) is None


def test_numbers_that_are_none_are_counted():
    a = drawn(2, 4, 4)
    a[0, 0, 0], a[1, 1, 1] = np.nan, np.inf
    found = maps(a)
    assert found["odd"] == 2
    assert decoded(found)[0, 0, 0] == pytest.approx(0, abs=1e-12)


# --------------------------------------------------------------------------- what the page gets
def test_a_file_holds_its_layers(walk):
    data = json.loads(json.dumps(walk.json(), allow_nan=False))
    for layer, step in zip(data["layers"], walk.layers, strict=True):
        assert layer["slides"] == (step.site is not None)
        if layer["slides"]:
            opened = read_problem(layer["problem"])
            assert opened.y_shape == tuple(layer["dy"]["shape"])
            assert layer["title"].startswith(step.name)
    assert html(walk=data)


def test_a_live_page_asks_for_its_layers(walk):
    data = walk.json(live=True)
    assert all(layer["problem"] is None for layer in data["layers"])
    index = next(i for i, step in enumerate(walk.layers) if step.site is not None)
    site = walk.layers[index].site()
    at = [n // 2 for n in site.y.shape[1:]]
    answer = walk.layer({"layer": index, "channel": len(site.y) - 1, "at": at})
    found = crop(site, len(site.y) - 1, tuple(at))
    np.testing.assert_array_equal(numbers(answer["problem"]["x"]).astype(np.float32), found.problem.x)
    np.testing.assert_array_equal(numbers(answer["dy"]).astype(np.float32), found.dy)


@pytest.mark.parametrize(
    "question",
    [
        {},
        {"layer": 99},
        {"layer": 1},  # a relu
        {"layer": True},
        {"layer": 0, "channel": 99},
        {"layer": 0, "channel": "0"},
        {"layer": 0, "at": 3},
        {"layer": 0, "at": [0]},
        {"layer": 0, "at": [0, 0.5]},
        {"layer": 0, "at": [0, 10**20]},
    ],
)
def test_questions_that_are_none(question):
    found = walk_layers(nn.Sequential(nn.Conv(1, 2, 3, rng=0), nn.ReLU()), drawn(1, 1, 8, 8))
    with pytest.raises((ProblemError, ValueError)):
        found.layer(question)


def test_a_page_is_bounded(monkeypatch):
    """Many layers with maps and problems stay within what a page may hold."""
    most_maps, most_problems = MOST_MAP_DATA >> 3, MOST_PROBLEM_DATA >> 3
    for name, most in (("MOST_LAYERS", 80), ("MOST_MAP_DATA", most_maps), ("MOST_PROBLEM_DATA", most_problems)):
        monkeypatch.setattr(f"npconv.explorer.walk.{name}", most)
    x, w = drawn(8, 40, 40), drawn(8, 8, 3, 3)
    options = {"stride": (1, 1), "dilation": (1, 1), "padding": ((1, 1), (1, 1)), "groups": 1}
    y = npconv.conv(x, w, padding=1)
    site = Site("conv", x, y, w, None, options, y)
    step = Step("layer", "Conv", (1, 8, 40, 40), y, y, site=lambda: site)
    found = Walk("deep", [step] * 85, None, {})
    data = found.json()
    assert len(data["layers"]) == 80
    assert data["left_out"] == 5
    length = sum(len(json.dumps(layer)) for layer in data["layers"])
    assert length < 1.2 * (most_maps + most_problems)
    opened = [layer["problem"] is not None for layer in data["layers"]]
    assert opened[0]
    assert not opened[-1]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_numbers_that_break_sums(value):
    """They travel, they are counted, and nothing warns."""
    x = drawn(1, 1, 28, 28)
    x[0, 0, 3:20, 4:9] = value
    walk = walk_layers(models.lenet5(rng=0), x)
    data = json.loads(json.dumps(walk.json(), allow_nan=False))
    assert data["layers"][0]["maps"]["odd"] > 0 or value == pytest.approx(3e38)
    for step in walk.layers:
        if step.site is not None:
            crop(step.site(), 0, tuple(n // 2 for n in step.y.shape[1:]))


# --------------------------------------------------------------------------- images
def photo(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def test_pixels_become_numbers_between_0_and_1():
    image = photo(8, 8, 3)
    model = nn.Sequential(nn.Conv(3, 3, 1, rng=0, bias=False))
    model["0"].params["weight"][...] = np.eye(3)[:, :, None, None]
    found = npconv.explore(model, image).walk
    np.testing.assert_allclose(found.layers[0].y, np.moveaxis(image, -1, 0) / 255, rtol=1e-6)
    rgb = np.frombuffer(base64.b64decode(found.picture["rgb"]), np.uint8).reshape(8, 8, 3)
    low, high = image.min(), image.max()
    np.testing.assert_allclose(rgb, (image.astype(float) - low) * 255 / (high - low), atol=0.51)


def test_files_and_pictures_of_pillow(tmp_path):
    Image = pytest.importorskip("PIL.Image", reason="pictures are read with Pillow (the extra `plot`)")
    image = Image.fromarray(photo(50, 70, 3))
    image.save(tmp_path / "p.png")
    model = models.lenet5(rng=0)
    from_file, from_pillow = (npconv.explore(model, what).walk for what in (tmp_path / "p.png", image))
    np.testing.assert_array_equal(from_file.layers[0].y, from_pillow.layers[0].y)
    assert from_file.picture["size"] == [28, 28]
    (tmp_path / "no.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="cannot be read as PNG or JPEG"):
        npconv.explore(model, tmp_path / "no.png")


def test_arrays_as_the_model_takes_them():
    model, x = models.lenet5(rng=0), drawn(1, 1, 28, 28)
    for given in (x, x[0], x[0, 0], x.astype(np.float64)):
        np.testing.assert_allclose(npconv.explore(model, given).walk.layers[-1].y, model(x)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (photo(40, 40, 3), {"size": 30}, ""),
        (photo(40, 40, 3), {"size": 20}, r"the model takes no picture of 20 x 20; use size=\(height, width\)"),
        (drawn(3, 28, 28), {}, "3 channels"),
        (drawn(2, 1, 28, 28), {}, "the explorer walks with one image"),
        (None, {}, "a model needs an image"),
        (photo(28, 28), {"layers": 3}, "layers"),
    ],
)
def test_images_that_do_not_fit(image, options, message):
    if not message:
        assert npconv.explore(models.lenet5(rng=0), image, **options).walk.picture["size"] == [30, 30]
        return
    with pytest.raises((ValueError, TypeError), match=message):
        npconv.explore(models.lenet5(rng=0), image, **options)


@pytest.mark.parametrize("model", [len, nn.Conv, lambda x: x])
def test_models_of_others(model):
    with pytest.raises(TypeError, match="export it to ONNX"):
        npconv.explore(model, drawn(1, 3, 8, 8))


# --------------------------------------------------------------------------- ONNX
@pytest.fixture(scope="module")
def both() -> tuple[Walk, Walk]:
    """The same network as ours and as an ONNX model."""
    pytest.importorskip("onnx", reason="the models are onnx's (the extra `onnx`)")
    from npconv.integrations import onnx_export

    net = nn.Sequential(
        conv=nn.Conv(3, 6, 5, stride=2, padding=2, rng=0),
        norm=nn.BatchNorm(6),
        act=nn.ReLU(),
        pool=nn.MaxPool(3, stride=2, padding=1, ceil_mode=True),
        body=nn.Residual(nn.Conv(6, 6, 3, padding=1, groups=3, rng=1)),
        up=nn.ConvTranspose(6, 4, 4, stride=2, padding=1, rng=2),
        mean=nn.AvgPool(2, padding=1, count_include_pad=False),
        flat=nn.GlobalAvgPool(),
        dense=nn.Linear(4, 5, rng=3),
    )
    x = drawn(1, 3, 33, 35)
    proto = onnx_export.export(net, x.shape)
    return npconv.explore(net, x).walk, npconv.explore(proto, x, target=2, labels=list("abcde")).walk


def test_an_onnx_model_walks_as_ours_does(both):
    ours, theirs = both
    assert theirs.output["chosen"] == [2]
    assert theirs.output["labels"] == list("abcde")
    np.testing.assert_allclose(theirs.output["values"], ours.output["values"], rtol=1e-4, atol=1e-5)
    assert sum(s.macs for s in theirs.layers) == sum(s.macs for s in ours.layers)
    sliding = [[s for s in walk.layers if s.site is not None] for walk in both]
    assert len(sliding[0]) == len(sliding[1]) == 5
    for mine, other in zip(*sliding, strict=True):
        np.testing.assert_allclose(other.y, mine.y, rtol=1e-4, atol=1e-5)
        assert (other.shape, other.field_size, other.field_step) == (mine.shape, mine.field_size, mine.field_step)
    assert all(s.dy is None for s in theirs.layers)


def test_pieces_of_an_onnx_model(both):
    for step in both[1].layers:
        if step.site is None:
            continue
        site = step.site()
        for place in places(site):
            found = crop(site, *(place or ()))
            assert not found.partial
            np.testing.assert_allclose(found.problem(), site.y[(found.outputs, *found.box)], rtol=1e-4, atol=1e-4)


def test_parameters_of_an_onnx_model_count_once():
    onnx = pytest.importorskip("onnx", reason="the models are onnx's (the extra `onnx`)")
    text = '<ir_version: 8, opset_import: ["": 17]> f (float[1, 1, 5, 5] x) => (float[1, 1, 1, 1] y) '
    text += "<float[1, 1, 3, 3] w = {1,2,3,4,5,6,7,8,9}> { a = Conv(x, w)  y = Conv(a, w) }"
    found = npconv.explore(onnx.parser.parse_model(text), drawn(1, 1, 5, 5)).walk
    assert [s.parameters for s in found.layers] == [9, 0]
    assert [s.macs for s in found.layers] == [81, 9]
    assert [s.field_size for s in found.layers] == [(3.0, 3.0), (5.0, 5.0)]


def test_an_onnx_model_of_names_that_steer():
    onnx = pytest.importorskip("onnx", reason="the models are onnx's (the extra `onnx`)")
    bad = "</script>\x1b[31m\u202e"
    node = onnx.helper.make_node("Relu", ["x"], [bad], name=bad)
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph([node], bad, [info("x", 1, [1, 1, 2, 2])], [info(bad, 1, [1, 1, 2, 2])])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    shown = npconv.explore(model, drawn(1, 1, 2, 2))
    assert shown.walk.json()["layers"][0]["name"] == "</script>?[31m?"
    assert shown.html().lower().count("</script") == 2
