"""Compressors that make updates short on the wire; one file per scheme."""
