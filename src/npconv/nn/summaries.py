"""What a model is made of, layer by layer, from shapes alone: nothing is computed and nothing allocated."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from ..arguments import dtype_of, shape_of
from ..geometry import Ints, total
from .containers import Container, Identity, Parallel, Sequential
from .dense import Dropout, Flatten, Linear
from .layer import Layer, joined, place


@dataclass(frozen=True)
class Field:
    """Along one axis: the inputs that an element depends on, how far apart neighbours' are, and how many elements."""

    size: Fraction
    step: Fraction
    extent: int

    def through(self, span: int, step: Fraction, extent: int) -> Field:
        """After windows of `span` elements, `step` apart."""
        return Field(self.size + (span - 1) * self.step, self.step * step, extent)

    def whole(self) -> Field:
        """After something that reads all elements."""
        return self.through(self.extent, Fraction(self.extent), 1)


@dataclass(frozen=True)
class Row:
    """One layer in a summary.

    Attributes
    ----------
    path, kind : str
        Its place in the model, and what it is.
    out_shape : tuple of int
        Of its output.
    parameters, macs : int
        Trained numbers; multiplications of a forward pass.
    output_bytes, kept_bytes : int
        Of the array that it makes (0 if it makes none), and of what is kept for the way back on its account.
    field, step : tuple, or None
        Per spatial axis: the inputs that an output depends on, and how far apart those of two neighbours are; None
        where that is not known.
    """

    path: str
    kind: str
    out_shape: Ints
    parameters: int
    macs: int
    output_bytes: int
    kept_bytes: int
    field: tuple[Fraction, ...] | None
    step: tuple[Fraction, ...] | None


@dataclass(frozen=True)
class Summary:
    """What `summary` found; printed it is a table.

    Attributes
    ----------
    input_shape : tuple of int
        What was asked for.
    rows : tuple of Row
        The layers in the order they run, and where branches join.
    parameters, macs, output_bytes, kept_bytes : int
        Totals. `kept_bytes` counts each array once, and the input too.
    """

    input_shape: Ints
    rows: tuple[Row, ...] = field(repr=False)

    @property
    def parameters(self) -> int:
        return sum(row.parameters for row in self.rows)

    @property
    def macs(self) -> int:
        return sum(row.macs for row in self.rows)

    @property
    def output_bytes(self) -> int:
        return sum(row.output_bytes for row in self.rows)

    @property
    def kept_bytes(self) -> int:
        return sum(row.kept_bytes for row in self.rows)

    def __str__(self) -> str:
        head = ("layer", "kind", "output", "parameters", "MACs", "output bytes", "kept", "field / step")
        lines = [head, *[_cells(row) for row in self.rows]]
        sums = (f"{self.parameters:,}", _scaled(self.macs), _scaled(self.output_bytes), _scaled(self.kept_bytes))
        lines.append(("total", "", "", *sums, ""))
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        left = (0, 1, 2)
        texts = [
            "  ".join(
                c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        ]
        rule = "-" * max(map(len, texts))
        shape = "x".join(map(str, self.input_shape))
        return "\n".join(text.rstrip() for text in (f"input {shape}", texts[0], rule, *texts[1:-1], rule, texts[-1]))

    __repr__ = __str__


def summary(model: Layer, input_shape: Ints, *, dtype: Any = "float32") -> Summary:
    """Every layer of a model: shape, parameters, work, memory and receptive field, for inputs of one shape.

    Parameters
    ----------
    model : Layer
        Any layer or container.
    input_shape : tuple of int
        With the batch axis.
    dtype : dtype
        Of the activations.

    Returns
    -------
    Summary
        Print it; or read `rows`, `parameters`, `macs`, `output_bytes` and `kept_bytes`.

    Raises
    ------
    ValueError
        If the shape does not fit; the message names the layer.

    Examples
    --------
    >>> from npconv import nn
    >>> model = nn.Sequential(nn.Conv(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool(2), nn.Flatten(), nn.Linear(128, 10))
    >>> print(nn.summary(model, (16, 1, 8, 8)))
    input 16x1x8x8
    layer  kind                      output    parameters   MACs  output bytes   kept  field / step
    -----------------------------------------------------------------------------------------------
    0      Conv(1, 8, 3, padding=1)  16x8x8x8          80  73.7k         32.8k   4.1k         3 / 1
    1      ReLU()                    16x8x8x8                            32.8k  32.8k         3 / 1
    2      MaxPool(2)                16x8x4x4                             8.2k  16.4k         4 / 2
    3      Flatten()                 16x128                                                   4 / 2
    4      Linear(128, 10)           16x10          1,290  20.5k           640   8.2k        10 / 8
    -----------------------------------------------------------------------------------------------
    total                                           1,370  94.2k         74.4k  61.4k
    """
    shape, itemsize = shape_of("summary", "input_shape", input_shape), dtype_of("summary", dtype).itemsize
    if not isinstance(model, Layer):
        raise TypeError(f"summary: model is {model!r:.60}, not a layer")
    walk = _Walk(itemsize)
    spatial = shape[2:] if not _channels_last(model) else shape[1:-1]
    fields = tuple(Field(Fraction(1), Fraction(1), n) for n in spatial)
    walk.visit(model, "", _Flow(shape, walk.array(), fields))
    return Summary(shape, tuple(walk.rows))


def _channels_last(model: Layer) -> bool:
    """Whether the first layer that has a layout has its channels last."""
    layouts = [layer.layout for _, layer in model.walk() if not layer.children and hasattr(layer, "layout")]
    return layouts[:1] == ["channels_last"]


@dataclass(frozen=True)
class _Flow:
    """An array on its way: its shape, a number of its own, and what its elements depend on."""

    shape: Ints
    array: int
    fields: tuple[Field, ...] | None


class _Walk:
    """Rows as layers are visited, and which arrays are already kept."""

    def __init__(self, itemsize: int) -> None:
        self.rows: list[Row] = []
        self.itemsize, self.arrays = itemsize, 0
        self.kept: set[int] = set()
        self.counted: set[int] = set()

    def array(self) -> int:
        """The number of a new array."""
        self.arrays += 1
        return self.arrays

    def visit(self, layer: Layer, path: str, x: _Flow) -> _Flow:
        """Append the rows of `layer`; what comes out of it."""
        if isinstance(layer, Sequential):
            for name, child in layer.children.items():
                with place(name, child):
                    x = self.visit(child, joined(path, name), x)
            return x
        if isinstance(layer, Parallel):
            return self._join(layer, path, x)
        y = _Flow(layer.out_shape(x.shape), x.array if _is_view(layer) else self.array(), _seen(layer, x))
        kept = layer.kept_bytes(x.shape, self.itemsize)
        kept += self._keep(x) if layer.keeps_input else 0
        kept += self._keep(y) if layer.keeps_output else 0
        self._row(layer, path, x, y, kept)
        return y

    def _join(self, layer: Parallel, path: str, x: _Flow) -> _Flow:
        """The branches, and the place where they join."""
        flows = []
        for name, child in layer.children.items():
            with place(name, child):
                flows.append(self.visit(child, joined(path, name), x))
        fields = None
        if all(flow.fields is not None for flow in flows):
            axes = zip(*[flow.fields for flow in flows if flow.fields is not None], strict=True)
            fields = tuple(
                replace(f[0], size=max(each.size for each in f), step=max(each.step for each in f)) for f in axes
            )
        makes = len(flows) > 1 or layer.join == "concatenate"
        y = _Flow(layer.out_shape(x.shape), self.array() if makes else flows[0].array, fields)
        self._row(layer, path, x, y, 0)
        return y

    def _keep(self, flow: _Flow) -> int:
        """The bytes of an array that was not kept before."""
        if flow.array in self.kept:
            return 0
        self.kept.add(flow.array)
        return total(flow.shape) * self.itemsize

    def _row(self, layer: Layer, path: str, x: _Flow, y: _Flow, kept: int) -> None:
        joins = isinstance(layer, Parallel)
        own = [a for a in (layer.params if joins else layer.parameters()).values() if id(a) not in self.counted]
        self.counted.update(map(id, own))  # a layer that serves twice has its parameters once
        made = 0 if y.array == x.array else total(y.shape) * self.itemsize
        size, step = (None, None) if y.fields is None else (
            tuple(f.size for f in y.fields), tuple(f.step for f in y.fields),
        )  # fmt: skip
        kind = f"{type(layer).__name__}: {layer.join}" if isinstance(layer, Parallel) else repr(layer)
        macs = 0 if joins else layer.macs(x.shape)
        self.rows.append(
            Row(path, kind, y.shape, sum(a.size for a in own), macs, made, kept, size, step)
        )  # fmt: skip


def _is_view(layer: Layer) -> bool:
    """Whether the output is the input, perhaps of another shape."""
    if isinstance(layer, Dropout):
        return layer.rate == 0
    return isinstance(layer, Identity) or (isinstance(layer, Flatten) and layer.layout == "channels_first")


def _seen(layer: Layer, x: _Flow) -> tuple[Field, ...] | None:
    """What the elements of a layer's output depend on."""
    if x.fields is None or isinstance(layer, Container):
        return None
    if isinstance(layer, Linear) and len(x.shape) == 2:
        return tuple(f.whole() for f in x.fields)
    reach = layer.reach(x.shape)
    if not reach:
        return x.fields
    return tuple(
        f.through(span, step, n) for f, (span, step), n in zip(x.fields, reach, _extents(layer, x), strict=True)
    )


def _extents(layer: Layer, x: _Flow) -> Ints:
    """The spatial sizes of the output, 1 where it has no spatial axes any more."""
    shape, axes = layer.out_shape(x.shape), len(x.fields or ())
    if len(shape) < axes + 2:
        return (1,) * axes
    return shape[1:-1] if getattr(layer, "layout", "channels_first") == "channels_last" else shape[2:]


def _cells(row: Row) -> tuple[str, ...]:
    shape = "x".join(map(str, row.out_shape))
    kind = row.kind if len(row.kind) <= 44 else row.kind[:41] + "..."
    work = (f"{row.parameters:,}" if row.parameters else "", _scaled(row.macs) if row.macs else "")
    memory = [_scaled(n) if n else "" for n in (row.output_bytes, row.kept_bytes)]
    if row.field is None or row.step is None:
        return row.path, kind, shape, *work, *memory, "?"
    return row.path, kind, shape, *work, *memory, f"{_axes(row.field)} / {_axes(row.step)}" if row.field else ""


def _axes(values: tuple[Fraction, ...]) -> str:
    """One number where all axes have the same."""
    return str(values[0]) if len(set(values)) == 1 else "x".join(map(str, values))


def _scaled(number: int) -> str:
    """A count with three or four digits and k, M, G or T."""
    value, unit = float(number), ""
    for larger in "kMGT":
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.1f}{unit}" if unit else str(number)
