"""Writes what Keras itself saves, and what its models compute, into a folder: run in a process of its own.

python keras_checkpoints.py FOLDER NAME ...       "layers" for two models of many kinds of layers, or one of NETWORKS
"""

import os
import sys
import warnings

os.environ.setdefault("KERAS_BACKEND", "torch")
warnings.simplefilter("ignore")

import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import layers as L  # noqa: E402

from npconv import nn  # noqa: E402
from npconv.nn import models  # noqa: E402

#: name -> (the network here, which Keras shall build too; height and width, channels)
NETWORKS = {
    "lenet": (models.lenet5, 28, 1),
    "vgg": (lambda: models.vgg11(10, hidden=64), 40, 3),
    "resnet": (lambda: models.resnet18(10), 48, 3),
    "densenet": (lambda: models.densenet121(10), 48, 3),
    "inception": (lambda: models.googlenet(10), 48, 3),
    "mobilenet": (lambda: models.mobilenet_v2(10), 48, 3),
    "unet": (lambda: models.unet(width=8), 48, 3),
}
#: What our paths have more than torchvision's.
OURS = ("add.body.", ""), ("add.shortcut", "downsample"), ("added.", ""), ("body.conv", "conv")

rng = np.random.default_rng(0)


def finish(name: str, model: keras.Model, x: np.ndarray, *more: str) -> None:
    """Random weights that a training could have left, the files, and the outputs."""
    for variable in model.weights:
        kind, shape = variable.path.split("/")[-1], variable.shape
        fan = max(1, int(np.prod(shape[:-1])) if len(shape) < 4 or shape[-1] > 1 else shape[0] * shape[1])
        value = rng.standard_normal(shape) * ((2 / fan) ** 0.5 if len(shape) > 1 else 0.1) + (kind == "gamma")
        variable.assign(rng.uniform(0.5, 2, shape) if "variance" in kind else value)
    model.save(f"{folder}/{name}.keras")
    model.save_weights(f"{folder}/{name}.weights.h5")
    for suffix in more:
        model.save(f"{folder}/{name}{suffix}")
    np.savez(f"{folder}/{name}.npz", x=x, y=model.predict(x, verbose=0))


def kinds_of_layers() -> None:
    x = rng.standard_normal((2, 9, 8, 3)).astype("float32")
    model = keras.Sequential(
        [
            keras.Input((9, 8, 3)), L.Conv2D(4, 3, padding="same", name="first"), L.BatchNormalization(scale=False),
            L.ReLU(), L.DepthwiseConv2D(3, depth_multiplier=2), L.BatchNormalization(center=False),
            L.SeparableConv2D(5, 3, depth_multiplier=2), L.Conv2DTranspose(6, 2, strides=2), L.Flatten(),
            L.Dropout(0.2), L.BatchNormalization(), L.Dense(7, name="scores"),
        ]
    )  # fmt: skip
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(x, np.zeros((2, 7)), verbose=0)
    finish("sequential", model, x, ".h5")
    inner_in, outer_in = keras.Input((9, 8, 3)), keras.Input((9, 8, 3))
    inner = keras.Model(inner_in, L.Conv2D(4, 3, name="a")(inner_in), name="inner")
    flat = L.Flatten(name="flat")(inner(outer_in))
    finish("nested", keras.Model(outer_in, L.Dense(3, name="out")(L.Activation("relu")(flat))), x, ".h5")


def network(name: str) -> None:
    make, size, channels = NETWORKS[name]
    start = keras.Input((size, size, channels))
    x = rng.standard_normal((2, size, size, channels)).astype("float32")
    finish(name, keras.Model(start, built(make(), start, "")), x)


def built(layer: nn.Layer, x, path: str):
    """What Keras' layer of the same kind makes of x."""
    inner = [(child, f"{path}.{name}" if path else name) for name, child in layer.children.items()]
    if isinstance(layer, nn.Sequential):
        for child, place in inner:
            x = built(child, x, place)
        return x
    if isinstance(layer, nn.Parallel):
        return (L.Add() if layer.join == "add" else L.Concatenate())([built(child, x, place) for child, place in inner])
    if isinstance(layer, (nn.Conv, nn.MaxPool)):
        x = padded(layer, x)
    return x if isinstance(layer, nn.Identity) else of_keras(layer, path)(x)


def padded(layer: nn.Layer, x):
    """Zeros around x, as many as the windows read: every max-pool here follows a ReLU, so that a 0 never wins."""
    sizes, strides = ((v, v) if isinstance(v, int) else v for v in (layer.kernel, layer.stride or layer.kernel))
    lows = [layer.padding] * 2 if isinstance(layer.padding, int) else [low for low, _ in layer.padding]
    outs = layer.out_shape((1, x.shape[-1], *x.shape[1:3]))[2:]
    each = zip(x.shape[1:3], outs, sizes, strides, lows, strict=True)
    pads = [(low, max(0, (out - 1) * s + k - n - low)) for n, out, k, s, low in each]
    return L.ZeroPadding2D(pads)(x) if np.any(pads) else x


def of_keras(layer: nn.Layer, path: str) -> keras.Layer:
    for ours, theirs in OURS:
        path = path.replace(ours, theirs)
    named = {"name": path.replace(".", "_")}
    match layer:
        case nn.Conv():
            sliding = {"strides": layer.stride, "use_bias": "bias" in layer.params, **named}
            depthwise = layer.groups > 1
            return (
                L.DepthwiseConv2D(layer.kernel, **sliding)
                if depthwise
                else L.Conv2D(layer.out_channels, layer.kernel, **sliding)
            )
        case nn.ConvTranspose():
            return L.Conv2DTranspose(layer.out_channels, layer.kernel, strides=layer.stride, **named)
        case nn.Linear():
            return L.Dense(layer.out_features, **named)
        case nn.BatchNorm():
            return L.BatchNormalization(epsilon=layer.eps, **named)
        case nn.MaxPool():
            return L.MaxPooling2D(layer.kernel, strides=layer.stride, **named)
        case nn.AvgPool():
            return L.AveragePooling2D(layer.kernel, strides=layer.stride, **named)
        case nn.AdaptiveAvgPool():
            return L.AdaptiveAveragePooling2D(layer.size, **named)
        case nn.Dropout():
            return L.Dropout(layer.rate, **named)
        case nn.ReLU6():
            return L.ReLU(max_value=6, **named)
    return {nn.ReLU: L.ReLU, nn.Flatten: L.Flatten, nn.GlobalAvgPool: L.GlobalAveragePooling2D}[type(layer)](**named)


folder, *names = sys.argv[1:]
for name in names:
    kinds_of_layers() if name == "layers" else network(name)
