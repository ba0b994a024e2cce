"""Benchmarks: fnn beside what else one would use."""
