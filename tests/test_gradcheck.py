"""The gradient checker: right gradients pass, and each kind of wrong one does not."""

import numpy as np
import pytest

from npconv.gradcheck import GradientError, Report, adjoint_error, check


def windows(x, k):
    return np.lib.stride_tricks.sliding_window_view(x, k, axis=(-2, -1))


def conv(x, w):
    """(C, H, W) * (O, C, k, l) -> (O, H', W')."""
    return np.einsum("chwij,ocij->ohw", windows(x, w.shape[2:]), w)


def conv_grads(g, x, w):
    k = w.shape[2:]
    padded = np.pad(g, [(0, 0), *[(s - 1, s - 1) for s in k]])
    dx = np.einsum("ohwij,ocij->chw", windows(padded, k), w[:, :, ::-1, ::-1])
    return dx, np.einsum("chwij,oij->ochw", windows(x, g.shape[1:]), g)


def problem(rng, c=2, o=3, size=(7, 7), k=(3, 3)):
    return rng.standard_normal((c, *size)), rng.standard_normal((o, c, *k))


def test_conv_passes_to_nine_digits():
    report = check(conv, conv_grads, *problem(np.random.default_rng(1)))
    assert report
    assert report.passed
    for part in report.inputs:
        assert part.inner_error < 1e-9
        assert part.entry_error < 1e-9
        assert part.entries == min(100, np.prod(part.shape))


def test_conv_of_ten_thousand_inputs_passes():
    x, w = problem(np.random.default_rng(2), c=4, o=4, size=(50, 50))
    assert x.size == 10_000
    assert check(conv, conv_grads, x, w, samples=20)


DAMAGES = {
    "0.05 % too large": lambda d: d * 1.0005,
    "0.05 % too small": lambda d: d * 0.9995,
    "transposed": lambda d: np.swapaxes(d, -1, -2),
    "flipped along one axis": lambda d: d[..., ::-1],
    "flipped along both axes": lambda d: d[..., ::-1, ::-1],
    "channels swapped": lambda d: d[..., ::-1, :, :],
    "shifted by one": lambda d: np.roll(d, 1, axis=-1),
    "shifted by one, no wrap": lambda d: np.pad(d[..., :-1, :], [*[(0, 0)] * (d.ndim - 2), (1, 0), (0, 0)]),
    "zero": np.zeros_like,
    "negative": np.negative,
    "a constant added": lambda d: d + 1e-3,
    "every other entry missing": lambda d: d * (np.arange(d.size) % 2).reshape(d.shape),
    "NaN": lambda d: np.where(np.arange(d.size).reshape(d.shape) == 5, np.nan, d),
    "Inf": lambda d: np.where(np.arange(d.size).reshape(d.shape) == 5, np.inf, d),
    "wrong shape": lambda d: d[None],
    "summed": lambda d: d.sum(),
}


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("damage", DAMAGES)
def test_wrong_gradients_are_rejected_and_the_input_named(damage, which):
    def wrong(g, x, w):
        given = list(conv_grads(g, x, w))
        given[which] = DAMAGES[damage](given[which])
        return given

    report = check(conv, wrong, *problem(np.random.default_rng(3)), raise_on_failure=False)
    assert not report
    assert [part.passed for part in report.inputs] == [which == 1, which == 0]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("factor", [0, 0.5, 2, -1])
def test_one_wrong_entry_among_ten_thousand_is_seen(seed, factor):
    rng = np.random.default_rng(seed)
    x, w = problem(rng, c=4, o=2, size=(50, 50))
    at = tuple(rng.integers(x.shape))

    def wrong(g, x, w):
        dx, dw = conv_grads(g, x, w)
        dx[at] *= factor
        return dx, dw

    report = check(conv, wrong, x, w, samples=5, raise_on_failure=False)
    assert not report.inputs[0]
    assert report.inputs[1]


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_the_bound_is_relative_at_every_scale(scale):
    x, w = problem(np.random.default_rng(4))
    assert check(conv, conv_grads, x * scale, w / scale)
    assert check(conv, conv_grads, x * scale, w * scale)

    def wrong(g, x, w):
        dx, dw = conv_grads(g, x, w)
        return dx * 1.0005, dw

    assert not check(conv, wrong, x * scale, w / scale, raise_on_failure=False)


@pytest.mark.parametrize(
    ("f", "derivative"),
    [
        (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
        (np.exp, np.exp),
        (lambda x: x**5, lambda x: 5 * x**4),
        (lambda x: np.log(x + 5), lambda x: 1 / (x + 5)),
        (lambda x: np.maximum(x, 0), lambda x: x > 0),
        (lambda x: np.abs(x), np.sign),
        (lambda x: np.sin(3 * x), lambda x: 3 * np.cos(3 * x)),
    ],
)
def test_elementwise_functions(f, derivative):
    x = np.random.default_rng(5).standard_normal((40, 50))
    x[np.abs(x) < 1e-3] = 0.1  # away from kinks
    assert check(f, lambda g, x: g * derivative(x), x)
    assert not check(f, lambda g, x: g * derivative(x) * 1.0005, x, raise_on_failure=False)


def test_scalar_output_scalar_input_and_a_gradient_of_true_zeros():
    assert check(np.sum, lambda g, x: np.full(x.shape, g), np.arange(6.0))
    assert check(lambda x: x * x, lambda g, x: 2 * g * x, 3.0)
    assert check(lambda x: x * x, lambda g, x: 2 * g * x, 0.0)
    assert check(lambda x, unused: 2 * x, lambda g, x, unused: (2 * g, np.zeros(3)), np.ones(2), np.ones(3))
    assert check(lambda x: np.exp(x - x.max()) / np.exp(x - x.max()).sum(), lambda g, x: 0 * x, np.ones(1))
    x = np.random.default_rng(0).standard_normal(50)
    assert check(lambda shift: (x + shift - (x + shift).mean()) / (x + shift).std(), lambda g, s: 0.0, 1.5)


def test_gradient_lost_in_rounding_is_not_called_right():
    def far(x):
        return x + 1e10

    report = check(far, lambda g, x: g, np.ones(5), raise_on_failure=False)
    assert not report
    assert "rounding noise of f hides this gradient" in str(report)
    assert check(far, lambda g, x: g, np.ones(5), step=1e7)  # linear: any step is exact


def test_complex_functions_with_the_conjugate_convention():
    rng = np.random.default_rng(6)
    a = rng.standard_normal((3, 4)) + 1j * rng.standard_normal((3, 4))
    b = rng.standard_normal((4, 2)) + 1j * rng.standard_normal((4, 2))

    def right(g, a, b):
        return g @ b.conj().T, a.conj().T @ g

    assert check(np.matmul, right, a, b)
    assert not check(np.matmul, lambda g, a, b: (g @ b.T, a.T @ g), a, b, raise_on_failure=False)
    assert check(np.abs, lambda g, z: g * z / np.abs(z), a)
    real = a.real.copy()
    assert check(np.matmul, lambda g, a, b: ((g @ b.conj().T).real, a.T @ g), real, b)
    report = check(np.matmul, lambda g, a, b: (g @ b.conj().T, a.T @ g), real, b, raise_on_failure=False)
    assert "its gradient is complex, the input real" in str(report)


def test_integers_pass_through_and_none_is_skipped():
    indices = np.array([2, 0, 2])

    def scatter(g, x, i):
        dx = np.zeros_like(x)
        np.add.at(dx, i, g)
        return dx, None

    report = check(lambda x, i: x[i], scatter, np.ones(4), indices)
    assert report.inputs[1].note == "no gradient"
    message = "gradcheck: input 1 is int64, which has no derivative; give it as float64, or return None"
    with pytest.raises(ValueError, match=message):
        check(lambda x, i: x[i], lambda g, x, i: (scatter(g, x, i)[0], np.zeros(3)), np.ones(4), indices)


def test_float32_inputs_are_checked_in_float64_and_left_alone():
    x, w = (a.astype(np.float32) for a in problem(np.random.default_rng(8)))
    before = x.copy(), w.copy()

    def careless(x, w):
        y = conv(x, w)
        x[...] = 0  # f may spoil its arguments
        return y

    assert check(careless, conv_grads, x, w)
    assert np.array_equal(x, before[0])
    assert np.array_equal(w, before[1])


def test_failure_raises_with_the_numbers():
    with pytest.raises(GradientError) as caught:
        check(np.exp, lambda g, x: 2 * g * np.exp(x), np.array([0.0, 1.0]))
    report = caught.value.report
    assert isinstance(caught.value, ValueError)
    assert isinstance(report, Report)
    part = report.inputs[0]
    assert part.analytic == pytest.approx(2 * part.numeric, rel=1e-9)
    assert str(caught.value) == f"gradcheck: wrong gradient\n{report}"
    assert f"input 0 (2,): FAILED, inner product off by {part.inner_error:.1e}" in str(report)
    assert f"at {part.worst}: {part.analytic:.9g} given, {part.numeric:.9g} measured" in str(report)


def test_empty_input_and_trailing_none():
    assert check(lambda x: x * 2, lambda g, x: g * 2, np.zeros((0, 3)))
    assert check(np.exp, lambda g, x: (g * np.exp(x), None, None), np.ones(2))


RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("f", "grads", "message"),
    [
        (
            lambda x: x.astype(np.float32),
            lambda g, x: g,
            "gradcheck: f returned float32; differences need float64 or complex128, compute in the dtype of the inputs",
        ),
        (lambda x: x, lambda g, x: (g, g), "gradcheck: grads returned 2 gradients for 1 inputs"),
        (
            lambda x: x / np.inf * np.inf,
            lambda g, x: g,
            "gradcheck: f is not finite at or near these inputs; choose others",
        ),
        (
            lambda x: x * RNG.random(),
            lambda g, x: g,
            "gradcheck: f gave two results for the same inputs; fix its random numbers",
        ),
    ],
)
def test_what_cannot_be_checked_is_said(f, grads, message):
    with np.errstate(invalid="ignore"), pytest.raises(ValueError) as caught:
        check(f, grads, np.ones(3))
    assert str(caught.value) == message


def test_adjoint_error():
    rng = np.random.default_rng(9)
    a = rng.standard_normal((30, 20)) + 1j * rng.standard_normal((30, 20))
    forward, back = (lambda x: a.real @ x), (lambda y: a.real.T @ y)
    assert adjoint_error(forward, back, (20,), (30,)) < 1e-14
    assert adjoint_error(lambda x: a @ x, lambda y: a.conj().T @ y, (20,), (30,), dtype=np.complex128) < 1e-14
    assert adjoint_error(lambda x: a @ x, lambda y: a.T @ y, (20,), (30,), dtype=np.complex128) > 1e-2
    assert adjoint_error(forward, lambda y: 1.0005 * back(y), (20,), (30,)) > 1e-5
    assert adjoint_error(forward, lambda y: np.roll(back(y), 1), (20,), (30,)) > 1e-2
    assert adjoint_error(forward, lambda y: back(y) * np.nan, (20,), (30,)) == np.inf
    assert adjoint_error(lambda x: 0 * x, lambda y: 0 * y, (5,), (5,)) == 0
    with pytest.raises(ValueError, match=r"adjoint_error: the adjoint gave shape \(30,\), expected \(20,\)"):
        adjoint_error(forward, lambda y: y, (20,), (30,))
