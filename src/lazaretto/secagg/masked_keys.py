"""What masked sums take from cryptography: keys, masks, sealed shares, signatures. Nothing here draws
randomness.

Everything secret is derived from a secret of 32 bytes that its site draws afresh for every round, under
labels that name the round, so that no key serves twice, even where a site hands in the same secret again.
"""

from __future__ import annotations

import numpy as np
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from lazaretto.errors import InputError, WireError
from lazaretto.types import Array
from lazaretto.wire import encode

__all__ = [
    "SECRET_BYTES",
    "SIGNATURE_BYTES",
    "add_mask",
    "agreed_key",
    "derive",
    "public_identity",
    "public_key",
    "seal",
    "sign",
    "stream",
    "unseal",
    "verifies",
]

SECRET_BYTES, SIGNATURE_BYTES = 32, 64
_BLOCK = 2**19  # bytes of a mask at a time: they stay in the cache
_ZEROS = bytes(_BLOCK)


def derive(secret: bytes, *label: str | int | bytes) -> bytes:
    """32 bytes for one purpose (HKDF-SHA256, RFC 5869, 2010, https://www.rfc-editor.org/rfc/rfc5869).

    secret: 32 bytes with full entropy, or InputError. Different labels never read alike: they are encoded.
    """
    if len(secret) != SECRET_BYTES:
        raise InputError("a secret has another length", found=f"{len(secret)} bytes", way_out="32 bytes")
    info = encode(["lazaretto masked 1", *label])
    return HKDF(algorithm=hashes.SHA256(), length=SECRET_BYTES, salt=None, info=info).derive(secret)


def stream(key: bytes, count: int) -> bytes:
    """`count` bytes, uniform to whoever lacks the key (AES-256 in counter mode); a key serves once."""
    return Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(count))


def add_mask(total: Array, key: bytes, *, subtract: bool = False) -> None:
    """Adds the mask of a key to total [d] in place, or takes it away; sums wrap.

    total: contiguous "<u4" or "<u8". The mask is AES-128 in counter mode under half of the key's 32 bytes,
    which must serve for this one mask only.
    """
    encryptor = Cipher(algorithms.AES(key[:16]), modes.CTR(bytes(16))).encryptor()
    buffer = bytearray(_BLOCK + 16)
    change, step = np.subtract if subtract else np.add, _BLOCK // total.itemsize
    mask = np.frombuffer(buffer, total.dtype, step)
    zeros = memoryview(_ZEROS)
    for begin in range(0, len(total), step):
        part = total[begin : begin + step]
        encryptor.update_into(zeros[: part.nbytes], buffer)
        change(part, mask[: len(part)], out=part)


def public_key(private: bytes) -> bytes:
    """X25519 public key of 32 private bytes (RFC 7748, 2016, https://www.rfc-editor.org/rfc/rfc7748)."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agreed_key(private: bytes, public: bytes, *label: str | int | bytes) -> bytes:
    """What two holders of keys agree on, 32 bytes for one purpose.

    Raises WireError for a key of low order.
    """
    own = X25519PrivateKey.from_private_bytes(private)
    try:
        return derive(own.exchange(X25519PublicKey.from_public_bytes(public)), *label)
    except ValueError as error:
        raise WireError("a public key cannot be used", found=public.hex()) from error


def seal(key: bytes, content: bytes, context: bytes) -> bytes:
    """Content and 16 bytes of proof (AES-256-GCM). The key serves for this one message, so the nonce is 0."""
    return AESGCM(key).encrypt(bytes(12), content, context)


def unseal(key: bytes, sealed: bytes, context: bytes) -> bytes | None:
    """The content, or None where it was not sealed under this key for this context."""
    try:
        return AESGCM(key).decrypt(bytes(12), sealed, context)
    except InvalidTag:
        return None


def public_identity(private: bytes) -> bytes:
    """Ed25519 public key of 32 private bytes (RFC 8032, 2017, https://www.rfc-editor.org/rfc/rfc8032)."""
    return Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def sign(private: bytes, content: bytes) -> bytes:
    """Ed25519 signature, 64 bytes."""
    return Ed25519PrivateKey.from_private_bytes(private).sign(content)


def verifies(public: bytes, signature: bytes, content: bytes) -> bool:
    """Whether the holder of an identity signed the content."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, content)
    except (InvalidSignature, ValueError):
        return False
    return True
