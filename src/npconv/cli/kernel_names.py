"""The kernels that `npconv filter` knows by name; without NumPy, so that a shell completes them at once."""

from __future__ import annotations

#: Operators whose two derivatives make the strength of edges; with -x or -y, one of them.
EDGES = ("sobel", "prewitt", "scharr")
NAMES = (
    *EDGES, *(f"{name}-{axis}" for name in EDGES for axis in "xy"),
    "blur", "box", "emboss", "gaussian", "identity", "laplacian", "sharpen",
)  # fmt: skip
