"""Every layer against torch: forward, the gradient of the input, those of the parameters, and what training leaves."""

from collections.abc import Callable

import numpy as np
import pytest

from npconv import nn
from npconv.gradcheck import check
from npconv.nn.initial import NAMES, fans

torch = pytest.importorskip("torch", reason="torch is the peer of this file (the extra `test` installs it)")

LAYOUTS = ("channels_first", "channels_last")
#: Largest difference, over the largest number: sums of hundreds of terms, in both libraries.
BOUND = {np.float32: 2e-5, np.float64: 1e-12}


def peer(name: str, rank: int) -> Callable:
    return getattr(torch.nn, f"{name}{rank}d")


#: name -> (ours, theirs, needs at least this size): from rank, channels, and the keywords that every layer of ours takes.
SPATIAL = {
    "conv": (
        lambda r, c, k: nn.Conv(c, 5, 3, stride=2, padding=1, rank=r, **k),
        lambda r, c: peer("Conv", r)(c, 5, 3, 2, 1),
    ),
    "conv_wide": (
        lambda r, c, k: nn.Conv(c, 6, (3, 2, 2)[:r], dilation=2, groups=2, padding=(2, 1, 1)[:r], bias=False, **k),
        lambda r, c: peer("Conv", r)(c, 6, (3, 2, 2)[:r], dilation=2, groups=2, padding=(2, 1, 1)[:r], bias=False),
    ),
    "conv_reflect": (
        lambda r, c, k: nn.Conv(c, 3, 3, padding=1, padding_mode="reflect", rank=r, **k),
        lambda r, c: peer("Conv", r)(c, 3, 3, padding=1, padding_mode="reflect"),
    ),
    "depthwise": (
        lambda r, c, k: nn.DepthwiseConv(c, 3, multiplier=2, padding=1, rank=r, **k),
        lambda r, c: peer("Conv", r)(c, 2 * c, 3, padding=1, groups=c),
    ),
    "transpose": (
        lambda r, c, k: nn.ConvTranspose(c, 6, 3, stride=2, padding=1, output_padding=1, groups=2, rank=r, **k),
        lambda r, c: peer("ConvTranspose", r)(c, 6, 3, 2, 1, 1, 2),
    ),
    "max_pool": (
        lambda r, c, k: nn.MaxPool(3, stride=2, padding=1, layout=k["layout"]),
        lambda r, c: peer("MaxPool", r)(3, 2, 1),
    ),
    "max_pool_ceil": (
        lambda r, c, k: nn.MaxPool((2, 3, 2)[:r], ceil_mode=True, layout=k["layout"]),
        lambda r, c: peer("MaxPool", r)((2, 3, 2)[:r], ceil_mode=True),
    ),
    "avg_pool": (
        lambda r, c, k: nn.AvgPool(3, stride=2, padding=1, count_include_pad=False, layout=k["layout"]),
        lambda r, c: peer("AvgPool", r)(3, 2, 1, count_include_pad=False),
    ),
    "adaptive": (
        lambda r, c, k: nn.AdaptiveAvgPool(3, layout=k["layout"]),
        lambda r, c: peer("AdaptiveAvgPool", r)(3),
    ),
    "global": (
        lambda r, c, k: nn.GlobalAvgPool(keep_axes=True, layout=k["layout"]),
        lambda r, c: peer("AdaptiveAvgPool", r)(1),
    ),
    "nearest": (
        lambda r, c, k: nn.Upsample((2, 3, 1)[:r], layout=k["layout"]),
        lambda r, c: torch.nn.Upsample(scale_factor=(2, 3, 1)[:r]),
    ),
    "linear": (
        lambda r, c, k: nn.Upsample(3, mode="linear", layout=k["layout"]),
        lambda r, c: torch.nn.Upsample(scale_factor=3, mode=("linear", "bilinear", "trilinear")[r - 1]),
    ),
    "batch_norm": (
        lambda r, c, k: nn.BatchNorm(c, momentum=0.3, **k),
        lambda r, c: peer("BatchNorm", r)(c, momentum=0.3),
    ),
    "group_norm": (lambda r, c, k: nn.GroupNorm(2, c, eps=1e-3, **k), lambda r, c: torch.nn.GroupNorm(2, c, eps=1e-3)),
    "softmax": (lambda r, c, k: nn.Softmax("channels", layout=k["layout"]), lambda r, c: torch.nn.Softmax(1)),
    "relu": (lambda r, c, k: nn.ReLU(), lambda r, c: torch.nn.ReLU()),
    "relu6": (lambda r, c, k: nn.ReLU6(), lambda r, c: torch.nn.ReLU6()),
    "leaky": (lambda r, c, k: nn.LeakyReLU(0.2), lambda r, c: torch.nn.LeakyReLU(0.2)),
    "silu": (lambda r, c, k: nn.SiLU(), lambda r, c: torch.nn.SiLU()),
    "gelu": (lambda r, c, k: nn.GELU(), lambda r, c: torch.nn.GELU()),
    "gelu_tanh": (lambda r, c, k: nn.GELU(approximate=True), lambda r, c: torch.nn.GELU("tanh")),
    "sigmoid": (lambda r, c, k: nn.Sigmoid(), lambda r, c: torch.nn.Sigmoid()),
    "tanh": (lambda r, c, k: nn.Tanh(), lambda r, c: torch.nn.Tanh()),
}
#: The same for inputs that have no channel axis.
FLAT = {
    "linear": (lambda k: nn.Linear(7, 4, **k), lambda: torch.nn.Linear(7, 4)),
    "linear_plain": (lambda k: nn.Linear(7, 4, bias=False, **k), lambda: torch.nn.Linear(7, 4, bias=False)),
    "layer_norm": (lambda k: nn.LayerNorm(7, **k), lambda: torch.nn.LayerNorm(7)),
    "layer_norm_2": (lambda k: nn.LayerNorm((5, 7), eps=1e-2, **k), lambda: torch.nn.LayerNorm((5, 7), eps=1e-2)),
    "softmax": (lambda k: nn.Softmax(), lambda: torch.nn.Softmax(-1)),
}


def turned(array: np.ndarray, layout: str) -> np.ndarray:
    return array if layout == "channels_first" else np.ascontiguousarray(np.moveaxis(array, 1, -1))


def returned(array: np.ndarray, layout: str) -> np.ndarray:
    return array if layout == "channels_first" or array.ndim < 3 else np.moveaxis(array, -1, 1)


def close(name: str, ours: np.ndarray, theirs: torch.Tensor, bound: float) -> None:
    expected = theirs.detach().numpy()
    assert ours.shape == expected.shape, f"{name}: {ours.shape} instead of {expected.shape}"
    assert ours.dtype == expected.dtype, f"{name}: {ours.dtype} instead of {expected.dtype}"
    assert np.abs(ours - expected).max(initial=0) <= bound * max(1, np.abs(expected).max(initial=0)), name


def compare(ours, theirs, x: np.ndarray, rng, layout: str = "channels_first", training: bool = True) -> None:
    """Forward and backward of two layers with the same random parameters; nothing given is written to."""
    dtype, bound = x.dtype.type, BOUND[x.dtype.type]
    theirs = theirs.to(torch.float32 if dtype == np.float32 else torch.float64).train(training)
    names = dict(theirs.named_parameters())
    assert {n: a.shape for n, a in ours.params.items()} == {n: tuple(p.shape) for n, p in names.items()}
    for name, array in ours.params.items():
        array[...] = rng.standard_normal(array.shape)
        names[name].data = torch.from_numpy(array.copy())
    if not training and ours.state:
        for name, array in ours.state.items():
            array[...] = rng.uniform(0.5, 2, array.shape)
            getattr(theirs, name).data = torch.from_numpy(array.copy())
    source = torch.from_numpy(x.copy()).requires_grad_()
    expected = theirs(source)
    g = rng.standard_normal(expected.shape).astype(dtype)
    expected.backward(torch.from_numpy(g))

    mine, down = turned(x, layout), turned(g, layout) if g.ndim > 2 else g
    for array in (mine, down):
        array.flags.writeable = False
    y, saved = ours.forward(mine, training=training)
    gx, grads = ours.backward(down, saved)
    close("y", returned(y, layout), expected, bound)
    close("gx", returned(gx, layout), source.grad, bound)
    assert set(grads) == set(ours.params)
    for name, parameter in names.items():
        close(name, grads[name], parameter.grad, 4 * bound)
    for name, array in ours.state.items():
        close(name, array, getattr(theirs, name), bound)
    assert ours.out_shape(mine.shape) == y.shape
    none, again = ours.backward(down, saved, input_grad=False)
    assert none is None
    assert all(np.array_equal(grads[n], again[n]) for n in grads)
    if not training:
        assert np.array_equal(ours(mine), y)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("name", SPATIAL)
def test_against_torch(name, rank, layout):
    rng = np.random.default_rng(rank)
    ours, theirs = SPATIAL[name]
    for dtype, batch, sizes in ((np.float64, 3, (9, 7, 6)), (np.float32, 1, (7, 5, 8)), (np.float32, 2, (31, 17, 4))):
        x = (3 * rng.standard_normal((batch, 4, *sizes[:rank]))).astype(dtype)
        layer = ours(rank, 4, {"layout": layout, "dtype": dtype})
        compare(layer, theirs(rank, 4), x, rng, layout)


@pytest.mark.parametrize("name", FLAT)
def test_flat_layers_against_torch(name):
    rng = np.random.default_rng(0)
    ours, theirs = FLAT[name]
    for dtype in (np.float32, np.float64):
        compare(ours({"dtype": dtype}), theirs(), rng.standard_normal((3, 5, 7)).astype(dtype), rng)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(2, 4, 5, 7), (3, 4)])
def test_batch_norm_in_inference(shape, layout):
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        x = rng.standard_normal(shape).astype(dtype)
        theirs = torch.nn.BatchNorm2d(4) if len(shape) == 4 else torch.nn.BatchNorm1d(4)
        compare(nn.BatchNorm(4, layout=layout, dtype=dtype), theirs, x, rng, layout, training=False)


@pytest.mark.parametrize("mean", [0.0, 1e4, -1e6])
@pytest.mark.parametrize("plane", [(33, 9), (5, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batch_norm_far_from_zero(mean, dtype, plane):
    """A variance from sums of squares would have lost all its digits here, and so would a mean in single precision."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((4, 3, *plane)) + mean).astype(dtype)
    wide = x.astype(np.float64)
    y, _ = nn.BatchNorm(3, dtype=dtype).forward(x)
    assert np.abs(y.mean((0, 2, 3), dtype=np.float64)).max() < (1e-6 if dtype == np.float32 else 1e-9)
    layer = nn.BatchNorm(3, momentum=1.0, dtype=np.float64)
    layer.forward(x)
    np.testing.assert_allclose(layer.state["running_mean"], wide.mean((0, 2, 3)), rtol=1e-12, atol=1e-12)
    exact = wide.var((0, 2, 3), ddof=1)
    np.testing.assert_allclose(layer.state["running_var"], exact, rtol=3e-5 if dtype == np.float32 else 1e-9)


def test_layer_norm_of_one_large_sample():
    """Whose one sample must not be taken for one channel."""
    rng = np.random.default_rng(0)
    for shape in ((1, 5000), (1, 70, 50)):
        x = rng.standard_normal(shape).astype(np.float32)
        compare(nn.LayerNorm(shape[1:]), torch.nn.LayerNorm(shape[1:]), x, rng)


def test_batch_norm_leaves_its_state_alone_in_inference():
    layer, x = nn.BatchNorm(2), np.ones((1, 2, 3, 3), np.float32)
    layer(x)
    layer.forward(x, training=False)
    assert layer.state["running_mean"].tolist() == [0, 0]
    assert layer.state["running_var"].tolist() == [1, 1]


def test_flatten_is_channels_first_in_both_layouts():
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    last = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    first, saved = nn.Flatten().forward(x)
    other, saved_last = nn.Flatten(layout="channels_last").forward(last)
    assert np.array_equal(first, x.reshape(2, -1))
    assert np.array_equal(first, other)
    assert np.array_equal(nn.Flatten().backward(first, saved)[0], x)
    assert np.array_equal(nn.Flatten(layout="channels_last").backward(first, saved_last)[0], last)


def test_separable_is_two_convolutions():
    rng = np.random.default_rng(0)
    layer = nn.SeparableConv(4, 6, 3, multiplier=2, padding=1, rng=1, dtype=np.float64, layout="channels_last")
    assert sorted(layer.parameters()) == ["depthwise.weight", "pointwise.bias", "pointwise.weight"]
    x = rng.standard_normal((2, 5, 7, 4))
    deep, wide = (torch.from_numpy(layer.parameters()[f"{n}.weight"]) for n in ("depthwise", "pointwise"))
    moved = torch.from_numpy(np.moveaxis(x, -1, 1).copy())
    expected = torch.conv2d(torch.conv2d(moved, deep, padding=1, groups=4), wide)
    assert np.abs(np.moveaxis(layer(x), -1, 1) - expected.numpy()).max() < 1e-12


def test_dropout():
    layer, x = nn.Dropout(0.3, rng=5), np.ones((100, 100), np.float32)
    y, saved = layer.forward(x)
    assert y.dtype == np.float32
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.7)}
    assert abs(y.mean() - 1) < 0.02
    assert np.array_equal(layer.backward(x, saved)[0], y)
    again, _ = nn.Dropout(0.3, rng=5).forward(x)
    assert np.array_equal(y, again)
    assert not np.array_equal(layer.forward(x)[0], y)
    assert layer(x) is x
    assert layer.forward(x, training=False)[0] is x
    assert not nn.Dropout(1.0).forward(x)[0].any()
    assert nn.Dropout(0.0).forward(x)[0] is x
    shared = np.random.default_rng(3)
    assert nn.Dropout(rng=shared).rng is shared


@pytest.mark.parametrize("name", ["conv", "transpose", "batch_norm", "group_norm", "gelu", "silu", "linear", "softmax"])
def test_gradients_by_differences(name):
    """Independent of torch: the gradient of the input and of every parameter by differences."""
    rng = np.random.default_rng(0)
    layer = SPATIAL[name][0](2, 4, {"layout": "channels_last", "dtype": np.float64})
    names = list(layer.params)
    start = [rng.standard_normal(layer.params[n].shape) for n in names]

    def place(arrays) -> None:
        layer.params = dict(zip(names, arrays, strict=True))

    def forward(x, *arrays):
        place(arrays)
        return layer.forward(x)[0]

    def backward(g, x, *arrays):
        place(arrays)
        gx, grads = layer.backward(g, layer.forward(x)[1])
        return (gx, *[grads[n] for n in names])

    check(forward, backward, rng.standard_normal((2, 5, 4, 4)), *start)


# --------------------------------------------------------------------------- first weights
@pytest.mark.parametrize("name", NAMES)
def test_initial_weights(name):
    scaled = (name, 0.3) if name in ("uniform", "normal") else name
    shape = (64, 32, 3, 3)
    make = lambda rng: nn.Conv(32, 64, 3, initial=scaled, rng=rng, dtype=np.float64).params  # noqa: E731
    w = make(0)["weight"]
    assert w.shape == shape
    assert np.array_equal(w, make(np.random.default_rng(0))["weight"])
    assert fans(shape) == (288, 576)
    ends = {
        "he_uniform": (6 / 288) ** 0.5,
        "glorot_uniform": (6 / (288 + 576)) ** 0.5,
        "lecun_uniform": (3 / 288) ** 0.5,
        "torch": (1 / 288) ** 0.5,
        "uniform": 0.3,
    }
    deviations = {
        "he_normal": (2 / 288) ** 0.5,
        "glorot_normal": (2 / (288 + 576)) ** 0.5,
        "lecun_normal": (1 / 288) ** 0.5,
        "normal": 0.3,
    }
    if name in ends:
        assert 0.99 * ends[name] < np.abs(w).max() <= ends[name]
        assert abs(w.std() - ends[name] / 3**0.5) < 0.02 * ends[name]
    elif name in deviations:
        assert abs(w.std() / deviations[name] - 1) < 0.02
    elif name == "orthogonal":
        rows = w.reshape(64, -1)
        assert np.abs(rows @ rows.T - np.eye(64)).max() < 1e-12
        tall = nn.Linear(3, 10, initial=name, rng=0, dtype=np.float64).params["weight"]
        assert np.abs(tall.T @ tall - np.eye(3)).max() < 1e-12
    else:
        assert set(np.unique(w)) == {float(name == "ones")}


def test_torch_draws_its_bias():
    bias = nn.Conv(32, 640, 3, initial="torch", rng=0).params["bias"]
    assert 0.95 * (1 / 288) ** 0.5 < np.abs(bias).max() <= (1 / 288) ** 0.5
    assert not nn.Conv(32, 640, 3, rng=0).params["bias"].any()


def test_a_seed_gives_the_same_numbers_in_every_dtype():
    single, double = (nn.Conv(3, 4, 3, rng=5, dtype=d).params["weight"] for d in (np.float32, np.float64))
    assert np.array_equal(single, double.astype(np.float32))


def test_a_function_may_draw():
    layer = nn.Linear(2, 3, initial=lambda shape, rng: np.arange(6.0).reshape(shape))
    assert layer.params["weight"].tolist() == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (nn.Conv(3, 4, 3), "Conv(3, 4, 3)"),
        (nn.Conv(4, 4, (3, 5), stride=2, padding=(1, 2), groups=2, bias=False), None),
        (nn.Conv(4, 4, 3, padding=((0, 1), (0, 1)), layout="channels_last"), None),
        (nn.Conv(4, 4, 3, padding="same", rank=1, dilation=2, padding_mode="reflect"), None),
        (nn.DepthwiseConv(4, 3, multiplier=2), "DepthwiseConv(4, 3, multiplier=2)"),
        (nn.ConvTranspose(4, 2, 2, stride=2, output_padding=1), "ConvTranspose(4, 2, 2, stride=2, output_padding=1)"),
        (nn.MaxPool(3, stride=2, padding=1), "MaxPool(3, stride=2, padding=1)"),
        (nn.AvgPool((2, 3), ceil_mode=True), "AvgPool((2, 3), ceil_mode=True)"),
        (nn.Upsample(2, mode="linear"), "Upsample(2, mode='linear')"),
        (nn.Softmax("channels"), "Softmax('channels')"),
        (nn.LayerNorm((2, 3), eps=1e-3), "LayerNorm((2, 3), eps=0.001)"),
        (nn.BatchNorm(3, momentum=0.2, layout="channels_last"), "BatchNorm(3, momentum=0.2, layout='channels_last')"),
        (nn.GroupNorm(2, 4, layout="channels_last"), "GroupNorm(2, 4, layout='channels_last')"),
        (nn.AvgPool(2, count_include_pad=False), "AvgPool(2, count_include_pad=False)"),
        (nn.Flatten(layout="channels_last"), "Flatten(layout='channels_last')"),
        (nn.GlobalAvgPool(layout="channels_last"), "GlobalAvgPool(layout='channels_last')"),
        (nn.AdaptiveAvgPool(2, layout="channels_last"), "AdaptiveAvgPool(2, layout='channels_last')"),
        (nn.Upsample(2, layout="channels_last"), "Upsample(2, mode='nearest', layout='channels_last')"),
        (nn.GroupNorm(2, 4), "GroupNorm(2, 4)"),
        (nn.AdaptiveAvgPool((None, 1)), "AdaptiveAvgPool((None, 1))"),
        (nn.GlobalAvgPool(keep_axes=True), "GlobalAvgPool(keep_axes=True)"),
        (nn.Linear(3, 2, bias=False), "Linear(3, 2, bias=False)"),
        (nn.Dropout(0.1), "Dropout(0.1)"),
        (nn.GELU(approximate=True), "GELU(approximate=True)"),
    ],
    ids=repr,
)
def test_a_layer_prints_as_the_call_that_makes_it(layer, text):
    again = eval(repr(layer), {name: getattr(nn, name) for name in nn.__all__ if name in repr(layer)})
    assert repr(again) == repr(layer) == (text or repr(layer))
    for name in ("stride", "padding", "dilation", "groups", "kernel", "layout", "padding_mode"):
        assert getattr(again, name, None) == getattr(layer, name, None)
