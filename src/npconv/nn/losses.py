"""Losses: one number for how wrong the scores are, and its gradient with respect to them.

    value, g = loss(scores, target)

The value is the mean, as torch's default reduction: over the images (and pixels) for cross-entropy, over all numbers
for the others. `g` has the shape and dtype of `scores` and goes straight into `model.backward`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..reading import shown

if TYPE_CHECKING:
    from .layer import Array


class Loss:
    """What training makes small; subclasses compute.

    A subclass has `__call__(scores, target)`, which returns the value and the gradient, and may have `metrics`.
    """

    def __call__(self, scores: Any, target: Any) -> tuple[float, Array]:
        raise NotImplementedError(f"{type(self).__name__} has no __call__")

    def metrics(self, scores: Any, target: Any) -> dict[str, float]:
        """Means that a reader of the history understands better than the loss, such as the accuracy."""
        return {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in vars(self).items())})"


class CrossEntropy(Loss):
    """Minus the logarithm of the probability that softmax gives to the right class.

        p = exp(scores) / sum of exp(scores)        value = mean of -log p[class]        g = (p - [class]) / N

    Parameters
    ----------
    label_smoothing : float
        The target is the right class with 1 - s, and every class with s / K more.
    axis : int
        Where the classes are: 1 as in torch; -1 for channels last.

    Examples
    --------
    >>> import numpy as np
    >>> from npconv import nn
    >>> value, g = nn.CrossEntropy()(np.array([[0.0, 0.0], [1.0, 3.0]]), np.array([0, 1]))
    >>> round(value, 4)
    0.41
    >>> g.round(2)
    array([[-0.25,  0.25],
           [ 0.06, -0.06]])
    """

    def __init__(self, label_smoothing: float = 0.0, *, axis: int = 1) -> None:
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"CrossEntropy: label_smoothing is {shown(label_smoothing)}, needs a number from 0 to 1")
        self.label_smoothing, self.axis = float(label_smoothing), int(axis)

    def __call__(self, scores: Any, target: Any) -> tuple[float, Array]:
        """The loss and its gradient.

        Parameters
        ----------
        scores : array_like, (N, K, ...)
            Any numbers; softmax is part of the loss.
        target : array_like, (N, ...) of int, or (N, K, ...) of float
            The right classes, or the probability of each.
        """
        x, classes = self._read(scores, target)
        z = np.moveaxis(x, self.axis, -1)
        # Only differences of scores matter; without the largest, no exponential overflows.
        z = z - z.max(-1, keepdims=True)
        exps = np.exp(z)
        sums = exps.sum(-1, keepdims=True)
        log_p = z - np.log(sums)
        k, s = z.shape[-1], self.label_smoothing
        count = log_p.size // k
        g = exps / sums
        if classes.dtype.kind == "f":
            p = np.moveaxis(classes, self.axis, -1) * (1 - s) + s / k
            value = -(p * log_p).sum(dtype=np.float64)
            g *= p.sum(-1, keepdims=True)
            g -= p
        else:
            index = classes[..., None]
            right = np.take_along_axis(log_p, index, -1)
            value = -(1 - s) * right.sum(dtype=np.float64)
            np.put_along_axis(g, index, np.take_along_axis(g, index, -1) - g.dtype.type(1 - s), -1)
            if s:
                value -= s / k * log_p.sum(dtype=np.float64)
                g -= g.dtype.type(s / k)
        g /= count
        return float(value / count), np.asarray(np.moveaxis(g, -1, self.axis), scores_dtype(scores), order="C")

    def metrics(self, scores: Any, target: Any) -> dict[str, float]:
        """The fraction of right answers."""
        x, classes = self._read(scores, target)
        if classes.dtype.kind == "f":
            classes = classes.argmax(self.axis)
        return {"accuracy": float((x.argmax(self.axis) == classes).mean())}

    def _read(self, scores: Any, target: Any) -> tuple[Array, Array]:
        x, classes = real(self, "scores", scores), np.asarray(target)
        if not -x.ndim <= self.axis < x.ndim or x.ndim < 2:
            raise ValueError(f"CrossEntropy: scores have shape {x.shape}; the classes are on axis {self.axis}")
        axis = self.axis % x.ndim
        k, places = x.shape[axis], x.shape[:axis] + x.shape[axis + 1 :]
        if classes.dtype.kind == "f" and classes.shape == x.shape:
            return x, classes.astype(x.dtype, copy=False)
        if classes.dtype.kind in "biu" and classes.shape == x.shape:
            raise ValueError(
                f"CrossEntropy: the target has the scores' shape {x.shape} and dtype {classes.dtype}: "
                f"target.argmax({self.axis}) if it is one-hot, target.astype(float) if it holds probabilities"
            )
        if classes.shape != places:
            raise ValueError(
                f"CrossEntropy: the target has shape {classes.shape}; for scores of shape {x.shape} it is {places} "
                f"with a class from 0 to {k - 1} each, or {x.shape} with probabilities"
            )
        if classes.dtype.kind not in "iu":
            number = "target.astype(int)" if classes.dtype.kind in "fb" else "np.unique(target, return_inverse=True)[1]"
            raise TypeError(f"CrossEntropy: the target has dtype {classes.dtype}; classes are whole numbers: {number}")
        wrong = (classes < 0) | (classes >= k)
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise ValueError(
                f"CrossEntropy: the target at {at} is {classes[at]}, but the scores have {k} classes, 0 to {k - 1}"
            )
        return x, classes.astype(np.intp, copy=False)


class Elementwise(Loss):
    """A mean over all numbers of a function of score and target; a subclass has `of`, its value and slope."""

    def of(self, x: Array, t: Array) -> tuple[Array, Array]:
        """The loss of each number, and its derivative with respect to the score."""
        raise NotImplementedError(f"{type(self).__name__} has no of")

    def __call__(self, scores: Any, target: Any) -> tuple[float, Array]:
        """The mean, and its gradient; scores and target have one shape."""
        values, slopes = self.of(*self._read(scores, target))
        slopes /= values.size
        return float(values.mean(dtype=np.float64)), slopes.astype(scores_dtype(scores), copy=False)

    def _read(self, scores: Any, target: Any) -> tuple[Array, Array]:
        x, t = real(self, "scores", scores), real(self, "the target", target)
        if x.shape != t.shape:
            hint = f"; target.reshape({x.shape}) would fit" if x.size == t.size else ""
            raise ValueError(
                f"{type(self).__name__}: scores have shape {x.shape}, but the target has shape {t.shape}{hint}"
            )
        return x, t.astype(x.dtype, copy=False)


class MSE(Elementwise):
    """The mean of squared differences: (x - t)².

    Examples
    --------
    >>> import numpy as np
    >>> from npconv import nn
    >>> value, g = nn.MSE()(np.array([1.0, 4.0]), np.array([1.0, 2.0]))
    >>> value, g.tolist()
    (2.0, [0.0, 2.0])
    """

    def of(self, x: Array, t: Array) -> tuple[Array, Array]:
        d = x - t
        return d * d, 2 * d


class L1(Elementwise):
    """The mean of absolute differences: |x - t|. At x = t the slope is taken as 0."""

    def of(self, x: Array, t: Array) -> tuple[Array, Array]:
        d = x - t
        return np.abs(d), np.sign(d)


class Huber(Elementwise):
    """Squares near zero, absolute values beyond: d² / 2 where |d| <= delta, else delta (|d| - delta / 2).

    Parameters
    ----------
    delta : float
        Where one becomes the other.
    """

    def __init__(self, delta: float = 1.0) -> None:
        if not 0 < delta < np.inf:
            raise ValueError(f"Huber: delta is {shown(delta)}, needs a number above 0")
        self.delta = float(delta)

    def of(self, x: Array, t: Array) -> tuple[Array, Array]:
        d = x - t
        slope = np.clip(d, -self.delta, self.delta)
        # slope (d - slope / 2) is d² / 2 inside, and delta (|d| - delta / 2) outside.
        return slope * (d - slope / 2), slope


class BCEWithLogits(Elementwise):
    """Binary cross-entropy: minus the log of the probability that the sigmoid of the score gives to the target.

        value = mean of log(1 + e^x) - t x        g = (sigmoid(x) - t) / size

    The target holds numbers from 0 to 1 (or booleans), in the shape of the scores.
    """

    def of(self, x: Array, t: Array) -> tuple[Array, Array]:
        wrong = ~((t >= 0) & (t <= 1))
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise ValueError(f"BCEWithLogits: the target at {at} is {t[at]}, needs numbers from 0 to 1")
        # 1 / (1 + e^-x) is e^-log(1 + e^-x), and logaddexp never overflows.
        return np.logaddexp(0, x) - t * x, np.exp(-np.logaddexp(0, -x)) - t

    def metrics(self, scores: Any, target: Any) -> dict[str, float]:
        """The fraction of scores on the right side of 0."""
        x, t = self._read(scores, target)
        return {"accuracy": float(((x > 0) == (t > 0.5)).mean())}


def scores_dtype(scores: Any) -> np.dtype[Any]:
    """The dtype of a gradient: that of the scores, where they are floats."""
    dtype = np.asarray(scores).dtype
    return np.dtype(np.float64) if dtype.kind in "biu" else dtype


def real(loss: Loss, name: str, value: Any) -> Array:
    """An array of float32 or float64: half precision is widened, whole numbers become floats."""
    array = np.asarray(value)
    if array.dtype.kind not in "fbiu" and array.dtype.name != "bfloat16":
        raise TypeError(f"{type(loss).__name__}: {name} has dtype {array.dtype}, needs real numbers")
    if not array.size:
        raise ValueError(f"{type(loss).__name__}: {name} has shape {array.shape}: there is nothing to average")
    if array.dtype.kind in "biu":
        return array.astype(np.float64)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)
