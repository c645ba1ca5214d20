"""What a plan runs for a node of its graph: a function of the arrays it reads and the one it writes."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from ..activations import Activation
from ..compiled.calls import Placed
from ..epilogue import add as add_in_place
from ..epilogue import finish
from ..global_pooling import global_avg_pool
from ..plan import ConvPlan, plan_conv, plan_conv_transpose
from ..pooling import avg_pool, max_pool
from .containers import Parallel
from .convolutions import ConvTranspose
from .dense import Flatten, Linear
from .graph import CONVOLUTIONS, Node, Step, Value, is_activation, layout_of
from .norms import BatchNorm
from .pools import AvgPool, GlobalAvgPool, MaxPool

if TYPE_CHECKING:
    from .layer import Array

Run = Callable[..., Any]
#: A step's name, what runs it, and what does so again where that is known; see `Step`.
Made = tuple[str, Run] | tuple[str, Run, Run]
#: Pixels of a plane whose average is best taken by a convolution.
SMALL_PLANE = 256


def steps(nodes: list[Node], dtype: np.dtype) -> list[Step]:
    """The steps of a graph, for values of `dtype`."""
    return [_step(node, dtype) for node in nodes]


def _step(node: Node, dtype: np.dtype) -> Step:
    make = next((make for kind, make in MAKERS.items() if isinstance(node.layer, kind)), _as_it_is)
    make = _elementwise if is_activation(node.layer) else make
    name, run, *again = make(node, dtype)
    reads = tuple(v.number for v in node.reads)
    return Step(name, node.places, reads, node.writes.number, node.writes.shape, run, *again)


# --------------------------------------------------------------------------- convolutions
def _conv(node: Node, dtype: np.dtype) -> Made:
    layer: Any = node.layer
    w, bias = (layer.params.get(name) for name in ("weight", "bias"))
    transposed = isinstance(layer, ConvTranspose)
    if node.norm is not None:
        scale, shift = _scale(node.norm)
        channel = (layer.groups, 1, -1) if transposed else (-1,)
        by_group = w.reshape(layer.groups, -1, *w.shape[1:]) if transposed else w
        rest = (1,) * (by_group.ndim - len(channel))
        w = (by_group * scale.reshape(*channel, *rest)).reshape(w.shape)
        bias = shift if bias is None else bias * scale + shift
    keywords = {key: value for key, value in layer.options.items() if key not in ("layout", "kernel_layout")}
    return _planned(node, dtype, w, bias, plan_conv_transpose if transposed else plan_conv, keywords)


def _norm(node: Node, dtype: np.dtype) -> Made:
    """A batch norm on its own is a convolution of every channel with one number."""
    scale, shift = _scale(node.layer)
    x = node.reads[0]
    if len(x.shape) < 3:
        scale, shift, act = scale.astype(dtype), shift.astype(dtype), _activation(node)

        def run(x: Array, y: Array) -> None:
            np.multiply(x, scale, out=y)
            np.add(y, shift, out=y)
            _apply(act, y)

        return _named("batch norm", False, act), run
    w = scale.reshape(-1, *(1,) * (len(x.shape) - 1))
    _, run_conv, again = _planned(node, dtype, w, shift, plan_conv, {"groups": len(scale)})
    return _named("batch norm", False, _activation(node)), run_conv, again


def _planned(
    node: Node, dtype: np.dtype, w: Array, bias: Array | None, make: Callable[..., ConvPlan], keywords: dict[str, Any]
) -> tuple[str, Run, Run]:
    (x,), y, act = node.reads, node.writes, _activation(node)
    letters = "OI" + "DHW"[5 - w.ndim :]  # of a transposed one, w is that of the convolution whose adjoint it is
    layouts = {"layout": _layout(node, x), "out_layout": _layout(node, y), "kernel_layout": letters}
    bias = None if bias is None else bias.astype(dtype)
    fused = {**_fused(act), "add": node.adds}
    plan = make(x.memory_shape, w.astype(dtype), bias, dtype=dtype, **layouts, **keywords, **fused)
    kind = "transposed conv" if make is plan_conv_transpose else "conv"
    size = "x".join(map(str, w.shape[2:]))
    return _named(f"{kind} {size}", bias is not None, act, node.adds), plan, plan.launch


def _layout(node: Node, value: Value) -> str:
    """Where a value's channels are in memory."""
    return "channels_last" if value.turned or layout_of(node.layer) == "channels_last" else "channels_first"


def _scale(norm: Any) -> tuple[Array, Array]:
    """A batch norm in inference as y = scale x + shift, in double."""
    mean, var = (norm.state[name].astype(np.float64) for name in ("running_mean", "running_var"))
    scale = norm.params["weight"] / np.sqrt(var + norm.eps)
    return scale, norm.params["bias"] - mean * scale


# --------------------------------------------------------------------------- the others
def _linear(node: Node, dtype: np.dtype) -> Made:
    """A convolution with windows of one pixel: the rows of x are pixels, its columns channels.

    A matrix product of NumPy's would do, but BLAS keeps its own threads, which hold a processor after each call.
    """
    (x,), y, act = node.reads, node.writes, _activation(node)
    w, bias = node.layer.params["weight"].astype(dtype), node.layer.params.get("bias")
    if math.prod(x.shape[:-1]) == 0:
        return _named("linear", bias is not None, act), lambda x, y: None
    plan = plan_conv(
        (1, math.prod(x.shape[:-1]), x.shape[-1]), w[..., None], None if bias is None else bias.astype(dtype),
        layout="channels_last", kernel_layout="OIW", dtype=dtype, **_fused(act),
    )  # fmt: skip

    def views(a: Array, out: Array) -> tuple[Array, Array]:
        return x.seen(a).reshape(plan.input_shape), y.seen(out).reshape(plan.output_shape)

    def run(a: Array, out: Array) -> None:
        plan(*views(a, out))

    def again(a: Array, out: Array) -> Placed | None:
        return None if x.turned else plan.launch(*views(a, out))  # views of what was turned are copies

    return _named("linear", bias is not None, act), run, again


def _pool(node: Node, dtype: np.dtype) -> tuple[str, Run]:
    layer: Any = node.layer
    options = {**layer.options, "layout": _layout(node, node.reads[0])}
    kernel, function = layer.kernel, max_pool if isinstance(layer, MaxPool) else avg_pool
    kernel = (kernel,) * (len(node.reads[0].shape) - 2) if isinstance(kernel, int) else kernel
    if function is avg_pool:
        options["count_include_pad"] = layer.count_include_pad

    value, result = node.reads[0], node.writes
    if value.turned != result.turned:  # the model's input, as the caller has it
        return _as_it_is(node, dtype)

    def run(x: Array, y: Array) -> None:
        function(x, kernel, out=y, **options)

    return f"{'max' if function is max_pool else 'average'} pool {'x'.join(map(str, kernel))}", run


def _global(node: Node, dtype: np.dtype) -> Made:
    """Where planes are small, the depthwise convolution whose one window is the plane: a launch like those around it."""
    (x,), y, name = node.reads, node.writes, "global average"
    layout, pixels = _layout(node, x), math.prod(x.shape) // max(1, math.prod(y.shape))
    if not (x.turned and 0 < pixels <= SMALL_PLANE):

        def average(x: Array, y: Array) -> None:
            y[...] = global_avg_pool(x, layout=layout).reshape(y.shape)

        return name, average
    channels = x.shape[1]
    w = np.full((channels, 1, *x.shape[2:]), 1 / pixels, dtype)
    plan = plan_conv(x.memory_shape, w, layout=layout, kernel_layout="OI" + "DHW"[5 - w.ndim :], groups=channels)

    def run(x: Array, y: Array) -> None:
        plan(x, y.reshape(plan.output_shape))

    return name, run, lambda x, y: plan.launch(x, y.reshape(plan.output_shape))


def _flatten(node: Node, dtype: np.dtype) -> tuple[str, Run]:
    (value,), last = node.reads, layout_of(node.layer) == "channels_last"

    def run(x: Array, y: Array) -> None:
        channels_first = np.moveaxis(x, -1, 1) if last else value.seen(x)
        y.reshape(channels_first.shape)[...] = channels_first

    return "flatten", run


def _join(node: Node, dtype: np.dtype) -> tuple[str, Run]:
    layer: Any = node.layer
    reads, y, act = node.reads, node.writes, _activation(node)
    if layer.join == "add":

        def add(*arrays: Array) -> None:
            total = y.seen(arrays[-1])
            if reads[0].becomes is not y:
                np.copyto(total, reads[0].seen(arrays[0]))
            for i, value in enumerate(reads[1:], 1):
                if value.turned == y.turned:
                    add_in_place(arrays[-1], arrays[i], act if i == len(reads) - 1 else None)
                else:
                    np.add(total, value.seen(arrays[i]), out=total)
                    _apply(act if i == len(reads) - 1 else None, arrays[-1])
            if len(reads) == 1:
                _apply(act, arrays[-1])

        return _named("add", False, act), add
    axis = 1 if layer.layout == "channels_first" or len(y.shape) < 3 else len(y.shape) - 1
    ends = list(accumulate(value.shape[axis] for value in reads))

    def concatenate(*arrays: Array) -> None:
        whole = np.moveaxis(y.seen(arrays[-1]), axis, 0)
        for value, array, end in zip(reads, arrays[:-1], ends, strict=True):
            part = np.moveaxis(value.seen(array), axis, 0)
            whole[end - len(part) : end] = part

    return "concatenate", concatenate


def _elementwise(node: Node, dtype: np.dtype) -> tuple[str, Run]:
    act = _of(node.layer)

    def run(x: Array, y: Array) -> None:
        np.copyto(y, x)
        _apply(act, y)

    return str(act), run


def _as_it_is(node: Node, dtype: np.dtype) -> tuple[str, Run]:
    """Any other layer, as the model has it."""
    layer: Any = node.layer
    reads, y = node.reads, node.writes

    def run(*arrays: Array) -> None:
        y.seen(arrays[-1])[...] = layer(*(value.seen(a) for value, a in zip(reads, arrays, strict=False)))

    return getattr(layer, "name", type(layer).__name__), run


# --------------------------------------------------------------------------- activations
def _activation(node: Node) -> Activation | None:
    return None if node.activation is None else _of(node.activation)


def _fused(activation: Activation | None) -> dict[str, Any]:
    """The words that tell a plan of its activation."""
    if activation is None:
        return {}
    return {"activation": activation.name} | ({"slope": activation.slope} if activation.name == "leaky_relu" else {})


def _of(layer: Any) -> Activation:
    return Activation(layer.name, getattr(layer, "slope", 0.0))


def _apply(activation: Activation | None, y: Array) -> None:
    if activation is not None:
        finish(y, y.ndim - 1, None, activation)


def _named(what: str, bias: bool, activation: Activation | None, adds: bool = False) -> str:
    return ", ".join([what, *["bias"] * bias, *["sum"] * adds, *([str(activation)] if activation else [])])


MAKERS: dict[Any, Callable[[Node, np.dtype], Made]] = {
    CONVOLUTIONS: _conv,
    BatchNorm: _norm,
    Linear: _linear,
    (MaxPool, AvgPool): _pool,
    GlobalAvgPool: _global,
    Flatten: _flatten,
    Parallel: _join,
}
