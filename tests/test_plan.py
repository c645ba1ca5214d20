"""plan_conv: bit-equal to conv by the same algorithm, without an activation; fused, shared, pickled, refused."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

import npconv
from npconv import dispatch
from npconv.activations import EXACT, TABLE
from problems import draw, result_type


def operands(problem) -> tuple[np.ndarray, ...]:
    return tuple(problem.given(name) for name in ("x", "w", "bias"))


def both(problem, **options) -> tuple[npconv.ConvPlan, np.ndarray]:
    """A plan, and what conv gives by the same algorithm: alone it may choose another, weights cost a plan nothing."""
    x, w, bias = operands(problem)
    options = {**problem.options, **options}
    plan = npconv.plan_conv(x.shape, w, bias, dtype=x.dtype, **options)
    if "," in plan.algorithm:  # the parts of a dilated input, each with its own
        plan = npconv.plan_conv(x.shape, w, bias, dtype=x.dtype, **{**options, "algorithm": "direct"})
    same = {"algorithm": plan.algorithm} if plan.algorithm in dispatch.names() else {}
    plain = {name: value for name, value in {**options, **same}.items() if name != "activation"}
    return plan, npconv.conv(x, w, bias, **plain)


@pytest.mark.parametrize("start", range(0, 400, 50))
def test_a_plan_is_bit_equal_to_the_call(start):
    """Every dtype, layout, padding and border that the dice know; x may have any strides."""
    for seed in range(start, start + 50):
        problem = draw("conv", seed)
        x = problem.given("x")
        before = x.tobytes()
        plan, expected = both(problem)
        assert (plan.output_shape, plan.dtype) == (expected.shape, expected.dtype), str(problem)
        out = np.full_like(expected, 77 if expected.dtype.kind in "iu" else np.nan)
        assert plan(x, out) is out
        again = plan(x)
        assert again.tobytes() == out.tobytes() == expected.tobytes(), str(problem)
        assert x.tobytes() == before
        assert not np.may_share_memory(again, out)


@pytest.mark.parametrize("name", TABLE)
def test_an_activation_follows_the_bias(name):
    """Within a few roundings of the definition applied to what conv gives; in the compute dtype, rounded once."""
    checked = 0
    for seed in range(200):
        problem = draw("conv", seed)
        x, w, bias = operands(problem)
        dtype = result_type(*(a.dtype for a in (x, w, bias) if a is not None))
        if dtype.kind == "c" or (dtype.kind in "iu" and name not in EXACT):
            with pytest.raises(TypeError, match=f"plan_conv: activation='{name}'"):
                npconv.plan_conv(x.shape, w, bias, dtype=x.dtype, activation=name, **problem.options)
            continue
        plan, plain = both(problem, activation=name)
        y = plan(x)
        assert y.dtype == plain.dtype
        if dtype.kind in "iu":
            assert np.array_equal(y, TABLE[name](plain))
            continue
        expected = TABLE[name](plain.astype(np.float64))
        # a half float is rounded before the definition here and after it in the plan: slopes are below 1.13
        unit = {2: 2**-8 if dtype.name == "bfloat16" else 2**-11, 4: 2**-24, 8: 2**-53}[dtype.itemsize]
        error = np.abs(y.astype(np.float64) - expected)
        assert np.all(error <= 8 * unit * np.maximum(np.abs(expected), np.abs(plain.astype(np.float64)))), str(problem)
        checked += 1
    assert checked > 50


def test_leaky_relu_has_a_slope():
    plan = npconv.plan_conv((1, 1, 3), np.array([[[1.0]]]), activation="leaky_relu", slope=0.25)
    assert plan(np.array([[[-4.0, 0.0, 4.0]]])).ravel().tolist() == [-1.0, 0.0, 4.0]


@pytest.mark.parametrize("algorithm", ["auto", "gemm", "direct", "fft"])
@pytest.mark.parametrize(
    ("layout", "out_layout", "axes"),
    [
        ("channels_first", "channels_last", (0, 2, 3, 1)),
        ("channels_last", "channels_first", (0, 3, 1, 2)),
        ("NCHW", "NWHC", (0, 3, 2, 1)),
        ("channels_first", "CHWN", (1, 2, 3, 0)),
        ("NHWC", "NCHW", (0, 3, 1, 2)),
        ("NWHC", "NHWC", (0, 2, 1, 3)),
    ],
)
def test_the_output_has_a_layout_of_its_own(layout, out_layout, axes, algorithm):
    rng = np.random.default_rng(0)
    last = layout.endswith(("C", "last"))
    x = rng.standard_normal((2, 9, 8, 3) if last else (2, 3, 9, 8)).astype(np.float32)
    w = rng.standard_normal((3, 3, 3, 5) if last else (5, 3, 3, 3)).astype(np.float32)
    bias = rng.standard_normal(5).astype(np.float32)
    how = {"layout": layout, "padding": 1, "algorithm": algorithm}
    plan = npconv.plan_conv(x.shape, w, bias, out_layout=out_layout, activation="relu", **how)
    expected = np.maximum(npconv.conv(x, w, bias, **how), 0).transpose(axes)
    y = plan(x)
    assert y.flags.c_contiguous
    assert y.shape == expected.shape == plan.output_shape
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_several_batch_axes_and_none():
    rng = np.random.default_rng(0)
    w = rng.standard_normal((4, 3, 3))
    for batch in ((), (2,), (5, 2)):
        x = rng.standard_normal((*batch, 3, 8))
        plan = npconv.plan_conv(x.shape, w, out_layout="channels_last")
        np.testing.assert_allclose(plan(x), np.moveaxis(npconv.conv(x, w), -2, -1), rtol=1e-12, atol=1e-12)


def test_the_plan_keeps_its_own_weights():
    w, bias = np.ones((1, 1, 2)), np.zeros(1)
    plan = npconv.plan_conv((1, 1, 3), w, bias)
    w[...], bias[...] = 7, 7
    for p in (plan, pickle.loads(pickle.dumps(plan))):
        assert p(np.array([[[1.0, 2.0, 3.0]]])).ravel().tolist() == [3.0, 5.0]


@pytest.mark.parametrize("again", [lambda p: pickle.loads(pickle.dumps(p)), copy.copy, copy.deepcopy])
def test_a_plan_travels(again):
    rng = np.random.default_rng(0)
    x, w, bias = rng.standard_normal((1, 3, 8, 8)), rng.standard_normal((3, 3, 4, 3)), rng.standard_normal(4)
    how = {"kernel_layout": "HWOI", "padding": "same", "activation": "leaky_relu", "slope": 0.3}
    plan = npconv.plan_conv(x.shape, w, bias, out_layout="channels_last", dtype="float64", **how)
    other = again(plan)
    assert np.array_equal(other(x), plan(x))
    assert repr(other) == repr(plan)
    assert (other.workspace, other.algorithm) == (plan.workspace, plan.algorithm)


def test_threads_share_a_plan():
    rng = np.random.default_rng(0)
    w = rng.standard_normal((16, 8, 3, 3)).astype(np.float32)
    plan = npconv.plan_conv((1, 8, 20, 20), w, padding=1, activation="silu")
    xs = rng.standard_normal((8, 1, 8, 20, 20)).astype(np.float32)
    expected, wrong = [plan(x).tobytes() for x in xs], []

    def work(i: int) -> None:
        wrong.extend(i for _ in range(30) if plan(xs[i]).tobytes() != expected[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_nan_stays_where_its_windows_are():
    """Whatever the algorithm; and through an activation."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 8, 24, 24)).astype(np.float32)
    x[0, 3, 10, 10] = np.nan
    w, bias = rng.standard_normal((8, 8, 3, 3)).astype(np.float32), np.ones(8, np.float32)
    for algorithm in ("auto", "fft", "winograd_f4", "gemm"):
        for name in (None, *TABLE):
            y = npconv.plan_conv(x.shape, w, bias, padding=1, algorithm=algorithm, activation=name)(x)
            seen = np.isnan(y)
            assert seen[..., 9:12, 9:12].all()
            assert seen.sum() == 8 * 9


def test_integers_stay_exact_at_any_size():
    """The plan chooses anew where sums need 64 bits; relu of integers is exact."""
    w = np.array([[[1, -1]]])
    plan = npconv.plan_conv((1, 3), w, activation="relu")
    for scale in (1, 2**52 + 1, 2**60 - 1):
        x = np.array([[3, 1, 2]]) * scale
        assert plan(x).ravel().tolist() == [2 * scale, 0]


def test_without_machine_code_it_is_the_same():
    """Another interpreter with compiled kernels turned off gives the same up to rounding."""
    code = """
import sys, numpy as np, npconv
x = np.linspace(-3, 3, 2 * 8 * 20 * 20, dtype=np.float32).reshape(2, 8, 20, 20)
w = np.cos(np.arange(8 * 8 * 9, dtype=np.float32)).reshape(8, 8, 3, 3)
for name in ("relu", "gelu", "tanh"):
    plan = npconv.plan_conv(x.shape, w, np.arange(8, dtype=np.float32), activation=name, out_layout="channels_last")
    sys.stdout.buffer.write(plan(x).tobytes())
"""
    run = [
        subprocess.run([sys.executable, "-c", code], env=os.environ | {"NPCONV_KERNELS": path}, capture_output=True)
        for path in ("", "numpy")
    ]
    assert [r.stderr for r in run] == [b"", b""]
    a, b = (np.frombuffer(r.stdout, np.float32) for r in run)
    assert a.size == 3 * 2 * 18 * 18 * 8
    assert np.abs(a - b).max() <= 128 * 2**-24 * 8 * 9 * 3


def test_explain_tells_the_plan():
    w, bias = np.ones((16, 8, 3, 3), np.float32), np.ones(16, np.float32)
    plan = npconv.plan_conv((1, 8, 20, 20), w, bias, padding=1, activation="gelu", out_layout="channels_last")
    text = str(plan.explain())
    assert f"choice: {plan.algorithm}" in text
    assert "plan: channels_first (1, 8, 20, 20) -> channels_last (1, 20, 20, 16); then bias" in text
    assert ", gelu\n" in text
    assert "engine: " in text
    assert repr(plan).startswith("ConvPlan((1, 8, 20, 20) -> (1, 20, 20, 16), float32, ")
    assert plan.workspace > 0


SHAPE, ONE = (1, 1, 4), np.ones((1, 1, 2), np.float32)
REFUSED = [
    ({"activation": "gelu_tan"}, ValueError, "plan_conv: activation='gelu_tan' is unknown, needs one of "),
    ({"activation": 3}, TypeError, "plan_conv: activation must be a string, got 3 of type int"),
    ({"slope": 0.5}, ValueError, "plan_conv: slope=0.5 needs activation='leaky_relu', got None; use both or neither"),
    ({"slope": "a", "activation": "leaky_relu"}, TypeError, "plan_conv: slope must be a number, got 'a' of type str"),
    ({"out_layout": "NCWH"}, ValueError, "plan_conv: out_layout='NCWH' names 2 spatial axes"),
    ({"out_layout": "chanels_last"}, ValueError, "plan_conv: out_layout='chanels_last' is unknown"),
    ({"out_layout": 3}, TypeError, "plan_conv: out_layout must be a string, got 3"),
    ({"layout": "NCW", "out_layout": "NCT"}, ValueError, "plan_conv: out_layout='NCT' and layout='NCW' must name"),
    ({"dtype": "floot"}, TypeError, "plan_conv: dtype='floot' is unknown to NumPy"),
    ({"dtype": bool}, TypeError, "plan_conv: dtype has dtype bool"),
    ({"strides": 2}, TypeError, "plan_conv: unknown keyword 'strides'"),
    ({"bias": np.ones(2)}, ValueError, "plan_conv: bias.shape is (2,), expected (1,)"),
    ({"padding": -2}, ValueError, "plan_conv: the kernel of w does not fit x on spatial axis 0"),
]


@pytest.mark.parametrize(("options", "kind", "message"), REFUSED)
def test_refused(options, kind, message):
    with pytest.raises(kind) as found:
        npconv.plan_conv(SHAPE, ONE, **options)
    assert str(found.value).startswith(message)


@pytest.mark.parametrize(
    ("x", "kind", "message"),
    [
        (np.ones((2, 1, 4), np.float32), ValueError, "plan: x.shape is (2, 1, 4), the plan is for (1, 1, 4); use"),
        (np.ones(SHAPE), TypeError, "plan: x has dtype float64, the plan is for float32; use x.astype('float32')"),
        (None, TypeError, "plan: x must be an array or a nested list of numbers, got None"),
    ],
)
def test_refused_by_the_plan(x, kind, message):
    plan = npconv.plan_conv(SHAPE, ONE)
    with pytest.raises(kind) as found:
        plan(x)
    assert str(found.value).startswith(message)


def test_out_must_fit():
    plan, x = npconv.plan_conv(SHAPE, ONE), np.ones(SHAPE, np.float32)
    for out, kind in ((np.empty((1, 1, 4), np.float32), ValueError), (np.empty((1, 1, 3)), TypeError)):
        with pytest.raises(kind, match="plan: out"):
            plan(x, out)
    with pytest.raises(ValueError, match="plan: out overlaps x"):
        plan(x, x[..., :3])


def test_a_budget_too_small_is_refused_when_planning():
    with pytest.raises(npconv.MemoryLimitError, match="plan_conv: max_workspace=10 bytes is too little"):
        npconv.plan_conv((1, 64, 64, 64), np.ones((64, 64, 3, 3), np.float32), max_workspace=10)


# ------------------------------------------------------------------------------------------------ transposed
@pytest.mark.parametrize("start", range(0, 200, 50))
def test_a_transposed_plan_is_bit_equal_to_the_call(start):
    """Every dtype and layout that the dice know, by the same algorithm; one that cannot do all parts is not asked."""
    compared = 0
    for seed in range(start, start + 50):
        problem = draw("conv_transpose", seed)
        x, w, bias = operands(problem)
        for algorithm in ("auto", "direct", "blocked"):
            options = {**problem.options, "algorithm": algorithm}
            try:
                expected = npconv.conv_transpose(x, w, bias, **options)
            except ValueError:
                assert algorithm == "blocked"
                continue
            plan = npconv.plan_conv_transpose(x.shape, w, bias, dtype=x.dtype, **options)
            assert (plan.input_shape, plan.output_shape) == (x.shape, expected.shape)
            assert plan.dtype == expected.dtype
            out = np.empty_like(expected)
            assert plan(x, out) is out
            again = pickle.loads(pickle.dumps(plan))(x)
            assert again.tobytes() == out.tobytes(), str(problem)
            if algorithm == "auto":  # weights cost a plan nothing, so it may choose another algorithm than the call
                continue
            assert out.tobytes() == expected.tobytes(), str(problem)
            compared += 1
    assert compared > 50


def test_a_transposed_plan_takes_bias_activation_and_another_layout_along():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 6, 9, 7)).astype(np.float32), rng.standard_normal((6, 5, 4, 4)).astype(np.float32)
    bias = rng.standard_normal(5).astype(np.float32)
    how = {"stride": 2, "padding": 1, "output_padding": (1, 0)}
    plan = npconv.plan_conv_transpose(x.shape, w, bias, activation="relu", out_layout="channels_last", **how)
    expected = np.maximum(npconv.conv_transpose(x, w, bias, **how), 0).transpose(0, 2, 3, 1)
    assert plan.output_shape == expected.shape == (2, 19, 14, 5)
    w[...], bias[...] = 7, 7
    for each in (plan, pickle.loads(pickle.dumps(plan))):
        np.testing.assert_allclose(each(x), expected, rtol=1e-4, atol=1e-4)
    text = str(plan.explain())
    assert "plan: channels_first (2, 6, 9, 7) -> channels_last (2, 19, 14, 5); then bias" in text
    assert "4 parts without input dilation" in text


def test_threads_share_a_transposed_plan():
    rng = np.random.default_rng(0)
    plan = npconv.plan_conv_transpose((1, 24, 15, 15), rng.standard_normal((24, 16, 4, 4)).astype(np.float32), stride=2)
    xs = rng.standard_normal((6, 1, 24, 15, 15)).astype(np.float32)
    expected, wrong = [plan(x).tobytes() for x in xs], []

    def work(i: int) -> None:
        wrong.extend(i for _ in range(30) if plan(xs[i]).tobytes() != expected[i])

    callers = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"strides": 2}, TypeError, "plan_conv_transpose: unknown keyword 'strides'"),
        ({"padding_mode": "reflect"}, TypeError, "plan_conv_transpose: unknown keyword 'padding_mode'"),
        ({"bias": np.ones(2)}, ValueError, "plan_conv_transpose: bias.shape is (2,), expected (1,)"),
        ({"activation": 3}, TypeError, "plan_conv_transpose: activation must be a string"),
        ({"output_padding": 1}, ValueError, "plan_conv_transpose: output_padding 1 on axis 0 must be less than"),
    ],
)
def test_a_transposed_plan_refuses(options, kind, message):
    with pytest.raises(kind) as found:
        npconv.plan_conv_transpose(SHAPE, ONE, **options)
    assert str(found.value).startswith(message)


def test_a_transposed_plan_names_itself_for_another_shape():
    plan = npconv.plan_conv_transpose(SHAPE, ONE)
    with pytest.raises(ValueError, match=r"use plan_conv_transpose\(\(1, 1, 5\), \.\.\.\)"):
        plan(np.ones((1, 1, 5), np.float32))
