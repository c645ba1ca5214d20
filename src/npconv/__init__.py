"""npconv: convolution and pooling for NumPy, forward and backward, every algorithm a short readable page."""

from .arguments import MemoryLimitError
from .convolution import ConvGrads, conv, conv_grads, conv_input_grad, conv_jvp, conv_weight_grad, explain
from .local import LocalGrads, local_conv, local_conv_grads
from .ranked import conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d
from .separable import (
    SeparableGrads,
    depthwise_conv,
    depthwise_conv_grads,
    separable_conv,
    separable_conv_grads,
)
from .transposed import (
    conv_transpose,
    conv_transpose_grads,
    conv_transpose_input_grad,
    conv_transpose_weight_grad,
)
from .unfolding import fold, unfold

__version__ = "0.1.0"

__all__ = [
    "ConvGrads",
    "LocalGrads",
    "MemoryLimitError",
    "SeparableGrads",
    "conv",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_grads",
    "conv_input_grad",
    "conv_jvp",
    "conv_transpose",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "conv_transpose_grads",
    "conv_transpose_input_grad",
    "conv_transpose_weight_grad",
    "conv_weight_grad",
    "depthwise_conv",
    "depthwise_conv_grads",
    "explain",
    "fold",
    "local_conv",
    "local_conv_grads",
    "separable_conv",
    "separable_conv_grads",
    "unfold",
]
