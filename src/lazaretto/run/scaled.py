"""How the sites of a run agree on the scaling of their features, and what their counts tell of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from lazaretto.data.scaling import (
    Scaling,
    ballot,
    bucket_counts,
    far_from,
    median_scaling,
    scaling_from_ballots,
    scaling_from_counts,
    sum_counts,
)
from lazaretto.data.sites import Partition
from lazaretto.data.streams import Streams
from lazaretto.data.wide_buckets import CELLS, WIDE, two_widths, wide_and_narrow
from lazaretto.errors import InputError
from lazaretto.privacy.counts import CountNoise, histograms, kept_counts, noisy_counts
from lazaretto.run.noisy import sum_noisy
from lazaretto.run.post import Post
from lazaretto.run.saved import load_arrays, save_arrays
from lazaretto.run.secret import Door, secret_ballots, secret_sum
from lazaretto.types import TRAIN, Int

__all__ = ["Agreement", "agree_scaling", "first_scaling", "noisy_scaling_counts"]

Agreement = Literal["sum", "median"]
_NAMED = 3  # features named in a note, of however many


def agree_scaling(
    data: Streams,
    parts: Partition,
    post: Post,
    how: Agreement = "sum",
    said: Callable[[Int, int], Int] = lambda counts, site: counts,
    door: Door | None = None,
    private: CountNoise | None = None,
) -> tuple[Scaling, list[str]]:
    """Scaling that the sites of `parts` agree on over `post`, from training units; notes for the data sheet.

    said: (true counts, site) -> what the site says they are. door: where given the counts are summed in
    secret, and nobody sees a site's own; of a median that are ballots, one mark of each site in each place.
    Where the coordinator reads the sum alone it knows of no site how its counts lie, and notes tell only
    whose ballot was none. private: noise that each site adds to its counts, or None; a site
    then weighs by its examples, and a lie by what it says. Raises InputError for the median of noisy counts.
    """
    if private is not None:
        if how != "sum":
            raise InputError(
                "the sites' noisy counts have no median worth having",
                found=how,
                way_out='data.scaling = "sum"',
            )
        total = _noisy_sum(data, parts, post, said, door, private)
        deviation = private.deviation(2 * data.x.shape[2], len(parts.site_names))
        widths = (kept_counts(one, deviation) for one in (total[:, :WIDE], total[:, WIDE:]))
        scaling = scaling_from_counts(two_widths(*widths), data.origins)
        return _told(scaling, parts, post), []
    counts = []
    for site, name in enumerate(parts.site_names):
        rows = (data.site == site) & (data.split == TRAIN)
        own = said(bucket_counts(data.x[rows], data.valid[rows], data.origins), site)
        if door is not None:
            counts.append(own)
            continue
        sent = post.send("scaling counts", name, "coordinator", 0, {"counts": own.astype(np.uint32)})
        counts.append(np.asarray(sent["counts"], np.int64))
    given, notes = dict(zip(parts.site_names, counts, strict=True)), list[str]()
    if door is not None and how == "median":
        ballots = {name: ballot(own) for name, own in given.items()}
        total, named = secret_ballots(ballots, door, "scaling", post)
        scaling = scaling_from_ballots(total, data.origins)
        notes = [f"{name} had no vote on scaling: {why}." for name, why in sorted(named.items())]
    elif door is not None:
        total = secret_sum(given, door, "scaling counts", post)
        scaling = scaling_from_counts(total, data.origins)
    elif how == "sum":
        scaling = scaling_from_counts(sum_counts(counts), data.origins)
    else:
        scaling = median_scaling(counts, data.origins)
        notes = _notes(scaling, counts, data, parts.site_names)
    return _told(scaling, parts, post), notes


def _told(scaling: Scaling, parts: Partition, post: Post) -> Scaling:
    for name in parts.site_names:
        post.send("scaling", "coordinator", name, 0, {"center": scaling.center, "scale": scaling.scale})
    return scaling


def noisy_scaling_counts(data: Streams, private: CountNoise, site: int) -> Int:
    """[F, CELLS] a site's counts of its training values, in grains: what leaves it, below 0 at times.

    An example, one window or a whole stream, counts every feature that it measures as one, over its steps,
    in wide and in narrow buckets.
    """
    steps = data.window if private.unit == "record" else data.x.shape[1]
    own = (data.site == site) & (data.split == TRAIN)
    features = data.x.shape[2]
    wide, narrow = wide_and_narrow(data.x[own], data.valid[own], data.origins)
    known = (wide >= 0).reshape(-1, steps, features)
    weight = (known / np.maximum(known.sum(axis=1, keepdims=True), 1)).reshape(len(known), -1)
    first = CELLS * np.arange(features)
    cells = [np.maximum(at, 0) + first for at in (wide, narrow + WIDE)]
    rows = histograms(
        np.concatenate([at.reshape(len(weight), -1) for at in cells], axis=1),
        np.concatenate([weight, weight], axis=1),
        features * CELLS,
    )
    clip, normals = private.length(2 * features), private.normals("scaling", site)
    return noisy_counts(rows, clip, private.of_a_site, normals).reshape(features, CELLS)


def _noisy_sum(
    data: Streams,
    parts: Partition,
    post: Post,
    said: Callable[[Int, int], Int],
    door: Door | None,
    private: CountNoise,
) -> Int:
    counts = {
        name: said(noisy_scaling_counts(data, private, site), site)
        for site, name in enumerate(parts.site_names)
    }
    return sum_noisy(counts, "scaling counts", post, door)


def _notes(scaling: Scaling, counts: Sequence[Int], data: Streams, names: Sequence[str]) -> list[str]:
    """Sites whose counts lie far from what was agreed on, in words."""
    far, features = far_from(scaling, counts, data.origins), np.array(data.features)
    return [
        f"{name}'s counts lie far from what the sites agree on in {own.sum()} of {len(own)} features "
        f"({_listed(features[own])}): most of its values are more than ten scales from the centre. It has "
        "other units of measurement, other devices, or its counts are false."
        for name, own in zip(names, far, strict=True)
        if own.any()
    ]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join([*names[:_NAMED], *([f"{more} more"] if more > 0 else [])])


def first_scaling(scaling: Scaling | None, kept: Path) -> Scaling | None:
    """The scaling in the file `kept`, where there is one; else this one, written there if it is given.

    Noise that is drawn anew when a run goes on would cost anew, and move what is half trained.
    """
    if kept.exists():
        arrays, _ = load_arrays(kept)
        return Scaling(arrays["center"], arrays["scale"])
    if scaling is not None:
        save_arrays(kept, {"center": scaling.center, "scale": scaling.scale}, {})
    return scaling
