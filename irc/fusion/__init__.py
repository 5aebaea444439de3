"""Graph to steps: tile kernels, loops, matrix products, views."""
