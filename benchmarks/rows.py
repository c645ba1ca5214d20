"""The layers that are timed. Names say kernel, channels and image; shapes are (batch, channels, size, ...)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One layer: a convolution of (n, c, *size) with o kernels, or a pooling where o is 0."""

    name: str
    n: int
    c: int
    size: tuple[int, ...]
    o: int
    kernel: tuple[int, ...]
    stride: int = 1
    padding: int = 0
    groups: int = 1
    operator: str = "conv"

    @property
    def x_shape(self) -> tuple[int, ...]:
        return (self.n, self.c, *self.size)

    @property
    def w_shape(self) -> tuple[int, ...]:
        return (self.o, self.c // self.groups, *self.kernel)

    def y_shape(self) -> tuple[int, ...]:
        out = ((s + 2 * self.padding - k) // self.stride + 1 for s, k in zip(self.size, self.kernel, strict=True))
        return (self.n, self.o or self.c, *out)


def square(
    name: str, c: int, size: int, o: int, k: int, stride: int = 1, groups: int = 1, operator: str = "conv", n: int = 1
) -> Row:
    """A square image under a square kernel with half its size as padding."""
    return Row(name, n, c, (size, size), o, (k, k), stride, k // 2, groups, operator)


#: Layers of ResNet-50, VGG-16, MobileNet and two large kernels.
CONV = [
    square("3x3 64@56", 64, 56, 64, 3),
    square("3x3 256@14", 256, 14, 256, 3),
    square("3x3 512@7", 512, 7, 512, 3),
    square("3x3 512@28", 512, 28, 512, 3),
    square("3x3 s2 128@56", 128, 56, 128, 3, stride=2),
    square("1x1 64->256@56", 64, 56, 256, 1),
    square("1x1 1024->256@14", 1024, 14, 256, 1),
    square("stem 7x7 s2 3->64@224", 3, 224, 64, 7, stride=2),
    square("depthwise 3x3 32@112", 32, 112, 32, 3, groups=32),
    square("depthwise 3x3 512@14", 512, 14, 512, 3, groups=512),
    square("15x15 32@128", 32, 128, 32, 15),
    square("depthwise 31x31 64@64", 64, 64, 64, 31, groups=64),
    square("3x3 256@56", 256, 56, 256, 3),
]

POOL = [
    Row("max 2x2 s2 64@112", 1, 64, (112, 112), 0, (2, 2), 2, 0, 1, "max_pool"),
    Row("max 3x3 s2 64@112", 1, 64, (112, 112), 0, (3, 3), 2, 1, 1, "max_pool"),
    Row("max 3x3 s1 192@28", 1, 192, (28, 28), 0, (3, 3), 1, 1, 1, "max_pool"),
    Row("avg 2x2 s2 256@28", 1, 256, (28, 28), 0, (2, 2), 2, 0, 1, "avg_pool"),
    Row("avg 2x2 s2 64@112", 1, 64, (112, 112), 0, (2, 2), 2, 0, 1, "avg_pool"),
    Row("avg 3x3 s2 64@112", 1, 64, (112, 112), 0, (3, 3), 2, 1, 1, "avg_pool"),
    Row("avg 3x3 s1 192@28", 1, 192, (28, 28), 0, (3, 3), 1, 1, 1, "avg_pool"),
]

GROUPS = {"conv": CONV, "pool": POOL}
