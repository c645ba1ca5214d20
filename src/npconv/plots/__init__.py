"""Matplotlib pictures of images, kernels, feature maps, gradients and races.

Every function draws into the `ax` or `figure` it is given, else into pyplot's current or a new one, and
returns the artists. Signed values are drawn blue (negative), white (zero) and orange (positive), which every
kind of colour vision tells apart; values without a sign are drawn from black to white.
"""

try:
    import matplotlib as _matplotlib  # noqa: F401
except ImportError as error:
    raise ImportError('npconv.plots needs matplotlib: pip install "npconv[plot]"') from error

from .animated import Animation, sliding
from .cells import numbers
from .charts import confusion, history, race
from .columns import im2col
from .fields import receptive_field
from .filtering import filtered, products
from .frequencies import spectra
from .gradients import padded_gradient
from .grids import image_grid
from .images import boxed, image
from .maps import feature_maps
from .style import BLUE, COUNTS, GREY, ORANGE, SIGNED
from .tiles import winograd_tile
from .weights import kernels

__all__ = [
    "BLUE",
    "COUNTS",
    "GREY",
    "ORANGE",
    "SIGNED",
    "Animation",
    "boxed",
    "confusion",
    "feature_maps",
    "filtered",
    "history",
    "im2col",
    "image",
    "image_grid",
    "kernels",
    "numbers",
    "padded_gradient",
    "products",
    "race",
    "receptive_field",
    "sliding",
    "spectra",
    "winograd_tile",
]
