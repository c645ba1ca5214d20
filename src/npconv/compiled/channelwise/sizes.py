"""What the channelwise kernels and those who call them must agree on: which register tiles there are, and how they count."""

from __future__ import annotations

from ...records import dataclass

#: Pixels of a square tile of the gradient, in each of its two rows.
WIDE = 7
#: What squares bring into the cache ahead: nothing, what the rows below read, or the vectors after the next of the same
#: pixels, where an image is no wider than a square.
NOTHING, BELOW, BESIDE = range(3)
#: Words of the frame of a forward tile.
FRAME_WORDS = 30
#: How wide the kernels are that have tiles for a transposition of stride 2.
QUADS = (3, 5)
#: Strides of square tiles: two rows of outputs by 3 x 3 taps.
STRIDES = (1, 2)


@dataclass(frozen=True)
class Tile:
    """A register tile of so many pixels: groups of Q; sliding: its taps are neighbours and its pixels `slide` apart.

    A tile with a `stride` has two rows of outputs and 3 x 3 taps, whose weights stay in registers. One with `quads` is of a
    transposition of stride 2, with kernels so wide.
    """

    Q: int
    pixels: int
    slide: int = 0
    stride: int = 0
    quads: int = 0

    @property
    def name(self) -> str:
        """Its part's."""
        kinds = {"group": self.Q, "slide": self.slide, "square": self.stride, "quad": self.quads}
        return f"outputs_{'_'.join(f'{name}{n}' for name, n in kinds.items() if n)}"


def tiles(registers: int, lanes: int) -> list[Tile]:
    """The tiles of the forward pass: sums, weights and inputs must fit the registers."""
    many = registers == 32
    made = [Tile(1, 7), Tile(1, 7, slide=1)]
    if many:
        made += [Tile(1, 7, slide=2), *(Tile(1, 7, stride=stride) for stride in STRIDES)]
    made += [Tile(1, 7 if many else 4, quads=taps) for taps in QUADS]
    wide = {2: 7, 4: 6, 8: 3} if many else {2: 5, 4: 2, 8: 1}
    return made + [Tile(Q, pixels) for Q, pixels in wide.items() if lanes >= Q]


@dataclass(frozen=True)
class Taps:
    """A register tile of the weight gradient: groups of Q, so many taps."""

    Q: int
    taps: int

    @property
    def name(self) -> str:
        """Its part's."""
        return f"taps_group{self.Q}_{self.taps}"


def gradient_tiles(registers: int, lanes: int) -> list[Taps]:
    """The tiles there are, two for depthwise, then groups of 2, 4, 8."""
    taps = (9, 3, 6, 6, 3) if registers == 32 else (9, 3, 3, 2, 1)
    return [Taps(Q, many) for Q, many in zip((1, 1, 2, 4, 8), taps, strict=True) if lanes >= Q]


def gradient_square(stride: int) -> str:
    """The name of the part that is the gradient's square tile."""
    return f"taps_square{stride}"
