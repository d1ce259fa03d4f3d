"""Where chance comes from that privacy rests on, and who is sampled by it.

Real runs draw from the system's generator; a simulation draws from its seed, so that it can be repeated, and
whoever knows that seed can take the noise off again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from lazaretto.errors import InputError
from lazaretto.keys import generator

__all__ = ["Chance", "NoiseSource", "chance_of", "poisson_rows", "turn_rows"]

NoiseSource = Literal["seed", "system"]
_BLOCK = 2**13  # numbers at a time: what is worked on stays in a core's cache


class Chance(NamedTuple):
    """uniform, normal: number of draws -> [n] float64, of (0, 1) and of the standard normal distribution.

    Every call gives new ones.
    """

    uniform: Callable[[int], NDArray[np.float64]]
    normal: Callable[[int], NDArray[np.float64]]


def chance_of(source: NoiseSource, seed: int, *path: str | int) -> Chance:
    """Chance of a simulation (the stream `path` of the seed), or from the system (seed and path unused).

    The system's: 32 bytes of `os.urandom` are the key of AES-256 in counter mode, 53 bits make a uniform
    number, and two normal ones come from a radius of 53 bits and an angle of 32, good to 2^-24 of the radius
    (Box and Muller 1958, https://doi.org/10.1214/aoms/1177706645); so a normal number is never beyond 8.7,
    which has probability 1e-17. Raises InputError for another source.
    """
    if source == "seed":
        rng = generator(seed, *path)
        return Chance(rng.random, rng.standard_normal)
    if source != "system":
        raise InputError("no such source of noise", found=source, way_out="'seed' or 'system'")
    words = _words(os.urandom(32))

    def uniform(count: int) -> NDArray[np.float64]:
        return ((words(count) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53

    def normal(count: int) -> NDArray[np.float64]:
        made = np.empty(count)
        for begin in range(0, count, _BLOCK):
            some = made[begin : begin + _BLOCK]
            half = (len(some) + 1) // 2
            radius = np.sqrt(-2.0 * np.log(uniform(half)))
            turn = words((half + 1) // 2).view("<u4")[:half].astype(np.float32)
            turn *= np.float32(2.0 * np.pi * 2.0**-32)
            some[:half] = radius * np.cos(turn)
            some[half:] = (radius * np.sin(turn))[: len(some) - half]
        return made

    return Chance(uniform, normal)


def _words(key: bytes) -> Callable[[int], NDArray[np.uint64]]:
    """number -> so many fresh words of a key stream."""
    stream: Any = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    nothing = memoryview(bytes(8 * _BLOCK))  # what is enciphered: the key stream itself comes out

    def words(count: int) -> NDArray[np.uint64]:
        made = np.empty(count + 2, "<u8")  # the cipher asks for room for a block more
        out = made.view(np.uint8)
        for begin in range(0, 8 * count, len(nothing)):
            stream.update_into(nothing[: 8 * count - begin], out[begin:])
        return made[:count]

    return words


def poisson_rows(examples: int, rate: float, steps: int, chance: Chance) -> list[NDArray[np.int64]]:
    """Who is in each of so many steps: every one of `examples` by itself, with probability `rate`.

    So a step may have nobody, or everybody: nothing is cut off and nothing is filled up.
    """
    return [np.flatnonzero(chance.uniform(examples) < rate) for _ in range(steps)]


def turn_rows(marks: NDArray[np.uint64], rate: float, steps: int, first: int) -> list[NDArray[np.int64]]:
    """Who (as places in `marks`) is in each of so many steps, from step `first` of the run on, in turn.

    marks [n]: a number of each example's own, of its name and nothing else. b = round(1 / rate) steps are a
    pass, and example i is in those steps t with t mod b = marks[i] mod b: in no two of fewer than b in a row,
    and in the same ones whoever comes or goes. No chance is in it; how many share a step is as it comes.
    """
    pass_steps = np.uint64(round(1 / rate))
    turn = marks.astype(np.uint64) % pass_steps
    return [np.flatnonzero(turn == np.uint64(first + step) % pass_steps) for step in range(steps)]
