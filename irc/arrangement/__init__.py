"""The steps as they run: their order and memory, and what a backward run computes again."""
