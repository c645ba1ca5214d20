"""Losses against torch and against differences; what they refuse."""

import numpy as np
import pytest

from npconv import nn
from npconv.gradcheck import check

torch = pytest.importorskip("torch", reason="the oracle of losses is torch")

RNG = np.random.default_rng(0)
SCORES = RNG.standard_normal((6, 5)) * 3
CLASSES = np.array([0, 4, 2, 2, 1, 3])
CHANCES = RNG.dirichlet(np.ones(5), 6)
PIXELS = RNG.standard_normal((2, 4, 3, 5))
PIXEL_CLASSES = RNG.integers(0, 4, (2, 3, 5))
TARGET = SCORES + RNG.standard_normal(SCORES.shape) * 2
BETWEEN = RNG.random(SCORES.shape)

CASES = {
    "cross-entropy": (nn.CrossEntropy(), torch.nn.CrossEntropyLoss(), SCORES, CLASSES),
    "smoothed": (nn.CrossEntropy(0.1), torch.nn.CrossEntropyLoss(label_smoothing=0.1), SCORES, CLASSES),
    "all smoothed": (nn.CrossEntropy(1.0), torch.nn.CrossEntropyLoss(label_smoothing=1.0), SCORES, CLASSES),
    "chances": (nn.CrossEntropy(), torch.nn.CrossEntropyLoss(), SCORES, CHANCES),
    "odd chances": (nn.CrossEntropy(), torch.nn.CrossEntropyLoss(), SCORES, 3 * CHANCES),
    "smoothed chances": (nn.CrossEntropy(0.2), torch.nn.CrossEntropyLoss(label_smoothing=0.2), SCORES, CHANCES),
    "pixels": (nn.CrossEntropy(0.1), torch.nn.CrossEntropyLoss(label_smoothing=0.1), PIXELS, PIXEL_CLASSES),
    "large scores": (nn.CrossEntropy(), torch.nn.CrossEntropyLoss(), SCORES * 1e3, CLASSES),
    "mse": (nn.MSE(), torch.nn.MSELoss(), SCORES, TARGET),
    "l1": (nn.L1(), torch.nn.L1Loss(), SCORES, TARGET),
    "huber": (nn.Huber(), torch.nn.HuberLoss(), SCORES, TARGET),
    "huber 2.5": (nn.Huber(2.5), torch.nn.HuberLoss(delta=2.5), SCORES, TARGET),
    "bce": (nn.BCEWithLogits(), torch.nn.BCEWithLogitsLoss(), SCORES, BETWEEN),
    "bce, 0 and 1": (nn.BCEWithLogits(), torch.nn.BCEWithLogitsLoss(), SCORES * 100, (BETWEEN > 0.5) * 1.0),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_torch(name, dtype):
    ours, theirs, scores, target = CASES[name]
    scores = scores.astype(dtype)
    target = target.astype(dtype) if target.dtype.kind == "f" else target
    kept = scores.copy(), target.copy()
    value, g = ours(scores, target)
    x = torch.tensor(scores, requires_grad=True)
    expected = theirs(x, torch.tensor(target))
    expected.backward()
    expected = float(expected.detach())
    tolerance = 1e-13 if dtype is np.float64 else 2e-6
    assert isinstance(value, float)
    assert value == pytest.approx(expected, rel=tolerance)
    assert g.dtype == dtype
    assert g.flags.c_contiguous
    np.testing.assert_allclose(g, x.grad.numpy(), rtol=tolerance, atol=tolerance * float(x.grad.abs().max()))
    assert all((a == b).all() for a, b in zip(kept, (scores, target), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_gradient_by_differences(name):
    loss, _, scores, target = CASES[name]
    if np.abs(scores).max() > 50:
        pytest.skip("differences of a function that is flat or steep say nothing")
    assert check(
        lambda x: np.float64(loss(x, target)[0]), lambda g, x: g * loss(x, target)[1], scores, step=1e-6, rtol=1e-5
    )


def test_channels_last_is_the_same_loss():
    first = nn.CrossEntropy(0.1)(PIXELS, PIXEL_CLASSES)
    last = nn.CrossEntropy(0.1, axis=-1)(np.moveaxis(PIXELS, 1, -1), PIXEL_CLASSES)
    assert last[0] == pytest.approx(first[0], rel=1e-14)
    np.testing.assert_allclose(np.moveaxis(last[1], -1, 1), first[1], rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.float16, "bfloat16"])
def test_half_precision_is_computed_in_float32(dtype):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes", reason="bfloat16 is ml_dtypes'").bfloat16
    scores = SCORES.astype(dtype)
    value, g = nn.CrossEntropy()(scores, CLASSES)
    wide, g_wide = nn.CrossEntropy()(scores.astype(np.float32), CLASSES)
    assert value == wide
    assert g.dtype == dtype
    assert (g == g_wide.astype(dtype)).all()


def test_extreme_scores_are_no_trouble():
    scores = np.array([[1e30, -1e30], [-1e4, 1e4]], np.float32)
    value, g = nn.CrossEntropy()(scores, np.array([0, 1]))
    assert value == 0
    assert not g.any()
    value, g = nn.BCEWithLogits()(scores[1:], np.array([[0.0, 1.0]]))
    assert value == 0
    assert not g.any()
    assert nn.BCEWithLogits()(scores[1:], np.array([[1.0, 0.0]]))[0] == pytest.approx(1e4)


def test_metrics():
    assert nn.CrossEntropy().metrics([[0.0, 1.0], [0.0, 1.0]], [1, 0]) == {"accuracy": 0.5}
    assert nn.CrossEntropy().metrics([[0.0, 1.0], [0.0, 1.0]], [[0.2, 0.8], [0.9, 0.1]]) == {"accuracy": 0.5}
    assert nn.BCEWithLogits().metrics([[2.0, -1.0]], [[1, 1]]) == {"accuracy": 0.5}
    assert nn.MSE().metrics([1.0], [1.0]) == {}


@pytest.mark.parametrize(
    ("loss", "scores", "target", "words"),
    [
        (nn.CrossEntropy(), SCORES, [0, 1, 2, 5, 0, 0], "target at (3,) is 5, but the scores have 5 classes, 0 to 4"),
        (nn.CrossEntropy(), SCORES, [0, 1, 2, -1, 0, 0], "target at (3,) is -1"),
        (nn.CrossEntropy(), SCORES, [0, 1], "target has shape (2,); for scores of shape (6, 5) it is (6,)"),
        (nn.CrossEntropy(), SCORES, [0.0] * 6, "has dtype float64; classes are whole numbers"),
        (nn.CrossEntropy(), SCORES[0], [0], "scores have shape (5,)"),
        (nn.CrossEntropy(), SCORES[:0], CLASSES[:0], "scores has shape (0, 5): there is nothing to average"),
        (nn.CrossEntropy(), SCORES + 1j, CLASSES, "scores has dtype complex128, needs real numbers"),
        (nn.MSE(), SCORES[:, :1], SCORES[:, 0], "has shape (6,); target.reshape((6, 1)) would fit"),
        (nn.MSE(), SCORES, SCORES[:2], "scores have shape (6, 5), but the target has shape (2, 5)"),
        (nn.MSE(), SCORES, np.array([["a"] * 5] * 6), "the target has dtype <U1"),
        (nn.BCEWithLogits(), SCORES[:1], [[0, 1, 2, 0, 0]], "target at (0, 2) is 2.0, needs numbers from 0 to 1"),
        (nn.BCEWithLogits(), SCORES[:1], [[0, 1, np.nan, 0, 0]], "target at (0, 2) is nan"),
    ],
)
def test_refusals(loss, scores, target, words):
    with pytest.raises((ValueError, TypeError)) as error:
        loss(scores, target)
    assert words in str(error.value)
    assert str(error.value).startswith(f"{type(loss).__name__}: ")


@pytest.mark.parametrize(
    "make", [lambda: nn.CrossEntropy(1.5), lambda: nn.CrossEntropy(-0.1), lambda: nn.Huber(0), lambda: nn.Huber(np.inf)]
)
def test_options_are_checked(make):
    with pytest.raises(ValueError, match="needs a number"):
        make()


def test_repr():
    assert repr(nn.CrossEntropy(0.1)) == "CrossEntropy(label_smoothing=0.1, axis=1)"
    assert repr(nn.Huber()) == "Huber(delta=1.0)"
