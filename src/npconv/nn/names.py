"""Names of other people's checkpoints: torchvision's and Keras' on our models, name by name or layer by layer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..integrations.refusals import WeightsError
from .layer import Layer

if TYPE_CHECKING:
    from .layer import Array, Arrays

#: What checkpoints hold that no inference needs: a counter of batches, GoogLeNet's helpers in training, Keras' seeds.
_UNUSED = re.compile(r"(.*\.)?num_batches_tracked|aux[12]\..*|.*seed_generator.*")

#: From torchvision's names to those of `npconv.nn.models`; a rule is tried where the name itself is not ours.
#: Every "_" is a "." here, as `_plain` makes it.
_RULES = [
    (re.compile(pattern), ours)
    for pattern, ours in (
        (r"^\.?(module|model|orig\.mod)\.", ""),  # wrappers: DataParallel, Lightning, torch.compile
        (r"^(layer\d\.\d+)\.((?:conv|bn)\d\.)", r"\1.add.body.\2"),  # ResNet
        (r"^(layer\d\.\d+)\.downsample\.", r"\1.add.shortcut."),
        (r"(denselayer\d+\.)(norm|conv)\.?(\d)\.", r"\1added.\2\3."),  # DenseNet, whose older files say norm.1
        (r"^(features\.\d+)\.conv\.", r"\1.body.conv."),  # MobileNet
    )
]
#: The names of a U-Net that is widely copied: inc, down1 ... up1 ... outc, two convolutions each.
_UNET = re.compile(
    r"(inc|outc|down|up)(\d*)\.(?:maxpool\.conv\.1\.|conv\.(?=double)|(up\.))?(?:double\.conv\.|conv\.)?(.*)"
)


def match_weights(weights: Mapping[str, Any], model: Layer, *, order: bool = False) -> Arrays:
    """The arrays of a checkpoint under a model's names, ready for `Layer.load`.

    Knows torchvision's names of VGG, ResNet, DenseNet, GoogLeNet and MobileNet-V2, and those of a common U-Net; "_" and
    "." are the same, so that a Keras layer may be called layer1_0_conv1. What only training needs is left out.

    Parameters
    ----------
    weights : mapping of str to array_like
        As `load_weights` returns them.
    model : Layer
        Whose names they shall have.
    order : bool
        Pair the layers by their order instead, whatever they are called: the first convolution with the first, the
        first batch norm with the first. Right only if file and model list their layers in the same order, as they do
        for VGG, DenseNet and MobileNet of Keras; the shapes are compared, and nothing else can be.

    Raises
    ------
    WeightsError
        If a name is left over on either side, or a shape differs.

    Examples
    --------
    >>> import numpy as np
    >>> from npconv import nn
    >>> model = nn.Sequential(conv1=nn.Conv(1, 4, 3, rng=0), bn1=nn.BatchNorm(4))
    >>> of_torch = {f"module.{name}": a for name, a in model.weights().items()}
    >>> of_torch["module.bn1.num_batches_tracked"] = np.array(7)
    >>> model.load(nn.match_weights(of_torch, model))
    """
    own = model.weights()
    given = {name: np.asarray(a) for name, a in weights.items() if not _UNUSED.fullmatch(name)}
    found = _by_order(given, own) if order else _by_name(given, own)
    for name, a in found.items():
        if a.shape != own[name].shape:
            raise WeightsError(f"match_weights: {name!r} has shape {a.shape}, but the model's is {own[name].shape}")
    return found


def _by_name(given: Arrays, own: Arrays) -> Arrays:
    plain = {_plain(name): name for name in own}
    depth = max((name.count(".across.") for name in own), default=0)
    found: Arrays = {}
    left = []
    for name, a in given.items():
        ours = next((plain[_plain(c)] for c in _candidates(_plain(name), depth) if _plain(c) in plain), None)
        if ours is None:
            left.append(name)
        elif ours in found:
            raise WeightsError(f"match_weights: two arrays of the file are {ours!r}; one of them is {name!r}")
        else:
            found[ours] = a
    missing = [name for name in own if name not in found]
    if left or missing:
        raise WeightsError(
            f"match_weights: {_some(left)} of the file fit nowhere, {_some(missing)} of the model are missing; "
            "rename them, or pair the layers with order=True"
        )
    return {name: found[name] for name in own}


def _candidates(name: str, depth: int) -> Iterator[str]:
    """The name, and what it is called here."""
    yield name
    for pattern, ours in _RULES:
        changed = pattern.sub(ours, name)
        if changed != name:
            yield changed
            yield from _candidates(changed, depth)
    part = _UNET.fullmatch(name)
    if part and depth:
        yield from _unet_names(depth, *part.groups())


def _unet_names(depth: int, part: str, number: str, is_up: str | None, rest: str) -> Iterator[str]:
    """Our place of a level is as deep as the level: level.across.1.level.across.1 ..."""
    if part == "outc":
        yield f"out.{rest}"
    else:
        level = {"inc": 0, "down": int(number or 0), "up": depth - int(number or 0)}[part]
        place = "level" + ".across.1.level" * level
        if part == "up":
            yield f"{place}.across.1.up.{rest}" if is_up else f"{place}.up.{rest}"
        else:
            yield f"{place}.{rest}" if level == depth else f"{place}.down.{rest}"


def _by_order(given: Arrays, own: Arrays) -> Arrays:
    theirs, ours = _layers(given), _layers(own)
    found: Arrays = {}
    for kind in {**theirs, **ours}:
        some, expected = theirs.get(kind, []), ours.get(kind, [])
        if len(some) != len(expected):
            raise WeightsError(
                f"match_weights: the file has {len(some)} layers with arrays of {kind}, the model {len(expected)}"
            )
        for (_, arrays), (path, parts) in zip(some, expected, strict=True):
            found |= {f"{path}.{part}" if path else part: arrays[part] for part in parts}
    return {name: found[name] for name in own}


def _layers(arrays: Arrays) -> dict[str, list[tuple[str, Arrays]]]:
    """Layers in their order by kind: what arrays they have, of how many axes, and whether each channel has a kernel."""
    layers: dict[str, Arrays] = {}
    for name, a in arrays.items():
        path, _, part = name.rpartition(".")
        layers.setdefault(path, {})[part] = a
    kinds: dict[str, list[tuple[str, Arrays]]] = {}
    for path, parts in layers.items():
        weight: Array | None = parts.get("weight")
        axes = weight.ndim if weight is not None else 0
        alone = weight is not None and axes > 2 and weight.shape[1] == 1
        kind = f"{', '.join(sorted(parts))} ({axes} axes{', one channel each' if alone else ''})"
        kinds.setdefault(kind, []).append((path, parts))
    return kinds


def _plain(name: str) -> str:
    return re.sub(r"[._/]+", ".", name)


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:4]) + (", ..." if len(names) > 4 else "")
    return f"{len(names)} arrays" + (f" ({shown})" if names else "")
