"""X-IoMT gateway streams laid beside PhysioNet 2012 stays: a construction with both modalities.

Nothing joins a stream to its stay but a draw by the seed, so nothing can be learned from where the two
disagree. It shows that both modalities go through the whole system on real values, and is reported
without claims.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lazaretto import keys
from lazaretto.data.physionet2012 import physionet2012
from lazaretto.data.streams import Streams, streams
from lazaretto.data.x_iomt import x_iomt
from lazaretto.errors import DataError, PlanError
from lazaretto.types import NORMAL, TEST, TRAIN, VALIDATION, Int, RawRows, Schema, Source, Table

__all__ = ["pair", "paired"]

_HOURS = 48  # of a stay, and so many steps has a stream
_NOTES = (
    (
        "A construction, reported without claims: streams of one testbed are laid beside stays of other "
        "people in intensive care, drawn by the seed."
    ),
    (
        "Traffic and record of a pair have nothing to do with each other: nothing can be learned from where "
        "they disagree, and what fusion gains here says nothing of a hospital."
    ),
    (
        "The site of a pair is that of its stream, and stays are dealt to the streams of their split by "
        "chance. So sites do not differ in their patients, and a swapped record may be of another site."
    ),
    (
        "A step's class is that of the traffic where it is attacked, else that of the record. The two "
        "strengths of attack have no common scale, so recall by strength is left out."
    ),
)
_TIME = (
    "Step stands beside step, though they last differently: {} last {:.2g} seconds on average, a step of the "
    "record is {}. Days since a measurement are those of the record; there is no latency and no alarm per "
    "day, for want of a common clock."
)


def paired(
    sites: int = 20,
    streams_per_site: int = 40,
    windows: int = 3,
    attacked_share: float = 0.6,
    tampered: float = 0.5,
    view: Literal["headers", "full", "flows"] = "headers",
    traffic_folder: str = "x-iomt",
    record_folder: str = "physionet2012",
) -> Source:
    """X-IoMT streams paired with PhysioNet 2012 stays: a construction with traffic and records, no claims.

    A unit is one stream and one stay of the same split, 48 steps of 50 packets beside 48 hours, cut to
    `windows` (a divisor of 48, 1 to 24); each stream and each stay is used at most once. sites,
    streams_per_site, attacked_share and view are those of `x_iomt`, tampered (share of stays) that of
    `physionet2012`, which both decide their own splits.

    `load` reads a folder that holds both published sets, in folders of the two names given; modalities
    "traffic" [n, T, F] and "record" [n, T, V], which is irregular. It raises DataError where that folder or
    one of the two is not there, or cannot be used; `raw` always does, since each set is checked by itself.
    Raises PlanError for options out of range.
    """
    if (
        isinstance(windows, bool)
        or not isinstance(windows, int)
        or not 1 <= windows <= 24
        or _HOURS % windows
    ):
        raise PlanError("paired: windows is out of range", found=windows, way_out="1 to 24, a divisor of 48")
    traffic = x_iomt(
        sites=sites,
        streams_per_site=streams_per_site,
        windows=windows,
        window_steps=_HOURS // windows,
        attacked_share=attacked_share,
        view=view,
    )
    record = physionet2012(tampered=tampered)

    def load(path: Any, seed: int) -> Table:
        packets, stays = _folders(path, traffic_folder, record_folder)
        return pair(traffic.load(packets, seed), record.load(stays, seed), seed)

    def sample() -> Table:
        # The streams of that sample have 16 steps, so its stays are told in steps of three hours.
        return pair(traffic.sample(), physionet2012(tampered=tampered, step_hours=3).sample(), 0)

    def raw(path: Any) -> RawRows:
        raise DataError(
            "paired joins two published sets, which have no row in common",
            way_out=f"check each by itself: lazaretto data check x_iomt, in the folder {traffic_folder}, and "
            f"physionet2012 with --set task=mortality, in the folder {record_folder}",
        )

    leaks = {**traffic.leaks, **record.leaks}
    return Source(
        name="paired",
        load=load,
        sample=sample,
        raw=raw,
        leaks=leaks,
        needs_path=True,
        deals=True,
        mixes="which stay lies beside a stream is drawn among all that are there",
    )


def pair(traffic: Table, record: Table, seed: int) -> Table:
    """One table of both, a stream and a stay to a unit, in the windows of `traffic`.

    traffic, record: tables of one modality ("traffic", "record") whose splits are decided and whose units all
    have L valid steps. Within a split the smaller number of units decides how many pairs there are; too many
    streams are used in turn from each site. Same tables and seed, same pairs.
    Raises DataError where the steps of the two are not the same number, or not all of them are valid.
    """
    ours, theirs = streams(traffic, "traffic"), streams(record, "record")
    steps = ours.y.shape[1]
    if theirs.y.shape[1] != steps:
        raise DataError(
            "paired: a stream and a stay must have the same number of steps",
            found=f"{steps} and {theirs.y.shape[1]}",
            way_out="cut both to one length",
        )
    if not (ours.valid.all() and theirs.valid.all()):
        raise DataError(
            "paired: every step of a stream and of a stay must be there",
            found=f"{int((~ours.valid).sum())} and {int((~theirs.valid).sum())} that are not",
            way_out="give units of one length, without padding or missing windows",
        )
    stream, stay = _drawn(ours, theirs, keys.generator(seed, "paired", "pairs"))
    attacked, forged = ours.y[stream], theirs.y[stay]
    families = traffic.schema.classes[1:]
    label = np.where(attacked > 0, attacked, np.where(forged > 0, forged + len(families), 0))
    pairs, width = len(stream), ours.window
    windows = steps // width

    def cut(values: NDArray[Any]) -> NDArray[Any]:
        return values.reshape(pairs * windows, width, *values.shape[2:])

    y_step = cut(label)
    return Table(
        x={"traffic": cut(ours.x[stream]), "record": cut(theirs.x[stay])},
        present=np.ones((pairs * windows, 2), np.bool_),
        y=y_step.max(axis=1),
        y_step=y_step,
        valid=np.ones(y_step.shape, np.bool_),
        unit=np.repeat(np.arange(pairs, dtype=np.int64), windows),
        unit_names=tuple(
            f"{traffic.unit_names[a]}, {record.unit_names[b]}"
            for a, b in zip(ours.unit[stream], theirs.unit[stay], strict=True)
        ),
        time=np.tile(np.arange(windows) * width * record.schema.step_seconds, pairs),
        site=np.repeat(ours.site[stream], windows),
        site_names=traffic.site_names,
        split=np.repeat(ours.split[stream], windows),
        schema=_schema(traffic.schema, record.schema),
        notes=(
            *_NOTES,
            _TIME.format(traffic.schema.step, traffic.schema.step_seconds, record.schema.step),
            *(f"Traffic: {note}" for note in traffic.notes),
            *(f"Record: {note}" for note in record.notes),
        ),
        warnings=(
            *(f"Traffic: {warning}" for warning in traffic.warnings),
            *(f"Record: {warning}" for warning in record.warnings),
        ),
        counts={
            "pairs": pairs,
            "streams_without_a_stay": len(ours.unit) - pairs,
            "stays_without_a_stream": len(theirs.unit) - pairs,
            "steps_attacked_and_tampered": int(((attacked > 0) & (forged > 0)).sum()),
            **{f"traffic_{name}": count for name, count in traffic.counts.items()},
            **{f"record_{name}": count for name, count in record.counts.items()},
        },
    )


def _schema(traffic: Schema, record: Schema) -> Schema:
    return Schema(
        features={**traffic.features, **record.features},
        classes=(NORMAL, *traffic.classes[1:], *record.classes[1:]),
        step=f"{traffic.step} beside {record.step}",
        # The record is read by it (days since a measurement), so it cannot be that of the traffic.
        step_seconds=record.step_seconds,
        rate_feature=traffic.rate_feature,
        # A step is seconds of traffic and an hour of the record, so latency in seconds and alarms per day
        # would mislead. Latency in steps would not, but the schema has one switch for all of them.
        timed=False,
        positive="attacked or tampered steps",
        negative="untouched steps",
        irregular=record.irregular,
        origins={**traffic.origins, **record.origins},
    )


def _drawn(ours: Streams, theirs: Streams, rng: np.random.Generator) -> tuple[Int, Int]:
    """Numbers of the streams [p], ascending, and of the stay beside each [p]; both of the same split."""
    chosen = []
    for code in (TRAIN, VALIDATION, TEST):
        stream = rng.permutation(np.flatnonzero(ours.split == code))
        stay = rng.permutation(np.flatnonzero(theirs.split == code))
        # One of each site, then a second of each, and so on: with few stays no site is left without.
        stream = stream[np.argsort(_turns(ours.site[stream]), kind="stable")]
        few = min(len(stream), len(stay))
        chosen.append(np.stack([stream[:few], stay[:few]]))
    both = np.concatenate(chosen, axis=1)
    stream, stay = both[:, np.argsort(both[0])]
    return stream, stay


def _turns(site: Int) -> list[int]:
    """[n] how many before this one are of the same site."""
    met = Counter[int]()
    turns = []
    for one in site.tolist():
        turns.append(met[one])
        met[one] += 1
    return turns


def _folders(path: Any, traffic_folder: str, record_folder: str) -> tuple[Path, Path]:
    """Where the two sets lie. Raises DataError naming all that is not there."""
    way_out = (
        f"one folder that holds X-IoMT in {traffic_folder} and PhysioNet 2012 in {record_folder}; "
        "data.options.traffic_folder and record_folder give them other names"
    )
    if path is None:
        raise DataError(
            "paired reads published files, and no path is given", way_out=f"give --data: {way_out}"
        )
    place = Path(str(path))
    if not place.is_dir():
        found = "a file" if place.exists() else "nothing"
        raise DataError(f"{place}: not a folder", found=found, way_out=way_out)
    missing = [name for name in (traffic_folder, record_folder) if not (place / name).is_dir()]
    if missing:
        here = ", ".join(sorted(entry.name for entry in place.iterdir())[:5]) or "an empty folder"
        raise DataError(f"{place}: no folder {' and no folder '.join(missing)}", found=here, way_out=way_out)
    return place / traffic_folder, place / record_folder
