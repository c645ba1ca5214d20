"""The definition of every operator, as loops: the oracle the tests of npconv compare against.

It imports numpy only, never npconv, and shares no formula with it: output sizes are found by counting
windows, padding by walking over the axis one step at a time, bins of adaptive pooling by asking which pixels
overlap which interval.

Everything is canonical: `x` is (N, C, *in), `w` is (O, C/G, *k) (the transposed operator: (C, O/G, *k), C
its input), strides and dilations are tuples with one int per spatial axis, padding is ((lo, hi), ...).
Floats are computed in float64, complex numbers in complex128, integers in Python ints, which never overflow;
a caller who judges float64 results passes long doubles, and gets sums of long doubles.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import product

import numpy as np

PAD = -1  # a position of the padding: it holds the padding value, and takes part in the sums
HOLE = -2  # a position between two elements, made by input_dilation: it takes part in nothing


# --- sizes, by counting


def effective(kernel: int, dilation: int) -> int:
    """How many positions a dilated kernel spans, from its first tap to its last."""
    return len(range((kernel - 1) * dilation + 1))


def window_starts(length: int, span: int, stride: int, rule: str = "floor", drop_from: int | None = None) -> list[int]:
    """Where the windows of width `span` start on a padded axis of `length` positions.

    "floor": every window fits.  "cover_all": windows are added until one reaches the end.  "ceil": the same,
    but a last window that starts at or after `drop_from` (the first position of the high padding) is dropped,
    as torch does.
    """
    starts = []
    start = 0
    while start + span <= length if rule == "floor" else start - stride + span < length:
        starts.append(start)
        start += stride
    if rule == "ceil" and starts and starts[-1] >= drop_from:
        starts.pop()
    return starts


def count_windows(length: int, span: int, stride: int) -> int:
    """Number of windows that fit: the output size."""
    return len(window_starts(length, span, stride))


def dilated_length(length: int, input_dilation: int) -> int:
    """Number of positions once `input_dilation - 1` holes are put between neighbours."""
    return len(axis_sources(length, input_dilation, (0, 0)))


def padding_pair(padding, length: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """(lo, hi) on one axis of `length` positions, for a padding given as an int, a pair or a word."""
    span = effective(kernel, dilation)
    if isinstance(padding, int):
        return padding, padding
    if isinstance(padding, tuple):
        return padding
    if padding == "valid":
        return 0, 0
    if padding == "full":  # every window that touches the data at all
        return span - 1, span - 1
    if padding == "causal":  # an output sees its own position and earlier ones
        return span - 1, 0
    if padding == "same_torch":  # the total that keeps the size at stride 1
        total = span - 1
        return total // 2, total - total // 2
    wanted = len(range(0, length, stride))  # "same": one output for every stride-th position ...
    total = 0
    while count_windows(length + total, span, stride) < wanted:  # ... with the least padding that allows it
        total += 1
    small, large = total // 2, total - total // 2
    return (small, large) if padding == "same" else (large, small)


def walk(mode: str, length: int, position: int) -> int:
    """The element at `position` of an axis continued forever in `mode`, found by walking from element 0."""
    index, step = 0, 1 if position >= 0 else -1
    for _ in range(abs(position)):
        ahead = index + step
        if 0 <= ahead < length:
            index = ahead
        elif mode == "circular":
            index = 0 if step > 0 else length - 1
        elif mode == "symmetric":  # stand still for one step and turn round: the edge is seen twice
            step = -step
        elif mode == "reflect" and length > 1:  # turn round on the edge itself: it is seen once
            step = -step
            index += step
        elif mode not in ("replicate", "reflect"):
            raise ValueError(mode)
    return index


def axis_sources(length: int, input_dilation: int, pads: tuple[int, int], mode: str = "zeros") -> list[int]:
    """For each position of the dilated and padded axis: the input index it shows, or PAD, or HOLE."""
    dilated: list[int] = []
    for index in range(length):
        dilated += [HOLE] * (input_dilation - 1) * (index > 0) + [index]
    sources = []
    for position in range(-pads[0], len(dilated) + pads[1]):
        if 0 <= position < len(dilated):
            sources.append(dilated[position])
        elif mode in ("zeros", "constant"):
            sources.append(PAD)
        else:
            sources.append(dilated[walk(mode, len(dilated), position)])
    return sources


def pad(x, pads, mode: str = "zeros", value: float = 0.0, input_dilation=None) -> np.ndarray:
    """Dilate and pad the spatial axes of (N, C, *in), element by element."""
    lengths = x.shape[2:]
    sources = [
        axis_sources(length, each, pair, mode)
        for length, each, pair in zip(lengths, input_dilation or (1,) * len(lengths), pads, strict=True)
    ]
    y = np.zeros(x.shape[:2] + tuple(map(len, sources)), x.dtype)
    for position in np.ndindex(*y.shape[2:]):
        source = tuple(axis[p] for axis, p in zip(sources, position, strict=True))
        if PAD in source:
            y[:, :, *position] = value
        elif HOLE not in source:
            y[:, :, *position] = x[:, :, *source]
    return y


def exact(array) -> np.ndarray:
    """The array in the type the reference computes in: at least float64 or complex128, or Python ints."""
    array = np.asarray(array)
    if array.dtype == object or np.issubdtype(array.dtype, np.integer):
        return array.astype(object)
    if array.dtype.kind in "fc":
        return array.astype(np.result_type(array.dtype, np.float64))
    return array.astype(np.float64)  # bfloat16


def together(*arrays) -> list[np.ndarray]:
    """The arrays as `exact` has them; Python ints only where all are integers."""
    arrays = [exact(array) for array in arrays]
    if all(array.dtype == object for array in arrays):
        return arrays
    return [array.astype(np.float64) if array.dtype == object else array for array in arrays]


def empty_sum(shape, *operands) -> np.ndarray:
    """Zeros to add products of the operands to."""
    return np.zeros(shape, np.result_type(*operands))


# --- convolution


class Products:
    """Which output position of a convolution multiplies which input element by which kernel tap."""

    def __init__(
        self,
        spatial,
        kernel,
        *,
        stride,
        padding,
        dilation,
        input_dilation=None,
        padding_mode="zeros",
        flip=False,
        positions=None,
    ):
        rank = len(kernel)
        input_dilation = input_dilation or (1,) * rank
        self.kernel, self.stride, self.dilation, self.flip = kernel, stride, dilation, flip
        self.sources = [axis_sources(spatial[a], input_dilation[a], padding[a], padding_mode) for a in range(rank)]
        self.out = tuple(
            count_windows(len(self.sources[a]), effective(kernel[a], dilation[a]), stride[a]) for a in range(rank)
        )
        if 0 in self.out:
            raise ValueError(f"no window fits: {spatial}, {kernel}, {padding}")
        if positions is not None:  # only the first ones: those of the input of a transposed convolution
            if any(n > most for n, most in zip(positions, self.out, strict=True)):
                raise ValueError(f"{positions} windows asked for, {self.out} fit")
            self.out = tuple(positions)

    def __iter__(self) -> Iterator[tuple]:
        """(output position, kernel tap, input index or PAD), taps in row-major order; holes left out."""
        for position in np.ndindex(*self.out):
            for tap in np.ndindex(*self.kernel):
                source = tuple(
                    axis[p * s + t * d]
                    for axis, p, s, t, d in zip(self.sources, position, self.stride, tap, self.dilation, strict=True)
                )
                if PAD not in source and HOLE in source:
                    continue
                if self.flip:
                    tap = tuple(k - 1 - t for k, t in zip(self.kernel, tap, strict=True))
                yield position, tap, PAD if PAD in source else source


def grouped_channels(x, groups: int) -> np.ndarray:
    """(N, C, ...) -> (G, N, C/G, ...): group g holds the channels from g C/G on."""
    split = x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    return np.moveaxis(split, 1, 0)


def grouped_kernels(w, groups: int) -> np.ndarray:
    """(O, I, ...) -> (G, O/G, I, ...)."""
    return w.reshape(groups, w.shape[0] // groups, *w.shape[1:])


def joined_channels(x) -> np.ndarray:
    """(G, N, C/G, ...) -> (N, C, ...)."""
    joined = np.moveaxis(x, 0, 1)
    return joined.reshape(joined.shape[0], joined.shape[1] * joined.shape[2], *joined.shape[3:])


def padding_row(xg, value) -> np.ndarray:
    """What all channels (G, N, C/G) hold at a position of the padding."""
    return np.full(xg.shape[:3], int(value) if xg.dtype == object else value, xg.dtype)


def conv(x, w, bias=None, *, groups=1, padding_value=0.0, **geometry) -> np.ndarray:
    """y[n, o, p] = bias[o] + sum over c, t of x[n, c, p s + t d - lo] w[o, c, t]."""
    x, w = together(x, w)
    products = Products(x.shape[2:], w.shape[2:], **geometry)
    xg, wg = grouped_channels(x, groups), grouped_kernels(w, groups)
    y = empty_sum((groups, x.shape[0], wg.shape[1], *products.out), x, w)
    outside = padding_row(xg, padding_value)
    for position, tap, source in products:
        row = outside if source is PAD else xg[:, :, :, *source]  # (G, N, C/G)
        y[:, :, :, *position] += row @ wg[:, :, :, *tap].swapaxes(1, 2)
    y = joined_channels(y)
    if bias is not None:
        y = y + exact(bias).reshape(-1, *(1,) * (y.ndim - 2))
    return y


def conv_input_grad(g, w, input_shape, *, groups=1, padding_value=0.0, **geometry) -> np.ndarray:
    """dx: every product gives conj(w) g back to the element it read."""
    g, w = together(g, w)
    products = Products(input_shape[2:], w.shape[2:], **geometry)
    gg, wg = grouped_channels(g, groups), grouped_kernels(np.conj(w), groups)
    dx = empty_sum((groups, input_shape[0], input_shape[1] // groups, *input_shape[2:]), g, w)
    for position, tap, source in products:
        if source is not PAD:
            dx[:, :, :, *source] += gg[:, :, :, *position] @ wg[:, :, :, *tap]
    return joined_channels(dx)


def conv_weight_grad(x, g, kernel_shape, *, groups=1, padding_value=0.0, **geometry) -> np.ndarray:
    """dw: every product gives conj(x) g back to the tap it used."""
    x, g = together(x, g)
    products = Products(x.shape[2:], kernel_shape[2:], **geometry)
    xg, gg = grouped_channels(np.conj(x), groups), grouped_channels(g, groups)
    dw = empty_sum((groups, kernel_shape[0] // groups, *kernel_shape[1:]), x, g)
    outside = padding_row(xg, np.conj(padding_value))
    for position, tap, source in products:
        row = outside if source is PAD else xg[:, :, :, *source]
        dw[:, :, :, *tap] += gg[:, :, :, *position].swapaxes(1, 2) @ row
    return dw.reshape(kernel_shape)


def bias_grad(g) -> np.ndarray:
    """db[o] = sum of g over everything else."""
    g = exact(g)
    return np.array([g[:, o].sum() for o in range(g.shape[1])], g.dtype)


def conv_transpose(x, w, bias=None, *, groups=1, out_size, stride, padding, dilation, flip=False) -> np.ndarray:
    """y[n, o, p s + t d - lo] += x[n, c, p] w[c, o, t]: every element stamps the kernel onto the output."""
    x, w = together(x, w)
    # The adjoint of the conv that maps the output's shape to x's; only its list of products is used.
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "flip": flip}
    products = Products(out_size, w.shape[2:], positions=x.shape[2:], **geometry)
    xg, wg = grouped_channels(x, groups), grouped_kernels(w, groups)
    y = empty_sum((groups, x.shape[0], w.shape[1], *out_size), x, w)
    for position, tap, target in products:
        if target is not PAD:
            y[:, :, :, *target] += xg[:, :, :, *position] @ wg[:, :, :, *tap]
    y = joined_channels(y)
    return y if bias is None else y + exact(bias).reshape(-1, *(1,) * (y.ndim - 2))


def conv_transpose_size(length, kernel, stride, pads, dilation, output_padding) -> int:
    """Output size on one axis: the positions the stamps reach, less the padding, plus output_padding."""
    reached = max(p * stride + t * dilation for p in range(length) for t in range(kernel)) + 1
    return reached - pads[0] - pads[1] + output_padding


def conv_transpose_input_grad(g, w, input_shape, **options) -> np.ndarray:
    """dx[n, c, p] = sum of conj(w[c, o, t]) g[n, o, p s + t d - lo]: a conv of g."""
    return conv(g, np.conj(exact(w)), positions=input_shape[2:], **options)


def conv_transpose_weight_grad(x, g, kernel_shape, **options) -> np.ndarray:
    """dw[c, o, t] = sum of conj(x[n, c, p]) g[n, o, p s + t d - lo]: x and g have changed places."""
    conjugate = conv_weight_grad(g, x, kernel_shape, positions=x.shape[2:], **options)
    return np.conj(conjugate)


def depthwise_conv(x, w, bias=None, **geometry) -> np.ndarray:
    """w is (C m, 1, *k); output channel c m + j sees input channel c only."""
    return conv(x, w, bias, groups=x.shape[1], **geometry)


def separable_conv(x, w_depthwise, w_pointwise, bias=None, **geometry) -> np.ndarray:
    """A depthwise conv, then a mix of its channels at every position."""
    middle = depthwise_conv(x, w_depthwise, **geometry)
    rank = x.ndim - 2
    return conv(middle, w_pointwise, bias, stride=(1,) * rank, padding=((0, 0),) * rank, dilation=(1,) * rank)


def separable_conv_grads(g, x, w_depthwise, w_pointwise, **geometry) -> tuple:
    """(dx, d depthwise, d pointwise)."""
    rank = x.ndim - 2
    point = {"stride": (1,) * rank, "padding": ((0, 0),) * rank, "dilation": (1,) * rank}
    middle = depthwise_conv(x, w_depthwise, **geometry)
    back = conv_input_grad(g, w_pointwise, middle.shape, **point)
    return (
        conv_input_grad(back, w_depthwise, x.shape, groups=x.shape[1], **geometry),
        conv_weight_grad(x, back, w_depthwise.shape, groups=x.shape[1], **geometry),
        conv_weight_grad(middle, g, w_pointwise.shape, **point),
    )


def local_conv(x, w, bias=None, *, groups=1, **geometry) -> np.ndarray:
    """conv with its own kernel at every output position: w is (O, C/G, *k, *out)."""
    x, w = together(x, w)
    rank = x.ndim - 2
    products = Products(x.shape[2:], w.shape[2 : 2 + rank], **geometry)
    xg, wg = grouped_channels(x, groups), grouped_kernels(w, groups)
    y = empty_sum((groups, x.shape[0], wg.shape[1], *products.out), x, w)
    for position, tap, source in products:
        if source is not PAD:
            y[:, :, :, *position] += xg[:, :, :, *source] @ wg[:, :, :, *tap, *position].swapaxes(1, 2)
    y = joined_channels(y)
    if bias is None:
        return y
    bias = exact(bias)
    return y + (bias if bias.ndim == 1 + rank else bias.reshape(-1, *(1,) * rank))


def local_conv_grads(g, x, w, *, groups=1, **geometry) -> tuple:
    """(dx, dw)."""
    x, w, g = together(x, w, g)
    rank = x.ndim - 2
    products = Products(x.shape[2:], w.shape[2 : 2 + rank], **geometry)
    xg, gg = grouped_channels(np.conj(x), groups), grouped_channels(g, groups)
    wg = grouped_kernels(np.conj(w), groups)
    dx = empty_sum(xg.shape, g, w)
    dw = empty_sum(wg.shape, g, x)
    for position, tap, source in products:
        if source is not PAD:
            here = gg[:, :, :, *position]
            dx[:, :, :, *source] += here @ wg[:, :, :, *tap, *position]
            dw[:, :, :, *tap, *position] += here.swapaxes(1, 2) @ xg[:, :, :, *source]
    return joined_channels(dx), dw.reshape(w.shape)


def unfold(x, kernel, **geometry) -> np.ndarray:
    """(N, C prod(k), prod(out)): column l is the window of output l, channel by channel, tap by tap."""
    x = exact(x)
    products = Products(x.shape[2:], kernel, **geometry)
    columns = np.zeros((x.shape[0], x.shape[1], *kernel, *products.out), x.dtype)
    for position, tap, source in products:
        if source is not PAD:
            columns[:, :, *tap, *position] = x[:, :, *source]
    return columns.reshape(x.shape[0], x.shape[1] * count(kernel), count(products.out))


def fold(columns, output_size, kernel, **geometry) -> np.ndarray:
    """The adjoint of unfold: every entry of every column is added back where it came from."""
    columns = exact(columns)
    products = Products(output_size, kernel, **geometry)
    channels = columns.shape[1] // count(kernel)
    columns = columns.reshape(columns.shape[0], channels, *kernel, *products.out)
    x = np.zeros((columns.shape[0], channels, *output_size), columns.dtype)
    for position, tap, source in products:
        if source is not PAD:
            x[:, :, *source] += columns[:, :, *tap, *position]
    return x


def count(shape) -> int:
    """Number of positions in a box."""
    return len(list(np.ndindex(*shape)))


# --- pooling


class Windows:
    """The windows of one pooling: for each output position the taps in row-major order."""

    def __init__(self, spatial, kernel, *, stride, padding, dilation, rule="floor"):
        self.spatial = spatial
        axes = []
        for length, k, s, (lo, hi), d in zip(spatial, kernel, stride, padding, dilation, strict=True):
            span, padded = effective(k, d), lo + length + hi
            starts = window_starts(padded, span, s, rule, drop_from=lo + length)
            axes.append([[(start + t * d - lo, start + t * d < padded) for t in range(k)] for start in starts])
        self.axes = axes
        self.out = tuple(map(len, axes))

    def __iter__(self) -> Iterator[tuple]:
        """(output position, input indices of its real pixels, number of taps inside the padded input)."""
        for position in np.ndindex(*self.out):
            taps = list(product(*(axis[p] for axis, p in zip(self.axes, position, strict=True))))
            inside = [
                tuple(index for index, _ in tap)
                for tap in taps
                if all(0 <= index < length for (index, _), length in zip(tap, self.spatial, strict=True))
            ]
            yield position, inside, sum(all(in_padded for _, in_padded in tap) for tap in taps)


class Bins(Windows):
    """The windows of adaptive pooling: bin i of o holds the pixels that overlap [i L/o, (i + 1) L/o)."""

    def __init__(self, spatial, size):
        self.spatial = spatial
        self.axes = [
            [[(j, True) for j in range(length) if overlap(j, i, length, o)] for i in range(o)]
            for length, o in zip(spatial, size, strict=True)
        ]
        self.out = tuple(size)


def overlap(pixel: int, bin_number: int, length: int, bins: int) -> bool:
    """Whether [pixel, pixel + 1) meets its share [i L/o, (i + 1) L/o) of the axis."""
    width = Fraction(length, bins)
    return pixel < (bin_number + 1) * width and pixel + 1 > bin_number * width


class FractionalWindows:
    """The windows of fractional pooling; they differ from plane to plane."""

    def __init__(self, spatial, kernel, output_size, samples):
        """`samples` holds one number in [0, 1) per spatial axis (of one plane)."""
        axes = []
        for length, k, out, u in zip(spatial, kernel, output_size, samples, strict=True):
            starts = []
            for i in range(out):
                if i == out - 1:
                    starts.append(length - k)
                else:
                    alpha = (length - k) / (out - 1)
                    starts.append(int((i + u) * alpha) - int(u * alpha))
            axes.append([[start + t for t in range(k)] for start in starts])
        self.axes, self.out = axes, tuple(output_size)

    def __iter__(self) -> Iterator[tuple]:
        for position in np.ndindex(*self.out):
            inside = list(product(*(axis[p] for axis, p in zip(self.axes, position, strict=True))))
            yield position, inside, len(inside)


def lowest(dtype):
    """What a window without any pixel holds: -inf, or the least integer."""
    return np.iinfo(dtype).min if np.issubdtype(dtype, np.integer) else -np.inf


def max_pool(x, windows) -> tuple[np.ndarray, np.ndarray]:
    """(values, plane index of the winner or -1); the first NaN wins, else the first of the largest."""
    y = np.full(x.shape[:2] + windows.out, lowest(x.dtype), x.dtype)
    winners = np.full(y.shape, -1, np.int64)
    for position, inside, _ in windows:
        for plane in np.ndindex(*x.shape[:2]):
            best = None
            for index in inside:
                value = x[*plane, *index]
                rival = None if best is None else x[*plane, *best]
                if best is None or value > rival or (is_nan(value) and not is_nan(rival)):
                    best = index
            if best is not None:
                y[*plane, *position] = x[*plane, *best]
                winners[*plane, *position] = flat(best, x.shape[2:])
    return y, winners


def fractional_max_pool(x, kernel, output_size, samples) -> tuple[np.ndarray, np.ndarray]:
    """max_pool plane by plane, for every plane has windows of its own."""
    shape = x.shape[:2] + tuple(output_size)
    y, winners = np.zeros(shape, x.dtype), np.zeros(shape, np.int64)
    for n, c in np.ndindex(*x.shape[:2]):
        windows = FractionalWindows(x.shape[2:], kernel, output_size, samples[n, c])
        plane = max_pool(x[n : n + 1, c : c + 1], windows)
        y[n, c], winners[n, c] = plane[0][0, 0], plane[1][0, 0]
    return y, winners


def is_nan(value) -> bool:
    """NaN is the one value that differs from itself."""
    return bool(value != value)


def flat(index, shape) -> int:
    """How many positions come before `index` when the last axis runs fastest."""
    number = 0
    for i, length in zip(index, shape, strict=True):
        number = number * length + i
    return number


def index_in(space: str, plane, index, shape) -> int:
    """Number of the element (n, c, *index) of an array of `shape` (N, C, *in) in one of the index spaces."""
    (n, c), spatial = plane, shape[2:]
    if space == "plane":
        return flat(index, spatial)
    if space == "onnx":
        return flat((n, c, *index), shape)
    if space == "onnx_column_major":  # the first spatial axis runs fastest
        return flat((n, c, *index[::-1]), (*shape[:2], *spatial[::-1]))
    if space == "tf":
        return flat((*index, c), (*spatial, shape[1]))
    if space == "tf_batch":
        return flat((n, *index, c), (shape[0], *spatial, shape[1]))
    raise ValueError(space)


def convert_indices(winners, space: str, shape) -> np.ndarray:
    """Plane indices, -1 for none, in another index space."""
    converted = winners.copy()
    for at in np.ndindex(*winners.shape):
        if winners[at] >= 0:
            converted[at] = index_in(space, at[:2], unflat(winners[at], shape[2:]), shape)
    return converted


def unflat(number: int, shape) -> tuple[int, ...]:
    """The position with `number` positions before it."""
    index = []
    for length in reversed(shape):
        index.insert(0, int(number % length))
        number //= length
    return tuple(index)


def max_pool_grad(g, winners, spatial) -> np.ndarray:
    """Each gradient goes to the winner of its window."""
    g = exact(g)
    dx = np.zeros(g.shape[:2] + tuple(spatial), g.dtype)
    for at in np.ndindex(*g.shape):
        if winners[at] >= 0:
            dx[*at[:2], *unflat(winners[at], spatial)] += g[at]
    return dx


def divisors(windows, include_pad: bool = True, divisor: int | None = None) -> np.ndarray:
    """What each window's sum is divided by; 0 where it counts nothing."""
    numbers = np.zeros(windows.out)
    for position, inside, in_padded in windows:
        numbers[position] = divisor if divisor is not None else in_padded if include_pad else len(inside)
    return numbers


def avg_pool(x, windows, numbers) -> np.ndarray:
    """Sum of a window's pixels over its number."""
    x = exact(x)
    y = np.zeros(x.shape[:2] + windows.out)
    for position, inside, _ in windows:
        total = np.zeros(x.shape[:2], x.dtype)
        for index in inside:
            total = total + x[:, :, *index]
        if numbers[position]:
            y[:, :, *position] = total / numbers[position]
    return y


def avg_pool_grad(g, windows, numbers, spatial) -> np.ndarray:
    """Every pixel of a window gets an equal share."""
    dx = np.zeros(g.shape[:2] + tuple(spatial))
    for position, inside, _ in windows:
        for index in inside:
            if numbers[position]:
                dx[:, :, *index] += exact(g)[:, :, *position] / numbers[position]
    return dx


def lp_pool(x, windows, p: float) -> np.ndarray:
    """(sum |x|^p)^(1/p); the largest |x| for p = inf."""
    size = np.abs(exact(x).astype(np.float64))
    y = np.zeros(x.shape[:2] + windows.out)
    for position, inside, _ in windows:
        if not inside:
            continue
        values = np.stack([size[:, :, *index] for index in inside])
        y[:, :, *position] = values.max(axis=0) if p == np.inf else (values**p).sum(axis=0) ** (1 / p)
    return y


def lp_pool_grad(g, x, windows, p: float) -> np.ndarray:
    """sign(x) (|x| / y)^(p - 1) g, and nothing where y = 0."""
    x, g, y = exact(x).astype(np.float64), exact(g), lp_pool(x, windows, p)
    dx = np.zeros(x.shape)
    for position, inside, _ in windows:
        for index in inside:
            for plane in np.ndindex(*x.shape[:2]):
                value, norm = x[*plane, *index], y[*plane, *position]
                if norm == 0:
                    continue
                share = float(abs(value) == norm) if p == np.inf else (abs(value) / norm) ** (p - 1)
                dx[*plane, *index] += np.sign(value) * share * g[*plane, *position]
    return dx


def max_unpool(x, winners, spatial) -> np.ndarray:
    """Values put at their plane indices on a plane of zeros; of two at one place the later stays."""
    y = np.zeros(x.shape[:2] + tuple(spatial), x.dtype)
    for at in np.ndindex(*x.shape):
        y[*at[:2], *unflat(winners[at], spatial)] = x[at]
    return y


def max_unpool_grad(g, winners) -> np.ndarray:
    """dx[at] = g[winner], except where a later value took the place."""
    dx = np.zeros(winners.shape, exact(g).dtype)
    for plane in np.ndindex(*g.shape[:2]):
        owner: dict[int, tuple] = {}
        for at in np.ndindex(*winners.shape[2:]):
            owner[int(winners[*plane, *at])] = at
        for number, at in owner.items():
            dx[*plane, *at] = g[*plane, *unflat(number, g.shape[2:])]
    return dx
