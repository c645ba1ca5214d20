"""A model of npconv.nn, layer by layer: what the pictures of models walk through."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..geometry import Ints
from ..nn import AvgPool, Flatten, Identity, Layer, Linear, MaxPool, Parallel, Sequential
from ..nn.sliding import Sliding

Array = np.ndarray[Any, Any]


def in_order(model: Layer, path: str = "") -> list[tuple[str, Layer]]:
    """The layers one after the other with their paths; branches that join count as one layer."""
    if not isinstance(model, Sequential):
        return [(path, model)]
    inside = [in_order(child, f"{path}.{name}".lstrip(".")) for name, child in model.children.items()]
    return [pair for pairs in inside for pair in pairs]


def batched(op: str, image: ArrayLike) -> Array:
    """One image (C, H, W) as a batch of one."""
    x = np.asarray(image)
    if x.ndim != 3:
        raise ValueError(f"{op}: image.shape is {x.shape}, expected one image, (C, H, W) or in the model's layout")
    return x[None].astype(np.float32 if x.dtype.kind in "iub" else x.dtype)


def channels_last(model: Layer) -> bool:
    """Whether the model's first layer that has a layout has its channels last."""
    layouts = [layer.layout for _, layer in model.walk() if not layer.children and hasattr(layer, "layout")]
    return layouts[:1] == ["channels_last"]


def maps_of(y: Array, last: bool) -> Array:
    """(1, C, H, W) or (1, H, W, C) as (C, H, W)."""
    return np.moveaxis(y[0], -1, 0) if last else y[0]


def parts(op: str, model: Layer, image: ArrayLike) -> dict[str, Array]:
    """What comes out of each part, (C, H, W): a layer that slides or joins, with what acts on its numbers one by one.

    The image itself comes first. What follows the last layer with two spatial axes is left out.
    """
    x = batched(op, image)
    last = channels_last(model)
    found, names = {"input": maps_of(x, last)}, [""]
    label = "input"
    for path, layer in in_order(model):
        y = layer(x)
        if y.ndim != 4:
            break
        begins = bool(layer.reach(x.shape)) or isinstance(layer, Parallel) or label == "input"
        names = [type(layer).__name__] if begins else [*names, type(layer).__name__]
        if not begins:
            del found[label]
            label = f"{label.split()[0]} {', '.join(names)}"
        else:
            label = f"{path or 'layer'} {names[0]}"
        found[label] = maps_of(y, last)
        x = y
    if len(found) == 1:
        raise ValueError(f"{op}: {type(model).__name__} has no layer whose output has two spatial axes")
    return found


def up_to(op: str, model: Layer, path: str | None, shape: Ints) -> tuple[str, list[Layer]]:
    """The layers up to the one at `path`, or up to the last whose output has two spatial axes."""
    layers, found = in_order(model), 0
    for i, (_, layer) in enumerate(layers):
        shape = layer.out_shape(shape)
        if len(shape) != 4:
            break
        found = i + 1
    paths = [name for name, _ in layers[:found]]
    if path is not None and path not in paths:
        raise ValueError(f"{op}: layer={path!r} is none of those whose output has two spatial axes: {', '.join(paths)}")
    if not paths:
        raise ValueError(f"{op}: {type(model).__name__} has no layer whose output has two spatial axes")
    stop = found if path is None else paths.index(path) + 1
    return paths[stop - 1], [layer for _, layer in layers[:stop]]


def of_ones(layer: Layer, shape: Ints) -> Layer:
    """A twin whose gradient is positive wherever an output depends on an input at all.

    All weights are equal and positive, a maximum becomes a mean, and what acts on numbers one by one is left out. A
    norm is left out too: what it shares over a plane is a scale, and that is not counted as seeing.
    """
    if isinstance(layer, Sequential):
        inside = []
        for child in layer.children.values():
            inside.append(of_ones(child, shape))
            shape = child.out_shape(shape)
        return Sequential(*inside)
    if isinstance(layer, Parallel):
        return Parallel(
            *(of_ones(child, shape) for child in layer.children.values()), join=layer.join, layout=layer.layout
        )
    if isinstance(layer, MaxPool):
        return AvgPool(layer.kernel, **layer.options)
    if isinstance(layer, (Sliding, Linear)):
        twin = copy(layer)
        twin.params = {name: np.full(a.shape, 1 / max(1, a.size)) for name, a in layer.params.items()}
        if isinstance(twin, Sliding):  # others round what they transform, and zero would not stay zero
            twin.options = {**twin.options, "algorithm": "direct"}
        return twin
    if not layer.reach(shape) and not isinstance(layer, Flatten) and layer.out_shape(shape) == shape:
        return Identity()
    return layer
