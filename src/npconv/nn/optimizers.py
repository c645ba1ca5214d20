"""Optimizers: how a gradient changes the parameters. Each does exactly what torch's of the same name does.

    opt = SGD(model, rate=0.1, momentum=0.9)
    opt.step(grads)                              the gradients as `model.backward` returns them

`rate` may be set between steps. `opt.state()` is all that an interrupted training needs to go on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from .layer import Layer
from .optimizer import Optimizer, fraction, positive

if TYPE_CHECKING:
    from .layer import Array


class SGD(Optimizer):
    """Against the gradient; with momentum, along its running sum.

        v = momentum v + g        p -= rate v        with Nesterov's look ahead: p -= rate (g + momentum v)

    Parameters
    ----------
    model : Layer or mapping of str to ndarray
        What is trained.
    rate : float
        How far a step goes.
    momentum : float
        How much of the sum a step keeps.
    nesterov : bool
        Whether to look one step ahead; needs momentum.
    decay : float
        How much of each parameter is added to its gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from npconv import nn
    >>> p = {"weight": np.array([1.0, 2.0])}
    >>> opt = nn.SGD(p, rate=0.1, momentum=0.9)
    >>> for _ in range(2):
    ...     opt.step({"weight": np.array([1.0, -1.0])})
    >>> p["weight"].round(3).tolist()
    [0.71, 2.29]
    """

    def __init__(
        self,
        model: Layer | Mapping[str, Array],
        *,
        rate: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        decay: float = 0.0,
    ) -> None:
        self.momentum, self.nesterov = fraction(self, "momentum", momentum), bool(nesterov)
        if nesterov and not momentum:
            raise ValueError("SGD: nesterov looks along the momentum, and needs one above 0")
        self.slots = ("velocity",) if momentum else ()
        super().__init__(model, rate=rate, decay=decay)

    def update(self, p: Array, g: Array, *averages: Array) -> None:
        if averages:
            v = averages[0]
            v *= self.momentum
            v += g
            if self.nesterov:
                g += self.momentum * v
            else:
                g[...] = v
        g *= self.rate
        p -= g


class Adam(Optimizer):
    """Steps of about `rate`, whatever the size of the gradient (Kingma and Ba, 2015).

        m = b1 m + (1 - b1) g        v = b2 v + (1 - b2) g²        p -= rate m' / (sqrt(v') + eps)

    m' and v' are m / (1 - b1^t) and v / (1 - b2^t): averages that began at 0, corrected for it.

    Parameters
    ----------
    model : Layer or mapping of str to ndarray
        What is trained.
    rate : float
        How far a step goes.
    betas : (float, float)
        How much the averages of g and g² keep.
    eps : float
        What keeps the division finite.
    decay : float
        How much of each parameter is added to its gradient. `AdamW` does better.
    """

    slots = ("mean", "square")

    def __init__(
        self,
        model: Layer | Mapping[str, Array],
        *,
        rate: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        decay: float = 0.0,
    ) -> None:
        self.betas = fraction(self, "betas[0]", betas[0]), fraction(self, "betas[1]", betas[1])
        self.eps = positive(self, "eps", eps)
        super().__init__(model, rate=rate, decay=decay)

    def update(self, p: Array, g: Array, *averages: Array) -> None:
        mean, square = averages
        b1, b2 = self.betas
        change = g - mean
        change *= 1 - b1
        mean += change
        square *= b2
        g *= g
        g *= 1 - b2
        square += g
        np.sqrt(square, out=g)
        g /= float(np.sqrt(1 - b2**self.steps))
        g += self.eps
        np.divide(mean, g, out=g)
        g *= self.rate / (1 - b1**self.steps)
        p -= g


class AdamW(Adam):
    """Adam whose decay shrinks the parameters themselves, past the averages (Loshchilov and Hutter, 2019).

        p *= 1 - rate decay, then Adam's step

    Parameters
    ----------
    model, rate, betas, eps
        As in `Adam`.
    decay : float
        How much a step of rate 1 would take off each parameter.
    """

    def __init__(
        self,
        model: Layer | Mapping[str, Array],
        *,
        rate: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        decay: float = 0.01,
    ) -> None:
        super().__init__(model, rate=rate, betas=betas, eps=eps, decay=decay)

    def pull(self, p: Array, g: Array) -> None:
        p *= 1 - self.rate * self.decay


class RMSprop(Optimizer):
    """The gradient divided by its root mean square (Tieleman and Hinton, 2012).

        v = alpha v + (1 - alpha) g²        p -= rate g / (sqrt(v) + eps)

    Parameters
    ----------
    model : Layer or mapping of str to ndarray
        What is trained.
    rate : float
        How far a step goes.
    alpha : float
        How much the average of g² keeps.
    eps : float
        What keeps the division finite.
    momentum : float
        How much of the running sum of steps is kept.
    decay : float
        How much of each parameter is added to its gradient.
    """

    def __init__(
        self,
        model: Layer | Mapping[str, Array],
        *,
        rate: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        decay: float = 0.0,
    ) -> None:
        self.alpha, self.eps = fraction(self, "alpha", alpha), positive(self, "eps", eps)
        self.momentum = fraction(self, "momentum", momentum)
        self.slots = ("square", "velocity") if momentum else ("square",)
        super().__init__(model, rate=rate, decay=decay)

    def update(self, p: Array, g: Array, *averages: Array) -> None:
        square, *rest = averages
        square *= self.alpha
        square += (1 - self.alpha) * (g * g)
        root = np.sqrt(square)
        root += self.eps
        g /= root
        for v in rest:
            v *= self.momentum
            v += g
            g = v
        p -= self.rate * g
