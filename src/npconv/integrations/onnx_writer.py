"""The nodes and weights of an ONNX graph while a model is walked, and the order of each value's axes.

ONNX has the channels first. A layer that has them last gets its input turned; the value stays turned until a layer comes
that minds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..geometry import Ints
from ..layouts import NAMES
from ..nn import Layer
from ..nn.layer import joined

try:
    import onnx
except ImportError as error:
    raise ImportError('npconv reads and writes ONNX with onnx: pip install "npconv[onnx]"') from error

__all__ = ["Exporter", "Rule", "Value", "onnx"]


@dataclass(frozen=True)
class Value:
    """A value: its name in ONNX, its shape as the layers see it, and whether ONNX has the last axis second."""

    name: str
    shape: Ints
    turned: bool = False


class Exporter:
    """Nodes and constants while a model is walked."""

    def __init__(self, dtype: np.dtype, shape: Ints, names: tuple[str, str], rule_of: Callable[[Layer], Rule | None]):
        self.dtype = dtype
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._taken, self._rule_of, self._path = set(names), rule_of, ""
        self._input, self._output = Value(names[0], shape), names[1]

    def walk(self, model: Layer) -> None:
        """Append all that the model does; its result gets the name of the output."""
        name = self._output
        result = self.plain(self.layer(model, "", self._input))
        if self.nodes and result.name != self._input.name:
            for node in self.nodes:
                node.output[:] = [name if n == result.name else n for n in node.output]
                node.input[:] = [name if n == result.name else n for n in node.input]
        else:
            self.nodes.append(onnx.helper.make_node("Identity", [result.name], [name]))

    def layer(self, layer: Layer, path: str, x: Value) -> Value:
        """Append what `layer` does to x."""
        rule = self._rule_of(layer)
        if rule is None:
            where, kind = path or "(the model)", type(layer).__name__
            raise TypeError(f"onnx: layer {where} is a {kind}, which has no rule for ONNX")
        self.enter(path)
        y = rule(self, layer, path, x)
        return replace(y, shape=layer.out_shape(x.shape))

    def enter(self, path: str) -> None:
        """Nodes from here on are named after this place in the model."""
        self._path = path

    def add(self, op: str, inputs: list[str], x: Value, **attributes: Any) -> Value:
        """Append a node; its output, of x's shape and order."""
        name = self._fresh(self._path or op.lower())
        self.nodes.append(onnx.helper.make_node(op, inputs, [name], f"{name}:{op}", **attributes))
        return replace(x, name=name)

    def constant(self, name: str, array: Any) -> str:
        """Append a constant."""
        name = self._fresh(name)
        self.constants.append(onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def weight(self, layer: Layer, path: str, key: str) -> str:
        """A parameter or a running statistic under its path."""
        return self.constant(joined(path, key), {**layer.params, **layer.state}[key])

    def numbers(self, *values: float) -> str:
        """A constant of the model's dtype."""
        return self.constant(joined(self._path, "constant"), np.array(values, self.dtype))

    def integers(self, *values: int) -> str:
        """A constant of int64, as shapes and paddings are."""
        return self.constant(joined(self._path, "constant"), np.array(values, np.int64))

    def _fresh(self, name: str) -> str:
        found, i = name, 1
        while found in self._taken:
            i += 1
            found = f"{name}_{i}"
        self._taken.add(found)
        return found

    def plain(self, x: Value) -> Value:
        """x in the order that the layers see."""
        axes = len(x.shape)
        if not x.turned:
            return x
        return replace(self.add("Transpose", [x.name], x, perm=[0, *range(2, axes), 1]), turned=False)

    def first(self, x: Value, layout: str) -> Value:
        """x with the channels second, for a layer of this layout."""
        axes = len(x.shape)
        if layout == NAMES[0] or axes < 3:
            return self.plain(x)
        if x.turned:
            return x
        return replace(self.add("Transpose", [x.name], x, perm=[0, axes - 1, *range(1, axes - 1)]), turned=True)


Rule = Callable[[Exporter, Any, str, Value], Value]
