"""What the pixelwise kernels and those who call them must agree on."""

#: Vectors of pixels of the register tile of 1, 2, 3, 4 outputs, by vector registers: their sums, a vector of inputs and a
#: weight for each output must fit.
TILES = {32: (8, 8, 8, 6), 16: (8, 4, 3, 2)}
#: Vectors of the tile that finishes what those leave of a run of pixels.
REST = 2
#: Vectors that tiles may read behind the last plane.
TAIL = REST + 2
