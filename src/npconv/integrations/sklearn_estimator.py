"""scikit-learn: a small convolutional network as a classifier and as a regressor.

    ConvClassifier(image_shape=(1, 8, 8)).fit(X, y).predict(X)

X has an image per row, flattened, as scikit-learn has them; `image_shape` says what the rows were.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        'npconv.integrations.sklearn_estimator needs scikit-learn: pip install "npconv[sklearn]"'
    ) from error

import numpy as np

from .. import nn

if TYPE_CHECKING:
    from ..nn.layer import Array, Layer
    from ..nn.losses import Loss

#: (shape of an image with its channels, outputs, generator) -> a model
Network = Callable[[tuple[int, ...], int, np.random.Generator], "Layer"]


def small_network(channels: tuple[int, ...]) -> Network:
    """A network of a convolution of 3 per entry of `channels`, pools between them while there is room, and a product."""

    def network(shape: tuple[int, ...], outputs: int, rng: np.random.Generator) -> Layer:
        layers: list[Any] = []
        inputs, sizes = shape[0], shape[1:]
        for width in channels:
            if layers and min(sizes) >= 4:
                layers.append(nn.MaxPool(2, rank=len(sizes)))
                sizes = layers[-1].out_shape((1, inputs, *sizes))[2:]
            layers += [nn.Conv(inputs, width, (3,) * len(sizes), padding=1, rng=rng), nn.ReLU()]
            inputs = width
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs * int(np.prod(sizes)), outputs, rng=rng))

    return network


class _Estimator(BaseEstimator):
    """What both share: parameters, scaling, training. `__init__` only keeps what it is given, as scikit-learn asks."""

    def __init__(
        self,
        image_shape: tuple[int, ...] | None = None,
        *,
        channels: tuple[int, ...] = (16, 32),
        network: Network | None = None,
        epochs: int = 40,
        batch_size: int = 32,
        rate: float = 3e-3,
        decay: float = 1e-4,
        early_stopping: int | None = None,
        validation_fraction: float = 0.1,
        augment: Callable[[Any, np.random.Generator], Any] | None = None,
        random_state: Any = None,
    ) -> None:
        self.image_shape = image_shape
        self.channels = channels
        self.network = network
        self.epochs = epochs
        self.batch_size = batch_size
        self.rate = rate
        self.decay = decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.augment = augment
        self.random_state = random_state

    def _images(self, X: Array) -> Array:
        """The rows as images (N, C, ...), scaled as those of the training were."""
        shape = (1, X.shape[1]) if self.image_shape is None else tuple(self.image_shape)
        if len(shape) < 2 or int(np.prod(shape)) != X.shape[1]:
            raise ValueError(
                f"{type(self).__name__}: image_shape is {shape}, needs (channels, ...) with a product of "
                f"{X.shape[1]}, the number of features"
            )
        return ((X - self._mean) / self._deviation).reshape(len(X), *shape)

    def _train(self, X: Array, y: Array, outputs: int, loss: Loss) -> None:
        rng = np.random.default_rng(check_random_state(self.random_state).randint(2**31, size=4))
        # One scale for all pixels keeps an image an image; rows of features have a scale each.
        axis = 0 if self.image_shape is None else None
        self._mean, deviation = X.mean(axis), X.std(axis)
        self._deviation = np.where(deviation > 0, deviation, 1)
        x = self._images(X).astype(np.float32)
        held_out = None
        if self.early_stopping is not None:
            order, cut = rng.permutation(len(x)), max(round(self.validation_fraction * len(x)), 1)
            if not 0 < self.validation_fraction < 1 or cut >= len(x):
                raise ValueError(
                    f"{type(self).__name__}: validation_fraction is {self.validation_fraction!r} of {len(x)} samples"
                )
            held_out, x, y = (x[order[:cut]], y[order[:cut]]), x[order[cut:]], y[order[cut:]]
        make = self.network or small_network(tuple(self.channels))
        self.model_ = make(x.shape[1:], outputs, rng)
        self.history_ = nn.fit(
            self.model_,
            (x, y),
            loss=loss,
            optimizer=nn.AdamW(self.model_, rate=self.rate, decay=self.decay),
            epochs=self.epochs,
            batch_size=self.batch_size,
            validation=held_out,
            early_stopping=self.early_stopping,
            schedule=nn.cosine(max(self.epochs, 1), 0.01),
            clip=5.0,
            augment=self.augment,
            rng=rng,
        )
        self.n_iter_ = len(self.history_)

    def _outputs(self, X: Any) -> Array:
        """What the network says, in float64, so that a row's answer does not depend on the rows beside it."""
        check_is_fitted(self)
        x = self._images(validate_data(self, X, reset=False, dtype=np.float64))
        parts = [self.model_(x[start : start + 256]) for start in range(0, len(x), 256)]
        return np.concatenate(parts)


class ConvClassifier(ClassifierMixin, _Estimator):
    """Images to classes.

    Parameters
    ----------
    image_shape : tuple of int, optional
        (channels, height, width) of what a row of X holds, of any rank; None for a row of features, which is
        convolved along itself.
    channels : tuple of int
        The width of each convolution of the network, unless `network` makes another.
    network : callable, optional
        (image_shape, outputs, rng) -> an `npconv.nn` model.
    epochs, batch_size, rate, decay
        Of the training with AdamW; the rate falls as half a wave.
    early_stopping : int, optional
        Stop after so many epochs without a smaller loss on held-out samples.
    validation_fraction : float
        How many samples are held out for that.
    augment : callable, optional
        (images, generator) -> images: `npconv.nn.augment`.
    random_state : int, RandomState or None
        Where all chance comes from.

    Attributes
    ----------
    classes_ : ndarray
        The labels, sorted.
    model_ : Layer
        The trained network.
    history_ : History
        Its losses by epoch.
    n_iter_, n_features_in_ : int
        How many epochs it took, how many features a row has.

    Examples
    --------
    >>> import numpy as np
    >>> from npconv.integrations.sklearn_estimator import ConvClassifier
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat(["left", "right"], 20)
    >>> X = rng.normal(size=(40, 4, 4))
    >>> X[:20, :, :2] += 2
    >>> X[20:, :, 2:] += 2
    >>> model = ConvClassifier((1, 4, 4), epochs=10, random_state=0).fit(X.reshape(40, 16), y)
    >>> model.score(X.reshape(40, 16), y) > 0.9
    True
    """

    def fit(self, X: Any, y: Any) -> ConvClassifier:
        """Train on rows X and their labels y."""
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, classes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"{type(self).__name__}: y has one class, {self.classes_[0]!r}; there is nothing to tell apart"
            )
        self._train(X, classes, len(self.classes_), nn.CrossEntropy())
        return self

    def predict_proba(self, X: Any) -> Array:
        """The probability of every class, (N, classes)."""
        scores = self._outputs(X)
        e = np.exp(scores - scores.max(1, keepdims=True))
        found: Array = e / e.sum(1, keepdims=True)
        return found

    def decision_function(self, X: Any) -> Array:
        """The scores; for two classes the second's lead over the first."""
        scores = self._outputs(X)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: Any) -> Array:
        """The likeliest class of every row."""
        best = self._outputs(X).argmax(1)
        found: Array = self.classes_[best]
        return found


class ConvRegressor(RegressorMixin, _Estimator):
    """Images to numbers, one or several per image. Parameters and attributes as `ConvClassifier`'s, but for classes.

    Examples
    --------
    >>> import numpy as np
    >>> from npconv.integrations.sklearn_estimator import ConvRegressor
    >>> X = np.random.default_rng(0).normal(size=(60, 16))
    >>> model = ConvRegressor((1, 4, 4), random_state=0).fit(X, X[:, :8].sum(1))
    >>> model.score(X, X[:, :8].sum(1)) > 0.9
    True
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any) -> ConvRegressor:
        """Train on rows X and their numbers y, (N,) or (N, outputs)."""
        X, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        table = y.reshape(len(y), -1).astype(np.float64)
        self._one = y.ndim == 1
        self._y_mean = table.mean(0)
        deviation = table.std(0)
        self._y_deviation = np.where(deviation > 0, deviation, 1)
        scaled = ((table - self._y_mean) / self._y_deviation).astype(np.float32)
        self._train(X, scaled, table.shape[1], nn.MSE())
        return self

    def predict(self, X: Any) -> Array:
        """The numbers of every row."""
        y = self._outputs(X) * self._y_deviation + self._y_mean
        return y[:, 0] if self._one else y
