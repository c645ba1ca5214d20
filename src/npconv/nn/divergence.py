"""Where the first number that is not finite came from: the step is run once more, and every layer is watched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .checkpoints import generators
from .layer import Layer

if TYPE_CHECKING:
    from .layer import Array, Arrays
    from .losses import Loss


ADVICE = ". A smaller rate, clip=1.0 or a warm-up may help"


class DivergedError(FloatingPointError):
    """A loss or a gradient that is not finite, which ends a training.

    Attributes
    ----------
    step : int
        The number of the step, from 1; it was not taken. In a validation, that of the last one.
    layer : str or None
        The path of the layer where the first such number appeared; None where it was the data or the loss.
    checkpoint : Path or None
        Where the model was saved as it was before the step. In a validation, the newest file there.
    """

    def __init__(self, text: str, *, step: int, layer: str | None, checkpoint: Path | None) -> None:
        super().__init__(text)
        self.step, self.layer, self.checkpoint = step, layer, checkpoint


class Before:
    """What a forward pass changes, kept so that a step can be undone: running statistics and generators."""

    def __init__(self, model: Layer, *more: np.random.Generator) -> None:
        self._state = [(a, a.copy()) for _, layer in model.walk() for a in layer.state.values()]
        self._generators = [(g, g.bit_generator.state) for g in (*(g for _, g in generators(model)), *more)]

    def restore(self) -> None:
        """Bring all of it back."""
        for a, copy in self._state:
            a[...] = copy
        for generator, state in self._generators:
            generator.bit_generator.state = state


def first_place(
    model: Layer, x: Array, target: Array, loss: Loss, numbers: Array, *, training: bool = True
) -> tuple[str | None, str]:
    """The layer where the first number that is not finite appears in a step, and a sentence about it.

    `numbers` says which examples of the data these are.
    """
    for name, given in (("data", x), ("target", target)):
        if not finite(given):
            at = np.argwhere(~np.isfinite(given).reshape(len(given), -1).all(1))[0, 0]
            return None, f"the {name} has such a number already, in example {numbers[at]}"
    for path, layer in model.walk():
        for name, a in layer.params.items():
            if not finite(a):
                return path, f"the {name} of layer {path or 'the model'} ({layer!r}) has such a number already"
    seen: list[tuple[str, str]] = []
    with watched(model, seen):
        scores, saved = model.forward(x, training=training)
        if not seen:
            value, g = loss(scores, target)
            if not (finite(value) and finite(g)):
                largest = np.abs(scores).max()
                return None, f"it appeared in the loss, {loss!r}; the scores are finite, up to {largest:g}{ADVICE}"
            model.backward(g, saved, input_grad=False)
    if seen:
        first, words = seen[0]
        return first, words + ADVICE
    return None, "it did not appear again when the step was repeated"


@contextmanager
def watched(model: Layer, seen: list[tuple[str, str]]) -> Iterator[None]:
    """Within, layers without children add to `seen` what they make of finite numbers that is not finite."""
    leaves = [(path, layer) for path, layer in model.walk() if not layer.children]
    for path, layer in leaves:
        _watch(path, layer, seen)
    try:
        yield
    finally:
        for _, layer in leaves:
            vars(layer).pop("forward", None)
            vars(layer).pop("backward", None)


def _watch(path: str, layer: Layer, seen: list[tuple[str, str]]) -> None:
    forward, backward = layer.forward, layer.backward
    named = f"layer {path} ({layer!r})" if path else f"the model ({layer!r})"

    def watched_forward(x: Array, *, training: bool = True) -> tuple[Array, Any]:
        y, saved = forward(x, training=training)
        if finite(x) and not finite(y):
            seen.append((path, f"it first appeared in the output of {named}, whose input reaches {np.abs(x).max():g}"))
        return y, saved

    def watched_backward(g: Array, saved: Any, *, input_grad: bool = True) -> tuple[Array | None, Arrays]:
        gx, grads = backward(g, saved, input_grad=input_grad)
        if finite(g) and not all(finite(a) for a in (gx, *grads.values()) if a is not None):
            seen.append((path, f"it first appeared in the gradients of {named}"))
        return gx, grads

    layer.forward = watched_forward  # type: ignore[method-assign]
    layer.backward = watched_backward  # type: ignore[method-assign]


def finite(a: Any) -> bool:
    """Whether all numbers are finite; whole numbers are."""
    array = np.asarray(a)
    return array.dtype.kind not in "fc" or bool(np.isfinite(array).all())
