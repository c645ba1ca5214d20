"""The words of the tables that the kernels read, by name; no Numba here."""

#: Of a panel: its phase, vectors, channels of the last one, taps (so many as one, side by side in x) and their depth,
#: chunks of both; where its tables begin, its bias and its outputs; and for packing: its first output channel, where its
#: taps stand in a table, how many there are, and where it goes.
RECORD = (
    "phase", "columns", "count", "taps", "merged", "deep", "chunk_taps", "chunk_depth", "tap_at", "w_at", "chunk_at",
    "bias_at", "y_at", "from", "from_at", "kernel", "to_at",
)  # fmt: skip
#: Of a cut of a box in one phase: its pixels, where their tables begin, where it is in x and in y.
CORNER = ("pixels", "table", "in_x", "in_y")
