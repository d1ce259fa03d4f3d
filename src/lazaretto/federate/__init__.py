"""How sites train towards a common model: one file per algorithm."""
