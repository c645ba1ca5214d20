"""What a training tells: its history, and its progress while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any


@dataclass
class History:
    """How a training went, a number per epoch.

    Attributes
    ----------
    loss : list of float
        The mean over the epoch's batches, as the model was then.
    metrics : dict of str to list of float
        "accuracy" and the like of the same batches; "validation loss", "validation accuracy" after the epoch.
    rate : list of float
        The optimizer's rate at the end of the epoch.
    seconds : float
        How long it took, interruptions not counted.
    best : int or None
        The epoch, from 0, of the least validation loss.
    """

    loss: list[float] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)
    rate: list[float] = field(default_factory=list)
    seconds: float = 0.0
    best: int | None = None

    def __len__(self) -> int:
        return len(self.loss)

    def plot(self, *, figure: Any = None) -> list[Any]:
        """Loss and accuracies by epoch, with the extra `plot`: `npconv.plots.history`."""
        accuracies = {name: values for name, values in self.metrics.items() if name.endswith("accuracy")}
        plots = import_module("npconv.plots")
        found: list[Any] = plots.history(self.loss, accuracies, figure=figure)
        return found


@dataclass(frozen=True)
class Progress:
    """What a callback is told after every step; after an epoch's last one, `history` has the epoch."""

    epoch: int  # from 0
    epochs: int
    batch: int  # of the epoch, from 1
    batches: int
    loss: float  # of this batch
    history: History

    @property
    def epoch_ends(self) -> bool:
        """Whether this was the last step of an epoch."""
        return self.batch == self.batches
