"""What a Keras model's config.json says about its layers: names, classes, and what Flatten did before them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from .refusals import WeightsError, checked_name, checked_shape

_MODELS = ("Sequential", "Functional", "Model")
#: Layers that keep the order of a flattened vector.
_KEEPING = {
    "Dropout", "Activation", "ReLU", "LeakyReLU", "ELU", "BatchNormalization", "GaussianNoise", "GaussianDropout",
    "AlphaDropout", "ActivityRegularization", "Identity",
}  # fmt: skip
_DEEPEST = 8

Sizes = tuple[int, ...] | None


class LayerFacts(NamedTuple):
    """A layer as the file knows it.

    `kind` is its class in small letters, as "conv2d"; `path` where its variables are; `flattened` the shape
    (*spatial, C) that a Flatten before it made one axis of, empty where the file does not say it.
    """

    name: str
    kind: str
    path: str
    config: dict[str, Any]
    flattened: Sizes


def layers_of(model: Any, name: str = "", path: str = "", depth: int = 0) -> Iterator[LayerFacts]:
    """The layers of a model's config in its order, those of models inside it too."""
    if depth > _DEEPEST:
        raise WeightsError(f"models are nested deeper than {_DEEPEST}")
    whole = model["config"]
    layers = whole["layers"] if isinstance(whole, dict) else whole  # the oldest Sequential is a bare list
    counts: Counter[str] = Counter()
    flattened: dict[str, Sizes] = {}
    last: str | None = None
    for layer in layers:
        class_name, config = str(layer["class_name"]), layer["config"]
        own = checked_name(layer.get("name") or config["name"])
        kind = _snake(class_name)
        if class_name == "InputLayer" and "inbound_nodes" not in layer:
            continue  # the models of Sequential kind do not count it
        counts[kind] += 1
        group = f"{path}/layers/{kind}".lstrip("/") + (f"_{counts[kind] - 1}" if counts[kind] > 1 else "")
        before, here = _before(layer, flattened, last), f"{name}.{own}".lstrip(".")
        if class_name in _MODELS:
            yield from layers_of(layer, here, group, depth + 1)
        else:
            yield LayerFacts(here, kind, group, config if isinstance(config, dict) else {}, before)
        flattened[own] = _after(class_name, layer, before)
        last = own


def _before(layer: Any, flattened: dict[str, Sizes], last: str | None) -> Sizes:
    """What was flattened on the way to a layer: from the layers it names, or the one before it."""
    names = list(_sources(layer["inbound_nodes"])) if "inbound_nodes" in layer else [last]
    found = {flattened.get(name or "") for name in names}
    if found <= {None}:
        return None
    if len(found) > 1 or (len(names) > 1 and layer["class_name"] not in ("Add", "Average", "Maximum", "Multiply")):
        raise WeightsError(f"layer {layer.get('name')!r} joins flattened maps; export the model as ONNX instead")
    return found.pop()


def _after(class_name: str, layer: Any, before: Sizes) -> Sizes:
    if class_name == "Flatten":
        return _flattened_shape(layer)
    return before if class_name in _KEEPING or class_name in ("Add", "Average", "Maximum", "Multiply") else None


def _flattened_shape(layer: Any) -> Sizes:
    """The shape (*spatial, C) of what a Flatten takes."""
    shapes = [*_shapes(layer.get("inbound_nodes")), (layer.get("build_config") or {}).get("input_shape")]
    shape = next((s for s in shapes if s), None)
    if shape is None or None in shape[1:]:
        return ()
    sizes = checked_shape(shape[1:], "Flatten's input")
    if len(sizes) < 2:
        return None
    if layer["config"].get("data_format") == "channels_first":
        sizes = (*sizes[1:], sizes[0])
    return sizes


def _tensors(nodes: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """The descriptions of tensors in a layer's inbound nodes."""
    if depth > 10:
        return
    if isinstance(nodes, dict) and nodes.get("class_name") == "__keras_tensor__":
        yield nodes["config"]
    elif isinstance(nodes, dict | list):
        for inner in nodes.values() if isinstance(nodes, dict) else nodes:
            yield from _tensors(inner, depth + 1)


def _sources(nodes: Any) -> Iterator[str]:
    """Names of the layers that feed a layer: Keras 3 describes tensors, Keras 2 lists [name, node, index, {}]."""
    found = [str(tensor["keras_history"][0]) for tensor in _tensors(nodes)]
    yield from found or [str(source[0]) for node in nodes for source in node if isinstance(source, list) and source]


def _shapes(nodes: Any) -> Iterator[Any]:
    for tensor in _tensors(nodes):
        yield tensor.get("shape")


def _snake(name: str) -> str:
    """Keras' name of a class in its files: BatchNormalization is batch_normalization, Conv2D conv2d."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
