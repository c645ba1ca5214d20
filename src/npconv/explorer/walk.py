"""A model and one image, layer by layer: what each layer is, what it computed, and the gradient that reached it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import Ints, ceil_div
from .crops import Crop, Site, crop
from .maps import MOST_MAPS, MOST_SIDE, map_bytes, maps
from .page import printable
from .wire import ProblemError, array_json, problem_json

Array = NDArray[Any]

#: Characters of maps, and of layers to open, in one page; layers; scores that are listed; pixels of the image.
MOST_MAP_DATA, MOST_PROBLEM_DATA, MOST_LAYERS, MOST_VALUES, MOST_PICTURE = 3 << 20, 4 << 20, 1000, 1000, 128
LONGEST_KIND = 160


@dataclass(frozen=True)
class Step:
    """One layer.

    Attributes
    ----------
    name, kind : str
        Its place in the model, and what it is.
    shape : tuple of int
        Of its output, batch included.
    y, dy : ndarray or None
        The output for the image, (O, *out), and its gradient.
    parameters, macs, memory_bytes, kept_bytes : int
        Trained numbers; multiplications; bytes of the output; bytes that a training step keeps.
    field_size, field_step : tuple of float, or None
        Per spatial axis: the inputs that an output depends on, and how far apart two neighbours' are.
    site : function or None
        What the layer slides, for layers that the explorer can open.
    """

    name: str
    kind: str
    shape: Ints
    y: Array | None = field(repr=False)
    dy: Array | None = field(default=None, repr=False)
    parameters: int = 0
    macs: int = 0
    memory_bytes: int = 0
    kept_bytes: int | None = None
    field_size: tuple[float, ...] | None = None
    field_step: tuple[float, ...] | None = None
    site: Callable[[], Site] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Walk:
    """What `explore` shows of a model.

    Attributes
    ----------
    model : str
        Its name.
    layers : list of Step
        In the order they ran.
    picture : dict or None
        The image as the model saw it.
    output : dict
        labels, values (of a vector of scores), chosen (the index whose gradient is shown, or the largest), value.
    """

    model: str
    layers: list[Step] = field(repr=False)
    picture: dict[str, Any] | None = field(repr=False)
    output: dict[str, Any] = field(repr=False)

    def json(self, live: bool = False) -> dict[str, Any]:
        """What the page takes.

        Parameters
        ----------
        live : bool
            Whether the page can ask for layers; a file has in it what it opens.
        """
        most, side = self._share()
        left, shown = MOST_PROBLEM_DATA, []
        for index, step in enumerate(self.layers[:MOST_LAYERS]):
            opened: dict[str, Any] = {"problem": None, "dy": None, "title": ""}
            if step.site is not None and not live:
                made = self._opened(index, crop(step.site()))
                length = len(json.dumps(made))
                if made["problem"] is not None and length <= left:
                    opened, left = made, left - length
            known = None if step.field_size is None else {"size": step.field_size, "step": step.field_step}
            shown.append(
                {
                    "index": index,
                    "name": printable(step.name),
                    "kind": printable(step.kind, LONGEST_KIND),
                    "shape": list(step.shape),
                    "parameters": step.parameters,
                    "macs": step.macs,
                    "memory_bytes": step.memory_bytes,
                    "kept_bytes": step.kept_bytes,
                    "receptive_field": known,
                    "maps": None if step.y is None else maps(step.y, most, side),
                    "gradient": None if step.dy is None else maps(step.dy, most, side),
                    "slides": step.site is not None,
                    **opened,
                }
            )
        left_out = max(0, len(self.layers) - MOST_LAYERS)
        return {
            "model": printable(self.model),
            "image": self.picture,
            "layers": shown,
            "left_out": left_out,
            "output": self.output,
        }

    def layer(self, question: dict[str, Any]) -> dict[str, Any]:
        """What the page asks of one layer: {layer, and perhaps channel and at}.

        Raises
        ------
        ValueError
            If there is no such layer, channel or place.
        """
        index, channel, at = (question.get(name) for name in ("layer", "channel", "at"))
        if type(index) is not int or not 0 <= index < len(self.layers):
            raise ProblemError("there is no such layer")
        step = self.layers[index]
        if step.site is None:
            raise ProblemError("this layer slides nothing that the explorer draws")
        site = step.site()
        if channel is not None and type(channel) is not int:
            raise ProblemError("channel must be a whole number")
        if at is not None:
            if not isinstance(at, list) or len(at) != site.y.ndim - 1 or any(type(i) is not int for i in at):
                raise ProblemError(f"at must be {site.y.ndim - 1} whole numbers")
            at = tuple(at)
        return self._opened(index, crop(site, channel, at))

    def _opened(self, index: int, found: Crop | None) -> dict[str, Any]:
        step = self.layers[index]
        name = printable(f"{step.name} {step.kind}".strip(), 100)
        if found is None:
            return {"problem": None, "dy": None, "title": f"{name}: its windows reach further than the explorer draws"}
        dy = None if found.dy is None else array_json(found.dy)
        return {"problem": problem_json(found.problem), "dy": dy, "title": f"{name}: {found.words}"}

    def _share(self) -> tuple[int, int]:
        """How many maps of what size each layer may have, so that all of them fit the page."""
        shapes = [a.shape for step in self.layers[:MOST_LAYERS] for a in (step.y, step.dy) if a is not None]
        sizes = [(most, side) for side in (MOST_SIDE, 48, 32, 24, 16) for most in (MOST_MAPS, 8)]
        fits = (size for size in sizes if sum(map_bytes(shape, *size) for shape in shapes) <= MOST_MAP_DATA * 3 // 4)
        return next(fits, (4, 16))


def picture(x: Array) -> dict[str, Any] | None:
    """What a model saw, (C, H, W) with one or three channels, as bytes of RGB from its least to its largest number."""
    if x.ndim != 3 or x.shape[0] not in (1, 3) or not x.size:
        return None
    block = max(ceil_div(n, MOST_PICTURE) for n in x.shape[1:])
    small = x[:, ::block, ::block].astype(np.float64)
    small = np.where(np.isfinite(small), small, 0)
    small /= np.abs(small).max(initial=0) or 1.0  # the difference of two large numbers may be none
    low, high = small.min(), small.max()
    codes = np.rint((small - low) * (255 / (high - low if high > low else 1.0))).astype(np.uint8)
    rgb = np.broadcast_to(codes, (3, *codes.shape[1:])).transpose(1, 2, 0)
    return {
        "width": codes.shape[2],
        "height": codes.shape[1],
        "rgb": base64.b64encode(np.ascontiguousarray(rgb).tobytes()).decode(),
        "size": list(x.shape[1:]),
    }


def output_json(y: Array, chosen: Ints, labels: list[str] | None) -> dict[str, Any]:
    """The scores that came out, y without its batch axis, and the one that was chosen."""
    scores = y.ravel() if y.ndim == 1 and y.size <= MOST_VALUES else None
    fits = labels is not None and scores is not None and len(labels) == scores.size
    value = float(y[chosen]) if y[chosen].ndim == 0 else float(y[chosen].sum())
    return {
        "labels": [printable(str(label), 80) for label in labels] if fits and labels else None,
        "values": None if scores is None else array_json(scores)["data"],
        "chosen": list(chosen),
        "value": array_json(np.array([value]))["data"][0],
        "shape": list(y.shape),
    }
