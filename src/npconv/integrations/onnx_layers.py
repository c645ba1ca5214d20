"""What each layer of `npconv.nn` is in ONNX: a rule per layer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..geometry import Pads, adaptive_bin, window_count
from ..layouts import NAMES
from ..nn import (
    GELU,
    AdaptiveAvgPool,
    AvgPool,
    BatchNorm,
    Conv,
    ConvTranspose,
    Dropout,
    Flatten,
    GlobalAvgPool,
    GroupNorm,
    Identity,
    Layer,
    LayerNorm,
    LeakyReLU,
    Linear,
    MaxPool,
    Normalise,
    Parallel,
    ReLU,
    ReLU6,
    Sequential,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
    Upsample,
)
from ..nn.layer import joined, place
from .onnx_writer import Exporter, Rule, Value

#: The name of each padding mode in ONNX.
MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap", "constant": "constant", "zeros": "constant"}
SIMPLE = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh"}


# --------------------------------------------------------------------------- containers
def _sequential(to: Exporter, layer: Any, path: str, x: Value) -> Value:
    for name, child in layer.children.items():
        with place(name, child):
            x = to.layer(child, joined(path, name), x)
    return x


def _parallel(to: Exporter, layer: Any, path: str, x: Value) -> Value:
    ys = []
    for name, child in layer.children.items():
        with place(name, child):
            ys.append(to.layer(child, joined(path, name), x))
    to.enter(path)
    if len({y.turned for y in ys}) > 1:
        ys = [to.plain(y) for y in ys]
    if len(ys) == 1:
        return ys[0]
    names = [y.name for y in ys]
    if layer.join == "add":
        return to.add("Add" if len(ys) == 2 else "Sum", names, ys[0])
    first = layer.layout == NAMES[0]
    if first and ys[0].turned:  # the channels that this layer joins along are not those that were turned
        names = [to.plain(y).name for y in ys]
    axis = 1 if first or ys[0].turned else len(ys[0].shape) - 1
    return replace(to.add("Concat", names, ys[0], axis=axis), turned=ys[0].turned and not first)


def _nothing(to: Exporter, layer: Any, path: str, x: Value) -> Value:
    return x


# --------------------------------------------------------------------------- convolutions and pools
def _padded(to: Exporter, x: Value, pads: Pads, mode: str) -> Value:
    """x with a padding that the operator after it cannot do."""
    if mode not in MODES:
        raise ValueError(f"onnx: padding_mode={mode!r} has no counterpart in ONNX")
    sizes = x.shape[1:-1] if x.turned else x.shape[2:]
    if mode in ("reflect", "circular"):
        for n, pad in zip(sizes, pads, strict=True):
            if max(pad) > n - (mode == "reflect"):
                raise ValueError(f"onnx: padding {pad} of an axis of {n} in mode {mode!r} goes round more than once")
    amounts = [0, 0, *(lo for lo, _ in pads), 0, 0, *(hi for _, hi in pads)]
    return to.add("Pad", [x.name, to.integers(*amounts)], x, mode=MODES[mode])


def _cropped(to: Exporter, x: Value, pads: Pads) -> tuple[Value, Pads]:
    """x without what a negative padding takes away, and the padding that is left."""
    if all(min(pair) >= 0 for pair in pads):
        return x, pads
    sizes = x.shape[1:-1] if x.turned else x.shape[2:]
    starts = [max(0, -lo) for lo, _ in pads]
    ends = [n - max(0, -hi) for n, (_, hi) in zip(sizes, pads, strict=True)]
    axes = to.integers(*range(2, len(sizes) + 2))
    x = to.add("Slice", [x.name, to.integers(*starts), to.integers(*ends), axes], x)
    return x, tuple((max(lo, 0), max(hi, 0)) for lo, hi in pads)


def _sides(pads: Pads) -> list[int]:
    return [*(lo for lo, _ in pads), *(hi for _, hi in pads)]


def _conv(to: Exporter, layer: Any, path: str, x: Value) -> Value:
    problem, x = layer.problem(x.shape), to.first(x, layer.layout)
    pads: Pads = problem.geometry.padding
    if problem.padded is not None:
        x = _padded(to, x, problem.padded.pads, layer.padding_mode)
    x, pads = _cropped(to, x, pads)
    return to.add("Conv", _operands(to, layer, path, x), x, pads=_sides(pads), **_steps(layer))


def _conv_transpose(to: Exporter, layer: Any, path: str, x: Value) -> Value:
    pads: Pads = layer.problem(x.shape).geometry.padding
    if any(lo < 0 for lo, _ in pads):
        raise ValueError(f"onnx: a transposed convolution with the padding {pads} has no counterpart in ONNX")
    x = to.first(x, layer.layout)
    extra = [max(0, -hi) for _, hi in pads]
    sides = _sides(tuple((lo, max(0, hi)) for lo, hi in pads))
    return to.add("ConvTranspose", _operands(to, layer, path, x), x, pads=sides, output_padding=extra, **_steps(layer))


def _operands(to: Exporter, layer: Any, path: str, x: Value) -> list[str]:
    return [x.name, *(to.weight(layer, path, key) for key in ("weight", "bias") if key in layer.params)]


def _steps(layer: Any) -> dict[str, Any]:
    return {
        "kernel_shape": list(layer.kernel),
        "strides": list(layer.stride),
        "dilations": list(layer.dilation),
        "group": layer.groups,
    }


def _pool(to: Exporter, layer: Any, path: str, x: Value) -> Value:
    axes = layer._problem(x.shape).axes
    x = to.first(x, layer.layout)
    pads: Pads = tuple((a.lo, a.hi) for a in axes)
    x, pads = _cropped(to, x, pads)
    options = {
        "kernel_shape": [a.taps for a in axes],
        "strides": [a.stride for a in axes],
        "dilations": [a.dilation for a in axes],
        "pads": _sides(pads),
        # only where it matters: with a stride of 1, onnx's evaluator gives too large an output for it
        "ceil_mode": int(any(window_count(a.size + a.lo + a.hi, a.effective, a.stride) != a.out for a in axes)),
    }
    if isinstance(layer, MaxPool):
        return to.add("MaxPool", [x.name], x, **options)
    return to.add("AveragePool", [x.name], x, count_include_pad=int(layer.count_include_pad), **options)


def _adaptive(to: Exporter, layer: Any, path: str, x: Value) -> Value:
    out = layer.out_shape(x.shape)
    x = to.first(x, layer.layout)
    sizes, wanted = (shape[1:-1] if x.turned else shape[2:] for shape in (x.shape, out))
    if all(n == 1 for n in wanted):
        return to.add("GlobalAveragePool", [x.name], x)
    rank = len(sizes)
    for i, (n, m) in enumerate(zip(sizes, wanted, strict=True)):  # means of bins, as a matrix product along each axis
        bins = np.zeros((n, m))
        for j in range(m):
            start, end = adaptive_bin(j, n, m)
            bins[start:end, j] = 1 / (end - start)
        order = [*range(rank + 2)]
        order[i + 2], order[-1] = order[-1], order[i + 2]
        x = x if order[-1] == rank + 1 else to.add("Transpose", [x.name], x, perm=order)
        x = to.add("MatMul", [x.name, to.constant(joined(path, "bins"), bins.astype(to.dtype))], x)
        x = x if order[-1] == rank + 1 else to.add("Transpose", [x.name], x, perm=order)
    return x


def _global(to: Exporter, layer: Any, path: str, x: Value) -> Value:
    x = to.first(x, layer.layout)
    y = to.add("GlobalAveragePool", [x.name], x)
    return y if layer.keep_axes else replace(to.add("Flatten", [y.name], y, axis=1), turned=False)


def _upsample(to: Exporter, layer: Any, path: str, x: Value) -> Value:
    scales = layer._scales(x.shape)
    x = to.first(x, layer.layout)
    how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    if layer.mode == "linear":
        how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    factors = to.constant(joined(path, "scales"), np.array([1, 1, *scales], np.float32))
    return to.add("Resize", [x.name, "", factors], x, **how)


# --------------------------------------------------------------------------- norms, and layers without space
def _batch_norm(to: Exporter, layer: Any, path: str, x: Value) -> Value:
    x = to.first(x, layer.layout)
    names = [to.weight(layer, path, key) for key in ("weight", "bias", "running_mean", "running_var")]
    return to.add("BatchNormalization", [x.name, *names], x, epsilon=layer.eps)


def _normalise(to: Exporter, layer: Any, path: str, x: Value) -> Value:
    x = to.first(x, layer.layout)
    for op, key in (("Sub", "mean"), ("Div", "deviation")):
        number = layer.state[key].reshape(-1, *(1 for _ in x.shape[2:]))
        x = to.add(op, [x.name, to.constant(joined(path, key), number)], x)
    return x


def _group_norm(to: Exporter, layer: Any, path: str, x: Value) -> Value:
    x = to.first(x, layer.layout)
    sizes = x.shape[1:-1] if x.turned else x.shape[2:]
    parts = to.add("Reshape", [x.name, to.integers(0, layer.groups, -1)], x)
    ones, zeros = to.numbers(*[1] * layer.groups), to.numbers(*[0] * layer.groups)
    even = to.add("InstanceNormalization", [parts.name, ones, zeros], x, epsilon=layer.eps)
    y = to.add("Reshape", [even.name, to.integers(0, layer.channels, *sizes)], x)
    for op, key in (("Mul", "weight"), ("Add", "bias")):
        number = layer.params[key].reshape(-1, *(1 for _ in sizes))
        y = to.add(op, [y.name, to.constant(joined(path, key), number)], y)
    return y


def _layer_norm(to: Exporter, layer: Any, path: str, x: Value) -> Value:
    x = to.plain(x)
    names = [to.weight(layer, path, key) for key in ("weight", "bias")]
    return to.add("LayerNormalization", [x.name, *names], x, axis=-len(layer.shape), epsilon=layer.eps)


def _linear(to: Exporter, layer: Any, path: str, x: Value) -> Value:
    x = to.plain(x)
    if len(x.shape) == 2:
        return to.add("Gemm", _operands(to, layer, path, x), x, transB=1)
    y = to.add("MatMul", [x.name, to.constant(joined(path, "weight"), layer.params["weight"].T)], x)
    return to.add("Add", [y.name, to.weight(layer, path, "bias")], y) if "bias" in layer.params else y


def _flatten(to: Exporter, layer: Any, path: str, x: Value) -> Value:
    x = to.first(x, layer.layout)
    return replace(to.add("Flatten", [x.name], x, axis=1), turned=False)


def _softmax(to: Exporter, layer: Any, path: str, x: Value) -> Value:
    x = to.plain(x)
    return to.add("Softmax", [x.name], x, axis=layer._axis(len(x.shape)))


def _activation(to: Exporter, layer: Any, path: str, x: Value) -> Value:
    name = layer.name
    if name in SIMPLE:
        return to.add(SIMPLE[name], [x.name], x)
    if name == "relu6":
        low, high = (to.constant(joined(path, "limit"), np.array(n, to.dtype)) for n in (0, 6))
        return to.add("Clip", [x.name, low, high], x)
    if name == "leaky_relu":
        return to.add("LeakyRelu", [x.name], x, alpha=layer.slope)
    if name == "silu":
        return to.add("Mul", [x.name, to.add("Sigmoid", [x.name], x).name], x)
    if name in ("gelu", "gelu_tanh"):
        return to.add("Gelu", [x.name], x, approximate="tanh" if name == "gelu_tanh" else "none")
    raise TypeError(f"onnx: the activation {name!r} has no rule for ONNX")


RULES: dict[type[Layer], Rule] = {
    Sequential: _sequential,
    Parallel: _parallel,
    Identity: _nothing,
    Dropout: _nothing,
    Conv: _conv,
    ConvTranspose: _conv_transpose,
    MaxPool: _pool,
    AvgPool: _pool,
    AdaptiveAvgPool: _adaptive,
    GlobalAvgPool: _global,
    Upsample: _upsample,
    BatchNorm: _batch_norm,
    Normalise: _normalise,
    GroupNorm: _group_norm,
    LayerNorm: _layer_norm,
    Linear: _linear,
    Flatten: _flatten,
    Softmax: _softmax,
    **dict.fromkeys((GELU, LeakyReLU, ReLU, ReLU6, SiLU, Sigmoid, Tanh), _activation),
}


def rule_of(layer: Layer) -> Rule | None:
    """The rule for a layer; None for one that computes something of its own, though it derives from one of ours."""
    kind = next((kind for kind in type(layer).__mro__ if kind in RULES), None)
    if kind is None or type(layer).forward is not kind.forward or type(layer).__call__ is not kind.__call__:
        return None
    return RULES[kind]
