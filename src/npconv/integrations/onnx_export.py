"""Write a model of `npconv.nn` as ONNX, for other runtimes: ``export(model, (None, 3, 224, 224), "model.onnx")``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..geometry import Ints

if TYPE_CHECKING:
    from ..nn import Layer

#: The operator set: 19 gave average pools dilations and padding a wrap, 20 gave Gelu.
OPSET, IR = 20, 9


def export(
    model: Layer,
    input_shape: tuple[int | None, ...],
    path: str | os.PathLike[str] | None = None,
    *,
    input_name: str = "x",
    output_name: str = "y",
) -> Any:
    """The ONNX model of a network in inference.

    Parameters
    ----------
    model : Layer
        Of layers and containers of `npconv.nn`.
    input_shape : tuple of int
        Of the input, with its batch axis; None there leaves the batch open.
    path : str or path, optional
        Where to write it.
    input_name, output_name : str
        What the ONNX model calls them.

    Returns
    -------
    onnx.ModelProto
        Checked by onnx. Its weights have the names that `Layer.weights` gives them.

    Raises
    ------
    TypeError
        For a layer that ONNX export does not know; the message says where in the model it is.
    ValueError
        If a shape does not fit the model, or a layer has no counterpart in ONNX.
    ImportError
        Without onnx, which ``pip install "npconv[onnx]"`` installs.

    Examples
    --------
    >>> import numpy as np
    >>> from npconv import nn
    >>> from npconv.integrations import onnx_export, onnx_runtime
    >>> model = nn.Sequential(nn.Conv(3, 8, 3, padding=1, rng=0), nn.BatchNorm(8), nn.ReLU(), nn.GlobalAvgPool())
    >>> proto = onnx_export.export(model, (None, 3, 32, 32))
    >>> [node.op_type for node in proto.graph.node]
    ['Conv', 'BatchNormalization', 'Relu', 'GlobalAveragePool', 'Flatten']
    >>> x = np.ones((2, 3, 32, 32), np.float32)
    >>> bool(np.allclose(onnx_runtime.load(proto)(x), model(x), atol=1e-6))
    True
    """
    from .onnx_layers import rule_of
    from .onnx_writer import Exporter, onnx

    dtypes = {a.dtype for a in model.weights().values()}
    if len(dtypes) > 1:
        raise ValueError(f"onnx: the model's weights have the dtypes {sorted(map(str, dtypes))}; ONNX wants one")
    dtype = dtypes.pop() if dtypes else np.dtype(np.float32)
    shape: Ints = tuple(1 if n is None and i == 0 else _size(n) for i, n in enumerate(input_shape))
    result = model.out_shape(shape)
    if input_name == output_name:
        raise ValueError(f"onnx: input_name and output_name are both {input_name!r}")
    exporter = Exporter(dtype, shape, (input_name, output_name), rule_of)
    exporter.walk(model)
    kind = onnx.helper.np_dtype_to_tensor_dtype(dtype)
    batch = "N" if input_shape[0] is None else shape[0]
    ends = [
        onnx.helper.make_tensor_value_info(name, kind, [batch, *sizes[1:]])
        for name, sizes in ((input_name, shape), (output_name, result))
    ]
    graph = onnx.helper.make_graph(exporter.nodes, type(model).__name__, ends[:1], ends[1:], exporter.constants)
    proto = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR, producer_name="npconv"
    )
    onnx.checker.check_model(proto, full_check=True)
    if path is not None:
        _write(Path(path), proto.SerializeToString())
    return proto


def _size(n: Any) -> int:
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError(f"onnx: input_shape holds {n!r}, expected numbers from 1 (None for the batch alone)")
    return int(n)


def _write(path: Path, data: bytes) -> None:
    """All of it or nothing."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
