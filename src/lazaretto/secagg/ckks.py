"""Sums under CKKS: the sites share a key, the coordinator adds what it cannot read. Extra `he` (TenSEAL).

Cheon et al. 2017, https://eprint.iacr.org/2016/421. Weaker than masks: one site in league with the
coordinator reads every update, and so does a coordinator that does not keep to the protocol
(docs/secagg_ckks.md). Published decryptions carry flooding noise (Li & Micciancio 2021,
https://eprint.iacr.org/2020/1533). SEAL draws keys and encryption randomness from the system's generator by
itself; all other randomness is an argument.
"""

from __future__ import annotations

import hashlib
import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import InputError, PlanError, RoundRefused, WireError
from lazaretto.secagg.masked_keys import derive, stream
from lazaretto.secagg.masked_messages import as_bytes, opened, signed_message
from lazaretto.secagg.masked_server import CloseStep
from lazaretto.secagg.masked_settings import COORDINATOR, Setup
from lazaretto.types import Array, Message

__all__ = [
    "CKKS_KINDS",
    "Ckks",
    "CkksServer",
    "CkksSite",
    "check_ckks",
    "check_installed",
    "default_ckks",
    "encryption_error",
    "flood_scale",
    "handle_at_ckks_server",
    "handle_at_ckks_site",
    "new_context",
    "public_context",
    "start_ckks_site",
]

CKKS_KINDS = ("encrypted update", "encrypted sum", "opened sum")
_DEGREE, _MODULI, _SCALE = 8192, (60, 60, 60), 2.0**85  # 128 bits of security: at most 218 bits of moduli
_SLOTS = _DEGREE // 2
_LEAST_BYTES, _MOST_BYTES = 200_000, 264_000  # of one ciphertext: two polynomials of 8192 × 120 bits
_LARGEST = 2.0**30  # of a sum's entries: the modulus leaves 2³⁴ beside the scale
_EXTRA = 2  # entries after an update: weight and count


@dataclass(frozen=True, slots=True, kw_only=True)
class Ckks:
    """Settings: sites without which nothing is opened; bound of an update's entries; flooding over error,
    in bits.
    """

    threshold: int
    bound: float = 8.0
    flood_bits: int = 40


def _tenseal() -> Any:
    try:
        return importlib.import_module("tenseal")
    except ImportError as error:
        raise PlanError(
            "sums under CKKS need TenSEAL", found=error, way_out="pip install 'lazaretto[he]'"
        ) from error


def check_installed() -> None:
    """Raises PlanError with the way out where TenSEAL cannot be imported."""
    _tenseal()


def default_ckks(sites: int, bound: float) -> Ckks:
    """Any third of the sites may vanish. Raises PlanError as `check_ckks`."""
    settings = Ckks(threshold=max(3, sites - sites // 3), bound=bound)
    check_ckks(settings, sites)
    return settings


def check_ckks(settings: Ckks, sites: int) -> None:
    """Refuses with PlanError fewer than three sites, a threshold below three or that of a half, too much
    noise.
    """
    least = max(3, sites // 2 + 1)
    if not least <= settings.threshold <= sites:
        raise PlanError(
            "the threshold of a sum under CKKS lets one update be opened, or is above its sites",
            found=f"{settings.threshold} of {sites}",
            way_out=f"at least {least}, of three sites or more",
        )
    if not (math.isfinite(settings.bound) and 0 < settings.bound * sites < _LARGEST):
        raise PlanError(
            "the bound of updates does not fit under CKKS",
            found=f"{settings.bound:g} for each of {sites} sites",
            way_out=f"less than {_LARGEST / max(sites, 1):.6g}, or fewer sites",
        )
    if not 30 <= settings.flood_bits <= 50:
        raise PlanError(
            "flooding noise of this size protects nothing, or drowns the sum",
            found=f"{settings.flood_bits} bits above the error of encryption",
            way_out="30 to 50 bits",
        )


def flood_scale(settings: Ckks, sites: int) -> float:
    """Standard deviation of the noise on each entry of an opened sum.

    2 to the `flood_bits` times a bound on the error of `sites` fresh encryptions (lemma 1 of Cheon et al.
    2017 with σ = 3.2 and a dense ternary key). Two sums that differ by that error are then told apart with
    probability at most 2 to the −flood_bits times √d.
    """
    return 2.0**settings.flood_bits * sites * encryption_error() / _SCALE


def encryption_error() -> float:
    """Bound on the error of one fresh encryption before it is divided by the scale."""
    root = math.sqrt(_DEGREE)
    return 3.2 * (8 * math.sqrt(2) * _DEGREE + 6 * root + 16 * math.sqrt(2 / 3 * _DEGREE) * root)


def new_context() -> bytes:
    """The sites' common key, secret part included: made by one site, sent to the others sealed, never
    further.
    """
    tenseal = _tenseal()
    kind = tenseal.SCHEME_TYPE.CKKS
    context = tenseal.context(kind, poly_modulus_degree=_DEGREE, coeff_mod_bit_sizes=list(_MODULI))
    context.global_scale = _SCALE
    return _written(context, secret=True)


def public_context(context: bytes) -> bytes:
    """What the coordinator may have: parameters and public key."""
    return _written(_tenseal().context_from(context), secret=False)


def _written(context: Any, *, secret: bool) -> bytes:
    written = context.serialize(
        save_public_key=True, save_secret_key=secret, save_galois_keys=False, save_relin_keys=False
    )
    return cast("bytes", written)


@dataclass(frozen=True, slots=True)
class CkksSite:
    """A site: context with the secret key, and the flooding secret that the sites share.

    Neither is in the repr.
    """

    setup: Setup
    settings: Ckks
    name: str
    context: bytes = field(repr=False)
    flood: bytes = field(repr=False)
    identity: bytes = field(repr=False)
    taken: bytes = b""


@dataclass(frozen=True, slots=True)
class CkksServer:
    """The coordinator: sums so far, one ciphertext for each `_SLOTS` entries; who came; opened sums by
    name.
    """

    setup: Setup
    settings: Ckks
    context: bytes = field(repr=False)
    identity: bytes = field(repr=False)
    step: int = 0
    came: Mapping[str, bytes] = field(default_factory=dict)
    sums: tuple[bytes, ...] = field(default=(), repr=False)
    answers: Mapping[str, Array] = field(default_factory=dict, repr=False)
    arrived: tuple[str, ...] = ()
    total: Array = None


def start_ckks_site(state: CkksSite, update: Array, share: float) -> tuple[CkksSite, tuple[Message, ...]]:
    """The site's message: its update [d] times its weight, the weight and a 1, encrypted.

    share: weight over the largest possible, in (0, 1]. An entry beyond the bound shortens the whole update
    to it. Raises InputError for NaN, infinity, another length than `setup.length` − 2 or another share.
    """
    row = np.asarray(update, np.float64)
    if row.shape != (state.setup.length - _EXTRA,) or not np.isfinite(row).all() or not 0 < share <= 1:
        raise InputError(
            "an update to be encrypted is not a finite vector of this round with a weight in (0, 1]",
            found=f"shape {row.shape}, weight {share}",
        )
    largest = float(np.abs(row).max(initial=0.0))
    row = row * (share * (min(1.0, state.settings.bound / largest) if largest > 0 else 1.0))
    values = np.concatenate([row, [share, 1.0]])
    tenseal = _tenseal()
    context = tenseal.context_from(state.context)
    texts = [
        tenseal.ckks_vector(context, values[k : k + _SLOTS].tolist()).serialize()
        for k in range(0, len(values), _SLOTS)
    ]
    message = signed_message(
        state.setup, state.identity, CKKS_KINDS[0], state.name, COORDINATOR, _packed(texts)
    )
    return state, (message,)


def _packed(texts: list[bytes]) -> dict[str, Array]:
    sizes = np.array([len(text) for text in texts], "<i4")
    return {"sizes": sizes, "encrypted": np.frombuffer(b"".join(texts), np.uint8)}


_LAYOUT = {"sizes": ("<i4", (None,)), "encrypted": ("|u1", (None,))}


def _unpacked(setup: Setup, payload: Mapping[str, Array]) -> list[bytes]:
    """The ciphertexts of a message: as many as the length asks for, none longer than one can be."""
    sizes = [int(size) for size in payload["sizes"]]
    count = -(-setup.length // _SLOTS)
    if len(sizes) != count or not all(_LEAST_BYTES <= size <= _MOST_BYTES for size in sizes):
        raise WireError("ciphertexts have another number or size", found=f"{len(sizes)}: {sizes[:3]}")
    if sum(sizes) != len(payload["encrypted"]):
        raise WireError("ciphertexts do not fit their sizes", found=len(payload["encrypted"]))
    data, texts = as_bytes(payload["encrypted"]), []
    for size in sizes:
        texts.append(data[:size])
        data = data[size:]
    return texts


def _read(context: Any, text: bytes, slots: int) -> Any:
    """A ciphertext with exactly our parameters, or WireError."""
    try:
        vector = _tenseal().ckks_vector_from(context, text)
        (cipher,) = vector.ciphertext()
        fine = (
            vector.size() == slots
            and cipher.size() == 2
            and cipher.poly_modulus_degree() == _DEGREE
            and cipher.coeff_modulus_size() == len(_MODULI) - 1
            and cipher.scale == _SCALE
            and not cipher.is_transparent()
        )
    except (RuntimeError, ValueError) as error:
        raise WireError("a ciphertext cannot be read", found=str(error)[:80]) from error
    if not fine:
        raise WireError("a ciphertext has other parameters", way_out=f"degree {_DEGREE}, fresh, one scale")
    return vector


def _slots(setup: Setup, place: int) -> int:
    return min(_SLOTS, setup.length - place * _SLOTS)


def handle_at_ckks_server(
    state: CkksServer, message: Message | CloseStep
) -> tuple[CkksServer, tuple[Message, ...]]:
    """Adds what sites send; on `CloseStep` sends the sum to all who came, then takes what they opened.

    A second copy, and what comes late, changes nothing. Raises WireError for what is malformed, forged or
    another text than before; RoundRefused below the threshold, or where sites do not open the same.
    """
    if isinstance(message, CloseStep):
        return _closed(state)
    kinds = (CKKS_KINDS[0], CKKS_KINDS[2])
    if message.kind not in kinds or message.sender not in state.setup.sites:
        raise WireError(
            "the coordinator has no use for this message", found=f"'{message.kind}' from '{message.sender}'"
        )
    place = kinds.index(message.kind)
    layout = _LAYOUT if place == 0 else {"sum": ("<f8", (state.setup.length,))}
    text = opened(state.setup, message, COORDINATOR, layout)
    if place < state.step:
        return state, ()
    name = message.sender
    if place > state.step or (place == 1 and name not in state.arrived):
        raise WireError(f"'{message.kind}' from '{name}' came before its turn")
    if name in state.came:
        if state.came[name] == text:
            return state, ()
        raise WireError(f"'{message.kind}' from '{name}' says something else than its first copy")
    came = {**state.came, name: text}
    if place == 1:
        return replace(state, came=came, answers={**state.answers, name: message.payload["sum"]}), ()
    context, sums = _tenseal().context_from(state.context), []
    for k, given in enumerate(_unpacked(state.setup, message.payload)):
        vector = _read(context, given, _slots(state.setup, k))
        if state.sums:
            vector = vector + _read(context, state.sums[k], _slots(state.setup, k))
        sums.append(vector.serialize())
    return replace(state, came=came, sums=tuple(sums)), ()


def _closed(state: CkksServer) -> tuple[CkksServer, tuple[Message, ...]]:
    least = state.settings.threshold
    if state.total is not None:
        return state, ()
    if len(state.came) < least:
        what = CKKS_KINDS[0] if state.step == 0 else CKKS_KINDS[2]
        raise RoundRefused(
            f"sum under CKKS refused: fewer sites sent '{what}' than the threshold",
            found=f"{len(state.came)} of {least}",
            way_out="wait longer",
        )
    if state.step == 0:
        arrived = tuple(sorted(state.came))
        payload = _packed(list(state.sums))
        messages = tuple(
            signed_message(state.setup, state.identity, CKKS_KINDS[1], COORDINATOR, name, payload)
            for name in arrived
        )
        return replace(state, step=1, came={}, arrived=arrived), messages
    answers = list(state.answers.values())
    step = _grid(state.settings, len(state.setup.sites))
    if not all(np.abs(answer - answers[0]).max() <= 2 * step for answer in answers):  # nor is NaN a sum
        raise RoundRefused(
            "sum under CKKS refused: sites opened different sums",
            found=f"{len(answers)} answers",
            way_out="one of them has another key, or does not keep to the protocol",
        )
    return replace(state, step=2, total=answers[0]), ()


def handle_at_ckks_site(state: CkksSite, message: Message) -> tuple[CkksSite, tuple[Message, ...]]:
    """Opens the sum and publishes it with flooding noise, once a round and only with the threshold of sites
    in it.

    The noise follows from the sum's ciphertexts and the sites' common secret: all sites publish the same,
    and whoever asks twice gets nothing to average. Raises WireError and RoundRefused as the masked protocol
    does.
    """
    if message.kind != CKKS_KINDS[1] or message.sender != COORDINATOR:
        raise WireError(
            "a site has no use for this message", found=f"'{message.kind}' from '{message.sender}'"
        )
    text = opened(state.setup, message, state.name, _LAYOUT)
    if state.taken:
        if text == state.taken:
            return state, ()
        raise RoundRefused(f"site '{state.name}' stops: it was asked to open a second sum")
    texts = _unpacked(state.setup, message.payload)
    context = _tenseal().context_from(state.context)
    parts = [_read(context, given, _slots(state.setup, k)).decrypt() for k, given in enumerate(texts)]
    values = np.concatenate([np.array(part) for part in parts])
    least = state.settings.threshold
    if not (np.isfinite(values).all() and least - 0.5 < values[-1] < len(state.setup.sites) + 0.5):
        raise RoundRefused(
            f"site '{state.name}' stops: the sum does not hold the threshold of sites",
            found=f"{values[-1]:.3g} of {least}",
        )
    content = hashlib.sha256(b"".join(texts)).digest()
    sites = len(state.setup.sites)
    noisy = values + _noise(derive(state.flood, "flood", state.setup.session, content), len(values)) * (
        flood_scale(state.settings, sites)
    )
    step = _grid(state.settings, sites)
    payload = {"sum": np.rint(noisy / step) * step}
    answer = signed_message(state.setup, state.identity, CKKS_KINDS[2], state.name, COORDINATOR, payload)
    return replace(state, taken=text), (answer,)


def _grid(settings: Ckks, sites: int) -> float:
    """What opened sums are rounded to: a power of two, some 2⁻¹⁰ of the noise, so that no lower bits are
    told.
    """
    return 2.0 ** (math.floor(math.log2(flood_scale(settings, sites))) - 10)


def _noise(key: bytes, count: int) -> NDArray[np.float64]:
    """[count] standard Gaussian numbers from a key that serves once (AES-CTR, then Box & Muller 1958)."""
    raw = np.frombuffer(stream(key, 16 * -(-count // 2)), "<u8")
    uniform = ((raw >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
    radius, angle = np.sqrt(-2 * np.log(uniform[::2])), 2 * np.pi * uniform[1::2]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
