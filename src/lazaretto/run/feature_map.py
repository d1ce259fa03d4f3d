"""Features of new data for a model that was trained on other data: by name, meaning, or the user's word."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from lazaretto.errors import DataError, PlanError, did_you_mean
from lazaretto.types import Float

__all__ = ["SAME_QUANTITY", "Matched", "match_features", "parse_map", "take_features"]

# Names under which sources give the same quantity, in the same unit. Not here: what is alike in name only
# (gaps between packets and between flows, counts and largest values of steps that differ in length, a sum
# and its logarithm).
SAME_QUANTITY: tuple[frozenset[str], ...] = (
    frozenset({"length_mean_bytes", "packet_size_mean_bytes", "bytes_per_packet"}),
    frozenset({"length_sd_bytes", "packet_size_sd_bytes"}),
    frozenset({"share_towards_server", "outbound_share_of_packets", "packets_out_share"}),
    frozenset({"outbound_share_of_bytes", "bytes_out_share"}),
)
_LEAST_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """Where each feature of the model comes from.

    place:  [F] column of the new data, or -1 where it has none.   factor: [F] new value times this.
    mapped: (feature of the model, feature of the new data, factor) where the names differ.
    absent: features of the model that the new data lacks.
    """

    place: tuple[int, ...]
    factor: tuple[float, ...]
    mapped: tuple[tuple[str, str, float], ...]
    absent: tuple[str, ...]

    def sentences(self, source: str, instead: str = "kept at the median of training") -> list[str]:
        """What a report must say of it; nothing where every feature was found by its name.

        instead: what becomes of features that are absent.
        """
        said, count = [], len(self.place)
        if self.mapped:
            pairs = ", ".join(f"{old} from {new}{_times(factor)}" for old, new, factor in self.mapped)
            said.append(f"Features of other names taken for the same quantity: {pairs}.")
        if self.absent:
            said.append(
                f"Not in '{source}', and {instead}: {', '.join(self.absent)} "
                f"({len(self.absent)} of the model's {count} features)."
            )
        return said


def _times(factor: float) -> str:
    return "" if factor == 1 else f" times {factor:g}"


def parse_map(texts: Sequence[str]) -> dict[str, tuple[str, float]]:
    """`MODEL=NEW` or `MODEL=NEW*FACTOR` texts: feature of the model -> (feature of the new data, factor).

    Raises PlanError for a text of another form, a factor that is not finite and above 0, or a feature twice.
    """
    found: dict[str, tuple[str, float]] = {}
    for text in texts:
        old, equals, rest = text.partition("=")
        new, star, number = rest.partition("*")
        old, new = old.strip(), new.strip()
        try:
            factor = float(number) if star else 1.0
        except ValueError:
            factor = math.nan
        if not (equals and old and new and math.isfinite(factor) and factor > 0):
            raise PlanError(
                "--map pairs a feature of the model with one of the new data",
                found=text,
                way_out="for instance --map length_mean_bytes=bytes_per_packet, or =kilobytes*1024",
            )
        if old in found:
            raise PlanError(
                "--map names a feature of the model twice", found=old, way_out="one --map for each"
            )
        found[old] = (new, factor)
    return found


def match_features(
    wanted: Sequence[str],
    held: Sequence[str],
    given: Mapping[str, tuple[str, float]] = MappingProxyType({}),
    source: str = "",
) -> Matched:
    """For each feature that the model wants, the one of the new data: as given, else of its name, else equal.

    wanted, held: names of the model's and of the new data's features. given: as of `parse_map`.
    Raises PlanError where `given` names a feature that is not there, DataError where fewer than half of
    the wanted features are found.
    """
    for old, (new, _) in given.items():
        for name, names, whose in ((old, wanted, "the model"), (new, held, f"source '{source}'")):
            if name not in names:
                raise PlanError(
                    f"--map: {whose} has no such feature",
                    found=name,
                    way_out=f"{did_you_mean(name, names)}features: {', '.join(names)}",
                )
    place, factor, mapped, absent = [], [], [], []
    for name in wanted:
        new, times = given.get(name, (_found(name, held), 1.0))
        place.append(held.index(new) if new else -1)
        factor.append(times)
        if not new:
            absent.append(name)
        elif new != name or times != 1:
            mapped.append((name, new, times))
    if len(wanted) - len(absent) < _LEAST_SHARE * len(wanted):
        some = ", ".join(absent[:5]) + (" ..." if len(absent) > 5 else "")
        raise DataError(
            f"source '{source}' lacks features that the model was trained on, more than half of them",
            found=f"{len(absent)} of {len(wanted)}: {some}",
            way_out="pair them with --map, or train on features that both have (docs/public_data.md)",
        )
    return Matched(place=tuple(place), factor=tuple(factor), mapped=tuple(mapped), absent=tuple(absent))


def _found(name: str, held: Sequence[str]) -> str:
    """The feature of that name or of that meaning, "" if there is none or more than one by meaning."""
    if name in held:
        return name
    equal = [other for group in SAME_QUANTITY if name in group for other in held if other in group]
    return equal[0] if len(equal) == 1 else ""


def take_features(x: Float, matched: Matched, center: Float) -> Float:
    """x [u, L, F of the new data] as the model's [u, L, F]; what is absent stands at `center` [F]."""
    out = np.empty((*x.shape[:2], len(matched.place)), np.float32)
    for feature, (place, factor) in enumerate(zip(matched.place, matched.factor, strict=True)):
        out[:, :, feature] = center[feature] if place < 0 else x[:, :, place] * np.float32(factor)
    return out
