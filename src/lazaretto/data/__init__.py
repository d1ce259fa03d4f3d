"""Sources of data: a path becomes a `Table`; one file per source."""
