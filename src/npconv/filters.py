"""Image filtering: one small kernel over every channel of an image that keeps its size.

    (H, W) or (H, W, C)  *  (h, w)  ->  (ceil(H / stride), ceil(W / stride)[, C])

The kernel slides without being flipped, as in OpenCV's `filter2D` and `scipy.ndimage.correlate`.  Integer
images under integer kernels give exact int64 results, so that uint8 never wraps; `dtype="uint8"` rounds and
clips back.

What lies beyond the border is `mode`.  Plain names mean what they mean in `npconv.conv`; those of other
libraries are written with the library, because SciPy and OpenCV call *reflect* what NumPy calls *symmetric*:

    >>> from npconv.filters import modes
    >>> modes["reflect"], modes["numpy.reflect"], modes["scipy.reflect"], modes["opencv.reflect"]
    ('reflect', 'reflect', 'symmetric', 'symmetric')
    >>> [name for name, ours in modes.items() if ours == "reflect"]
    ['reflect', 'numpy.reflect', 'scipy.mirror', 'opencv.reflect_101', 'opencv.default', 'torch.reflect']
"""

from __future__ import annotations

from math import gcd
from typing import Any

import numpy as np

from .arguments import choice, dtype_of, operand
from .border_modes import modes
from .compiled import catalogue
from .convolution import conv
from .image_kernels import (
    box,
    emboss,
    gaussian,
    identity,
    kernels,
    laplacian,
    prewitt,
    scharr,
    sharpen,
    sobel,
)
from .reading import per_axis, shown

__all__ = [
    "apply",
    "box",
    "emboss",
    "gaussian",
    "gradient_magnitude",
    "identity",
    "kernels",
    "laplacian",
    "modes",
    "prewitt",
    "scharr",
    "separate",
    "sharpen",
    "sobel",
]


def apply(
    image: Any,
    kernel: Any,
    *,
    mode: str = "reflect",
    cval: float = 0.0,
    stride: Any = 1,
    anchor: Any = None,
    dtype: Any = None,
) -> np.ndarray:
    """Slide `kernel` over `image`, every channel alike, and sum the products.

    Parameters
    ----------
    image : array_like, (H, W) or (H, W, C)
        Any real dtype but bool.
    kernel : array_like (h, w), or str
        Weights, or the name of one of `kernels` with its defaults.
    mode : str
        What lies beyond the border, one of `modes`: "reflect" (c b | a b c), "symmetric" (b a | a b c),
        "replicate", "circular", "zeros", "constant", or another library's name such as "scipy.mirror".
    cval : float
        The value beyond the border in a constant mode.
    stride : int or (int, int)
        Keep every stride-th pixel, beginning with the first.
    anchor : (int, int), optional
        The kernel entry that lies on the pixel; the centre by default, for even sizes the entry after it
        (size // 2), as in SciPy and OpenCV.
    dtype : dtype, optional
        Round (half to even) and clip to this integer dtype, or convert to this float dtype.

    Returns
    -------
    numpy.ndarray
        A float image keeps its dtype.  An integer image gives int64 under an integer kernel, exactly, and the
        promoted float under a float kernel.

    Raises
    ------
    TypeError, ValueError
        For a bool or complex image, other than 2 or 3 axes, an unknown mode, a `cval` that has no use.

    Notes
    -----
    A kernel that is a column times a row (`separate`) is applied as two 1-D passes when it is large enough.

    Examples
    --------
    >>> import numpy as np
    >>> from npconv import filters
    >>> image = np.array([[10, 10, 200, 200]] * 3, dtype=np.uint8)
    >>> filters.apply(image, filters.sobel("x"))[1]
    array([  0, 760, 760,   0])
    >>> filters.apply(image, "sharpen", dtype="uint8")[1]
    array([ 10,   0, 255, 200], dtype=uint8)
    """
    op = "filters.apply"
    image = _real(op, "image", image)
    if image.ndim not in (2, 3):
        raise ValueError(
            f"{op}: image has shape {image.shape}, needs (H, W) or (H, W, C); "
            "filter the images of a batch one by one, or use npconv.depthwise_conv"
        )
    if isinstance(kernel, str):
        kernel = kernels[choice(op, "kernel", kernel, tuple(kernels))]()
    kernel = _real(op, "kernel", kernel)
    if kernel.ndim != 2 or not kernel.size:
        raise ValueError(f"{op}: kernel has shape {kernel.shape}, needs (h, w) with at least one entry")
    border = _mode(op, mode)
    fill = _fill(op, cval, mode, border, exact=image.dtype.kind in "iu" and kernel.dtype.kind in "iu")
    steps = per_axis(op, "stride", stride, 2, 1)
    at = tuple(k // 2 for k in kernel.shape) if anchor is None else per_axis(op, "anchor", anchor, 2, 0)
    for axis, (a, k) in enumerate(zip(at, kernel.shape, strict=True)):
        if a >= k:
            raise ValueError(f"{op}: anchor={at} lies outside the kernel on axis {axis}: {a} >= {k}")
    compute, result = _dtypes(image, kernel)
    target = result if dtype is None else _target(op, dtype)
    height, width, *channels = image.shape
    if not image.size:
        return np.zeros((-(-height // steps[0]), -(-width // steps[1]), *channels), target)
    if compute != np.int64 or border == "constant":  # cval may not fit the image's own dtype
        image = image.astype(compute, copy=False)
    filtered = _correlate(image.reshape(1, height, width, -1), kernel.astype(compute), at, steps, border, fill)[0]
    return np.ascontiguousarray(_cast(op, filtered.reshape(*filtered.shape[:2], *channels), target))


def gradient_magnitude(image: Any, operator: str = "sobel", *, mode: str = "reflect", cval: float = 0.0) -> np.ndarray:
    """Give sqrt(x^2 + y^2) of the two derivatives by "sobel", "prewitt" or "scharr": bright where edges are.

    Examples
    --------
    >>> import numpy as np
    >>> from npconv import filters
    >>> ramp = np.add.outer(3.0 * np.arange(4), 4.0 * np.arange(4))         # 3 down, 4 to the right
    >>> filters.gradient_magnitude(ramp)[1:3, 1:3] / 8
    array([[5., 5.],
           [5., 5.]])
    """
    op = "filters.gradient_magnitude"
    derivative = {"sobel": sobel, "prewitt": prewitt, "scharr": scharr}
    make = derivative[choice(op, "operator", operator, tuple(derivative))]
    image = _real(op, "image", image)
    half = image.dtype.kind not in "iu" and image.dtype.itemsize == 2
    wide = np.float32 if half else None  # the squares of a half float overflow early
    x, y = (apply(image, make(axis), mode=mode, cval=cval, dtype=wide) for axis in ("x", "y"))
    length = np.hypot(x, y)
    return length.astype(image.dtype) if half else length


def separate(kernel: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Write a kernel as a column times a row, or return None if it is no such product.

    Integer kernels are split into integers, exactly; float ones up to their rounding, entry by entry.

    Examples
    --------
    >>> from npconv.filters import laplacian, separate, sobel
    >>> separate(sobel("x"))
    (array([1, 2, 1]), array([-1,  0,  1]))
    >>> separate(laplacian()) is None
    True
    """
    kernel = _real("filters.separate", "kernel", kernel)
    if kernel.ndim != 2 or not kernel.size:
        raise ValueError(f"filters.separate: kernel has shape {kernel.shape}, needs (h, w) with at least one entry")
    if kernel.dtype.kind in "iu":
        return _separate_integers(kernel.tolist())
    with np.errstate(all="ignore"):  # what is not finite fails the comparison
        wide = kernel.astype(np.float64)
        i, j = np.unravel_index(np.argmax(np.abs(wide)), wide.shape)
        column = wide[:, j].astype(kernel.dtype)
        row = (wide[i] / (wide[i, j] or 1)).astype(kernel.dtype)
        error = np.abs(np.outer(column, row).astype(np.float64) - wide)
        eps = 2.0**-7 if kernel.dtype.name == "bfloat16" else float(np.finfo(kernel.dtype).eps)
        return (column, row) if (error <= 4 * eps * np.abs(wide)).all() else None


# --------------------------------------------------------------------------- named kernels


_LARGEST = 2**63 - 1

# Two passes touch the image twice: below this many taps one pass is as fast.
_SPLIT_TAPS = 25


def _correlate(
    image: np.ndarray, kernel: np.ndarray, at: tuple[int, ...], steps: tuple[int, ...], border: str, fill: float
) -> np.ndarray:
    """Every channel of an image (1, H, W, C) with the same kernel."""
    channels = image.shape[-1]
    pads = tuple((a, k - 1 - a) for a, k in zip(at, kernel.shape, strict=True))

    def one_pass(x: np.ndarray, taps: np.ndarray, rows: bool, columns: bool) -> np.ndarray:
        options: dict[str, Any] = {
            "padding": (pads[0] if rows else (0, 0), pads[1] if columns else (0, 0)),
            "stride": (steps[0] if rows else 1, steps[1] if columns else 1),
            "padding_mode": border,
            "padding_value": fill,
        }
        if catalogue.unavailable():  # NumPy is faster over channels that are images of their own
            return np.moveaxis(conv(np.moveaxis(x, 3, 0), taps[None, None], **options), 0, 3)
        return conv(x, np.repeat(taps[:, :, None, None], channels, axis=3), groups=channels, layout="NHWC", **options)

    # A first pass over constant surroundings leaves another constant there: not worth a case of its own.
    if min(kernel.shape) > 1 and kernel.size >= _SPLIT_TAPS and not fill:
        split = separate(kernel)
        if split is not None:
            return one_pass(one_pass(image, split[1][None], False, True), split[0][:, None], True, False)
    return one_pass(image, kernel, True, True)


def _separate_integers(kernel: list[list[int]]) -> tuple[np.ndarray, np.ndarray] | None:
    pivot = next((line for line in kernel if any(line)), kernel[0])
    divisor = gcd(*pivot) or 1
    row = [v // divisor for v in pivot]
    j = next((j for j, v in enumerate(row) if v), 0)
    # Every line of a product is a multiple of the coprime row; where it is none, the comparison fails.
    column = [line[j] // row[j] if row[j] else 0 for line in kernel]
    if [[c * r for r in row] for c in column] != kernel:
        return None
    return np.array(column, np.int64), np.array(row, np.int64)


def _real(op: str, name: str, value: Any) -> np.ndarray:
    array = operand(op, name, value)
    if array.dtype.kind == "c":
        raise TypeError(f"{op}: {name} has dtype {array.dtype}: needs a real one; filter .real and .imag apart")
    if array.dtype == np.uint64 and array.size and int(array.max()) > _LARGEST:
        raise ValueError(f"{op}: {name} reaches {array.max()}, exact sums are int64; use .astype(np.float64)")
    return array


def _mode(op: str, mode: Any) -> str:
    if not isinstance(mode, str):
        raise TypeError(
            f"{op}: mode must be a string, got {shown(mode)} of type {type(mode).__name__}; "
            "use a name such as 'reflect' or 'scipy.mirror'"
        )
    if mode not in modes:
        full = [name for name in modes if name.endswith(f".{mode}")]
        if full:
            raise ValueError(
                f"{op}: mode={mode!r} is another library's word, needs its name too: "
                + " or ".join(f"{name!r} (our {modes[name]!r})" for name in full)
            )
    return modes[choice(op, "mode", mode, tuple(modes))]


def _fill(op: str, cval: Any, mode: str, border: str, exact: bool) -> float:
    if isinstance(cval, (bool, np.bool_)) or not isinstance(cval, (int, float, np.integer, np.floating)):
        raise TypeError(f"{op}: cval must be a number, got {cval!r} of type {type(cval).__name__}")
    if cval == 0:
        return 0
    if border != "constant":
        raise ValueError(f"{op}: cval={cval} has no use in mode={mode!r}, needs mode='constant'")
    if exact and not float(cval).is_integer():
        raise ValueError(f"{op}: cval={cval} is no integer, but image and kernel are; use a float image")
    if exact and abs(int(cval)) > _LARGEST:
        raise ValueError(f"{op}: cval={cval} exceeds int64; use a float image")
    return int(cval) if exact else float(cval)


def _dtypes(image: np.ndarray, kernel: np.ndarray) -> tuple[np.dtype, np.dtype]:
    """In which dtype to compute, and which the result has."""
    if image.dtype.kind in "iu":
        if kernel.dtype.kind in "iu":
            return np.dtype(np.int64), np.dtype(np.int64)
        wide = np.result_type(image.dtype, kernel.dtype if kernel.dtype.itemsize > 2 else np.float32)
        return wide, wide
    return np.dtype(np.float32) if image.dtype.itemsize == 2 else image.dtype, image.dtype


def _target(op: str, dtype: Any) -> np.dtype:
    target = dtype_of(op, dtype)
    if target.kind not in "iuf" and target.name != "bfloat16":
        raise TypeError(f"{op}: dtype={target} is no real number, needs an integer or a float dtype")
    return target


def _cast(op: str, values: np.ndarray, target: np.dtype) -> np.ndarray:
    if target.kind not in "iu" or values.dtype == target:
        return values.astype(target, copy=False)
    low, high = int(np.iinfo(target).min), int(np.iinfo(target).max)
    if values.dtype.kind in "iu":
        ours = np.iinfo(values.dtype)
        return values.clip(max(low, int(ours.min)), min(high, int(ours.max))).astype(target)
    if np.isnan(values).any():
        raise ValueError(f"{op}: the result holds NaN, which no {target} is; use a float dtype")
    rounded = np.rint(values.astype(np.float64))
    top = rounded >= float(high)  # 2^63 - 1 is no float64: set it apart
    inside = np.where(top, 0, rounded.clip(float(low))).astype(target)
    inside[top] = high
    return inside
