"""npconv: convolution and pooling for NumPy, forward and backward, every algorithm a short readable page.

What `conv` needs is loaded at once, so that the first call of a process is about as quick as the next, unless the process
is the command `npconv`, whose help needs nothing. Other names load their module when first used; `__init__.pyi` types them.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from .lazy import loaded

__version__ = "0.1.0"

#: Where each public name lives.
_HOME = {
    "memory": ("MemoryLimitError",),
    "compiled.threads": ("get_num_threads", "num_threads", "set_num_threads"),
    "convolution": ("conv",),
    "gradients": ("ConvGrads", "conv_grads", "conv_input_grad", "conv_weight_grad"),
    "tangents": ("conv_jvp",),
    "explaining": ("explain",),
    "plan": ("ConvPlan", "plan_conv", "plan_conv_transpose"),
    "transposed": ("conv_transpose",),
    "transposed_grads": ("conv_transpose_grads", "conv_transpose_input_grad", "conv_transpose_weight_grad"),
    "depthwise": ("depthwise_conv", "depthwise_conv_grads"),
    "separable": ("SeparableGrads", "separable_conv", "separable_conv_grads"),
    "local": ("local_conv",),
    "local_grads": ("LocalGrads", "local_conv_grads"),
    "unfolding": ("fold", "unfold"),
    "pooling": ("avg_pool", "lp_pool", "max_pool"),
    "pooling_grads": ("avg_pool_grad", "lp_pool_grad", "max_pool_grad"),
    "adaptive": (
        "adaptive_avg_pool",
        "adaptive_avg_pool_grad",
        "adaptive_max_pool",
        "adaptive_max_pool_grad",
    ),
    "global_pooling": ("global_avg_pool", "global_avg_pool_grad", "global_max_pool", "global_max_pool_grad"),
    "fractional": ("fractional_max_pool", "fractional_max_pool_grad"),
    "unpooling": ("max_unpool", "max_unpool_grad"),
    "ranked": ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    "explorer": ("explore",),
    "ranked_pools": ("avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool1d", "max_pool2d", "max_pool3d"),
}
#: Modules to use by name, as in ``npconv.filters.apply``.
_MODULES = ("filters", "gradcheck", "integrations", "nn", "plots", "testing")

__all__ = sorted(name for names in _HOME.values() for name in names)

# at this moment, "-m" is the name of a module that Python runs as a command
if os.path.basename(next(iter(getattr(sys, "argv", [])), "")).removesuffix(".exe") not in ("npconv", "-m"):
    from .compiled import ahead as _ahead
    from .convolution import conv as conv

    _ahead.load()


def __getattr__(name: str) -> Any:
    return loaded(__name__, _HOME, name, _MODULES)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, *_MODULES])
