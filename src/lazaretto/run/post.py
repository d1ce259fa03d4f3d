"""Messages: the only way between parties in a simulation, each counted, typed and measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from lazaretto import wire
from lazaretto.cut import Cut, payload_bytes
from lazaretto.types import Array, Message

__all__ = ["KINDS", "LEAVES_THE_SITE", "OUTSIDE", "Post", "count_cut_traffic"]

# What may pass, by link and direction. Anything else is a programming error and stops the run.
KINDS: Mapping[str, tuple[str, str, str]] = {
    "scaling counts": (
        "site-coordinator",
        "up",
        "log-bucket counts of training features: normalised and capped, or with noise",
    ),
    "scaling": ("site-coordinator", "down", "centre and scale of each feature"),
    "model": ("site-coordinator", "down", "the global parameters"),
    "control": ("site-coordinator", "down", "the usual gradient of all sites, as they last reported it"),
    "update": ("site-coordinator", "up", "change of the site's parameters in a round"),
    "control change": ("site-coordinator", "up", "change of the site's usual gradient since its last round"),
    "shares": (
        "site-aggregator",
        "up",
        "shares of a site's update, counts or ballot, and commitments",
    ),
    "masked": ("site-coordinator", "up", "keys, shares of masks, masked updates or counts"),
    "masked answers": ("site-coordinator", "down", "keys and sealed shares passed on, who is still there"),
    "between aggregators": (
        "aggregator-aggregator",
        "both",
        "what makes inner products, and checks",
    ),
    "opened sum": ("aggregator-coordinator", "up", "shares of the weighted sum, which together are the sum"),
    "close": ("aggregator-coordinator", "down", "that a step is over"),
    "encrypted": ("site-coordinator", "up", "updates or counts under CKKS, and opened sums with their noise"),
    "encrypted answers": ("site-coordinator", "down", "sums under CKKS, for the sites to open"),
    "round report": ("site-coordinator", "up", "mean loss, validation loss and AUROC of the site"),
    "score counts": (
        "site-coordinator",
        "up",
        "binned scores of validation steps: normal ones, or all with noise",
    ),
    "threshold vote": ("site-coordinator", "up", "alarm threshold that a site's own normal steps ask for"),
    "part counts": ("site-coordinator", "up", "binned scores of normal validation steps, of either part"),
    "score tails": ("site-coordinator", "down", "how rare each score is among normal steps of all sites"),
    "threshold": (
        "site-coordinator",
        "down",
        "score above which a step is an alarm, for sites that have no threshold of their own",
    ),
    "activations": ("device-site", "up", "quantised outputs of the device's part of the model"),
    "gradients": ("device-site", "down", "gradient of the site's loss in those outputs"),
    "fused activations": ("device-site", "down", "quantised outputs of the site's part of a U-shaped model"),
    "fused gradients": ("device-site", "up", "gradient of the device's loss in those outputs"),
    "bottom gradient": ("device-site", "up", "gradient in the device's part of the model, one step's"),
    "mean bottom gradient": ("device-site", "down", "its mean over the site's devices"),
    "bottom": ("device-site", "down", "the device's part of the model"),
    "trained bottom": ("device-site", "up", "the device's part of the model after a round"),
}
_UP = (("site-coordinator", "up"), ("site-aggregator", "up"))
LEAVES_THE_SITE = tuple(kind for kind, (link, way, _) in KINDS.items() if (link, way) in _UP)
OUTSIDE = tuple(dict.fromkeys(link for link, _, _ in KINDS.values() if link != "device-site"))


class _Passed(NamedTuple):
    """How often a kind of message passed, and its bytes on the wire, frames included."""

    messages: int
    size_bytes: int


class Post:
    """Carries messages of one run of one system. `tap`, if given, sees every message that is sent."""

    def __init__(self, tap: Callable[[Message], None] | None = None) -> None:
        self._tap = tap
        self._counts: dict[str, _Passed] = {}

    def send(
        self, kind: str, sender: str, receiver: str, round_number: int, payload: Mapping[str, Array]
    ) -> Mapping[str, Array]:
        """Pass one message; returns what the receiver gets. Raises KeyError for a kind not in `KINDS`."""
        message = _message(kind, sender, receiver, round_number, payload)
        self.count(kind, 1, wire.message_bytes(message))
        if self._tap is not None:
            self._tap(message)
        return message.payload

    def carry(self, message: Message, kind: str) -> None:
        """Pass a message that a protocol made; it is counted as one of a kind. KeyError as `send`."""
        assert KINDS[kind][0] == message.link  # noqa: S101  the protocol's links are those of the table
        self.count(kind, 1, wire.message_bytes(message))
        if self._tap is not None:
            self._tap(message)

    def count(self, kind: str, messages: int, size_bytes: int) -> None:
        """Count messages that passed inside the compiled program."""
        before = self._counts.get(kind, _Passed(0, 0))
        self._counts[kind] = _Passed(before.messages + messages, before.size_bytes + size_bytes)

    def rows(self) -> list[dict[str, Any]]:
        """One row for each kind that passed, as in the run log's record `messages`."""
        return [
            {
                "kind": kind,
                "link": KINDS[kind][0],
                "direction": KINDS[kind][1],
                "content": KINDS[kind][2],
                "count": passed.messages,
                "bytes": passed.size_bytes,
            }
            for kind, passed in sorted(self._counts.items())
        ]

    def restore(self, rows: list[dict[str, Any]]) -> None:
        """Go on from the rows of an interrupted run."""
        self._counts = {row["kind"]: _Passed(row["count"], row["bytes"]) for row in rows}

    def link_bytes(self, *links: str) -> int:
        """Bytes over some links so far, both directions."""
        return sum(passed.size_bytes for kind, passed in self._counts.items() if KINDS[kind][0] in links)


def _message(
    kind: str, sender: str, receiver: str, round_number: int, payload: Mapping[str, Array]
) -> Message:
    link: Any = KINDS[kind][0]
    return Message(
        kind=kind, link=link, sender=sender, receiver=receiver, round=round_number, payload=dict(payload)
    )


def _packed(cut: Cut, shape: tuple[int, int, int]) -> Array:
    """An array as large as activations of that shape are once they are packed."""
    return np.empty(payload_bytes(cut, shape), np.uint8) if cut.bits < 32 else np.empty(shape, np.float32)


def count_cut_traffic(
    post: Post,
    cut: Cut,
    exchanges: int,
    shape: tuple[int, int, int],
    bottom: int,
    devices: int,
    every_step: bool = False,
    fused: int = 0,
) -> None:
    """Count what one site's devices exchanged with it in a round.

    exchanges: batches times windows, each a message up and one down per device. shape: of one
    device's activations [b, T, H]. bottom: parameters of the device's part. every_step: whether
    gradients of the bottom are averaged at each exchange, too (needless where there is one device).
    fused: channels that a U-shaped model's site sends back, 0 for other models.
    """
    back = (*shape[:2], fused)
    part = np.empty(bottom, np.float32)
    often = exchanges * devices
    between = often if every_step and devices > 1 else 0
    for kind, array, count in (
        ("activations", _packed(cut, shape), often),
        ("gradients", np.empty(shape, np.float32), often),
        ("fused activations", _packed(cut, back), often if fused else 0),
        ("fused gradients", np.empty(back, np.float32), often if fused else 0),
        ("bottom gradient", part, between),
        ("mean bottom gradient", part, between),
        ("bottom", part, devices),
        ("trained bottom", part, devices),
    ):
        if not count:
            continue
        way = KINDS[kind][1]
        sender, receiver = ("device 1", "site 01") if way == "up" else ("site 01", "device 1")
        each = wire.message_bytes(_message(kind, sender, receiver, 1, {"values": array}))
        post.count(kind, count, count * each)
