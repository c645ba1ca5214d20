"""All phases of a strided transposition in one convolution: the same numbers as one by one, wherever it is allowed."""

from __future__ import annotations

import numpy as np
import pytest

import npconv
from npconv import dispatch, execution
from npconv.algorithms import named
from npconv.compiled import catalogue
from npconv.geometry import ConvGeometry
from npconv.phases import joint

needs_numba = pytest.mark.skipif(catalogue.unavailable() is not None, reason=str(catalogue.unavailable()))


def random_geometry(rng: np.random.Generator) -> ConvGeometry:
    """A convolution whose input gradient has phases, of any rank; channels few and many."""
    while True:
        rank, groups = int(rng.integers(1, 4)), int(rng.choice([1, 1, 2, 3]))
        c, o = (groups * int(rng.choice([1, 2, 5, 17])) for _ in range(2))
        kernel, stride, size = (
            tuple(map(int, rng.integers(low, high, rank))) for low, high in ((1, 6), (1, 4), (3, 12))
        )
        dilation = tuple(map(int, rng.integers(1, 3, rank)))
        pads = tuple(tuple(map(int, rng.integers(-1, 3, 2))) for _ in range(rank))
        made = ConvGeometry(int(rng.integers(1, 4)), c, o, size, kernel, stride, dilation, pads, (1,) * rank, groups)
        if all(n > 0 for n in made.out_shape) and joint(execution.parts(made, "input_grad")) is not None:
            return made


def passes(made: ConvGeometry, name: str, dtype: np.dtype) -> list[execution.Pass]:
    """The input gradient in one convolution, and part by part."""
    phases = execution.parts(made, "input_grad")
    pick = lambda geometry, exact: named("direct" if exact else name)  # noqa: E731
    return [
        execution.ready(pick, phases, "input_grad", dtype, 2**40, price)
        for price in (
            lambda geometry, moved, given=None, turned=0: float(moved == 0) if given is None else np.inf,
            None,
        )
    ]


def operands(made: ConvGeometry, rng: np.random.Generator, dtype: np.dtype, last: bool) -> tuple[np.ndarray, ...]:
    """Small integers, whose sums are exact: the gradient of the output, turned weights, and a result full of NaN."""
    g, w = (rng.integers(-4, 5, shape).astype(dtype) for shape in (made.y_shape, made.transposed().w_shape))
    y = np.full(made.x_shape, np.nan, dtype)
    if last:
        g, y = (np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1) for a in (g, y))
        w = np.ascontiguousarray(np.moveaxis(w, (0, 1), (-1, -2))).transpose(w.ndim - 1, w.ndim - 2, *range(w.ndim - 2))
    return g, w[(..., *(slice(None, None, -1),) * made.rank)], y


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("gemm", "complex64"),
        ("direct", "float64"),
        pytest.param("blocked", "float32", marks=needs_numba),
        pytest.param("blocked", "float64", marks=needs_numba),
    ],
)
def test_one_convolution_gives_what_the_parts_give(name, dtype, last):
    rng = np.random.default_rng(last)
    for _ in range(60):
        made = random_geometry(rng)
        whole, apart = passes(made, name, np.dtype(dtype))
        assert [type(step) for step in whole.steps] == [execution.Joined]
        assert len(apart.steps) > 1
        g, w, y = operands(made, rng, np.dtype(dtype), last)
        before = g.tobytes(), w.tobytes()
        bias = rng.integers(-4, 5, made.in_channels).astype(dtype)
        for given in (None, bias):
            expected = np.empty_like(y)
            apart.forward(g, apart.prepare(w), expected)
            weights = whole.prepare(w, given)
            whole.forward(g, weights, y)
            if weights.bias is not None:
                expected += bias.reshape(-1, *(1,) * made.rank)
            np.testing.assert_array_equal(y, expected, err_msg=str(made))
        assert before == (g.tobytes(), w.tobytes())


@needs_numba
def test_threads_and_tiles_of_the_batch_change_no_bit(monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 24, 33, 31)).astype(np.float32)
    w = rng.standard_normal((24, 20, 4, 4)).astype(np.float32)
    seen = []
    for held in (execution.JOINT_BYTES, 1):
        monkeypatch.setattr(execution, "JOINT_BYTES", held)
        for n in (1, 2, 3):
            how = {"stride": 2, "max_workspace": 2**30 + held}  # another problem, not one that was read before
            with npconv.num_threads(n):
                seen.append(npconv.conv_transpose(x, w, algorithm="blocked", **how).tobytes())
    assert len(set(seen)) == 1


@needs_numba
@pytest.mark.parametrize("name", ["blocked", "fused_winograd_f2"])
@pytest.mark.parametrize("kernel", [3, 4, 5])
def test_nan_reach_what_reads_them_and_nothing_else(name, kernel):
    """Phases of unequal kernels are filled up with zeros, and zero times NaN is NaN."""
    made = ConvGeometry(2, 4, 3, (21, 18), (kernel,) * 2, (2, 2), (1, 1), ((1, 1),) * 2, (1, 1))
    rng = np.random.default_rng(kernel)
    g, w, y = operands(made, rng, np.dtype(np.float32), False)
    g[0, 1, 3, 4], g[1, 0, 0, 0], w = np.nan, np.inf, w + 0.5
    phases = execution.parts(made, "input_grad")
    pick = lambda geometry, exact: named("direct" if exact else name)  # noqa: E731
    whole = execution.ready(
        pick,
        phases,
        "input_grad",
        y.dtype,
        2**40,
        lambda geometry, moved, given=None, turned=0: float(moved == 0) if given is None else 9.0,
    )
    assert [type(step) for step in whole.steps] == [execution.Joined]
    exact = execution.ready(lambda *_: named("direct"), phases, "input_grad", y.dtype, 2**40)
    expected = np.empty_like(y)
    exact.forward(g, exact.prepare(w), expected)
    for bias in (None, np.arange(4, dtype=np.float32)):
        weights = whole.prepare(w, bias)
        whole.forward(g, weights, y)
        more = 0 if bias is None else bias[:, None, None]
        np.testing.assert_allclose(y, expected + more, rtol=1e-4, atol=1e-4)


@needs_numba
def test_a_budget_that_holds_no_joint_output_takes_the_parts():
    made = ConvGeometry(1, 32, 32, (64, 64), (4, 4), (2, 2), (1, 1), ((1, 1),) * 2, (1, 1))
    phases, dtype = execution.parts(made, "input_grad"), np.dtype(np.float32)
    pick = lambda geometry, exact: named("blocked")  # noqa: E731
    price = lambda geometry, moved, given=None, turned=0: float(moved == 0) if given is None else 9.0  # noqa: E731
    whole = execution.ready(pick, phases, "input_grad", dtype, 2**40, price)
    assert whole.workspace > 4 * 64 * 64 * 32
    apart = execution.ready(pick, phases, "input_grad", dtype, whole.workspace - 1, price)
    assert (len(whole.steps), len(apart.steps)) == (1, 4)
    assert apart.workspace < whole.workspace


def test_what_has_no_joint_convolution():
    def of(kernel: int, stride: int, dilation: int = 1, size: int = 9) -> object:
        made = ConvGeometry(1, 1, 1, (size,), (kernel,), (stride,), (dilation,), ((0, 0),), (1,))
        return joint(execution.parts(made, "input_grad"))

    assert of(3, 1) is None  # one phase is all
    assert of(2, 3) is None  # outputs that no tap reaches
    assert of(3, 2) is not None
    assert of(3, 3, dilation=3) is None


@needs_numba
def test_the_price_decides_and_explain_tells():
    """Few channels fill no vector part by part; many do, and then parts are one launch, unless another is asked for."""
    few = npconv.explain((1, 1, 112, 112), (64, 1, 7, 7), stride=2, padding=3, direction="input_grad")
    many = npconv.explain((1, 512, 14, 14), (512, 512, 3, 3), stride=2, padding=1, direction="input_grad")
    gemm = npconv.explain(
        (1, 128, 56, 56), (128, 128, 3, 3), stride=2, padding=1, direction="input_grad", algorithm="direct"
    )
    assert "for one convolution of all 4 parts without input dilation" in str(few)
    assert "choice: blocked, for one launch of all 4 parts without input dilation" in str(many)
    assert "choice: direct, for each of 4 parts without input dilation" in str(gemm)
    for asked, kind in ((few, execution.Joined), (many, execution.Step), (gemm, execution.Step)):
        pick = dispatch.picker("explain", asked.request)
        parts = execution.parts(asked.geometry, "input_grad")
        run = execution.ready(pick, parts, "input_grad", np.dtype(np.float32), 2**40, pick.seconds)
        assert type(run.steps[0]) is kind
        assert len(run.steps) == (4 if asked is gemm else 1)


@needs_numba
@pytest.mark.parametrize("kernel", [(4, 4), (3, 5), (2, 8)])
def test_turned_weights_are_brought_in_order_for_all_parts_at_once(kernel):
    """To the same bits as part by part, which needs less memory."""
    made = ConvGeometry(1, 21, 37, (12, 16), kernel, (2, 2), (1, 1), ((1, 1),) * 2, (1, 1))
    rng = np.random.default_rng(0)
    g, w, y = (rng.standard_normal(a.shape).astype(np.float32) for a in operands(made, rng, np.dtype("f4"), False))
    w = rng.standard_normal((37, 21, *kernel)).astype(np.float32).swapaxes(0, 1)[..., ::-1, ::-1]
    pick = lambda geometry, exact: named("blocked")  # noqa: E731
    phases = execution.parts(made, "input_grad")
    run = execution.ready(pick, phases, "input_grad", y.dtype, 2**40)
    least = execution.ready(pick, phases, "input_grad", y.dtype, run.workspace - 1)
    assert run.joint is not None
    assert least.joint is None
    results = []
    for each in (run, least):
        for once in (False, True):
            each.forward(g, each.prepare(w, once=once), y)
            results.append(y.tobytes())
    assert len(set(results)) == 1
