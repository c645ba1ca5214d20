"""A kernel that slides, forward and backward, step by step: a GIF, or all steps on one page."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, FigureBase
from numpy.typing import ArrayLike

from ..arguments import choice
from . import steps as passes
from .board import CELL, Board, Drawn, check_size
from .drawable import arrays, drawable, in_shape

#: What `sliding` shows.
PASSES = ("forward", "transposed", "input_grad", "weight_grad")
#: Inches that a page of steps may be wide, and of its cells.
PAGE, PAGE_CELL = 14.0, 0.28


class Animation:
    """The steps of one pass over a small problem, as `sliding` returns them.

    ``len(animation)`` is how many steps there are.

    Examples
    --------
    >>> import numpy as np
    >>> from npconv import plots
    >>> animation = plots.sliding(np.arange(9).reshape(3, 3), [[1, 0], [0, -1]])
    >>> len(animation), animation.caption(0)
    (4, 'y[0, 0] = 0·1 + 1·0 + 3·0 + 4·(−1) = −4')
    """

    def __init__(self, boards: Sequence[Board]) -> None:
        lines = max(len(board.caption) for board in boards)  # room for the longest: all steps have one size
        self._boards = [replace(board, lines=lines) for board in boards]

    def __len__(self) -> int:
        return len(self._boards)

    def caption(self, step: int) -> str:
        """What a step does, in words and numbers."""
        return " ".join(self._boards[step].caption)

    def draw(self, step: int, *, ax: Axes | None = None) -> Drawn:
        """Draw one step, -1 for the last, into an axes that is cleared first, or into a new figure of pyplot's.

        Returns
        -------
        dict
            For each matrix by its title: its cells, and their numbers row by row. A cell that is not known yet is masked.
        """
        board = self._boards[step]
        return board.draw(board.figure() if ax is None else ax)

    def strip(
        self, *, steps: Sequence[int] | None = None, columns: int | None = None, figure: FigureBase | None = None
    ) -> list[Axes]:
        """Draw all steps beside and below each other, for print.

        Parameters
        ----------
        steps : sequence of int, optional
            Which steps, all by default.
        columns : int, optional
            How many beside each other; as many as a page holds by default.
        figure : matplotlib.figure.FigureBase, optional
            A new pyplot figure by default; one that is empty gets the size that suits the steps.

        Returns
        -------
        list of matplotlib.axes.Axes
            One per step.
        """
        chosen = range(len(self)) if steps is None else steps
        width, height = self._boards[0].size
        columns = min(len(chosen), columns or max(1, int(PAGE / (PAGE_CELL * width))))
        rows = -(-len(chosen) // columns)
        inches = (columns * width * PAGE_CELL, rows * height * PAGE_CELL)
        if figure is None:
            from matplotlib import pyplot

            figure = pyplot.figure(figsize=inches)
        elif isinstance(figure, Figure) and not figure.axes:
            figure.set_size_inches(inches)
        found = []
        for i, step in enumerate(chosen):
            row, column = divmod(i, columns)
            ax = figure.add_axes((column / columns, 1 - (row + 1) / rows, 1 / columns, 1 / rows))
            self.draw(step, ax=ax)
            found.append(ax)
        return found

    def save(
        self, path: str | Path, *, seconds: float = 1.0, dpi: float = 100, steps: Sequence[int] | None = None
    ) -> None:
        """Write a GIF; with any other suffix that Matplotlib knows (.png, .pdf, .svg) all steps on one page.

        Parameters
        ----------
        path : str or Path
            The file.
        seconds : float
            How long a GIF shows each step; the last one three times as long.
        dpi : float
            Pixels per inch; a cell is 0.4 inches in a GIF and 0.28 on a page.
        steps : sequence of int, optional
            Which steps, all by default.
        """
        if Path(path).suffix.lower() != ".gif":
            page = Figure()
            self.strip(steps=steps, figure=page)
            page.savefig(path, dpi=dpi, facecolor="white")
            return
        Path(path).write_bytes(self._gif(seconds, dpi, range(len(self)) if steps is None else steps))

    def _gif(self, seconds: float, dpi: float, chosen: Sequence[int]) -> bytes:
        from PIL import Image

        indices, palette = _shared_palette(self._frames(dpi, chosen))
        first, *rest = map(Image.fromarray, indices)
        for frame in (first, *rest):
            frame.putpalette(palette)
        milliseconds = round(1000 * seconds)
        lasting = [milliseconds] * len(rest) + [3 * milliseconds]
        into = io.BytesIO()
        first.save(into, "GIF", save_all=True, append_images=rest, duration=lasting, loop=0, optimize=True)
        return into.getvalue()

    def _frames(self, dpi: float, chosen: Sequence[int]) -> list[np.ndarray]:
        """Every step as (H, W, 3) of uint8."""
        size = self._boards[0].size
        figure = Figure(figsize=(size[0] * CELL, size[1] * CELL), dpi=dpi, facecolor="white")
        canvas, ax, found = FigureCanvasAgg(figure), figure.add_axes((0, 0, 1, 1)), []
        for step in chosen:
            self.draw(step, ax=ax)
            canvas.draw()
            found.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
        return found

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        data = base64.b64encode(self._gif(1.0, 80, range(len(self)))).decode()
        return f'<img src="data:image/gif;base64,{data}" alt="{len(self)} steps of a sliding kernel">'


def _shared_palette(frames: Sequence[np.ndarray]) -> tuple[list[np.ndarray], bytes]:
    """One palette for all frames, of the colours there are most of: white stays white, and nothing flickers."""
    packed = [frame.astype(np.int32) @ np.array([65536, 256, 1], np.int32) for frame in frames]
    colours, counts = np.unique(np.concatenate([frame.ravel() for frame in packed]), return_counts=True)
    parts = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], 1).astype(np.float32)
    usual = parts[np.argsort(-counts, kind="stable")[:128]]
    apart = (parts**2).sum(1)[:, None] - 2 * parts @ usual.T + (usual**2).sum(1)
    nearest = apart.argmin(1).astype(np.uint8)
    return [nearest[np.searchsorted(colours, frame)] for frame in packed], usual.astype(np.uint8).tobytes()


def sliding(
    x: ArrayLike,
    w: ArrayLike,
    g: ArrayLike | None = None,
    *,
    what: str = "forward",
    bias: ArrayLike | None = None,
    **options: Any,
) -> Animation:
    """A kernel sliding over a small image, with all numbers: forward, transposed, and both gradients.

    forward
        Output by output: the window, the kernel, their products, and the sum.
    transposed
        Input by input: the number times the kernel, added to the output.
    input_grad
        The gradient of x. Output by output: its gradient times the kernel, added to the elements the window read.
    weight_grad
        The gradient of w. Weight by weight: the elements of x it met, times the gradients of the outputs, summed.

    Parameters
    ----------
    x : array_like, (C, *in) or (*in)
        One image with one or two spatial axes; the channel axis may be left out.
    w : array_like, (O, C/G, *k) or (*k)
        As in `npconv.conv`, and for ``what="transposed"`` as in `npconv.conv_transpose`, (C, O/G, *k).
    g : array_like, (O, *out) or (*out), optional
        The gradient of the output; "input_grad" and "weight_grad" need it.
    what : {"forward", "transposed", "input_grad", "weight_grad"}
        The pass.
    bias : array_like, (O,), optional
        Of the forward and the transposed pass.
    **options
        The keywords of `npconv.conv` or `npconv.conv_transpose`: stride, padding, dilation, groups ... The image and
        the kernel are drawn as they are given, so there is no flip and no layout.

    Returns
    -------
    Animation
        `save` writes a GIF, or all steps on one page; `draw` draws one step. A notebook shows it as it is.

    Raises
    ------
    ValueError
        If the shapes do not fit, or there are too many numbers to read.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from npconv import plots
    >>> x, w = np.arange(16).reshape(4, 4), [[1, 2], [3, 4]]
    >>> animation = plots.sliding(x, w, [[1, 0], [2, 1]], what="weight_grad", stride=2)
    >>> cells, texts = animation.draw(-1, ax=Figure().subplots())["dW"]
    >>> [text.get_text() for text in texts]
    ['26', '30', '42', '46']
    """
    op = "plots.sliding"
    choice(op, "what", what, PASSES)
    gradient = what.endswith("grad")
    if (g is None) == gradient:
        raise ValueError(
            f"{op}: what={what!r} needs " + ("g, the gradient of the output" if gradient else "no g; leave it out")
        )
    if gradient and bias is not None:
        raise ValueError(f"{op}: what={what!r} does not depend on the bias; leave it out")
    given = arrays(op, x=x, w=w, **({"g": g} if gradient else {}), **({} if bias is None else {"bias": bias}))
    d = drawable(op, given["x"].shape, given["w"].shape, options, what == "transposed")
    shapes = {"x": d.problem.x_shape, "w": d.problem.w_shape, "g": d.problem.y_shape}
    if what == "transposed":
        shapes["x"] = d.problem.y_shape
    for name, shape in shapes.items():
        if name in given:
            given[name] = in_shape(op, name, given[name], shape)
    check_size(op, d.x_shape, d.w_shape, d.y_shape)
    make: dict[str, Callable[[], list[Board]]] = {
        "forward": lambda: passes.forward(d, given["x"], given["w"], given.get("bias")),
        "transposed": lambda: passes.transposed(d, given["x"], given["w"], given.get("bias")),
        "input_grad": lambda: passes.input_grad(d, given["w"], given["g"]),
        "weight_grad": lambda: passes.weight_grad(d, given["x"], given["g"]),
    }
    return Animation(make[what]())
