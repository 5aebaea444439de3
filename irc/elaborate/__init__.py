"""Syntax to graph, piece by piece: names, indices, sizes, types, bounds. `build.py` puts the pieces together."""
