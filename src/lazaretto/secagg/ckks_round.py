"""One round of sums under CKKS in one process, every message through a tap. The protocol stands in `ckks`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

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
from lazaretto.secagg.masked import MaskedRound, Tap, Vanish, prepare
from lazaretto.secagg.masked_keys import derive
from lazaretto.secagg.masked_server import CloseStep
from lazaretto.secagg.masked_settings import COORDINATOR, Masked
from lazaretto.types import Array, Message

__all__ = ["encrypt_round"]


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
    check_ckks(settings, len(updates))
    if set(weights) != set(updates) or not all(math.isfinite(w) and w > 0 for w in weights.values()):
        raise InputError("weights of a sum are not one number above 0 for each site", found=dict(weights))
    lengths = {np.shape(update) for update in updates.values()}
    if len(lengths) != 1 or len(min(lengths)) != 1:
        raise InputError("updates to be encrypted are not vectors of one length", found=sorted(lengths))
    plain = Masked(threshold=settings.threshold, bound=settings.bound)
    setup, identities = prepare(plain, list(updates), secrets, round_number, next(iter(lengths))[0] + 2)
    context, flood = new_context(), derive(secrets(setup.sites[0]), "flooding secret")
    server = CkksServer(setup, settings, public_context(context), identities[COORDINATOR])
    most, refused, states = max(weights.values()), {}, {}
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
                    states[name], sent = start_ckks_site(fresh, updates[name], weights[name] / most)
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
    weight = float(server.total[-2])
    if weight <= 0:
        raise WireError("the sum of encrypted weights is not above 0", found=weight)
    return MaskedRound(server.total[:-2] / weight, weight * most, server.arrived, refused)
