"""A compiled program on arrays: calls, runs, what they accept, and PyTorch's graphs and transforms."""
