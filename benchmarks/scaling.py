"""What scaling by the median over sites costs where all are honest, and what false counts move.

    python benchmarks/scaling.py --seeds 0 1

20 hospitals of `consortium`, as their own and by labels skewed with Dirichlet .3. Printed beside the scaling
that the sum of honest counts gives, over all features, both kinds of sites and all seeds.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
from typing import Any

import machine
import numpy as np

from lazaretto.attack.scale_poisoning import scale_poisoning
from lazaretto.data.scaling import (
    TOTAL,
    Scaling,
    bucket_counts,
    far_from,
    median_scaling,
    scaling_from_counts,
    sum_counts,
)
from lazaretto.keys import generator
from lazaretto.plan import Plan
from lazaretto.run.prepare import lay
from lazaretto.types import TRAIN

__all__ = ["main"]


def counts_of(by: str, seed: int) -> list[Any]:
    """Each hospital's counts."""
    sites = {"by": by} if by == "natural" else {"by": by, "count": 20}
    data = {"source": "consortium", "options": {"sites": 20, "units_per_site": 20}}
    one = lay(Plan.model_validate({"data": data, "sites": sites}), seed).data
    own = [(one.site == site) & (one.split == TRAIN) for site in range(20)]
    return [bucket_counts(one.x[rows], one.valid[rows], one.origins) for rows in own]


def falsified(counts: list[Any], end: Any, seed: int) -> tuple[list[Any], Any]:
    """The counts with those of six hospitals false, and which [20] those are."""
    made, hostile = scale_poisoning(end).counts, generator(seed, "hostile").permutation(20) < 6
    assert made is not None  # noqa: S101  it falsifies counts
    rng = generator(seed, "scale poisoning")
    return [made(own, TOTAL, rng) if bad else own for bad, own in zip(hostile, counts, strict=True)], hostile


def main() -> None:
    """Measure and print, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    seeds = parser.parse_args().seeds
    found: dict[str, list[tuple[Any, Any]]] = {}
    named: dict[str, list[Any]] = {"hostile": [], "honest": []}

    def beside(name: str, scaling: Scaling, usual: Scaling) -> None:
        moved = np.abs(scaling.center - usual.center) / usual.scale
        found.setdefault(name, []).append((scaling.scale / usual.scale, moved))

    for by in ("natural", "dirichlet"):
        for seed in seeds:
            counts = counts_of(by, seed)
            usual = scaling_from_counts(sum_counts(counts))
            beside("median, all honest", median_scaling(counts), usual)
            for end in ("top", "bottom", "both"):
                false, hostile = falsified(counts, end, seed)
                agreed = median_scaling(false)
                beside("median, 30 % hostile", agreed, usual)
                far = far_from(agreed, false)
                named["hostile"].append(far[hostile])
                named["honest"].append(far[~hostile])
                beside("sum, 30 % hostile", scaling_from_counts(sum_counts(false)), usual)
    print("| | scale, times that of the sum | its median | centre moved, in scales, at most |")
    print("|---|---|---|---|")
    for name, pairs in found.items():
        scale, moved = (np.concatenate(values) for values in zip(*pairs, strict=True))
        row = f"| {name} | {scale.min():.3g} to {scale.max():.3g} | {np.median(scale):.3g} "
        print(f"{row}| {moved.max():.2f} |")
    print("\nnamed as far off, of sites and features:")
    for who, parts in named.items():
        print(f"- {who}: {int(np.sum(parts))} of {int(np.size(parts))}")
    print(f"\n{machine.described()}; seeds {', '.join(map(str, seeds))}; commit {machine.commit()}")


if __name__ == "__main__":
    main()
