"""Keras' NumPy backend on npconv: its functions against JAX's, whose meaning they have, and the import without JAX.

Keras itself is compared where it is installed; without it the functions and the import are tested all the same.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from npconv.integrations import keras_numpy

SRC = Path(__file__).parents[1] / "src"
jax = pytest.importorskip("jax", reason="JAX is what Keras' NumPy backend calls (the extra `test` installs it)")
from jax import lax  # noqa: E402


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def numbers(rank: int, transposed: bool = False) -> lax.ConvDimensionNumbers:
    """Channels last, kernels as Keras has them."""
    space = tuple(range(1, rank + 1))
    kernel = (rank + 1, rank, *range(rank))
    return lax.ConvDimensionNumbers((0, rank + 1, *space), kernel, (0, rank + 1, *space))


def close(ours: np.ndarray, theirs: object) -> None:
    expected = np.asarray(theirs)
    assert ours.dtype == expected.dtype
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


def both_layouts(function, x: np.ndarray, *operands: np.ndarray, **options) -> np.ndarray:
    """The result for channels last; that for channels first must be the same, turned."""
    last = function(x, *operands, data_format="channels_last", **options)
    first = function(np.moveaxis(x, -1, 1), *operands, data_format="channels_first", **options)
    np.testing.assert_allclose(np.moveaxis(first, 1, -1), last, rtol=1e-5, atol=1e-5)
    return last


def _all(*choices) -> list[tuple]:
    return list(product(*choices))


STEPS = [(1, 1), (2, 1), (1, 2), (3, 1)]


@pytest.mark.parametrize(
    ("rank", "padding", "steps", "k", "groups"), _all((1, 2, 3), ("valid", "same"), STEPS, (2, 3), (1, 3))
)
def test_conv(rank, padding, steps, k, groups):
    x, w = drawn(2, *(9, 8, 7)[:rank], 6), drawn(*(k,) * rank, 6 // groups, 3, seed=1)
    theirs = lax.conv_general_dilated(
        x, w, (steps[0],) * rank, padding.upper(), rhs_dilation=(steps[1],) * rank, dimension_numbers=numbers(rank),
        feature_group_count=groups,
    )  # fmt: skip
    options = {"strides": steps[0], "padding": padding, "dilation_rate": (steps[1],) * rank}
    close(both_layouts(keras_numpy.conv, x, w, **options), theirs)


@pytest.mark.parametrize(("rank", "padding", "steps"), _all((1, 2), ("valid", "same"), STEPS))
def test_depthwise_and_separable_conv(rank, padding, steps):
    x, w, point = drawn(2, *(9, 8)[:rank], 4), drawn(*(3,) * rank, 4, 2, seed=1), drawn(*(1,) * rank, 8, 5, seed=2)
    theirs = lax.conv_general_dilated(
        x, w.reshape(*(3,) * rank, 1, 8), (steps[0],) * rank, padding.upper(), rhs_dilation=(steps[1],) * rank,
        dimension_numbers=numbers(rank), feature_group_count=4,
    )  # fmt: skip
    options = {"strides": steps[0], "padding": padding, "dilation_rate": steps[1]}
    close(both_layouts(keras_numpy.depthwise_conv, x, w, **options), theirs)
    mixed = np.asarray(theirs) @ point.reshape(8, 5)
    close(both_layouts(keras_numpy.separable_conv, x, w, point, **options), mixed)


TRANSPOSED = [
    ((1, 1), None), ((2, 1), None), ((3, 1), None), ((1, 2), None), ((3, 1), 0), ((3, 1), 2), ((2, 1), 1), ((1, 3), 2),
]  # fmt: skip


@pytest.mark.parametrize(("rank", "padding", "how", "k"), _all((1, 2, 3), ("valid", "same"), TRANSPOSED, (1, 2, 3, 4)))
def test_conv_transpose(rank, padding, how, k):
    """Against the scatter that defines it, cut or extended to the sizes that Keras documents."""
    (s, d), extra = how
    x, w = drawn(1, *(4, 3, 2)[:rank], 3), drawn(*(k,) * rank, 2, 3, seed=1)
    e = d * (k - 1) + 1
    if padding == "valid":
        sizes, lo = [(n - 1) * s + (max(e, s) if extra is None else e + extra) for n in x.shape[1:-1]], 0
    else:
        sizes = [n * s if extra is None else (n - 1) * s + e % 2 + extra for n in x.shape[1:-1]]
        lo = max(0, (x.shape[1] - 1) * s + e - sizes[0]) // 2
    expected = np.zeros((1, *sizes, 2))
    for at in np.ndindex(*x.shape[1:-1]):
        for tap in np.ndindex(*(k,) * rank):
            to = tuple(i * s + t * d - lo for i, t in zip(at, tap, strict=True))
            if all(0 <= p < n for p, n in zip(to, sizes, strict=True)):
                expected[(0, *to)] += w[tap].astype(float) @ x[(0, *at)]
    options = {"strides": s, "padding": padding, "dilation_rate": d, "output_padding": extra}
    close(both_layouts(keras_numpy.conv_transpose, x, w, **options), expected.astype(np.float32))


@pytest.mark.parametrize(
    ("rank", "padding", "strides", "size"), _all((1, 2, 3), ("valid", "same"), (None, 1, 2), (2, 3))
)
def test_pools(rank, padding, strides, size):
    x = drawn(2, *(9, 8, 7)[:rank], 3)
    window, step = (1, *(size,) * rank, 1), (1, *(strides or size,) * rank, 1)
    options = {"strides": strides, "padding": padding}
    close(
        both_layouts(keras_numpy.max_pool, x, pool_size=size, **options),
        lax.reduce_window(x, -np.inf, lax.max, window, step, padding.upper()),
    )
    sums, counts = (lax.reduce_window(a, 0.0, lax.add, window, step, padding.upper()) for a in (x, np.ones_like(x)))
    close(both_layouts(keras_numpy.average_pool, x, pool_size=(size,) * rank, **options), np.asarray(sums / counts))


def test_adaptive_pools():
    x = drawn(2, 7, 5, 3)
    for function, reduce in ((keras_numpy.adaptive_average_pool, np.mean), (keras_numpy.FUNCTIONS[-1], np.max)):
        y = both_layouts(function, x, output_size=(3, 5))
        bins = [x[:, start:end] for start, end in ((0, 3), (2, 5), (4, 7))]
        close(y, np.stack([reduce(part, 1) for part in bins], 1))
    assert keras_numpy.adaptive_average_pool(x, 1, "channels_last").shape == (2, 1, 1, 3)


def test_integers_keep_their_dtype():
    assert keras_numpy.conv(np.ones((1, 3, 1), np.int32), np.ones((2, 1, 1), np.int32)).dtype == np.int32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: keras_numpy.conv(drawn(1, 5, 3), drawn(2, 2, 4)), "3 channels, not a multiple of the kernel's 2"),
        (lambda: keras_numpy.depthwise_conv(drawn(1, 5, 3), drawn(2, 2, 4)), "3 channels, the kernel is for 2"),
        (lambda: keras_numpy.conv(drawn(1, 5, 3), drawn(2, 3, 4), padding="full"), "padding is 'full'"),
        (lambda: keras_numpy.conv(drawn(1, 1, 3), drawn(2, 3, 4)), "conv"),
    ],
)
def test_bad_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --------------------------------------------------------------------------- the import
BLOCK_JAX = "import sys; sys.modules['jax'] = None\n"  # as if it were not installed


def run(code: str, *path: Path, **environment: str) -> subprocess.CompletedProcess:
    clean = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    clean["PYTHONPATH"] = os.pathsep.join(map(str, (*path, SRC)))
    command = [sys.executable, "-c", BLOCK_JAX + code]
    return subprocess.run(command, capture_output=True, text=True, env={**clean, **environment}, timeout=100)


@pytest.fixture
def small_keras(tmp_path: Path) -> Path:
    """A package with Keras' names and imports, so that installing is tested where Keras is not."""
    backend = tmp_path / "keras" / "src" / "backend"
    (backend / "numpy").mkdir(parents=True)
    (backend / "jax").mkdir()
    (tmp_path / "keras" / "src" / "__init__.py").write_text("from .backend.numpy import nn\n")
    (tmp_path / "keras" / "__init__.py").write_text(
        "import keras.src\ntry:\n    import jax\nexcept ImportError:\n    jax = None\n"
    )
    chosen = "def backend():\n    import os\n    return os.environ['KERAS_BACKEND']\n"
    (backend / "__init__.py").write_text(chosen + "def image_data_format():\n    return 'channels_first'\n")
    (backend / "jax" / "__init__.py").write_text("import jax\n")
    (backend / "jax" / "math.py").write_text("fft = fft2 = None\n")
    (backend / "numpy" / "__init__.py").write_text("from . import math, nn\n")
    (backend / "numpy" / "math.py").write_text(
        "from keras.src.backend.jax.math import fft as jax_fft\nfrom keras.src.backend.jax.math import fft2\n"
    )
    functions = "".join(f"def {f.__name__}(*a, **k): return lax.old(*a)\n" for f in keras_numpy.FUNCTIONS)
    (backend / "numpy" / "nn.py").write_text(
        "import jax\nfrom jax import lax\n" + functions + "def other(): lax.cumsum\n"
    )
    return tmp_path


USE = """
import numpy as np
from npconv.integrations import keras_numpy
keras_numpy.install()
keras_numpy.install()
import keras
from keras.src.backend.numpy import math, nn
assert keras.jax is None and sys.modules["jax"] is None and "keras.src.backend.jax" not in sys.modules
assert not any("keras_numpy" in repr(f) for f in sys.meta_path)
assert nn.max_pool(np.arange(4.0).reshape(1, 1, 4), 2).tolist() == [[[1.0, 3.0]]]
real, imaginary = math.jax_fft((np.ones(4, np.float32), np.zeros(4, np.float32)))
assert real.tolist() == [4, 0, 0, 0] and real.dtype == np.float32
try:
    nn.other()
except AttributeError as error:
    print(error)
"""


def test_install_without_jax(small_keras):
    done = run(USE, small_keras)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "jax.lax.cumsum needs JAX, which is not installed: pip install jax\n"


@pytest.mark.parametrize(
    ("before", "message"),
    [("", "KERAS_BACKEND is 'torch'; set it to 'numpy'"), ("import keras\n", "Keras runs on 'torch'")],
)
def test_install_refuses_another_backend(before, message, small_keras):
    (small_keras / "keras" / "src" / "__init__.py").write_text("")
    code = before + "from npconv.integrations import keras_numpy; keras_numpy.install()"
    done = run(code, small_keras, KERAS_BACKEND="torch")
    assert done.returncode == 1
    assert "RuntimeError" in done.stderr
    assert message in done.stderr


@pytest.mark.parametrize(
    ("library", "message"), [("keras", "needs Keras 3"), ("scipy", "Keras' NumPy backend needs SciPy")]
)
def test_install_without_what_it_needs(library, message, small_keras):
    code = "from importlib import util; found = util.find_spec\n"
    code += f"util.find_spec = lambda name, *a: None if name == {library!r} else found(name, *a)\n"
    done = run(code + "from npconv.integrations import keras_numpy; keras_numpy.install()", small_keras)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.endswith('pip install "npconv[keras]"\n')


LAYERS = """
import zlib
import numpy as np
if backend == "numpy":
    from npconv.integrations import keras_numpy
    keras_numpy.install()
import keras
assert keras.backend.backend() == backend
L, found = keras.layers, {}

def tried(kind, *arguments, **options):
    name = f"{kind} {arguments} {options}"
    assert name not in found
    rng = np.random.default_rng(zlib.crc32(name.encode()))  # a backend may have to leave layers out
    layer = getattr(L, kind)(*arguments, **options)
    rank = next(n for n in (1, 2, 3) if f"{n}D" in kind)
    space = (9, 8, 7)[:rank]
    last = options.get("data_format") != "channels_first"
    x = rng.standard_normal((2, *space, 6) if last else (2, 6, *space)).astype("float32")
    layer.build(x.shape)
    layer.set_weights([rng.standard_normal(w.shape).astype("float32") for w in layer.weights])
    found[name] = keras.ops.convert_to_numpy(layer(x))

for rank, last in ((1, True), (2, True), (3, True), (2, False)):
    if backend == "tensorflow" and not last:
        continue  # TensorFlow has no channels first without a GPU
    order = {} if last else {"data_format": "channels_first"}
    for padding in ("valid", "same"):
        options = {"padding": padding, **order}
        for more in ({}, {"strides": 2}, {"dilation_rate": 2}, {"groups": 3, "use_bias": False}):
            tried(f"Conv{rank}D", 6, 3, **options, **more)
        for k in (2, 3, 4):
            tried(f"Conv{rank}DTranspose", 5, k, strides=2, **options)
        if rank < 3:
            for more in ({}, {"strides": 2}, {"depth_multiplier": 2}):
                tried(f"DepthwiseConv{rank}D", 3, **options, **more)
                tried(f"SeparableConv{rank}D", 5, 3, **options, **more)
        for kind in ("MaxPooling", "AveragePooling"):
            for size, more in ((2, {}), (3, {"strides": 2})):
                tried(f"{kind}{rank}D", size, **options, **more)
    for kind in ("GlobalMaxPooling", "GlobalAveragePooling"):
        for keepdims in (False, True):
            tried(f"{kind}{rank}D", keepdims=keepdims, **order)
rng, inputs = np.random.default_rng(0), keras.Input((8, 8, 3))
y = L.Dense(2)(L.Flatten()(L.MaxPooling2D()(L.BatchNormalization()(L.Conv2D(4, 3, activation="relu")(inputs)))))
model = keras.Model(inputs, y)
model.set_weights([abs(rng.standard_normal(w.shape)).astype("float32") for w in model.weights])
found["model"] = np.asarray(model.predict(rng.standard_normal((5, 8, 8, 3)).astype("float32"), verbose=0))
assert backend == "jax" or not any(name.split(".")[0] == "jax" and sys.modules[name] for name in sys.modules)
np.savez(to, **found)
"""


def outputs_of(backend: str, to: Path) -> dict[str, np.ndarray]:
    """What every layer gives, from a process of its own; JAX cannot be imported there unless it is the backend."""
    allowed = "del sys.modules['jax']\n" if backend == "jax" else ""
    done = run(f"{allowed}backend, to = {backend!r}, {str(to)!r}\n{LAYERS}", KERAS_BACKEND=backend)
    assert done.returncode == 0, done.stderr
    with np.load(to) as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    return outputs_of("numpy", tmp_path_factory.mktemp("keras") / "numpy.npz")


def differs(backend: str, name: str) -> bool:
    """Whether the other backend is wrong: that of torch counts zeros where an average pool pads one side more."""
    return (
        backend == "torch"
        and name.startswith(("AveragePooling2D", "AveragePooling3D"))
        and "(3,)" in name
        and "'same'" in name
    )


@pytest.mark.skipif(find_spec("keras") is None, reason="Keras is not installed; its functions are tested above")
@pytest.mark.parametrize("backend", ["torch", "tensorflow", pytest.param("jax", marks=pytest.mark.long)])
def test_keras_layers_equal_those_of_another_backend(backend, ours, tmp_path):
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed; another backend of Keras is compared")
    theirs = outputs_of(backend, tmp_path / "theirs.npz")
    assert len(theirs) >= 80
    worst = {
        name: abs(ours[name] - y).max() / max(1, abs(y).max())
        for name, y in theirs.items()
        if not differs(backend, name)
    }
    assert {name: difference for name, difference in worst.items() if difference > 1e-5} == {}
