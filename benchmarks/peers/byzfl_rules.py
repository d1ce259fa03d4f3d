"""ByzFL's rules, as released, for `rule_session`. `--numpy`: on NumPy arrays instead of PyTorch tensors."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

# The part of ByzFL that runs its experiments imports torchvision, which rules do not use and which stops
# where it was built for another PyTorch (with CUDA, beside one without): an empty module stands in for it.
sys.modules["byzfl.benchmark"] = ModuleType("byzfl.benchmark")

import byzfl  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from rule_session import serve  # noqa: E402

NUMPY = "--numpy" in sys.argv[1:]


def krum(X: Any, f: int) -> Any:
    """Of the mean distance to the n - f - 1 nearest others: the f of the paper is one smaller."""
    return byzfl.Krum(f=f)(X)


def nearest_mixed(X: Any, f: int, krum_f: int) -> Any:
    """NNM, then Multi-Krum."""
    return byzfl.MultiKrum(f=krum_f)(byzfl.NNM(f=f)(X))


def centered(X: Any, tau: float, iterations: int, start: Any = None) -> Any:
    """From `start`, else from 0. The constructor refuses every start (m), so it is set afterwards."""
    rule = byzfl.CenteredClipping(L=iterations, tau=tau)
    if start is not None:
        rule.m = np.array(start) if NUMPY else torch.tensor(start)
    return rule(X)


def copied(X: Any) -> Any:
    """Clipping writes over what it is given."""
    return X.copy() if NUMPY else X.clone()


def written_over(X: Any, c: float) -> Any:
    """[1] 1 where Clipping changed the matrix that it was given."""
    mine = copied(X)
    byzfl.Clipping(c=c)(mine)
    return [float((mine != X).any())]


RULES = {
    "mean": lambda X: byzfl.Average()(X),
    "coordinate_median": lambda X: byzfl.Median()(X),
    "trimmed_mean": lambda X, f: byzfl.TrMean(f=f)(X),
    "near_median": lambda X, f: byzfl.Meamed(f=f)(X),
    "krum": krum,
    "multi_krum": lambda X, f: byzfl.MultiKrum(f=f)(X),
    "geometric_median": lambda X, nu, T: byzfl.GeometricMedian(nu=nu, T=T)(X),
    "centered_clip": centered,
    "nnm": lambda X, f: byzfl.NNM(f=f)(X),
    "nnm | multi_krum": nearest_mixed,
    "clip": lambda X, c: byzfl.Clipping(c=c)(copied(X)),
    "clip writes over": written_over,
    "refuses a start": lambda X, start: byzfl.CenteredClipping(m=np.array(start), tau=1.0)(X),
}

if __name__ == "__main__":
    torch.set_grad_enabled(False)
    serve(
        f"ByzFL, {'NumPy arrays' if NUMPY else 'PyTorch tensors'}",
        ["byzfl", "torch", "numpy", "scipy"],
        RULES,
        (lambda X: X) if NUMPY else torch.from_numpy,
    )
