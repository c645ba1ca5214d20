"""Every pool and its gradient against the loops of reference.py, on drawn problems.

Maxima are equal, bit for bit, with their indices; sums keep |err| <= 32 u S, S the sum of a window's |x| (of
|g| for a gradient).  300 problems of each operator run by default, 10,000 with `-m long`.  A failure prints
the problem as `draw(operator, seed)`.
"""

import numpy as np
import pytest

import npconv
import reference
from problems import Problem, accuracy_unit, disagreement, draw, gradient_type, is_float

CHUNK = 50
CHUNKS = [
    pytest.param(start, id=f"from-{start}", marks=() if start < 300 else pytest.mark.long)
    for start in range(0, 10_000, CHUNK)
]
each_chunk = pytest.mark.parametrize("start", CHUNKS)


def drawn(operator: str, start: int):
    return (draw(operator, seed) for seed in range(start, start + CHUNK))


def wide(array: np.ndarray) -> np.ndarray:
    """Short floats as float64; everything else as it is."""
    return array.astype(np.float64) if is_float(array.dtype) else array


def size(array: np.ndarray) -> np.ndarray:
    """|array| in float64, NaN and infinities left out: they are compared for themselves."""
    return np.nan_to_num(np.abs(array.astype(np.float64)), nan=0, posinf=0, neginf=0)


def check(problem: Problem, name: str, got, expected, dtype: np.dtype, bound=0.0) -> None:
    assert got.dtype == dtype, f"{name}: dtype {got.dtype}, expected {dtype}; {problem}"
    wrong = disagreement(got, expected, np.broadcast_to(bound, got.shape))
    assert wrong is None, f"{name}: {wrong}; {problem}"


def call(problem: Problem, function, *operands, view: str = "g", **extra):
    """The result in canonical form; the operands must stay as they were."""
    before = [array.tobytes() for array in operands if isinstance(array, np.ndarray)]
    result = function(*operands, *problem.arguments, **problem.options, **extra)
    after = [array.tobytes() for array in operands if isinstance(array, np.ndarray)]
    assert before == after, f"{function.__name__} wrote to an input: {problem}"
    if isinstance(result, tuple):
        return tuple(problem.views[view].canonical(each) for each in result)
    return problem.views[view].canonical(result)


def poisoned(problem: Problem, dtype: np.dtype) -> np.ndarray:
    shape = problem.given("g").shape
    return np.full(shape, -77 if dtype.kind in "iu" and dtype.kind != "u" else 77, dtype)


def windows_of(problem: Problem) -> reference.Windows:
    return reference.Windows(problem.canonical["x"].shape[2:], **problem.geometry)


def sum_bound(problem: Problem, windows, divisors, dtype) -> np.ndarray:
    with np.errstate(all="ignore"):
        return 32 * accuracy_unit(dtype) * reference.avg_pool(size(problem.canonical["x"]), windows, divisors)


def gradient_bound(problem: Problem, windows, divisors, dtype) -> np.ndarray:
    spatial = problem.canonical["x"].shape[2:]
    spread = reference.avg_pool_grad(size(problem.canonical["g"]), windows, divisors, spatial)
    return 32 * accuracy_unit(dtype) * spread


def scatter_bound(problem: Problem, winners) -> np.ndarray:
    """32 u times the sum of |g| that meets at one pixel."""
    c = problem.canonical
    if not is_float(c["g"].dtype):
        return np.zeros(c["x"].shape)
    met = reference.max_pool_grad(size(c["g"]), winners, c["x"].shape[2:])
    return 32 * accuracy_unit(c["g"].dtype) * met.astype(np.float64)


@each_chunk
def test_max_pool(start):
    for problem in drawn("max_pool", start):
        x, space = problem.canonical["x"], problem.canonical["extra"]["indices"]
        y, winners = reference.max_pool(wide(x), windows_of(problem))
        out = poisoned(problem, x.dtype)
        got = npconv.max_pool(problem.given("x"), *problem.arguments, **problem.options, out=out)
        assert got is out, problem
        check(problem, "y", problem.views["g"].canonical(got), y, x.dtype)
        again, indices = call(problem, npconv.max_pool, problem.given("x"), return_indices=True, indices=space)
        check(problem, "y with indices", again, y, x.dtype)
        expected = reference.convert_indices(winners, space, x.shape)
        assert indices.dtype == np.int64, problem
        assert np.array_equal(indices, expected), f"{space} indices of {problem}"


@each_chunk
def test_max_pool_grad(start):
    for problem in drawn("max_pool", start):
        c = problem.canonical
        _, winners = reference.max_pool(wide(c["x"]), windows_of(problem))
        dx = call(problem, npconv.max_pool_grad, problem.given("g"), problem.given("x"), view="x")
        expected = reference.max_pool_grad(c["g"], winners, c["x"].shape[2:])
        check(problem, "dx", dx, expected, c["g"].dtype, scatter_bound(problem, winners))


@each_chunk
def test_avg_pool(start):
    for problem in drawn("avg_pool", start):
        c, windows = problem.canonical, windows_of(problem)
        divisors = reference.divisors(windows, **c["extra"])
        dtype = gradient_type(c["x"].dtype, exact=False)
        y = call(problem, npconv.avg_pool, problem.given("x"), out=poisoned(problem, dtype))
        expected = reference.avg_pool(wide(c["x"]), windows, divisors)
        check(problem, "y", y, expected, dtype, sum_bound(problem, windows, divisors, dtype))
        shape = problem.given("x").shape
        dx = call(problem, npconv.avg_pool_grad, problem.given("g"), shape, view="x")
        expected = reference.avg_pool_grad(c["g"], windows, divisors, c["x"].shape[2:])
        bound = gradient_bound(problem, windows, divisors, dtype)
        check(problem, "dx", dx, expected, c["g"].dtype, bound)


@each_chunk
def test_lp_pool(start):
    """Powers and roots cost a few units more than sums: the bound is relative to y, once per power."""
    for problem in drawn("lp_pool", start):
        c, windows, p = problem.canonical, windows_of(problem), float(problem.canonical["extra"]["p"])
        dtype = gradient_type(c["x"].dtype, exact=False)
        u = accuracy_unit(dtype)
        with np.errstate(all="ignore"):
            y = reference.lp_pool(wide(c["x"]), windows, p)
            got = call(problem, npconv.lp_pool, problem.given("x"), out=poisoned(problem, dtype))
            check(problem, "y", got, y, dtype, 64 * u * size(y))
            if not np.isfinite(wide(c["x"])).all() or (p == np.inf and has_ties(c["x"])):
                continue  # where the derivative is not defined
            dx = call(problem, npconv.lp_pool_grad, problem.given("g"), problem.given("x"), view="x")
            expected = reference.lp_pool_grad(wide(c["g"]), wide(c["x"]), windows, p)
            bound = 256 * u * reference.lp_pool_grad(size(c["g"]), size(c["x"]), windows, p)
        check(problem, "dx", dx, expected, c["g"].dtype, bound)


def has_ties(x: np.ndarray) -> bool:
    return np.unique(np.abs(x.astype(np.float64))).size < x.size


@each_chunk
def test_adaptive_max_pool(start):
    for problem in drawn("adaptive_max_pool", start):
        c = problem.canonical
        bins = reference.Bins(c["x"].shape[2:], problem.geometry["size"])
        y, winners = reference.max_pool(wide(c["x"]), bins)
        got, indices = call(problem, npconv.adaptive_max_pool, problem.given("x"), return_indices=True)
        check(problem, "y", got, y, c["x"].dtype)
        assert np.array_equal(indices, winners), f"indices of {problem}"
        dx = call(problem, npconv.adaptive_max_pool_grad, problem.given("g"), problem.given("x"), view="x")
        expected = reference.max_pool_grad(c["g"], winners, c["x"].shape[2:])
        check(problem, "dx", dx, expected, c["g"].dtype, scatter_bound(problem, winners))


@each_chunk
@pytest.mark.parametrize("operator", ["adaptive_avg_pool", "global_avg_pool"])
def test_averages_of_bins(operator, start):
    pool, grad = getattr(npconv, operator), getattr(npconv, operator + "_grad")
    for problem in drawn(operator, start):
        c = problem.canonical
        bins = reference.Bins(c["x"].shape[2:], problem.geometry["size"])
        divisors = reference.divisors(bins)
        dtype = gradient_type(c["x"].dtype, exact=False)
        expected = reference.avg_pool(wide(c["x"]), bins, divisors)
        y = call(problem, pool, problem.given("x"))
        check(problem, "y", y, expected, dtype, sum_bound(problem, bins, divisors, dtype))
        expected = reference.avg_pool_grad(c["g"], bins, divisors, c["x"].shape[2:])
        if operator == "global_avg_pool":
            dx = whole_grad(problem, grad, problem.given("x").shape)
        else:
            dx = call(problem, grad, problem.given("g"), problem.given("x").shape, view="x")
        check(problem, "dx", dx, expected, c["g"].dtype, gradient_bound(problem, bins, divisors, dtype))


def whole_grad(problem: Problem, function, second) -> np.ndarray:
    """The gradient of a global pool takes g as the pool gave it, keepdims included."""
    return problem.views["x"].canonical(function(problem.given("g"), second, **problem.options))


@each_chunk
def test_global_max_pool(start):
    for problem in drawn("global_max_pool", start):
        c = problem.canonical
        bins = reference.Bins(c["x"].shape[2:], problem.geometry["size"])
        y, winners = reference.max_pool(wide(c["x"]), bins)
        check(problem, "y", call(problem, npconv.global_max_pool, problem.given("x")), y, c["x"].dtype)
        dx = whole_grad(problem, npconv.global_max_pool_grad, problem.given("x"))
        expected = reference.max_pool_grad(c["g"], winners, c["x"].shape[2:])
        check(problem, "dx", dx, expected, c["g"].dtype)


@each_chunk
def test_fractional_max_pool(start):
    for problem in drawn("fractional_max_pool", start):
        c = problem.canonical
        y, winners = reference.fractional_max_pool(wide(c["x"]), **problem.geometry)
        got, indices = call(problem, npconv.fractional_max_pool, problem.given("x"), return_indices=True)
        check(problem, "y", got, y, c["x"].dtype)
        assert np.array_equal(indices, winners), f"indices of {problem}"
        dx = call(problem, npconv.fractional_max_pool_grad, problem.given("g"), problem.given("x"), view="x")
        expected = reference.max_pool_grad(c["g"], winners, c["x"].shape[2:])
        check(problem, "dx", dx, expected, c["g"].dtype, scatter_bound(problem, winners))


@each_chunk
def test_max_unpool(start):
    for problem in drawn("max_unpool", start):
        c, (out_size, space) = problem.canonical, problem.geometry.values()
        whole = (*c["x"].shape[:2], *out_size)
        numbers = problem.views["indices"].given(reference.convert_indices(c["indices"], space, whole))
        y = call(problem, npconv.max_unpool, problem.given("x"), numbers)
        check(problem, "y", y, reference.max_unpool(wide(c["x"]), c["indices"], out_size), c["x"].dtype)
        dx = call(problem, npconv.max_unpool_grad, problem.given("g"), numbers, view="x")
        check(problem, "dx", dx, reference.max_unpool_grad(c["g"], c["indices"]), c["g"].dtype)
