"""What may come into a layer, and what is refused by a message that says where and why."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
import pytest

from npconv import nn

torch = pytest.importorskip("torch", reason="torch is the peer of this file (the extra `test` installs it)")
from test_nn_layers import LAYOUTS, SPATIAL, close, turned  # noqa: E402

EVERY = {
    "conv": lambda k: nn.Conv(4, 2, 3, padding=1, **k),
    "transpose": lambda k: nn.ConvTranspose(4, 2, 2, **k),
    "batch_norm": lambda k: nn.BatchNorm(4, **k),
    "group_norm": lambda k: nn.GroupNorm(2, 4, **k),
    "layer_norm": lambda k: nn.LayerNorm(6, **k),
    "linear": lambda k: nn.Linear(6, 3, **k),
    "relu": lambda k: nn.ReLU(),
    "gelu": lambda k: nn.GELU(),
    "tanh": lambda k: nn.Tanh(),
    "softmax": lambda k: nn.Softmax(),
    "max_pool": lambda k: nn.MaxPool(2),
    "avg_pool": lambda k: nn.AvgPool(2),
    "upsample": lambda k: nn.Upsample(2, mode="linear"),
    "dropout": lambda k: nn.Dropout(0.5, rng=1),
}


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("name", EVERY)
def test_halves_stay_halves(name, dtype):
    """They are computed in single precision and rounded once."""
    rng = np.random.default_rng(0)
    half, wide = EVERY[name]({"dtype": dtype, **seeded(name)}), EVERY[name]({"dtype": np.float32, **seeded(name)})
    for key, array in wide.params.items():
        array[...] = half.params[key]
    x = rng.standard_normal((2, 4, 5, 6)).astype(dtype)
    y, saved = half.forward(x)
    y32, saved32 = wide.forward(x.astype(np.float32))
    g = rng.standard_normal(y.shape).astype(dtype)
    gx, grads = half.backward(g, saved)
    gx32, grads32 = wide.backward(g.astype(np.float32), saved32)
    assert y.dtype == gx.dtype == dtype
    assert all(grads[n].dtype == dtype for n in half.params)
    unit = float(ml_dtypes.finfo(dtype).eps)
    for ours, exact in ((y, y32), (gx, gx32), *((grads[n], grads32[n]) for n in grads)):
        assert np.abs(ours.astype(np.float64) - exact).max() <= 4 * unit * max(1, np.abs(exact).max())


def seeded(name: str) -> dict:
    return {"rng": 7} if name in ("conv", "transpose", "linear") else {}


@pytest.mark.parametrize("name", EVERY)
def test_strided_inputs(name):
    rng = np.random.default_rng(0)
    layer = EVERY[name]({"dtype": np.float64, **seeded(name)})
    big = rng.standard_normal((4, 4, 6, 10))
    x = big[::2, :, ::-1, :].swapaxes(2, 3)[:, :, ::2]  # (2, 4, 5, 6)
    y, saved = EVERY[name]({"dtype": np.float64, **seeded(name)}).forward(np.ascontiguousarray(x))
    strided, saved_strided = layer.forward(x)
    np.testing.assert_allclose(strided, y, rtol=1e-12, atol=1e-12)
    wide = rng.standard_normal((*y.shape[:-1], 2 * y.shape[-1]))
    g = wide[..., ::2]
    expected, grads = layer.backward(np.ascontiguousarray(g), saved)
    gx, grads_strided = layer.backward(g, saved_strided)
    np.testing.assert_allclose(gx, expected, rtol=1e-12, atol=1e-12)
    for key in grads:
        np.testing.assert_allclose(grads_strided[key], grads[key], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", EVERY)
def test_empty_batch(name):
    layer = EVERY[name]({"dtype": np.float32, **seeded(name)})
    x = np.ones((0, 4, 5, 6), np.float32)
    y, saved = layer.forward(x)
    assert y.shape == layer.out_shape(x.shape)
    gx, grads = layer.backward(np.ones_like(y), saved)
    assert gx.shape == x.shape
    assert all(not grads[n].any() and grads[n].shape == layer.params[n].shape for n in layer.params)
    assert not any(np.isnan(a).any() for a in layer.state.values())


@pytest.mark.parametrize("name", EVERY)
def test_a_wrong_gradient_is_refused(name):
    layer = EVERY[name]({"dtype": np.float32, **seeded(name)})
    y, saved = layer.forward(np.ones((2, 4, 5, 6), np.float32))
    if name != "dropout":
        with pytest.raises(ValueError, match="shape"):
            layer.backward(np.ones((*y.shape[:-1], y.shape[-1] + 1), np.float32), saved)


@pytest.mark.parametrize("name", EVERY)
def test_in_two_threads_a_layer_serves_twice(name):
    """What a layer saves goes through the caller's hands: a second forward pass does not spoil the first one's."""
    rng = np.random.default_rng(0)
    layer = EVERY[name]({"dtype": np.float64, **seeded(name)})
    first, second = rng.standard_normal((2, 2, 4, 5, 6))
    y, saved = layer.forward(first, training=False)
    g = rng.standard_normal(y.shape)
    expected, _ = layer.backward(g, saved)
    layer.forward(second, training=False)
    assert np.array_equal(layer.backward(g, saved)[0], expected)


def test_nan_and_infinity_pass_through():
    x = np.array([[[[np.nan, np.inf, -np.inf, 1.0]]]])
    assert np.isnan(nn.ReLU()(x)[0, 0, 0, 0])
    assert np.isnan(nn.BatchNorm(1, dtype=np.float64).forward(x)[0]).all()
    for layer in (nn.ReLU(), nn.ReLU6()):
        _, saved = layer.forward(np.array([-1.0, 2.0]))
        assert layer.backward(np.array([np.inf, 1.0]), saved)[0].tolist() == [0, 1]


# --------------------------------------------------------------------------- what is refused
@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: nn.Conv(3, 4, 0), ValueError, "Conv: kernel must be >= 1, got 0"),
        (lambda: nn.Conv(3, 4, (3, 3), rank=3), ValueError, "Conv: kernel (3, 3) has 2 sizes, but rank is 3"),
        (lambda: nn.Conv(3, 4, 3, groups=2), ValueError, "Conv: in_channels=3 is not divisible by groups=2"),
        (lambda: nn.Conv(4, 3, 3, groups=2), ValueError, "Conv: out_channels=3 is not divisible by groups=2"),
        (lambda: nn.Conv(3, 4, 3, stride=0), ValueError, "Conv: stride on every axis must be >= 1"),
        (lambda: nn.Conv(3, 4, 3, padding="some"), ValueError, "Conv: padding='some' is unknown"),
        (lambda: nn.Conv(3, 4, 3, padding_mode="zero"), ValueError, "Conv: padding_mode='zero' is unknown"),
        (lambda: nn.Conv(3, 4, 3, layout="NCHW"), ValueError, "Conv: layout='NCHW' is unknown"),
        (lambda: nn.Conv(3, 4, 3, dtype=int), TypeError, "Conv: dtype is int64, and parameters are real floats"),
        (lambda: nn.Conv(3, 4, 3, bias=1), TypeError, "Conv: bias must be True or False"),
        (lambda: nn.Conv(3, 4, 3, initial="he"), ValueError, "Conv: initial='he' is unknown"),
        (lambda: nn.Conv(3, 4, 3, initial="normal"), ValueError, "write ('uniform', 0.1) or ('normal', 0.1)"),
        (lambda: nn.Conv(3, 4, 3, initial=3), TypeError, "Conv: initial must be a name"),
        (
            lambda: nn.Conv(3, 4, 3, initial=lambda shape, rng: np.ones(3)),
            ValueError,
            "initial gave an array of shape (3,)",
        ),
        (lambda: nn.Conv(3, 4, 3, rng=np.random.RandomState(0)), TypeError, "rng must be None, an int or"),
        (lambda: nn.DepthwiseConv(3, 3, groups=1), TypeError, "DepthwiseConv: unknown keyword 'groups'"),
        (lambda: nn.Linear(0, 4), ValueError, "Linear: in_features must be >= 1"),
        (lambda: nn.Dropout(1.5), ValueError, "Dropout: rate must be a number from 0 to 1, got 1.5"),
        (lambda: nn.BatchNorm(4, momentum=2), ValueError, "BatchNorm: momentum must be a number from 0 to 1"),
        (lambda: nn.BatchNorm(4, eps=-1), ValueError, "BatchNorm: eps must be a number >= 0"),
        (lambda: nn.GroupNorm(3, 4), ValueError, "GroupNorm: channels=4 is not divisible by groups=3"),
        (lambda: nn.LayerNorm(()), ValueError, "LayerNorm: shape is empty"),
        (lambda: nn.MaxPool(2, stride=0), ValueError, "MaxPool: stride must be >= 1"),
        (lambda: nn.MaxPool((2, 2), stride=(1, 2, 3)), ValueError, "MaxPool: stride has 3 values"),
        (lambda: nn.AvgPool(2, ceil_mode=1), TypeError, "AvgPool: ceil_mode must be True or False"),
        (lambda: nn.Upsample(0), ValueError, "Upsample: scale must be >= 1"),
        (lambda: nn.Upsample(2, mode="cubic"), ValueError, "Upsample: mode='cubic' is unknown"),
        (lambda: nn.LeakyReLU("a"), TypeError, "LeakyReLU: slope must be a number"),
        (lambda: nn.Sequential(nn.ReLU(), **{"0": nn.Tanh()}), ValueError, "the name '0' is empty, taken or has a dot"),
        (lambda: nn.Sequential(**{"a.b": nn.Tanh()}), ValueError, "the name 'a.b' is empty, taken or has a dot"),
        (lambda: nn.Sequential(nn.ReLU), TypeError, "Sequential: 0 is <class"),
        (lambda: nn.Parallel(), ValueError, "Parallel: there are no branches"),
        (
            lambda: nn.Sequential(nn.Sequential(nn.Conv(3, 4, 3, layout="channels_last")), nn.ReLU(), nn.MaxPool(2)),
            ValueError,
            "layer 0.0 has layout='channels_last', but layer 2 'channels_first'",
        ),
        (lambda: nn.Parallel(nn.Flatten(layout="channels_last")), ValueError, "it has layout='channels_first', but"),
    ],
)
def test_what_a_layer_cannot_be(make, error, text):
    with pytest.raises(error) as caught:
        make()
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("layer", "shape", "text"),
    [
        (nn.Conv(3, 4, 3), (2, 5, 8, 8), "so 5 channels on axis 1 (layout 'channels_first'), expected 3"),
        (nn.Conv(3, 4, 3), (2, 3, 8), "has shape (2, 3, 8), 3 axes, expected 4: (N, C, *in) with 2 spatial axes"),
        (nn.Conv(3, 4, 3), (3, 8, 8), "add a batch axis"),
        (nn.Conv(3, 4, 3), (2, 8, 8, 3), "axis 3 has 3: did you mean layout='channels_last'?"),
        (nn.Conv(3, 4, 9), (2, 3, 8, 8), "the kernel of w does not fit x"),
        (nn.ConvTranspose(3, 4, 3), (2, 5, 8, 8), "so 5 channels on axis 1"),
        (nn.BatchNorm(3), (2, 8, 8, 3), "expected 3; axis 3 has 3: did you mean layout='channels_last'?"),
        (nn.BatchNorm(3), (3,), "a batch and a channel axis at least"),
        (nn.GroupNorm(1, 4), (2, 8, 8, 3), "so 8 channels on axis 1"),
        (nn.LayerNorm(5), (2, 4), "expected (..., 5)"),
        (nn.Linear(12, 2), (2, 3, 2, 2), "put nn.Flatten() before this layer"),
        (nn.MaxPool((2, 2)), (1, 2, 4, 4, 4), "5 axes, expected 4"),
        (nn.AvgPool(5), (1, 2, 4, 4), "does not fit x"),
        (nn.Upsample((2, 2)), (1, 2, 4), "3 axes, expected 4"),
        (nn.Flatten(), (3,), "a batch and a channel axis at least"),
        (nn.Softmax(3), (3,), "softmax: axis is 3, but the input has 1 axes"),
    ],
    ids=repr,
)
def test_what_a_layer_cannot_take(layer, shape, text):
    """The same for an array and for a shape, and inside a model with the place."""
    x = np.ones(shape, np.float32)
    model = nn.Sequential(first=nn.Identity(), inner=nn.Sequential(nn.Identity(), layer))
    for call in (lambda: model(x), lambda: model.forward(x), lambda: model.out_shape(shape)):
        with pytest.raises(ValueError, match="layer") as caught:
            call()
        assert text in str(caught.value)
        assert str(caught.value).startswith("layer inner.1 (")


def test_layouts_that_may_differ():
    """Where a layer has no use for its layout, and where somebody's own may turn the axes."""

    class Turn(nn.Layer):
        pass

    last = nn.Conv(3, 4, 3, layout="channels_last")
    nn.Sequential(nn.Residual(last), nn.Softmax(-1), nn.Parallel(nn.Identity(), nn.Tanh(), join="add"))
    nn.Sequential(nn.MaxPool(2), Turn(), last)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_empty_batch(layout):
    """Goes forward and back, and every parameter gets a gradient of zeros."""
    for rank in (1, 2, 3):
        for name, (ours, _) in SPATIAL.items():
            layer = ours(rank, 4, {"layout": layout, "dtype": np.float64})
            x = turned(np.empty((0, 4, *(5, 6, 3)[:rank])), layout)
            y, saved = layer.forward(x)
            gx, grads = layer.backward(np.empty_like(y), saved)
            assert y.shape == layer.out_shape(x.shape), name
            assert gx.shape == x.shape, name
            assert not any(a.any() for a in grads.values()), name
    few_windows = nn.MaxPool((4, 4, 2), padding=1, layout=layout)
    x = turned(np.empty((0, 17, 3, 8, 1)), layout)
    assert few_windows.forward(x)[0].shape == few_windows.out_shape(x.shape)


def test_lists_are_arrays():
    x = [[[1.0, 2.0], [3.0, 4.0]]]
    layers = (nn.Flatten(), nn.Dropout(0.5, rng=0), nn.Identity(), nn.ReLU(), nn.BatchNorm(2), nn.Linear(2, 2, rng=0))
    for layer in (*layers, nn.Residual(nn.Linear(2, 2, rng=0)), nn.Parallel(nn.Identity(), nn.ReLU())):
        for ours, theirs in ((layer(x), layer(np.array(x))), (layer.forward(x)[0], layer.forward(np.array(x))[0])):
            assert isinstance(ours, np.ndarray)
            assert ours.shape == theirs.shape
    with pytest.raises(TypeError, match="g is of type list, not an array"):
        nn.Flatten().backward([[1.0] * 4], (1, 2, 2))


def test_a_layer_that_serves_twice():
    """Its gradients, under both names, add up to torch's; its parameters count once."""
    rng = np.random.default_rng(0)
    ours, theirs = nn.Linear(4, 4, rng=0, dtype=np.float64), torch.nn.Linear(4, 4).double()
    ours.load({name: p.detach().numpy() for name, p in theirs.named_parameters()})
    model, peer = nn.Sequential(ours, nn.Tanh(), ours), torch.nn.Sequential(theirs, torch.nn.Tanh(), theirs)
    x = rng.standard_normal((3, 4))
    y, saved = model.forward(x)
    _, grads = model.backward(y, saved)
    expected = peer(torch.from_numpy(x))
    expected.backward(expected.detach())
    for name, p in theirs.named_parameters():
        close(name, grads[f"0.{name}"] + grads[f"2.{name}"], p.grad, 1e-12)
    assert nn.summary(model, x.shape).parameters == 20


def test_a_step_between_forward_and_backward():
    """What a frozen batch norm saved is its own: a later step of training does not reach it."""
    layer, x = nn.BatchNorm(2, dtype=np.float64), np.random.default_rng(0).standard_normal((4, 2))
    g = np.ones_like(x)
    _, saved = layer.forward(x, training=False)
    before = layer.backward(g, saved)[1]["weight"]
    layer.forward(10 + x)
    assert np.array_equal(layer.backward(g, saved)[1]["weight"], before)


def test_copies_and_pickles():
    model = nn.Sequential(nn.Conv(1, 2, 3, rng=0), nn.BatchNorm(2), nn.Residual(nn.ReLU()), nn.Dropout(rng=1))
    x = np.random.default_rng(0).standard_normal((2, 1, 5, 5)).astype(np.float32)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(other(x), model(x))
        assert repr(other) == repr(model)
        assert not any(
            np.shares_memory(a, b) for a, b in zip(other.weights().values(), model.weights().values(), strict=True)
        )
        other.parameters()["0.weight"][...] = 0
    assert model.parameters()["0.weight"].any()


def test_threads_share_a_model():
    model = nn.Sequential(nn.Conv(3, 4, 3, rng=0), nn.BatchNorm(4), nn.ReLU(), nn.MaxPool(2), nn.Flatten())
    xs = np.random.default_rng(0).standard_normal((8, 2, 3, 10, 10)).astype(np.float32)

    def both(x):
        y, saved = model.forward(x, training=False)
        return y, model(x), model.backward(y, saved)[0]

    alone = [both(x) for x in xs]
    with ThreadPoolExecutor(8) as pool:
        for ours, theirs in zip(pool.map(both, xs), alone, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


# --------------------------------------------------------------------------- weights in
def test_load_copies():
    layer = nn.Linear(2, 3, rng=0)
    given = {"weight": np.ones((3, 2), np.float16), "bias": np.zeros(3, np.int64)}
    layer.load(given)
    given["weight"][...] = 7
    assert layer.params["weight"].dtype == np.float32
    assert (layer.params["weight"] == 1).all()


@pytest.mark.parametrize(
    ("weights", "error", "text"),
    [
        ({"weight": np.ones((3, 2))}, ValueError, "1 missing ('bias'); 0 unknown; rename them with npconv.nn.match_w"),
        ({"weight": np.ones((3, 2)), "bias": np.ones(3), "b": 0}, ValueError, "1 unknown ('b'); rename them"),
        ({"weight": np.ones((2, 3)), "bias": np.ones(3)}, ValueError, "'weight' has shape (2, 3), but the model's is"),
        ({"weight": np.ones((3, 2)), "bias": np.ones(3) * 1j}, TypeError, "'bias' has dtype complex128"),
        ({"weight": np.ones((3, 2)), "bias": np.full(3, 1e39)}, ValueError, "'bias' has numbers too large for the mod"),
        ("model.pt", TypeError, "weights are of type str, expected arrays by name; read a file with npconv.nn.load_w"),
        (None, TypeError, "weights are of type NoneType"),
    ],
)
def test_what_load_refuses(weights, error, text):
    layer = nn.Linear(2, 3, initial="zeros")
    with pytest.raises(error) as caught:
        layer.load(weights)
    assert text in str(caught.value)
    assert not layer.params["weight"].any()


def test_a_mismatch_deep_inside_names_the_place():
    inner = nn.Residual(nn.Parallel(nn.Conv(3, 3, 3, padding=1), nn.Conv(3, 3, 1), join="add"))
    model = nn.Sequential(stem=nn.ReLU(), block=nn.Sequential(nn.Parallel(inner, odd=nn.Conv(3, 2, 3))))
    shape = (2, 3, 8, 8)
    x = np.ones(shape, np.float32)
    for call in (
        lambda: model(x),
        lambda: model.forward(x),
        lambda: model.out_shape(shape),
        lambda: nn.summary(model, shape),
    ):
        with pytest.raises(
            ValueError, match=r"^layer block\.0 \(Parallel\(\.\.\.\)\): .*branch odd gives \(2, 2, 6, 6\)"
        ):
            call()
    with pytest.raises(ValueError, match="saved is not what this layer's forward returned"):
        model.backward(x, [None])


def test_one_value_per_channel_has_no_variance():
    with pytest.raises(ValueError, match="one value per channel"):
        nn.BatchNorm(3).forward(np.ones((1, 3), np.float32))
    assert nn.BatchNorm(3)(np.ones((1, 3), np.float32)).shape == (1, 3)
