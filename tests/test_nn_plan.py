"""A model's plan computes what the model computes: layers melted together, in another layout, on shared memory."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import npconv
from npconv import nn
from npconv.compiled import catalogue
from npconv.compiled.chains import Program
from npconv.nn import batches, models

LAYOUTS = ("channels_first", "channels_last")
NETWORKS = {
    "lenet5": ((2, 1, 28, 28), {}),
    "vgg11": ((1, 3, 32, 32), {"batch_norm": True}),
    "resnet18": ((2, 3, 40, 40), {}),
    "resnet50": ((1, 3, 32, 32), {}),
    "densenet121": ((1, 3, 32, 32), {}),
    "googlenet": ((1, 3, 48, 48), {}),
    "mobilenet_v2": ((2, 3, 40, 33), {}),
    "unet": ((1, 3, 32, 48), {"width": 8, "depth": 3}),
}


def trained(model):
    """The model as if it had been trained: no batch norm is the identity."""
    rng = np.random.default_rng(1)
    for name, array in model.weights().items():
        if name.endswith("running_var"):
            array[...] = rng.uniform(0.5, 2, array.shape)
        elif array.ndim == 1:
            array += rng.normal(0, 0.2, array.shape).astype(array.dtype)
    return model


def image(shape, layout="channels_first", dtype=np.float32, seed=0):
    x = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    return x if layout == "channels_first" else np.ascontiguousarray(np.moveaxis(x, 1, -1))


def close(y, expected):
    bound = 1e-4 if y.dtype == np.float32 else 1e-12
    assert y.shape == expected.shape
    assert np.abs(y - expected).max() <= bound * np.abs(expected).max()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NETWORKS)
def test_seven_networks(name, layout):
    shape, options = NETWORKS[name]
    model = trained(getattr(models, name)(7, rng=0, layout=layout, **options))
    x = image(shape, layout)
    plan = model.plan(x.shape)
    y = plan(x)
    close(y, model(x))
    assert y.shape == model.out_shape(x.shape)
    assert np.array_equal(plan(x), y)  # the memory of the first call was used again
    assert len(plan.steps) < sum(not layer.children for _, layer in model.walk())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layers_that_are_not_melted(layout, dtype):
    same = {"layout": layout, "rng": 0, "dtype": dtype}
    model = nn.Sequential(
        nn.AvgPool(3, stride=1, padding=1, layout=layout),
        nn.ReLU(),
        nn.Residual(nn.Identity(), nn.Tanh()),
        nn.BatchNorm(3, layout=layout, dtype=dtype),
        nn.SiLU(),
        nn.Parallel(nn.Conv(3, 4, 1, **same), nn.Identity(), nn.Identity(), layout=layout),
        nn.Upsample(2, layout=layout),
        nn.ConvTranspose(10, 6, 2, stride=2, groups=2, **same),
        nn.BatchNorm(6, layout=layout, dtype=dtype),
        nn.LeakyReLU(0.1),
        nn.GroupNorm(2, 6, layout=layout, dtype=dtype),
        nn.DepthwiseConv(6, 3, padding=1, **same),
        nn.Flatten(layout=layout),
        nn.Linear(6 * 20 * 12, 5, rng=0, dtype=dtype),
        nn.GELU(),
        nn.Softmax(),
    )
    x = image((2, 3, 5, 3), layout, dtype)
    close(trained(model).plan(x.shape, dtype=dtype)(x), model(x))


def test_a_linear_layer_along_the_last_axis():
    """It reads a copy of what a convolution wrote channels last, another one for every call."""
    model = nn.Sequential(nn.Conv(3, 4, 1, rng=0), nn.Linear(6, 5, rng=1))
    plan = model.plan((1, 3, 8, 6))
    for seed in range(3):
        x = image((1, 3, 8, 6), seed=seed)
        close(plan(x), model(x))


def test_a_slope_of_nothing():
    model = nn.Sequential(nn.Conv(3, 4, 1, rng=0), nn.LeakyReLU(0.0))
    x = image((1, 3, 8, 6))
    close(model.plan(x.shape)(x), model(x))


def test_a_value_with_two_readers_keeps_its_memory():
    """The first term of a sum is written over only where nobody reads it later."""
    first = nn.Conv(2, 2, 3, padding=1, rng=0)
    model = nn.Sequential(
        first, nn.Parallel(nn.Identity(), nn.Sequential(nn.Residual(nn.ReLU(), nn.Identity())), join="add"), nn.Tanh()
    )
    x = image((1, 2, 6, 6))
    close(model.plan(x.shape)(x), model(x))


def conv(i, o, k=1, **options):
    return nn.Conv(i, o, k, padding=k // 2, rng=i + o + k, **options)


def row(*layers):
    return nn.Sequential(*layers)


def around(*layers, shortcut=None):
    return nn.Residual(row(*layers), shortcut)


SUMS = {
    "of the input": lambda: around(conv(2, 2)),
    "read by the convolution": lambda: row(conv(2, 2), around(conv(2, 2))),
    "its last reader": lambda: row(conv(2, 2), around(conv(2, 4), conv(4, 2)), nn.ReLU()),
    "both convolutions": lambda: row(conv(2, 2), around(conv(2, 4), conv(4, 3), shortcut=conv(2, 3)), nn.ReLU6()),
    "with transforms": lambda: row(conv(2, 16), around(conv(16, 16, 3), nn.ReLU(), conv(16, 16, 3))),
    "an activation between": lambda: row(conv(2, 2), around(conv(2, 4), conv(4, 2), nn.ReLU())),
    "read later": lambda: row(conv(2, 2), nn.Parallel(nn.Identity(), around(conv(2, 4), conv(4, 2)))),
    "one after the other": lambda: row(
        conv(2, 2), *[row(around(conv(2, 4, 3), conv(4, 2)), nn.GELU()) for _ in range(3)]
    ),
    "within each other": lambda: row(conv(2, 2), around(around(conv(2, 2), conv(2, 2)), conv(2, 2))),
    "of three": lambda: row(
        conv(2, 2), nn.Parallel(nn.Identity(), conv(2, 2), row(conv(2, 4), conv(4, 2)), join="add")
    ),
    "transposed": lambda: row(conv(2, 2), around(conv(2, 4), nn.ConvTranspose(4, 2, 3, padding=1, rng=0))),
}


@pytest.mark.parametrize("name", SUMS)
def test_sums(name):
    """A convolution that adds to the other term finds it there, and nobody who reads that term misses it."""
    model = trained(SUMS[name]())
    plan = model.plan((2, 2, 7, 6))
    for seed in range(3):
        x = image((2, 2, 7, 6), seed=seed)
        before = x.copy()
        close(plan(x), model(x))
        assert np.array_equal(x, before)


def test_a_sum_melts():
    plan = SUMS["its last reader"]().plan((2, 2, 7, 6))
    assert "conv 1x1, bias, sum, relu" in str(plan)
    assert len(plan.steps) == 3


@pytest.mark.skipif(catalogue.unavailable() is not None, reason=str(catalogue.unavailable()))
@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18"])
def test_launches_in_a_row_are_one_program(name):
    """Python starts them together; the bits are those of step by step, on any number of threads."""
    plan = trained(getattr(models, name)(5, rng=0)).plan((2, 3, 40, 48))
    images = [image((2, 3, 40, 48), seed=i) for i in range(4)]
    expected = []
    for x in images:
        plan._waiting.clear()  # a first call goes step by step
        expected.append(plan(x))
    for threads in (1, 2, 3, 2):
        with npconv.num_threads(threads):
            for _ in range(3):
                assert all(np.array_equal(plan(x), y) for x, y in zip(images, expected, strict=True))
            programs = [step for step in plan._waiting[-1]._again if isinstance(step, Program)]
            assert sum(len(program.launches) for program in programs) > len(plan.steps) // 2


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_image_lies_anywhere(layout):
    """A program is for the strides of one input, not for its place."""
    model = trained(models.mobilenet_v2(5, rng=0, layout=layout))
    shape = (1, 3, 40, 48) if layout == "channels_first" else (1, 40, 48, 3)
    plan = model.plan(shape)
    wide = np.zeros((*shape[:-1], 2 * shape[-1] + 1), np.float32)
    places = [
        lambda x: x.copy(),
        lambda x: np.asfortranarray(x),
        lambda x: np.ascontiguousarray(x[..., ::-1])[..., ::-1],
        lambda x: np.copyto(wide[..., 1::2], x) or wide[..., 1::2],
    ]
    for seed in range(3):
        for put in places:
            x = put(image(shape, seed=seed))
            close(plan(x), model(x))


@pytest.mark.skipif(catalogue.unavailable() is not None, reason=str(catalogue.unavailable()))
def test_a_network_is_one_program():
    plan = trained(models.mobilenet_v2(5, rng=0)).plan((1, 3, 64, 64))
    for seed in range(2):
        plan(image((1, 3, 64, 64), seed=seed))
    (program,) = plan._waiting[-1]._again
    assert isinstance(program, Program)
    assert len(program.launches) == len(plan.steps)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("name", "size"), [("mobilenet_v2", 32), ("resnet18", 32), ("densenet121", 32)])
def test_image_by_image(name, size, layout, monkeypatch):
    """A batch whose values would not stay in the cache: here, whatever the cache holds."""
    monkeypatch.setattr(batches, "FAR", 0)
    monkeypatch.setattr(batches, "BEGINNING", 0)
    monkeypatch.setattr(batches, "LIGHT", 1 << 30)
    model = trained(getattr(models, name)(3, rng=0, layout=layout))
    x = image((3, 3, size, size), layout)
    plan = model.plan(x.shape)
    assert sum(step.shape[0] == 1 for step in plan.steps) > 10, str(plan)
    assert plan.workspace < sum(4 * np.prod(step.shape) for step in plan.steps)
    for _ in range(3):
        close(plan(x), model(x))
    close(plan(x[::-1]), model(x)[::-1])


def test_a_term_of_a_sum_crosses_too(monkeypatch):
    """A convolution that adds to a value does not read it, and yet it must be there."""
    monkeypatch.setattr(batches, "FAR", 0)
    monkeypatch.setattr(batches, "BEGINNING", 0)
    monkeypatch.setattr(batches, "LIGHT", 4 * 8 * 8)
    block = around(conv(8, 8), nn.ReLU(), conv(8, 8, 5))  # the second one's weights are not light: a batch at once
    model = trained(row(conv(3, 8, 1), block, nn.Flatten(), nn.Linear(8 * 36, 2, rng=0)))
    plan = model.plan((3, 3, 6, 6))
    x = image((3, 3, 6, 6))
    for _ in range(2):
        close(plan(x), model(x))


def test_what_stays_in_the_cache_runs_at_once():
    plan = models.mobilenet_v2(3, rng=0).plan((3, 3, 32, 32))
    assert all(step.shape[0] == 3 for step in plan.steps)
    plan = models.mobilenet_v2(3, rng=0).plan((8, 3, 224, 224))
    assert plan.steps[3].shape == (1, 96, 112, 112)
    assert plan.steps[-3].shape[0] == 8


@pytest.mark.parametrize("special", [np.nan, np.inf])
def test_what_is_not_finite_stays_where_it_belongs(special):
    """Transforms spread it over their tiles; a program that did so is not believed."""
    model = trained(row(conv(3, 16), conv(16, 16, 3), nn.ReLU(), conv(16, 32, 3), conv(32, 4), nn.ReLU6()))
    plan = model.plan((1, 3, 24, 24))
    x = image((1, 3, 24, 24))
    clean = [plan(x) for _ in range(3)][-1]
    x[0, 1, 12, 12] = special
    for _ in range(3):
        y, expected = plan(x), model(x)
        assert np.array_equal(np.isnan(y), np.isnan(expected))
        np.testing.assert_allclose(y, expected, atol=1e-4)
    x = image((1, 3, 24, 24))
    assert np.array_equal(plan(x), clean)


def test_the_input_is_not_written_to():
    model = nn.Sequential(nn.ReLU(), nn.Residual(nn.Identity(), nn.Identity()), nn.ReLU())
    x = image((1, 2, 3, 3))
    before = x.copy()
    close(model.plan(x.shape)(x), model(x))
    assert np.array_equal(x, before)


def test_a_layer_of_ones_own_that_reads_channels_last_after_channels_first():
    class Shift(nn.Layer):
        layout = "channels_last"

        def forward(self, x, *, training=True):
            return x + np.arange(x.shape[-1], dtype=x.dtype), None

        def out_shape(self, shape):
            return shape

    model = nn.Sequential(nn.Conv(2, 3, 1, rng=0), Shift(), nn.Conv(3, 2, 1, rng=1))
    x = image((1, 2, 4, 5))
    close(model.plan(x.shape)(x), model(x))


def test_threads_share_a_plan():
    model = trained(models.resnet18(5, rng=0))
    plan = model.plan((1, 3, 32, 32))
    images = [image((1, 3, 32, 32), seed=i) for i in range(24)]
    expected = [plan(x) for x in images]
    with ThreadPoolExecutor(6) as pool:
        assert all(map(np.array_equal, pool.map(plan, images), expected))


def test_training_on_does_not_change_a_plan():
    model = nn.Sequential(nn.Conv(1, 2, 3, rng=0), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3, rng=1))
    x = image((1, 1, 4, 4))
    plan = model.plan(x.shape)
    before = plan(x)
    for array in model.parameters().values():
        array += 1
    assert np.array_equal(plan(x), before)


def test_out_is_where_the_result_goes():
    model = nn.Sequential(nn.Conv(1, 2, 3, rng=0), nn.ReLU())
    x, out = image((1, 1, 5, 5)), np.full((1, 2, 3, 3), np.nan, np.float32)
    assert model.plan(x.shape)(x, out=out) is out
    close(out, model(x))


def test_errors_name_the_place_and_what_to_do():
    model = nn.Sequential(features=nn.Sequential(nn.Conv(3, 4, 3, rng=0)), head=nn.Linear(5, 2, rng=0))
    with pytest.raises(
        ValueError,
        match=r"^layer features\.0 \(Conv\(3, 4, 3\)\): conv: the input has shape \(1, 2, 8, 8\), so 2 channels",
    ):
        model.plan((1, 2, 8, 8))
    plan = nn.plan(model["features"], (1, 3, 8, 8))
    with pytest.raises(ValueError, match=r"x\.shape is \(1, 3, 8, 9\), the plan is for \(1, 3, 8, 8\)"):
        plan(image((1, 3, 8, 9)))
    with pytest.raises(TypeError, match=r"x has dtype float64, the plan is for float32"):
        plan(image((1, 3, 8, 8), dtype=np.float64))
    with pytest.raises(TypeError, match="dtype must be float32 or float64, got float16"):
        nn.plan(model["features"], (1, 3, 8, 8), dtype=np.float16)
