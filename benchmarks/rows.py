"""What is timed: layers of known networks, and one family for everything a convolution may ask for. Plain data.

The standard library is enough here: peers read this in environments of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

Ints = tuple[int, ...]
POOLS = ("max_pool", "avg_pool", "global_avg_pool", "adaptive_avg_pool")


@dataclass(frozen=True)
class Row:
    """One layer: (n, c, *size) to o channels; ``kernel`` is the output size where the operator is an adaptive pool."""

    n: int
    c: int
    size: Ints
    o: int
    kernel: Ints
    stride: Ints
    padding: Ints
    dilation: Ints
    groups: int = 1
    operator: str = "conv"
    dtype: str = "float32"

    @classmethod
    def read(cls, fields: dict[str, Any]) -> Row:
        """The row that `asdict` and JSON turned into lists."""
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
        return cls(**values)

    def written(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def rank(self) -> int:
        return len(self.size)

    @property
    def x_shape(self) -> Ints:
        return (self.n, self.c, *self.size)

    @property
    def w_shape(self) -> Ints:
        """(O, C/G, *k), and for a transposed convolution (C, O/G, *k)."""
        if self.operator == "conv_transpose":
            return (self.c, self.o // self.groups, *self.kernel)
        return (self.o, self.c // self.groups, *self.kernel)

    @property
    def y_shape(self) -> Ints:
        """Worked out apart from npconv, so that a size that npconv gets wrong is seen."""
        return (self.n, self.o, *map(self._out, range(self.rank)))

    def _out(self, axis: int) -> int:
        size, k, s = self.size[axis], self.kernel[axis], self.stride[axis]
        extent = self.dilation[axis] * (k - 1)
        if self.operator == "conv_transpose":
            return (size - 1) * s - 2 * self.padding[axis] + extent + 1
        if self.operator == "adaptive_avg_pool":
            return k
        return (size + 2 * self.padding[axis] - extent - 1) // s + 1

    @property
    def pool(self) -> bool:
        return self.operator in POOLS

    @property
    def flops(self) -> int:
        """Operations of the definition: two per product, padding included."""
        if self.pool:
            return math.prod(self.x_shape if self.operator == "adaptive_avg_pool" else (*self.y_shape, *self.kernel))
        slid = self.size if self.operator == "conv_transpose" else self.y_shape[2:]
        return 2 * self.n * math.prod(slid) * math.prod(self.w_shape)  # every weight meets every place once

    @property
    def name(self) -> str:
        depthwise = self.groups == self.c > 1
        words = {"conv": "depthwise " * depthwise, "conv_transpose": "transposed "}
        name = words.get(self.operator, self.operator.replace("_pool", "").replace("_", " ") + " ")
        name += (
            "" if self.operator == "global_avg_pool" else "k" * (self.rank == 1) + "x".join(map(str, self.kernel)) + " "
        )
        name += f"s{self.stride[-1]} " * (self.stride[-1] > 1 and self.operator != "global_avg_pool")
        name += f"d{self.dilation[-1]} " * (self.dilation[-1] > 1)
        name += f"g{self.groups} " * (self.groups > 1 and not depthwise)
        name += f"{self.c}" if self.c == self.o else f"{self.c}->{self.o}"
        square = self.rank > 1 and len(set(self.size)) == 1
        name += "@" + ("x".join(map(str, self.size)) if not square or self.rank > 2 else str(self.size[0]))
        return name + f" b{self.n}" * (self.n > 1) + " float64" * (self.dtype == "float64")

    @property
    def groups_of(self) -> list[str]:
        """The groups whose means it counts in."""
        if self.pool:
            return ["pool"]
        if self.dtype == "float64":
            return ["float64"]
        if self.operator == "conv_transpose":
            return ["transposed"]
        dense, plain = self.groups == 1, set(self.stride) == {1} == set(self.dilation)
        found = {
            "3d": self.rank == 3,
            "1d": self.rank == 1,
            "depthwise": self.groups == self.c > 1,
            "grouped32": self.groups == 32 < self.c,
            "large": max(self.kernel) >= 11,
            "dilated": max(self.dilation) > 1,
            "1x1": dense and set(self.kernel) == {1},
            "winograd": dense
            and plain
            and self.kernel == (3, 3)
            and min(self.c, self.o) >= 32
            and min(self.size) >= 14,
            "batch": self.n > 1,
        }
        return [name for name, holds in found.items() if holds] or ["direct"]


def row(
    c: int, size: int | Ints, o: int, k: int | Ints, s: int = 1, p: int | None = None, d: int = 1, **more: Any
) -> Row:
    """A Row on a square image; the padding that keeps the size at stride 1, unless `p` says otherwise."""
    sizes = (size, size) if isinstance(size, int) else size
    kernel = (k,) * len(sizes) if isinstance(k, int) else k
    padding = tuple(d * (n // 2) for n in kernel) if p is None else (p,) * len(sizes)
    n = more.pop("n", 1)
    return Row(n, c, sizes, o, kernel, (s,) * len(sizes), padding, (d,) * len(sizes), **more)


def depthwise(c: int, size: int | Ints, k: int | Ints = 3, s: int = 1, **more: Any) -> Row:
    return row(c, size, c, k, s, groups=c, **more)


def pool(operator: str, c: int, size: int | Ints, k: int | Ints, s: int = 1, p: int = 0, **more: Any) -> Row:
    return row(c, size, c, k, s, p, operator=operator, **more)


def resnet50() -> list[Row]:
    """The bottlenecks of four stages; the stride is in the 3x3, as in torchvision's."""
    rows, c = [row(3, 224, 64, 7, 2)], 64
    for size, width, s in ((56, 64, 1), (56, 128, 2), (28, 256, 2), (14, 512, 2)):
        wide, small = 4 * width, size // s
        rows += [row(c, size, width, 1), row(width, size, width, 3, s), row(width, small, wide, 1)]
        rows += [row(c, size, wide, 1, s), row(wide, small, width, 1), row(width, small, width, 3)]
        c = wide
    return rows


def vgg16() -> list[Row]:
    widths = ((3, 64, 224), (64, 64, 224), (64, 128, 112), (128, 128, 112), (128, 256, 56), (256, 256, 56))
    return [row(c, size, o, 3) for c, o, size in (*widths, (256, 512, 28), (512, 512, 28), (512, 512, 14))]


def mobilenet_v2() -> list[Row]:
    """Expand, depthwise, project: (expansion, width, repeats, stride) of Sandler et al. (2018), table 2."""
    rows, c, size = [row(3, 224, 32, 3, 2)], 32, 112
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expansion, width, repeats, first in stages:
        for s in (first, *(1,) * (repeats - 1)):
            inner = c * expansion
            rows += [row(c, size, inner, 1)] * (expansion > 1) + [depthwise(inner, size, 3, s)]
            size //= s
            rows.append(row(inner, size, width, 1))
            c = width
    return [*rows, row(320, 7, 1280, 1)]


#: Well-known layers, one or two of each kind, and two large kernels.
LAYERS = [
    *(row(c, size, c, 3) for c, size in ((64, 56), (256, 14), (512, 7), (512, 28), (256, 56))),
    *(row(128, 56, 128, 3, 2), row(64, 56, 256, 1), row(1024, 14, 256, 1), row(3, 224, 64, 7, 2)),
    *(depthwise(32, 112), depthwise(512, 14), row(32, 128, 32, 15), depthwise(64, 64, 31)),
]

BATCH = [
    *(row(64, 56, 64, 3, n=8), row(64, 56, 64, 3, n=32), row(256, 14, 256, 3, n=8), row(256, 14, 256, 3, n=32)),
    *(row(512, 7, 512, 3, n=8), row(512, 7, 512, 3, n=32), row(128, 56, 128, 3, 2, n=8), row(3, 224, 64, 7, 2, n=8)),
    *(row(64, 56, 256, 1, n=8), row(1024, 14, 256, 1, n=32), row(512, 14, 512, 3, n=8), row(64, 224, 64, 3, n=2)),
    *(row(96, 56, 24, 1, n=32), row(384, 14, 64, 1, n=8), row(320, 7, 1280, 1, n=32), row(2048, 7, 512, 1, n=8)),
    *(depthwise(32, 112, n=8), depthwise(96, 112, 3, 2, n=8), depthwise(384, 14, n=32), depthwise(960, 7, n=32)),
]

AUDIO = [
    *(row(64, (16000,), 64, k) for k in (3, 9, 31, 255)),
    *(row(128, (4000,), 128, 3, d=d) for d in (2, 8, 64)),
    *(row(1, (16000,), 512, 10, 5, 0), row(512, (3199,), 512, 3, 2, 0), depthwise(256, (1000,), 31)),
]

VOLUME = [
    *(row(32, (16, 28, 28), 32, 3), row(16, (32, 64, 64), 16, 3), row(32, (16, 28, 28), 32, 3, n=4)),
    *(row(64, (16, 28, 28), 32, 1), row(64, (8, 28, 28), 64, 3, 2), row(1, (32, 64, 64), 16, 5)),
    *(row(17, (8, 14, 14), 17, 3), row(64, (8, 14, 14), 64, (1, 3, 3)), depthwise(64, (8, 28, 28))),
]

TRANSPOSED = [
    row(c, size, o, k, s, p, operator="conv_transpose")
    for c, size, o, k, s, p in (
        *((64, 28, 32, 4, 2, 1), (256, 14, 128, 4, 2, 1), (512, 4, 256, 4, 2, 1), (64, 56, 32, 2, 2, 0)),
        *((64, 28, 64, 3, 1, 1), (128, (500,), 64, 4, 2, 1), (256, (250,), 128, 16, 8, 4)),
        *((32, (8, 14, 14), 16, 4, 2, 1), (64, (8, 14, 14), 32, 2, 2, 0)),
    )
]

DILATED = [row(c, size, c, 3, d=d) for c, size, d in ((64, 56, 2), (64, 56, 4), (256, 28, 2), (256, 28, 4))]

GROUPED = [
    *(row(128, 56, 128, 3, groups=32), row(256, 28, 256, 3, groups=32), row(512, 14, 512, 3, groups=32)),
    *(row(1024, 7, 1024, 3, groups=32), row(256, 56, 256, 3, 2, groups=32), row(96, 27, 256, 5, groups=2)),
]

ODD = [
    *(row(3, 64, 5, 3), row(5, 56, 17, 3), row(17, 56, 17, 3), row(100, 28, 100, 3), row(17, 31, 100, 3)),
    *(row(100, 28, 17, 1), row(17, 56, 3, 5), depthwise(17, 56), row(100, 28, 100, 3, 2)),
]

SIZES = [
    *(row(64, size, 64, 3) for size in (7, 9, 14, 20, 28, 112)),
    *(row(32, 512, 32, 3), row(8, 1024, 8, 3), row(3, 1024, 16, 3), row(1, 1024, 1, 5), row(64, 28, 64, 5)),
]

LARGE = [
    *(row(3, 224, 64, 11, 4, 2), row(64, 28, 64, 11), row(16, 64, 16, 31), row(3, 256, 8, 21)),
    *(depthwise(64, 56, 13), depthwise(96, 56, 7), depthwise(384, 14, 7)),
]

FLOAT64 = [
    *(row(64, 56, 64, 3, dtype="float64"), row(256, 14, 256, 3, dtype="float64")),
    *(row(64, 56, 256, 1, dtype="float64"), row(128, 28, 128, 3, 2, dtype="float64")),
    *(row(3, 224, 64, 7, 2, dtype="float64"), depthwise(32, 112, dtype="float64")),
    *(row(64, (4000,), 64, 9, dtype="float64"), row(16, (8, 28, 28), 16, 3, dtype="float64")),
]

DEPTHWISE = [
    *(depthwise(32, 112), depthwise(96, 112, 3, 2), depthwise(384, 14), depthwise(144, 56), depthwise(960, 7)),
    *(depthwise(240, 28, 5), depthwise(672, 14, 5, 2), row(16, 56, 32, 3, groups=16)),
]

POOL = [
    *(pool("max_pool", 64, 112, 3, 2, 1), pool("max_pool", 64, 224, 2, 2), pool("max_pool", 256, 56, 2, 2)),
    *(pool("max_pool", 512, 14, 2, 2), pool("max_pool", 192, 28, 3, 1, 1), pool("max_pool", 64, 56, 2, 2, n=8)),
    *(pool("avg_pool", 256, 28, 2, 2), pool("avg_pool", 64, 112, 2, 2), pool("avg_pool", 64, 112, 3, 2, 1)),
    *(pool("avg_pool", 192, 28, 3, 1, 1), pool("avg_pool", 128, 28, 2, 2, n=8)),
    *(pool("global_avg_pool", 2048, 7, 7), pool("global_avg_pool", 512, 7, 7, n=32)),
    *(pool("adaptive_avg_pool", 512, 14, 7), pool("adaptive_avg_pool", 256, 13, 6)),
    *(pool("max_pool", 64, (16000,), 4, 4), pool("avg_pool", 64, (16000,), 4, 4)),
    *(pool("max_pool", 32, (16, 56, 56), 2, 2), pool("avg_pool", 32, (16, 56, 56), 2, 2)),
]

FAMILIES: dict[str, list[Row]] = {
    "layers": LAYERS,
    "resnet50": resnet50(),
    "vgg16": vgg16(),
    "mobilenet_v2": mobilenet_v2(),
    "batch": BATCH,
    "audio": AUDIO,
    "volume": VOLUME,
    "transposed": TRANSPOSED,
    "dilated": DILATED,
    "grouped": GROUPED,
    "odd": ODD,
    "sizes": SIZES,
    "large": LARGE,
    "float64": FLOAT64,
    "depthwise": DEPTHWISE,
    "pool": POOL,
}


def unique(rows: Iterable[Row]) -> list[Row]:
    return list(dict.fromkeys(rows))


#: Every layer once, however many networks have it.
ROWS = unique(row for rows in FAMILIES.values() for row in rows)
NETWORKS = ("resnet50", "vgg16", "mobilenet_v2")
#: The well-known layers and the first two of each other family.
QUICK = unique(
    row for name, rows in FAMILIES.items() if name not in NETWORKS for row in (rows if name == "layers" else rows[:2])
)
