"""Benchmarks: speed lives here, never in a timed test. `python -m benchmarks.run --help`."""
