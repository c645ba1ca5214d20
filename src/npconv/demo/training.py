"""A small network that learns to read digits, written out on npconv's operators; an example, not a library.

    (N, 1, 8, 8) -> conv 3x3, relu -> max-pool 2 -> conv 3x3, relu -> dense -> 10 scores, softmax

`forward` keeps what `backward` needs; every line of `backward` undoes one line of `forward`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import conv, conv_grads, max_pool, max_pool_grad

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]


@dataclass(frozen=True)
class Training:
    """What was learned, and how it went."""

    weights: Arrays
    loss: list[float]  # mean over the training images, per epoch
    seen: list[float]  # accuracy on the training images, per epoch
    held_out: list[float]  # accuracy on images the network never trained on, per epoch
    confusion: Array  # [what it is, what was answered], of the held-out images
    images: tuple[int, int]  # how many to train on, how many held out
    mistakes: Array  # (M, 8, 8), the held-out images read wrongly
    mistaken: list[tuple[int, int]]  # for each of them: what it is, what was answered
    seconds: float


def start(rng: np.random.Generator) -> Arrays:
    """Random weights whose outputs have the size of their inputs (He et al., 2015); zero biases."""

    def normal(*shape: int, inputs: int) -> Array:
        return (rng.standard_normal(shape) * np.sqrt(2 / inputs)).astype(np.float32)

    zeros = {f"b{i}": np.zeros(n, np.float32) for i, n in ((1, 16), (2, 32), (3, 10))}
    return zeros | {
        "w1": normal(16, 1, 3, 3, inputs=9),
        "w2": normal(32, 16, 3, 3, inputs=144),
        "w3": normal(512, 10, inputs=512),
    }


def forward(p: Arrays, x: Array) -> tuple[Array, Arrays]:
    """The scores (N, 10) of images x (N, 1, 8, 8), and the layers' outputs on the way."""
    a = np.maximum(conv(x, p["w1"], p["b1"], padding=1), 0)  # (N, 16, 8, 8)
    b = max_pool(a, 2)  # (N, 16, 4, 4)
    c = np.maximum(conv(b, p["w2"], p["b2"], padding=1), 0)  # (N, 32, 4, 4)
    scores = c.reshape(len(x), -1) @ p["w3"] + p["b3"]  # (N, 10)
    return scores, {"x": x, "a": a, "b": b, "c": c}


def backward(p: Arrays, kept: Arrays, g: Array) -> Arrays:
    """The gradients of all weights, from g, the gradient of the scores."""
    x, a, b, c = kept["x"], kept["a"], kept["b"], kept["c"]
    dw3, db3 = c.reshape(len(x), -1).T @ g, g.sum(0)
    dc = (g @ p["w3"].T).reshape(c.shape) * (c > 0)
    db, dw2, db2 = conv_grads(dc, b, p["w2"], padding=1)
    da = max_pool_grad(db, a, 2) * (a > 0)
    _, dw1, db1 = conv_grads(da, x, p["w1"], padding=1)
    return {"w1": dw1, "b1": db1, "w2": dw2, "b2": db2, "w3": dw3, "b3": db3}


def cross_entropy(scores: Array, labels: Array) -> tuple[float, Array]:
    """The mean -log of the probability given to the right digit, and its gradient."""
    e = np.exp(scores - scores.max(1, keepdims=True))
    probabilities = e / e.sum(1, keepdims=True)
    rows = np.arange(len(labels))
    loss = float(-np.log(probabilities[rows, labels] + 1e-12).mean())
    probabilities[rows, labels] -= 1
    return loss, probabilities / len(labels)


class Adam:
    """Steps of about `rate`, whatever the size of the gradient (Kingma & Ba, 2015)."""

    def __init__(self, p: Arrays) -> None:
        self.mean = {name: np.zeros_like(v) for name, v in p.items()}
        self.square = {name: np.zeros_like(v) for name, v in p.items()}
        self.steps = 0

    def step(self, p: Arrays, grads: Arrays, rate: float) -> None:
        self.steps += 1
        for name, g in grads.items():
            self.mean[name] += 0.1 * (g - self.mean[name])
            self.square[name] += 0.001 * (g * g - self.square[name])
            m = self.mean[name] / (1 - 0.9**self.steps)
            v = self.square[name] / (1 - 0.999**self.steps)
            p[name] -= (rate * m / (np.sqrt(v) + 1e-8)).astype(np.float32)


def digits(rng: np.random.Generator) -> tuple[Array, Array, Array, Array]:
    """scikit-learn's 1797 digits in [0, 1], shuffled: three quarters to train on, one quarter held out."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = rng.permutation(len(labels))
    x = (pixels[order] / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    y, cut = labels[order], len(labels) * 3 // 4
    return x[:cut], y[:cut], x[cut:], y[cut:]


def train(epochs: int = 12, seed: int = 0, batch: int = 32, step: Callable[[str], None] | None = None) -> Training:
    """Train from random weights; `step` is called after every epoch with a line about it."""
    began = time.perf_counter()
    rng = np.random.default_rng(seed)
    x, y, x_test, y_test = digits(rng)
    p = start(rng)
    adam = Adam(p)
    losses, seen, held_out = [], [], []
    for epoch in range(epochs):
        rate = 0.005 * (1 + np.cos(np.pi * epoch / epochs)) / 2 + 1e-4
        order, loss, right = rng.permutation(len(y)), 0.0, 0
        for first in range(0, len(y), batch):
            chosen = order[first : first + batch]
            scores, kept = forward(p, x[chosen])
            part, g = cross_entropy(scores, y[chosen])
            adam.step(p, backward(p, kept, g), rate)
            loss += part * len(chosen) / len(y)
            right += int((scores.argmax(1) == y[chosen]).sum())
        answers = forward(p, x_test)[0].argmax(1)
        losses.append(loss)
        seen.append(right / len(y))
        held_out.append(float((answers == y_test).mean()))
        if step:
            step(f"epoch {epoch + 1} of {epochs}: loss {loss:.3f}, {held_out[-1]:.1%} of held-out digits right")
    counts = np.zeros((10, 10), np.int64)
    np.add.at(counts, (y_test, answers), 1)
    wrong = answers != y_test
    pairs = [(int(a), int(b)) for a, b in zip(y_test[wrong], answers[wrong], strict=True)]
    seconds = time.perf_counter() - began
    return Training(p, losses, seen, held_out, counts, (len(y), len(y_test)), x_test[wrong, 0], pairs, seconds)
