"""What `npconv verify` runs: algorithms by name or by module, and what is said of each."""

from __future__ import annotations

import importlib
import sys
from difflib import get_close_matches
from typing import Any

import click

from ..algorithms import registered
from ..algorithms.base import Algorithm, Compiled
from ..compiled import catalogue
from ..testing import VerificationError, verify_algorithm
from .words import shown


def found(names: tuple[str, ...]) -> list[Algorithm]:
    """The algorithms of these names, or all of them."""
    every = {a.name: a for a in registered()}
    return [_loaded(name) if ":" in name else _named(name, every) for name in names] or list(every.values())


def _named(name: str, every: dict[str, Algorithm]) -> Algorithm:
    if name in every:
        return every[name]
    near = get_close_matches(name, every, 1, 0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(every)}, or MODULE:NAME"
    raise click.UsageError(f"{name!r} is no algorithm; {hint}")


def _loaded(place: str) -> Algorithm:
    """An algorithm, or a class of one, from a module."""
    module, _, name = place.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # as python -m has it: a command's own path begins at its script
    try:
        value: Any = importlib.import_module(module)
        for part in name.split("."):
            value = getattr(value, part)
        value = value() if isinstance(value, type) else value
    except Exception as error:  # whatever somebody's own module raises
        words = f"{type(error).__name__}: {error}"
        raise click.ClickException(f"{place} cannot be loaded: {words}") from error
    if not isinstance(value, Algorithm):
        raise click.ClickException(f"{place} is no Algorithm of npconv.algorithms.base, but {type(value).__name__}")
    return value


def verified(algorithm: Algorithm, cases: int, seed: int | None, asked: bool) -> dict[str, Any]:
    """What became of one algorithm, as JSON has it."""
    told: dict[str, Any] = {"name": algorithm.name, "result": "right", "failure": None}
    why = catalogue.unavailable() if isinstance(algorithm, Compiled) and not asked else None
    if why:
        return told | {"result": "skipped", "failure": f"no compiled kernels: {why}"}
    try:
        report = verify_algorithm(algorithm, problems_per_dtype=cases, rng=seed)
    except VerificationError as error:
        return told | {"result": "failed", "failure": str(error)}
    except Exception as error:  # an algorithm that raises is not right either
        return told | {"result": "failed", "failure": f"{type(error).__name__}: {error}"}
    worst = report.worst or None  # of a bound by norms no fraction is known: such results are compared to 1 %
    counts = {"accepted": report.accepted, "refused": report.refused, "worst_of_bound": worst}
    return told | counts | {"reasons": sorted(report.reasons)}


def line(one: dict[str, Any]) -> str:
    """One algorithm's line."""
    name = shown(one["name"], 30)
    if one["result"] != "right":
        return f"{name:<18}{one['result']}{': ' + one['failure'] if one['result'] == 'skipped' else ''}"
    counts = f"{one['accepted']:>6} right {one['refused']:>6} refused"
    worst = one["worst_of_bound"]
    return f"{name:<18}{counts}   " + ("errors below 1 %" if worst is None else f"worst error {worst:.2g} of its bound")
