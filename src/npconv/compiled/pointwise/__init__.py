"""Convolution with one tap, channels first: lanes are pixels, which lie side by side as they are."""
