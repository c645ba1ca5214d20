"""Layers made of layers: one after the other, beside a shortcut, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..geometry import Ints
from ..layouts import NAMES
from .layer import Layer, joined, place

if TYPE_CHECKING:
    from .layer import Array, Arrays


class Container(Layer):
    """A layer that has others inside, by name: their number, or the keyword they came with."""

    def __init__(self, *layers: Layer, **named: Layer) -> None:
        super().__init__()
        numbered = {str(i): layer for i, layer in enumerate(layers)}
        for name in named:
            if not name or "." in name or name in numbered:
                raise ValueError(
                    f"{type(self).__name__}: the name {name!r} is empty, taken or has a dot; choose another"
                )
        self._children: dict[str, Layer] = {**numbered, **named}
        for name, layer in self._children.items():
            if not isinstance(layer, Layer):
                raise TypeError(f"{type(self).__name__}: {name} is {layer!r}, not a layer")

    @property
    def children(self) -> Mapping[str, Layer]:
        return self._children

    def __getitem__(self, name: str | int) -> Layer:
        return self._children[str(name)]

    def __len__(self) -> int:
        return len(self._children)

    def _check_layouts(self) -> None:
        """Refuse two layouts in one model: most shapes fit all the same, and the numbers are wrong."""
        found: dict[str, str] = {}
        for path, layer in self.walk():
            if not type(layer).__module__.startswith("npconv."):
                return  # somebody's own, which may turn the axes
            layout = getattr(layer, "layout", None)
            if layout is None or getattr(layer, "join", "") == "add" or isinstance(getattr(layer, "axis", None), int):
                continue  # they treat all axes alike, or say which one themselves
            found.setdefault(layout, f"layer {path}" if path else "it")
        if len(found) > 1:
            (first, here), (other, there) = found.items()
            raise ValueError(
                f"{type(self).__name__}: {here} has layout={first!r}, but {there} {other!r}; give all layers the same"
            )


class Sequential(Container):
    """Layers one after the other: y = last(... second(first(x))).

    Parameters
    ----------
    *layers, **named : Layer
        In the order they run. The path of a layer is its number, or its keyword.

    Examples
    --------
    >>> import numpy as np
    >>> from npconv import nn
    >>> model = nn.Sequential(nn.Conv(1, 4, 3, padding=1, rng=0), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10, rng=1))
    >>> x = np.ones((2, 1, 8, 8), np.float32)
    >>> y, saved = model.forward(x)
    >>> gx, grads = model.backward(np.ones_like(y), saved)
    >>> gx.shape, sorted(grads)
    ((2, 1, 8, 8), ['0.bias', '0.weight', '3.bias', '3.weight'])
    """

    def __init__(self, *layers: Layer, **named: Layer) -> None:
        super().__init__(*layers, **named)
        self._check_layouts()

    def forward(self, x: Array, *, training: bool = True) -> tuple[Array, Any]:
        kept = []
        for name, layer in self.children.items():
            with place(name, layer):
                x, saved = layer.forward(x, training=training)
            kept.append(saved)
        return x, kept

    def backward(self, g: Array, saved: Any, *, input_grad: bool = True) -> tuple[Array | None, Arrays]:
        if not isinstance(saved, list) or len(saved) != len(self):
            raise ValueError(f"{type(self).__name__}: saved is not what this layer's forward returned beside y")
        grads: Arrays = {}
        steps = list(zip(self.children.items(), saved, strict=True))
        back: Array | None = g
        for i, ((name, layer), kept) in reversed(list(enumerate(steps))):
            if back is None:
                break
            with place(name, layer):
                back, inner = layer.backward(back, kept, input_grad=input_grad or self._trains_before(i))
            grads |= {joined(name, key): value for key, value in inner.items()}
        return back, grads

    def _trains_before(self, i: int) -> bool:
        """Whether a layer before the i-th has parameters, and so needs the gradient that arrives there."""
        return any(layer.parameters() for layer in list(self.children.values())[:i])

    def __call__(self, x: Array) -> Array:
        for name, layer in self.children.items():
            with place(name, layer):
                x = layer(x)
        return x

    def out_shape(self, shape: Ints) -> Ints:
        for name, layer in self.children.items():
            with place(name, layer):
                shape = layer.out_shape(shape)
        return shape

    def macs(self, shape: Ints) -> int:
        total = 0
        for name, layer in self.children.items():
            with place(name, layer):
                total += layer.macs(shape)
                shape = layer.out_shape(shape)
        return total


class Parallel(Container):
    """The same input through several layers; their outputs added, or put side by side as channels.

        add:          y = first(x) + second(x) + ...
        concatenate:  y = [first(x), second(x), ...] along the channels

    Parameters
    ----------
    *layers, **named : Layer
        The branches. `Identity` is a branch too.
    join : {"concatenate", "add"}
        What becomes of the outputs.
    layout : {"channels_first", "channels_last"}
        Where the channels are.
    """

    def __init__(self, *layers: Layer, join: str = "concatenate", layout: str = "channels_first", **named: Layer):
        super().__init__(*layers, **named)
        if join not in ("concatenate", "add"):
            raise ValueError(f"{type(self).__name__}: join is {join!r}; it is 'concatenate' or 'add'")
        if layout not in NAMES:
            raise ValueError(f"{type(self).__name__}: layout is {layout!r}; it is 'channels_first' or 'channels_last'")
        if not self.children:
            raise ValueError(f"{type(self).__name__}: there are no branches")
        self.join, self.layout = join, layout
        self._check_layouts()

    def _axis(self, rank: int) -> int:
        return 1 if self.layout == "channels_first" else rank - 1

    def forward(self, x: Array, *, training: bool = True) -> tuple[Array, Any]:
        ys, kept = [], []
        for name, layer in self.children.items():
            with place(name, layer):
                y, saved = layer.forward(x, training=training)
            ys.append(y)
            kept.append(saved)
        return self._joined(ys), (kept, [y.shape for y in ys])

    def _joined(self, ys: list[Array]) -> Array:
        self._check([y.shape for y in ys])
        if self.join == "concatenate":
            return np.concatenate(ys, self._axis(ys[0].ndim))
        total = ys[0] + ys[1] if len(ys) > 1 else ys[0]
        for y in ys[2:]:
            total += y
        return total

    def _check(self, shapes: list[Ints]) -> None:
        first = shapes[0]
        axis = self._axis(len(first)) if self.join == "concatenate" and len(first) > 1 else None
        for name, shape in zip(self.children, shapes, strict=True):
            if len(shape) != len(first) or any(
                a != b for i, (a, b) in enumerate(zip(first, shape, strict=True)) if i != axis
            ):
                raise ValueError(
                    f"{type(self).__name__}: branch {next(iter(self.children))} gives {first}, but branch {name} gives "
                    f"{shape}; to {self.join} them they must agree" + (" but for the channels" if axis else "")
                )

    def backward(self, g: Array, saved: Any, *, input_grad: bool = True) -> tuple[Array | None, Arrays]:
        kept, shapes = saved
        if self.join == "concatenate":
            axis = self._axis(g.ndim)
            gs = np.split(g, np.cumsum([shape[axis] for shape in shapes])[:-1], axis)
        else:
            gs = [g] * len(shapes)
        grads: Arrays = {}
        total: Array | None = None
        owned = False  # a branch may hand back g itself, which is the caller's
        for (name, layer), part, inner_saved in zip(self.children.items(), gs, kept, strict=True):
            with place(name, layer):
                gx, inner = layer.backward(part, inner_saved, input_grad=input_grad)
            grads |= {joined(name, key): value for key, value in inner.items()}
            if gx is None:
                continue
            if total is None:
                total = gx
            elif owned:
                total += gx
            else:
                total, owned = total + gx, True
        return total, grads

    def __call__(self, x: Array) -> Array:
        ys = []
        for name, layer in self.children.items():
            with place(name, layer):
                ys.append(layer(x))
        return self._joined(ys)

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, join={self.join!r})" if type(self) is Parallel else super().__repr__()

    def out_shape(self, shape: Ints) -> Ints:
        shapes = []
        for name, layer in self.children.items():
            with place(name, layer):
                shapes.append(layer.out_shape(shape))
        self._check(shapes)
        if self.join == "add":
            return shapes[0]
        axis = self._axis(len(shapes[0]))
        return (*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :])


class Residual(Parallel):
    """A body and a shortcut around it, added: y = body(x) + shortcut(x) (He et al., 2016).

    Parameters
    ----------
    body : Layer
        What learns the difference.
    shortcut : Layer, optional
        What brings x to the shape of the body's output; x itself unless given.
    """

    def __init__(self, body: Layer, shortcut: Layer | None = None) -> None:
        super().__init__(body=body, shortcut=Identity() if shortcut is None else shortcut, join="add")


class Identity(Layer):
    """The input itself: y = x."""

    def forward(self, x: Array, *, training: bool = True) -> tuple[Array, Any]:
        return np.asarray(x), None

    def backward(self, g: Array, saved: Any, *, input_grad: bool = True) -> tuple[Array | None, Arrays]:
        return g if input_grad else None, {}

    def out_shape(self, shape: Ints) -> Ints:
        return shape
