"""Where a federation runs; the only place with clocks and processes."""
