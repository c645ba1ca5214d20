"""Weights in and out of files: the ending of the name says the format. Nothing in a file is ever run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..integrations import keras_file, npz_file, safetensors_file, torch_file
from ..integrations.refusals import WeightsError, checked_name, printable, suffix
from .layer import Layer

if TYPE_CHECKING:
    from .layer import Array, Arrays

__all__ = ["WeightsError", "load_weights", "save_weights"]

_WRITERS = {
    ".safetensors": safetensors_file.write,
    ".pt": torch_file.write,
    ".pth": torch_file.write,
    ".npz": npz_file.write,
}
_READERS: dict[str, Any] = {
    ".safetensors": safetensors_file.read,
    ".pt": torch_file.read,
    ".pth": torch_file.read,
    ".npz": npz_file.read,
    ".keras": keras_file.read,
    ".h5": keras_file.read_h5,
    ".hdf5": keras_file.read_h5,
}


def load_weights(
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    flattened: Mapping[str, tuple[int, ...]] | None = None,
) -> Arrays:
    """The arrays of a file by name, as `Layer.load` takes them.

    Parameters
    ----------
    path : str or path
        A .safetensors (extra: weights), a torch .pt or .pth with a state_dict, an .npz, or a Keras .keras, .weights.h5
        or older .h5 (extra: weights).
    key : str, optional
        Of a .pt with more than weights in it, the entry that holds them, such as "state_dict" or "model".
    flattened : mapping of str to tuple, optional
        Of an .h5, which does not say it: the shape (height, width, channels) that a Flatten before a Dense made one
        axis of, by the name of the Dense. Keras flattens with the channels last, `npconv.nn` with the channels first.

    Returns
    -------
    dict of str to ndarray
        In the order of the file. Keras' kernels come turned to (O, C/G, \\*k), and named weight, bias, running_mean
        and running_var behind the layer's name. A bfloat16 is read as the float32 of the same value. Tensors that
        share memory in a .pt share it here.

    Raises
    ------
    WeightsError
        If the file is broken or holds more than arrays. Nothing in it is run, and no more memory is taken than its
        size explains.

    Examples
    --------
    >>> import numpy as np
    >>> from npconv import nn
    >>> model = nn.Sequential(nn.Conv(1, 4, 3, rng=0), nn.ReLU())
    >>> nn.save_weights("model.pt", model)
    >>> weights = nn.load_weights("model.pt")
    >>> {name: a.shape for name, a in weights.items()}
    {'0.weight': (4, 1, 3, 3), '0.bias': (4,)}
    >>> model.load(weights)
    """
    reader = _READERS.get(suffix(path))
    if reader is None:
        raise WeightsError(f"load_weights: {_unknown(path)}; it is one of {', '.join(_READERS)}")
    keys: dict[str, Any] = {
        name: value for name, value in (("key", key), ("flattened", flattened)) if value is not None
    }
    if key is not None and reader is not torch_file.read:
        raise WeightsError("load_weights: only a .pt or .pth has a key; load the file without")
    if flattened is not None and reader not in (keras_file.read, keras_file.read_h5):
        raise WeightsError("load_weights: only Keras' files have something flattened; load the file without")
    try:
        return reader(path, **keys)
    except WeightsError as error:
        raise WeightsError(f"load_weights: {printable(os.fspath(path))}: {error}") from error.__cause__


def save_weights(path: str | os.PathLike[str], weights: Layer | Mapping[str, Any]) -> None:
    """Write arrays to a file; a file that was there is replaced in one step, or stays as it is.

    Parameters
    ----------
    path : str or path
        A .safetensors (extra: weights), .pt, .pth or .npz. torch reads a .pt as a state_dict.
    weights : Layer or mapping of str to array_like
        A model, or arrays by name. A transposed array is saved in the order of its shape; a bfloat16 as such, but for
        .npz, which has none.

    Raises
    ------
    WeightsError
        If the format does not hold a dtype or a name.

    See Also
    --------
    load_weights
    """
    writer = _WRITERS.get(suffix(path))
    if writer is None:
        raise WeightsError(f"save_weights: {_unknown(path)}; it is one of {', '.join(_WRITERS)}")
    arrays = weights.weights() if isinstance(weights, Layer) else weights
    try:
        given: dict[str, Array] = {checked_name(name): np.asarray(a) for name, a in arrays.items()}
        with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(path)), prefix=".npconv-") as folder:
            temporary = os.path.join(folder, "weights")
            writer(temporary, given)
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    except WeightsError as error:
        raise WeightsError(f"save_weights: {printable(os.fspath(path))}: {error}") from None


def _unknown(path: str | os.PathLike[str]) -> str:
    return f"the name of {printable(os.fspath(path))!r} does not end in a format's"
