"""Rules that turn site updates into one; one file per rule."""
