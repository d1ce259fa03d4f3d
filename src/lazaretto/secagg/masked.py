"""Sums of updates that nobody sees: one masked round in one process, every message through a tap.

SecAgg+ (Bell et al. 2020, https://doi.org/10.1145/3372297.3417885) with the signatures of Bonawitz et al.
2017 (https://doi.org/10.1145/3133956.3133982). Who learns what stands in docs/secagg_masked.md.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import InputError, PlanError, RoundRefused, WireError
from lazaretto.secagg.masked_keys import derive, public_identity
from lazaretto.secagg.masked_messages import FROM_SITES
from lazaretto.secagg.masked_server import CloseStep, handle_at_server, start_server
from lazaretto.secagg.masked_settings import (
    COORDINATOR,
    Masked,
    Setup,
    check_masked,
    from_fixed,
    to_fixed,
)
from lazaretto.secagg.masked_site import SiteState, handle_at_site, start_site
from lazaretto.types import Array, Message

__all__ = ["MaskedCounts", "MaskedRound", "Tap", "Vanish", "mask_counts", "mask_round", "prepare"]

Tap = Callable[[Message], None]
Vanish = Callable[[str, str], bool]


class MaskedRound(NamedTuple):
    """What a masked round came to.

    update:  [d] float64, weighted mean of the updates that arrived. weight: their sum of weights.
    arrived: their names. refused: name -> why a site stopped by itself, its update not in the mean unless it
    is also in `arrived`.
    """

    update: NDArray[np.float64]
    weight: float
    arrived: tuple[str, ...]
    refused: Mapping[str, str]


class MaskedCounts(NamedTuple):
    """total: int64 of the shape that each site's counts have. arrived, refused: as of `MaskedRound`."""

    total: NDArray[np.int64]
    arrived: tuple[str, ...]
    refused: Mapping[str, str]


def mask_round(
    settings: Masked,
    updates: Mapping[str, Array],
    weights: Mapping[str, float],
    secrets: Callable[[str], bytes],
    tap: Tap,
    vanish: Vanish | None = None,
    *,
    round_number: int,
) -> MaskedRound:
    """The weighted mean of updates [d] of sites by name, none of which anybody sees.

    weights: finite, above 0; the largest of them is public, of the others only their sum is opened. secrets:
    name of a site, or "coordinator" -> 32 bytes, fresh in every round. tap: gets each message that is sent.
    vanish: (name, kind of message) -> whether the site is gone from that message on. A site whose update has
    NaN or infinity stays away and is in `refused`. Raises PlanError as `check_masked`, InputError for
    updates of different lengths or such weights, RoundRefused where too few sites are left.
    """
    check_masked(settings, len(updates))
    if set(weights) != set(updates) or not all(math.isfinite(w) and w > 0 for w in weights.values()):
        raise InputError(
            "weights of a masked sum are not one number above 0 for each site", found=dict(weights)
        )
    most, vectors, refused = max(weights.values()), {}, {}
    for name, update in updates.items():
        try:
            vectors[name] = to_fixed(update, weights[name] / most, settings, len(updates))
        except InputError as error:
            refused[name] = error.problem
    total, arrived, stopped = _run(settings, list(updates), vectors, secrets, tap, vanish, round_number)
    update, weight = from_fixed(total, settings, len(updates))
    return MaskedRound(update, weight * most, arrived, {**refused, **stopped})


def mask_counts(
    settings: Masked,
    counts: Mapping[str, Array],
    largest: int,
    secrets: Callable[[str], bytes],
    tap: Tap,
    vanish: Vanish | None = None,
    *,
    round_number: int,
) -> MaskedCounts:
    """The sum of integer arrays of sites, all of one shape, exactly.

    largest: public; a site with an entry beyond it, either way, stays away and is in `refused`. The rest is
    as in `mask_round`. Raises PlanError where sums of so many sites could wrap.
    """
    check_masked(settings, len(counts))
    if largest < 1 or len(counts) * largest >= 2 ** (settings.ring_bits - 1):
        raise PlanError(
            f"the ring of {settings.ring_bits} bits is too small for counts of {len(counts)} sites",
            found=f"up to {largest} each",
            way_out="a ring of 64 bits, or a lower largest count",
        )
    vectors, refused, shapes = {}, {}, {np.shape(array) for array in counts.values()}
    if len(shapes) != 1:
        raise InputError("counts to be masked have different shapes", found=sorted(shapes))
    for name, array in counts.items():
        row = np.asarray(array)
        if row.dtype.kind not in "iu" or (row.size and max(-int(row.min()), int(row.max())) > largest):
            refused[name] = f"its counts are not whole numbers within the public largest of {largest}"
            continue
        fixed = np.ascontiguousarray(row.ravel(), np.int64).view(np.uint64)
        vectors[name] = fixed.astype("<u4" if settings.ring_bits == 32 else "<u8")
    total, arrived, stopped = _run(settings, list(counts), vectors, secrets, tap, vanish, round_number)
    signed = total.view(np.int32 if settings.ring_bits == 32 else np.int64).astype(np.int64)
    return MaskedCounts(signed.reshape(shapes.pop()), arrived, {**refused, **stopped})


def _run(
    settings: Masked,
    names: list[str],
    vectors: Mapping[str, Array],
    secrets: Callable[[str], bytes],
    tap: Tap,
    vanish: Vanish | None,
    round_number: int,
) -> tuple[Array, tuple[str, ...], dict[str, str]]:
    """(sum in the ring, names in it, name -> why a site stopped) of one round in this process."""
    lengths = {len(vector) for vector in vectors.values()}
    if len(lengths) > 1:
        raise InputError("vectors to be masked have different lengths", found=sorted(lengths))
    setup, identities = prepare(settings, names, secrets, round_number, max(lengths, default=0))
    server = start_server(setup, identities[COORDINATOR])
    states: dict[str, SiteState] = {}
    gone, stopped = set(setup.sites) - set(vectors), {}
    waiting: list[Message] = []  # from the coordinator, one step's
    for step, kind in enumerate(FROM_SITES):
        receivers = setup.sites if step == 0 else [message.receiver for message in waiting]
        inbox = dict(zip(receivers, waiting, strict=False))
        for name in receivers:
            if name in gone or (vanish is not None and vanish(name, kind)):
                gone.add(name)
                continue
            try:
                if step == 0:
                    states[name], sent = start_site(
                        setup, name, identities[name], secrets(name), vectors[name]
                    )
                else:
                    states[name], sent = handle_at_site(states[name], inbox[name])
            except (RoundRefused, WireError) as error:
                gone.add(name)
                stopped[name] = str(error)
                continue
            for message in sent:
                tap(message)
                server, _ = handle_at_server(server, message)
        server, answers = handle_at_server(server, CloseStep())
        waiting = list(answers)
        for message in waiting:
            tap(message)
    return server.total, server.arrived, stopped


def prepare(
    settings: Masked, names: list[str], secrets: Callable[[str], bytes], round_number: int, length: int
) -> tuple[Setup, dict[str, bytes]]:
    """(setup of a round in one process, name -> private identity, the coordinator's too).

    In a deployment identities are long-lived and known from outside; here they come from the round's secrets.
    Raises InputError where a site has the coordinator's name.
    """
    if COORDINATOR in names:
        raise InputError("a site has the coordinator's name", found=COORDINATOR, way_out="name it otherwise")
    identities = {name: derive(secrets(name), "identity") for name in (*names, COORDINATOR)}
    sites = tuple(sorted(names))
    public = tuple(public_identity(identities[name]) for name in sites)
    coin = hashlib.sha256(b"".join(public)).digest()
    coordinator = public_identity(identities[COORDINATOR])
    setup = Setup(
        settings=settings,
        round=round_number,
        coin=coin,
        sites=sites,
        identities=public,
        coordinator=coordinator,
        length=length,
    )
    return setup, identities
