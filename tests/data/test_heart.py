"""Heart: missing cells in all their spellings, who is left out, and the real four hospitals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from lazaretto.data.heart import heart
from lazaretto.data.leaks import suspected_leaks
from lazaretto.data.splits import assign_splits

FULL = "63.0,1.0,4.0,145.0,233.0,1.0,2.0,150.0,0.0,2.3,3.0,0.0,6.0,"


def test_rows_to_features(tmp_path: Path) -> None:
    """By hand: age, sex, four kinds of pain, pressure, two kinds of trace, heart rate, angina, depression."""
    rows = [FULL + "0", FULL.replace("63.0", "64.0") + "3"]
    (tmp_path / "processed.va.data").write_text("\n".join(rows) + "\n")
    table = heart().load(tmp_path, 0)
    np.testing.assert_allclose(
        table.x["record"][:, 0], [[age, 1, 0, 0, 0, 1, 145, 0, 1, 150, 0, 2.3] for age in (63, 64)], rtol=1e-6
    )
    assert table.y.tolist() == [0, 1]
    assert table.site_names == ("Long Beach",)
    assert table.unit_names == ("Long Beach, patient 1", "Long Beach, patient 2")


def test_missing_in_every_spelling_and_copies_are_left_out(tmp_path: Path) -> None:
    missing = [FULL.replace("145.0", gap) + "1" for gap in ("?", "NaN", "-9", "-9.0", "", "0")]
    harmless = [
        FULL.replace("233.0", gap).replace("63.0", f"{age}") + "1" for age, gap in ((40, "0"), (41, "?"))
    ]
    (tmp_path / "processed.va.data").write_text(
        "\n".join([*missing, FULL + "0", FULL + "0", *harmless]) + "\n"
    )
    table = heart().load(tmp_path, 0)
    assert table.counts == {"rows_read": 10, "rows_incomplete": 6, "duplicates_removed": 1}
    assert table.y.tolist() == [0, 1, 1]


def test_four_hospitals(data_folder: Callable[[str], Path]) -> None:
    folder = data_folder("uci-heart")
    table = heart().load(folder, 0)
    assert table.counts == {"rows_read": 920, "rows_incomplete": 69, "duplicates_removed": 2}
    # who is ill at Cleveland (139 of 303) and at Zurich and Basel (all but 8 of 123) as the publisher says
    ill = {name: int(table.y[table.site == place].sum()) for place, name in enumerate(table.site_names)}
    assert ill["Cleveland"] == 139
    at_zurich = table.site == table.site_names.index("Zurich and Basel")
    assert 0 < int((table.y[at_zurich] == 0).sum()) <= 8
    split = assign_splits(table)
    assert all(len(set(split.split[split.site == site])) == 3 for site in range(4))
    made = heart()
    assert made.raw is not None
    found = suspected_leaks(made.raw(folder), dropped=made.leaks)
    assert [f.columns for f in found if f.dropped is None] == []
    assert ("num",) in [f.columns for f in found]
