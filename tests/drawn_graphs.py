"""ONNX graphs drawn at random, of the operators that a plan has layers for and some that it has not."""

import numpy as np
from onnx import helper, numpy_helper


class Drawing:
    """A graph that grows node by node; `shapes` are those of its values for a batch of two."""

    def __init__(self, seed: int, dtype: str) -> None:
        self.rng, self.dtype = np.random.default_rng(seed), dtype
        self.nodes, self.weights = [], []
        self.shapes = {
            "x": (2, int(self.rng.integers(2, 5)), int(self.rng.integers(7, 12)), int(self.rng.integers(7, 12)))
        }
        for _ in range(int(self.rng.integers(4, 14))):
            self.grow()
        if not any(node.op_type.startswith("Conv") for node in self.nodes):
            self.conv("x")
            self.conv("x")

    def weight(self, *shape: int, scale: float = 1.0, positive: bool = False) -> str:
        a = self.rng.standard_normal(shape) * scale
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array((np.abs(a) + 0.5 if positive else a).astype(self.dtype), name))
        return name

    def node(self, op: str, inputs: list, shape: tuple, **attributes) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        self.shapes[name] = tuple(map(int, shape))
        return name

    def value(self, fits=lambda shape: len(shape) == 4) -> str:
        """A value that may go on, the newer the likelier."""
        names = [name for name, shape in self.shapes.items() if fits(shape)]
        return names[-1 - min(int(self.rng.exponential(1.5)), len(names) - 1)]

    def grow(self) -> None:
        kinds = (self.conv, self.conv, self.transposed, self.norm, self.activation, self.activation, self.gated)
        kinds += (self.pool, self.scale, self.join, self.join, self.join, self.excited, self.by_node)
        kinds[self.rng.integers(len(kinds))](self.value())

    def conv(self, x: str) -> str:
        n, c, *sizes = self.shapes[x]
        groups = int(self.rng.choice([1, 1, c]))
        o, k = groups * int(self.rng.integers(1, 4)), [int(v) for v in self.rng.choice([1, 3], 2)]
        w = self.weight(o, c // groups, *k, scale=(c // groups * k[0] * k[1]) ** -0.5)
        inputs = [x, w, self.weight(o, scale=0.2)][: int(self.rng.integers(2, 4))]
        s = [int(v) for v in self.rng.choice([1, 1, 2], 2)]
        if self.rng.random() < 0.3:
            auto = str(self.rng.choice(["SAME_UPPER", "SAME_LOWER"]))
            out = [-(-size // step) for size, step in zip(sizes, s, strict=True)]
            return self.node("Conv", inputs, (n, o, *out), group=groups, strides=s, auto_pad=auto)
        pads = [int(v) + (kk > 1) for v, kk in zip(self.rng.integers(0, 2, 4), [*k, *k], strict=True)]
        out = [(sizes[i] + pads[i] + pads[i + 2] - k[i]) // s[i] + 1 for i in range(2)]
        return self.node("Conv", inputs, (n, o, *out), group=groups, strides=s, pads=pads)

    def transposed(self, x: str) -> str:
        n, c, *sizes = self.shapes[x]
        if max(sizes) > 20:
            return self.norm(x)
        w = self.weight(c, 3, 2, 2, scale=c**-0.5)
        return self.node("ConvTranspose", [x, w], (n, 3, *(2 * size for size in sizes)), strides=[2, 2])

    def norm(self, x: str) -> str:
        c = self.shapes[x][1]
        numbers = [self.weight(c, positive=True), self.weight(c), self.weight(c), self.weight(c, positive=True)]
        return self.node("BatchNormalization", [x, *numbers], self.shapes[x])

    def activation(self, x: str) -> str:
        kind = self.rng.choice(["Relu", "Sigmoid", "Tanh", "LeakyRelu", "Gelu", "Clip", "Elu", "HardSwish"])
        kind = "Relu" if kind == "Gelu" and self.dtype == "float64" else kind  # onnx's has the precision of float32
        if kind != "Clip":
            return self.node(str(kind), [x], self.shapes[x])
        for limit in (0, self.rng.choice([5, 6])):
            self.weights.append(numpy_helper.from_array(np.array(limit, self.dtype), f"w{len(self.weights)}"))
        return self.node("Clip", [x, *(w.name for w in self.weights[-2:])], self.shapes[x])

    def gated(self, x: str) -> str:
        return self.node("Mul", [x, self.node("Sigmoid", [x], self.shapes[x])], self.shapes[x])

    def pool(self, x: str) -> str:
        n, c, *sizes = self.shapes[x]
        if min(sizes) < 4:
            return self.activation(x)
        kind, s = str(self.rng.choice(["MaxPool", "AveragePool"])), int(self.rng.integers(1, 3))
        more = {} if kind == "MaxPool" else {"count_include_pad": int(self.rng.integers(2))}
        out = ((size + 1 - 3) // s + 1 for size in sizes)
        return self.node(kind, [x], (n, c, *out), kernel_shape=[3, 3], strides=[s, s], pads=[1, 0, 0, 1], **more)

    def scale(self, x: str) -> str:
        c = self.shapes[x][1]
        numbers = self.weight(*[(c, 1, 1), (1, c, 1, 1), (1,), (self.shapes[x][3],)][self.rng.integers(4)])
        pair = [x, numbers] if self.rng.random() < 0.7 else [numbers, x]
        return self.node(str(self.rng.choice(["Mul", "Add", "Sub"])), pair, self.shapes[x])

    def join(self, x: str) -> str:
        shape = self.shapes[x]
        same = [self.value(lambda other: other == shape) for _ in range(2)]
        kind = self.rng.choice(["Add", "Sum", "Concat", "Mul"])
        if kind == "Concat":
            other = self.value(lambda s: len(s) == 4 and (s[0], *s[2:]) == (shape[0], *shape[2:]))
            return self.node("Concat", [x, other], (shape[0], shape[1] + self.shapes[other][1], *shape[2:]), axis=1)
        return self.node(str(kind), [x, *same] if kind == "Sum" else [x, same[0]], shape)

    def excited(self, x: str) -> str:
        n, c = self.shapes[x][:2]
        pooled = self.node("GlobalAveragePool", [x], (n, c, 1, 1))
        gate = self.node("Sigmoid", [self.node("Conv", [pooled, self.weight(c, c, 1, 1)], (n, c, 1, 1))], (n, c, 1, 1))
        return self.node("Mul", [x, gate], self.shapes[x])

    def by_node(self, x: str) -> str:
        n, c, h, w = self.shapes[x]
        kind = self.rng.choice(["Transpose", "Softmax", "LRN", "Identity"])
        if kind == "Transpose":
            return self.node("Transpose", [x], (n, c, w, h), perm=[0, 1, 3, 2])
        more = {"Softmax": {"axis": int(self.rng.integers(1, 4))}, "LRN": {"size": 3}}
        return self.node(str(kind), [x], (n, c, h, w), **more.get(str(kind), {}))

    def model(self):
        y = self.value()
        tail = self.rng.random()
        if tail < 0.5:
            n, *rest = self.shapes[y]
            if tail < 0.25:
                y, rest = self.node("GlobalAveragePool", [y], (n, rest[0], 1, 1)), rest[:1]
            size = int(np.prod(rest))
            y = self.node("Flatten", [y], (n, size))
            y = self.node("Gemm", [y, self.weight(4, size, scale=size**-0.5), self.weight(4)], (n, 4), transB=1)
            y = self.node("Softmax", [y], (n, 4)) if self.rng.random() < 0.5 else y
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        ends = [helper.make_tensor_value_info(v, kind, ["N", *self.shapes[v][1:]]) for v in ("x", y)]
        graph = helper.make_graph(self.nodes, "g", ends[:1], ends[1:], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=8)


def drawn(seed: int):
    """A model, and how it is planned."""
    drawing = Drawing(seed, ("float32", "float64")[seed % 2])
    return drawing.model(), drawing.shapes["x"], drawing.dtype
