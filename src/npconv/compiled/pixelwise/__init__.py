"""Convolution with few outputs: lanes are pixels of a row."""
