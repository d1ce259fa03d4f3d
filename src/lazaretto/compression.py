"""Compressors one after another, and what a site keeps of what it did not send.

`top_k_previous | quantise` in a plan: the first chooses values, the second shortens them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazaretto import catalog
from lazaretto.compress_types import Compressor, Payload, Public
from lazaretto.errors import InputError, OptionError, PlanError
from lazaretto.keys import seed_of
from lazaretto.types import Float

__all__ = ["chain", "composes_with_sharing", "compressor_of", "everything", "received", "send", "takes_share"]

_MARK = "."  # between a part's place in the chain and the name of its array


def compressor_of(text: str, options: Mapping[str, Any], share: float | None = None) -> Compressor:
    """The compressor that a plan names: one with its options, or several with `|` between them.

    options: those of the one; of several a table for each part that has any, by its name. share: of the
    coordinates that is kept, for parts that take one and whose options do not name it; None: their default.
    Raises PlanError for an unknown name or option, a table of no part, and what `chain` refuses.
    """
    names = _names(text)
    if len(names) > 1:
        for key, value in options.items():
            if key not in names or not isinstance(value, Mapping):
                said = f"several compressors take a table of options for each, and '{key}' is none"
                raise OptionError(
                    said,
                    part="",
                    option=key,
                    said=said,
                    found=value,
                    way_out=f"for instance compress.options.{names[0]} = {{ }}; parts: {', '.join(names)}",
                )
    made = []
    for name in names:
        mine = dict(options if len(names) == 1 else options.get(name, {}))
        if share is not None and "share" in catalog.options("compressors", name):
            mine = {"share": share, **mine}
        made.append(catalog.build("compressors", name, mine))
    return chain(*made)


def everything(text: str, options: Mapping[str, Any]) -> Compressor:
    """The same scheme with no coordinate left out, whatever its options say. Raises as `compressor_of`."""
    kept = {
        name: {key: v for key, v in value.items() if key != "share"} if isinstance(value, Mapping) else value
        for name, value in options.items()
        if name != "share"
    }
    return compressor_of(text, kept, 1.0)


def takes_share(text: str) -> bool:
    """Whether a part of the scheme keeps a share of the coordinates. Raises PlanError for unknown names."""
    return any("share" in catalog.options("compressors", name) for name in _names(text))


def composes_with_sharing(scheme: Compressor) -> bool:
    """Whether its values may be summed before anyone decodes them, as secrecy needs.

    Linear for what all know, so the decoded sum of the sites' values is the sum of their decoded updates; the
    same coordinates at every site, so that which are sent tells nothing; and of known lengths, so that inner
    products of values are those of decoded updates.
    """
    return scheme.linear and scheme.shared_indices and scheme.lengths is not None


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split("|")]


def chain(*parts: Compressor) -> Compressor:
    """One compressor of several, at least one: each shortens the values that the one before it left.

    Linear, unbiased or of shared indices where all are; with feedback where one is, of the whole. Its
    contraction is that of the first, less what unbiased rounding behind it may add (twice its noise, as
    buckets of a sketch hold unequally many). Raises PlanError where a
    part leaves no values to the next, and where one that reads the last model's movement is not the first.
    """
    first, *rest = parts
    for part in rest:
        first = _pair(first, part)
    return first


def _pair(first: Compressor, second: Compressor) -> Compressor:
    name = f"{first.name} | {second.name}"
    left = first.left
    if left is None:
        raise PlanError(
            f"compressor '{first.name}' leaves no values to another", found=name, way_out="put it last"
        )
    if second.needs_moved:
        raise PlanError(
            f"compressor '{second.name}' goes by coordinates of the model", found=name, way_out="put it first"
        )

    def encode(x: Float, public: Public, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        sent = first.encode(x, public, rng)
        if not np.isfinite(sent["values"]).all():  # a sum too large for float32
            raise InputError(f"an update is too large for '{first.name}'")
        inner = second.encode(sent.pop("values"), _behind(public), rng)
        return {f"0{_MARK}{key}": value for key, value in sent.items()} | inner

    def decode(payload: Payload, public: Public, m: int) -> Float:
        if not isinstance(payload, Mapping) or not all(isinstance(key, str) for key in payload):
            raise InputError("a compressed update is no map of arrays", found=type(payload).__name__)
        own = f"0{_MARK}"
        side = {key.removeprefix(own): value for key, value in payload.items() if key.startswith(own)}
        inner = {key: value for key, value in payload.items() if not key.startswith(own)}
        if "values" in side:
            raise InputError("a compressed update holds values twice", found=sorted(payload))
        values = second.decode(inner, _behind(public), left(m, public))
        return first.decode({**side, "values": values}, public, m)

    def lengths(m: int, public: Public) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        assert first.lengths is not None and second.lengths is not None  # noqa: S101, PT018  used only then
        ours, theirs = first.lengths(m, public), second.lengths(left(m, public), _behind(public))
        return ours[0][0] * theirs[0], ours[1][0] * theirs[1]

    further = second.left
    sure = (
        (lambda m: max(0.0, first.contraction(m) - 2 * second.noise)) if second.unbiased else (lambda m: 0.0)
    )
    return Compressor(
        name=name,
        encode=encode,
        decode=decode,
        left=None if further is None else lambda m, public: further(left(m, public), _behind(public)),
        linear=first.linear and second.linear,
        shared_indices=first.shared_indices and second.shared_indices,
        unbiased=first.unbiased and second.unbiased,
        feedback=first.feedback or second.feedback,
        contraction=sure,
        needs_moved=first.needs_moved,
        lengths=lengths if first.lengths and first.even and second.lengths else None,
        even=first.even and second.even,
    )


def _behind(public: Public) -> Public:
    """What a part further back knows: draws of its own, and no coordinates of the model."""
    return Public(seed_of(public.seed, "behind"))


def send(
    scheme: Compressor, update: Float, residual: Float, public: Public, rng: np.random.Generator
) -> tuple[dict[str, Any], Float]:
    """What a site sends for its update [m], and what it keeps [m] for the next.

    With feedback it sends the update and what it kept, and keeps what the other end will lack of both;
    without, it keeps what it had. An update that is not finite, or that no longer is once it is encoded, goes
    as it is (for the other end to refuse), and nothing of it is kept.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        whole = update + residual if scheme.feedback else update.copy()
    if not np.isfinite(whole).all():
        return {"values": update}, residual
    try:
        with np.errstate(over="ignore"):
            payload = scheme.encode(whole, public, rng)
        arrived = scheme.decode(payload, public, update.size)
    except InputError:
        return {"values": update}, residual
    return dict(payload), (whole - arrived if scheme.feedback else residual)


def received(scheme: Compressor, payload: Payload, public: Public, m: int) -> Float:
    """[m] what arrived of an update; NaN throughout, which no rule uses, where it cannot be decoded."""
    try:
        return scheme.decode(payload, public, m)
    except InputError:
        return np.full(m, np.nan, np.float32)
