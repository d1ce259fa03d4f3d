"""Settings of the sharing protocol, and whether its fields are large enough that honest values never wrap."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import InputError, PlanError

__all__ = [
    "AGGREGATORS",
    "COORDINATOR",
    "LONGEST_COUNTS",
    "PROJECTIONS",
    "WEIGHT_BITS",
    "Decide",
    "SharedGram",
    "Sharing",
    "allowed_bits",
    "check_fits",
    "row_length",
    "stretch",
]

AGGREGATORS = ("aggregator-0", "aggregator-1", "aggregator-2")
COORDINATOR = "coordinator"
LONGEST_COUNTS = 2.0**22  # of counts that are summed: the same for everyone, so that it tells nothing
WEIGHT_BITS = 16  # fractional bits of a rule's weights: their rounding moves an update by 8e-6 of the longest
PROJECTIONS = 40  # of each row, for the check of its length; a longer row passes with probability 2⁻⁴⁰
_BEYOND = 9  # an honest projection is within so many lengths but once in 2¹¹⁰
_CAUGHT = 9.0  # times the allowed projection: a row that long fails one with probability ½ or more


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """What all parties of a round have agreed on (`[secure]` of a plan).

    clip:           secure.clip, Euclidean length to which every update is shortened, > 0.
    fraction_bits:  secure.fraction_bits, of an update's entries.
    sketch_columns: secure.sketch_columns, columns of the sketch that inner products are taken of; 0: exact.
    noise:          secure.noise, σ of the noise on every coordinate of the sum, in the update's units; each
                    of the three aggregators adds a discrete Gaussian of variance σ²/2. 0: none.
    most_on_one:    share of the sites' weight that one of them may get; more and the round is refused, as the
                    aggregate would be that site's update.
    history:        whether inner products of the sites' running sums are opened, too.
    one_hot:        0: rows of any numbers. Else the entries of a block: rows are blocks, each a single 1
                    among zeros, and one that is not so is named and left out. With fraction_bits = 0.
    """

    clip: float
    fraction_bits: int = 16
    sketch_columns: int = 0
    noise: float = 0.0
    most_on_one: float = 1 / 3
    history: bool = False
    one_hot: int = 0


class SharedGram(NamedTuple):
    """What is opened, and what a rule may see: of n clipped updates in the order of names, and p public rows.

    inner [n + p, n + p] float64; history [n, n], of running sums, or None; names [n], sorted;
    coin: 32 bytes that nobody could foresee when updates were committed, for the rule's random choices.
    """

    inner: NDArray[np.float64]
    history: NDArray[np.float64] | None
    names: tuple[str, ...]
    coin: bytes


Decide = Callable[[SharedGram], NDArray[np.float64]]


def row_length(settings: Sharing, parameters: int) -> float:
    """The largest Euclidean length, in ring units, of a clipped update after rounding; ballots are whole."""
    rounding = 0.0 if settings.one_hot else math.sqrt(parameters) / 2
    return settings.clip * 2.0**settings.fraction_bits + rounding


def allowed_bits(settings: Sharing, parameters: int) -> int:
    """β: an honest row's projections lie in [-2^β, 2^β) but for a chance below 2⁻¹¹⁰ each.

    With coefficients 1, -1 (¼ each) and 0 the projection of a row of length L is sub-Gaussian with variance
    proxy L²/2, so it is beyond 9·L with probability at most 2·exp(-81).
    """
    return math.ceil(math.log2(_BEYOND * row_length(settings, parameters)))


def stretch(settings: Sharing, parameters: int) -> int:
    """By how much a sketch may lengthen a squared length at most: entries of a column of the sketch."""
    columns = settings.sketch_columns
    return 1 if columns == 0 or columns >= parameters else math.ceil(parameters / columns)


def check_fits(settings: Sharing, sites: int, parameters: int, rounds: int = 1) -> None:
    """Refuse settings under which a value that everyone computed honestly could wrap around.

    sites: the most in a round; parameters: d; rounds: the most over which running sums are taken.
    Raises PlanError that names the key which is out of range or too large.
    """
    _in_range(settings)
    whole = settings.one_hot == 0 or (settings.one_hot > 0 and parameters % settings.one_hot == 0)
    if not whole or (settings.one_hot and settings.fraction_bits):
        raise InputError(
            "rows are not whole blocks of `one_hot` whole numbers",
            found=f"{parameters} entries, one_hot={settings.one_hot}, fraction_bits={settings.fraction_bits}",
            way_out="as many entries in every block, and fraction_bits = 0",
        )
    length, columns = row_length(settings, parameters), stretch(settings, parameters)
    caught = _CAUGHT * 2.0 ** allowed_bits(settings, parameters)
    _below(63, caught**2 * columns, "inner products of updates", settings)
    if settings.history:
        _below(62, (rounds * length) ** 2 * columns, f"inner products of sums over {rounds} rounds", settings)
    _below(62, sites * length * 2.0**WEIGHT_BITS * columns**0.5, f"the sum over {sites} sites", settings)
    _below(
        62, parameters * (3 * 2.0**WEIGHT_BITS) ** 2 * columns, "the squared length of the dither", settings
    )
    _below(62, parameters * 2.0 * caught, f"projections of {parameters} parameters", settings)
    sigma = settings.noise * 2.0**settings.fraction_bits
    if settings.noise and not 1 <= sigma < 2**27:
        raise PlanError(
            "secure.noise does not fit the fixed point of secure.fraction_bits",
            found=f"{settings.noise:g}, {sigma:.3g} steps",
            way_out=f"between {2.0**-settings.fraction_bits:g} and {2.0 ** (27 - settings.fraction_bits):g}",
        )
    longest = 1.3 * sigma * (math.sqrt(parameters) + 16)
    _below(62, longest**2 * columns, "the squared length of the noise (secure.noise)", settings)


def _in_range(settings: Sharing) -> None:
    wanted = {
        "clip": (0 < settings.clip < math.inf, "a number above 0"),
        # more would show the grain of float32 parameters in a sum, and by it whose they are
        "fraction_bits": (1 <= settings.fraction_bits <= 20 or bool(settings.one_hot), "1 to 20"),
        "sketch_columns": (settings.sketch_columns >= 0, "0 (exact) or more; thousands for useful distances"),
        "noise": (0 <= settings.noise < math.inf, "0 or more"),
        "most_on_one": (0 < settings.most_on_one <= 1, "above 0, at most 1"),
    }
    for name, (fine, takes) in wanted.items():
        if not fine:
            raise PlanError(f"secure.{name} is out of range", found=getattr(settings, name), way_out=takes)


def _below(bits: int, value: float, what: str, settings: Sharing) -> None:
    if not value < 2.0**bits:
        raise PlanError(
            f"{what} would not fit the ring of 64 bits: secure.clip or secure.fraction_bits is too large",
            found=f"secure.clip = {settings.clip:g}, secure.fraction_bits = {settings.fraction_bits}: "
            f"2^{math.log2(value):.1f}, where 2^{bits} is the most",
            way_out="a smaller secure.clip, fewer secure.fraction_bits, more secure.sketch_columns or fewer "
            "sites and rounds",
        )
