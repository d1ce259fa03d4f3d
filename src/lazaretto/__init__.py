"""Lazaretto: a common attack detector for hospitals that never pool their data."""

__version__ = "0.1.0"
