"""A federation without one of its sites, to be judged on that site.

What the site holds for training and validation is not there at all, so nothing can lean on it: neither the
scaling, which the others agree on anew, nor the parameters, nor a threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lazaretto.data.streams import select
from lazaretto.plan import Plan
from lazaretto.run.post import Post
from lazaretto.run.prepare import Prepared, rescaled
from lazaretto.types import TEST

__all__ = ["sites_to_leave_out", "without_site"]


def without_site(prepared: Prepared, site: int, post: Post) -> Prepared:
    """Training and validation units of the other sites, test units of `site`, scaled as the others agree.

    prepared: with `raw`. The others keep their order and are numbered from 0; `site` comes after them and has
    no name, since it takes part in nothing. `sheet` stays that of the whole. post: carries the messages of
    scaling.
    """
    assert prepared.raw is not None  # noqa: S101  kept wherever the plan leaves sites out
    whole = prepared.raw
    data = replace(whole, site=prepared.data.site)
    ours = (data.site != site) & (prepared.parts.site != site)  # nor what it gave to the root data
    rows = np.flatnonzero(np.where(data.split == TEST, data.site == site, ours))
    names = tuple(name for other, name in enumerate(prepared.site_names) if other != site)
    kept = select(data, rows)
    number = np.where(kept.site == site, len(names), kept.site - (kept.site > site))
    order = [other for other in range(len(prepared.site_names)) if other != site] + [site]
    parts = replace(prepared.parts, site=number, site_names=names, withheld=prepared.parts.withheld[order])
    scaling, scaled = rescaled(replace(kept, site=number), parts, post, prepared.agreement, prepared.door)
    return replace(
        prepared,
        data=scaled,
        site_names=names,
        parts=parts,
        scaling=scaling,
        raw=None,
    )


def sites_to_leave_out(plan: Plan, prepared: Sequence[Prepared]) -> list[int]:
    """The first sites, as many as the plan asks for, that have test units in every seed of `prepared`.

    None where no other site would be left to learn from.
    """
    names = prepared[0].site_names
    if len(names) < 2:
        return []
    asked = plan.evaluate.leave_one_site_out
    tested = [
        site
        for site in range(len(names))
        if all(((one.data.site == site) & (one.data.split == TEST)).any() for one in prepared)
    ]
    return tested if asked == "all" else tested[:asked]
