"""Training: batches in random order, forward, loss, backward, a step; and what a long run needs around that.

    history = fit(model, (x, y), loss=CrossEntropy(), optimizer=Adam(model), epochs=10, rng=0)

`train_step` is the whole idea in four lines. What goes around it is `npconv.nn.run`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..reading import shown
from .history import History, Progress
from .initial import generator
from .layer import Layer
from .losses import Loss
from .optimizer import Optimizer
from .run import Augmentation, Run, Settings
from .schedules import Schedule

__all__ = ["History", "Progress", "fit"]


_EXAMPLES = {
    "model": "nn.Sequential(...)",
    "loss": "nn.CrossEntropy()",
    "optimizer": "nn.Adam(model)",
    "schedule": "nn.cosine(epochs)",
    "augment": "nn.augment(flip=True)",
}


def fit(
    model: Layer,
    data: tuple[Any, Any],
    *,
    loss: Loss,
    optimizer: Optimizer,
    epochs: int,
    batch_size: int = 32,
    validation: tuple[Any, Any] | None = None,
    schedule: Schedule | None = None,
    clip: float | None = None,
    augment: Augmentation | None = None,
    early_stopping: int | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    resume: bool = True,
    callback: Callable[[Progress], Any] | None = None,
    progress: bool = False,
    rng: np.random.Generator | int | None = None,
) -> History:
    """Train a model in place.

    Parameters
    ----------
    model : Layer
        Any layer; it is called as ``model.forward(x)``.
    data : (array_like, array_like)
        Inputs and targets, an example per entry of their first axes. Arrays that are indexed but never loaded whole,
        such as `numpy.memmap`, will do.
    loss : Loss
        What is made small, such as ``CrossEntropy()``.
    optimizer : Optimizer
        Made for this model.
    epochs : int
        How often every example is seen.
    batch_size : int
        Examples per step; the last batch of an epoch has what is left.
    validation : (array_like, array_like), optional
        Examples to measure on after every epoch, never to train on.
    schedule : callable, optional
        t -> factor: by what the optimizer's rate is multiplied after t epochs, fractions included.
    clip : float, optional
        The longest norm that the gradients may have together.
    augment : callable, optional
        (images, generator) -> images, applied to every training batch: `nn.augment`.
    early_stopping : int, optional
        Stop after so many epochs without a smaller validation loss, and bring back the best weights.
    checkpoint : str or Path, optional
        A folder to save to after every epoch; the newest two files are kept.
    checkpoint_every : int, optional
        Save also after every so many steps.
    resume : bool
        Go on from the folder's newest whole checkpoint, if there is one: bit for bit as if never interrupted.
    callback : callable, optional
        Called with a `Progress` after every step; training stops at the end of an epoch where it returned True.
    progress : bool
        Show a bar, with the extra `cli`.
    rng : np.random.Generator or int, optional
        Where the order of the examples comes from, and what `augment` is given.

    Returns
    -------
    History

    Raises
    ------
    ValueError
        If shapes, targets or options do not fit. An error of a layer names its place in the model.
    DivergedError
        If the loss or a gradient is not finite. It says at which step and in which layer the first such number
        appeared; the step is not taken, and with `checkpoint` the model before it is saved. Also if the validation
        loss is not finite.
    OSError
        If a checkpoint cannot be written; those that are there stay as they are.

    Examples
    --------
    >>> import numpy as np
    >>> from npconv import nn
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((64, 4)).astype(np.float32)
    >>> labels = (x[:, 0] > x[:, 1]).astype(int)
    >>> model = nn.Linear(4, 2, rng=rng)
    >>> history = nn.fit(model, (x, labels), loss=nn.CrossEntropy(), optimizer=nn.Adam(model, rate=0.1),
    ...                  epochs=20, rng=rng)
    >>> len(history), history.metrics["accuracy"][-1] > 0.9
    (20, True)
    """
    for name, value, kind in (("model", model, Layer), ("loss", loss, Loss), ("optimizer", optimizer, Optimizer)):
        if not isinstance(value, kind):
            raise TypeError(f"fit: {name} is {shown(value)}, needs an object such as {_EXAMPLES[name]}")
    if checkpoint is not None and not isinstance(checkpoint, (str, Path)):
        raise TypeError(f"fit: checkpoint is {shown(checkpoint)}, needs the path of a folder")
    settings = Settings(
        epochs=_at_least_1("epochs", epochs),
        batch_size=_at_least_1("batch_size", batch_size),
        validation=None if validation is None else _examples("validation", validation),
        schedule=schedule,
        clip=clip,
        augment=augment,
        patience=None if early_stopping is None else _at_least_1("early_stopping", early_stopping),
        folder=None if checkpoint is None else Path(checkpoint),
        every=None if checkpoint_every is None else _at_least_1("checkpoint_every", checkpoint_every),
    )
    _agree(model, optimizer, settings)
    if callback is not None and not callable(callback):
        raise TypeError(f"fit: callback is {shown(callback)}, needs a function of a Progress")
    try:
        chance = generator(rng)
    except (TypeError, ValueError) as error:
        raise type(error)(f"fit: rng is {shown(rng)}, needs None, an int or a numpy.random.Generator") from error
    run = Run(model, _examples("data", data), loss, optimizer, settings, chance)
    run.begin(resume)
    if not progress:
        return run.finish(callback)
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise ImportError('fit: the progress bar needs tqdm: pip install "npconv[cli]"') from error
    with tqdm(total=epochs * run.batches, initial=run.steps, unit="step", leave=False) as bar:

        def show(now: Progress) -> Any:
            bar.set_postfix_str(f"epoch {now.epoch + 1}, loss {now.loss:.4f}", refresh=False)
            bar.update()
            return callback(now) if callback else None

        return run.finish(show)


def _agree(model: Layer, optimizer: Optimizer, settings: Settings) -> None:
    """Refuse what does not go together."""
    own = {id(p) for p in model.parameters().values()}
    for name, p in optimizer.parameters.items():
        if id(p) not in own:
            raise ValueError(f"fit: the optimizer was made for another model: {name!r} is not a parameter of this one")
    if settings.patience is not None and settings.validation is None:
        raise ValueError("fit: early_stopping watches the validation loss, and needs validation=(x, y)")
    clip = settings.clip
    if clip is not None and (isinstance(clip, bool) or not isinstance(clip, int | float | np.number) or not clip > 0):
        raise ValueError(f"fit: clip is {shown(clip)}, needs a number above 0")
    for name, made in (("schedule", settings.schedule), ("augment", settings.augment)):
        if made is not None and not callable(made):
            raise TypeError(f"fit: {name} is {shown(made)}, needs a function such as {_EXAMPLES[name]}")
    if settings.every is not None and settings.folder is None:
        raise ValueError("fit: checkpoint_every needs a folder: checkpoint=...")
    if settings.folder is not None and settings.folder.exists() and not settings.folder.is_dir():
        raise NotADirectoryError(f"fit: checkpoint is {settings.folder}, a file; needs a folder")


def _at_least_1(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"fit: {name} is {shown(value)}, needs a whole number of at least 1")
    return int(value)


def _examples(name: str, pair: Any) -> tuple[Any, Any]:
    """Inputs and targets as arrays, of one length that is not 0."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise TypeError(f"fit: {name} is {type(pair).__name__}, needs a pair (inputs, targets)")
    try:
        x, y = (a if hasattr(a, "shape") and hasattr(a, "dtype") else np.asarray(a) for a in pair)
    except ValueError as error:
        raise ValueError(f"fit: {name} has examples of several shapes: {error}") from error
    for what, given, a in zip(("inputs", "targets"), pair, (x, y), strict=True):
        if not a.ndim:
            raise TypeError(f"fit: {name} has {shown(given)} for {what}, needs an array with an example per entry")
    if len(x) != len(y):
        raise ValueError(f"fit: {name} has inputs of shape {x.shape} for targets of shape {y.shape}: not one for each")
    if not len(x):
        raise ValueError(f"fit: {name} is empty: inputs of shape {x.shape}")
    return x, y
