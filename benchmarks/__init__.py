"""Speed beside peers in the same run: interleaved, medians, as ratios."""
