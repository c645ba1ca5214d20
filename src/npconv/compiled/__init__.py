"""Compiled kernels: machine code made from Python functions, ahead of time or here. The only place that imports numba."""
