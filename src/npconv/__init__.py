"""npconv: convolution and pooling for NumPy, forward and backward, every algorithm a short readable page."""

from .arguments import MemoryLimitError
from .convolution import ConvGrads, conv, conv_grads, conv_input_grad, conv_jvp, conv_weight_grad, explain

__version__ = "0.1.0"

__all__ = [
    "ConvGrads",
    "MemoryLimitError",
    "conv",
    "conv_grads",
    "conv_input_grad",
    "conv_jvp",
    "conv_weight_grad",
    "explain",
]
