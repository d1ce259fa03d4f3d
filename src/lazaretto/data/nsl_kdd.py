"""NSL-KDD: single connections with four families of attack (Tavallaee 2009, DOI 10.1109/CISDA.2009.5356528).

The published rows are shuffled and have neither time nor hosts, so no stream can be made of them: a unit is
one connection, of one step. Connections alike in all that they tell of themselves stand in one split.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lazaretto import keys
from lazaretto.data._flow_read import LINE, open_bare_table, read_columns
from lazaretto.data._nsl_kdd_names import (
    COLUMNS,
    FAMILIES,
    FAMILY_OF,
    HISTORY,
    OWN_NUMBERS,
    PROTOCOLS,
    SITE_OF,
    SITES,
    STATES,
)
from lazaretto.data._published import as_published, checked_numbers, checked_words, published_files
from lazaretto.types import NORMAL, TEST, TRAIN, VALIDATION, Int, RawRows, Schema, Source, Table

__all__ = ["nsl_kdd"]

_PATTERNS = ("KDDTrain*.txt", "KDDTrain*.txt.gz", "KDDTest*.txt", "KDDTest*.txt.gz")
_CLASSES = (NORMAL, *FAMILIES)
_LEAKS: Mapping[str, str] = MappingProxyType(
    {
        "difficulty": "how many of 21 classifiers were right on the row: made from the label",
        "service": "it is the site here, and most services occur in attacks only",
        "src_bytes": "exact sizes are those of fixed tools (smurf 1032, back 54540); powers of two are kept",
        "num_outbound_cmds": "0 in every row",
        "is_host_login": "1 in next to no row",
    }
)
_SHARES = {TRAIN: 0.55, VALIDATION: 0.15, TEST: 0.30}
_SIZES = ("src_bytes", "dst_bytes")
_OWN = tuple(name for name in OWN_NUMBERS if name not in (*_LEAKS, *_SIZES))
_NUMBERS = (*_OWN, *HISTORY)
_STATE_NAMES = tuple(dict.fromkeys(STATES.values()))
_FEATURES = (
    *(f"protocol_{name}" for name in PROTOCOLS),
    *(f"state_{name}" for name in _STATE_NAMES),
    *(f"{name}_log2" for name in _SIZES),
    *_NUMBERS,
)
_NOTES = (
    (
        "A unit is one connection and has one step: the published rows are shuffled and bear no time "
        "and no host, so "
        "there is no stream, no onset and no alarm per day."
    ),
    (
        "Connections alike in protocol, service, state and all that they tell of themselves stand in "
        "one split. Such groups are dealt, the largest first, so that of each family at each site 55, 15 and "
        "30 % are training, validation and test as nearly as groups allow: a flood that is most of a family "
        "at a site stands in training as a whole, whatever the seed."
    ),
    (
        "19 features count over the connections before this one. Neighbours of one flood share them "
        "and may stand in "
        "two splits, since nothing tells who was whose neighbour."
    ),
    "Sites are groups of services, a stand-in for departments. Traffic and attacks are of 1998, simulated.",
)


def nsl_kdd() -> Source:
    """NSL-KDD connections with attacks of four families (DoS, probe, R2L, U2R); sites are groups of services.

    `load` and `raw` read a folder of the published `KDDTrain*.txt` and `KDDTest*.txt` (also .gz), or one such
    file: comma-separated, 43 columns, no header. Rows that are in two of the files count once. The split
    depends on the seed. Raises DataError for a file that cannot be used, and for unknown attack names.
    """
    return Source(
        name="nsl_kdd", load=_load, sample=_sample, raw=_raw, leaks=_LEAKS, needs_path=True, deals=True
    )


def _read(path: Any) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """Rows with numbers, words and class; the same rows as published; and how many copies were left out."""
    ranges = dict.fromkeys((*OWN_NUMBERS, *HISTORY), (0.0, 1e12))
    ranges |= {name: (0.0, 1.0) for name in HISTORY if name.endswith("_rate")}
    words = {
        "protocol_type": PROTOCOLS,
        "service": {service: service for service in SITE_OF},
        "flag": {flag: flag for flag in STATES},
        "attack": FAMILY_OF,
    }
    read, published = [], []
    for file in published_files(path, "nsl_kdd", _PATTERNS):
        table = open_bare_table(file, COLUMNS)
        frame = read_columns(table, COLUMNS)
        numbers = checked_numbers(table, frame, ranges)
        read.append(pl.concat([numbers, checked_words(table, frame, words)], how="horizontal"))
        published.append(frame.drop(LINE))
    rows, raw = pl.concat(read), pl.concat(published)
    first = rows.select(pl.struct(pl.all()).is_first_distinct())[:, 0]
    return rows.filter(first), raw.filter(first), int((~first).sum())


def _alike(rows: pl.DataFrame) -> Int:
    """[rows] number of the group of connections that tell the same of themselves, in order of appearance."""
    own = ("protocol_type", "service", "flag", *OWN_NUMBERS)
    key = rows.select(pl.struct(own).rank("dense"))[:, 0].to_numpy()
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first))[inverse], dtype=np.int64)


def _deal(group: Int, label: Int, site: Int, seed: int) -> Int:
    """Split [rows]: whole groups, so that of each family at each site shares come near to `_SHARES`.

    The largest first, each to where it brings what is held nearest to what is owed, summed over its families
    (a flood and a sweep may be alike); of several as near to the emptiest. The seed deals those of one size.
    """
    held = np.zeros((int(group.max()) + 1, len(_CLASSES)))
    np.add.at(held, (group, label), 1.0)
    place = site[np.unique(group, return_index=True)[1]]
    rng = keys.generator(seed, "nsl_kdd", "splits")
    share = np.array(list(_SHARES.values()))[:, None]
    dealt = np.empty(len(held), dtype=np.int64)
    for one in np.unique(place):
        members = rng.permutation(np.flatnonzero(place == one))
        whole = share * held[members].sum(axis=0)
        owed = whole.copy()
        for member in members[np.argsort(-held[members].sum(axis=1), kind="stable")]:
            mine = held[member]
            of = mine > 0
            farther = (np.abs(owed - mine) - np.abs(owed))[:, of].sum(axis=1).round(6)
            emptiness = (owed[:, of] / whole[:, of] @ mine[of]).round(6)
            to = np.lexsort((-share[:, 0], -emptiness, farther))[0]
            owed[to] -= mine
            dealt[member] = list(_SHARES)[to]
    return np.asarray(dealt[group])


def _load(path: Any, seed: int) -> Table:
    rows, _, copies = _read(path)
    return _table(rows, seed, {"rows_read": rows.height + copies, "duplicates_removed": copies})


def _table(rows: pl.DataFrame, seed: int, counts: dict[str, int]) -> Table:
    label = rows["attack"].to_numpy().astype(np.int64)
    site = rows["service"].replace_strict(dict(SITE_OF)).to_numpy().astype(np.int64)
    group = _alike(rows)
    used = np.unique(site)
    count = rows.height
    one = np.ones((count, 1), dtype=np.bool_)
    return Table(
        x={"traffic": _features(rows)[:, None, :]},
        present=one,
        y=label,
        y_step=label[:, None],
        valid=one,
        unit=np.arange(count, dtype=np.int64),
        unit_names=tuple(f"connection {number + 1}" for number in range(count)),
        time=np.zeros(count),
        site=np.searchsorted(used, site).astype(np.int64),
        site_names=tuple(list(SITES)[place] for place in used),
        split=_deal(group, label, site, seed),
        schema=Schema(
            features={"traffic": _FEATURES},
            classes=_CLASSES,
            step="one connection",
            step_seconds=1.0,
            rate_feature="count",
            timed=False,
            positive="attacking connections",
            negative="normal ones",
        ),
        notes=_NOTES,
        counts={**counts, "groups_alike": int(group.max()) + 1},
    )


def _features(rows: pl.DataFrame) -> NDArray[np.float32]:
    """[rows, F]: protocol and state as 0 or 1, sizes as powers of two, then numbers."""
    state = pl.col("flag").replace_strict(dict(STATES))
    frame = rows.select(
        *[(pl.col("protocol_type") == name).cast(pl.Float64).alias(f"p {name}") for name in PROTOCOLS],
        *[(state == name).cast(pl.Float64).alias(f"s {name}") for name in _STATE_NAMES],
        # rounded down on purpose, see _LEAKS
        *[(1 + pl.col(name)).log(2).floor().alias(f"{name}_log2") for name in _SIZES],
        *_NUMBERS,
    )
    return np.ascontiguousarray(frame.to_numpy(), dtype=np.float32)


def _raw(path: Any) -> RawRows:
    rows, published, _ = _read(path)
    return RawRows(
        columns=as_published(published, [name for name in COLUMNS if name != "attack"]),
        label=rows["attack"].to_numpy().astype(np.int64),
        group=_alike(rows),
        classes=_CLASSES,
    )


def _sample() -> Table:
    """Made-up connections: pages and mail, floods without an answer, sweeps, stolen files, taken roots."""
    rng = keys.generator(0, "nsl_kdd", "sample")
    kinds = (  # attack, service, flag, how many, mean bytes out and in, mean count
        ("normal", "http", "sf", 160, 250, 4000, 5),
        ("normal", "smtp", "sf", 80, 1200, 300, 2),
        ("neptune", "private", "s0", 80, 0, 0, 180),
        ("normal", "private", "sf", 40, 100, 100, 3),
        ("ipsweep", "eco_i", "sf", 40, 18, 0, 2),
        ("warezclient", "ftp_data", "sf", 30, 30_000, 0, 1),
        ("rootkit", "telnet", "sf", 20, 300, 2000, 1),
    )
    parts = []
    for attack, service, flag, number, sent, answered, count in kinds:
        columns: dict[str, Any] = {name: np.zeros(number) for name in (*OWN_NUMBERS, *HISTORY)}
        columns["src_bytes"] = np.round(rng.exponential(sent, number)) if sent else np.zeros(number)
        columns["dst_bytes"] = np.round(rng.exponential(answered, number)) if answered else np.zeros(number)
        columns["duration"] = np.round(rng.exponential(3, number))
        columns["count"] = rng.poisson(count, number).astype(float)
        columns["serror_rate"] = np.round(rng.random(number) * 0.1 + 0.9 * (flag == "s0"), 2)
        protocol = "icmp" if service == "eco_i" else "tcp"
        parts.append(
            pl.DataFrame(columns).with_columns(
                protocol_type=pl.lit(protocol),
                service=pl.lit(service),
                flag=pl.lit(flag),
                attack=pl.lit(FAMILY_OF[attack], pl.Int64),
            )
        )
    return _table(pl.concat(parts), 0, {})
