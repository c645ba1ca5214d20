"""Activations and what follows a convolution: against one-number definitions in double precision, in NumPy and compiled."""

from __future__ import annotations

import math

import numpy as np
import pytest

import npconv
from npconv import epilogue
from npconv.activations import TABLE, Activation
from npconv.compiled import catalogue

compiled = pytest.mark.skipif(bool(catalogue.unavailable()), reason=f"no compiled kernels: {catalogue.unavailable()}")


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


#: The definitions, number by number; what an infinity gives is the limit.
DEFINITIONS = {
    "relu": lambda x: x if x > 0 else 0.0,
    "relu6": lambda x: min(x, 6.0) if x > 0 else 0.0,
    "leaky_relu": lambda x: x if x > 0 else 0.01 * x,
    "sigmoid": logistic,
    "tanh": math.tanh,
    "silu": lambda x: x * logistic(x),
    "gelu": lambda x: x * 0.5 * math.erfc(-x * math.sqrt(0.5)),
    "gelu_tanh": lambda x: x * logistic(math.sqrt(8 / math.pi) * (x + 0.044715 * x**3)),
}
LIMITS = {"leaky_relu": (-math.inf, math.inf), "relu6": (0, 6), "sigmoid": (0, 1), "tanh": (-1, 1)}
#: Where the definitions above are good to a few roundings of double: further out x^2 itself is rounded.
NEAR = 5.0


def sample(dtype: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.concatenate([rng.uniform(-NEAR, NEAR, 3000), rng.normal(0, 1e-4, 300), [0.0, 6.0]]).astype(dtype)


def of(name: str, slope: float = 0.01) -> Activation:
    return Activation(name, slope if name == "leaky_relu" else 0.0)


def swept(x: np.ndarray, activation: Activation | None) -> np.ndarray:
    y = x.copy()
    epilogue.finish(y, 0, None, activation)
    return y


def numpy_alone(x: np.ndarray, activation: Activation | None) -> np.ndarray:
    return x.copy() if activation is None else activation(x)


WAYS = [pytest.param(numpy_alone, id="numpy"), pytest.param(swept, id="compiled", marks=compiled)]


def test_every_activation_is_defined_here():
    assert set(DEFINITIONS) == set(TABLE) == set(epilogue.KINDS) - {"linear"}


@compiled
def test_the_kernel_counts_as_we_do():
    pytest.importorskip("llvmlite", reason="reads the emitted kernel")
    from npconv.compiled.epilogue import KINDS

    assert tuple(epilogue.KINDS) == KINDS


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", DEFINITIONS)
def test_definition(name, dtype, way):
    """Within 4 units in the last place of the result; gelu_tanh, whose exponent of 17 is rounded, within 32."""
    x = sample(dtype)
    truth = np.array([DEFINITIONS[name](float(v)) for v in x])
    # math.erfc sees a rounded argument: 2 z^2 of its own last places, 25 at the end of the range
    allowed = {"gelu_tanh": 32, "gelu": 4 if dtype == "float32" else 32}.get(name, 4)
    error = np.abs(way(x, of(name)) - truth)
    assert np.all(error <= allowed * np.finfo(dtype).eps * np.abs(truth)), x[np.argmax(error)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", DEFINITIONS)
def test_ends_of_the_line(name, dtype, way):
    x = np.array([-np.inf, np.inf, np.nan, -1e30, 1e30, -300, 300], dtype)
    low, high = LIMITS.get(name, (0.0, math.inf))
    with np.errstate(all="ignore"):
        y = way(x, of(name))
    assert y.dtype == dtype
    assert (y[0], y[1]) == (low, high)
    assert np.isnan(y[2])
    assert not np.isnan(np.delete(y, 2)).any()
    assert y[3] == (pytest.approx(-1e28) if name == "leaky_relu" else low)
    assert y[4] == pytest.approx(min(high, 1e30))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_leaky_relu_takes_any_slope(dtype):
    x = sample(dtype)
    for slope in (0.0, 0.25, -1.5):
        for y in (swept(x, of("leaky_relu", slope)), numpy_alone(x, of("leaky_relu", slope))):
            assert np.array_equal(y, np.where(x > 0, x, x * np.dtype(dtype).type(slope)))


SHAPES = [((2, 3, 5, 7), 1), ((3, 5, 7, 3), 3), ((4, 17), 1), ((6,), 0), ((1, 64, 56, 56), 1), ((1, 56, 56, 65), 3)]
SHAPES += [((2, 1, 300, 301), 1), ((300, 301, 1), 2), ((5, 4, 9, 2), 0), ((2, 600, 40), 1), ((40, 2, 1200), 2)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("name", [None, "relu", "tanh"])
def test_bias_meets_its_channel(name, shape, axis, dtype):
    rng = np.random.default_rng(1)
    x, bias = rng.standard_normal(shape).astype(dtype), rng.standard_normal(shape[axis]).astype(dtype)
    around = np.full(x.size + 128, np.nan, dtype)
    y = around[64:-64].reshape(shape)
    y[...] = x
    epilogue.finish(y, axis, bias, None if name is None else of(name))
    expected = x + bias.reshape(-1, *(1,) * (len(shape) - axis - 1))
    if name == "tanh":
        assert np.all(np.abs(y - np.tanh(expected)) <= 4 * np.finfo(dtype).eps)
    else:
        assert np.array_equal(y, np.maximum(expected, 0) if name else expected)
    assert np.isnan(around[:64]).all()  # nothing beside it was written
    assert np.isnan(around[-64:]).all()


@compiled
def test_threads_change_no_bit():
    x = np.random.default_rng(2).standard_normal((2, 65, 60, 60)).astype(np.float32)
    bias, found = np.linspace(-1, 1, 65, dtype=np.float32), set()
    for threads in (1, 2, 3):
        with npconv.num_threads(threads):
            y = x.copy()
            epilogue.finish(y, 1, bias, of("gelu"))
            found.add(y.tobytes())
    assert len(found) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [0, 1, 100, (1 << 16) + 1, 100_003])
def test_a_spoiled_output_is_seen_wherever_it_is(size, dtype):
    x = np.full(size, 1e30, dtype)  # whose sum overflows in single precision
    with np.errstate(all="ignore"):
        assert epilogue.all_finite(x)
        for at in {0, size // 2, size - 1} if size else ():
            for value in (np.nan, np.inf, -np.inf):
                y = x.copy()
                y[at] = value
                assert not epilogue.all_finite(y)
                if size == 100_003:
                    continue
                assert not epilogue.all_finite(np.repeat(y, 2)[::2])


def test_a_strided_output_is_seen_too():
    x = np.zeros((2, 300, 300, 3), np.float32)
    x[1, 7, 8, 2] = np.nan
    assert not epilogue.all_finite(np.moveaxis(x, -1, 1))
    assert epilogue.all_finite(np.moveaxis(x[..., ::2, :, :2], -1, 1)[:1])
    assert not epilogue.all_finite(np.moveaxis(x[:, 1::2], -1, 1))
