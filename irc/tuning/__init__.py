"""Measured on this machine: where the time goes, and which tiles are the fastest."""
