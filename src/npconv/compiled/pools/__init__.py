"""Pooling and its gradients, both layouts."""
