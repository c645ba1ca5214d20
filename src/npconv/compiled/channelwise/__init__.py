"""Depthwise convolution and its gradients, channels or pixels along the vector."""
