"""conv1d, conv2d, conv3d and relatives: the general operators with the rank checked and torch's positional order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from .conv_arguments import with_defaults
from .convolution import run_conv
from .transposed import run_transpose

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]


class Conv(Protocol):
    """The signature of conv1d, conv2d and conv3d."""

    def __call__(
        self,
        x: ArrayLike,
        w: ArrayLike,
        bias: ArrayLike | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        **options: Any,
    ) -> Array: ...


class ConvTranspose(Protocol):
    """The signature of conv_transpose1d, conv_transpose2d and conv_transpose3d."""

    def __call__(
        self,
        x: ArrayLike,
        w: ArrayLike,
        bias: ArrayLike | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
        **options: Any,
    ) -> Array: ...


def named(function: Any, name: str, general: str, rank: int) -> Any:
    axes = "axis" if rank == 1 else "axes"
    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        f"`npconv.{general}` for {rank} spatial {axes}, checked, with torch's positional order.\n\n"
        f"    Returns what `npconv.{general}` returns and raises what it raises; x may lack its batch axis.\n    "
    )
    return function


def _conv(rank: int) -> Conv:
    name = f"conv{rank}d"

    def function(
        x: ArrayLike,
        w: ArrayLike,
        bias: ArrayLike | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        **options: Any,
    ) -> Array:
        out = options.pop("out", None)
        given = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        return run_conv(name, rank, x, w, bias, out, with_defaults(name, options | given, ("out",)))

    return named(function, name, "conv", rank)


def _conv_transpose(rank: int) -> ConvTranspose:
    name = f"conv_transpose{rank}d"

    def function(
        x: ArrayLike,
        w: ArrayLike,
        bias: ArrayLike | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
        **options: Any,
    ) -> Array:
        out = options.pop("out", None)
        given = {"stride": stride, "padding": padding, "output_padding": output_padding}
        given |= {"dilation": dilation, "groups": groups}
        return run_transpose(name, rank, x, w, bias, out, options | given)

    return named(function, name, "conv_transpose", rank)


conv1d, conv2d, conv3d = _conv(1), _conv(2), _conv(3)
conv_transpose1d, conv_transpose2d, conv_transpose3d = _conv_transpose(1), _conv_transpose(2), _conv_transpose(3)
