"""Layers of an update that are looked at alone."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from lazaretto import catalog
from lazaretto.parameters import shapes_of
from lazaretto.personal import large_layers, personal_mask

FEATURES, KINDS = 30, 9


@pytest.mark.parametrize(
    ("model", "algorithm"),
    [("conv_gru", "fedavg"), ("conv_gru", "fedper"), ("tcn", "fedper"), ("tcn", "fedbn")],
)
def test_large_layers_are_whole_arrays_of_what_is_shared(model: str, algorithm: str) -> None:
    """Every array of parameters with a twentieth of the shared numbers or more, from its begin to its end."""
    made = catalog.build("models", model)
    shapes = shapes_of(made, FEATURES, KINDS)
    mask = personal_mask(catalog.build("algorithms", algorithm), made, FEATURES, KINDS)
    array = np.repeat(
        np.arange(len(jax.tree.leaves(shapes))), [leaf.size for leaf in jax.tree.leaves(shapes)]
    )
    shared = array if mask is None else array[~mask]
    found = large_layers(made, FEATURES, KINDS, mask)
    assert len(found) >= 2
    for begin, end in found:
        (one,) = np.unique(shared[begin:end])
        assert end - begin == (array == one).sum()
    of = {int(shared[begin]) for begin, _ in found}
    assert of == {int(one) for one in np.unique(shared) if (shared == one).sum() >= 0.05 * len(shared)}
