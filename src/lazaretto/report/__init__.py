"""Readers of the run log: one self-contained page."""
