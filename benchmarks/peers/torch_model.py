"""A model of npconv's as torch's, layer by layer, with the same weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn as theirs

from npconv import nn


class Sum(theirs.ModuleDict):
    """Branches added, or side by side."""

    def __init__(self, branches: dict[str, theirs.Module], join: str) -> None:
        super().__init__(branches)
        self.join = join

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ys = [branch(x) for branch in self.values()]
        return torch.cat(ys, 1) if self.join == "concatenate" else sum(ys[1:], ys[0])


def converted(model: nn.Layer) -> theirs.Module:
    """The same network, channels first; torch decides on the memory format."""
    found = _module(model)
    own = {name: torch.from_numpy(a.copy()) for name, a in model.weights().items()}
    keys = {key: key.replace("_.", ".") for key in found.state_dict()}
    found.load_state_dict({key: own.get(name, found.state_dict()[key]) for key, name in keys.items()})
    return found


def _module(layer: nn.Layer) -> theirs.Module:
    if isinstance(layer, nn.Sequential):
        inside = theirs.Sequential()
        for name, child in layer.children.items():
            inside.add_module(name, _module(child))
        return inside
    if isinstance(layer, nn.Parallel):
        return Sum({name: _module(child) for name, child in layer.children.items()}, layer.join)
    return next(make(layer) for kind, make in MAKERS.items() if isinstance(layer, kind))


def _conv(layer: nn.Conv) -> theirs.Module:
    kind = (theirs.Conv1d, theirs.Conv2d, theirs.Conv3d)[layer.rank - 1]
    return kind(layer.in_channels, layer.out_channels, layer.kernel, **_options(layer), bias="bias" in layer.params)


def _transpose(layer: nn.ConvTranspose) -> theirs.Module:
    kind = (theirs.ConvTranspose1d, theirs.ConvTranspose2d, theirs.ConvTranspose3d)[layer.rank - 1]
    more = {"output_padding": layer.options["output_padding"], "bias": "bias" in layer.params}
    return kind(layer.in_channels, layer.out_channels, layer.kernel, **_options(layer), **more)


def _options(layer: Any) -> dict[str, Any]:
    pads = tuple(lo for lo, _ in layer.options["padding"])
    return {"padding": pads} | {key: layer.options[key] for key in ("stride", "dilation", "groups")}


def _max_pool(layer: nn.MaxPool) -> theirs.Module:
    return theirs.MaxPool2d(layer.kernel, **{k: v for k, v in layer.options.items() if k != "layout"})


def _avg_pool(layer: nn.AvgPool) -> theirs.Module:
    return theirs.AvgPool2d(layer.kernel, **{k: v for k, v in layer.options.items() if k in ("stride", "padding")})


def _linear(layer: nn.Linear) -> theirs.Module:
    return theirs.Linear(layer.in_features, layer.out_features, bias="bias" in layer.params)


MAKERS: dict[type, Any] = {
    nn.ConvTranspose: _transpose,
    nn.Conv: _conv,
    nn.BatchNorm: lambda layer: theirs.BatchNorm2d(layer.channels, layer.eps, layer.momentum),
    nn.Linear: _linear,
    nn.MaxPool: _max_pool,
    nn.AvgPool: _avg_pool,
    nn.AdaptiveAvgPool: lambda layer: theirs.AdaptiveAvgPool2d(layer.size),
    nn.GlobalAvgPool: lambda layer: theirs.Sequential(theirs.AdaptiveAvgPool2d(1), theirs.Flatten()),
    nn.Flatten: lambda layer: theirs.Flatten(),
    nn.Dropout: lambda layer: theirs.Dropout(layer.rate),
    nn.Identity: lambda layer: theirs.Identity(),
    nn.ReLU: lambda layer: theirs.ReLU(),
    nn.ReLU6: lambda layer: theirs.ReLU6(),
}
