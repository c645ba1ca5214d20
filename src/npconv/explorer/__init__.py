"""The explorer: the forward and the backward pass of one convolution or pool, number by number, and models layer by layer.

The page is plain ES modules and one style sheet in `web`; the arithmetic on it runs in the browser. The Python here
joins them (`bundle`), puts problems and models into them (`problem`, `walk`), and is their host (`page`, `server`,
`widget`).
"""

from __future__ import annotations

from typing import Any

from .hosts import Explorer
from .page import TITLE

__all__ = ["Explorer", "explore"]


def explore(what: Any = None, other: Any = None, bias: Any = None, /, **options: Any) -> Explorer:
    """Look into a convolution, a pool or a model: every product, every sum, every gradient.

        explore()                                   a small example
        explore(x, w, bias, stride=2)               a convolution of yours
        explore(x, operator="max_pool", kernel=2)   a pool
        explore(model, image)                       a model, layer by layer
        explore("model.onnx", "photo.png")          the same from files

    Parameters
    ----------
    what : array_like, npconv.nn.Layer, path, bytes or onnx.ModelProto, optional
        The input (C, *in) of an operator, one image, with one or two spatial axes of at most 64; or a model.
    other : array_like, path or PIL.Image.Image, optional
        The operator's weights, or a bare kernel; or the model's image: a file, a picture, an array of uint8
        (H, W) or (H, W, C), whose 0..255 become 0..1, or an array as the model takes it. A dict by name for an ONNX
        model of several inputs.
    bias : array_like, optional
        (O,), for an operator with weights.
    **options
        For an operator: `operator`, one of "conv", "conv_transpose", "max_pool" and "avg_pool" ("conv" by default),
        and its keywords. For a model: `target`, the index of the output whose gradients are shown (the largest by
        default; an ONNX model shows no gradients), `labels`, the names of its scores, `size`, the height and width of
        its pictures, where the model does not say, and `name`. For both: `title`.

    Returns
    -------
    Explorer
        It shows itself in a notebook (``pip install "npconv[widget]"``); ``.save("page.html")`` writes a file that
        works offline; ``.serve()`` opens a page of this machine.

    Raises
    ------
    ValueError
        If the operator refuses the arrays, they are larger than the explorer draws, or the model refuses the image.
    TypeError
        For a keyword that there is not.
    ImportError
        For ONNX models without onnx, or pictures without Pillow.

    Examples
    --------
    >>> import numpy as np, npconv
    >>> npconv.explore(np.eye(6), [[1, 2], [3, 4]], stride=2)
    Explorer(conv of (1, 6, 6) with (1, 1, 2, 2) to (1, 3, 3): .save("page.html"), .serve())
    >>> page = npconv.explore().html()
    >>> page[:15], "http://" in page.replace("http://www.w3.org/2000/svg", "")
    ('<!doctype html>', False)
    """
    title = options.pop("title", TITLE)
    if what is None:
        if other is not None or bias is not None or options:
            raise TypeError("explore: there is no input; give explore(x, w) or explore(model, image)")
        return Explorer(title=title)
    from .models import is_model, walk_of
    from .problem import problem

    if not is_model(what):
        return Explorer(problem(what, other, bias, **options), title=title)
    if bias is not None:
        raise TypeError("explore: a model takes an image and no bias")
    walk = walk_of(what, other, options)
    return Explorer(walk=walk, title=title if title != TITLE else f"{walk.model}: {TITLE}")
