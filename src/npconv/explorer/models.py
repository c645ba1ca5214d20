"""Which models `explore` takes, and the walk through each kind."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..nn import Layer
from .photo import fed
from .walk import Walk

#: What `npconv.explore` takes beside a model and its image.
KEYWORDS = ("target", "labels", "size", "name")


def is_model(what: Any) -> bool:
    """Whether this is a model, or the path or bytes of one, and no array."""
    if callable(what) and not isinstance(what, Layer) and not hasattr(what, "__array__"):
        raise TypeError(
            f"explore: a {type(what).__name__} is no array, no model of npconv.nn and no ONNX model; export it to ONNX"
        )
    return isinstance(what, (Layer, str, bytes, os.PathLike)) or hasattr(what, "graph")


def walk_of(model: Any, image: Any, options: Mapping[str, Any]) -> Walk:
    """The walk through a model, as `npconv.explore` describes its arguments."""
    for key in options:
        if key not in KEYWORDS:
            raise TypeError(f"explore: a model has no keyword {key!r} here; it has title, {', '.join(KEYWORDS)}")
    target, labels, size, name = (options.get(key) for key in KEYWORDS)
    if image is None:
        raise TypeError("explore: a model needs an image; give explore(model, image)")
    labels = None if labels is None else [str(label) for label in labels]
    if isinstance(model, Layer):
        return _layers(model, image, target, labels, size, name or "")
    return _onnx(model, image, target, labels, size, name or "")


def _layers(model: Layer, image: Any, target: Any, labels: list[str] | None, size: Any, name: str) -> Walk:
    from .walk_layers import walk_layers

    inner = [layer for _, layer in model.walk() if not layer.children]
    channels = next((layer.in_channels for layer in inner if hasattr(layer, "in_channels")), None)
    layouts = [layer.layout for layer in inner if hasattr(layer, "layout")]
    dtype = next((a.dtype for a in model.parameters().values()), np.dtype(np.float32))

    def fits(shape: tuple[int, ...]) -> bool:
        try:
            model.out_shape(shape)
        except (ValueError, TypeError):
            return False
        return True

    x = fed(image, channels, layouts[:1] == ["channels_last"], dtype, size, fits)
    if x.ndim < 2 or x.shape[0] != 1:
        raise ValueError(f"explore: the image has shape {x.shape}, and the explorer walks with one image, (1, ...)")
    return walk_layers(model, x, name=name or type(model).__name__, target=target, labels=labels)


def _onnx(source: Any, image: Any, target: Any, labels: list[str] | None, size: Any, name: str) -> Walk:
    from ..integrations import onnx_runtime
    from .walk_onnx import walk_onnx

    model = onnx_runtime.load(source, intermediate=True)
    images = image if isinstance(image, Mapping) else {next(iter(model.inputs), ""): image}
    feeds = {
        key: _fed(model.inputs[key], value, size) if key in model.inputs else value for key, value in images.items()
    }
    if not name and isinstance(source, (str, os.PathLike)):
        name = Path(source).name
    return walk_onnx(model, feeds, name=name, target=target, labels=labels)


def _fed(value: Any, image: Any, size: Any) -> Any:
    """One input of an ONNX model."""
    shape = value.shape
    wanted, channels, last = size, None, False
    if shape is not None and len(shape) == 4:
        last = shape[1] not in (1, 3) and shape[3] in (1, 3)
        sizes, channels = (shape[1:3], shape[3]) if last else (shape[2:], shape[1])
        channels = channels if isinstance(channels, int) else None
        if all(isinstance(n, int) for n in sizes):
            wanted = sizes

    def fits(given: tuple[int, ...]) -> bool:
        if shape is None:
            return True
        return len(given) == len(shape) and all(
            not isinstance(n, int) or n == m for n, m in zip(shape, given, strict=True)
        )

    return fed(image, channels, last, value.dtype, wanted, fits)
