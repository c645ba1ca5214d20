"""Convolution of tiles through their spectra."""
