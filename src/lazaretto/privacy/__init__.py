"""Differential privacy: mechanisms as single values, what they cost, and where their noise comes from."""
