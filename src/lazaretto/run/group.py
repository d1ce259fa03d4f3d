"""What the coordinator of a federation keeps from round to round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazaretto.camps import sums_arrays, sums_from, sums_start, sums_without
from lazaretto.reputation import reputation_arrays, reputation_from, reputation_start
from lazaretto.run.controls import controls_arrays, controls_from, controls_start
from lazaretto.run.secret import kept_arrays, kept_from
from lazaretto.run.taking_part import Federation
from lazaretto.types import Float

__all__ = ["Group"]


class Group:
    """What the coordinator keeps from round to round, and beside it the sites' personal parameters.

    vector [d]; control [d] or None; server: its optimiser's state; losses [sites], the last that each said;
    personal [padded, p] or None. Of the shared part, s of d: rule: the rule's state; previous [s], the last
    aggregate, and history [sites, s], the sum of what each site sent, where the rule asks for them (an
    attack looks at the last aggregate, too); momentum [sites, s], what each site sent last, NaN before it
    did, where sites send momentum (a hostile one remembers what it would honestly have sent). reputation:
    of all sites, and sums of what they sent, or None where it is not kept. root [s]: the update on the root
    data in this round, or None where there is none; it has a row of its own, behind the sites', in personal
    and momentum. controls: what each site keeps for the algorithm, where a rule that looks at sites makes
    `control` of that. refusals: secret rounds in a row that had no result. kept: what the three aggregators
    keep of secret rounds. residual [sites, s]: what each site did not send yet, where a compressor keeps
    it. ahead: whether sites train on from that, instead of adding it afterwards. moved [s]: how far the last
    round moved the shared part, where a compressor asks for it. barred [sites] bool: who stays in
    quarantine since training began anew without it; None where it did not. on_probation: whether nobody
    comes back from quarantine yet.
    """

    def __init__(self, federation: Federation, vector: Float, sites: int, padded: int) -> None:
        watched = federation.reputation is not None
        self.sites, self.padded = sites, padded
        self.reputation = reputation_start(sites) if watched else None
        self.barred: NDArray[np.bool_] | None = None
        self.on_probation = False
        self._begin(federation, vector)
        size = vector[self.shared].size
        secret = federation.secure is not None
        kept = (0, ()) if secret else (size, federation.layers)
        self.sums = sums_start(sites, *kept) if watched else None
        self.kept: Any = None
        self.refusals = 0

    @property
    def staying(self) -> NDArray[np.bool_] | None:
        """[sites] who cannot come back from quarantine after this round, or None.

        On probation nobody does: who were back in time would be there when it ends, with what they taught.
        """
        return self.reputation.quarantined if self.reputation and self.on_probation else self.barred

    def begin_anew(self, federation: Federation, vector: Float) -> None:
        """From this vector [d], as if nothing had been learned; who is in quarantine stays there for good.

        What is known of the others is kept: reputation and the sums of what they sent.
        """
        assert self.reputation is not None  # noqa: S101  nobody is in quarantine otherwise
        self.barred = self.reputation.quarantined.copy()
        if self.sums is not None:
            self.sums = sums_without(self.sums, self.barred)
        self._begin(federation, vector)

    def _begin(self, federation: Federation, vector: Float) -> None:
        """All that training makes, before the first round."""
        mask, sites, padded = federation.personal, self.sites, self.padded
        self.mask = mask
        self.shared: Any = slice(None) if mask is None else ~mask
        self.vector = vector
        self.control = np.zeros_like(vector) if federation.algorithm.keeps else None
        self.server = federation.server.start(vector[self.shared].size)
        self.losses: Float = np.full(sites, np.nan, np.float32)
        self.personal = None if mask is None else np.repeat(vector[None, mask], padded, axis=0)
        size, rule = vector[self.shared].size, federation.rule
        self.rule = rule.start(sites)
        watched = federation.reputation is not None
        wanted = "previous" in rule.public or federation.attack is not None or watched
        wanted |= federation.secure is not None
        self.previous = np.zeros(size) if wanted else None
        self.history = np.zeros((sites, size)) if rule.history and federation.secure is None else None
        self.root = np.zeros(size, np.float32) if federation.root else None
        rows = sites + federation.root
        self.momentum = np.full((rows, size), np.nan, np.float32) if federation.client_momentum else None
        short = federation.compressor
        self.residual = np.zeros((sites, size), np.float32) if short is not None and short.feedback else None
        self.ahead = federation.ahead is not None
        self.moved = np.zeros(size, np.float32) if short is not None and short.needs_moved else None
        looks = federation.algorithm.keeps and rule.sees != "sum"
        self.controls = controls_start(rule, sites, rows, vector.size) if looks else None

    def vectors(self) -> Float:
        """[padded, d]: the model as each site has it."""
        found = np.repeat(self.vector[None], self.padded, axis=0)
        if self.personal is not None:
            found[:, self.mask] = self.personal
        return found

    def begins(self) -> Float:
        """[padded, d]: where each site's training goes on from."""
        found = self.vectors()
        if self.ahead and self.residual is not None:
            found[: self.sites, self.shared] += self.residual
        return found

    def result(self) -> Float:
        """The vector [d], or each site's own [sites, d] where something is personal."""
        return self.vector if self.personal is None else self.vectors()[: self.sites]

    def arrays(self) -> dict[str, Any]:
        """For a checkpoint."""
        held: dict[str, Any] = {"vector": self.vector, "losses": self.losses, "control": self.control}
        held |= {"personal": self.personal} | {f"server.{name}": v for name, v in self.server.items()}
        held |= {f"rule.{name}": v for name, v in self.rule.items()}
        if self.reputation is not None:
            held |= {f"reputation.{n}": v for n, v in reputation_arrays(self.reputation).items()}
        if self.sums is not None:
            held |= {f"sums.{name}": value for name, value in sums_arrays(self.sums).items()}
        if self.controls is not None:
            held |= controls_arrays(self.controls)
        held |= {"previous": self.previous, "history": self.history, "momentum": self.momentum}
        held |= {"residual": self.residual, "moved": self.moved}
        held |= kept_arrays(self.kept)
        held |= {"barred": None if self.barred is None else self.barred.astype(np.uint8)}
        return {name: value for name, value in held.items() if value is not None}

    def restore(self, arrays: Mapping[str, Any]) -> None:
        """From a checkpoint."""
        self.vector, self.losses = arrays["vector"], arrays["losses"]
        self.control, self.personal = arrays.get("control"), arrays.get("personal")
        self.server = {name: arrays[f"server.{name}"] for name in self.server}
        self.rule = {name: arrays[f"rule.{name}"] for name in self.rule}
        self.previous, self.history = arrays.get("previous"), arrays.get("history")
        self.momentum = arrays.get("momentum")
        self.residual, self.moved = arrays.get("residual"), arrays.get("moved")
        self.kept = kept_from(arrays)
        self.barred = arrays["barred"].astype(np.bool_) if "barred" in arrays else None
        if self.controls is not None:
            self.controls = controls_from(self.controls, arrays)
        if self.reputation is not None:
            self.reputation = reputation_from(
                {name: arrays[f"reputation.{name}"] for name in self.reputation._fields}
            )
        if self.sums is not None:
            held = {name: f"sums.{name}" for name in self.sums._fields}
            self.sums = sums_from({name: arrays[one] for name, one in held.items() if one in arrays})
