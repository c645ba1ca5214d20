"""Checkpoints: a training that was interrupted goes on as if it had not been.

    save_checkpoint(folder, model, optimizer, step=120, rng=rng)       never a half-written file under a good name
    load_checkpoint(folder, model, optimizer, rng=rng)                 the newest that is whole

A file is written under a passing name, flushed to the disk and then renamed, so that a power cut at any moment leaves
the old files or the old files and the new one. It carries a SHA-256 of its content; two are kept, and where the newest
is damaged the one before is taken.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..reading import shown
from .checkpoint_file import PASSING, CheckpointError, dtype_named, read, write

if TYPE_CHECKING:
    from .layer import Array, Arrays, Layer
    from .optimizer import Optimizer

KEPT = 2
NAME = re.compile(r"step-(\d{9,})\.ckpt")


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds."""

    step: int
    arrays: Arrays
    facts: dict[str, Any]


def save_checkpoint(
    folder: str | Path,
    model: Layer,
    optimizer: Optimizer | None = None,
    *,
    step: int,
    rng: np.random.Generator | None = None,
    facts: Mapping[str, Any] | None = None,
    extra: Mapping[str, Array] | None = None,
    keep: int = KEPT,
) -> Path:
    """Write everything that a training needs to go on: weights, averages, generators.

    Parameters
    ----------
    folder : str or Path
        Made if it is not there. The file is named by the step.
    model : Layer
        Its weights and running statistics, and the generators of its dropout layers.
    optimizer : Optimizer, optional
        Its rate and averages.
    step : int
        How many steps are done.
    rng : np.random.Generator, optional
        The generator that the data's order comes from.
    facts : mapping, optional
        More to remember, of what JSON can hold.
    extra : mapping of str to ndarray, optional
        More arrays to remember.
    keep : int
        How many of the newest files to leave there. Files of later steps are of a training that was given up, or
        damaged, and are removed.

    Returns
    -------
    Path
        The file, whole and on the disk.
    """
    arrays = {f"model/{name}": a for name, a in model.weights().items()}
    if optimizer is not None:
        arrays |= {f"optimizer/{name}": a for name, a in optimizer.state().items()}
    arrays |= {f"extra/{name}": np.asarray(a) for name, a in (extra or {}).items()}
    header = {
        "step": int(step),
        "facts": dict(facts or {}),
        "generators": {path: _state_of(g) for path, g in generators(model, rng)},
    }
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    written = path / f"step-{step:09d}.ckpt"
    write(written, arrays, header)
    # A later file would be taken for the newest one when the training goes on.
    found = files(path)
    here = found.index(written)
    for old in (*found[:here], *found[here + max(keep, 1) :]):
        old.unlink(missing_ok=True)
    return written


def load_checkpoint(
    folder: str | Path,
    model: Layer,
    optimizer: Optimizer | None = None,
    *,
    rng: np.random.Generator | None = None,
) -> Checkpoint | None:
    """Bring model, optimizer and generators back to where the newest whole checkpoint left them.

    Parameters
    ----------
    folder : str or Path
        A folder of checkpoints, or one file.
    model, optimizer, rng
        As they were saved. They are written to only if all of them fit.

    Returns
    -------
    Checkpoint or None
        Its `step`, `facts` and extra `arrays`; None if there is no file.

    Raises
    ------
    CheckpointError
        If there are files but none is whole, or it belongs to another model or optimizer.
    """
    path = Path(folder)
    candidates = [path] if path.is_file() else files(path)
    damaged: list[str] = []
    for candidate in candidates:
        try:
            arrays, header = read(candidate)
            step, facts, states = header["step"], header["facts"], header["generators"]
        except (CheckpointError, KeyError) as error:
            damaged.append(f"{candidate.name}: {error}")
            continue
        if damaged:
            warnings.warn(f"{damaged[0]}; going on from {candidate.name}", RuntimeWarning, stacklevel=2)
        _restore(candidate, arrays, states, model, optimizer, rng)
        return Checkpoint(step, _under("extra/", arrays), facts)
    if damaged:
        raise CheckpointError(f"no checkpoint in {path} is whole: {'; '.join(damaged)}")
    return None


def _restore(
    path: Path,
    arrays: Arrays,
    states: dict[str, Any],
    model: Layer,
    optimizer: Optimizer | None,
    rng: np.random.Generator | None,
) -> None:
    own = dict(generators(model, rng))
    if set(states) != set(own):
        odd = sorted(set(states) ^ set(own))[0]
        raise CheckpointError(f"{path.name} is of another training: the generator {odd!r} is not in both")
    before = optimizer.state() if optimizer is not None else None
    try:
        for name, generator in own.items():
            if states[name].get("bit_generator") != generator.bit_generator.state["bit_generator"]:
                raise ValueError(f"the generator {name!r} was a {shown(states[name].get('bit_generator'))}")
        weights = _under("model/", arrays)
        for name, a in model.weights().items():
            if name in weights and weights[name].dtype != a.dtype:
                raise ValueError(f"{name!r} is {weights[name].dtype} there, but {a.dtype} here")
        if optimizer is not None:
            optimizer.load(_under("optimizer/", arrays))
        model.load(weights)
        for name, generator in own.items():
            generator.bit_generator.state = _decoded(states[name])
    except (ValueError, TypeError, KeyError) as error:
        if optimizer is not None and before is not None:
            optimizer.load(before)
        raise CheckpointError(f"{path.name} is of another training: {error}") from error


def generators(model: Layer, rng: np.random.Generator | None = None) -> Iterator[tuple[str, np.random.Generator]]:
    """All random generators of a training by name: those of layers by their path, and the given one."""
    for path, layer in model.walk():
        own = getattr(layer, "rng", None)
        if isinstance(own, np.random.Generator):
            yield f"layer {path}", own
    if rng is not None:
        yield "rng", rng


def files(folder: Path) -> list[Path]:
    """The checkpoints of a folder, newest first; left-overs of interrupted writes are no checkpoints."""
    if not folder.is_dir():
        return []
    named = ((NAME.fullmatch(path.name), path) for path in folder.iterdir() if path.is_file())
    found = [(int(match[1]), path) for match, path in named if match]
    return [path for _, path in sorted(found, reverse=True)]


def sweep(folder: Path) -> None:
    """Remove what interrupted writes have left; nobody else may be writing there."""
    if folder.is_dir():
        for path in folder.glob(f"{PASSING}*.part"):
            path.unlink(missing_ok=True)


def _under(prefix: str, arrays: Arrays) -> Arrays:
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


def _state_of(generator: np.random.Generator) -> Any:
    return _encoded(generator.bit_generator.state)


def _encoded(value: Any) -> Any:
    """A generator's state as JSON; some kinds hold arrays."""
    if isinstance(value, dict):
        return {name: _encoded(inner) for name, inner in value.items()}
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": value.dtype.name}
    return value.item() if isinstance(value, np.generic) else value


def _decoded(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"array", "dtype"}:
            return np.array(value["array"], dtype_named(value["dtype"]).newbyteorder("="))
        return {name: _decoded(inner) for name, inner in value.items()}
    return value
