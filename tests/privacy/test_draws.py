"""The key stream of the system: what AES-256 in counter mode gives, however many are asked for at a time."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from scipy.stats import kstest

from lazaretto.privacy import draws
from lazaretto.privacy.draws import chance_of

_BLOCK = draws._BLOCK


def test_the_key_stream_begins_as_nist_says() -> None:
    """A key of zeros, a counter of zeros: the known answer of AES-256 for a block of zeros."""
    assert draws._words(bytes(32))(2).tobytes().hex() == "dc95c078a2408989ad48a21492842087"


@pytest.mark.parametrize(
    "counts", [(3, 1, 0, 7), (_BLOCK, 5), (3 * _BLOCK + 1, 2 * _BLOCK), (5, _BLOCK - 1, _BLOCK + 1)]
)
def test_no_byte_comes_twice_and_none_is_left_out(counts: tuple[int, ...]) -> None:
    key = bytes(range(32))
    words = draws._words(key)
    found = b"".join(words(count).tobytes() for count in counts)
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    assert found == stream.update(bytes(8 * sum(counts)))


def test_earlier_words_stay_when_later_ones_are_drawn() -> None:
    words = draws._words(bytes(32))
    first = words(100)
    kept = first.copy()
    words(100)
    assert np.array_equal(first, kept)


@pytest.mark.parametrize("count", [_BLOCK - 1, 3 * _BLOCK + 5])
def test_normal_numbers_are_normal(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kolmogorov and Smirnov, with a fixed key: error rate 1e-3 of a key, and this one passes or does not."""
    monkeypatch.setattr(draws.os, "urandom", lambda size: bytes(range(size)))
    found = chance_of("system", 0).normal(count)
    assert len(np.unique(found)) == count
    assert kstest(found, "norm").pvalue > 1e-3
