"""Lazaretto: a common attack detector for hospitals that never pool their data."""

import os

__version__ = "0.1.0"

# Read by OpenMP when it is first loaded, here with scikit-learn. Its threads wait for each other awake:
# where other programs wanted the same cores, boosting took 56 s so, and 7 s asleep. No figure depends on it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
