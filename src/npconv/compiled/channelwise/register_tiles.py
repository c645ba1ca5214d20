"""The register tiles of the channelwise kernels: parts, of which a launch is given one."""

from __future__ import annotations

from ..emit import Vectors
from ..parts import Part
from ..target import Target
from .grad import gradient_part
from .pixels import forward_part
from .sizes import STRIDES, gradient_square, gradient_tiles, tiles
from .squares import square_part


def kernels(dtype: str, target: Target) -> dict[str, Part]:
    """Those of the forward pass, and those of the weight gradient."""
    v = Vectors(dtype, target.width)
    made = {tile.name: forward_part(v, tile) for tile in tiles(v.registers, v.lanes)}
    made |= {tile.name: gradient_part(v, tile) for tile in gradient_tiles(v.registers, v.lanes)}
    if v.registers == 32:
        made |= {gradient_square(stride): square_part(v, stride) for stride in STRIDES}
    return made
