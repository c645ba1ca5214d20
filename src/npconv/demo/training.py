"""Two real training runs, small enough to watch: digits to read, and faces to tell from other pictures.

    result = train("digits", epochs=15, seed=0)

The network is nine layers of `npconv.nn`, the same for both: its last pool makes 4 x 4 of maps of any size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import nn

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Task:
    """What there is to learn: a function that reads the images, and how to train on them."""

    name: str
    labels: tuple[str, ...]
    images: Callable[[], tuple[Array, Array]]
    epochs: int
    augment: dict[str, Any]
    batch: int


@dataclass(frozen=True)
class Training:
    """What was learned, and how it went."""

    task: Task
    model: nn.Sequential
    history: nn.History
    confusion: Array  # [what it is, what was answered], of the held-out images
    images: tuple[int, int]  # how many to train on, how many held out
    mistakes: Array  # (M, H, W), the held-out images answered wrongly
    mistaken: list[tuple[int, int]]  # for each of them: what it is, what was answered

    @property
    def accuracy(self) -> float:
        """The fraction of held-out images answered rightly."""
        return float(np.trace(self.confusion) / self.confusion.sum())


def digits() -> tuple[Array, Array]:
    """scikit-learn's 1797 digits of 8 x 8 pixels in [0, 1], and which they are."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return (pixels / 16).astype(np.float32).reshape(-1, 1, 8, 8), labels


def faces() -> tuple[Array, Array]:
    """scikit-image's lfw_subset, 25 x 25 pixels in [0, 1]: 100 faces, and 100 pieces of pictures without one."""
    try:
        from skimage.data import lfw_subset  # comes with the library: nothing is downloaded
    except ImportError as error:
        raise ImportError('the faces come with scikit-image: pip install "npconv[demo]"') from error
    pixels = lfw_subset().astype(np.float32)
    return pixels[:, None], np.repeat([1, 0], 100)


#: Mirrored digits are none, mirrored faces are faces.
TASKS = {
    "digits": Task("digits", tuple("0123456789"), digits, 15, {"crop": 1}, 32),
    "faces": Task("faces", ("no face", "face"), faces, 20, {"crop": 2, "flip": True}, 16),
}


def network(classes: int, rng: np.random.Generator) -> nn.Sequential:
    """Images (N, 1, H, W) of at least 8 x 8 pixels to scores (N, classes)."""
    return nn.Sequential(
        conv1=nn.Conv(1, 24, 3, padding=1, rng=rng),
        norm1=nn.BatchNorm(24),
        relu1=nn.ReLU(),
        conv2=nn.Conv(24, 24, 3, padding=1, rng=rng),
        norm2=nn.BatchNorm(24),
        relu2=nn.ReLU(),
        pool=nn.MaxPool(2),
        conv3=nn.Conv(24, 48, 3, padding=1, rng=rng),
        norm3=nn.BatchNorm(48),
        relu3=nn.ReLU(),
        shrink=nn.AdaptiveAvgPool(4, rank=2),
        flatten=nn.Flatten(),
        dropout=nn.Dropout(0.3, rng=rng),
        dense=nn.Linear(16 * 48, classes, rng=rng),
    )


def split(task: Task, rng: np.random.Generator) -> tuple[Array, Array, Array, Array]:
    """The images, shuffled: three quarters to train on, one quarter held out."""
    x, y = task.images()
    order = rng.permutation(len(y))
    cut = len(y) * 3 // 4
    x, y = x[order], y[order]
    return x[:cut], y[:cut], x[cut:], y[cut:]


def train(
    name: str = "digits",
    *,
    epochs: int | None = None,
    seed: int = 0,
    step: Callable[[nn.Progress], Any] | None = None,
) -> Training:
    """Train from random weights; all chance comes from `seed`, and `step` is called after every batch."""
    task = TASKS[name]
    epochs = epochs or task.epochs
    rng = np.random.default_rng(seed)
    x, y, x_test, y_test = split(task, rng)
    model = network(len(task.labels), rng)
    history = nn.fit(
        model,
        (x, y),
        loss=nn.CrossEntropy(label_smoothing=0.05),
        optimizer=nn.AdamW(model, rate=0.006),
        epochs=epochs,
        batch_size=task.batch,
        validation=(x_test, y_test),
        schedule=nn.warm_up(1, nn.cosine(max(epochs - 1, 1), 0.01)),
        augment=nn.augment(**task.augment),
        callback=step,
        rng=rng,
    )
    answers = model(x_test).argmax(1)
    counts = np.zeros((len(task.labels),) * 2, np.int64)
    np.add.at(counts, (y_test, answers), 1)
    wrong = answers != y_test
    pairs = [(int(a), int(b)) for a, b in zip(y_test[wrong], answers[wrong], strict=True)]
    return Training(task, model, history, counts, (len(y), len(y_test)), x_test[wrong, 0], pairs)
