"""Syntax to graph, piece by piece: names, indices, sizes, types, bounds. `irc/build.py` puts the pieces together."""
