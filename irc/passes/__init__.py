"""Graph to graph: derivatives, and forms of the same meaning that kernels can take, or are faster at."""
