"""Every convolution x algorithm x pass x dtype against the loops of reference.py, on drawn problems.

    |computed - reference| <= 32 u S            accuracy="strict", for every output
                           <= 128 u R           accuracy="standard"
                           <= 8 u Amp           accuracy="fast", Winograd
                           <= 16 u sum of norms accuracy="fast", Fourier

with u the unit roundoff and S the sum of the |products| of one output; integers are equal.  300 problems of
each operator run by default, 10,000 with `-m long`.  A failure prints the problem as `draw(operator, seed)`.

A transform mixes its inputs before it multiplies, so its error follows the largest input of the plane and all
taps, even those that meet nothing but padding:

    R = sum over channels of max |x| sum |w|            (max |g| sum |w|; max |x| sum |g|)

That is three or four times the largest S of a plane of equal numbers, and can be any multiple of it: a test
below shows how little it takes.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest

import npconv
import reference
from npconv.algorithms import OWN as OWN_ALGORITHMS
from npconv.algorithms import cook_toom
from npconv.compiled import catalogue
from problems import KernelView, Problem, View, accuracy_unit, disagreement, draw, result_type

CHUNK = 50
CHUNKS = [
    pytest.param(start, id=f"from-{start}", marks=() if start < 300 else pytest.mark.long)
    for start in range(0, 10_000, CHUNK)
]
OWN = (
    "loops",
    "direct",
    "gemm",
    "blocked",
    "channelwise",
    "pixelwise",
    "depthwise",
    "fft",
    "fft_single",
    "tiled_fft",
    "fused_winograd_f2",
    "fused_winograd_f4",
    "winograd_f2",
    "winograd_f4",
    "winograd_f6",
)
ALGORITHMS = ("auto", *OWN)
FEW_PRODUCTS = 1_500  # what the nest of Python loops is given


@dataclass(frozen=True)
class Pass:
    """One derivative of one operator: how to call it, what it must give, and S."""

    name: str
    function: Callable
    operands: tuple[str, ...]
    expected: np.ndarray
    sums: np.ndarray
    view: View
    extra: dict
    reach: np.ndarray  # R, (N, O, 1, 1) like sums
    norms: np.ndarray  # sum over channels of the Euclidean norms, likewise


def size(array) -> np.ndarray | None:
    """|array| as float64."""
    return None if array is None else np.abs(reference.exact(array)).astype(np.float64)


def sizes(problem: Problem) -> tuple[dict, dict]:
    """The problem with every number replaced by its size: its results are S."""
    geometry = dict(problem.geometry)
    if "padding_value" in geometry:
        geometry["padding_value"] = abs(geometry["padding_value"])
    return {name: size(array) for name, array in problem.canonical.items()}, geometry


def planes(problem: Problem, of_input: Callable, of_kernel: Callable) -> list[np.ndarray]:
    """The passes on one number per plane: `of_input` of what is slid over, `of_kernel` of what slides."""
    s, geometry = sizes(problem)
    transposed, groups = problem.operator == "conv_transpose", geometry["groups"]
    point = {"stride": (), "padding": (), "dilation": (), "groups": groups}
    border = geometry.get("padding_value", 0.0)
    axes = tuple(range(2, s["x"].ndim))

    def one(array, reduce):
        return reduce(array, axes) if axes else array

    # For dw it is the gradient that slides: over x, or over g when the operator is the transposed one.
    data = np.maximum(one(s["x"], of_input), border)
    n_c, o_i = s["x"].shape[:2], s["w"].shape[:2]
    w, g = one(s["w"], of_kernel), one(s["g"], of_input)
    if transposed:
        forward = reference.conv_transpose(data, w, out_size=(), **point)
        backward = reference.conv_transpose_input_grad(g, w, n_c, **point)
        weights = reference.conv_transpose_weight_grad(one(s["x"], of_kernel), g, o_i, **point)
    else:
        forward = reference.conv(data, w, **point)
        backward = reference.conv_input_grad(g, w, n_c, **point)
        weights = reference.conv_weight_grad(data, one(s["g"], of_kernel), o_i, **point)
    if s["bias"] is not None:
        forward = forward + s["bias"]
    return [each.reshape(*each.shape, *(1,) * len(axes)) for each in (forward, backward, weights)]


def largest(array, axes) -> np.ndarray:
    return array.max(axis=axes, initial=0)


def norm(array, axes) -> np.ndarray:
    return np.sqrt((array**2).sum(axis=axes))


NAMES = ("forward", "input_grad", "weight_grad")
FUNCTIONS = {
    "conv": lambda: (npconv.conv, npconv.conv_input_grad, npconv.conv_weight_grad),
    "conv_transpose": lambda: (
        npconv.conv_transpose,
        npconv.conv_transpose_input_grad,
        npconv.conv_transpose_weight_grad,
    ),
}


def precise(arrays: dict) -> dict:
    """Double precision as long doubles: a plain sum of doubles would be judged by its equal."""
    wider = {"float64": np.longdouble, "complex128": np.clongdouble}
    return {
        name: array if array is None else array.astype(wider.get(array.dtype.name, array.dtype), copy=False)
        for name, array in arrays.items()
    }


def results(operator: str, arrays: dict, geometry: dict) -> Iterator[np.ndarray]:
    """What the reference gives for the three passes."""
    g, x, w, bias = (arrays[name] for name in ("g", "x", "w", "bias"))
    if operator == "conv":
        yield reference.conv(x, w, bias, **geometry)
        yield reference.conv_input_grad(g, w, x.shape, **geometry)
        yield reference.conv_weight_grad(x, g, w.shape, **geometry)
    else:
        yield reference.conv_transpose(x, w, bias, out_size=g.shape[2:], **geometry)
        yield reference.conv_transpose_input_grad(g, w, x.shape, **geometry)
        yield reference.conv_transpose_weight_grad(x, g, w.shape, **geometry)


def passes(problem: Problem) -> list[Pass]:
    """Forward, input gradient and weight gradient of one problem."""
    operator, c, views = problem.operator, problem.canonical, problem.views
    shapes = (
        {},
        {"input_shape": views["x"].shape(c["x"].shape)},
        {"kernel_shape": views["w"].shape(c["w"].shape)},
    )
    return [
        Pass(*each)
        for each in zip(
            NAMES,
            FUNCTIONS[operator](),
            (("x", "w", "bias"), ("g", "w"), ("x", "g")),
            results(operator, precise(c), problem.geometry),
            results(operator, *sizes(problem)),
            (views["g"], views["x"], views["w"]),
            shapes,
            planes(problem, largest, np.sum),
            planes(problem, norm, norm),
            strict=True,
        )
    ]


def poison(shape, dtype) -> np.ndarray:
    """An output that no one may mistake for a result."""
    return np.full(shape, -77 if dtype.kind in "iu" else np.nan, dtype)


def run_pass(problem: Problem, case: Pass, **choice) -> np.ndarray | None:
    """The result in canonical form, or None when the algorithm cannot run; inputs must stay as they were."""
    operands = {name: problem.given(name) for name in case.operands}
    before = {name: array.tobytes() for name, array in operands.items() if array is not None}
    dtype = result_type(*(array.dtype for array in operands.values() if array is not None))
    out = poison(case.view.shape(case.expected.shape), dtype)
    try:
        y = case.function(*operands.values(), **case.extra, **problem.options, **choice, out=out)
    except ValueError as refusal:
        if choice.get("algorithm", "auto") != "auto" and "cannot run here" in str(refusal):
            return None
        raise AssertionError(f"{case.name} {choice} of {problem} raised {refusal}") from refusal
    assert y is out, f"{case.name} {choice} of {problem} did not return out"
    after = {name: array.tobytes() for name, array in operands.items() if array is not None}
    assert before == after, f"{case.name} {choice} of {problem} wrote to an input"
    return case.view.canonical(y)


def unit(problem: Problem, case: Pass) -> float:
    dtypes = [problem.canonical[name].dtype for name in case.operands if problem.canonical[name] is not None]
    return accuracy_unit(result_type(*dtypes))


def standard_bound(problem: Problem, case: Pass) -> np.ndarray:
    return 128 * unit(problem, case) * case.reach


def check_pass(problem: Problem, case: Pass, algorithm: str) -> str | None:
    """The tier at which the algorithm ran and kept its bound, or None when it runs at neither."""
    bounds = {"strict": 32 * unit(problem, case) * case.sums, "standard": standard_bound(problem, case)}
    for accuracy, bound in bounds.items():
        y = run_pass(problem, case, algorithm=algorithm, accuracy=accuracy)
        if y is not None:
            wrong = disagreement(y, case.expected, np.broadcast_to(bound, y.shape))
            assert wrong is None, f"{case.name}, {algorithm}, {accuracy}: {wrong}; {problem}"
            if algorithm != "auto":
                return accuracy
    return accuracy if algorithm == "auto" else None


def products(problem: Problem) -> int:
    arrays = problem.canonical
    return arrays["g"][:1, :1].size * arrays["w"].size * arrays["x"].shape[0]


@pytest.mark.parametrize("start", CHUNKS)
@pytest.mark.parametrize("operator", ["conv", "conv_transpose"])
def test_every_algorithm_and_pass_keeps_its_bound(operator, start):
    for seed in range(start, start + CHUNK):
        problem = draw(operator, seed)
        for case in passes(problem):
            for algorithm in ALGORITHMS:
                if algorithm != "loops" or products(problem) <= FEW_PRODUCTS:
                    check_pass(problem, case, algorithm)


def test_the_list_of_algorithms_is_complete():
    assert tuple(algorithm.name for algorithm in OWN_ALGORITHMS) == OWN


@pytest.mark.xfail(strict=True, reason="128 u max S bounds no transform")
def test_a_transform_keeps_128_u_max_s():
    """A large tap over the padding is in no S, but in every transform."""
    x = np.array([[[1.0, 1.0]]], np.float32)
    w = np.array([[[1e6, 1.0, 1.0 / 3.0]]], np.float32)
    y = npconv.conv(x, w, padding=((2, 0),), algorithm="winograd_f2", accuracy="standard")
    exact = np.array([1.0 / 3.0, 1.0 + 1.0 / 3.0])
    assert np.abs(y[0, 0] - exact).max() <= 128 * 2.0**-24 * exact.max()


def test_every_algorithm_takes_part():
    """No algorithm hides behind refusals: on 200 problems each runs in every pass."""
    ran: Counter = Counter()
    for seed in range(200):
        problem = draw("conv", seed)
        for case in passes(problem):
            for algorithm in ALGORITHMS:
                if algorithm != "loops" or products(problem) <= FEW_PRODUCTS:
                    ran[algorithm, case.name, check_pass(problem, case, algorithm)] += 1
    for name in NAMES:
        for algorithm in ("direct", "gemm", "depthwise", "loops"):
            assert ran[algorithm, name, "strict"] >= 5, (algorithm, name, ran)
        compiled = () if catalogue.unavailable() else ("blocked", "channelwise", "pixelwise", "tiled_fft")
        for algorithm in ("fft", "winograd_f2", "winograd_f4", *compiled):
            assert ran[algorithm, name, "standard"] >= 5, (algorithm, name, ran)


@pytest.mark.parametrize("start", CHUNKS)
@pytest.mark.parametrize("operator", ["conv", "conv_transpose"])
def test_grads_are_the_single_passes(operator, start):
    """conv_grads and conv_transpose_grads give what the passes give one by one, and the bias gradient."""
    function = {"conv": npconv.conv_grads, "conv_transpose": npconv.conv_transpose_grads}[operator]
    for seed in range(start, start + CHUNK):
        problem = draw(operator, seed)
        g, x, w = (problem.given(name) for name in ("g", "x", "w"))
        grads = function(g, x, w, **problem.options)
        _, dx, dw = passes(problem)
        for case, got in ((dx, grads.x), (dw, grads.w)):
            bound = np.broadcast_to(standard_bound(problem, case), case.expected.shape)
            wrong = disagreement(case.view.canonical(got), case.expected, bound)
            assert wrong is None, f"{case.name}: {wrong}; {problem}"
        expected = reference.bias_grad(problem.canonical["g"])
        bound = 32 * accuracy_unit(g.dtype) * reference.bias_grad(size(problem.canonical["g"]))
        wrong = disagreement(grads.bias, expected, bound)
        assert wrong is None, f"bias: {wrong}; {problem}"
        assert function(g, x, w, bias=False, **problem.options).bias is None


# --- sums of thousands of terms


def long_sums(x_shape, w_shape, dtype) -> Problem:
    """Positive numbers, which never cancel: the largest errors a plain sum can make."""
    rng = np.random.default_rng(11)
    out = tuple(n - k + 1 for n, k in zip(x_shape[2:], w_shape[2:], strict=True))
    shapes = {"x": x_shape, "w": w_shape, "g": (x_shape[0], w_shape[0], *out)}
    arrays = {name: rng.uniform(0.5, 1, shape).astype(dtype) for name, shape in shapes.items()}
    rank = len(out)
    geometry = {"stride": (1,) * rank, "padding": ((0, 0),) * rank, "dilation": (1,) * rank, "groups": 1}
    view = View((x_shape[0],), tuple(range(len(x_shape))))
    views = {"x": view, "g": view, "w": KernelView((), view.order)}
    return Problem("conv", -1, {}, {"bias": None, **arrays}, geometry, views)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("x_shape", "w_shape"),
    [
        ((1, 256, 5, 5), (2, 256, 3, 3)),  # 2,304 terms forward
        ((1, 2, 5, 5), (1_000, 2, 3, 3)),  # 9,000 backward
        ((2, 2, 70, 70), (2, 2, 3, 3)),  # 9,248 for the weights
        ((1, 4_000), (3, 4_000)),
    ],
)
def test_long_sums_keep_the_strict_bound(x_shape, w_shape, dtype):
    problem = long_sums(x_shape, w_shape, np.dtype(dtype))
    for case in passes(problem):
        for algorithm in set(ALGORITHMS) - {"loops"}:
            check_pass(problem, case, algorithm)


# --- NaN and infinities


def spoiled(array: np.ndarray, rng: np.random.Generator, *values: float) -> np.ndarray:
    """A copy with one or two elements replaced."""
    array = array.copy()
    if array.size:
        array.flat[rng.integers(0, array.size, 2)] = rng.choice(values, 2)
    return array


@pytest.mark.parametrize("start", CHUNKS)
def test_non_finite_numbers_reach_their_windows_and_no_others(start):
    """The zeros of the padding take part: 0 inf is NaN.  Whether those of input_dilation do is left open."""
    everything = np.nan, np.inf, -np.inf
    for seed in range(start, start + CHUNK, 3):
        problem = draw("conv", seed)
        c, rng = problem.canonical, np.random.default_rng(seed)
        if any(c[name].dtype.name not in ("float32", "float64") for name in ("x", "w")):
            continue
        x, g = spoiled(c["x"], rng, *everything), spoiled(c["g"], rng, *everything)
        w = spoiled(c["w"], rng, *everything)
        gaps = set(problem.geometry["input_dilation"]) - {1}
        changes = (
            {"w": w} if seed % 2 and not gaps else {"x": x},
            {"g": g},
            {"g": g} if seed % 2 and not gaps else {"x": x},
        )
        for which, change in enumerate(changes):
            changed = replace(problem, canonical=c | change)
            with np.errstate(invalid="ignore"):
                case = passes(changed)[which]
            reached = ~np.isfinite(case.expected)
            for algorithm in ALGORITHMS:
                if algorithm == "loops" and products(problem) > FEW_PRODUCTS:
                    continue
                y = run_pass(changed, case, algorithm=algorithm)
                if y is not None:
                    wrong = reached != ~np.isfinite(y)
                    assert not wrong.any(), f"{case.name}, {algorithm}: {wrong.sum()} wrong; {list(change)} {changed}"


# --- the fast tier


def amplification(m: int, kernel: tuple[int, ...]) -> float:
    """Amp <= this times R: what |A^T| (|G| |w| * |B^T| |x|) makes of one tap and of inputs that are all 1."""
    factor = 1.0
    for k in kernel:
        if 1 < k <= 11 - m:  # there are points for no more; longer ones ran only if there was nothing to sum
            a, g, b = (np.abs(matrix) for matrix in cook_toom.matrices(m, k).arrays)
            factor *= (a @ (g * b.sum(axis=1, keepdims=True))).max()
    return factor


def fast_bound(problem: Problem, case: Pass, algorithm: str) -> np.ndarray:
    if algorithm == "fft_single":
        return 16 * unit(problem, case) * case.norms
    factor = amplification(int(algorithm[-1]), problem.canonical["w"].shape[2:])
    return 8 * unit(problem, case) * factor * case.reach


FAST = ("fft_single", "winograd_f2", "winograd_f4", "winograd_f6")


@pytest.mark.parametrize("start", CHUNKS)
def test_fast_algorithms_keep_their_own_bound(start):
    """With zero padding: the other modes repeat the input, and a gradient adds up several of these bounds."""
    for seed in range(start, start + CHUNK):
        problem = draw("conv", seed)
        if problem.geometry["padding_mode"] != "zeros":
            continue
        for case in passes(problem):
            for algorithm in FAST:
                y = run_pass(problem, case, algorithm=algorithm, accuracy="fast")
                if y is not None:
                    bound = np.broadcast_to(fast_bound(problem, case, algorithm), y.shape)
                    wrong = disagreement(y, case.expected, bound)
                    assert wrong is None, f"{case.name}, {algorithm}, fast: {wrong}; {problem}"


# --- depthwise, separable, local, unfold, fold


def compare(problem: Problem, name: str, got: np.ndarray, view: View | None, expected, sums, u: float) -> None:
    """Within the standard bound, with max S over everything."""
    got = np.asarray(got) if view is None else view.canonical(got)
    wrong = disagreement(got, expected, 128 * u * np.max(sums, initial=0))
    assert wrong is None, f"{name}: {wrong}; {problem}"


def common_unit(problem: Problem, *names: str) -> float:
    arrays = [problem.canonical[name] for name in names]
    return accuracy_unit(result_type(*(array.dtype for array in arrays if array is not None)))


@pytest.mark.parametrize("start", CHUNKS)
def test_depthwise_conv(start):
    for seed in range(start, start + CHUNK):
        problem = draw("depthwise_conv", seed)
        c, s, views = problem.canonical, sizes(problem)[0], problem.views
        geometry = {"groups": c["x"].shape[1], **problem.geometry}
        x, w, bias, g = (problem.given(name) for name in ("x", "w", "bias", "g"))
        y = npconv.depthwise_conv(x, w, bias, **problem.options)
        three = (reference.conv(a["x"], a["w"], a["bias"], **geometry) for a in (c, s))
        compare(problem, "y", y, views["g"], *three, common_unit(problem, "x", "w", "bias"))
        grads = npconv.depthwise_conv_grads(g, x, w, **problem.options)
        sides = (reference.conv_input_grad(a["g"], a["w"], c["x"].shape, **geometry) for a in (c, s))
        compare(problem, "dx", grads.x, views["x"], *sides, common_unit(problem, "g", "w"))
        sides = (reference.conv_weight_grad(a["x"], a["g"], c["w"].shape, **geometry) for a in (c, s))
        compare(problem, "dw", grads.w, views["w"], *sides, common_unit(problem, "g", "x"))
        sides = (reference.bias_grad(a["g"]) for a in (c, s))
        compare(problem, "db", grads.bias, None, *sides, common_unit(problem, "g"))


@pytest.mark.parametrize("start", CHUNKS)
def test_separable_conv(start):
    """A short float may be rounded once more, in the middle."""
    for seed in range(start, start + CHUNK):
        problem = draw("separable_conv", seed)
        c, s, geometry, views = problem.canonical, sizes(problem)[0], problem.geometry, problem.views
        x, w, p, bias, g = (problem.given(name) for name in ("x", "w", "pointwise", "bias", "g"))
        u = common_unit(problem, "x", "w", "pointwise", "bias")
        if x.dtype.itemsize == 2:
            u = max(u, 2.0**-12)
        y = npconv.separable_conv(x, w, p, bias, **problem.options)
        sides = (reference.separable_conv(a["x"], a["w"], a["pointwise"], a["bias"], **geometry) for a in (c, s))
        compare(problem, "y", y, views["g"], *sides, u)
        grads = npconv.separable_conv_grads(g, x, w, p, **problem.options)
        exact, bounds = (
            reference.separable_conv_grads(a["g"], a["x"], a["w"], a["pointwise"], **geometry) for a in (c, s)
        )
        compare(problem, "dx", grads.x, views["x"], exact[0], bounds[0], u)
        compare(problem, "d depthwise", grads.depthwise, views["w"], exact[1], bounds[1], u)
        compare(problem, "d pointwise", grads.pointwise, views["pointwise"], exact[2], bounds[2], u)
        sides = (reference.bias_grad(a["g"]) for a in (c, s))
        compare(problem, "db", grads.bias, None, *sides, common_unit(problem, "g"))


@pytest.mark.parametrize("start", CHUNKS)
def test_local_conv(start):
    for seed in range(start, start + CHUNK):
        problem = draw("local_conv", seed)
        c, s, geometry, views = problem.canonical, sizes(problem)[0], problem.geometry, problem.views
        x, w, bias, g = (problem.given(name) for name in ("x", "w", "bias", "g"))
        y = npconv.local_conv(x, w, bias, **problem.options)
        sides = (reference.local_conv(a["x"], a["w"], a["bias"], **geometry) for a in (c, s))
        compare(problem, "y", y, views["g"], *sides, common_unit(problem, "x", "w", "bias"))
        grads = npconv.local_conv_grads(g, x, w, **problem.options)
        exact, bounds = (reference.local_conv_grads(a["g"], a["x"], a["w"], **geometry) for a in (c, s))
        compare(problem, "dx", grads.x, views["x"], exact[0], bounds[0], common_unit(problem, "g", "w"))
        compare(problem, "dw", grads.w, views["w"], exact[1], bounds[1], common_unit(problem, "g", "x"))


@pytest.mark.parametrize("start", CHUNKS)
def test_unfold_and_fold(start):
    for seed in range(start, start + CHUNK):
        problem = draw("unfold", seed)
        c, geometry, (kernel,), views = problem.canonical, problem.geometry, problem.arguments, problem.views
        columns = npconv.unfold(problem.given("x"), kernel, **problem.options)
        compare(problem, "unfold", columns, views["g"], reference.unfold(c["x"], kernel, **geometry), 0, 0)
        spatial = c["x"].shape[2:]
        x = npconv.fold(problem.given("g"), spatial, kernel, **problem.options)
        sides = (reference.fold(a, spatial, kernel, **geometry) for a in (c["g"], size(c["g"])))
        compare(problem, "fold", x, views["x"], *sides, common_unit(problem, "g"))
