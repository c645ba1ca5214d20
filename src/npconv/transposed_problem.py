"""The convolution whose adjoint a transposed convolution is: its sizes, from what the caller wrote (rules R9 and R10)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .arguments import remembered
from .conv_arguments import ConvOptions, check_input_rank, check_rank, read, with_defaults
from .geometry import LARGEST, Ints, Pads, ceil_div, dilated_size, effective_kernel, named_pads, transposed_size
from .layouts import input_layout
from .layouts import kernel_layout as read_kernel_layout
from .problem import ConvProblem
from .reading import one_int, per_axis, resolve_padding


class TransposeOptions(ConvOptions, total=False):
    """`ConvOptions`, and what chooses among the output sizes."""

    output_padding: Any
    output_size: Any


@remembered
def read_transpose(
    op: str, x_shape: Ints, w_shape: Ints, options: Mapping[str, Any], rank: int | None = None
) -> ConvProblem:
    """The convolution whose adjoint the call asks for; its input is the call's output."""
    plain = dict(options)
    for key in ("input_dilation", "padding_mode", "padding_value"):
        if key in plain:
            raise TypeError(f"{op}: unknown keyword {key!r}; a transposed convolution has zero padding alone")
    extra, wanted = plain.pop("output_padding", 0), plain.pop("output_size", None)
    plain = with_defaults(op, plain, ("output_padding", "output_size"))
    exact = rank is not None
    last = plain["layout"] == "channels_last"
    rank = check_rank(op, "w", len(w_shape), w_shape, rank, "(*k, O/groups, C)" if last else "(C, O/groups, *k)")
    check_input_rank(op, "x", x_shape, rank, exact, plain["layout"] not in ("channels_first", "channels_last"))
    x_layout = input_layout(op, plain["layout"], len(x_shape), rank)
    w_layout = read_kernel_layout(op, plain["kernel_layout"], plain["layout"], len(w_shape))
    _, channels, *sizes = x_layout.canonical_shape(x_shape)
    w_channels, per_group, *kernel = w_layout.canonical_shape(w_shape)
    if channels != w_channels:
        raise ValueError(
            f"{op}: x has {channels} channels but w takes {w_channels} (x.shape {x_shape}, w.shape {w_shape}, layout "
            f"{x_layout.name!r}, kernel_layout {w_layout.name!r}); w is that of the convolution whose adjoint this is"
        )
    out_sizes, pads = _sizes(op, tuple(sizes), tuple(kernel), plain, extra, wanted)
    groups = one_int(op, "groups", plain["groups"], 1)
    shape = x_layout.user_shape(x_shape, per_group * groups, out_sizes)
    return read(op, shape, w_shape, plain | {"padding": pads})


def _sizes(
    op: str, sizes: Ints, kernel: Ints, options: Mapping[str, Any], extra: Any, wanted: Any
) -> tuple[Ints, Pads]:
    """The output sizes, and the padding under which a convolution of them has exactly the input's sizes."""
    rank, padding = len(sizes), options["padding"]
    for i, (n, k) in enumerate(zip(sizes, kernel, strict=True)):
        if n < 1:
            raise ValueError(f"{op}: x has no elements on spatial axis {i}, needs at least 1")
        if k < 1:
            raise ValueError(f"{op}: kernel size must be >= 1, got {k} on axis {i} of w")
    stride = per_axis(op, "stride", options["stride"], rank, 1)
    dilation = per_axis(op, "dilation", options["dilation"], rank, 1)
    spans = [effective_kernel(k, d) for k, d in zip(kernel, dilation, strict=True)]
    more = per_axis(op, "output_padding", extra, rank, 0)
    if wanted is not None and any(more):
        raise ValueError(f"{op}: output_size={wanted} and output_padding={extra} exclude each other, give one")
    asked = None if wanted is None else per_axis(op, "output_size", wanted, rank, 0)
    if isinstance(padding, str) and padding in ("same", "same_lower"):
        for i, m in enumerate(more):
            if m:
                raise ValueError(
                    f"{op}: padding={padding!r} makes the output size in * stride, to which output_padding {m} on axis {i} "
                    "adds nothing; use output_size, or padding in numbers"
                )
        outs = asked or tuple(n * s for n, s in zip(sizes, stride, strict=True))
        pads = tuple(named_pads(padding, n, e, s) for n, e, s in zip(outs, spans, stride, strict=True))
        for i, (n, size, s) in enumerate(zip(outs, sizes, stride, strict=True)):
            if n > LARGEST:
                raise ValueError(
                    f"{op}: stride {s} makes the output size on axis {i} in * stride = {size} * {s} = {n}, "
                    "which exceeds 2^63-1; use less stride"
                )
            if ceil_div(n, s) != size:
                raise ValueError(
                    f"{op}: output_size {n} on axis {i} is not reachable with padding={padding!r}: "
                    f"ceil(output_size / stride) = ceil({n} / {s}) must be {size}, so {dilated_size(size, s)}..{size * s}"
                )
        return outs, pads
    pads = resolve_padding(op, padding, sizes, kernel, stride, dilation)
    result, closing = [], []
    for i, (n, (lo, hi), e, s, d, m) in enumerate(zip(sizes, pads, spans, stride, dilation, more, strict=True)):
        least, limit = transposed_size(n, lo, hi, e, s, 0), max(s, d)
        if asked is not None:
            m = asked[i] - least
            if not 0 <= m < limit:
                raise ValueError(
                    f"{op}: output_size {asked[i]} on axis {i} is not reachable: (in - 1) stride - lo - hi + effective "
                    f"kernel = ({n} - 1) * {s} - {lo} - {hi} + {e} = {least}, so {least}..{least + limit - 1}"
                )
        if m >= limit:
            raise ValueError(
                f"{op}: output_padding {m} on axis {i} must be less than max(stride, dilation) = max({s}, {d}) = {limit}"
            )
        if not 1 <= least + m <= LARGEST:
            raise ValueError(
                f"{op}: output size (in - 1) stride - lo - hi + effective kernel + output_padding = ({n} - 1) * {s} - {lo} "
                f"- {hi} + {e} + {m} = {least + m} on axis {i} is not in 1..2^63-1; "
                "change padding, stride or dilation"
            )
        result.append(least + m)
        closing.append((lo, hi - m))
    return tuple(result), tuple(closing)
