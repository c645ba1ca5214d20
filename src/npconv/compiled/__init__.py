"""Compiled kernels: machine code made from Python functions, where numba is installed. The only place that imports it."""
