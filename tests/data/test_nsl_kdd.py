"""NSL-KDD: the published mapping of attacks, alike connections in one split, and the real file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from lazaretto.data._nsl_kdd_names import COLUMNS, FAMILY_OF, HISTORY, OWN_NUMBERS, SITE_OF, SITES
from lazaretto.data.duplicates import remove_duplicates
from lazaretto.data.leaks import suspected_leaks
from lazaretto.data.nsl_kdd import nsl_kdd
from lazaretto.data.splits import assign_splits
from lazaretto.types import TEST, TRAIN, VALIDATION


def test_vocabulary() -> None:
    """41 features, a label and the difficulty; 22 attacks in the training file, 17 more in the test file."""
    assert len(COLUMNS) == len(set(COLUMNS)) == 43
    assert set(COLUMNS) == {
        "protocol_type",
        "service",
        "flag",
        "attack",
        "difficulty",
        *OWN_NUMBERS,
        *HISTORY,
    }
    assert len(FAMILY_OF) == 1 + 39
    # one of each family, as in the task's own list
    assert [FAMILY_OF[a] for a in ("normal", "smurf", "satan", "warezclient", "rootkit")] == [0, 1, 2, 3, 4]
    assert len(SITE_OF) == sum(len(names.split()) for names in SITES.values()), "no service at two sites"


def _row(service: str, sent: int, count: int, attack: str) -> str:
    cells = dict.fromkeys(COLUMNS, "0") | {"protocol_type": "tcp", "flag": "SF", "difficulty": "21"}
    cells |= {"service": service, "src_bytes": str(sent), "count": str(count), "attack": attack}
    return ",".join(cells[name] for name in COLUMNS)


def test_connections_alike_stand_in_one_split_whatever_went_before(tmp_path: Path) -> None:
    attacks = ("normal", "neptune")
    rows = [_row("http", 10 * kind, count, attacks[kind % 2]) for kind in range(40) for count in range(12)]
    (tmp_path / "KDDTrain+.txt").write_text("\n".join([*rows, rows[0]]) + "\n")
    table = nsl_kdd().load(tmp_path, 0)
    assert table.counts["rows_read"] == 481
    assert table.counts["duplicates_removed"] == 1
    assert table.counts["groups_alike"] == 40
    kind = np.arange(480) // 12
    assert all(len(set(table.split[kind == one])) == 1 for one in range(40))
    assert (table.split != nsl_kdd().load(tmp_path, 1).split).any(), "the seed deals the groups"
    share = [float((table.split == code).mean()) for code in (TRAIN, VALIDATION, TEST)]
    np.testing.assert_allclose(share, [0.55, 0.15, 0.30], atol=0.051)  # a group is a fortieth
    names = table.schema.features["traffic"]
    # 1 + bytes as a power of two, rounded down: 0 of 1, 3 of 11
    assert table.x["traffic"][[0, 12], 0, names.index("src_bytes_log2")].tolist() == [0.0, 3.0]


def test_groups_of_any_size_come_as_near_to_the_shares_as_they_allow(tmp_path: Path) -> None:
    """By hand: floods of 60, 30, 15 and 5 connections, a lone sweep of 20, and 100 pages, each by itself."""
    floods = enumerate((60, 15, 30, 5))
    rows = [_row("http", sent, count, "neptune") for sent, size in floods for count in range(size)]
    rows += [_row("http", 50, count, "ipsweep") for count in range(20)]
    rows += [_row("http", 100 + page, 0, "normal") for page in range(100)]
    (tmp_path / "KDDTrain+.txt").write_text("\n".join(rows) + "\n")
    for seed in range(4):
        table = nsl_kdd().load(tmp_path, seed)
        held = {kind: np.bincount(table.split[table.y == kind], minlength=3).tolist() for kind in (0, 1, 2)}
        # of 110 in floods 60.5, 16.5 and 33 are owed, so that the last 5 are least too many in test
        assert held == {0: [55, 15, 30], 1: [60, 15, 35], 2: [20, 0, 0]}


def test_a_group_of_two_families_counts_for_both(tmp_path: Path) -> None:
    """Training lacks floods most, but has had its sweeps: what is both goes where it serves more."""
    rows = [_row("http", 1, count, "ipsweep") for count in range(100)]
    rows += [_row("http", 2, count, "neptune") for count in range(90)]
    rows += [_row("http", 3, count, "ipsweep" if count < 40 else "neptune") for count in range(60)]
    rows += [_row("http", 4, count, "neptune") for count in range(50)]
    (tmp_path / "KDDTrain+.txt").write_text("\n".join(rows) + "\n")
    table = nsl_kdd().load(tmp_path, 0)
    split = [int(table.split[place]) for place in (0, 100, 190, 250)]
    # floods: 88, 24 and 48 owed of 160; sweeps: 77, 21 and 42 of 140
    assert split == [TRAIN, TRAIN, TEST, TEST]


def test_the_published_file(data_folder: Callable[[str], Path]) -> None:
    folder = data_folder("nsl-kdd")
    made = nsl_kdd()
    table = made.load(folder, 0)
    # as published for the 20 % file: 13449 normal, 9234 DoS, 2289 probe, 209 R2L, 11 U2R
    assert np.bincount(table.y).tolist() == [13449, 9234, 2289, 209, 11]
    assert table.site_names == tuple(SITES)
    shares = np.array(
        [
            np.bincount(table.split[table.y == kind], minlength=3) / (table.y == kind).sum()
            for kind in range(5)
        ]
    )
    np.testing.assert_allclose(shares[[0, 1, 3]], [[0.55, 0.15, 0.30]] * 3, atol=0.02)
    assert shares[4].tolist() == [6 / 11, 2 / 11, 3 / 11]
    np.testing.assert_allclose(shares[2], [0.66, 0.10, 0.24], atol=0.02)  # 700 of 827 at one site are alike
    table, removed = remove_duplicates(assign_splits(table))
    for site in range(len(SITES)):
        for code in (TRAIN, VALIDATION, TEST):
            of = (table.site == site) & (table.split == code)
            assert ((table.y == 0) & of).any(), f"{site} {code}"
            assert ((table.y > 0) & of).any(), f"{site} {code}"
    assert removed < 1000  # alike but for the service and for sizes within a power of two
    for site in range(len(SITES)):
        held = table.y[(table.site == site) & (table.split == TRAIN)]
        assert (held == 0).any(), f"{SITES} {site}"
        assert (held > 0).any(), f"{SITES} {site}"
    assert made.raw is not None
    found = suspected_leaks(made.raw(folder), dropped=made.leaks)
    dropped = [f.columns for f in found if f.dropped is not None]
    assert any("difficulty" in columns for columns in dropped)
    assert ("src_bytes",) in dropped
    assert all(len(f.columns) > 1 for f in found if f.dropped is None), "no kept column alone"
