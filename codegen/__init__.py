"""Kernels as data, and their rendering as source text. Knows no graph."""
