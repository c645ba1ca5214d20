"""Batch norm and rectifiers: sums per channel, and sweeps that shift, scale and cut."""
