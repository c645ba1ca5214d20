"""What the channelwise kernels and those who call them must agree on."""

#: Taps of the weight gradient's tiles, by vector registers and kind: two for depthwise, then groups of 2, 4, 8.
TAPS = {32: (9, 3, 6, 6, 3), 16: (9, 3, 3, 2, 1)}
#: Pixels of a square tile of the gradient, in each of its two rows.
WIDE = 7
#: Words of the frame of a forward tile.
FRAME_WORDS = 30
#: How wide the kernels are that have tiles for a transposition of stride 2.
QUADS = (3, 5)
#: The kind of register tile whose pixels are neighbours, as its taps are.
SLIDING = 1
