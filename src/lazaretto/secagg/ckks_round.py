"""One round of sums under CKKS in one process, every message through a tap. The protocol stands in `ckks`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import InputError, RoundRefused, WireError
from lazaretto.secagg.ckks import (
    CKKS_KINDS,
    Ckks,
    CkksServer,
    CkksSite,
    check_ckks,
    handle_at_ckks_server,
    handle_at_ckks_site,
    new_context,
    public_context,
    start_ckks_site,
)
from lazaretto.secagg.masked import MaskedCounts, MaskedRound, Tap, Vanish, prepare
from lazaretto.secagg.masked_keys import derive
from lazaretto.secagg.masked_server import CloseStep
from lazaretto.secagg.masked_settings import COORDINATOR, Masked
from lazaretto.types import Array, Message

__all__ = ["encrypt_counts", "encrypt_round"]

_SURE = 1 / 8  # an opened number farther than this from a whole one is no count


def encrypt_round(
    settings: Ckks,
    updates: Mapping[str, Array],
    weights: Mapping[str, float],
    secrets: Callable[[str], bytes],
    tap: Tap,
    vanish: Vanish | None = None,
    *,
    round_number: int,
) -> MaskedRound:
    """The weighted mean of updates [d] of sites by name, as `masked.mask_round` gives it.

    Off by the flooding noise of `ckks.flood_scale` over the sum of weights. The common key is made here, by
    SEAL's own generator; the flooding secret comes from the first site's. Kinds of messages for `vanish`:
    "encrypted update", "opened sum". Raises PlanError without TenSEAL and as `check_ckks`, InputError and
    RoundRefused as `mask_round`.
    """
    if set(weights) != set(updates) or not all(math.isfinite(w) and w > 0 for w in weights.values()):
        raise InputError("weights of a sum are not one number above 0 for each site", found=dict(weights))
    most = max(weights.values())
    shares = {name: weight / most for name, weight in weights.items()}
    total, arrived, refused = _run(settings, updates, shares, secrets, tap, vanish, round_number)
    weight = float(total[-2])
    if weight <= 0:
        raise WireError("the sum of encrypted weights is not above 0", found=weight)
    return MaskedRound(total[:-2] / weight, weight * most, arrived, refused)


def encrypt_counts(
    settings: Ckks,
    counts: Mapping[str, Array],
    secrets: Callable[[str], bytes],
    tap: Tap,
    vanish: Vanish | None = None,
    *,
    round_number: int,
) -> MaskedCounts:
    """The sum of whole numbers [...] of sites by name, all of one shape, exactly: opened, then rounded.

    A site with an entry beyond `settings.bound`, or that is no whole number, stays away and is in `refused`.
    Raises as `encrypt_round`, and RoundRefused where a number that was opened is not within `_SURE` of a
    whole one: the noise of `flood_scale` is some 10⁻⁸ for each site, so that honest sums always are.
    """
    shapes = {np.shape(array) for array in counts.values()}
    if len(shapes) != 1:
        raise InputError("counts to be encrypted have different shapes", found=sorted(shapes))
    fine, refused = {}, {}
    for name, array in counts.items():
        row = np.asarray(array)
        largest = max(-int(row.min()), int(row.max())) if row.size and row.dtype.kind in "iu" else 0
        if row.dtype.kind not in "iu" or largest > settings.bound:
            refused[name] = (
                f"its counts are not whole numbers within the public largest of {settings.bound:g}"
            )
        fine[name] = np.asarray(row, np.float64).ravel()

    def gone(name: str, kind: str) -> bool:
        return name in refused or (vanish is not None and vanish(name, kind))

    total, arrived, stopped = _run(settings, fine, dict.fromkeys(fine, 1.0), secrets, tap, gone, round_number)
    whole = np.rint(total)
    apart = float(np.abs(total - whole).max(initial=0.0))
    if apart > _SURE or whole[-1] != len(arrived):
        raise RoundRefused(
            "sum under CKKS refused: what was opened is not a sum of counts of those who sent some",
            found=f"{apart:.3g} from whole numbers, {whole[-1]:g} of {len(arrived)} sites",
            way_out="a site sent no counts, or settings with less flooding noise",
        )
    return MaskedCounts(whole[:-2].astype(np.int64).reshape(shapes.pop()), arrived, {**refused, **stopped})


def _run(
    settings: Ckks,
    updates: Mapping[str, Array],
    shares: Mapping[str, float],
    secrets: Callable[[str], bytes],
    tap: Tap,
    vanish: Vanish | None,
    round_number: int,
) -> tuple[NDArray[np.float64], tuple[str, ...], dict[str, str]]:
    """(sum [d + 2] with those of weights and of ones, names in it, name -> why a site stopped)."""
    check_ckks(settings, len(updates))
    lengths = {np.shape(update) for update in updates.values()}
    if len(lengths) != 1 or len(min(lengths)) != 1:
        raise InputError("updates to be encrypted are not vectors of one length", found=sorted(lengths))
    plain = Masked(threshold=settings.threshold, bound=settings.bound)
    setup, identities = prepare(plain, list(updates), secrets, round_number, next(iter(lengths))[0] + 2)
    context, flood = new_context(), derive(secrets(setup.sites[0]), "flooding secret")
    server = CkksServer(setup, settings, public_context(context), identities[COORDINATOR])
    refused, states = {}, {}
    gone: set[str] = set()
    inbox: dict[str, Message] = {}
    for step, kind in enumerate((CKKS_KINDS[0], CKKS_KINDS[2])):
        for name in setup.sites if step == 0 else inbox:
            if name in gone or (vanish is not None and vanish(name, kind)):
                gone.add(name)
                continue
            try:
                if step == 0:
                    fresh = CkksSite(setup, settings, name, context, flood, identities[name])
                    states[name], sent = start_ckks_site(fresh, updates[name], shares[name])
                else:
                    states[name], sent = handle_at_ckks_site(states[name], inbox[name])
            except (InputError, RoundRefused) as error:
                gone.add(name)
                refused[name] = error.problem
                continue
            for message in sent:
                tap(message)
                server, _ = handle_at_ckks_server(server, message)
        server, answers = handle_at_ckks_server(server, CloseStep())
        inbox = {message.receiver: message for message in answers}
        for message in answers:
            tap(message)
    return np.asarray(server.total, np.float64), server.arrived, refused
