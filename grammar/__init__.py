"""Text to syntax tree. Knows no meaning."""
