"""What all optimizers do: look that gradients fit, cut arrays into blocks, keep averages, save and load them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..reading import shown
from .layer import Layer

if TYPE_CHECKING:
    from .layer import Array, Arrays

#: Parameters are updated in blocks of so many bytes: an array and its averages then stay in a core's cache
#: through the handful of passes of a rule.
BLOCK = 1 << 17


class Optimizer:
    """Parameters, and a rule that moves them against their gradients; subclasses have the rule.

    Parameters
    ----------
    model : Layer or mapping of str to ndarray
        What is trained: all of a model, or a choice of `model.parameters()`, which leaves the rest as it is.
    rate : float
        How far a step goes.
    decay : float
        How much of each parameter is added to its gradient, which pulls it to 0.
    """

    #: The running averages that the rule keeps of every parameter.
    slots: tuple[str, ...] = ()

    def __init__(self, model: Layer | Mapping[str, Array], *, rate: float, decay: float = 0.0) -> None:
        if not isinstance(model, Layer | Mapping):
            raise TypeError(f"{type(self).__name__}: {shown(model)} is neither a model nor a dict of parameters")
        own = model.parameters() if isinstance(model, Layer) else dict(model)
        if not own:
            raise ValueError(f"{type(self).__name__}: the model has no parameters to train")
        for name, p in own.items():
            if not isinstance(p, np.ndarray) or not p.flags.writeable or not is_float(p.dtype):
                raise TypeError(f"{type(self).__name__}: {name!r} is {shown(p)}, not an array of floats to write into")
        first: dict[int, str] = {}
        #: One name of each array, and all its names: a layer that serves twice has one set of parameters.
        self.names: dict[str, list[str]] = {}
        for name, p in own.items():
            self.names.setdefault(first.setdefault(id(p), name), []).append(name)
        self.parameters: Arrays = {name: own[name] for name in self.names}
        self.rate = positive(self, "rate", rate)
        self.decay = positive(self, "decay", decay)
        self.steps = 0
        self.averages = {slot: {name: np.zeros_like(p) for name, p in self.parameters.items()} for slot in self.slots}

    def update(self, p: Array, g: Array, *averages: Array) -> None:
        """Move p, a piece of a parameter, in place; g is a copy that may be overwritten."""
        raise NotImplementedError(f"{type(self).__name__} has no update")

    def step(self, grads: Mapping[str, Array]) -> None:
        """Move every parameter, in place.

        Parameters
        ----------
        grads : mapping of str to ndarray
            A gradient for each parameter, by its path; other names are left alone.

        Raises
        ------
        ValueError
            If a gradient is missing or has another shape; then nothing is changed.
        """
        for name, p in self.parameters.items():
            for alias in self.names[name]:
                if alias not in grads:
                    raise ValueError(f"{type(self).__name__}: there is no gradient for {alias!r}")
                if grads[alias].shape != p.shape:
                    raise ValueError(
                        f"{type(self).__name__}: the gradient of {alias!r} has shape {grads[alias].shape}, "
                        f"but the parameter has {p.shape}"
                    )
        self.steps += 1
        for name, p in self.parameters.items():
            whole = _sum([grads[alias] for alias in self.names[name]])
            for part, g, *averages in blocks(p, whole, *(self.averages[slot][name] for slot in self.slots)):
                own = g.astype(p.dtype)
                if self.decay:
                    self.pull(part, own)
                self.update(part, own, *averages)

    def pull(self, p: Array, g: Array) -> None:
        """What decay does, by default to the gradient."""
        g += self.decay * p

    def state(self) -> Arrays:
        """All that changes from step to step, as arrays by name: copies, to be saved."""
        found: Arrays = {"rate": np.array(self.rate), "steps": np.array(self.steps)}
        for slot, arrays in self.averages.items():
            found |= {f"{slot}/{name}": a.copy() for name, a in arrays.items()}
        return found

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned; nothing is changed unless all of it fits.

        Raises
        ------
        ValueError
            If it is the state of another optimizer or another model.
        """
        own: Arrays = {f"{slot}/{name}": a for slot, arrays in self.averages.items() for name, a in arrays.items()}
        wanted = {"rate", "steps", *own}
        if set(state) != wanted:
            odd = sorted(wanted ^ set(state))[0]
            raise ValueError(f"{type(self).__name__}: this is another optimizer's state, or another model's: {odd!r}")
        given = {name: np.asarray(value) for name, value in state.items()}
        for name, a in own.items():
            if given[name].shape != a.shape or given[name].dtype != a.dtype:
                raise ValueError(
                    f"{type(self).__name__}: {name!r} is {given[name].dtype} {given[name].shape} in the state, "
                    f"but {a.dtype} {a.shape} here"
                )
        self.rate, self.steps = float(given["rate"]), int(given["steps"])
        for name, a in own.items():
            a[...] = given[name]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(rate={self.rate:g}, {len(self.parameters)} parameters, {self.steps} steps done)"


def _sum(parts: list[Array]) -> Array:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return np.asarray(total, order="C")


def blocks(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """Arrays of one shape, piece by piece, as flat views where all of them allow it."""
    size = arrays[0].size
    length = max(BLOCK // max(arrays[0].itemsize, 1), 1)
    if size <= length or not all(a.flags.c_contiguous for a in arrays):
        yield arrays
        return
    flat = [a.reshape(-1) for a in arrays]
    for start in range(0, size, length):
        yield tuple(a[start : start + length] for a in flat)


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether an array of this dtype can be trained."""
    return dtype.kind == "f" or dtype.name == "bfloat16"


def positive(owner: object, name: str, value: float) -> float:
    """A finite number that is not negative, or an error that names it."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 <= value < np.inf:
        raise ValueError(f"{type(owner).__name__}: {name} is {shown(value)}, needs a number of at least 0")
    return float(value)


def fraction(owner: object, name: str, value: float) -> float:
    """A number from 0 up to, but not including, 1."""
    if positive(owner, name, value) >= 1:
        raise ValueError(f"{type(owner).__name__}: {name} is {shown(value)}, needs a number below 1")
    return float(value)
