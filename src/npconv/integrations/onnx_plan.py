"""An ONNX graph as a plan of `npconv.nn`: channels last inside, sums inside convolutions, launches in a row as one.

For inputs of one shape each node becomes a layer. One that has no layer runs as onnx's evaluator runs it, between the
others. Whatever is not sure to give the same is left to the evaluator, and so is the whole graph.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Any

import numpy as np

from ..geometry import Ints, total
from ..nn import (
    GELU,
    AvgPool,
    BatchNorm,
    Conv,
    ConvTranspose,
    Flatten,
    GlobalAvgPool,
    Identity,
    Layer,
    LeakyReLU,
    Linear,
    MaxPool,
    Parallel,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Tanh,
)
from ..nn.graph import CONVOLUTIONS, Row, connected, is_activation
from ..nn.inference import ModelPlan
from .onnx_checks import printable
from .onnx_evaluator import Evaluator, Input
from .onnx_operators import DOMAIN, conv_options, pool_options, slope_of, transpose_options
from .onnx_rewrite import activation_of
from .onnx_shapes import Spec, Value

ACTIVATIONS: dict[str, type[Layer]] = {"relu": ReLU, "relu6": ReLU6, "sigmoid": Sigmoid, "tanh": Tanh, "silu": SiLU}
#: What the evaluator computes between layers: element by element, so that it may lie as its inputs lie, or otherwise.
ELEMENTWISE = {
    "Abs", "Add", "BatchNormalization", "Ceil", "Celu", "Clip", "Div", "Elu", "Erf", "Exp", "Floor", "Gelu",
    "HardSigmoid", "HardSwish", "InstanceNormalization", "LRN", "LeakyRelu", "Log", "LogSoftmax", "Max", "Min", "Mish",
    "Mul", "Neg", "PRelu", "Pow", "Reciprocal", "Relu", "ScaleShift", "Selu", "Sigmoid", "Softmax", "Softplus",
    "Softsign", "Sqrt", "Sub", "Sum", "Tanh", "ThresholdedRelu",
}  # fmt: skip
OTHERS = {
    "AveragePool", "Concat", "Flatten", "Gemm", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool",
    "LayerNormalization", "LpPool", "MatMul", "MaxPool", "Pad", "PlannedConv", "PlannedConvTranspose", "ReduceMean",
    "ReduceSum", "Reshape", "Resize", "Slice", "Squeeze", "Transpose", "Unsqueeze", "Upsample",
}  # fmt: skip
#: More rows are no network, and what melts them takes the square of their number.
MOST_ROWS = 2000
SAME_NUMBERS = ("Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")


class UnfitError(Exception):
    """A node gave something else than its inputs' shapes told: its graph is for the evaluator."""


class ByNode(Layer):
    """A node without a layer of its own, as the evaluator runs it; `ins` has a `Spec` wherever a value comes in."""

    def __init__(self, evaluator: Evaluator, node: Any, ins: list[Value], told: Spec) -> None:
        super().__init__()
        self._evaluator, self._node, self._ins, self._told = evaluator, node, ins, told
        self.name, self.elementwise = node.op_type, node.op_type in ELEMENTWISE

    def __call__(self, *arrays: Any) -> Any:
        given = iter(arrays)
        ins = [next(given) if isinstance(value, Spec) else value for value in self._ins]
        y = self._evaluator.ran(self._node, ins, {})[0]
        if (y.shape, y.dtype) != (self._told.shape, self._told.dtype):
            raise UnfitError
        return y

    def out_shape(self, shape: Ints) -> Ints:
        return self._told.shape


def planned(evaluator: Evaluator, value: Input, shape: Ints) -> ModelPlan | None:
    """The plan of a graph for its only input in one shape; None where the evaluator does as well, or alone knows how."""
    found = Reader(evaluator, value, shape)
    steps = [row.layer for row in found.rows if not isinstance(row.layer, BatchNorm) and not is_activation(row.layer)]
    if len(steps) < 2 or not any(isinstance(layer, CONVOLUTIONS) for layer in steps):
        return None  # a convolution on its own has its plan already
    try:
        return found.plan()
    except (ValueError, MemoryError):
        return None  # node by node it may work, or else be told by its name


class Reader:
    """A graph's nodes as rows of layers; `result` is the number of its output, or None if not all nodes fit."""

    def __init__(self, evaluator: Evaluator, value: Input, shape: Ints) -> None:
        self._evaluator, self._given, self._dtype = evaluator, shape, value.dtype
        self.rows: list[Row] = []
        self._numbers = {value.name: 0}
        self._readers = Counter(name for node in evaluator.rt_nodes_ for name in node.input)
        self._readers.update(evaluator.output_names)
        self.result: int | None = None
        if value.dtype not in (np.float32, np.float64) or total(shape) == 0:
            return
        for node, ins, told in evaluator.walk({value.name: Spec(shape, value.dtype)}):
            known = all(isinstance(a, np.ndarray) for a in told)
            if not (known or self._take(node, ins, told[0])) or len(self.rows) > MOST_ROWS:
                return
        self.result = self._numbers.get(evaluator.output_names[0])

    def plan(self) -> ModelPlan | None:
        """The plan; None if it needs more memory than the evaluator may have: it keeps two more copies of weights."""
        evaluator, result = self._evaluator, self.result
        if result is None:
            return None
        weights = sum(a.nbytes for row in self.rows for a in row.layer.params.values())
        room = evaluator.limit - sum(a.nbytes for a in evaluator.rt_inits_.values()) - 2 * weights
        if room < 0:
            return None
        source, nodes, y = connected(self._given, self.rows, result)
        plan = ModelPlan(source, nodes, y, self._dtype)
        ends = (total(self._given) + total(y.shape)) * self._dtype.itemsize
        return plan if plan.workspace + ends <= room else None

    def _take(self, node: Any, ins: list[Value], told: Value) -> bool:
        """Add what a node does; False if it cannot be said in layers."""
        wide = [value for value in ins if isinstance(value, Spec)]
        names = [name for name, value in zip(node.input, ins, strict=True) if isinstance(value, Spec)]
        unknown = any(value is None for name, value in zip(node.input, ins, strict=True) if name)
        fits = isinstance(told, Spec) and told.dtype == self._dtype and total(told.shape) > 0
        alone = not node.need_context() and not node.has_linked_attribute
        if node.onnx_node.domain not in ("", DOMAIN) or unknown or not (names and fits and alone):
            return False
        if any(name not in self._numbers for name in names) or any(a.dtype != self._dtype for a in wide):
            return False
        reads = tuple(self._numbers[name] for name in names)
        if node.op_type in SAME_NUMBERS and wide[0].shape == told.shape:
            self._numbers[node.output[0]] = reads[0]
            count = self._readers[names[0]] + self._readers[node.output[0]] - 1
            self._readers[names[0]] = self._readers[node.output[0]] = count
            return True
        attributes = {name: getattr(node, name) for name in node.attributes_names_}
        layer = None
        if all(a.dtype == self._dtype for a in ins if isinstance(a, np.ndarray) and a.dtype.kind == "f"):
            with contextlib.suppress(ValueError):  # a layer may be stricter than an operator
                layer = self._layer(node, attributes, ins, told)
                layer = layer if layer and layer.out_shape(wide[0].shape) == told.shape else None
        if layer is None and node.op_type in ELEMENTWISE | OTHERS:
            layer = ByNode(self._evaluator, node, ins, told)
        if layer is None:
            return False
        self._add(printable(node.onnx_node.name or node.output[0]), layer, names[0], reads, told.shape)
        if node.onnx_node.domain == DOMAIN and attributes.get("activation") and not isinstance(layer, ByNode):
            then = _activation(attributes["activation"], slope_of(attributes))
            self._add("", then, "", (len(self.rows),), told.shape)
        self._numbers[node.output[0]] = len(self.rows)
        return True

    def _add(self, place: str, layer: Layer, name: str, reads: Ints, shape: Ints) -> None:
        """Append a row; a scale after a scale that nobody else reads becomes one with it."""
        before = self.rows[reads[0] - 1].layer if reads[0] == len(self.rows) > 0 else None
        if isinstance(layer, BatchNorm) and isinstance(before, BatchNorm) and self._readers[name] == 1:
            factor, shift = layer.params["weight"], layer.params["bias"]
            merged = _scale(before.params["weight"] * factor, before.params["bias"] * factor + shift)
            self.rows[-1] = Row(merged, self.rows[-1].reads, shape, place)
        else:
            self.rows.append(Row(layer, reads, shape, place))

    def _layer(self, node: Any, attributes: dict[str, Any], ins: list[Value], told: Spec) -> Layer | None:
        """The layer that does what a node does, or None."""
        op, x, axes = node.op_type, ins[0], len(told.shape)
        held = [value for value in ins[1:] if value is not None]
        others = all(isinstance(value, np.ndarray) for value in held)
        known = {name: a for name, a in zip(node.input, ins, strict=True) if isinstance(a, np.ndarray)}
        found = activation_of(node.onnx_node, known)
        if found is not None:
            return _activation(found["activation"], slope_of(found))
        if op in ("PlannedConv", "PlannedConvTranspose") and others and 3 <= axes <= 5:
            return _convolution(op.endswith("Transpose"), attributes, x, held)
        if op == "ScaleShift" and 2 <= axes <= 5:
            return _scale(*held)
        if op in ("Add", "Mul") and (others or isinstance(x, np.ndarray)):
            return _by_channel(op, ins, told)
        if op in ("Add", "Sum") and len(ins) > 1:
            equal = all(isinstance(value, Spec) and value.shape == told.shape for value in ins)
            return Parallel(*(Identity() for _ in ins), join="add") if equal else None
        if op == "Concat" and attributes["axis"] % axes == 1 and all(isinstance(value, Spec) for value in ins):
            return Joined(tuple(value.shape for value in ins))
        if op in ("MaxPool", "AveragePool") and axes > 2:
            kernel, options = pool_options(attributes, x.shape)
            if op == "MaxPool":
                return MaxPool(kernel, **options)
            return AvgPool(kernel, count_include_pad=bool(attributes.get("count_include_pad")), **options)
        if op == "GlobalAveragePool" and axes > 2:
            return GlobalAvgPool(keep_axes=True)
        if op in SAME_NUMBERS and axes == 2 < len(x.shape) and x.shape[0] == told.shape[0]:
            return Flatten()
        if op in ("Gemm", "MatMul") and others and held and held[0].ndim == 2 and axes >= 2:
            return _linear(attributes if op == "Gemm" else {}, x, held)
        return None


class Joined(Parallel):
    """Values of these shapes side by side as channels."""

    def __init__(self, shapes: tuple[Ints, ...]) -> None:
        super().__init__(*(Identity() for _ in shapes))
        self._shapes = shapes

    def out_shape(self, shape: Ints) -> Ints:
        return (shape[0], sum(each[1] for each in self._shapes), *shape[2:])


def _activation(name: str, slope: float) -> Layer:
    if name == "leaky_relu":
        return LeakyReLU(slope)
    return GELU(name == "gelu_tanh") if name.startswith("gelu") else ACTIVATIONS[name]()


def _convolution(transposed: bool, attributes: dict[str, Any], x: Spec, held: list[Any]) -> Layer:
    w, read = held[0], transpose_options if transposed else conv_options
    options = read(attributes, x.shape, w.shape)
    outputs = w.shape[1] * options["groups"] if transposed else w.shape[0]
    kind: Any = ConvTranspose if transposed else Conv
    layer: Layer = kind(x.shape[1], outputs, w.shape[2:], bias=False, initial="zeros", dtype=w.dtype, **options)
    layer.params = dict(zip(("weight", "bias"), held, strict=False))
    return layer


def _scale(factor: Any, shift: Any) -> Layer:
    """A batch norm that does this and no more; its numbers stay in double precision until it is planned."""
    layer = BatchNorm(len(factor), eps=0.0, dtype=np.float64)
    layer.params = {"weight": factor.astype(np.float64), "bias": shift.astype(np.float64)}
    return layer


def _by_channel(op: str, ins: list[Value], told: Spec) -> Layer | None:
    """A product with a number per channel, or a sum."""
    x, a = ins if isinstance(ins[0], Spec) else ins[::-1]
    if x.shape != told.shape or not 2 <= len(x.shape) <= 5 or a.ndim > len(x.shape):
        return None
    wide = (1,) * (len(x.shape) - a.ndim) + a.shape
    if a.size not in (1, x.shape[1]) or wide[1] != a.size:
        return None
    numbers = np.broadcast_to(a.reshape(-1), x.shape[1:2])
    return _scale(numbers, np.zeros(x.shape[1])) if op == "Mul" else _scale(np.ones(x.shape[1]), numbers)


def _linear(attributes: dict[str, Any], x: Any, held: list[Any]) -> Layer | None:
    """x w + b, where these are constant and b has a number per column, or one."""
    w, *rest = held
    w = w if attributes.get("transB") else w.T
    bias = rest[0] if rest else np.zeros(1, w.dtype)
    if not isinstance(x, Spec) or attributes.get("transA") or bias.size not in (1, len(w)) or bias.ndim > 2:
        return None
    if bias.size != 1 and bias.shape[-1] != len(w):
        return None
    alpha, beta = (float(attributes.get(name, 1.0)) for name in ("alpha", "beta"))
    layer = Linear(w.shape[1], w.shape[0], bias=False, initial="zeros", dtype=w.dtype)
    layer.params["weight"] = w if alpha == 1 else w * w.dtype.type(alpha)
    if rest:
        layer.params["bias"] = np.broadcast_to(bias.reshape(-1) * bias.dtype.type(beta), (len(w),))
    return layer
