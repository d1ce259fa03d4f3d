"""Pseudo-randomness and commitments: AES-CTR, HKDF and SHA-256, never a generator of simulation.

Everything that a role draws in a round comes from one fresh secret of 32 bytes, by labels; so a label must
not be used twice, and a secret not in two rounds.
"""

from __future__ import annotations

import hashlib
import hmac

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from lazaretto.wire import encode

__all__ = ["SECRET_BYTES", "commitment", "derive", "expand", "opens", "signs"]

SECRET_BYTES = 32


def derive(secret: bytes, *label: str | int) -> bytes:
    """32 bytes for one purpose, from a secret of 32 bytes (HKDF-SHA256, RFC 5869, 2010).

    Labels of different parts never give the same bytes: they are encoded.
    """
    info = encode(["lazaretto sharing 1", *label])
    return HKDF(algorithm=hashes.SHA256(), length=SECRET_BYTES, salt=None, info=info).derive(secret)


def expand(seed: bytes, count: int) -> NDArray[np.uint64]:
    """[count] uint64, uniform to whoever lacks the seed of 32 bytes (AES-256 in counter mode)."""
    encryptor = Cipher(algorithms.AES(seed), modes.CTR(bytes(16))).encryptor()
    return np.frombuffer(encryptor.update(bytes(8 * count)), dtype="<u8").astype(np.uint64, copy=False)


def signs(seed: bytes, count: int) -> NDArray[np.bool_]:
    """[count] fair bits."""
    bits = np.unpackbits(expand(seed, -(-count // 64)).view(np.uint8), count=count)
    return bits.astype(np.bool_)


def commitment(content: bytes, nonce: bytes) -> bytes:
    """SHA-256 over the nonce and the content: binds, and hides the content as long as the nonce is secret.

    The nonce comes first and has 32 bytes, so no two pairs read alike. Without it whoever guesses
    the content could confirm the guess.
    """
    return hashlib.sha256(nonce + content).digest()


def opens(committed: bytes, content: bytes, nonce: bytes) -> bool:
    """Whether content and nonce are what was committed to."""
    return hmac.compare_digest(committed, commitment(content, nonce))
