"""One tile of Winograd's convolution, with its numbers."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import numpy as np
from matplotlib.figure import FigureBase
from numpy.typing import ArrayLike

from ..algorithms.cook_toom import Row, matrices
from .board import Board, Drawn, Panel, check_size, wrapped
from .drawable import arrays


def winograd_tile(
    d: ArrayLike,
    g: ArrayLike,
    *,
    points: Iterable[Fraction | int | float | str] | None = None,
    figure: FigureBase | None = None,
) -> Drawn:
    """A tile of Winograd's algorithm: both transforms, the products, and the transform back.

        y = A^T [ (G g G^T) * (B^T d B) ] A

    Parameters
    ----------
    d : array_like, (n, n)
        A tile of the input.
    g : array_like, (r, r)
        The kernel; there are m = n - r + 1 outputs along each axis.
    points : iterable of Fraction, int, float or str, optional
        As in `npconv.algorithms.cook_toom.matrices`.
    figure : matplotlib.figure.FigureBase, optional
        A new pyplot figure by default.

    Returns
    -------
    dict
        For each matrix by its title: its cells, and their numbers row by row.

    Raises
    ------
    ValueError
        If the arrays are not square, or the kernel does not fit.

    Notes
    -----
    S. Winograd, "Arithmetic Complexity of Computations", SIAM 1980; A. Lavin and S. Gray, arXiv:1509.09308.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from npconv import plots
    >>> drawn = plots.winograd_tile(np.arange(16).reshape(4, 4), np.ones((3, 3)), figure=Figure())
    >>> cells, texts = drawn["y"]
    >>> [text.get_text() for text in texts]
    ['45', '54', '81', '90']
    """
    op = "plots.winograd_tile"
    given = arrays(op, d=d, g=g)
    tile, kernel = given["d"], given["g"]
    n, r = len(tile), len(kernel)
    if tile.shape != (n, n) or kernel.shape != (r, r) or n < r:
        raise ValueError(
            f"{op}: d.shape is {tile.shape} and g.shape {kernel.shape}, expected (n, n) and (r, r), r <= n"
        )
    check_size(op, (3 * n, 3 * n), (r, r))
    m = n - r + 1
    exact = matrices(m, r, points)
    AT, G, BT = exact.arrays
    data, weights = BT @ tile @ BT.T, G @ kernel @ G.T
    panels: dict[tuple[int, int], Panel] = {
        (0, 0): _exact("Bᵀ", exact.BT),
        (0, 1): Panel("d", tile),
        (0, 2): _exact("B", zip(*exact.BT, strict=True)),
        (0, 3): Panel("Bᵀ d B", data),
        (1, 0): _exact("G", exact.G),
        (1, 1): Panel("g", kernel),
        (1, 2): _exact("Gᵀ", zip(*exact.G, strict=True)),
        (1, 3): Panel("G g Gᵀ", weights),
        (2, 0): _exact("Aᵀ", exact.AT),
        (2, 1): Panel("Bᵀ d B ∘ G g Gᵀ", data * weights),
        (2, 2): _exact("A", zip(*exact.AT, strict=True)),
        (2, 3): Panel("y", AT @ (data * weights) @ AT.T),
    }
    signs = {(row, column): "=" if column == 3 else "×" for row in range(3) for column in (1, 2, 3)}
    sentence = (
        f"∘, element by element, takes {n} · {n} = {n * n} multiplications for {m} × {m} outputs; "
        f"the definition takes {m * m} · {r * r} = {m * m * r * r}"
    )
    caption = wrapped([sentence], Board(panels).size[0] - 0.6)
    board = Board(panels, signs, caption, len(caption))
    return board.draw(board.figure(figure))


def _exact(title: str, rows: Any) -> Panel:
    """A matrix of fractions, written as such where they are short."""
    table: list[Row] = [tuple(row) for row in rows]
    values = np.array([[float(value) for value in row] for row in table])
    texts = np.array([[_fraction(value) for value in row] for row in table], object)
    return Panel(title, values, texts=texts)


def _fraction(value: Fraction) -> str:
    text = str(value) if value.denominator < 1000 else f"{float(value):.2f}"
    return text.replace("-", "−")
