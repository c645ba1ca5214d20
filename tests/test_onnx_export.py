"""Layers written as ONNX: every layer and container, run by onnx's evaluator, by npconv and, where it is, by onnxruntime."""

import time
from functools import partial

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx checks and runs what is written (the extra `test` installs it)")
from onnx.reference import ReferenceEvaluator  # noqa: E402

from npconv import nn  # noqa: E402
from npconv.integrations import onnx_export, onnx_runtime  # noqa: E402
from npconv.nn import models  # noqa: E402

try:
    import onnxruntime
except ImportError:
    onnxruntime = None

LAST = "channels_last"
LAYERS = [
    (lambda: nn.Conv(6, 8, 3, padding=1, stride=2), (2, 6, 9, 8)),
    (lambda: nn.Conv(6, 8, 3, padding="same", stride=2, groups=2), (2, 6, 9, 8)),
    (lambda: nn.Conv(6, 8, 3, padding=1, layout=LAST), (2, 9, 8, 6)),
    (lambda: nn.Conv(3, 4, 3, padding=2, padding_mode="reflect"), (1, 3, 7, 6)),
    (lambda: nn.Conv(3, 4, 3, padding=2, padding_mode="replicate"), (1, 3, 7, 6)),
    (lambda: nn.Conv(3, 4, 3, padding=2, padding_mode="circular", layout=LAST), (1, 7, 6, 3)),
    (lambda: nn.Conv(3, 4, 3, rank=1, dilation=2), (2, 3, 11)),
    (lambda: nn.Conv(3, 4, 3, rank=3, bias=False), (2, 3, 5, 6, 7)),
    (lambda: nn.Conv(3, 4, 3, padding=((-1, 0), (1, 2))), (2, 3, 8, 8)),
    (lambda: nn.DepthwiseConv(4, 3, multiplier=2), (1, 4, 6, 6)),
    (lambda: nn.SeparableConv(4, 6, 3, layout=LAST, padding=1), (1, 6, 6, 4)),
    (lambda: nn.ConvTranspose(6, 4, 3, stride=2, padding=1, output_padding=1), (2, 6, 5, 4)),
    (lambda: nn.ConvTranspose(6, 4, 2, stride=3, output_padding=1), (2, 6, 5, 4)),
    (lambda: nn.ConvTranspose(6, 4, 3, stride=2, padding="same", layout=LAST), (2, 5, 4, 6)),
    (lambda: nn.MaxPool(3, stride=2, padding=1), (2, 3, 9, 8)),
    (lambda: nn.MaxPool(2, ceil_mode=True, layout=LAST), (2, 9, 7, 3)),
    (lambda: nn.MaxPool(3, dilation=2, rank=1), (2, 3, 9)),
    (lambda: nn.AvgPool(3, stride=2, padding=1), (2, 3, 9, 8)),
    (lambda: nn.AvgPool(3, stride=2, padding=1, count_include_pad=False, ceil_mode=True), (2, 3, 9, 8)),
    (lambda: nn.AvgPool(2, dilation=2, padding="same"), (2, 3, 9, 8)),
    (lambda: nn.AdaptiveAvgPool((3, 2)), (2, 3, 7, 5)),
    (lambda: nn.AdaptiveAvgPool(1), (2, 3, 7, 5)),
    (lambda: nn.AdaptiveAvgPool((4, None), layout=LAST), (2, 7, 5, 3)),
    (lambda: nn.GlobalAvgPool(), (2, 3, 7, 5)),
    (lambda: nn.GlobalAvgPool(keep_axes=True, layout=LAST), (2, 7, 5, 3)),
    (lambda: nn.GlobalAvgPool(layout=LAST), (2, 7, 5, 3)),
    (lambda: nn.Upsample(2), (1, 3, 4, 5)),
    (lambda: nn.Upsample((2, 3), mode="linear"), (1, 3, 4, 5)),
    (lambda: nn.Upsample(2, mode="linear", layout=LAST), (1, 4, 5, 3)),
    (lambda: nn.Upsample(3, mode="linear"), (1, 3, 5)),
    (lambda: nn.Upsample(2), (1, 3, 3, 4, 5)),
    (lambda: nn.BatchNorm(3), (2, 3, 4, 5)),
    (lambda: nn.BatchNorm(3), (2, 3)),
    (lambda: nn.BatchNorm(3, layout=LAST, eps=1e-3), (2, 4, 5, 3)),
    (lambda: nn.Normalise([1, 2, 3], [4, 5, 6]), (2, 3, 4, 5)),
    (lambda: nn.Normalise([1, 2, 3], [4, 5, 6], layout=LAST), (2, 4, 5, 3)),
    (lambda: nn.Normalise([1, 2, 3], [4, 5, 6]), (2, 3)),
    (lambda: nn.GroupNorm(2, 6), (2, 6, 4, 5)),
    (lambda: nn.GroupNorm(3, 6, layout=LAST), (2, 4, 5, 6)),
    (lambda: nn.LayerNorm((4, 5)), (2, 3, 4, 5)),
    (lambda: nn.Linear(5, 7), (2, 5)),
    (lambda: nn.Linear(5, 7, bias=False), (2, 5)),
    (lambda: nn.Linear(5, 7), (2, 3, 5)),
    (lambda: nn.Flatten(), (2, 3, 4, 5)),
    (lambda: nn.Flatten(layout=LAST), (2, 4, 5, 3)),
    (lambda: nn.Dropout(), (2, 3)),
    (lambda: nn.Identity(), (2, 3)),
    *((kind, (2, 30)) for kind in (nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Sigmoid, nn.Tanh, nn.Softmax)),
    (lambda: nn.LeakyReLU(0.2), (2, 30)),
    (lambda: nn.GELU(approximate=True), (2, 30)),
    (lambda: nn.Softmax("channels"), (2, 3, 4)),
    (lambda: nn.Parallel(nn.Identity(), nn.Tanh(), nn.ReLU(), join="add"), (2, 3)),
    (lambda: nn.Parallel(nn.Identity(), nn.Conv(3, 5, 1)), (2, 3, 4, 4)),
    (lambda: nn.Residual(nn.Conv(3, 3, 3, padding=1, layout=LAST)), (2, 4, 5, 3)),
    (lambda: nn.Sequential(nn.Conv(3, 4, 3, layout=LAST), nn.Parallel(nn.Identity(), nn.ReLU(), layout=LAST)), (2, 6, 6, 3)),
    (
        lambda: nn.Sequential(
            nn.Conv(3, 4, 3, layout=LAST, padding=1), nn.ReLU(),
            nn.Parallel(nn.Identity(), nn.Conv(4, 5, 1, layout=LAST), layout=LAST), nn.LayerNorm(9), nn.MaxPool(2, layout=LAST),
            nn.Flatten(layout=LAST), nn.Linear(81, 3),
        ),
        (2, 6, 6, 3),
    ),
]  # fmt: skip


def shaken(model: nn.Layer, dtype: type = np.float32, seed: int = 0) -> nn.Layer:
    """The model with other numbers in all its weights, running statistics included."""
    rng = np.random.default_rng(seed)
    for layer in dict(model.walk()).values():
        for arrays in (layer.params, layer.state):
            for name, a in arrays.items():
                fan = np.sqrt(max(1, a[0].size)) if a.ndim > 1 else 3
                drawn = rng.uniform(0.5, 1.5, a.shape) if name == "running_var" else rng.standard_normal(a.shape) / fan
                arrays[name] = drawn.astype(dtype)
    return model


def runs(proto: onnx.ModelProto, x: np.ndarray) -> dict[str, np.ndarray]:
    """What each runtime gives."""
    found = {"onnx": ReferenceEvaluator(proto).run(None, {"x": x})[0], "npconv": onnx_runtime.load(proto)(x)}
    if onnxruntime is not None and x.dtype == np.float32:
        found["onnxruntime"] = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": x})[0]
    return found


@pytest.mark.parametrize(("make", "shape"), LAYERS, ids=[repr(make())[:70] for make, _ in LAYERS])
def test_each_layer(make, shape):
    model = shaken(make())
    x = (3 * np.random.default_rng(1).standard_normal(shape)).astype(np.float32)
    y = model(x)
    for batch in (None, shape[0]):
        proto = onnx_export.export(model, (batch, *shape[1:]))
        for name, found in runs(proto, x).items():
            assert found.shape == y.shape, name
            assert np.abs(found - y).max() <= 2e-6 * max(1, np.abs(y).max()), name


def test_every_layer_is_here():
    layers = {name for name in nn.__all__ if isinstance(kind := getattr(nn, name), type) and issubclass(kind, nn.Layer)}
    tried = {type(layer).__name__ for make, _ in LAYERS for _, layer in make().walk()}
    assert layers - {"Layer", "Container"} <= tried


def test_double_precision():
    model = shaken(nn.Sequential(nn.Conv(3, 4, 3), nn.BatchNorm(4), nn.SiLU(), nn.AdaptiveAvgPool(3)), np.float64)
    x = np.random.default_rng(1).standard_normal((2, 3, 9, 9))
    for found in runs(onnx_export.export(model, (2, 3, 9, 9)), x).values():
        np.testing.assert_allclose(found, model(x), rtol=1e-12, atol=1e-12)


def test_groups_of_a_transpose():
    """onnx's evaluator stops with an error for these."""
    model = shaken(nn.ConvTranspose(6, 4, 3, stride=2, padding=1, output_padding=1, groups=2))
    x = np.random.default_rng(1).standard_normal((2, 6, 5, 4)).astype(np.float32)
    proto = onnx_export.export(model, x.shape)
    np.testing.assert_allclose(onnx_runtime.load(proto)(x), model(x), rtol=1e-5, atol=1e-6)


NETWORKS = {
    "lenet": (partial(models.lenet5), (2, 1, 28, 28)),
    "vgg11": (partial(models.vgg11, 7, hidden=64, batch_norm=True), (1, 3, 32, 32)),
    "resnet18": (partial(models.resnet18, 7), (1, 3, 64, 64)),
    "densenet121": (partial(models.densenet121, 7), (1, 3, 32, 32)),
    "googlenet": (partial(models.googlenet, 7), (1, 3, 32, 32)),
    "mobilenet_v2": (partial(models.mobilenet_v2, 7), (1, 3, 64, 64)),
    "unet": (partial(models.unet), (1, 3, 32, 32)),
}


@pytest.mark.parametrize("layout", ["channels_first", pytest.param("channels_last", marks=pytest.mark.long)])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name, layout):
    make, shape = NETWORKS[name]
    model = shaken(make(layout=layout))
    if layout == LAST:
        shape = (shape[0], *shape[2:], shape[1])
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    y = model(x)
    for runtime, theirs in runs(onnx_export.export(model, (None, *shape[1:])), x).items():
        assert np.abs(theirs - y).max() <= 1e-4 * np.abs(y).max(), runtime


@pytest.mark.long
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_speed(name):
    """At least ten times onnx's own evaluator, at 224 x 224; 20 to 25 times where it was measured."""
    proto = onnx_export.export(shaken(getattr(models, name)()), (1, 3, 224, 224))
    x = np.random.default_rng(1).standard_normal((1, 3, 224, 224)).astype(np.float32)
    model, theirs = onnx_runtime.load(proto), ReferenceEvaluator(proto)
    model(x)  # makes the plans

    def seconds(run) -> float:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    ours = min(seconds(lambda: model(x)) for _ in range(10))
    once = min(seconds(lambda: theirs.run(None, {"x": x})) for _ in range(2))
    assert once >= 10 * ours, f"{1e3 * ours:.0f} ms, {once / ours:.1f} times"


def test_weights_keep_their_names_and_bits():
    model = shaken(nn.Sequential(stem=nn.Conv(3, 4, 3), norm=nn.BatchNorm(4)))
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in onnx_export.export(model, (1, 3, 8, 8)).graph.initializer}
    assert set(stored) == set(model.weights())
    assert all(np.array_equal(a, stored[name]) for name, a in model.weights().items())


def test_the_file(tmp_path):
    model, x = shaken(nn.Conv(3, 4, 3)), np.ones((5, 3, 8, 8), np.float32)
    given = onnx_export.export(model, (None, 3, 8, 8), tmp_path / "m.onnx", input_name="image", output_name="scores")
    assert (tmp_path / "m.onnx").read_bytes() == given.SerializeToString()
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    loaded = onnx_runtime.load(tmp_path / "m.onnx")
    assert (list(loaded.inputs), loaded.outputs) == (["image"], ("scores",))
    assert loaded.inputs["image"].shape == ("N", 3, 8, 8)
    np.testing.assert_allclose(loaded(x), model(x), rtol=1e-5, atol=1e-6)


class Own(nn.ReLU):
    """Computes something else than its parent."""

    def __call__(self, x):
        return super().__call__(x) + 1


class OwnRow(nn.Sequential):
    """So does this container."""

    def __call__(self, x):
        return super().__call__(x) + 1


def mixed() -> nn.Layer:
    return nn.Sequential(nn.Conv(3, 3, 1), nn.Conv(3, 3, 1, dtype=np.float64))


@pytest.mark.parametrize(
    ("make", "shape", "kind", "message"),
    [
        (
            lambda: nn.Sequential(a=nn.Sequential(nn.ReLU(), Own())),
            (1, 3),
            TypeError,
            "layer a.1.*Own, which has no rule",
        ),
        (lambda: OwnRow(nn.ReLU()), (1, 3), TypeError, r"layer \(the model\) is a OwnRow"),
        (lambda: nn.Conv(3, 4, 3), (1, 5, 8, 8), ValueError, "channels"),
        (lambda: nn.Conv(3, 4, 3, padding=1, padding_mode="symmetric"), (1, 3, 8, 8), ValueError, "has no counterpart"),
        (lambda: nn.Conv(3, 4, 3, padding=9, padding_mode="reflect"), (1, 3, 8, 8), ValueError, "more than once"),
        (mixed, (1, 3, 8, 8), ValueError, "the dtypes"),
        (nn.ReLU, (None, None), ValueError, "input_shape holds None"),
        (nn.ReLU, (1, -3), ValueError, "input_shape holds -3"),
        (nn.ReLU, (1, True), ValueError, "input_shape holds True"),
    ],
)
def test_what_cannot_be_written(make, shape, kind, message, tmp_path):
    with pytest.raises(kind, match=message):
        onnx_export.export(make(), shape, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_names_of_the_ends_differ():
    with pytest.raises(ValueError, match="input_name and output_name"):
        onnx_export.export(nn.ReLU(), (1, 3), input_name="a", output_name="a")
