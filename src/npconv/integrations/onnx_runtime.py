"""Run an ONNX model on NumPy: onnx's reference evaluator, with npconv's convolutions and pools, planned and fused.

``model = onnx_runtime.load("model.onnx")`` makes a model ready, ``y = model(x)`` runs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..geometry import Ints
from ..memory import machine_memory

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from ..nn.inference import ModelPlan

    Array = NDArray[Any]

#: What a model may hold at once unless the caller says more: activations, weights, and what is computed from them.
MEMORY = 4 * 2**30
#: Sets of input shapes whose memory a model has looked at and remembers.
MOST_SHAPES = 64
#: Those for which it keeps a plan, which has its own copy of the weights.
MOST_PLANS = 8


def load(
    source: Any,
    *,
    external_data: bool = False,
    intermediate: bool = False,
    max_memory: int | None = None,
) -> Model:
    """Make an ONNX model ready to run.

    Parameters
    ----------
    source : str, path, bytes or onnx.ModelProto
        The model, or where it is.
    external_data : bool
        Whether weights may be read from files beside the model. They must be plain files below its folder.
    intermediate : bool
        Run every node of the model by itself, and return what each gives; slower.
    max_memory : int, optional
        Bytes that weights and activations may take, by their shapes; 4 GiB, or half the machine's memory, unless given.

    Returns
    -------
    Model
        Call it with arrays, or use its `run`.

    Raises
    ------
    ModelError
        If the file is no model, is malformed, or has operators that nothing here runs. It is a ValueError.
    MemoryLimitError
        If the model needs more memory than it may have.
    ImportError
        Without onnx, which ``pip install "npconv[onnx]"`` installs.

    Examples
    --------
    >>> import numpy as np, onnx, onnx.parser
    >>> from npconv.integrations import onnx_runtime
    >>> proto = onnx.parser.parse_model('''
    ... <ir_version: 8, opset_import: ["" : 17]>
    ... edges (float[1, 1, 2, 4] x) => (float[1, 1, 2, 3] y)
    ... <float[1, 1, 1, 2] w = {1.0, -1.0}>
    ... { c = Conv(x, w)  y = Relu(c) }
    ... ''')
    >>> model = onnx_runtime.load(proto)
    >>> model(np.array([[[[1, 2, 4, 3], [4, 3, 3, 1]]]], np.float32))[0, 0]
    array([[0., 0., 1.],
           [1., 0., 2.]], dtype=float32)
    """
    from .onnx_checks import read_model  # before the others: it says what to install
    from .onnx_graph import prepared, read

    limit = min(MEMORY, machine_memory() // 2) if max_memory is None else read_limit(max_memory)
    graph, inputs = read(*read_model(source), external_data, limit)
    return Model(prepared(graph, inputs, limit, fuse=not intermediate), inputs, intermediate)


def read_limit(value: Any) -> int:
    """The caller's `max_memory`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"onnx: max_memory is {value!r}, expected a number of bytes")
    return value


class Model:
    """An ONNX model, made ready by `load`. It may be shared by threads.

    Attributes
    ----------
    inputs : dict of str to Input
        What the caller gives: each has a `shape` (a size, a symbol or None per axis) and a `dtype`.
    outputs : tuple of str
        The names of what the model gives.
    """

    def __init__(self, evaluator: Any, inputs: list[Any], intermediate: bool) -> None:
        self._evaluator, self._intermediate = evaluator, intermediate
        self.inputs = {value.name: value for value in inputs}
        self.outputs: tuple[str, ...] = tuple(evaluator.output_names)
        self._seen: dict[tuple[Ints, ...], frozenset[int]] = {}
        self._plans: dict[tuple[Ints, ...], ModelPlan | None] = {}
        shapes = [value.shape for value in inputs]
        if all(shape is not None and all(isinstance(n, int) for n in shape) for shape in shapes):
            self._unknown(tuple(shapes))

    def _unknown(self, shapes: tuple[Any, ...]) -> frozenset[int]:
        """The nodes whose memory these shapes do not tell; refuses shapes that need too much."""
        found = self._seen.get(shapes)
        if found is None:
            from .onnx_shapes import Spec

            given = zip(self.inputs.values(), shapes, strict=True)
            found = self._evaluator.plan({value.name: Spec(shape, value.dtype) for value, shape in given})
            if len(self._seen) >= MOST_SHAPES:
                self._seen.clear()
            self._seen[shapes] = found
        return found

    def plan(self, *shapes: Ints) -> ModelPlan | None:
        """What runs for inputs of these shapes, as `npconv.nn.plan` makes it; None where the nodes run one by one.

        It is made once for each of a few shapes, on the first call if not before.

        Parameters
        ----------
        *shapes : tuple of int
            Of the inputs, in order.

        Raises
        ------
        ModelError, MemoryLimitError
            As `run`.
        """
        if self._intermediate or len(self.inputs) != 1 or len(self.outputs) != 1 or len(shapes) != 1:
            return None
        try:
            return self._plans[shapes]
        except KeyError:
            from .onnx_plan import planned
        self._unknown(shapes)
        (value,) = self.inputs.values()
        plan = planned(self._evaluator, value, shapes[0])
        self._keep(shapes, plan)
        return plan

    def _keep(self, shapes: tuple[Ints, ...], plan: ModelPlan | None) -> None:
        """Remember a plan; all others go if there are many, or their memory and weights exceed the limit."""
        weights = 2 * sum(a.nbytes for a in self._evaluator.rt_inits_.values())
        held = sum(weights + p.workspace for p in (*self._plans.values(), plan) if p is not None)
        if len(self._plans) >= MOST_PLANS or held > self._evaluator.limit:
            self._plans.clear()
        self._plans[shapes] = plan

    def run(self, values: Mapping[str, ArrayLike]) -> dict[str, Array]:
        """The outputs by name, from the inputs by name; after ``load(intermediate=True)``, every value computed.

        Raises
        ------
        ModelError
            If an input is missing, unknown or of a wrong shape or dtype, or a node cannot compute what it should.
        MemoryLimitError
            If inputs of these shapes need more memory than the model may have.
        """
        from .onnx_checks import ModelError, printable
        from .onnx_evaluator import shape_fits

        wrong = [name for name in values if name not in self.inputs]
        missing = [name for name in self.inputs if name not in values]
        if wrong or missing:
            takes, not_these = (", ".join(map(repr, map(printable, names))) for names in (self.inputs, wrong))
            gap = f"not {not_these}" if wrong else f"{printable(missing[0])!r} is missing"
            raise ModelError(f"onnx: the model takes {takes or 'no input'}; {gap}")
        arrays = {name: np.asarray(values[name]) for name in self.inputs}
        for name, a in arrays.items():
            value = self.inputs[name]
            if a.dtype != value.dtype:
                raise ModelError(
                    f"onnx: input {printable(name)!r} has dtype {a.dtype}, the model takes {value.dtype}; "
                    f"use x.astype({value.dtype.name!r})"
                )
            if value.shape is not None and not shape_fits(value.shape, a.shape):
                raise ModelError(f"onnx: input {printable(name)!r} has shape {a.shape}, the model takes {value.shape}")
        shapes = tuple(a.shape for a in arrays.values())
        unknown, plan = self._unknown(shapes), self.plan(*shapes)
        if plan is not None:
            from .onnx_plan import UnfitError

            try:
                with np.errstate(all="ignore"):
                    return {self.outputs[0]: plan(*arrays.values())}
            except UnfitError:
                self._keep(shapes, None)
        found = self._evaluator.run(None, arrays, intermediate=self._intermediate, unknown=unknown)
        if not self._intermediate:
            return dict(zip(self.outputs, found, strict=True))
        return {name: a for name, a in found.items() if name and name not in self._evaluator.rt_inits_}

    def __call__(self, *arrays: ArrayLike) -> Any:
        """The output from the inputs in order; a tuple where the model has several outputs."""
        if len(arrays) != len(self.inputs):
            names = ", ".join(self.inputs)
            raise TypeError(f"onnx: the model takes {len(self.inputs)} inputs ({names}), got {len(arrays)}")
        found = self.run(dict(zip(self.inputs, arrays, strict=True)))
        outputs = tuple(found[name] for name in self.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def __repr__(self) -> str:
        from .onnx_checks import printable

        inputs = ", ".join(f"{printable(v.name)} {v.dtype}{v.shape or ''}" for v in self.inputs.values())
        return f"Model({inputs} -> {', '.join(map(printable, self.outputs))})"
