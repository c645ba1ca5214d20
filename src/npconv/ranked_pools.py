"""max_pool1d, avg_pool2d and relatives: the general poolings with the rank checked and torch's positional order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from .pool_problem import with_defaults
from .pooling import run_avg_pool, run_max_pool
from .ranked import named

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]


class MaxPool(Protocol):
    """The signature of max_pool1d, max_pool2d and max_pool3d."""

    def __call__(
        self,
        x: ArrayLike,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
        **options: Any,
    ) -> Any: ...


class AvgPool(Protocol):
    """The signature of avg_pool1d, avg_pool2d and avg_pool3d."""

    def __call__(
        self,
        x: ArrayLike,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: Any = None,
        **options: Any,
    ) -> Array: ...


def _max_pool(rank: int) -> MaxPool:
    name = f"max_pool{rank}d"

    def function(
        x: ArrayLike,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
        **options: Any,
    ) -> Any:
        out, indices = options.pop("out", None), options.pop("indices", "plane")
        given = {"stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
        full = with_defaults(name, options | given, ("out", "indices"))
        return run_max_pool(name, rank, x, kernel_size, full, return_indices, indices, out)

    return named(function, name, "max_pool", rank)


def _avg_pool(rank: int) -> AvgPool:
    name = f"avg_pool{rank}d"

    def function(
        x: ArrayLike,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: Any = None,
        **options: Any,
    ) -> Array:
        out = options.pop("out", None)
        given = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode}
        full = with_defaults(name, options | given, ("out",))
        return run_avg_pool(name, rank, x, kernel_size, full, count_include_pad, divisor_override, out)

    return named(function, name, "avg_pool", rank)


max_pool1d, max_pool2d, max_pool3d = _max_pool(1), _max_pool(2), _max_pool(3)
avg_pool1d, avg_pool2d, avg_pool3d = _avg_pool(1), _avg_pool(2), _avg_pool(3)
