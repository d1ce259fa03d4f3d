"""Shamir's secret sharing over the integers modulo 2²⁵⁵ − 19: any `threshold` shares give the secret, fewer
nothing.

Written here because the library that has it draws its own randomness, and splits 16 bytes at a time.
Shamir 1979, https://doi.org/10.1145/359168.359176
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from lazaretto.errors import InputError

__all__ = ["PRIME", "combine_shares", "split_secret"]

PRIME = 2**255 - 19


def split_secret(secret: int, places: Sequence[int], coefficients: Sequence[int]) -> list[int]:
    """One share in [0, PRIME) for each place: the polynomial secret + c₁x + c₂x² + ... at x = place.

    secret: in [0, PRIME). places: different, in [1, PRIME). coefficients: threshold − 1 numbers uniform in
    [0, PRIME), never used for another secret. Raises InputError for what is outside of that.
    """
    if not all(0 <= number < PRIME for number in (secret, *coefficients)):
        raise InputError("a number to share is outside of the field", way_out="0 to 2^255 - 20")
    _check_places(places)
    shares = []
    for place in places:
        value = 0
        for coefficient in reversed(coefficients):
            value = (value + coefficient) * place % PRIME
        shares.append((value + secret) % PRIME)
    return shares


def combine_shares(shares: Mapping[int, int], threshold: int) -> int:
    """The secret, from place -> share; of more than `threshold` shares those at the lowest places are used.

    Wrong shares give a wrong number, so the caller holds it against what was committed to. Raises InputError
    for fewer shares than `threshold`, or numbers outside of the field.
    """
    if threshold < 1 or len(shares) < threshold:
        raise InputError("too few shares of a secret", found=len(shares), way_out=f"at least {threshold}")
    places = tuple(sorted(shares)[:threshold])
    _check_places(places)
    if not all(0 <= shares[place] < PRIME for place in places):
        raise InputError("a share is outside of the field", way_out="0 to 2^255 - 20")
    return sum(w * shares[place] for w, place in zip(_weights(places), places, strict=True)) % PRIME


def _check_places(places: Sequence[int]) -> None:
    if len(set(places)) != len(places) or not all(0 < place < PRIME for place in places):
        raise InputError("places of shares are not different numbers above 0", found=list(places)[:5])


@lru_cache(maxsize=1024)
def _weights(places: tuple[int, ...]) -> tuple[int, ...]:
    """Lagrange's weights at 0; places are public, so that keeping them tells nothing."""
    found = []
    for place in places:
        over, under = 1, 1
        for other in places:
            if other != place:
                over = over * other % PRIME
                under = under * (other - place) % PRIME
        found.append(over * pow(under, -1, PRIME) % PRIME)
    return tuple(found)
