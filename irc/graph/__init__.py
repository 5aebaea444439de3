"""The graph: what it is made of, what it means, whether it is well formed, and how it is read."""
