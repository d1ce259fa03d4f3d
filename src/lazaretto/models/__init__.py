"""Models with their cut point; one file per architecture."""
