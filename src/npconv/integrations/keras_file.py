"""Keras' files, read with h5py and without Keras: kernels turned to torch's order, layers by the names they have.

Dense (I, O) -> (O, I)      Conv (*k, C/G, O) -> (O, C/G, *k)      its transpose (*k, O, C) -> (C, O, *k)
Depthwise (*k, C, M) -> (C M, 1, *k)      BatchNormalization gamma, beta, mean, variance
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .archives import archive
from .hdf5_file import Tree, tree
from .keras_config import LayerFacts, layers_of
from .refusals import WeightsError, checked_name, opened, refusing

Arrays = dict[str, NDArray[Any]]

#: Containers of layers in the file, newer and older.
_LAYERS = ("layers", "_layer_checkpoint_dependencies")
_MOST_CONFIG = 2 << 20

#: Our name of each of Keras' variables, by the variable's name.
_OURS = {
    "kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias",
    "moving_mean": "running_mean", "moving_variance": "running_var",
    "depthwise_kernel": "depthwise.weight", "pointwise_kernel": "pointwise.weight",
}  # fmt: skip
_NORMS = ("layer_normalization", "group_normalization", "batch_normalization")
_CONV = re.compile(r"conv[123]d(_transpose)?")
_DEPTHWISE, _SEPARABLE = re.compile(r"depthwise_conv[12]d"), re.compile(r"separable_conv[12]d")
_NUMBERED = re.compile(r"(.+?)(?:_(\d+))?")


Flattened = Mapping[str, tuple[int, ...]]


def read(path: str | os.PathLike[str], flattened: Flattened = MappingProxyType({})) -> Arrays:
    """The weights of a .keras by layer, in the order of the model.

    `flattened` is, by the name of a Dense, the shape (*spatial, C) that a Flatten before it made one axis of.
    """
    with archive(path, packed=True) as file:
        if "config.json" not in file.entries or "model.weights.h5" not in file.entries:
            held = "weights in a pickled .npz" if "model.weights.npz" in file.entries else "no config.json and weights"
            raise WeightsError(f"the archive holds {held}; save the model as .keras with Keras 3")
        with refusing("config.json is broken; save the model again"):
            layers = list(layers_of(json.loads(file.read("config.json", _MOST_CONFIG))))
        data = io.BytesIO(file.read("model.weights.h5", file.size("model.weights.h5")))
    with tree(data, data.getbuffer().nbytes) as found:
        return _all_turned(_from_config(found, layers), flattened)


def read_h5(path: str | os.PathLike[str], flattened: Flattened = MappingProxyType({})) -> Arrays:
    """The weights of a .weights.h5 of Keras 3, or of an .h5 of the years before, by layer; `flattened` as in `read`."""
    with opened(path) as (file, size), tree(file, size) as found:
        older = found.groups.get("model_weights", found.groups[""])
        if "layer_names" in older.attrs:
            return _all_turned(_from_names(found, older), flattened)
        arrays = _all_turned(_from_paths(found), flattened)
        if not arrays:
            raise WeightsError("the file holds no layers of Keras; save it with model.save_weights")
        return arrays


Variables = dict[str, NDArray[Any]]


def _all_turned(layers: Iterable[tuple[LayerFacts, Variables]], flattened: Flattened) -> Arrays:
    """The variables of all layers under our names."""
    arrays: Arrays = {}
    unknown = set(flattened)
    for layer, variables in layers:
        unknown.discard(layer.name)
        layer = layer._replace(flattened=flattened.get(layer.name, layer.flattened))
        for name, a in _turned(layer, variables):
            if checked_name(name) in arrays:
                raise WeightsError(f"the file has {name!r} twice; give its layers names of their own")
            arrays[name] = a
    if unknown:
        raise WeightsError(f"flattened names {sorted(unknown)}, but the file has no such layers")
    return arrays


def _from_config(found: Tree, layers: Iterable[LayerFacts]) -> Iterable[tuple[LayerFacts, Variables]]:
    """Of each layer of a config its variables, which the file has by class and number."""
    used: set[str] = set()
    for layer in layers:
        for container in _LAYERS:
            prefix = f"{layer.path.replace('layers', container)}/vars/"
            paths = _variables(found, prefix)
            used |= set(paths)
            if paths:
                yield layer, _named_variables(layer, [found.read(p) for p in paths])
                break
    for path in found.arrays:
        if path not in used and "seed_generator" not in path.split("/"):
            raise WeightsError(f"{path!r} belongs to no layer of config.json; export the model as ONNX instead")


def _from_paths(found: Tree) -> Iterable[tuple[LayerFacts, Variables]]:
    """Without a config the class of a layer is the name of its group, "conv2d_3"."""
    groups = [g.removesuffix("/vars") for g in found.groups if g.endswith("/vars")]
    for group in sorted(groups, key=_natural):
        paths = _variables(found, group + "/vars/")
        if not paths or group.endswith("seed_generator"):
            continue
        names = []
        steps = group.split("/")
        for i, step in enumerate(steps):
            if step not in _LAYERS:
                inner = "/".join((*steps[: i + 1], "vars"))
                names += (inner in found.groups and found.texts(found.groups[inner], "name")) or [step]
        kind = _NUMBERED.fullmatch(steps[-1])
        layer = LayerFacts(".".join(names), kind[1] if kind else "", group, {}, None)
        yield layer, _named_variables(layer, [found.read(p) for p in paths])


def _from_names(found: Tree, root: Any) -> Iterable[tuple[LayerFacts, Variables]]:
    """The older format lists its layers, and the variables of each by name, "conv2d/kernel:0"."""
    base = root.name.strip("/")
    layers = {}
    for text in found.texts(found.groups[""], "model_config"):
        with refusing("the model's config is broken; save the model again"):
            layers = {layer.name: layer for layer in layers_of(json.loads(text))}
    for name in _listed(found, root, "layer_names"):
        group = f"{base}/{name}".strip("/")
        if group not in found.groups:
            raise WeightsError(f"layer {name!r} is listed but not there; save the file again")
        parts: dict[str, Variables] = {}
        for full in _listed(found, found.groups[group], "weight_names"):
            if f"{group}/{full}" not in found.arrays:
                raise WeightsError(f"the array {full!r} of layer {name!r} is listed but not there; save the file again")
            *outer, variable = full.split("/")
            inner = outer[-1] if outer else name
            parts.setdefault(inner, {})[variable.split(":")[0]] = found.read(f"{group}/{full}")
        for inner, variables in parts.items():
            nested = f"{name}.{inner}"
            own = nested if len(parts) > 1 or nested in layers else name
            kind = _NUMBERED.fullmatch(inner)
            facts = layers.get(own) or LayerFacts(own, kind[1] if kind else "", "", {}, None)
            yield facts, variables


def _listed(found: Tree, group: Any, name: str) -> list[str]:
    """A list that is cut into numbered attributes where it is long."""
    names = found.texts(group, name)
    for i in range(100):
        names += found.texts(group, f"{name}{i}")
    return names


def _variables(found: Tree, prefix: str) -> list[str]:
    paths = [path for path in found.arrays if path.startswith(prefix) and path[len(prefix) :].isdecimal()]
    return sorted(paths, key=_natural)


def _natural(path: str) -> list[tuple[int, str]]:
    """An order in which 10 follows 9."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path)]


def _named_variables(layer: LayerFacts, arrays: list[NDArray[Any]]) -> Variables:
    """Variables by Keras' name, from their order."""
    kind, count = layer.kind, len(arrays)
    if kind in _NORMS:
        scale, center = layer.config.get("scale", True), layer.config.get("center", True)
        names = ["gamma"] * bool(scale) + ["beta"] * bool(center)
        names += ["moving_mean", "moving_variance"] if kind == "batch_normalization" else []
        if not layer.config and count != len(names):
            raise WeightsError(
                f"{layer.name!r} has no gamma or no beta, and only a .keras says which: save the model so"
            )
    elif _SEPARABLE.fullmatch(kind):
        names = ["depthwise_kernel", "pointwise_kernel", "bias"][:count]
    elif kind == "dense" or _CONV.fullmatch(kind) or _DEPTHWISE.fullmatch(kind):
        names = ["kernel", "bias"][:count]
    else:
        return {str(i): a for i, a in enumerate(arrays)}
    if len(names) != count:
        raise WeightsError(f"{layer.name!r} is a {kind} with {count} arrays; {len(names)} were expected: {names}")
    return dict(zip(names, arrays, strict=True))


def _turned(layer: LayerFacts, variables: Mapping[str, NDArray[Any]]) -> Iterable[tuple[str, NDArray[Any]]]:
    """The variables of a layer under our names, in our order of axes."""
    separable = "pointwise_kernel" in variables
    for variable, a in variables.items():
        ours = _OURS.get(variable, variable)
        if variable == "depthwise_kernel" and not separable:
            ours = "weight"
        elif variable == "bias" and separable:
            ours = "pointwise.bias"
        depthwise = variable == "depthwise_kernel" or bool(_DEPTHWISE.fullmatch(layer.kind))
        yield f"{layer.name}.{ours}", _turned_array(variable, a, depthwise, layer)
    if "moving_mean" in variables:  # ours has both, always
        like = variables["moving_mean"]
        for variable, value in (("gamma", np.ones_like(like)), ("beta", np.zeros_like(like))):
            if variable not in variables:
                yield f"{layer.name}.{_OURS[variable]}", value


def _turned_array(variable: str, a: NDArray[Any], depthwise: bool, layer: LayerFacts) -> NDArray[Any]:
    order = layer.flattened
    if order == ():
        raise WeightsError(
            f"{layer.name!r} follows a Flatten whose shape the file does not say: save the model as .keras with an Input "
            f"of fixed size, or load_weights(..., flattened={{{layer.name!r}: (height, width, channels)}})"
        )
    if "kernel" not in variable:
        return a if order is None or a.shape != (int(np.prod(order)),) or layer.kind == "dense" else _first(a, order)
    if a.ndim == 2:
        return np.ascontiguousarray(a.T if order is None else _first(a, order).T)
    if a.ndim < 2:
        raise WeightsError(f"{layer.name!r}: a kernel has {a.ndim} axes; save the file again")
    turned = np.moveaxis(a, (-2, -1) if depthwise else (-1, -2), (0, 1))
    return np.ascontiguousarray(turned.reshape(-1, 1, *turned.shape[2:]) if depthwise else turned)


def _first(a: NDArray[Any], order: tuple[int, ...]) -> NDArray[Any]:
    """Rows in the order of a channels-first Flatten, from that of Keras', whose channels are last."""
    if a.shape[0] != np.prod(order):
        raise WeightsError(
            f"a Dense has {a.shape[0]} inputs, but {order} are flattened before it; save the model again"
        )
    return np.moveaxis(a.reshape(*order, *a.shape[1:]), len(order) - 1, 0).reshape(a.shape)
