"""Random problems of the explorer, drawn from its contract, and what npconv says to each.

A problem is plain JSON: one image without a batch axis, rank 1 or 2. About one in eight breaks a rule on purpose.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import npconv

U = 2.0**-53
OPERATORS = ("conv", "conv", "conv", "conv_transpose", "conv_transpose", "max_pool", "avg_pool")
MODES = ("zeros", "constant", "reflect", "symmetric", "replicate", "circular")
NAMES = ("valid", "same", "same_lower", "same_torch", "full", "causal")


def array(values: np.ndarray) -> dict[str, Any]:
    """An array as it travels: row-major, words for what is not finite."""
    flat = [float(v) if np.isfinite(v) else str(v) for v in np.ravel(values)]
    return {"shape": list(values.shape), "data": flat}


def unpack(travelled: dict[str, Any]) -> np.ndarray:
    """And back."""
    return np.array([float(v) for v in travelled["data"]], np.float64).reshape(travelled["shape"])


class Draw:
    """The problem of one seed, the gradient of its output, and how its data were drawn."""

    def __init__(self, seed: int, *, legal: bool = False, finite: bool = False) -> None:
        self.rng = np.random.default_rng([66, seed])
        self.seed, self.finite = seed, finite
        self.broken = not legal and self.chance(0.12)
        self.operator = str(self.rng.choice(OPERATORS))
        self.style = "plain" if finite else str(self.rng.choice(["plain"] * 6 + ["x", "dy", "w"]))
        self.problem = self._draw()
        if self.broken:
            self._break()

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def int(self, low: int, high: int) -> int:
        """Between low and high, both included."""
        return int(self.rng.integers(low, high + 1))

    def values(self, *shape: int, spoilt: bool = False) -> np.ndarray:
        """Whole numbers (with ties) or any numbers; now and then some that are not finite."""
        data = self.rng.integers(-3, 4, shape) * 1.0 if self.chance(0.5) else self.rng.standard_normal(shape)
        if spoilt and data.size:
            for _ in range(self.int(1, 3)):
                data.reshape(-1)[self.int(0, data.size - 1)] = self.rng.choice([np.nan, np.inf, -np.inf])
        return data

    def _draw(self) -> dict[str, Any]:
        rank, pool, transposed = self.int(1, 2), self.operator.endswith("pool"), self.operator == "conv_transpose"
        longest, most = (14, 6) if rank == 1 else (8, 4)
        sizes = [self.int(1, longest) for _ in range(rank)]
        kernel = [self.int(1, most) for _ in range(rank)]
        plain = self.chance(0.3)
        stride = [1 if plain else self.int(1, 3) for _ in range(rank)]
        dilation = [1 if plain or self.chance(0.5) else self.int(1, 3) for _ in range(rank)]
        groups = 1 if pool else int(self.rng.choice([1, 1, 1, 2, 3]))
        per_in, per_out = (1, 1) if pool else (int(self.rng.choice([1, 1, 2, 3])), int(self.rng.choice([1, 1, 2])))
        channels, outs = groups * per_in, groups * per_out
        mode = str(self.rng.choice(MODES)) if self.operator == "conv" else "zeros"
        x = self.values(self.int(1, 3) if pool else channels, *sizes, spoilt=self.style == "x")
        shape = (channels, per_out, *kernel) if transposed else (outs, per_in, *kernel)
        spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
        return {
            "operator": self.operator,
            "x": array(x),
            "w": None if pool else array(self.values(*shape, spoilt=self.style == "w")),
            "bias": None if pool or self.chance(0.4) else array(self.values(outs)),
            "kernel": kernel,
            "stride": stride,
            "dilation": dilation,
            "groups": groups,
            "padding": self._padding(spans, pool),
            "paddingMode": mode,
            "paddingValue": float(self.values(1)[0]) if mode == "constant" else 0,
            "flip": not pool and self.chance(0.3),
            "outputPadding": [self.int(0, max(s, d) - 1) for s, d in zip(stride, dilation, strict=True)]
            if transposed and self.chance(0.5)
            else [0] * rank,
            "countIncludePad": self.chance(0.5),
            "ceilMode": pool and self.chance(0.5),
        }

    def _padding(self, spans: list[int], pool: bool) -> Any:
        if self.chance(0.35):
            return str(self.rng.choice(NAMES))
        low = -2 if self.chance(0.15) else 0
        # a pool's padding is less than its kernel; a convolution's may wrap around the image more than once
        most = [e - 1 if pool else e + 2 for e in spans]
        return [[self.int(min(low, m), m), self.int(min(low, m), m)] for m in most]

    def _break(self) -> None:
        """Break one rule; the result may still be legal, npconv decides."""
        p, axis = self.problem, self.int(0, len(self.problem["stride"]) - 1)
        what = self.int(0, 9)
        if what == 0:
            p["stride"][axis] = 0
        elif what == 1:
            p["dilation"][axis] = self.int(-1, 5)
        elif what == 2:
            p["groups"] = self.int(0, 4)
        elif what == 3 and p["bias"]:
            p["bias"] = array(self.values(self.int(1, 6)))
        elif what == 4:
            p["outputPadding"][axis] = self.int(-1, 4)
        elif what == 5:
            p["paddingValue"] = 1.5
        elif what == 6:
            p["x"] = array(self.values(self.int(1, 4), *[self.int(0, 4) for _ in p["stride"]]))
        elif what == 7:
            p["kernel"][axis] = self.int(0, 12)
            if p["w"]:
                p["w"] = array(self.values(*p["w"]["shape"][:2], *p["kernel"]))
        else:
            p["padding"] = [[self.int(-3, 6), self.int(-3, 6)] for _ in p["stride"]]

    def options(self) -> dict[str, Any]:
        """The keywords of npconv's function."""
        p = self.problem
        options: dict[str, Any] = {"stride": tuple(p["stride"]), "dilation": tuple(p["dilation"])}
        options["padding"] = (
            p["padding"] if isinstance(p["padding"], str) else tuple(tuple(pair) for pair in p["padding"])
        )
        if self.operator.endswith("pool"):
            return options | {"ceil_mode": p["ceilMode"]}
        options |= {"groups": p["groups"], "flip": p["flip"], "accuracy": "strict"}
        if self.operator == "conv_transpose":
            return options | {"output_padding": tuple(p["outputPadding"])}
        return options | {"padding_mode": p["paddingMode"], "padding_value": p["paddingValue"]}

    def run(self) -> dict[str, Any]:
        """What npconv makes of the problem, and bounds of the rounding errors; {"error": message} where it refuses."""
        p, options = self.problem, self.options()
        x = unpack(p["x"])
        try:
            if self.operator == "max_pool":
                y, argmax = npconv.max_pool(x, tuple(p["kernel"]), return_indices=True, **options)
            elif self.operator == "avg_pool":
                count = p["countIncludePad"]
                y = npconv.avg_pool(x, tuple(p["kernel"]), count_include_pad=count, **options)
            else:
                w, bias = unpack(p["w"]), None if p["bias"] is None else unpack(p["bias"])
                y = getattr(npconv, self.operator)(x, w, bias, **options)
        except ValueError as error:
            return {"error": str(error)}
        dy = self.values(*y.shape, spoilt=self.style == "dy")
        found = {"dy": dy, "y": (y, self._bound(y.shape, x))}
        if self.operator == "max_pool":
            dx = npconv.max_pool_grad(dy, x, tuple(p["kernel"]), **options)
            return found | {"argmax": (argmax, 0.0), "x": (dx, 64 * U * np.nansum(np.abs(dy), initial=0))}
        if self.operator == "avg_pool":
            dx = npconv.avg_pool_grad(dy, x.shape, tuple(p["kernel"]), count_include_pad=count, **options)
            return found | {"x": (dx, 64 * U * _size(dy))}
        grads = getattr(npconv, f"{self.operator}_grads")(dy, x, w, **options)
        sizes = getattr(npconv, f"{self.operator}_grads")(abs(dy), abs(x), abs(w), **_absolute(options))
        for name in ("x", "w", "bias"):
            found[name] = (getattr(grads, name), 64 * U * getattr(sizes, name))
        return found

    def _bound(self, shape: tuple[int, ...], x: np.ndarray) -> Any:
        """64 u times the sum of what an output adds up."""
        if self.operator.endswith("pool"):
            return 64 * U * _size(x)
        p = self.problem
        w, bias = abs(unpack(p["w"])), None if p["bias"] is None else abs(unpack(p["bias"]))
        return 64 * U * getattr(npconv, self.operator)(abs(x), w, bias, **_absolute(self.options()))


def _absolute(options: dict[str, Any]) -> dict[str, Any]:
    if "padding_value" in options:
        return options | {"padding_value": abs(options["padding_value"])}
    return options


def _size(data: np.ndarray) -> float:
    return float(np.abs(data[np.isfinite(data)]).sum())
