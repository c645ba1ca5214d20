"""onnx's reference evaluator, with an eye on memory: sizes are told before they are allocated, dead values freed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx.reference import ReferenceEvaluator

from ..geometry import Ints
from ..memory import MemoryLimitError
from .onnx_checks import ModelError, label, printable
from .onnx_rewrite import captured
from .onnx_shapes import Spec, Value, outputs

#: Arrays up to so many elements are computed while planning: the shapes that a model computes from shapes.
SMALL = 4096


@dataclass(frozen=True)
class Input:
    """An input of a model: its name, its shape (a size, a symbol or None per axis; None if not given), its dtype."""

    name: str
    shape: tuple[int | str | None, ...] | None
    dtype: np.dtype


class Evaluator(ReferenceEvaluator):
    """Runs a graph; made by `onnx_graph.prepared`. Graphs inside nodes get evaluators of this class too."""

    limit: int = 2**62
    _dead: list[list[str]] | None = None

    def watch(self) -> None:
        """Find out after which node each value is read no more."""
        last: dict[str, int] = {}
        for i, node in enumerate(self.rt_nodes_):
            last |= dict.fromkeys((*node.output, *node.input, *captured(node.onnx_node)), i)
        dead: list[list[str]] = [[] for _ in self.rt_nodes_]
        kept = {"", *self.output_names, *self.rt_inits_}
        for name, i in last.items():
            if name not in kept:
                dead[i].append(name)
        self._dead = dead

    def plan(self, inputs: dict[str, Spec]) -> frozenset[int]:
        """Refuse inputs of these shapes if the memory for them exceeds the limit.

        Returns the nodes whose outputs' sizes the shapes do not tell; these are asked again as they run.
        """
        walk = enumerate(self.walk(inputs))
        return frozenset(i for i, (_, _, found) in walk if any(value is None for value in found))

    def walk(self, inputs: dict[str, Spec]) -> Iterator[tuple[Any, list[Value], list[Value]]]:
        """Every node with what goes in and what comes out, as far as shapes tell; refuses what exceeds the limit."""
        values: dict[str, Value] = {**self.rt_inits_, **inputs, "": None}
        live = sum(value.nbytes for value in values.values() if value is not None)
        for i, node in enumerate(self.rt_nodes_):
            ins = [values.get(name) for name in node.input]
            found = self._told(node, ins)
            live += sum(value.nbytes for value in found if value is not None)
            self._check(live, node)
            small = ins and all(isinstance(v, np.ndarray) and v.size <= SMALL for v in ins)
            if small and not node.need_context() and all(isinstance(v, Spec) and v.nbytes <= 8 * SMALL for v in found):
                found = self.ran(node, ins, {})
            yield node, ins, found
            values.update(zip(node.output, found, strict=False))
            for name in (self._dead or [[]] * len(self.rt_nodes_))[i]:
                gone = values.pop(name, None)
                live -= 0 if gone is None else gone.nbytes

    def run(
        self,
        output_names: Any,
        feed_inputs: dict[str, Any],
        attributes: dict[str, Any] | None = None,
        intermediate: bool = False,
        *others: Any,
        unknown: frozenset[int] | None = None,
        **keywords: Any,
    ) -> Any:
        """As `ReferenceEvaluator.run`; `unknown` are the nodes to ask for their sizes, all unless given."""
        results: dict[str, Any] = {"": None, **self.rt_inits_, **feed_inputs}
        live = sum(getattr(value, "nbytes", 0) for value in results.values())
        for i, node in enumerate(self.rt_nodes_):
            ins = [results[name] for name in node.input]
            if unknown is None or i in unknown:
                self._check(live + sum(v.nbytes for v in self._told(node, ins) if v is not None), node)
            extra: dict[str, Any] = {"context": results} if node.need_context() else {}
            if node.has_linked_attribute and attributes:
                extra["linked_attributes"] = attributes
            found = self.ran(node, ins, extra)
            live += sum(getattr(value, "nbytes", 0) for value in found)
            results.update(zip(node.output, found, strict=False))
            if self._dead is not None and not intermediate:
                for name in self._dead[i]:
                    live -= getattr(results.pop(name, None), "nbytes", 0)
        if intermediate:
            return results
        return [results[name] for name in output_names or self.output_names]

    def _told(self, node: Any, ins: list[Value]) -> list[Value]:
        """What a node will give, or an error that names it."""
        try:
            return outputs(node, ins)
        except MemoryError:
            raise
        except (ValueError, ArithmeticError) as error:
            raise ModelError(f"onnx: {label(node.onnx_node)}: {printable(str(error), 500)}") from error

    def _check(self, needed: int, node: Any) -> None:
        if needed > self.limit:
            raise MemoryLimitError(
                f"onnx: with {label(node.onnx_node)} the model needs {needed} bytes at once, the limit is {self.limit} "
                "bytes; use max_memory= or a smaller input"
            )

    def ran(self, node: Any, ins: list[Any], extra: dict[str, Any]) -> Any:
        """The outputs of one node; an error names it."""
        try:
            with np.errstate(all="ignore"):
                return node.run(*ins, **extra)
        except MemoryError:
            raise
        except Exception as error:  # onnx's operators raise many kinds
            cause = error.__cause__ or error
            words = printable(str(cause), 500) or type(cause).__name__
            raise ModelError(f"onnx: {label(node.onnx_node)}: {words}") from error


def shape_fits(shape: tuple[int | str | None, ...], given: Ints) -> bool:
    """Whether an array's shape is one that an input takes."""
    return len(shape) == len(given) and all(not isinstance(n, int) or n == m for n, m in zip(shape, given, strict=True))
