"""All phases of a strided transposition in one launch."""
