"""What a plan does on its way: activations that are bounds, and sums with what the output holds."""

import numpy as np
import pytest

import npconv
from npconv.activations import BOUNDS, Activation
from npconv.compiled import catalogue
from npconv.compiled.calls import address
from npconv.compiled.chains import Program

compiled = pytest.mark.skipif(catalogue.unavailable() is not None, reason=str(catalogue.unavailable()))
LAYOUTS = ("channels_first", "channels_last")


def drawn(seed: int, transposed: bool):
    """x, w, bias and keywords of a plan: any rank, layouts, groups, more than one chunk of products now and then."""
    rng = np.random.default_rng([seed, transposed])
    rank, dtype = int(rng.integers(1, 4)), rng.choice(["f4", "f8"])
    groups = int(rng.choice([1, 1, 2, 5]))
    c, o = groups * int(rng.integers(1, 24)), groups * int(rng.integers(1, 40))
    if rng.random() < 0.25:
        groups = c = o = int(rng.integers(1, 40))  # depthwise
    if rng.random() < 0.2:
        c, groups = int(rng.integers(300, 700)), 1
    k, sizes = (tuple(int(n) for n in rng.integers(*bounds, rank)) for bounds in ((1, 5), (5, 14)))
    layout, out_layout = (str(rng.choice(LAYOUTS)) for _ in range(2))
    n = int(rng.integers(1, 3))
    x = rng.standard_normal((n, c, *sizes) if layout == LAYOUTS[0] else (n, *sizes, c)).astype(dtype)
    w = rng.standard_normal((c, o // groups, *k) if transposed else (o, c // groups, *k)).astype(dtype)
    bias = rng.standard_normal(o).astype(dtype) if rng.random() < 0.7 else None
    letters = "OI" + "DHW"[3 - rank :]
    options = {"stride": int(rng.integers(1, 4)), "padding": int(rng.integers(0, 2)), "groups": groups}
    return x, w, bias, {**options, "layout": layout, "kernel_layout": letters, "out_layout": out_layout}, rng


def plan_of(transposed: bool):
    return npconv.plan_conv_transpose if transposed else npconv.plan_conv


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("name", BOUNDS)
def test_bounds_have_the_bits_of_a_sweep(name, transposed):
    for seed in range(60):
        x, w, bias, options, rng = drawn(seed, transposed)
        x.flat[rng.integers(x.size, size=3)] = [np.nan, np.inf, -np.inf]
        make = plan_of(transposed)
        plain, plan = (make(x.shape, w, bias, activation=a, **options) for a in (None, name))
        expected = Activation(name)(plain(x))
        for _ in range(2):  # the second call takes the short way
            np.testing.assert_array_equal(plan(x), expected, err_msg=f"{seed} {plan}")


@compiled
@pytest.mark.parametrize("algorithm", ["blocked", "channelwise", "pixelwise"])
def test_who_keeps_bounds_itself_says_so(algorithm):
    w = np.ones((8, 1, 3, 3), np.float32)
    plan = npconv.plan_conv((1, 8, 9, 9), w, activation="relu6", groups=8, algorithm=algorithm)
    assert "relu6 (by the algorithm itself)" in str(plan.explain())
    plan = npconv.plan_conv((1, 8, 9, 9), w, activation="gelu", groups=8, algorithm=algorithm)
    assert "by the algorithm itself" not in str(plan.explain())


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("name", [None, "relu", "relu6", "leaky_relu", "gelu"])
def test_a_sum_with_the_output(name, transposed):
    """Within the tier's rounding of the sum in float64, whichever algorithm runs; the bits do not depend on the call."""
    for seed in range(40):
        x, w, bias, options, rng = drawn(seed + 1000, transposed)
        algorithm = str(rng.choice(["auto", "auto", "gemm", "direct"]))
        plan = plan_of(transposed)(x.shape, w, bias, activation=name, add=True, algorithm=algorithm, **options)
        wide = [None if a is None else a.astype(np.float64) for a in (x, w, bias)]
        sums = plan_of(transposed)(x.shape, *wide[1:], algorithm="direct", **options)(wide[0])
        before = rng.standard_normal(plan.output_shape).astype(x.dtype)
        total = sums + before
        expected = total if name is None else Activation(name, 0.01 if name == "leaky_relu" else 0.0)(total)
        out = before.copy()
        assert plan(x, out) is out
        tolerance = 1e-3 if x.dtype == np.float32 else 1e-11
        np.testing.assert_allclose(out, expected, rtol=tolerance, atol=tolerance, err_msg=f"{seed} {plan}")
        again = before.copy()
        plan(x, again)
        np.testing.assert_array_equal(again, out, err_msg=f"{seed} {plan}")


@compiled
def test_a_sum_is_part_of_the_launch():
    """Where channels lie innermost, the kernel itself adds: nothing is written twice."""
    plan = npconv.plan_conv((1, 8, 8, 64), np.ones((96, 64, 1, 1), np.float32), layout="channels_last",
                            kernel_layout="OIHW", activation="relu", add=True, algorithm="blocked")  # fmt: skip
    x, out = np.ones((1, 8, 8, 64), np.float32), np.full((1, 8, 8, 96), -60, np.float32)
    plan(x, out)
    assert (out == 4).all()
    again = plan.launch(x, out)
    assert again is not None
    elsewhere = Program([again, again], 2, address(x))
    assert elsewhere(address(x))
    assert (out == 132).all()
    other = -x
    assert elsewhere(address(other))
    assert (out == 4).all()


def test_a_sum_needs_an_output():
    plan = npconv.plan_conv((1, 1, 4), np.ones((1, 1, 2)), add=True)
    with pytest.raises(ValueError, match="out, which is missing"):
        plan(np.ones((1, 1, 4)))
    with pytest.raises(TypeError, match="add must be True or False"):
        npconv.plan_conv((1, 1, 4), np.ones((1, 1, 2)), add="yes")


def test_a_sum_of_integers_stays_exact():
    plan = npconv.plan_conv((1, 1, 4), np.array([[[2, 1]]]), add=True, dtype=np.int64, activation="relu")
    out = np.array([[[2**60, -(2**60), 0]]])
    assert plan(np.array([[[1, 2, 3, 4]]]), out).tolist() == [[[2**60 + 4, 0, 10]]]


@compiled
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", [*BOUNDS, "gelu"])
def test_a_transform_spreads_nothing_that_an_activation_would_hide(name, special):
    """An infinity that a tile spreads to its neighbours could become a plain 0 or 6 there."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1, 8, 20, 20), np.float32), rng.standard_normal((16, 8, 3, 3), np.float32)
    plan, plain = (
        npconv.plan_conv(x.shape, w, padding=1, activation=name, algorithm=algorithm)
        for algorithm in ("fused_winograd_f4", "blocked")
    )
    for _ in range(2):
        np.testing.assert_allclose(plan(x), plain(x), atol=1e-3)
    x[0, 3, 5, 5] = special
    for _ in range(2):
        np.testing.assert_allclose(plan(x), plain(x), atol=1e-3)
