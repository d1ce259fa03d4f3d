"""What the coordinator does with the mean update: one file per optimiser."""
