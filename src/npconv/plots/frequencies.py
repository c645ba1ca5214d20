"""A convolution as a product of spectra."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import FigureBase
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike

from .. import conv
from .drawable import arrays
from .images import image
from .style import figure_of, magnitude


def spectra(x: ArrayLike, kernel: ArrayLike, *, figure: FigureBase | None = None) -> dict[str, AxesImage]:
    """Image, kernel and result, and below each its spectrum: the third is the product of the first two.

    Parameters
    ----------
    x : array_like, (H, W)
        The image.
    kernel : array_like, (h, w)
        The kernel, no larger.
    figure : matplotlib.figure.FigureBase, optional
        A new pyplot figure by default.

    Returns
    -------
    dict of str to matplotlib.image.AxesImage
        "image", "kernel", "result" and the "image spectrum", "kernel spectrum", "result spectrum": magnitudes of the
        frequencies on a logarithmic scale, the lowest in the middle.

    Raises
    ------
    ValueError
        If the kernel does not fit into the image.

    Notes
    -----
    All spectra are of images that were continued by zeros to (H + h - 1, W + w - 1), so that nothing wraps around. A
    correlation multiplies by the conjugate of the kernel's transform, whose magnitude is the same. The result is
    ``npconv.conv(x, kernel, padding="full", algorithm="fft")``.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from npconv import plots
    >>> drawn = plots.spectra(np.eye(16), np.ones((3, 3)), figure=Figure())
    >>> drawn["result"].get_array().shape
    (18, 18)
    """
    op = "plots.spectra"
    given = arrays(op, x=x, kernel=kernel)
    picture, small = (array.astype(np.float64) for array in given.values())
    if (
        picture.ndim != 2
        or small.ndim != 2
        or not all(0 < k <= n for k, n in zip(small.shape, picture.shape, strict=True))
    ):
        raise ValueError(
            f"{op}: x.shape is {picture.shape} and kernel.shape {small.shape}, expected (H, W) and (h, w), no larger"
        )
    result = conv(picture[None], small[None, None], padding="full", algorithm="fft")[0]
    first, second = (np.fft.fft2(array, result.shape) for array in (picture, small))
    pictures = {"image": picture, "kernel": small, "result": result}
    spectrums = {"image spectrum": first, "kernel spectrum": second, "result spectrum": first * second.conj()}
    ratio = picture.shape[0] / picture.shape[1]
    whole = figure_of(figure, (7.2, 2 * (2.3 * min(ratio, 2) + 0.55)))
    grid = whole.subplots(2, 3)
    for ax in grid.flat:
        ax.set_anchor("N")  # titles at one height, whatever the kernel's shape
    drawn = {}
    for ax, (name, array) in zip(grid[0], pictures.items(), strict=True):
        # What is negative by rounding alone is no sign.
        drawn[name] = image(array, ax=ax, title=name, signed=bool(array.min() < -1e-9 * magnitude(array)))
    for ax, (name, array) in zip(grid[1], spectrums.items(), strict=True):
        strength = np.log1p(np.abs(np.fft.fftshift(array)))
        drawn[name] = image(strength, ax=ax, title=name, size=False)
    for ax, sign in zip(grid[1, 1:], "×=", strict=True):
        ax.text(-0.12, 0.5, sign, transform=ax.transAxes, ha="center", va="center", fontsize="x-large")
    return drawn
