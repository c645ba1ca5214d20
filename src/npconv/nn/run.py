"""A training on its way: the order of the data, validation, checkpoints, and the refusal of what is not finite."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..reading import shown
from .checkpoint_file import CheckpointError
from .checkpoints import files, load_checkpoint, save_checkpoint, sweep
from .clipping import clip_gradients, gradient_norm
from .divergence import Before, DivergedError, finite, first_place
from .history import History, Progress
from .layer import Layer
from .losses import Loss
from .optimizer import Optimizer
from .schedules import Schedule

if TYPE_CHECKING:
    from .layer import Array, Arrays

#: A function (images, generator) -> images, new ones.
Augmentation = Callable[[Any, np.random.Generator], Any]


def train_step(model: Layer, x: Array, target: Array, loss: Loss) -> tuple[float, Array, Arrays]:
    """The loss of a batch, the scores, and the gradient of every parameter; nothing is updated."""
    scores, saved = model.forward(x)
    value, g = loss(scores, target)
    _, grads = model.backward(g, saved, input_grad=False)
    return value, scores, grads


@dataclass(frozen=True)
class Settings:
    """What `fit` was told besides model, data, loss and optimizer."""

    epochs: int
    batch_size: int
    validation: tuple[Any, Any] | None
    schedule: Schedule | None
    clip: float | None
    augment: Augmentation | None
    patience: int | None
    folder: Path | None
    every: int | None


class Run:
    """How far a training has come, and how it goes on from there."""

    def __init__(
        self,
        model: Layer,
        data: tuple[Any, Any],
        loss: Loss,
        optimizer: Optimizer,
        settings: Settings,
        rng: np.random.Generator,
    ) -> None:
        self.model, self.loss, self.optimizer, self.settings, self.rng = model, loss, optimizer, settings, rng
        self.x, self.y = data
        self.batches = -(-len(self.x) // settings.batch_size)
        self.rate = optimizer.rate
        self.steps = 0
        self.history = History()
        #: The order of the examples in this epoch, and the sums over its batches so far.
        self.order = np.arange(0)
        self.sums: dict[str, float] = {}
        self.best: Arrays = {}

    def begin(self, resume: bool) -> None:
        """Start, or go on from the folder's newest whole checkpoint."""
        folder = self.settings.folder
        if folder is None:
            return
        sweep(folder)
        found = load_checkpoint(folder, self.model, self.optimizer, rng=self.rng) if resume else None
        if found is None:
            return
        facts = found.facts
        for name, here in (("examples", len(self.x)), ("batch_size", self.settings.batch_size)):
            if facts.get(name) != here:
                raise CheckpointError(
                    f"fit: {name} is {here}, but the training in {folder} has {facts.get(name)}; "
                    "to begin anew, use another folder or resume=False"
                )
        self.steps, self.rate, self.sums = found.step, facts["rate"], facts["sums"]
        self.history = History(**facts["history"])
        self.order = found.arrays.pop("order")
        self.best = found.arrays

    def save(self) -> Path | None:
        """Write a checkpoint, where there is a folder for it."""
        folder = self.settings.folder
        if folder is None:
            return None
        facts = {
            "examples": len(self.x),
            "batch_size": self.settings.batch_size,
            "rate": self.rate,
            "sums": self.sums,
            "history": asdict(self.history),
        }
        extra = {"order": self.order, **self.best}
        return save_checkpoint(
            folder, self.model, self.optimizer, step=self.steps, rng=self.rng, facts=facts, extra=extra
        )

    def finish(self, callback: Callable[[Progress], Any] | None) -> History:
        """Take all steps that are left."""
        while self.steps < self.settings.epochs * self.batches and not self._has_stopped():
            began = time.perf_counter()
            value = self._step()
            if self._at_end():
                self._end_epoch()
            self.history.seconds += time.perf_counter() - began
            if self.settings.folder is not None and (
                self._at_end() or (self.settings.every and self.steps % self.settings.every == 0)
            ):
                self.save()
            if callback is not None:
                epoch, batch = divmod(self.steps - 1, self.batches)
                told = Progress(epoch, self.settings.epochs, batch + 1, self.batches, value, self.history)
                if callback(told) and self._at_end():
                    break
        if self.best:
            self.model.load(self.best)
        if self.settings.schedule is not None:
            self.optimizer.rate = self.rate
        return self.history

    def _at_end(self) -> bool:
        """Whether an epoch is just over."""
        return self.steps % self.batches == 0

    def _has_stopped(self) -> bool:
        """Whether the validation loss has not got smaller for too long."""
        best, patience = self.history.best, self.settings.patience
        return patience is not None and best is not None and len(self.history) - 1 - best >= patience

    def _step(self) -> float:
        """One batch: its loss."""
        settings = self.settings
        before = Before(self.model, self.rng)
        if self._at_end():
            self.order = self.rng.permutation(len(self.x))
            self.sums = {}
        start = self.steps % self.batches * settings.batch_size
        chosen = self.order[start : start + settings.batch_size]
        x, target = np.asarray(self.x[chosen]), np.asarray(self.y[chosen])
        if settings.schedule is not None:
            self.optimizer.rate = self.rate * self._factor(settings.schedule)
        try:
            # A number that is not finite is looked for below, and told with its place.
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                if settings.augment is not None:
                    x = _as_many(x, settings.augment(x, self.rng))
                value, scores, grads = train_step(self.model, x, target, self.loss)
                names = [alias for aliases in self.optimizer.names.values() for alias in aliases]
                grads = {name: grads[name] for name in names if name in grads}
                norm = gradient_norm(grads) if settings.clip is None else clip_gradients(grads, settings.clip)
                # A norm may overflow where no gradient does.
                if not np.isfinite(value) or not (np.isfinite(norm) or all(map(finite, grads.values()))):
                    self._diverged(before, chosen, x, target, value)
                self.optimizer.step(grads)
        except (ValueError, TypeError) as error:
            error.args = (f"fit: at step {self.steps + 1}, examples {_few(chosen)}: {error}",)
            raise
        self.steps += 1
        _add(self.sums, {"loss": value, **self.loss.metrics(scores, target)}, len(target))
        return value

    def _factor(self, schedule: Schedule) -> float:
        """By what the schedule multiplies the rate now."""
        t = self.steps / self.batches
        factor = schedule(t)
        if not isinstance(factor, int | float | np.number) or not 0 <= factor < np.inf:
            raise ValueError(f"fit: schedule({t:g}) is {shown(factor)}, needs a number of at least 0")
        return float(factor)

    def _diverged(self, before: Before, chosen: Array, x: Array, target: Array, value: float) -> None:
        before.restore()
        layer, where = first_place(self.model, x, target, self.loss, chosen)
        before.restore()
        path, saved = None, "no checkpoint was asked for"
        try:
            path = self.save()
        except OSError as error:
            saved = f"the model before it could not be saved: {error}"
        if path is not None:
            saved = f"the model before it is saved in {path}"
        epoch, batch = divmod(self.steps, self.batches)
        wrong = "a gradient is not finite" if np.isfinite(value) else f"the loss is {value:g}"
        raise DivergedError(
            f"fit: step {self.steps + 1} (epoch {epoch + 1}, batch {batch + 1}): {wrong}: {where}. "
            f"The step was not taken; {saved}",
            step=self.steps + 1,
            layer=layer,
            checkpoint=path,
        )

    def _end_epoch(self) -> None:
        """Measure on the validation examples, and write the epoch into the history."""
        settings, history = self.settings, self.history
        means = {name: total / len(self.x) for name, total in self.sums.items()}
        if settings.validation is not None:
            try:
                means |= self._validated(*settings.validation)
            except (ValueError, TypeError) as error:
                error.args = (f"fit: validation after epoch {len(history) + 1}: {error}",)
                raise
        history.loss.append(means.pop("loss"))
        for name, mean in means.items():
            history.metrics.setdefault(name, []).append(mean)
        history.rate.append(self.optimizer.rate)
        losses = history.metrics.get("validation loss")
        if losses and (history.best is None or losses[-1] < losses[history.best]):
            history.best = len(losses) - 1
            if settings.patience is not None:
                self.best = {name: a.copy() for name, a in self.model.weights().items()}

    def _validated(self, x: Any, y: Any) -> dict[str, float]:
        """The mean loss and metrics in inference, as "validation loss" and so on."""
        sums: dict[str, float] = {}
        for start in range(0, len(x), self.settings.batch_size):
            chosen = slice(start, start + self.settings.batch_size)
            part, target = np.asarray(x[chosen]), np.asarray(y[chosen])
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                scores = self.model(part)
                value, _ = self.loss(scores, target)
                if not np.isfinite(value):
                    self._cannot_validate(start, part, target, value)
            _add(sums, {"loss": value, **self.loss.metrics(scores, target)}, len(target))
        return {f"validation {name}": total / len(x) for name, total in sums.items()}

    def _cannot_validate(self, start: int, x: Array, target: Array, value: float) -> None:
        """Beside a loss that is not finite no epoch is the best one: early stopping would not stop."""
        layer, where = first_place(self.model, x, target, self.loss, start + np.arange(len(x)), training=False)
        folder = self.settings.folder
        last = next(iter(files(folder)), None) if folder is not None else None
        raise DivergedError(
            f"fit: validation after step {self.steps} (epoch {len(self.history) + 1}): the loss is {value:g}: {where}. "
            + (f"The newest checkpoint is {last}" if last else "There is no checkpoint"),
            step=self.steps,
            layer=layer,
            checkpoint=last,
        )


def _as_many(x: Array, changed: Any) -> Array:
    """What an augmentation made, if it made an image of each."""
    if not isinstance(changed, np.ndarray) or changed.shape[:1] != x.shape[:1]:
        what = f"an array of shape {changed.shape}" if isinstance(changed, np.ndarray) else shown(changed)
        raise ValueError(f"augment made {what} of {len(x)} images of shape {x.shape}, needs an array of as many")
    return changed


def _add(sums: dict[str, float], means: dict[str, float], count: int) -> None:
    """Add the means over `count` examples to sums over all."""
    for name, mean in means.items():
        sums[name] = sums.get(name, 0.0) + mean * count


def _few(chosen: Array) -> str:
    return ", ".join(str(i) for i in chosen[:4]) + (" ..." if len(chosen) > 4 else "")
