"""Matplotlib pictures of images, kernels, feature maps, gradients and races.

Every function draws into the `ax` or `figure` it is given, else into pyplot's current or a new one, and
returns the artists. Signed values are drawn blue (negative), white (zero) and orange (positive), which every
kind of colour vision tells apart; values without a sign are drawn from black to white.
"""

try:
    import matplotlib as _matplotlib  # noqa: F401
except ImportError as error:
    raise ImportError('npconv.plots needs matplotlib: pip install "npconv[plot]"') from error

from .cells import numbers
from .charts import confusion, history, race
from .gradients import padded_gradient
from .grids import feature_maps, image_grid
from .images import boxed, image
from .kernels import filtered, products
from .style import BLUE, COUNTS, GREY, ORANGE, SIGNED

__all__ = [
    "BLUE",
    "COUNTS",
    "GREY",
    "ORANGE",
    "SIGNED",
    "boxed",
    "confusion",
    "feature_maps",
    "filtered",
    "history",
    "image",
    "image_grid",
    "numbers",
    "padded_gradient",
    "products",
    "race",
]
