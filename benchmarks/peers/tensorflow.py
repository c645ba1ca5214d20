"""TensorFlow, channels last (the layout its CPU kernels have): a concrete function with constant weights."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from ..rows import Row
from . import Call, Candidate, Operands, channels_last, forward_only, kernel_last, symmetric


def setup(threads: int) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def version() -> str:
    return tf.__version__


def to_numpy(result: Any) -> np.ndarray:
    return np.moveaxis(result.numpy(), -1, 1)


def candidates(row: Row, direction: str, arrays: Operands) -> Iterator[Candidate]:
    yield Candidate("channels_last", "prepared", partial(call, row, direction, arrays))


def call(row: Row, direction: str, arrays: Operands) -> Call:
    forward_only(direction)
    x = tf.constant(channels_last(arrays.x))
    concrete = tf.function(pool(row) if row.pool else conv(row, arrays)).get_concrete_function(x)
    return partial(concrete, x)


def conv(row: Row, arrays: Operands) -> Any:
    w = tf.constant(kernel_last(arrays.w))
    stride, dilation = list(row.stride), list(row.dilation)
    padding = [[0, 0], *symmetric(row.padding), [0, 0]]
    if row.operator == "conv_transpose":
        shape = [row.n, *row.y_shape[2:], row.o]
        if row.rank == 2:  # explicit padding exists in two dimensions
            return lambda x: tf.nn.conv2d_transpose(x, w, shape, stride, padding)
        same = [s * d for s, d in zip(row.size, row.stride, strict=True)] == shape[1:-1]
        return lambda x: tf.nn.conv_transpose(x, w, shape, stride, "SAME" if same else "VALID")
    if row.rank == 2 and row.groups == row.c > 1:
        filters = tf.reshape(w, (*row.kernel, row.c, row.o // row.c))
        if len(set(stride)) > 1 or max(dilation) > 1:
            raise NotImplementedError("depthwise with this stride or dilation")
        return lambda x: tf.nn.depthwise_conv2d(x, filters, [1, *stride, 1], padding)
    if row.rank == 2:
        return lambda x: tf.nn.conv2d(x, w, stride, padding, dilations=dilation)
    if set(stride) == {1} and row.y_shape[2:] == row.size:
        return lambda x: tf.nn.convolution(x, w, stride, "SAME", dilations=dilation)
    return lambda x: tf.nn.convolution(tf.pad(x, padding), w, stride, "VALID", dilations=dilation)


def pool(row: Row) -> Any:
    if row.operator == "global_avg_pool":
        return lambda x: tf.reduce_mean(x, list(range(1, 1 + row.rank)), keepdims=True)
    if row.operator == "adaptive_avg_pool":
        raise NotImplementedError("TensorFlow has no adaptive pool")
    kind = {"max_pool": "MAX", "avg_pool": "AVG"}[row.operator]
    if not any(row.padding):
        padding: Any = "VALID"
    elif kind == "MAX" and row.rank == 2:
        padding = [[0, 0], *symmetric(row.padding), [0, 0]]
        return lambda x: tf.nn.max_pool2d(x, list(row.kernel), list(row.stride), padding)
    else:
        raise NotImplementedError("its average leaves the padding out")
    return lambda x: tf.nn.pool(x, list(row.kernel), kind, list(row.stride), padding)
