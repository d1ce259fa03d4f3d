"""The embedded simulator: a consortium of hospitals whose devices and records come under attack.

What it models, its limits, and what simple detectors reach on it: `docs/consortium.md`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lazaretto.data._consortium_campaigns import CAMPAIGNS, Campaigns, campaigns
from lazaretto.data._consortium_events import DRIVES, benign, limited
from lazaretto.data._consortium_features import ORIGINS, RATE_FEATURE, RECORD, TRAFFIC, record, traffic
from lazaretto.data._consortium_hospitals import (
    KINDS,
    STEP_SECONDS,
    Bedsides,
    Floats,
    Hospital,
    World,
    bedsides,
    hospital,
)
from lazaretto.data._consortium_patients import CHANNELS, care, vitals
from lazaretto.errors import PlanError
from lazaretto.keys import generator
from lazaretto.types import NORMAL, UNASSIGNED, RawRows, Schema, Source, Table

__all__ = ["consortium"]

_LEAKS = {
    "unit": "names the bedside; a unit under attack would be learnt by heart",
    "site": "names the hospital; families are not equally common everywhere",
    "ward": "names the ward; ransomware spreads through wards",
    "time_seconds": "clock of the row; attacks of one ward come one after another",
    "step_in_stream": "says nothing by design, as campaigns begin and end anywhere",
}
_INTENSITY_EDGES = (4.0, 6.0, 10.0, 16.0)  # of 2.8 to 25, drawn evenly on a logarithmic scale
_NOTES = (
    "consortium is simulated: its figures compare detectors, they do not forecast a hospital's",
    "campaigns begin and end anywhere, also outside the stream, so that the number of a step tells nothing",
)


def consortium(  # noqa: PLR0913  one for each thing that may be set
    sites: int = 12,
    units_per_site: int = 100,
    windows: int = 6,
    window_steps: int = 16,
    attacked: float = 0.6,
    difficulty: float = 1.0,
    confounders: float = 1.0,
    missing: float = 1.0,
    elsewhere: float = 0.0,
) -> Source:
    """Simulated hospitals: devices, patients, records, and attack campaigns that unfold over time.

    sites: 1 to 100,000 hospitals.  units_per_site: 2 to 10,000 bedsides on average (sites differ in size).
    windows, window_steps: a stream is windows x window_steps steps of five minutes (12 to 100,000 steps).
    attacked: share of units that carry one campaign, 0 to 1.
    difficulty: campaigns are weaker by this factor, 0.1 to 10.
    confounders: size of the benign events that look like attacks, 0 to 5.
    missing: factor on how often a modality is missing, 0 to 5.
    elsewhere: share of campaigns of insider_browsing and record_tampering, 0 to 1, whose attacker sits at
    another station or in the record system: in the traffic of the bedside stands nothing of them but what the
    record itself sends there. Labels and records are as with 0.

    Modalities: "traffic" [n, T, 30] and "record" [n, T, 32]. A site's part depends on (seed, site) and
    the options only; the same arguments give the same bytes on one machine. Raises PlanError for an option
    out of bounds.
    """
    world = World(
        sites=_whole("sites", sites, 1, 100_000),
        units_per_site=_whole("units_per_site", units_per_site, 2, 10_000),
        windows=_whole("windows", windows, 1, 100_000),
        window_steps=_whole("window_steps", window_steps, 1, 10_000),
        attacked=_real("attacked", attacked, 0.0, 1.0),
        difficulty=_real("difficulty", difficulty, 0.1, 10.0),
        confounders=_real("confounders", confounders, 0.0, 5.0),
        missing=_real("missing", missing, 0.0, 5.0),
        elsewhere=_real("elsewhere", elsewhere, 0.0, 1.0),
    )
    if not 12 <= world.steps <= 100_000:
        raise PlanError(
            "consortium: a stream needs 12 to 100000 steps",
            found=f"windows {windows} x window_steps {window_steps} = {world.steps}",
            way_out="raise or lower data.options.windows or window_steps",
        )
    small = World(
        sites=2,
        units_per_site=12,
        windows=3,
        window_steps=8,
        attacked=0.6,
        difficulty=1.0,
        confounders=1.0,
        missing=1.0,
    )
    return Source(
        name="consortium",
        load=lambda path, seed: _load(world, path, seed),
        sample=lambda: _load(small, None, 0),
        raw=lambda path: _raw(world, path),
        leaks=_LEAKS,
        needs_path=False,
    )


def _whole(name: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise PlanError(
            f"consortium: '{name}' must be a whole number from {low} to {high}",
            found=value,
            way_out=f"set data.options.{name} to {low} .. {high}",
        )
    return value


def _real(name: str, value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise PlanError(
            f"consortium: '{name}' must be a number from {low:g} to {high:g}",
            found=value,
            way_out=f"set data.options.{name} to {low:g} .. {high:g}",
        )
    return float(value)


# plans of one setting are run with the same --data, also those of the simulator
UNREAD = "A path was given, and nothing in it was read: all of this is simulated."


def _schema() -> Schema:
    return Schema(
        features={"traffic": TRAFFIC, "record": RECORD},
        classes=(NORMAL, *CAMPAIGNS),
        step="5 minutes",
        step_seconds=STEP_SECONDS,
        rate_feature=RATE_FEATURE,
        intensity="factor on what the campaign pushes",
        intensity_edges=_INTENSITY_EDGES,
        origins=ORIGINS,
    )


def _site(
    world: World, seed: int, index: int
) -> tuple[Hospital, Bedsides, Campaigns, Floats, Floats, np.ndarray[Any, np.dtype[np.bool_]]]:
    """One site, alone: hospital, bedsides, campaigns, and three arrays.

    traffic [U, L, F], record [U, L, F'], present [U, windows, 2].
    """
    site = hospital(world, seed, index, len(CAMPAIGNS))
    rng = generator(seed, "consortium", "site", index)
    beds = bedsides(site, rng, len(CHANNELS))
    attacks = campaigns(world, site, beds, generator(seed, "consortium", "campaigns", index))
    pushed = benign(world, site, beds, generator(seed, "consortium", "events", index)) + attacks.drives
    drives = dict(zip(DRIVES, limited(pushed), strict=True))
    state = vitals(world, site, beds, drives, generator(seed, "consortium", "patients", index))
    work = care(site, beds, state, drives, generator(seed, "consortium", "care", index))
    seen = traffic(site, beds, drives, state, work, generator(seed, "consortium", "traffic", index))
    return site, beds, attacks, seen, record(work), _present(world, site, rng)


def _present(world: World, site: Hospital, rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """[U, windows, 2]: some beds have no linked record, some taps and interfaces are down for a window."""
    units = site.units
    unlinked = rng.random((units, 1)) < world.missing * rng.uniform(0.0, 0.2)
    down = rng.random((2, units, world.windows)) < world.missing * np.array([0.01, 0.02])[:, None, None]
    has_record = ~(unlinked | down[1])
    has_traffic = ~(down[0] & has_record)  # never both: such a bed would not be monitored at all
    return np.stack([has_traffic, has_record], axis=2)


def _load(world: World, path: Any, seed: int) -> Table:
    parts = [_site(world, seed, index) for index in range(world.sites)]
    sizes = [part[0].units for part in parts]
    units, windows, width = sum(sizes), world.windows, world.window_steps
    present = np.concatenate([part[5] for part in parts]).reshape(units * windows, 2)
    x = {}
    for column, (name, values) in enumerate(
        (("traffic", [p[3] for p in parts]), ("record", [p[4] for p in parts]))
    ):
        whole = np.concatenate(values).astype(np.float32).reshape(units * windows, width, -1)
        whole[~present[:, column]] = 0.0
        x[name] = whole
    y_step = np.concatenate([part[2].label for part in parts]).reshape(units * windows, width)
    intensity = np.concatenate([part[2].intensity for part in parts]).repeat(windows)[:, None]
    unit = np.repeat(np.arange(units), windows)
    site = np.repeat(np.arange(world.sites), sizes)
    clock = np.array([part[0].start_seconds for part in parts])[site]
    skew = np.array([part[0].skew_steps for part in parts])[site] * STEP_SECONDS
    start = (clock + skew)[:, None] + np.arange(windows)[None, :] * width * STEP_SECONDS
    return Table(
        x=x,
        present=present,
        y=y_step.max(axis=1),
        y_step=y_step,
        valid=np.ones(y_step.shape, dtype=bool),
        unit=unit.astype(np.int64),
        unit_names=tuple(
            f"site{s:03d}/{KINDS[k]}{i:03d}"
            for s, part in enumerate(parts)
            for i, k in enumerate(part[1].kind.tolist())
        ),
        time=start.reshape(-1),
        site=np.repeat(site, windows).astype(np.int64),
        site_names=tuple(f"hospital_{index:03d}" for index in range(world.sites)),
        split=np.full(units * windows, UNASSIGNED, dtype=np.int64),
        schema=_schema(),
        notes=_NOTES if path is None else (UNREAD, *_NOTES),
        warnings=() if path is None else (UNREAD,),
        counts={
            "rows_read": units * world.steps,
            "units": units,
            "units_attacked": int((y_step.reshape(units, -1).max(axis=1) > 0).sum()),
            "windows_without_traffic": int((~present[:, 0]).sum()),
            "windows_without_record": int((~present[:, 1]).sum()),
            "duplicates_removed": 0,
        },
        intensity=np.where(y_step > 0, intensity, 0.0).astype(np.float32),
    )


def _raw(world: World, path: Any) -> RawRows:
    """Per-step rows of seed 0 for the leak check, with the columns that the table leaves out."""
    if path is not None:
        raise PlanError("consortium is simulated and reads no files", found=path, way_out="leave it out")
    parts = [_site(world, 0, index) for index in range(world.sites)]
    steps = world.steps
    columns: dict[str, list[np.ndarray[Any, Any]]] = {}
    label, group = [], []
    for number, (site, beds, attacks, seen, kept, _) in enumerate(parts):
        size = site.units * steps
        step = np.tile(np.arange(steps), site.units)
        here = {
            "unit": np.repeat([f"site{number:03d}/bed{i:03d}" for i in range(site.units)], steps),
            "site": np.full(size, f"hospital_{number:03d}"),
            "ward": np.repeat([f"hospital_{number:03d}/ward{w}" for w in beds.ward], steps),
            "time_seconds": site.start_seconds + step * STEP_SECONDS,
            "step_in_stream": step,
            "device_kind": np.repeat(np.array(KINDS)[beds.kind], steps),
        }
        here.update({f"traffic.{name}": seen[:, :, j].ravel() for j, name in enumerate(TRAFFIC)})
        here.update({f"record.{name}": kept[:, :, j].ravel() for j, name in enumerate(RECORD)})
        for name, values in here.items():
            columns.setdefault(name, []).append(values)
        label.append(attacks.label.ravel())
        group.append(np.repeat(sum(p[0].units for p in parts[:number]) + np.arange(site.units), steps))
    return RawRows(
        columns={name: np.concatenate(values) for name, values in columns.items()},
        label=np.concatenate(label).astype(np.int64),
        group=np.concatenate(group).astype(np.int64),
        classes=(NORMAL, *CAMPAIGNS),
    )
