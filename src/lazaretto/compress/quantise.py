"""Few bits for each number, rounded by chance so that nothing is lost on average."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray

from lazaretto.compress._payload import array_of, names_are
from lazaretto.compress_types import Compressor, Payload, Public
from lazaretto.errors import InputError
from lazaretto.types import Float

__all__ = ["quantise"]


def quantise(bits: Literal[8, 4] = 8, block: Annotated[int, Ge(8), Le(65536)] = 128) -> Compressor:
    """Eight or four bits for each number, rounded up or down by chance; one scale for each block of numbers.

    With L = 2^(bits − 1) − 1, a block's scale is its largest |x| / L, and x goes to one of the two multiples
    beside it, so that the mean is x. E ‖x − C(x)‖² <= block / (4 L²) · ‖x‖². Unbiased; the generator must be
    the site's own. Not linear: each site has scales of its own. Two numbers of four bits share a byte.
    Alistarh et al. 2017 (QSGD), https://arxiv.org/abs/1610.02132.

    >>> import numpy as np
    >>> from lazaretto.compress_types import Public
    >>> made = quantise(bits=4)
    >>> sent = made.encode(np.float32([7, -7, 3, 0]), Public(0), np.random.default_rng(0))
    >>> sent["codes"].nbytes, made.decode(sent, Public(0), 4).tolist()
    (2, [7.0, -7.0, 3.0, 0.0])
    """
    top = 2 ** (bits - 1) - 1

    def encode(x: Float, public: Public, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        count = -(-x.size // block)
        padded = np.zeros((count, block), np.float64)
        padded.reshape(-1)[: x.size] = x
        most = np.abs(padded).max(axis=1, initial=0.0)
        scales = (most / top).astype(np.float32)
        low = scales.astype(np.float64) * top < most  # rounded down: the largest would be out of range
        scales[low] = np.nextafter(scales[low], np.float32(np.inf))
        unit = np.where(scales > 0, scales, 1.0).astype(np.float64)[:, None]
        drawn = np.floor(padded / unit + rng.random(padded.shape)).astype(np.int64).reshape(-1)[: x.size]
        codes = np.minimum(drawn, top)  # the sum with a draw just below 1 may round up
        return {"codes": _packed(codes, bits, top), "scales": scales}

    def decode(payload: Payload, public: Public, m: int) -> Float:
        names_are(payload, "codes", "scales")
        scales = array_of(payload, "scales", "<f4", -(-m // block))
        if (scales < 0).any():
            raise InputError("a scale of a compressed update is negative", found=float(scales.min()))
        codes = _unpacked(payload, m, bits, top)
        with np.errstate(over="ignore"):
            found = np.asarray(codes * np.repeat(scales, block)[:m], np.float32)
        if not np.isfinite(found).all():
            raise InputError("a compressed update is too large", found=float(scales.max()))
        return found

    return Compressor(
        name="quantise",
        encode=encode,
        decode=decode,
        unbiased=True,
        contraction=lambda m: max(0.0, 1 - block / (4 * top**2)),
        noise=block / (4 * top**2),
    )


def _packed(codes: NDArray[np.int64], bits: int, top: int) -> NDArray[np.int8] | NDArray[np.uint8]:
    if bits == 8:
        return codes.astype(np.int8)
    raised = np.zeros(codes.size + codes.size % 2, np.uint8)
    raised[: codes.size] = codes + top
    return raised[0::2] << 4 | raised[1::2]


def _unpacked(payload: Payload, m: int, bits: int, top: int) -> NDArray[np.int64]:
    if bits == 8:
        codes = array_of(payload, "codes", "|i1", m).astype(np.int64)
    else:
        pairs = array_of(payload, "codes", "|u1", -(-m // 2))
        codes = np.stack([pairs >> 4, pairs & 15], axis=1).reshape(-1)[:m].astype(np.int64) - top
    if (np.abs(codes) > top).any():
        raise InputError("a code of a compressed update is out of range", way_out=f"-{top} to {top}")
    return codes
