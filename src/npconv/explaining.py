"""What would run, and why not each other algorithm: the answer of `npconv.explain`."""

from __future__ import annotations

from typing import Any, Unpack

from .algorithms.base import DIRECTIONS
from .arguments import choice, common_dtypes, dtype_of, flag, operation, shape_of
from .conv_arguments import ConvOptions, read, with_defaults
from .explanation import Explanation, explanation


@operation
def explain(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    *,
    dtype: Any = "float32",
    direction: str = "forward",
    measure: bool = False,
    **options: Unpack[ConvOptions],
) -> Explanation:
    """What `conv` would do with operands of these shapes, and why: print the result.

    Parameters
    ----------
    x_shape, w_shape : tuple of int
        Shapes in the layout given.
    dtype : dtype_like
        Of both operands.
    direction : {"forward", "input_grad", "weight_grad"}
        Which pass.
    measure : bool
        Also run every algorithm that can, on random data, and report the least time of three in seconds.
    **options
        The keywords of `npconv.conv`.

    Returns
    -------
    Explanation
        ``choice`` is the name of the algorithm, ``engine`` says what runs it; ``candidates`` holds for each registered
        one the verdict, flops, bytes moved, bytes of workspace, the error bound, and seconds estimated and measured.

    Raises
    ------
    ValueError, TypeError, MemoryLimitError
        As `npconv.conv`.

    Examples
    --------
    >>> import npconv
    >>> npconv.explain((1, 64, 56, 56), (64, 64, 1, 1)).choice in ("gemm", "blocked")
    True
    """
    op = "explain"
    full = with_defaults(op, options, ("dtype", "direction", "measure"))
    p = read(op, shape_of(op, "x_shape", x_shape), shape_of(op, "w_shape", w_shape), full)
    of_both = dtype_of(op, dtype)
    dtypes = common_dtypes(op, {"x": of_both, "w": of_both})
    request = p.request(dtypes, choice(op, "direction", direction, DIRECTIONS))
    return explanation(op, p.geometry, request, flag(op, "measure", measure))
