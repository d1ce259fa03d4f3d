"""What a private plan promises: refused where something is not covered, charged once, kept to its budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lazaretto import catalog
from lazaretto.data.appearances import check_appearances, most_appearances
from lazaretto.errors import DataError, InputError, PlanError
from lazaretto.plan import load_plan
from lazaretto.plan_keys import Plan
from lazaretto.privacy.accounting import epsilon_of
from lazaretto.privacy.budget_file import read_budget
from lazaretto.promise import appearances_of, dealing_of, deals_anew, mechanism_of
from lazaretto.run.budgeted import enter_run
from lazaretto.run.charges import charges_of, data_digest, privacy_record
from lazaretto.run.prepare import split_table
from lazaretto.types import TEST, TRAIN, VALIDATION, Table

LIMITED = ("training units", "validation units")
PRIVATE = (
    'privacy.mechanism="dp_sgd"',
    "privacy.noise_multiplier=2.0",
    "train.class_balance=0",
    "train.rounds=10",
    "evaluate.leave_one_family_out=false",
    "evaluate.baselines=[]",
)


_STEPS = 9  # of a window, odd


def plan(tmp_path: Path, *sets: str, usual: tuple[str, ...] = PRIVATE) -> Plan:
    file = tmp_path / "plan.toml"
    file.write_text("")
    return load_plan(file, sets=[*usual, *sets])


def refused(tmp_path: Path, *sets: str, usual: tuple[str, ...] = PRIVATE) -> str:
    with pytest.raises(PlanError) as error:
        plan(tmp_path, *sets, usual=usual)
    return str(error.value)


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        (["train.class_balance=0.99"], "exact counts"),
        (["federate.selection=by_loss", "federate.participation=0.5"], "by its loss"),
        (["cut.synchronise=round"], "cut.synchronise"),
        (["evaluate.leave_one_family_out=true"], "costs as much as the run"),
        (["evaluate.leave_one_site_out=2"], "costs as much as the run"),
        (["data.scaling=median"], "exact counts"),
        (["evaluate.thresholds=median"], "exact threshold"),
        (["evaluate.thresholds=own"], "exact threshold"),
        (["model.options={novelty_hidden=8}"], "pieces of other streams"),
        (["privacy.noise_multiplier=null"], "needs a budget or its noise"),
        (["privacy.budget_epsilon=3"], "no file to add runs up in"),
        (["privacy.unit=patient", "split.by=time"], "no part covers it"),
        (["privacy.unit=site"], "does not protect the unit 'site'"),
        (["privacy.mechanism=site_noise"], "does not protect the unit 'record'"),
        (["privacy.mechanism=dp_sdg"], "did you mean 'dp_sgd'"),
        (["privacy.options={steps=3}"], "follows from keys"),
        (["privacy.options={appearances=1}"], "follows from keys"),
        (["privacy.options={rate=0.01}"], "follows from keys"),
        (["sites.by=dirichlet", "sites.count=4"], "one record can move"),
        (["sites.withhold_families=1"], "one record can move"),
        (["split.by=time", "split.moments=[1.0, 2.0]", "sites.by=unit", "sites.count=4"], "by counting"),
        (["data.source=physionet2012", "data.path=somewhere", "data.modality=record"], "'swap'"),
        (["data.source=meds", "data.path=somewhere", "data.modality=record"], "'swap'"),
        (["data.source=paired", "data.path=somewhere"], "drawn among all"),
        (["privacy.options={clipping=1}"], "privacy.options.clipping: mechanism 'dp_sgd' has no such option"),
    ],
)
def test_what_the_mechanism_does_not_cover_is_refused(tmp_path: Path, sets: list[str], says: str) -> None:
    assert says in refused(tmp_path, *sets)


def test_planted_fault_infonce_under_record_level_privacy(tmp_path: Path) -> None:
    contrast = (
        "data.modality=combined",
        "run.setting=combined",
        "model.name=fusion",
        "train.alignment_cut=0.1",
    )
    assert "InfoNCE" in refused(tmp_path, *contrast)
    whole = plan(tmp_path, *contrast, "privacy.unit=patient")
    assert whole.train.alignment_cut == 0.1


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        (['aggregate.rule="nnm | multi_krum"'], "whom a rule selects"),
        (["reputation.enabled=true"], "what the others send"),
        (["secure.protocol=sharing"], "see the sum without"),
        (["federate.participation=0.5", "federate.selection=uniform"], "every site may take part"),
        (["compress.scheme=top_k"], "the clip is on an update"),
    ],
)
def test_noise_for_a_whole_site_needs_weights_of_each_row_alone(
    tmp_path: Path, sets: list[str], says: str
) -> None:
    site = ("privacy.unit=site", "privacy.mechanism=site_noise")
    assert mechanism_of(plan(tmp_path, *site)) is not None
    assert says in refused(tmp_path, *site, *sets)


def test_settings_without_a_mechanism_have_no_meaning(tmp_path: Path) -> None:
    assert "no meaning" in refused(tmp_path, "privacy.clip=2.0", usual=())


def test_rounds_beyond_the_budget_are_refused_and_those_that_fit_are_named(tmp_path: Path) -> None:
    once = ("privacy.epsilon=2.0", "run.seeds=[0]")
    text = refused(tmp_path, *once, "train.rounds=100000")
    fit = int(text.partition(" rounds would fit")[0].rsplit(" ", 1)[1])
    assert fit > 0
    plan(tmp_path, *once, f"train.rounds={fit}")
    assert "would fit" in refused(tmp_path, *once, f"train.rounds={fit + 1}")


def test_a_budget_alone_finds_its_noise_and_spends_no_more(tmp_path: Path) -> None:
    asked = plan(
        tmp_path, "privacy.noise_multiplier=null", "privacy.epsilon=3", "privacy.epsilon_of=repetition"
    )
    made = mechanism_of(asked)
    assert made is not None
    found = privacy_record(asked, made)
    assert 2.95 < found["epsilon"] <= 3.0
    assert found["training_epsilon"] < found["epsilon"] < found["repeated_epsilon"]
    more = replace(made, noise_multiplier=1.0)  # the record tells what was used
    assert privacy_record(asked, more)["noise_multiplier"] == 1.0


def test_planted_fault_a_record_in_two_segments_counted_once(tmp_path: Path) -> None:
    asked = plan(tmp_path)
    once, twice = mechanism_of(asked), mechanism_of(asked, appearances=2)
    assert once is not None
    assert twice is not None
    costs = [epsilon_of(made.event(100), 1e-5) for made in (once, twice)]
    assert costs[1] > 1.5 * costs[0], "twice in a pass costs more, and the price says so"


@pytest.mark.parametrize("stride", range(2, 12))
def test_overlap_of_windows_is_found_in_what_they_hold(stride: int) -> None:
    """Oracle: a step stands in as many windows as begin in T steps; more than one apart shares nothing."""
    assert most_appearances(_table(stride)) == -(-_STEPS // stride)


def test_planted_fault_windows_that_share_a_single_step() -> None:
    """At a stride of T - 1 one step in each window stands twice, at (T - 1) / 2 one stands three times."""
    assert most_appearances(_table(_STEPS - 1)) == 2
    assert most_appearances(_table((_STEPS - 1) // 2)) == 3
    with pytest.raises(DataError, match=r"2 windows share a step, and 1 is the most[^$]*appearances = 2"):
        check_appearances(_table(_STEPS - 1), 1)
    check_appearances(_table(_STEPS - 1), 2)
    check_appearances(_table(_STEPS), 1)


def test_overlap_is_looked_for_in_validation_too_and_not_in_test_units() -> None:
    made = _table(5)
    for split, most in ((VALIDATION, 2), (TEST, 1)):
        assert most_appearances(replace(made, split=np.full(len(made.unit), split))) == most


@pytest.mark.parametrize("held", [2, 3, 10_000], ids=["two steps", "three steps", "for ever"])
def test_devices_that_hold_their_values_are_no_overlap(held: int) -> None:
    """Windows of 15 steps, in turn, of devices that tell something new every so many steps, or never."""
    rng = np.random.default_rng(held)
    streams = rng.normal(size=(40, 300 // held + 2, 2)).repeat(held, axis=1)[:, 1 : 1 + 8 * 15]
    x = streams.astype(np.float32).reshape(40 * 8, 15, 2)
    made = _table(_STEPS)
    n = len(x)
    table = replace(
        made,
        x={"traffic": x},
        present=np.ones((n, 1), np.bool_),
        unit=np.repeat(np.arange(40), 8),
        time=np.tile(np.arange(8.0), 40),
        split=np.full(n, TRAIN),
        valid=np.ones((n, 15), np.bool_),
    )
    assert most_appearances(table) == 1


def test_the_promise_comes_of_the_plan_and_its_source_alone(tmp_path: Path) -> None:
    assert appearances_of(plan(tmp_path)) == 1
    assert appearances_of(plan(tmp_path, "privacy.appearances=3")) == 3
    copies = (
        "data.source=physionet2012",
        "data.path=somewhere",
        "data.modality=record",
        "run.setting=record",
        "data.options={training_copies=4, kinds=['offset', 'drift']}",
        "privacy.unit=patient",
    )
    assert appearances_of(plan(tmp_path, *copies)) == 4, "each stay is there so often, forged anew"
    assert "shows one unit more often" in refused(tmp_path, *copies, "privacy.appearances=3")
    assert "no meaning" in refused(tmp_path, "privacy.appearances=3", usual=())
    none = plan(tmp_path, "privacy.unit=site", "privacy.mechanism=site_noise")
    assert appearances_of(none) == 1


def test_what_is_promised_is_priced_in_every_part(tmp_path: Path) -> None:
    each = {}
    for times in (1, 2):
        asked = plan(tmp_path, f"privacy.appearances={times}")
        made = mechanism_of(asked)
        assert made is not None
        each[times] = privacy_record(asked, made, appearances_of(asked))["by_part"]
    for part in ("training units", "validation units"):
        assert each[2][part] > 1.5 * each[1][part]


def test_planted_fault_a_source_whose_windows_overlap_is_refused(
    tmp_path: Path,
) -> None:
    """It says 1, as sources do that know nothing of it, and its table shows every step twice."""
    made = _table(5)
    with pytest.raises(DataError, match="more windows than"):
        split_table(plan(tmp_path), _parted(made), 0)
    assert len(split_table(plan(tmp_path, "privacy.appearances=2"), _parted(made), 0).unit) == len(made.unit)


def _parted(made: Table) -> Table:
    """Units in turn in each of the three parts, with a normal and an attacked step."""
    y_step = np.zeros(made.valid.shape, np.int64)
    y_step[:, -1] = 1
    return replace(made, split=np.array([TRAIN, VALIDATION, TEST])[made.unit % 3], y_step=y_step)


def _table(stride: int) -> Table:
    """A source's sample cut anew: windows of its units' streams that begin every `stride` steps."""
    made: Table = catalog.build("sources", "consortium").sample()
    steps = _STEPS
    starts, found = list[int](), list[Any]()
    x = made.x["traffic"]
    for unit in np.unique(made.unit):
        own = np.flatnonzero(made.unit == unit)
        own = own[np.argsort(made.time[own])]
        stream = x[own].reshape(-1, x.shape[-1])
        begins = range(0, len(stream) - steps + 1, stride)
        found += [(unit, begin, stream[begin : begin + steps]) for begin in begins]
        starts += begins
    n = len(found)
    return replace(
        made,
        x={"traffic": np.stack([one[2] for one in found])},
        present=np.ones((n, 1), np.bool_),
        unit=np.array([one[0] for one in found]),
        time=np.array([one[1] for one in found], float),
        split=np.full(n, TRAIN),
        valid=np.ones((n, steps), np.bool_),
        schema=replace(made.schema, features={"traffic": made.schema.features["traffic"]}),
    )


def test_every_part_is_charged_and_exact_figures_of_test_units_protect_nobody(tmp_path: Path) -> None:
    asked = plan(tmp_path)
    made = mechanism_of(asked)
    assert made is not None
    found = privacy_record(asked, made)
    assert {(one["what"], one["part"]) for one in found["charges"]} == {
        ("training", "training units"),
        ("scaling", "training units"),
        ("thresholds", "validation units"),
        ("metrics", "test units"),
    }
    assert found["by_part"]["test units"] is None
    assert 0 < found["by_part"]["validation units"] < 2


def test_noise_for_sites_says_that_their_counts_are_exact(tmp_path: Path) -> None:
    asked = plan(tmp_path, "privacy.unit=site", "privacy.mechanism=site_noise")
    made = mechanism_of(asked)
    assert made is not None
    found = privacy_record(asked, made)
    assert found["epsilon"] is None
    assert found["training_epsilon"] > 0


def test_runs_on_one_data_set_add_up_until_the_limit(tmp_path: Path) -> None:
    budget = f'privacy.budget="{tmp_path / "budget.json"}"'
    asked = plan(tmp_path, budget, "privacy.budget_epsilon=6", "run.seeds=[0]")
    made = mechanism_of(asked)
    assert made is not None
    costs = list[float]()

    def enter() -> None:
        entry = enter_run(asked, made)
        assert entry is not None
        costs.append(entry.all_runs_epsilon or 0.0)

    enter()
    enter()
    with pytest.raises(PlanError, match="would cost training units more than epsilon 6"):
        [enter() for _ in range(100)]
    assert costs == sorted(costs)
    assert costs[-1] <= 6
    held = read_budget((tmp_path / "budget.json").read_bytes())
    assert len(held[data_digest(asked)].runs) == len(costs), "what was refused is not entered"
    several = asked.model_copy(update={"run": asked.run.model_copy(update={"seeds": (0, 1)})})
    other = several.model_copy(update={"data": several.data.model_copy(update={"options": {"sites": 3}})})
    enter_run(other, made)
    held = read_budget((tmp_path / "budget.json").read_bytes())
    assert len(held[data_digest(other)].runs) == 2, "each repetition is a run"
    assert len({one.id for one in held[data_digest(other)].runs}) == 1, "and all go on together"


def test_runs_that_deal_alike_say_so_and_others_pay_for_both_parts(tmp_path: Path) -> None:
    seeds = ("run.seeds=[0, 1]",)
    asked = plan(tmp_path, *seeds)
    assert not deals_anew(asked)
    assert dealing_of(asked, 0) == dealing_of(asked, 1)
    for other in ("split.key=second", "split.test=0.2", "data.options={sites=5}"):
        assert dealing_of(plan(tmp_path, *seeds, other), 0) != dealing_of(asked, 0), other
    anew = plan(tmp_path, *seeds, "data.source=x_iomt", "data.path=somewhere")
    assert deals_anew(anew)
    assert dealing_of(anew, 0) != dealing_of(anew, 1)
    made = mechanism_of(asked)
    assert made is not None
    apart, together = (privacy_record(one, made)["repeated_epsilon"] for one in (asked, anew))
    assert together > 1.05 * apart
    once = anew.model_copy(update={"run": anew.run.model_copy(update={"seeds": (0,)})})
    found = privacy_record(once, made)
    assert found["repeated_epsilon"] == found["epsilon"], "in one repetition no unit is in two parts"


def test_a_budget_file_without_a_limit_for_the_data_is_refused(tmp_path: Path) -> None:
    asked = plan(tmp_path, f'privacy.budget="{tmp_path / "none.json"}"')
    made = mechanism_of(asked)
    assert made is not None
    with pytest.raises(InputError, match="sets no limit"):
        enter_run(asked, made)
    (tmp_path / "none.json").write_text("{")
    with pytest.raises((InputError, PlanError)):
        enter_run(asked, made)


def test_a_data_set_is_known_by_what_its_files_hold(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.csv").write_text("1,2\n")
    base = plan(tmp_path)

    def digest(path: Path, **options: Any) -> str:
        data = base.data.model_copy(update={"path": str(path), "options": options})
        return data_digest(base.model_copy(update={"data": data}))

    assert digest(tmp_path / "a") == digest(tmp_path / "b") == digest(tmp_path / "b", streams=3)
    (tmp_path / "b" / "b.csv").write_text("1,3\n")
    assert digest(tmp_path / "a") != digest(tmp_path / "b")


def test_charges_name_where_the_noise_came_from(tmp_path: Path) -> None:
    for source, words in (("seed", "simulation's seed"), ("system", "operating system")):
        asked = plan(tmp_path, f"privacy.noise={source}")
        made = mechanism_of(asked)
        assert made is not None
        assert words in charges_of(asked, made)[0].words


def test_one_round_is_no_plural(tmp_path: Path) -> None:
    for rounds, words in ((1, "1 round of "), (2, "2 rounds of ")):
        asked = plan(tmp_path, f"train.rounds={rounds}")
        made = mechanism_of(asked)
        assert made is not None
        assert charges_of(asked, made)[0].words.startswith(words)


def _spent(asked: Plan, appearances: int = 1) -> dict[str, Any]:
    made = mechanism_of(asked, appearances)
    assert made is not None
    return privacy_record(asked, made, appearances)


@pytest.mark.parametrize("options", ['privacy.mechanism="dp_sgd"', 'privacy.mechanism="dp_ftrl"'])
def test_epsilon_limits_all_repetitions_together(tmp_path: Path, options: str) -> None:
    usual = (options, "privacy.noise_multiplier=null", "privacy.epsilon=4", "run.seeds=[0, 1, 2]")
    found = _spent(plan(tmp_path, *usual))
    assert 3.9 < found["repeated_epsilon"] <= 4.0
    assert found["run_epsilon"] == max(found["run_by_part"][part] for part in LIMITED) <= 4.0
    assert found["epsilon"] < 3.0
    each = _spent(plan(tmp_path, *usual, 'privacy.epsilon_of="repetition"'))
    assert 3.9 < each["epsilon"] <= 4.0 < each["run_epsilon"]
    assert found["noise_multiplier"] > 1.3 * each["noise_multiplier"]


def test_rounds_that_fit_are_those_of_every_repetition(tmp_path: Path) -> None:
    both = ("privacy.epsilon=4", "run.seeds=[0, 1]")
    text = refused(tmp_path, *both, "train.rounds=1000")
    fit = int(text.partition(" rounds would fit")[0].rsplit(" ", 1)[1])
    assert "2 times over (run.seeds)" in text
    found = _spent(plan(tmp_path, *both, f"train.rounds={fit}"))
    assert found["run_epsilon"] <= 4.0
    assert "would fit" in refused(tmp_path, *both, f"train.rounds={fit + 1}")


def test_an_epsilon_below_what_all_counts_cost_is_refused_once_with_all_that_keeps_to_it(
    tmp_path: Path,
) -> None:
    sets = ("privacy.noise_multiplier=null", "privacy.epsilon=0.05", "run.seeds=[0]")
    text = refused(tmp_path, *sets)
    assert "run.seeds" not in text, "there is but one"
    keys = ("privacy.threshold_noise", "privacy.counts_noise")
    said = [f"{key}={text.partition(f'{key} = ')[2].split()[0]}" for key in keys]
    assert _spent(plan(tmp_path, *sets, *said))["run_epsilon"] <= 0.05


def test_too_many_rounds_are_refused_with_the_noise_that_they_take(tmp_path: Path) -> None:
    sets = ("privacy.epsilon=2", "privacy.noise_multiplier=0.3", "train.rounds=40", "run.seeds=[0]")
    text = refused(tmp_path, *sets)
    assert "not one of the rounds would fit" in text
    noise = text.partition("privacy.noise_multiplier = ")[2].partition(",")[0]
    assert _spent(plan(tmp_path, *sets, f"privacy.noise_multiplier={noise}"))["run_epsilon"] <= 2


@pytest.mark.parametrize("seeds", [1, 4])
def test_thresholds_that_cost_validation_units_more_are_refused_with_the_noise_that_keeps_to_it(
    tmp_path: Path, seeds: int
) -> None:
    sets = ("privacy.noise_multiplier=null", "privacy.epsilon=1", f"run.seeds={list(range(seeds))}")
    text = refused(tmp_path, *sets)
    assert "one validation record more than privacy.epsilon" in text
    noise = float(text.partition("privacy.threshold_noise = ")[2].split()[0])
    assert _spent(plan(tmp_path, *sets, f"privacy.threshold_noise={noise}"))["run_epsilon"] <= 1.0
    less = f"privacy.threshold_noise={noise - 0.11:.2f}"
    assert "threshold_noise" in refused(tmp_path, *sets, less), "it is the least, but for its last digit"
    enough = plan(tmp_path, *sets, f"privacy.threshold_noise={noise}", "privacy.counts_noise=40")
    with pytest.raises(PlanError, match="validation record more"):
        mechanism_of(enough, appearances=2)
