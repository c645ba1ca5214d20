"""A walk through a model of `npconv.nn`, with the gradient of one of its outputs."""

from __future__ import annotations

import copy
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import Ints
from ..nn import Conv, ConvTranspose, Layer, summary
from ..nn.pools import _Pool
from .crops import Site
from .walk import Step, Walk, output_json, picture

Array = NDArray[Any]


@dataclass
class _Call:
    """What one layer took and gave, and what came back to it."""

    layer: Layer
    x: Array
    y: Array
    g: Array | None = None


def walk_layers(model: Layer, x: Array, *, name: str = "", target: Any = None, labels: list[str] | None = None) -> Walk:
    """Run a model on one image, forward and backward, in inference.

    Parameters
    ----------
    model : npconv.nn.Layer
        It is not changed.
    x : ndarray
        (1, *image), as the model takes it.
    name : str
        Of the model.
    target : int or tuple of int, optional
        Whose gradient: a score, a channel (the sum of its plane) or an element; the largest score by default.
    labels : list of str, optional
        Names of the scores.

    Raises
    ------
    ValueError
        If the model cannot take such an image, or has no such output.
    """
    rows = summary(model, x.shape, dtype=x.dtype).rows
    arrays = {id(a): a for a in model.weights().values()}
    twin = copy.deepcopy(model, arrays)  # with the same arrays; only its methods are replaced
    layers = dict(twin.walk())
    calls: list[_Call] = []
    for layer in {id(layer): layer for layer in (layers[row.path] for row in rows)}.values():
        _listen(layer, calls)
    with np.errstate(all="ignore"):
        y, saved = twin.forward(x, training=False)
        chosen = chosen_output(y, target)
        g = np.zeros_like(y)
        g[(0, *chosen)] = 1
        twin.backward(g, saved)
    waiting: dict[int, list[_Call]] = defaultdict(list)
    for call in calls:
        waiting[id(call.layer)].append(call)
    steps = []
    for row in rows:
        call = waiting[id(layers[row.path])].pop(0)
        steps.append(
            Step(
                name=row.path,
                kind=row.kind,
                shape=row.out_shape,
                y=_first(call.layer, call.y),
                dy=None if call.g is None else _first(call.layer, call.g),
                parameters=row.parameters,
                macs=row.macs,
                memory_bytes=row.output_bytes,
                kept_bytes=row.kept_bytes,
                field_size=None if row.field is None else tuple(map(float, row.field)),
                field_step=None if row.step is None else tuple(map(float, row.step)),
                site=partial(_site, call) if _slides(call) else None,
            )
        )
    seen = np.moveaxis(x[0], -1, 0) if x.ndim == 4 and x.shape[1] not in (1, 3) else x[0]
    return Walk(name or type(model).__name__, steps, picture(seen), output_json(y[0], chosen, labels))


def _listen(layer: Layer, calls: list[_Call]) -> None:
    """Have a layer note its calls."""
    forward, backward = layer.forward, layer.backward

    def noted(x: Array, *, training: bool = True) -> tuple[Array, Any]:
        y, saved = forward(x, training=training)
        calls.append(_Call(layer, x, y))
        return y, (calls[-1], saved)

    def noted_back(g: Array, saved: Any, *, input_grad: bool = True) -> Any:
        call, inner = saved
        call.g = g
        return backward(g, inner, input_grad=input_grad)

    layer.forward, layer.backward = noted, noted_back


def chosen_output(y: Array, target: Any) -> Ints:
    """Which output's gradient: an index of y without its batch axis."""
    if target is None:
        return tuple(int(i) for i in np.unravel_index(np.nan_to_num(y[0], nan=-np.inf).argmax(), y.shape[1:]))
    index = target if isinstance(target, tuple) else (target,)
    if len(index) > y.ndim - 1 or not all(isinstance(i, (int, np.integer)) for i in index):
        raise ValueError(f"explore: target is {target!r}, expected an index of an output of shape {y.shape[1:]}")
    if not all(-n <= i < n for i, n in zip(index, y.shape[1:], strict=False)):
        raise ValueError(f"explore: target is {target!r}, but the output has shape {y.shape[1:]}")
    return tuple(int(i) % n for i, n in zip(index, y.shape[1:], strict=False))


def _first(layer: Layer, a: Array) -> Array:
    """The one image of a batch, channels first."""
    last = getattr(layer, "layout", "") == "channels_last" and a.ndim > 2
    return np.moveaxis(a[0], -1, 0) if last else a[0]


def _slides(call: _Call) -> bool:
    return isinstance(call.layer, (Conv, ConvTranspose, _Pool)) and call.x.ndim in (3, 4)


def _site(call: _Call) -> Site:
    """What a layer slides, its padding resolved."""
    layer: Any = call.layer
    x, y = _first(layer, call.x), _first(layer, call.y)
    dy = None if call.g is None else _first(layer, call.g)
    if isinstance(layer, _Pool):
        axes = layer._problem(call.x.shape).axes
        options: dict[str, Any] = {
            "kernel": tuple(a.taps for a in axes),
            "stride": tuple(a.stride for a in axes),
            "dilation": tuple(a.dilation for a in axes),
            "padding": tuple((a.lo, a.hi) for a in axes),
            "ceil_mode": layer.ceil_mode,
        }
        if layer.op == "avg_pool":
            options["count_include_pad"] = layer.count_include_pad  # type: ignore[attr-defined]
        return Site(layer.op, x, y, None, None, options, dy)
    settled = layer.problem(call.x.shape)
    geometry = settled.geometry
    options = {"stride": geometry.stride, "dilation": geometry.dilation, "groups": geometry.groups}
    options["padding"], baked = geometry.padding, ""
    if isinstance(layer, ConvTranspose):
        more = options["output_padding"] = layer.output_padding
        options["padding"] = tuple((lo, hi + m) for (lo, hi), m in zip(geometry.padding, more, strict=True))
    elif settled.padded is not None:  # the padding copies inputs, which a piece may not have: it has the copies
        x, baked = settled.inputs(call.x)[0], layer.padding_mode
    weights = layer.params["weight"], layer.params.get("bias")
    return Site(layer.op, np.ascontiguousarray(x), y, *weights, options, dy, baked)
