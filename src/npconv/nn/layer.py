"""The contract of a layer: a forward that returns what its backward needs, and nothing hidden.

    y, saved = layer.forward(x)             what the layer computes, and what it keeps for the way back
    gx, grads = layer.backward(g, saved)    from the gradient of y, that of x and that of every parameter
    y = layer(x)                            inference: nothing kept, nothing changed, safe in threads

`saved` travels through the caller's hands, so that a reader can look at it, a layer may serve twice, and two threads
may train on one model's weights. Names of parameters are paths: "features.0.weight" is the weight of the first layer
of `features`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from ..geometry import Ints

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Arrays = dict[str, Array]


class Layer:
    """A step of a network; subclasses compute.

    A subclass fills `params` and `state` when it is made, and has `forward`, `backward` and `out_shape`.

    Attributes
    ----------
    params : dict of str to ndarray
        What training changes, by name, such as "weight" and "bias". Optimizers write into these arrays.
    state : dict of str to ndarray
        What is saved with the parameters but not trained, such as the running mean of a batch norm.
    keeps_input, keeps_output : bool
        Whether `forward` saves the array it was given, or the one it returns.
    """

    keeps_input = keeps_output = False

    def __init__(self) -> None:
        self.params: Arrays = {}
        self.state: Arrays = {}

    @property
    def children(self) -> Mapping[str, Layer]:
        """The layers inside, by name, in the order of the forward pass."""
        return {}

    def forward(self, x: Array, *, training: bool = True) -> tuple[Array, Any]:
        """The output, and what `backward` needs.

        With ``training=False`` the layer computes as in inference (running statistics, no dropout) and changes
        nothing of its own; its backward pass is the gradient of that computation.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, g: Array, saved: Any, *, input_grad: bool = True) -> tuple[Array | None, Arrays]:
        """The gradient of x, and those of the parameters, from g, the gradient of the output.

        The gradient of x is None with ``input_grad=False``: a first layer need not compute what nobody reads.
        """
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    def __call__(self, x: Array) -> Array:
        """The output in inference. Keeps nothing and changes nothing."""
        return self.forward(x, training=False)[0]

    def out_shape(self, shape: Ints) -> Ints:
        """The shape of the output for an input of this shape (with its batch axis), without computing it."""
        raise NotImplementedError(f"{type(self).__name__} has no out_shape")

    def macs(self, shape: Ints) -> int:
        """Multiplications of a forward pass for an input of this shape; 0 where none are worth counting."""
        return sum(layer.macs(shape) for layer in self.children.values())

    def kept_bytes(self, shape: Ints, itemsize: int) -> int:
        """The bytes of what a forward pass saves beside its input and its output."""
        return 0

    def reach(self, shape: Ints) -> list[tuple[int, Fraction]]:
        """Per spatial axis: how many inputs one output reads, and how far apart two neighbours read; or nothing."""
        return []

    def plan(self, shape: Ints, *, dtype: Any = np.float32) -> Any:
        """This model made ready for inference on inputs of one shape: `npconv.nn.plan`."""
        return import_module(".inference", __package__).plan(self, shape, dtype=dtype)

    def walk(self, path: str = "") -> Iterator[tuple[str, Layer]]:
        """This layer and all inside it, with their paths, parents before children."""
        yield path, self
        for name, layer in self.children.items():
            yield from layer.walk(joined(path, name))

    def parameters(self) -> Arrays:
        """Every trained array by its path: the arrays themselves, not copies."""
        return {joined(path, name): a for path, layer in self.walk() for name, a in layer.params.items()}

    def weights(self) -> Arrays:
        """Every array worth saving by its path, parameters and running statistics: the arrays themselves."""
        return {
            joined(path, name): a
            for path, layer in self.walk()
            for name, a in (*layer.params.items(), *layer.state.items())
        }

    def load(self, weights: Mapping[str, Any], *, strict: bool = True) -> None:
        """Copy arrays into this model, by path; nothing is written unless all of them fit.

        Parameters
        ----------
        weights : mapping of str to array_like
            As `weights` returns them.
        strict : bool
            Whether a missing or an unknown name is an error.

        Raises
        ------
        ValueError
            If a shape differs, a name is missing or unknown, or a number is too large for the model's dtype.
        TypeError
            If `weights` is no mapping, or an array in it is not of real numbers.
        """
        if not isinstance(weights, Mapping):
            raise TypeError(
                f"load: weights are of type {type(weights).__name__}, expected arrays by name; "
                "read a file with npconv.nn.load_weights(path)"
            )
        own = self.weights()
        missing = [name for name in own if name not in weights]
        unknown = [name for name in weights if name not in own]
        if strict and (missing or unknown):
            raise ValueError(
                f"load: the names differ: {_listed('missing', missing)}; {_listed('unknown', unknown)}; "
                "rename them with npconv.nn.match_weights(weights, model), or load what fits with strict=False"
            )
        given = {name: np.asarray(weights[name]) for name in own if name in weights}
        for name, a in given.items():
            if a.shape != own[name].shape:
                raise ValueError(
                    f"load: {name!r} has shape {a.shape}, but the model's is {own[name].shape}; "
                    "make the model with the sizes of the weights"
                )
            if a.dtype.kind not in "fiu" and a.dtype.name != "bfloat16":
                raise TypeError(f"load: {name!r} has dtype {a.dtype}, expected real numbers")
            with np.errstate(over="ignore"):
                given[name] = a.astype(own[name].dtype, copy=False)
            if given[name] is not a and np.isinf(given[name]).sum() > np.isinf(a).sum():
                raise ValueError(f"load: {name!r} has numbers too large for the model's {own[name].dtype}")
        for name, a in given.items():
            own[name][...] = a

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={layer!r}" for name, layer in self.children.items())
        return f"{type(self).__name__}({inside})"


def joined(path: str, name: str) -> str:
    """A path one step longer."""
    return f"{path}.{name}" if path else name


def _listed(what: str, names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{len(names)} {what}" + (f" ({shown}{more})" if names else "")


@contextmanager
def place(name: str, layer: Layer) -> Iterator[None]:
    """Errors raised inside say at which place of the model, as "layer features.3 (Conv(...)): ...\"."""
    try:
        yield
    except (ValueError, TypeError, MemoryError) as error:
        kind = f"{type(layer).__name__}(...)" if layer.children else repr(layer)  # whose repr can fill pages
        path, kind, text = getattr(error, "place", ("", kind, str(error)))
        path = name + ("." + path if path else "")
        error.place = (path, kind, text)  # type: ignore[union-attr]
        error.args = (f"layer {path} ({kind}): {text}",)
        raise
