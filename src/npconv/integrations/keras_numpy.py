"""Keras on NumPy without JAX: `install` puts npconv under the convolutions and pools of Keras' NumPy backend.

That backend computes everything with NumPy but these, for which it imports JAX. Forward passes alone: the backend has no
gradients.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..adaptive import adaptive_avg_pool, adaptive_max_pool
from ..convolution import conv as run_conv
from ..geometry import effective_kernel
from ..pooling import avg_pool
from ..pooling import max_pool as run_max_pool
from ..transposed import conv_transpose as run_conv_transpose

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

BACKEND = "keras.src.backend"


def install() -> None:
    """Make Keras' NumPy backend run convolutions and pools on npconv, and importable without JAX.

    Call it before the first ``import keras`` of the program. Conv1D to Conv3D, DepthwiseConv1D and 2D, SeparableConv1D
    and 2D, Conv1DTranspose to Conv3DTranspose, max, average and adaptive pooling then run on npconv, as do the functions
    of `keras.ops` that they call; global pooling is NumPy's own.

    Raises
    ------
    ImportError
        Without Keras 3 or SciPy, which ``pip install "npconv[keras]"`` installs.
    RuntimeError
        If Keras is set to another backend, or was imported with one.

    Examples
    --------
    >>> from npconv.integrations import keras_numpy
    >>> keras_numpy.install()                                                     # doctest: +SKIP
    >>> import keras                                                              # doctest: +SKIP
    >>> keras.layers.Conv2D(8, 3)(np.ones((1, 32, 32, 3), np.float32)).shape      # doctest: +SKIP
    (1, 30, 30, 8)
    """
    if "keras" not in sys.modules:
        chosen = os.environ.setdefault("KERAS_BACKEND", "numpy")
        if chosen != "numpy":
            raise RuntimeError(f"keras_numpy: KERAS_BACKEND is {chosen!r}; set it to 'numpy' before Keras is imported")
        if find_spec("keras") is None:
            raise ImportError('keras_numpy needs Keras 3: pip install "npconv[keras]"')
        if find_spec("scipy") is None:
            raise ImportError('keras_numpy: Keras\' NumPy backend needs SciPy: pip install "npconv[keras]"')
    with _without_jax():
        used = import_module(BACKEND).backend()
        if used != "numpy":
            raise RuntimeError(
                f"keras_numpy: Keras runs on {used!r}; call install() before Keras is imported, KERAS_BACKEND unset"
            )
        nn = import_module(f"{BACKEND}.numpy.nn")
    for function in FUNCTIONS:
        if not hasattr(nn, function.__name__):
            raise ImportError(f"keras_numpy: this Keras has no {function.__name__} in its NumPy backend")
    for function in FUNCTIONS:
        setattr(nn, function.__name__, function)


# --------------------------------------------------------------------------- an import without JAX
@contextmanager
def _without_jax() -> Iterator[None]:
    """While Keras is imported: the two modules that import JAX find something in its place, if there is none."""
    if find_spec("jax") is not None:
        yield
        return
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder(MetaPathFinder):
    """Finds the modules of the backend that import JAX, and runs them with stand-ins; nobody else sees these."""

    names = f"{BACKEND}.numpy.nn", f"{BACKEND}.numpy.math"

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """The module's own specification, with `_Loader` around its loader."""
        spec = PathFinder.find_spec(name, path) if name in self.names else None
        if spec is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    """Runs a module while stand-ins are where JAX would be."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def create_module(self, spec: ModuleSpec) -> Any:
        """What the usual loader makes."""
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code."""
        made = {name: _stand_in(name) for name in ("jax", "jax.lax", f"{BACKEND}.jax", f"{BACKEND}.jax.math")}
        made["jax"].lax = made["jax.lax"]  # type: ignore[attr-defined]
        for name in ("fft", "fft2"):
            setattr(made[f"{BACKEND}.jax.math"], name, _transform(getattr(np.fft, name)))
        before = {name: sys.modules.pop(name) for name in made if name in sys.modules}
        sys.modules.update(made)
        try:
            self._inner.exec_module(module)
        finally:
            for name in made:
                sys.modules.pop(name, None)
            sys.modules.update(before)


def _stand_in(name: str) -> ModuleType:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None, is_package=True)
    module.__path__ = []

    def missing(attribute: str) -> Any:
        raise AttributeError(f"{name}.{attribute} needs JAX, which is not installed: pip install jax")

    module.__getattr__ = missing  # type: ignore[method-assign]
    return module


def _transform(function: Any) -> Any:
    """A Fourier transform of (real, imaginary), as the backend passes complex numbers around."""

    def transformed(x: tuple[Array, Array]) -> tuple[Array, Array]:
        real, imaginary = (np.asarray(part) for part in x)
        y = function(real + 1j * imaginary)
        return y.real.astype(real.dtype), y.imag.astype(real.dtype)

    return transformed


# --------------------------------------------------------------------------- the functions of the backend
def conv(
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Array:
    """Convolution; groups follow from the channels."""
    x, w = _arrays(inputs, kernel)
    layout = _layout(data_format)
    channels = x.shape[-1 if layout == "channels_last" else 1]
    if channels % w.shape[-2]:
        raise ValueError(f"conv: the input has {channels} channels, not a multiple of the kernel's {w.shape[-2]}")
    options = {"stride": _each(strides), "dilation": _each(dilation_rate), "groups": channels // w.shape[-2]}
    y = run_conv(x, w, padding=_padding(padding), layout=layout, kernel_layout="channels_last", **options)
    return _typed(y, x, w)


def depthwise_conv(
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Array:
    """Convolution of every channel by itself: a kernel of (*k, C, multiplier)."""
    x, w = _arrays(inputs, kernel)
    layout = _layout(data_format)
    channels = x.shape[-1 if layout == "channels_last" else 1]
    if w.shape[-2] != channels:
        raise ValueError(f"depthwise_conv: the input has {channels} channels, the kernel is for {w.shape[-2]}")
    return conv(x, w.reshape(*w.shape[:-2], 1, -1), strides, padding, layout, dilation_rate)


def separable_conv(
    inputs: Any,
    depthwise_kernel: Any,
    pointwise_kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Array:
    """A depthwise convolution, then one of 1 x 1."""
    between = depthwise_conv(inputs, depthwise_kernel, strides, padding, data_format, dilation_rate)
    return conv(between, pointwise_kernel, data_format=data_format)


def conv_transpose(
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    output_padding: Any = None,
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Array:
    """Transposed convolution: a kernel of (*k, O, C), and Keras' output sizes."""
    x, w = _arrays(inputs, kernel)
    rank = x.ndim - 2
    steps, gaps, extra = (_spread(value, rank) for value in (strides, dilation_rate, output_padding))
    sides = [
        _cut(effective_kernel(k, d), s, _padding(padding), more)
        for k, d, s, more in zip(w.shape[:-2], gaps, steps, extra, strict=True)
    ]
    y = run_conv_transpose(
        x,
        w,
        stride=tuple(steps),
        padding=tuple(sides),
        dilation=tuple(gaps),
        layout=_layout(data_format),
        kernel_layout="channels_last",
    )
    return _typed(y, x, w)


def _cut(e: int, s: int, padding: str, extra: int | None) -> tuple[int, int]:
    """What is cut off before and after an axis, negative to add, from an effective kernel `e` and a stride `s`.

    Keras' sizes: valid (in - 1) s + e + extra, the least extra that makes the last window s long; same in * s, or
    (in - 1) s + e % 2 + extra where extra is given.
    """
    if padding == "valid":
        return 0, -(max(s - e, 0) if extra is None else extra)
    surplus = e - s if extra is None else e - e % 2 - extra
    lo = max(0, surplus // 2)
    return lo, surplus - lo


def max_pool(
    inputs: Any, pool_size: Any, strides: Any = None, padding: str = "valid", data_format: str | None = None
) -> Array:
    """The largest value of every window."""
    x, window = _pool(inputs, pool_size, strides, padding, data_format)
    y: Array = run_max_pool(x, **window)
    return y


def average_pool(
    inputs: Any, pool_size: Any, strides: Any = None, padding: str = "valid", data_format: str | None = None
) -> Array:
    """The mean of every window; padding does not count."""
    x, window = _pool(inputs, pool_size, strides, padding, data_format)
    return avg_pool(x, count_include_pad=False, **window)


def adaptive_average_pool(inputs: Any, output_size: Any, data_format: str | None = None) -> Array:
    """The mean of each of `output_size` bins."""
    x = _arrays(inputs)[0]
    return adaptive_avg_pool(x, tuple(_spread(output_size, x.ndim - 2)), layout=_layout(data_format))


def adaptive_max_pool_(inputs: Any, output_size: Any, data_format: str | None = None) -> Array:
    """The largest value of each of `output_size` bins."""
    x = _arrays(inputs)[0]
    y: Array = adaptive_max_pool(x, tuple(_spread(output_size, x.ndim - 2)), layout=_layout(data_format))
    return y


adaptive_max_pool_.__name__ = "adaptive_max_pool"
FUNCTIONS = (
    conv,
    depthwise_conv,
    separable_conv,
    conv_transpose,
    max_pool,
    average_pool,
    adaptive_average_pool,
    adaptive_max_pool_,
)


# --------------------------------------------------------------------------- what Keras passes
def _arrays(*values: Any) -> list[Array]:
    """Arrays of Keras' tensors and variables."""
    return [np.asarray(value.value if hasattr(value, "value") else value) for value in values]


def _layout(data_format: str | None) -> str:
    """The layout that is asked for, or Keras' own."""
    if data_format is None:
        module = sys.modules.get(BACKEND)
        return "channels_last" if module is None else str(module.image_data_format())
    return data_format


def _padding(padding: Any) -> str:
    name = padding.lower() if isinstance(padding, str) else padding
    if name not in ("valid", "same"):
        raise ValueError(f"padding is {padding!r}, expected 'valid' or 'same'")
    return str(name)


def _each(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, tuple)) else value


def _spread(value: Any, rank: int) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value] * rank


def _pool(inputs: Any, pool_size: Any, strides: Any, padding: Any, data_format: str | None) -> tuple[Array, Any]:
    x = _arrays(inputs)[0]
    kernel = tuple(_spread(pool_size, x.ndim - 2))
    stride = kernel if strides is None else tuple(_spread(strides, x.ndim - 2))
    return x, {"kernel": kernel, "stride": stride, "padding": _padding(padding), "layout": _layout(data_format)}


def _typed(y: Array, *operands: Array) -> Array:
    """The result in its operands' dtype; npconv adds integers up in int64."""
    return y.astype(np.result_type(*operands), copy=False)
