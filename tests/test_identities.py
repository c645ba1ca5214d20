"""What must hold between the operators, whatever any of them computes: no reference is needed.

conv is linear in x and in w, so with random distinct g, in double precision and to rounding,

    <g, conv(x, w)> = <conv_input_grad(g, w), x> = <conv_weight_grad(x, g), w>

conv_transpose is the adjoint of conv, fold that of unfold, and each pool's gradient that of the pool's own
selection.  The inner product conjugates its first argument, so that complex numbers obey the same line.
"""

import numpy as np
import pytest

import npconv
from problems import Problem, draw

CHUNK = 50
CHUNKS = [
    pytest.param(start, id=f"from-{start}", marks=() if start < 300 else pytest.mark.long)
    for start in range(0, 10_000, CHUNK)
]
each_chunk = pytest.mark.parametrize("start", CHUNKS)
TOLERANCE = 1e-12


def double(problem: Problem, *names: str) -> list[np.ndarray]:
    """The arrays as the caller holds them, in float64 or complex128: one complex makes all complex."""
    arrays = [problem.given(name) for name in names]
    kind = np.complex128 if any(array.dtype.kind == "c" for array in arrays) else np.float64
    return [array.astype(kind) for array in arrays]


def drawn(operator: str, start: int):
    return (draw(operator, seed) for seed in range(start, start + CHUNK))


def inner(a: np.ndarray, b: np.ndarray) -> complex:
    return np.vdot(a, b)


def same(problem, scale: float, *products: complex) -> None:
    """All products agree to 1e-12 of the sum of the sizes of their terms."""
    for product in products[1:]:
        difference = abs(product - products[0])
        assert difference <= TOLERANCE * scale, f"{products}, scale {scale}; {problem}"


def size_of(function, *arrays, **options) -> float:
    """The sum of |terms|: <|g|, function(|x|, |w|)>."""
    g, *operands = (np.abs(array) for array in arrays)
    return float((g * function(*operands, **options)).sum()) + np.finfo(float).tiny


def linear(problem: Problem) -> dict:
    """The problem's options, its border zero: a constant one makes conv affine."""
    return {name: 0.0 if name == "padding_value" else value for name, value in problem.options.items()}


@each_chunk
def test_conv_and_its_gradients_are_adjoint(start):
    for problem in drawn("conv", start):
        x, w, g = double(problem, "x", "w", "g")
        options = linear(problem)
        y = npconv.conv(x, w, **options)
        dx = npconv.conv_input_grad(g, w, input_shape=x.shape, **options)
        dw = npconv.conv_weight_grad(x, g, kernel_shape=w.shape, **options)
        scale = size_of(npconv.conv, g, x, w, **options)
        same(problem, scale, inner(g, y), inner(dx, x), inner(dw, w))


@each_chunk
def test_conv_transpose_and_its_gradients_are_adjoint(start):
    for problem in drawn("conv_transpose", start):
        x, w, g = double(problem, "x", "w", "g")
        y = npconv.conv_transpose(x, w, **problem.options)
        dx = npconv.conv_transpose_input_grad(g, w, input_shape=x.shape, **problem.options)
        dw = npconv.conv_transpose_weight_grad(x, g, kernel_shape=w.shape, **problem.options)
        scale = size_of(npconv.conv_transpose, g, x, w, **problem.options)
        same(problem, scale, inner(g, y), inner(dx, x), inner(dw, w))


TRANSPOSE_TAKES = ("stride", "padding", "dilation", "groups", "flip", "layout", "kernel_layout")


@each_chunk
def test_conv_transpose_is_the_adjoint_of_conv(start):
    """<g, conv(x, w)> = <conv_transpose(g, conj w), x> for the same w, layout and options."""
    for problem in drawn("conv", start):
        options = {key: value for key, value in problem.options.items() if key in TRANSPOSE_TAKES}
        other = set(problem.options) - set(options)
        if any(set(np.ravel(problem.options[key])) - {1} for key in other):
            continue  # input dilation and modes are conv's alone
        spatial = problem.canonical["x"].shape[2:]
        if 0 in spatial or not reachable(problem):
            continue
        x, w, g = double(problem, "x", "w", "g")
        y = npconv.conv(x, w, **options)
        back = npconv.conv_transpose(g, np.conj(w), output_size=spatial, **options)
        assert back.shape == x.shape, problem
        scale = size_of(npconv.conv, g, x, w, **options)
        same(problem, scale, inner(g, y), inner(back, x))


def reachable(problem: Problem) -> bool:
    """Whether x is what is left over by fewer than max(stride, dilation) positions, and was not cropped."""
    geometry, c = problem.geometry, problem.canonical
    axes = zip(
        c["x"].shape[2:],
        c["g"].shape[2:],
        c["w"].shape[2:],
        geometry["stride"],
        geometry["dilation"],
        geometry["padding"],
        strict=True,
    )
    for length, out, k, s, d, (lo, hi) in axes:
        left_over = length + lo + hi - ((out - 1) * s + (k - 1) * d + 1)
        if left_over >= max(s, d) or min(lo, hi) < 0:
            return False
    return problem.options.get("padding") not in ("full", "causal", "same_torch", "same_lower")


@each_chunk
@pytest.mark.parametrize("operator", ["depthwise_conv", "local_conv"])
def test_depthwise_and_local_gradients_are_adjoint(operator, start):
    function, grads = getattr(npconv, operator), getattr(npconv, operator + "_grads")
    for problem in drawn(operator, start):
        x, w, g = double(problem, "x", "w", "g")
        y = function(x, w, **problem.options)
        got = grads(g, x, w, **problem.options)
        scale = size_of(function, g, x, w, **problem.options)
        same(problem, scale, inner(g, y), inner(got.x, x), inner(got.w, w))


@each_chunk
def test_separable_gradients_are_adjoint(start):
    for problem in drawn("separable_conv", start):
        x, w, p, g = double(problem, "x", "w", "pointwise", "g")
        y = npconv.separable_conv(x, w, p, **problem.options)
        grads = npconv.separable_conv_grads(g, x, w, p, **problem.options)
        scale = size_of(npconv.separable_conv, g, x, w, p, **problem.options)
        products = inner(grads.x, x), inner(grads.depthwise, w), inner(grads.pointwise, p)
        same(problem, scale, inner(g, y), *products)


@each_chunk
def test_unfold_and_fold_are_adjoint(start):
    for problem in drawn("unfold", start):
        x, g = double(problem, "x", "g")
        (kernel,), spatial = problem.arguments, problem.canonical["x"].shape[2:]
        columns = npconv.unfold(x, kernel, **problem.options)
        back = npconv.fold(g, spatial, kernel, **problem.options)
        scale = size_of(npconv.unfold, g, x, kernel=kernel, **problem.options)
        same(problem, scale, inner(g, columns), inner(back, x))


@each_chunk
def test_jvp_is_the_product_rule(start):
    """y' = conv(x', w) + conv(x, w') + b', and <g, y'> = <dx, x'> + <dw, w'> + <db, b'>."""
    for problem in drawn("conv", start):
        x, w, g = double(problem, "x", "w", "g")
        rng = np.random.default_rng(problem.seed)
        tx, tw = rng.standard_normal(x.shape), rng.standard_normal(w.shape)
        bias = rng.standard_normal(problem.canonical["w"].shape[0]).astype(w.dtype)
        y, dy = npconv.conv_jvp(x, w, tx, tw, bias=bias, dbias=bias, **problem.options)
        grads = npconv.conv_grads(g, x, w, **problem.options)
        expected = inner(grads.x, tx) + inner(grads.w, tw) + inner(grads.bias, bias)
        parts = (grads.x, tx), (grads.w, tw), (grads.bias, bias)
        scale = sum(float(np.abs(a).ravel() @ np.abs(b).ravel()) for a, b in parts) + 1e-300
        scale += float(np.abs(g).ravel() @ np.abs(dy).ravel())
        same(problem, scale, inner(g, dy), expected)
        again = npconv.conv(x, w, bias, **problem.options)
        assert np.allclose(y, again, rtol=1e-12, atol=1e-12 * np.abs(again).max(initial=1)), problem


@each_chunk
def test_double_backward_is_a_composition(start):
    """The gradients of <v, conv_input_grad(g, w)> are conv(v, w) and conv_weight_grad(v, g)."""
    for problem in drawn("conv", start):
        x, w, g = double(problem, "x", "w", "g")
        options = linear(problem)
        v = np.random.default_rng(problem.seed).standard_normal(x.shape).astype(x.dtype)
        dx = npconv.conv_input_grad(g, w, input_shape=x.shape, **options)
        of_g = npconv.conv(v, w, **options)
        of_w = npconv.conv_weight_grad(v, g, kernel_shape=w.shape, **options)
        scale = size_of(npconv.conv, g, v, w, **options)
        same(problem, scale, inner(g, of_g), inner(dx, v), inner(of_w, w))


# --- pooling: away from ties a pool is linear in what it selects


POOLS = ("avg_pool", "adaptive_avg_pool", "global_avg_pool")


@each_chunk
@pytest.mark.parametrize("operator", POOLS)
def test_averages_and_their_gradients_are_adjoint(operator, start):
    pool, grad = getattr(npconv, operator), getattr(npconv, operator + "_grad")
    for problem in drawn(operator, start):
        x, g = (finite(array) for array in double(problem, "x", "g"))
        y = pool(x, *problem.arguments, **problem.options)
        dx = grad(g, x.shape, *problem.arguments, **problem.options)
        scale = float((np.abs(g) * pool(np.abs(x), *problem.arguments, **problem.options)).sum()) + 1e-300
        same(problem, scale, inner(g, y), inner(dx, x))


MAXIMA = ("max_pool", "adaptive_max_pool", "global_max_pool", "fractional_max_pool")


@each_chunk
@pytest.mark.parametrize("operator", MAXIMA)
def test_a_maximum_and_its_gradient_are_adjoint(operator, start):
    """<g, pool(x)> = <dx, x>, since each output is one input."""
    pool, grad = getattr(npconv, operator), getattr(npconv, operator + "_grad")
    for problem in drawn(operator, start):
        x, g = (finite(array) for array in double(problem, "x", "g"))
        y = pool(x, *problem.arguments, **problem.options)
        dx = grad(g, x, *problem.arguments, **problem.options)
        scale = float((np.abs(g) * np.abs(y)).sum()) + 1e-300
        same(problem, scale, inner(g, y), inner(dx, x))


def finite(array: np.ndarray) -> np.ndarray:
    """NaN and infinities replaced by numbers: a product with them has no size."""
    return np.nan_to_num(array, nan=0.25, posinf=4.0, neginf=-4.0)


@each_chunk
def test_lp_pool_is_homogeneous(start):
    """A norm: <dx, x> = <g, y> (Euler), and dx does not change when x is scaled."""
    for problem in drawn("lp_pool", start):
        x, g = (finite(array) for array in double(problem, "x", "g"))
        if problem.options.get("p") == np.inf and np.unique(np.abs(x)).size < x.size:
            continue  # the largest of equal ones has no derivative
        y = npconv.lp_pool(x, *problem.arguments, **problem.options)
        dx = npconv.lp_pool_grad(g, x, *problem.arguments, **problem.options)
        scale = float((np.abs(g) * y).sum()) + 1e-300
        same(problem, scale * 10, inner(g, y), inner(dx, x))


@each_chunk
def test_unpooling_puts_back_what_its_gradient_takes(start):
    for problem in drawn("max_unpool", start):
        if problem.options.get("indices_space", "plane") != "plane":
            continue  # the other spaces are converted in test_pooling_against_reference
        x, g = double(problem, "x", "g")
        indices = problem.given("indices")
        y = npconv.max_unpool(x, indices, *problem.arguments, **problem.options)
        dx = npconv.max_unpool_grad(g, indices, *problem.arguments, **problem.options)
        scale = float(np.abs(g).ravel() @ np.abs(y).ravel()) + 1e-300
        same(problem, scale, inner(g, y), inner(dx, x))
