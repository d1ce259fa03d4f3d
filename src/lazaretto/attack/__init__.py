"""What hostile sites do, so that protection can be tried on it; one file per attack."""
