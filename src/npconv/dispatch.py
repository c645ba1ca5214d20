"""Which algorithm, and why: a literal cost table with its provenance, and an answer one can print.

Correctness decides first (`why_not`, the accuracy tier, exact integers, the workspace budget), then the cheapest wins.
"""

from __future__ import annotations

import os
import platform
from functools import cache, lru_cache

import numpy as np

from . import execution
from .algorithms import named, registered
from .algorithms.base import Algorithm, Compiled, Cost
from .arguments import Dtypes, choice
from .compiled import catalogue, store
from .compiled.panels import FAR_CACHE
from .geometry import ConvGeometry, total
from .memory import MemoryLimitError, machine_memory
from .records import dataclass, replace

#: What `accuracy` admits: the scales of an error bound and the largest constant on each.
TIERS: dict[str, dict[str, float]] = {
    "strict": {"window": 32},
    "standard": {"window": 128, "plane": 128},
    "fast": {"window": np.inf, "plane": np.inf, "transform": np.inf, "norms": np.inf},
}

#: Seconds per unit of `Cost`, float32, two cores: between fits of 2026-11-21 on an AMD EPYC of Zen 4 and of 2026-11-22 on
#: one of Zen 5, NumPy 2.4.6 and its OpenBLAS; where caches are far, of 2026-11-23 on an Intel Xeon, which is slower at what
#: one launch leaves to the next. `python -m benchmarks.calibrate` prints such a table anew. Other
#: machines rank algorithms alike, and `npconv tune` measures another table there, which `prices` then finds.
SECONDS = {
    "numpy": {"flop": 7.8e-12, "byte": 3.0e-11, "call": 3.2e-6, "butterfly": 1.5e-10},
    "blocked": {"flop": 3.7e-12, "byte": 1.6e-11, "call": 6.2e-6, "butterfly": 1.0e-11},
    "outer": {"flop": 3.8e-12, "byte": 3.9e-11, "call": 8.5e-6, "butterfly": 1.0e-11},
    "winograd": {"flop": 3.6e-12, "byte": 2.0e-11, "call": 1.06e-5, "butterfly": 1.0e-11},
    "winograd_grad": {"flop": 3.1e-12, "byte": 1.9e-11, "call": 8.8e-6, "butterfly": 1.0e-11},
    "channelwise": {"flop": 4.9e-12, "byte": 1.8e-11, "call": 8.8e-6, "butterfly": 1.0e-11},
    "pixelwise": {"flop": 3.6e-12, "byte": 1.4e-11, "call": 5.8e-6, "butterfly": 1.0e-11},
    "channelwise_grad": {"flop": 5.0e-12, "byte": 1.6e-11, "call": 1.2e-5, "butterfly": 1.0e-11},
    "fourier": {"flop": 4.2e-12, "byte": 1.1e-10 if FAR_CACHE else 2.4e-11, "call": 1.3e-5, "butterfly": 1.0e-11},
}


#: Products from which on an algorithm may be chosen that rounds whole numbers: a few microseconds of work.
SMALL_MACS = 1 << 20
#: Weights that arrive turned, as those of an input gradient do, NumPy brings in order at this many bytes' price a byte.
TURNED = 24
#: The same for compiled kernels that want the groups of such weights in one axis.
JOINED = 12
#: Where `npconv tune` keeps its table, in the directory of the compiled kernels.
TUNED = "tuning.json"


def machine() -> list[object]:
    """What a table of another machine is told by."""
    return [platform.machine(), os.cpu_count()]


@cache
def prices() -> dict[str, dict[str, float]]:
    """The table in use: that of `npconv tune` if there is one from this machine and it makes sense, else `SECONDS`."""
    return tuned()[0] or SECONDS


def tuned() -> tuple[dict[str, dict[str, float]] | None, str]:
    """The table of `npconv tune` and its date; None, and why not."""
    content = store.load(TUNED)
    if content is None:
        return None, "never measured here"
    import json

    try:
        found = json.loads(content)
        table = {
            engine: {unit: float(found["seconds"][engine][unit]) for unit in SECONDS[engine]} for engine in SECONDS
        }
        if not all(0 < value < 1 for units in table.values() for value in units.values()):
            raise ValueError
        if found["machine"] != machine():
            return None, "measured on another machine"
        return table, str(found["date"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None, "damaged"


@dataclass(frozen=True)
class Request:
    """Everything that a choice depends on."""

    dtypes: Dtypes
    direction: str
    accuracy: str = "standard"
    algorithm: str = "auto"
    budget: int | None = None
    prepared: bool = False  # the weights are brought in order once, for many calls

    @property
    def limit(self) -> int:
        """The bytes of workspace a call may use."""
        return machine_memory() if self.budget is None else self.budget


def estimate(
    cost: Cost, dtype: np.dtype, table: dict[str, dict[str, float]] | None = None, prepared: bool = False
) -> float:
    """Seconds that `cost` takes on the machine of the table; doubles run at half speed, complex at a quarter of that."""
    before = 0.0 if prepared or cost.preparation is None else estimate(cost.preparation, dtype, table)
    slower = {"f": dtype.itemsize / 4, "c": dtype.itemsize / 2, "i": 400.0}[dtype.kind]
    price = (table or prices())[cost.engine]
    return (
        before
        + cost.flops * price["flop"] * slower
        + cost.bytes * price["byte"]
        + cost.calls * price["call"]
        + cost.butterflies * price["butterfly"]
    )


def against(algorithm: Algorithm, geometry: ConvGeometry, request: Request) -> str | None:
    """Why `algorithm` may not serve this request, or None."""
    dtype = request.dtypes.compute
    direction = "weight_grad" if request.direction == "weight_grad" else "forward"
    why = algorithm.why_not(geometry, dtype)
    if why:
        return why
    if request.dtypes.exact and not algorithm.exact_on_integers:
        return "rounds, and integer results are exact"
    if request.algorithm == "auto" and not algorithm.exact_on_integers and geometry.macs < SMALL_MACS:
        return "rounds whole numbers, and where so little is computed that gains nothing"
    bound = algorithm.error_bound(geometry, dtype)
    if bound.constant > TIERS[request.accuracy].get(bound.scale, -1):
        return f"its error bound {bound} exceeds accuracy={request.accuracy!r}"
    needed = execution.fit_tile(algorithm, geometry, dtype, direction, request.limit)
    if isinstance(needed, int):
        return f"needs at least {needed} bytes of workspace, the limit is {request.limit}"
    return None


def _family(name: str) -> list[Algorithm]:
    """The algorithms a name stands for: "auto" is all that may be chosen, "winograd" any of its tiles."""
    if name == "auto":
        return [a for a in registered() if a.automatic]
    if name == "winograd":
        return [a for a in registered() if "winograd_f" in a.name]
    return [named(name)]


def names() -> tuple[str, ...]:
    """Every value that ``algorithm=`` accepts."""
    return ("auto", "winograd", *(a.name for a in registered()))


def check_name(op: str, name: object) -> str:
    """`name` if it is "auto" or a registered algorithm, else an error that guesses."""
    return choice(op, "algorithm", name, names())


@lru_cache(maxsize=4096)
def choose(op: str, geometry: ConvGeometry, request: Request, exact_footprint: bool = False) -> Algorithm:
    """The cheapest algorithm that may serve the request.

    Raises
    ------
    ValueError
        If the algorithm asked for cannot; the message says why, and which can.
    MemoryLimitError
        If none fits the workspace.
    """
    dtype = request.dtypes.compute
    direction = "weight_grad" if request.direction == "weight_grad" else "forward"
    family = _family("auto" if exact_footprint else request.algorithm)
    if exact_footprint:
        family = [a for a in family if direction in a.exact_footprint]
    able = [a for a in apart_from_blas(family) if against(a, geometry, request) is None]
    if not any(isinstance(a, Compiled) for a in able):
        able = [a for a in family if against(a, geometry, request) is None]
    if able:
        return min(able, key=lambda a: seconds(a, geometry, request))
    reasons = {a.name: against(a, geometry, request) for a in family}
    everyone = {a.name: against(a, geometry, request) for a in registered()}
    others = [name for name, why in everyone.items() if why is None]
    listed = "; ".join(f"{name} {why}" for name, why in reasons.items())
    if any("bytes of workspace" in why for why in reasons.values() if why):
        fix = f"these can: {', '.join(others)}"
        if not others:
            least = min(
                execution.fit_tile(a, geometry, dtype, direction, 0)
                for a in registered()
                if a.why_not(geometry, dtype) is None and a.automatic
            )
            fix = f"the least any algorithm needs is {least}"
        raise MemoryLimitError(f"{op}: max_workspace={request.budget} bytes is too little: {listed}; {fix}")
    raise ValueError(
        f"{op}: algorithm={request.algorithm!r} cannot run here: {listed}; these can: {', '.join(others) or 'none'}"
    )


catalogue.forget.append(choose.cache_clear)


def apart_from_blas(able: list[Algorithm]) -> list[Algorithm]:
    """Those to choose from: beside compiled kernels none whose threads would take the processors from the next ones."""
    return [a for a in able if not a.blas] if any(isinstance(a, Compiled) for a in able) else able


def whole_cost(algorithm: Algorithm, geometry: ConvGeometry, dtype: np.dtype, direction: str, limit: int) -> Cost:
    """The cost of all tiles together; the workspace is that of one."""
    fitted = execution.fit_tile(algorithm, geometry, dtype, direction, limit)
    if isinstance(fitted, int):
        return algorithm.cost(geometry, dtype, direction)
    batch, out = fitted
    tile = geometry.with_out((0,) * geometry.rank, out, batch)
    one = algorithm.cost(tile, dtype, direction)
    outputs = geometry.batch * total(geometry.out_shape)
    times = outputs / max(1, batch * total(out))
    return replace(
        one,
        flops=int(one.flops * times),
        bytes=int(one.bytes * times),
        calls=int(one.calls * times),
        butterflies=int(one.butterflies * times),
    )


def seconds(algorithm: Algorithm, geometry: ConvGeometry, request: Request, moved: int = 0) -> float:
    """The estimate for one part of a call, with `moved` bytes copied besides."""
    dtype = request.dtypes.compute
    direction = "weight_grad" if request.direction == "weight_grad" else "forward"
    cost = whole_cost(algorithm, geometry, dtype, direction, request.limit)
    if request.direction == "input_grad":
        joins = geometry.groups > 1 and not algorithm.takes_groups
        copied = TURNED if cost.engine == "numpy" else JOINED * joins
        moved += copied * total(geometry.w_shape) * dtype.itemsize
    return estimate(replace(cost, bytes=cost.bytes + moved), dtype, prepared=request.prepared)


@dataclass(frozen=True)
class Picker:
    """Chooses for each part of one call, and says what a part should take."""

    op: str
    request: Request

    def __call__(self, geometry: ConvGeometry, exact_footprint: bool) -> Algorithm:
        return choose(self.op, geometry, self.request, exact_footprint)

    def seconds(self, geometry: ConvGeometry, moved: int, algorithm: Algorithm | None = None, turned: int = 0) -> float:
        """The estimate for a forward pass over `geometry`, with `moved` bytes copied besides; infinite if it may not run.

        `turned` bytes are copied when weights are brought in order, once for a plan and for every other call.
        """
        if algorithm is None:
            moved += 0 if self.request.prepared else turned
            return seconds(self(geometry, False), geometry, self.request, moved)
        if self.request.algorithm not in ("auto", algorithm.name) or against(algorithm, geometry, self.request):
            return np.inf
        return seconds(algorithm, geometry, self.request, moved)


def picker(op: str, request: Request) -> Picker:
    """What chooses for each part of one call."""
    return Picker(op, request)
