"""Means and variances, what they make of an array, and the way back: the arithmetic of the normalising layers.

Sums are in double precision; everything else in the dtype of the array, halves in single precision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..arguments import common_dtypes, operation
from ..compiled.norms import launch as norms
from ..compiled.outer.bias import channel_sums
from ..geometry import Ints, total

if TYPE_CHECKING:
    from .layer import Array


@operation
def channel_sum(g: Array, axis: int) -> Array:
    """g summed over every axis but one, in float64 whatever its own dtype."""
    with np.errstate(all="ignore"):
        sums = channel_sums(np.moveaxis(g, axis, 1)) if g.ndim > 1 else None
        if sums is None:
            sums = g.sum(tuple(i for i in range(g.ndim) if i != axis), dtype=np.float64)
    return sums


@operation
def moments(x: Array, axes: Ints) -> tuple[Array, Array]:
    """Mean and variance over `axes`, kept with size 1."""
    count = max(1, total([x.shape[i] for i in axes]))
    channel = _channel(x.ndim, axes)
    with np.errstate(all="ignore"):
        if channel is not None and norms.ready(view := np.moveaxis(x, channel, 1)):
            pivot = view[(0, slice(None), *(0,) * (x.ndim - 2))]
            d, squares = norms.channel_sums(view, pivot)
            d /= count
            var = np.maximum(squares / count - d * d, 0)
            return np.expand_dims(d + pivot, axes), np.expand_dims(var, axes)
        mean = x.sum(axes, dtype=np.float64, keepdims=True) / count
        y, left = _less(x, mean)
        return mean, np.square(y, out=y).sum(axes, dtype=np.float64, keepdims=True) / count - left * left


@operation
def affine(x: Array, axes: Ints, mean: Array, scale: Array, weight: Array, bias: Array) -> Array:
    """(x - mean) scale weight + bias; all of them broadcast to x."""
    dtypes = common_dtypes("normalise", {"x": x.dtype, "weight": weight.dtype, "bias": bias.dtype})
    channel = _channel(x.ndim, axes)
    with np.errstate(all="ignore"):
        factor = scale * weight
        if channel is not None and factor.size != x.shape[channel]:  # one number per element of a sample
            channel = None
        if channel is not None and x.dtype == dtypes.result and norms.ready(view := np.moveaxis(x, channel, 1)):
            pivot = mean.astype(x.dtype)
            numbers = (pivot, factor, bias - (mean - pivot) * factor)
            return np.moveaxis(norms.affine(view, *[a.reshape(-1) for a in numbers]), 1, channel)
        y, left = _less(x.astype(dtypes.compute, copy=False), mean)
        y *= factor.astype(y.dtype)
        y += (bias - left * factor).astype(y.dtype)
    return y.astype(dtypes.result, copy=False)


@operation
def affine_back(
    g: Array, x: Array, axes: Ints, mean: Array, scale: Array, weight: Array, *, moved: bool = True, wanted: bool = True
) -> tuple[Array | None, Array, Array]:
    """The gradients of x, weight and bias; `moved` if mean and scale are x's own, over `axes`.

    With h = g weight, z = (x - mean) scale, and a bar for the mean over `axes`:

        dx = (h - bar(h) - z bar(h z)) scale       or h scale where mean and scale are fixed
    """
    dtypes = common_dtypes("normalise", {"g": g.dtype, "x": x.dtype, "weight": weight.dtype})
    count, channel = max(1, total([x.shape[i] for i in axes])), _channel(x.ndim, axes)
    with np.errstate(all="ignore"):
        if channel is not None and weight.size == x.shape[channel] and g.dtype == x.dtype == dtypes.result:
            of_x = np.moveaxis(x, channel, 1)
            of_g = np.moveaxis(g if g.strides == x.strides else np.ascontiguousarray(g), channel, 1)
            if norms.ready(of_x, of_g):
                gx, d_weight, d_bias = _back_by_channel(of_x, of_g, mean, scale, weight, count if moved else 0, wanted)
                return None if gx is None else np.moveaxis(gx, 1, channel), d_weight, d_bias
        g, x = g.astype(dtypes.compute, copy=False), x.astype(dtypes.compute, copy=False)
        z, _ = _less(x, mean)
        z *= scale.astype(z.dtype)
        product = g * z
        d_weight, d_bias = _summed_to(product, weight.shape), _summed_to(g, weight.shape)
        if not wanted:
            return None, d_weight, d_bias
        factor = weight.astype(g.dtype)
        h = g * factor
        if moved:
            product *= factor
            z *= (product.sum(axes, dtype=np.float64, keepdims=True) / count).astype(z.dtype)
            z += (h.sum(axes, dtype=np.float64, keepdims=True) / count).astype(z.dtype)
            h -= z
        h *= scale.astype(h.dtype)
    return h.astype(dtypes.result, copy=False), d_weight, d_bias


def _back_by_channel(
    x: Array, g: Array, mean: Array, scale: Array, weight: Array, count: int, wanted: bool
) -> tuple[Array | None, Array, Array]:
    """`affine_back` of (N, C, *in) in two sweeps; a count of 0 where mean and scale are fixed."""
    mean, scale, weight = (a.reshape(-1).astype(np.float64) for a in (mean, scale, weight))
    pivot = mean.astype(x.dtype)
    left = mean - pivot
    d_bias, products = norms.channel_sums(x, pivot, g)
    d_weight = (products - left * d_bias) * scale
    if not wanted:
        return None, d_weight, d_bias
    if not count:
        zero = np.zeros_like(scale)
        return norms.affine(g, zero, weight * scale, zero), d_weight, d_bias
    factor = -scale * scale * weight * d_weight / count
    term = -scale * weight * d_bias / count - factor * left
    return norms.affine_back(x, g, pivot, weight * scale, factor, term), d_weight, d_bias


def _channel(ndim: int, axes: Ints) -> int | None:
    """The one axis that is not summed over, if there is one and no other."""
    left = [i for i in range(ndim) if i not in axes]
    return left[0] if len(left) == 1 else None


def _less(x: Array, mean: Array) -> tuple[Array, Array]:
    """x - mean in x's dtype, halves in single precision, integers in double; and what rounding the mean left over."""
    dtype = np.dtype(np.float64) if x.dtype.kind in "iu" else np.result_type(x.dtype, np.float32)
    rounded = mean.astype(dtype)
    return np.subtract(x, rounded, dtype=dtype), mean - rounded


def _summed_to(array: Array, shape: Ints) -> Array:
    """The sum over all that broadcasting `shape` to `array` would repeat."""
    full = (1,) * (array.ndim - len(shape)) + shape
    axes = tuple(i for i, n in enumerate(full) if n == 1)
    return array.sum(axes, dtype=np.float64, keepdims=True).reshape(shape)
