"""A model made ready for inference: layers melted into few steps, in one layout, on memory that is used again.

Three things happen to the model, once, and none changes its results beyond rounding:

- A batch norm after a convolution is a convolution with other weights; an activation after one is part of its sweep.
- All values in between lie channels last, whatever the model's layout: every kernel reads and writes that natively.
- Values whose last reader has run leave their memory to later ones.

And where a batch of values would not stay in the cache, the first steps run image by image (`batches`).

`graph` says which steps there are, `ModelPlan` runs them.
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arguments import dtype_of, operand, shape_of
from ..compiled import threads
from ..compiled.calls import Bound, Placed, address, aligned
from ..compiled.catalogue import KernelError
from ..compiled.chains import Program
from ..compiled.panels import LINE, whole_lines
from ..geometry import Ints, total
from ..memory import output
from .batches import first_steps
from .graph import Node, Step, Value, melted
from .layer import Layer
from .steps import steps

if TYPE_CHECKING:
    from .layer import Array

#: Operations of launches in a row that are one for Python: between such, it looks for Ctrl-C.
MOST_FLOPS = 5e9
#: Sets of buffers that wait for the next call.
WAITING = 4


def plan(model: Layer, shape: Ints, *, dtype: Any = np.float32) -> ModelPlan:
    """Make a model ready for inference on inputs of one shape.

    Parameters
    ----------
    model : Layer
        Its weights are copied: later training does not change the plan.
    shape : tuple of int
        Of the input, with its batch axis.
    dtype : dtype_like
        Of the input and of the computation, float32 or float64.

    Returns
    -------
    ModelPlan
        Call it with x. It may be shared by threads.

    Raises
    ------
    ValueError, TypeError
        As the layers do for inputs that do not fit, with the layer's place in the model.

    Examples
    --------
    >>> import numpy as np
    >>> from npconv import nn
    >>> norm = nn.BatchNorm(4)
    >>> model = nn.Sequential(nn.Conv(1, 4, 3, padding=1, rng=0), norm, nn.ReLU(), nn.GlobalAvgPool())
    >>> plan = nn.plan(model, (2, 1, 8, 8))
    >>> print(plan)
    (2, 1, 8, 8) -> (2, 4), float32, 2 steps, ... KiB of workspace
      0 + 1 + 2  conv 3x3, bias, relu  (2, 4, 8, 8)
      3          global average        (2, 4)
    >>> x = np.ones((2, 1, 8, 8), np.float32)
    >>> np.allclose(plan(x), model(x), atol=1e-6)
    True
    """
    shape = shape_of("plan", "shape", shape)
    kind = dtype_of("plan", dtype)
    if kind not in (np.float32, np.float64):
        raise TypeError(f"plan: dtype must be float32 or float64, got {kind}; use float32")
    source, nodes, result = melted(model, shape)
    many = first_steps(source, nodes, kind.itemsize) if shape[0] > 1 else 0
    if not many:
        return ModelPlan(source, nodes, result, kind)
    one, single, _ = melted(model, (1, *shape[1:]))
    front = ModelPlan(one, single[:many], single[many - 1].writes, kind)
    return ModelPlan(source, nodes[many:], result, kind, front, nodes[many - 1].writes)


class ModelPlan:
    """A model ready for inference, made by `plan`; call it with x.

    Attributes
    ----------
    input_shape, output_shape : tuple of int
        Of x and of the result.
    dtype : numpy.dtype
        Of both.
    steps : tuple of Step
        What runs, in order; those for a batch of 1 run once for each image.
    workspace : int
        Bytes of the values in between, for each call that is under way at the same time.
    """

    def __init__(
        self,
        source: Value,
        nodes: list[Node],
        result: Value,
        dtype: np.dtype,
        front: ModelPlan | None = None,
        middle: Value | None = None,
    ) -> None:
        self.input_shape, self.output_shape, self.dtype = source.shape, result.shape, dtype
        self._own: tuple[Step, ...] = tuple(steps(nodes, dtype))
        self._source, self._result = source, result
        writes = [node.writes for node in nodes]
        if front is not None and middle is not None:
            self._own = (_each(front, source, middle), *self._own)
            writes.insert(0, middle)
        self.steps: tuple[Step, ...] = self._own if front is None else (*front.steps, *self._own[1:])
        self._begins = _places(nodes, source, result, dtype.itemsize, middle)
        self._room = max((begin + _bytes(value, dtype.itemsize) for value, begin in self._begins), default=0)
        self.workspace: int = self._room + (0 if front is None else front.workspace)
        self._roots = {value.number: _root(value).number for value in writes}
        self._waiting: list[_Memory] = []

    def __call__(self, x: Any, out: Array | None = None) -> Array:
        """The model's output for x, which has the shape and dtype planned for.

        Parameters
        ----------
        x : array_like
            The input.
        out : ndarray, optional
            Where the result goes; a new array unless given.
        """
        x = operand("plan", "x", x)
        if x.shape != self.input_shape:
            raise ValueError(
                f"plan: x.shape is {x.shape}, the plan is for {self.input_shape}; make another for that shape"
            )
        if x.dtype != self.dtype:
            raise TypeError(
                f"plan: x has dtype {x.dtype}, the plan is for {self.dtype}; use x.astype({self.dtype.name!r})"
            )
        y = output("plan", out, self.output_shape, self.dtype, {"x": x})
        self.write(x, y)
        return y

    def write(self, x: Array, y: Array) -> None:
        """The same without a question: the output for x into y, whatever its strides."""
        try:
            memory = self._waiting.pop()
        except IndexError:
            memory = _Memory(self._fresh())
        memory.run(self._own, self._source.number, x)
        y[...] = self._result.seen(memory.arrays.get(self._result.number, x))
        if len(self._waiting) < WAITING:
            self._waiting.append(memory)

    def _fresh(self) -> dict[int, Array]:
        """Arrays for all values in between, in one piece of memory."""
        room = aligned(self._room)
        found: dict[int, Array] = {}
        for value, begin in self._begins:
            size = total(value.shape) * self.dtype.itemsize
            found[value.number] = room[begin : begin + size].view(self.dtype).reshape(value.memory_shape)
        return {number: found[root] for number, root in self._roots.items()}

    def __str__(self) -> str:
        head = (
            f"{self.input_shape} -> {self.output_shape}, {self.dtype}, {len(self.steps)} steps, "
            f"{math.ceil(self.workspace / 1024)} KiB of workspace"
        )
        rows = [(" + ".join(step.places), step.name, str(step.shape)) for step in self.steps]
        widths = [max(len(row[i]) for row in rows) for i in (0, 1)] if rows else [0, 0]
        return "\n".join([head, *[f"  {a:<{widths[0]}}  {b:<{widths[1]}}  {c}" for a, b, c in rows]])

    __repr__ = __str__


class _Memory:
    """The arrays of all values in between, for one call at a time."""

    def __init__(self, arrays: dict[int, Array]) -> None:
        self.arrays = arrays
        self._again: list[Step | Program] = []  # steps, and programs that do the same on these very arrays
        self._fits: tuple[int, Ints] | None = None  # how many threads they are for, and which strides of the input

    def run(self, steps: tuple[Step, ...], source: int, x: Array) -> None:
        """Run all steps for an input."""
        workers, arrays = threads.begin(), {**self.arrays, source: x}
        known = self._fits == (workers, x.strides)
        if known and all(_done(step, arrays, address(x)) for step in self._again):
            return
        for step in steps:  # each of which sees to it that NaN and infinities stay where they belong
            _done(step, arrays)
        if not known:
            with contextlib.suppress(KernelError):  # without machine code there are only steps
                self._again, self._fits = self._programs(steps, source, arrays, workers), (workers, x.strides)

    def _programs(
        self, steps: tuple[Step, ...], source: int, arrays: dict[int, Array], workers: int
    ) -> list[Step | Program]:
        """The steps, those in a row that are launches as one program."""
        found: list[Step | Program] = []
        row: list[tuple[Step, Placed]] = []
        begin = address(arrays[source])

        def close() -> None:
            if len(row) > 1 and threads.NATIVE:
                found.append(Program([launch for _, launch in row], workers, begin))
            else:
                found.extend([step for step, _ in row])
            row.clear()

        for step in steps:
            again = step.again(*[arrays[i] for i in (*step.reads, step.writes)])
            if again is None or type(again.bound) is not Bound or (source in step.reads and again.x != begin):
                close()
                found.append(step)
                continue
            if sum(launch.flops for _, launch in row) + again.flops > MOST_FLOPS:
                close()
            row.append((step, again))
        close()
        return found


def _each(front: ModelPlan, source: Value, middle: Value) -> Step:
    """The first steps for one image after the other."""

    def run(x: Array, y: Array) -> None:
        seen = middle.seen(y)
        for i in range(len(x)):
            front.write(x[i : i + 1], seen[i : i + 1])

    places = [name for step in front.steps for name in step.places]
    return Step("image by image", places, (source.number,), middle.number, middle.shape, run)


def _done(step: Step | Program, arrays: dict[int, Array], source: int = 0) -> bool:
    """Run it, a program with the address of the input; whether what it wrote is right."""
    if isinstance(step, Program):
        return step(source)
    step.run(*[arrays[i] for i in step.reads], arrays[step.writes])
    return True


def _root(value: Value) -> Value:
    """The value whose memory it has."""
    while value.becomes is not None:
        value = value.becomes
    return value


def _bytes(value: Value, itemsize: int) -> int:
    """Memory of a value: a kernel may read a whole vector at its end."""
    return whole_lines(total(value.shape) * itemsize) + LINE


def _places(
    nodes: list[Node], source: Value, result: Value, itemsize: int, middle: Value | None
) -> list[tuple[Value, int]]:
    """Where each value that is part of no other begins: the lowest place that is free from its first writer to its last
    reader. A value in the `middle` is there before the first node runs."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    values: dict[int, Value] = {}
    if middle is not None:
        values[middle.number], first[middle.number], last[middle.number] = middle, 0, 0
    for i, node in enumerate(nodes):
        for value in (*node.reads, node.writes):
            root = _root(value)
            if root is not source:
                values[root.number] = root
                first.setdefault(root.number, i)
                last[root.number] = i
    if result.number in last:
        last[result.number] = len(nodes)
    placed: list[tuple[Value, int]] = []
    for number in sorted(values, key=lambda k: first[k]):
        value = values[number]
        size, begin = _bytes(value, itemsize), 0
        taken = sorted(
            (at, at + _bytes(other, itemsize))
            for other, at in placed
            if last[other.number] >= first[number] and first[other.number] <= last[number]
        )
        for low, high in taken:
            if begin + size <= low:
                break
            begin = max(begin, high)
        placed.append((value, begin))
    return placed
