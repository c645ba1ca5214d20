"""`summary` against what a forward pass really makes and keeps, and against gradients for the receptive field."""

from fractions import Fraction

import numpy as np
import pytest

from npconv import nn


def rng_all(model, seed: int = 0):
    rng = np.random.default_rng(seed)
    for array in model.parameters().values():
        array[...] = rng.uniform(0.5, 1, array.shape)  # positive: nothing cancels, so every path counts
    return model


MODELS = {
    "plain": (
        lambda: nn.Sequential(
            nn.Conv(3, 8, 3, stride=2, padding=1),
            nn.BatchNorm(8),
            nn.ReLU(),
            nn.MaxPool(2),
            nn.Dropout(0.3, rng=0),
            nn.Flatten(),
            nn.Linear(8 * 4 * 4, 5),
        ),
        (2, 3, 16, 16),
    ),
    "residual": (
        lambda: nn.Sequential(
            first=nn.Conv(3, 8, 3, padding=1, layout="channels_last"),
            block=nn.Residual(
                nn.Sequential(
                    nn.Conv(8, 8, 3, padding=1, layout="channels_last"),
                    nn.GELU(),
                    nn.SeparableConv(8, 8, 5, padding=2, layout="channels_last"),
                )
            ),
            pool=nn.GlobalAvgPool(layout="channels_last"),
            head=nn.Linear(8, 4),
        ),
        (2, 12, 9, 3),
    ),
    "branches": (
        lambda: nn.Parallel(
            nn.Sequential(nn.AvgPool(2), nn.Upsample(2, mode="linear")),
            nn.Sequential(nn.Conv(2, 4, 2, stride=2), nn.GroupNorm(2, 4), nn.ConvTranspose(4, 3, 2, stride=2)),
            nn.Sequential(nn.LayerNorm((8, 8)), nn.SiLU()),
        ),
        (1, 2, 8, 8),
    ),
}
each = pytest.mark.parametrize("name", MODELS)


def memory_of(saved) -> dict[int, int]:
    """The bytes of all arrays inside what a forward pass saved, by where they begin."""
    if isinstance(saved, np.ndarray):
        return {saved.__array_interface__["data"][0]: saved.nbytes}
    if isinstance(saved, (list, tuple)):
        return {at: size for part in saved for at, size in memory_of(part).items()}
    return {}


@each
def test_what_backward_keeps(name):
    make, shape = MODELS[name]
    model = make()
    _, saved = model.forward(np.random.default_rng(0).standard_normal(shape).astype(np.float32))
    assert nn.summary(model, shape).kept_bytes == sum(memory_of(saved).values())


@each
def test_totals(name):
    make, shape = MODELS[name]
    model = make()
    found = nn.summary(model, shape)
    assert found.parameters == sum(a.size for a in model.parameters().values())
    assert found.macs == model.macs(shape)
    assert found.rows[-1].out_shape == model.out_shape(shape)
    paths = {path for path, layer in model.walk() if not layer.children}
    assert paths <= {row.path for row in found.rows}
    doubled = nn.summary(model, shape, dtype=np.float64)
    assert doubled.output_bytes == 2 * found.output_bytes


@pytest.mark.parametrize(
    ("layers", "field", "step"),
    [
        ([nn.Conv(1, 1, 3, rank=1)], 3, 1),
        ([nn.Conv(1, 1, 3, rank=1), nn.Conv(1, 1, 3, rank=1)], 5, 1),
        ([nn.Conv(1, 1, 3, rank=1, dilation=4), nn.MaxPool(2)], 10, 2),
        ([nn.Conv(1, 1, 3, rank=1, stride=2), nn.Conv(1, 1, 3, rank=1, stride=2), nn.Conv(1, 1, 3, rank=1)], 15, 4),
        ([nn.AvgPool(3, stride=2), nn.Conv(1, 1, 2, rank=1)], 5, 2),
        ([nn.MaxPool(2), nn.Upsample(2)], 2, 1),
        ([nn.MaxPool(2), nn.ConvTranspose(1, 1, 2, rank=1, stride=2)], 2, 1),
        ([nn.Conv(1, 1, 3, rank=1), nn.ConvTranspose(1, 1, 3, rank=1, stride=2)], 4, Fraction(1, 2)),
        ([nn.Residual(nn.Conv(1, 1, 5, rank=1, padding=2))], 5, 1),
        ([nn.Conv(1, 1, 2, rank=1, stride=2), nn.GlobalAvgPool()], 30, 30),
        ([nn.Conv(1, 1, 2, rank=1, stride=2), nn.Flatten(), nn.Linear(15, 1)], 30, 30),
        ([nn.AdaptiveAvgPool(3)], 10, 10),
    ],
)
def test_receptive_field(layers, field, step):
    """The number, and as many inputs with a gradient of one output from the middle."""
    model = rng_all(nn.Sequential(*layers))
    shape = (1, 1, 30)
    last = nn.summary(model, shape).rows[-1]
    assert (last.field, last.step) == ((field,), (step,))
    x = np.linspace(1, 2, 30, dtype=np.float32).reshape(shape)
    y, saved = model.forward(x)
    widest = 0
    for i in range(y.size):
        g = np.zeros_like(y)
        g.flat[i] = 1
        seen = np.flatnonzero(model.backward(g, saved)[0])
        widest = max(widest, int(seen.max() - seen.min()) + 1 if seen.size else 0)
    if not any(isinstance(layer, nn.MaxPool) for layer in layers):  # whose gradient goes to one input of each window
        assert widest == field


def test_two_axes_of_their_own():
    row = nn.summary(nn.Conv(1, 1, (3, 5), stride=(1, 2)), (1, 1, 9, 9)).rows[0]
    assert (row.field, row.step) == ((3, 5), (1, 2))
    assert str(nn.summary(nn.Conv(1, 1, (3, 5), stride=(1, 2)), (1, 1, 9, 9))).count("3x5 / 1x2") == 1


def test_a_container_of_its_own_kind_is_one_row():
    class Twice(nn.Container):
        def out_shape(self, shape):
            return self[0].out_shape(shape)

    found = nn.summary(nn.Sequential(Twice(nn.Conv(2, 2, 3, padding=1)), nn.ReLU()), (1, 2, 5, 5))
    assert [row.path for row in found.rows] == ["0", "1"]
    assert found.rows[0].parameters == 2 * 2 * 9 + 2
    assert found.rows[0].field is None
    assert "?" in str(found)


def test_what_it_refuses():
    model = nn.Sequential(nn.Conv(3, 4, 3), body=nn.Sequential(nn.Conv(5, 4, 3)))
    with pytest.raises(ValueError, match=r"^layer body\.0 \(Conv\(5, 4, 3\)\): conv: the input has shape"):
        nn.summary(model, (1, 3, 9, 9))
    with pytest.raises(TypeError, match="summary: model is 3"):
        nn.summary(3, (1, 3, 9, 9))
    with pytest.raises(TypeError, match="summary: input_shape must be a tuple"):
        nn.summary(model, 3)


def test_nothing_is_computed():
    """A model that no machine could run is summed up all the same."""
    model = nn.Sequential(nn.Conv(3, 8, 3, padding=1), nn.ReLU())
    found = nn.summary(model, (1000, 3, 1_000_000, 1_000_000))
    assert found.macs == 1000 * 8 * 10**12 * 27
