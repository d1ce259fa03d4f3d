"""The budget file: runs at once are all charged, a copied run again, and a name makes copies one data set."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lazaretto import runlog
from lazaretto.cli import main
from lazaretto.errors import DataError, InputError, Interrupted, PlanError
from lazaretto.plan import Plan, load_plan
from lazaretto.privacy.budget import Account, Run, compose, known_as, renewed
from lazaretto.privacy.budget_file import read_budget, written
from lazaretto.promise import mechanism_of
from lazaretto.run import agreed, private, systems
from lazaretto.run.budgeted import _locked, conclude_run, enter_run, go_on, keep_apart, promise_run
from lazaretto.run.charges import data_digest
from lazaretto.run.experiment import run_plan
from lazaretto.run.journal import Journal, open_journal, quiet
from lazaretto.run.provenance import run_record

PLAN = """
[run]
seeds = [2]
[data.options]
sites = 3
units_per_site = 12
windows = 2
[model]
name = "mlp"
[cut]
enabled = false
[train]
rounds = 3
class_balance = 0
[privacy]
mechanism = "dp_sgd"
noise_multiplier = 3.0
sample_rate = 0.5
budget_epsilon = 20
[evaluate]
baselines = []
leave_one_family_out = false
bootstrap = 100
"""


def _plan(folder: Path, *sets: str, book: Path | None = None) -> Plan:
    (folder / "plan.toml").write_text(PLAN)
    place = folder / "budget.json" if book is None else book
    return load_plan(folder / "plan.toml", sets=[f'privacy.budget="{place}"', *sets])


def _runs(book: Path) -> list[Run]:
    return [run for account in read_budget(book.read_bytes()).values() for run in account.runs]


def _mechanism(plan: Plan) -> Any:
    made = mechanism_of(plan)
    assert made is not None
    return made


def _begun(plan: Plan, folder: Path) -> Journal:
    """A run that was charged, and nothing more."""
    journal = open_journal(folder, plan, False, quiet)
    promise_run(plan, _mechanism(plan), 1, journal)
    return journal


def _again(plan: Plan, folder: Path) -> Journal:
    """The same, gone on with."""
    journal = open_journal(folder, plan, True, quiet)
    promise_run(plan, _mechanism(plan), 1, journal)
    return journal


ENTER = """
import sys, time
from pathlib import Path
from lazaretto.plan import load_plan
from lazaretto.promise import mechanism_of
from lazaretto.run.budgeted import enter_run

folder, me, many = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
plan = load_plan(folder / "plan.toml", sets=sys.argv[4:])
mechanism = mechanism_of(plan)
(folder / me).touch()
until = time.monotonic() + 100
while len(list(folder.glob("ready-*"))) < 2 and time.monotonic() < until:  # both begin at once
    time.sleep(0.01)
for _ in range(many):
    enter_run(plan, mechanism)
"""


def test_of_runs_that_begin_at_once_none_is_lost(tmp_path: Path) -> None:
    book, many = tmp_path / "budget.json", 4
    (tmp_path / "plan.toml").write_text(PLAN)
    sets = [f'privacy.budget="{book}"', "privacy.budget_epsilon=90"]
    both = [
        subprocess.Popen([sys.executable, "-c", ENTER, str(tmp_path), f"ready-{me}", str(many), *sets])
        for me in range(2)
    ]
    try:
        assert [one.wait(200) for one in both] == [0, 0]
    finally:
        for one in both:
            one.kill()
            one.wait()
    assert len(_runs(book)) == 2 * many


def test_a_run_that_is_refused_has_counted_nothing(tmp_path: Path) -> None:
    """Noisy counts for scaling are a release, too: none is drawn before the budget was asked."""
    plan = _plan(tmp_path, "privacy.budget_epsilon=0.01")
    with pytest.raises(PlanError, match="would cost"):
        run_plan(plan, tmp_path / "out")
    assert not list(tmp_path.rglob("*.safetensors"))
    assert not (tmp_path / "budget.json").exists()


def test_who_waits_too_long_is_told_and_charged_nothing(tmp_path: Path) -> None:
    plan = _plan(tmp_path)
    with _locked(plan, 1.0), pytest.raises(InputError, match="in use by another run"):
        enter_run(plan, _mechanism(plan), wait_seconds=0.1)
    assert not (tmp_path / "budget.json").exists()
    assert enter_run(plan, _mechanism(plan), wait_seconds=0.1) is not None, "the lock went with its holder"


def test_a_link_to_the_file_is_the_file(tmp_path: Path) -> None:
    plan, book = _plan(tmp_path), tmp_path / "budget.json"
    enter_run(plan, _mechanism(plan))
    (tmp_path / "link.json").symlink_to(book)
    other = plan.privacy.model_copy(update={"budget": str(tmp_path / "link.json")})
    enter_run(plan.model_copy(update={"privacy": other}), _mechanism(plan))
    assert (tmp_path / "link.json").is_symlink()
    assert len(_runs(book)) == 2


def _with_files(folder: Path, text: str = "1,2\n") -> str:
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "a.csv").write_text(text)
    return f'data.path="{folder / "data"}"'


def test_what_would_change_the_digest_is_refused(tmp_path: Path) -> None:
    files, inside = _with_files(tmp_path), tmp_path / "data" / "more" / "budget.json"
    with pytest.raises(PlanError, match="lies with the data"):
        _plan(tmp_path, files, book=inside)
    (tmp_path / "link").symlink_to(tmp_path / "data")
    with pytest.raises(PlanError, match="lies with the data"):
        _plan(tmp_path, files, book=tmp_path / "link" / "budget.json")
    assert _plan(tmp_path, files, 'privacy.budget_data="ward 7"', book=inside).privacy.budget_data == "ward 7"
    with pytest.raises(InputError, match="the run's folder lies with the data"):
        run_plan(_plan(tmp_path, files), tmp_path / "data" / "out")
    assert not (tmp_path / "data" / "out").exists()


def test_what_is_trained_beside_ours_has_no_place_in_a_budget(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="no price in a budget file"):
        _plan(tmp_path, 'evaluate.baselines=["local"]')
    with pytest.raises(PlanError, match="no file to add runs up in"):
        _plan(tmp_path, "privacy.budget=null", "privacy.budget_epsilon=null", "privacy.budget_data=x")


def test_a_name_makes_one_data_set_of_copies_that_differ(tmp_path: Path) -> None:
    book, ward = tmp_path / "budget.json", 'privacy.budget_data="ward 7, 2025"'
    plan = _plan(tmp_path, _with_files(tmp_path))
    enter_run(plan, _mechanism(plan))
    by_name = _plan(tmp_path, _with_files(tmp_path), ward)
    enter_run(by_name, _mechanism(plan))  # the account of these bytes goes on under the name
    account_digests = {data_digest(by_name)}
    one_byte = _plan(tmp_path, _with_files(tmp_path, "1,3\n"), ward)
    account_digests.add(data_digest(one_byte))
    assert len(account_digests) == 2
    enter_run(one_byte, _mechanism(plan))
    (account,) = read_budget(book.read_bytes()).values()
    assert (account.name, len(account.runs), len(account.digests)) == ("ward 7, 2025", 3, 2)
    for sets in ((), ('privacy.budget_data="another name"',)):
        other = _plan(tmp_path, _with_files(tmp_path), *sets)
        with pytest.raises(PlanError, match="knows this data by another name"):
            enter_run(other, _mechanism(plan))
    assert len(_runs(book)) == 3


def test_two_accounts_of_one_data_set_are_not_merged_in_silence() -> None:
    account = Account("record", 8.0, 1e-5)
    budget, key = known_as({}, "ab" * 32, "ward")
    assert budget == {}
    with pytest.raises(PlanError, match="one account for the name and another for these bytes"):
        known_as({key: replace(account, name="ward"), "ab" * 32: account}, "ab" * 32, "ward")


def test_of_two_copies_of_a_stopped_run_one_alone_goes_on_for_what_was_paid(tmp_path: Path) -> None:
    plan, book = _plan(tmp_path), tmp_path / "budget.json"
    _begun(plan, tmp_path / "first")
    shutil.copytree(tmp_path / "first", tmp_path / "copy")
    assert len(_runs(book)) == 1
    _again(plan, tmp_path / "copy")
    assert len(_runs(book)) == 1, "stopped and gone on with, it is one run"
    _again(plan, tmp_path / "first")
    assert len(_runs(book)) == 2, "what the other draws was paid for once"
    for folder in ("first", "copy"):
        _again(plan, tmp_path / folder)
    assert len(_runs(book)) == 2, "each has its own entry now"


def test_a_copy_of_a_run_that_is_done_is_charged_again(tmp_path: Path) -> None:
    plan, book = _plan(tmp_path), tmp_path / "budget.json"
    journal = _begun(plan, tmp_path / "first")
    shutil.copytree(tmp_path / "first", tmp_path / "copy")
    conclude_run(plan, (_mechanism(plan), 1), journal)
    assert [run.ticket for run in _runs(book)] == [""]
    _again(plan, tmp_path / "copy")
    assert len(_runs(book)) == 2


def test_a_run_whose_copy_went_on_while_it_ran_pays_before_it_is_published(tmp_path: Path) -> None:
    plan, book = _plan(tmp_path), tmp_path / "budget.json"
    journal = _begun(plan, tmp_path / "first")
    shutil.copytree(tmp_path / "first", tmp_path / "copy")
    other = _again(plan, tmp_path / "copy")
    conclude_run(plan, (_mechanism(plan), 1), journal)
    conclude_run(plan, (_mechanism(plan), 1), other)
    assert [run.ticket for run in _runs(book)] == ["", ""]
    said = [record.body["why"] for record in runlog.read(journal.log, "budget")]
    assert said == ["begins", "charged again: a copy of it went on meanwhile"]
    tight = plan.privacy.model_copy(update={"budget": str(tmp_path / "tight.json"), "budget_epsilon": None})
    held = read_budget(book.read_bytes())
    (data,) = held
    limit = 1.1 * compose({data: replace(held[data], runs=held[data].runs[:1])}, data, [])["training units"]
    tight_budget = {data: replace(held[data], epsilon=limit, runs=held[data].runs[:1])}
    (tmp_path / "tight.json").write_bytes(written(tight_budget))
    with pytest.raises(PlanError, match="would cost training units more"):
        conclude_run(plan.model_copy(update={"privacy": tight}), (_mechanism(plan), 1), journal)


def test_a_file_that_does_not_know_the_run_charges_it(tmp_path: Path) -> None:
    plan, book = _plan(tmp_path), tmp_path / "budget.json"
    _begun(plan, tmp_path / "first")
    book.unlink()
    _again(plan, tmp_path / "first")
    assert len(_runs(book)) == 1


def test_who_is_stopped_between_log_and_file_goes_on_with_the_ticket_before(tmp_path: Path) -> None:
    plan, book = _plan(tmp_path), tmp_path / "budget.json"
    journal = _begun(plan, tmp_path / "first")
    with _locked(plan, 1.0), pytest.raises(InputError):
        go_on(plan, (_mechanism(plan), 1), journal, wait_seconds=0.1)
    journal.held.release()
    _again(plan, tmp_path / "first")
    assert len(_runs(book)) == 1


def test_a_forged_ticket_opens_nothing() -> None:
    run = Run("a", (), id="12" * 16, ticket="34" * 16)
    budget = {"ab" * 32: Account("record", 8.0, 1e-5, (run,))}
    assert renewed(budget, "ab" * 32, run.id, ["34" * 16], "56" * 16) is not None
    assert renewed(budget, "ab" * 32, run.id, ["", "78" * 16], "56" * 16) is None
    assert renewed(budget, "ab" * 32, "", ["34" * 16], "56" * 16) is None
    assert renewed(budget, "cd" * 32, run.id, ["34" * 16], "56" * 16) is None
    done = {"ab" * 32: Account("record", 8.0, 1e-5, (replace(run, ticket=""),))}
    assert renewed(done, "ab" * 32, run.id, [""], "56" * 16) is None, "what is done has no ticket"


def test_files_of_the_first_version_are_read_and_their_runs_are_done(tmp_path: Path) -> None:
    plan, book = _plan(tmp_path), tmp_path / "budget.json"
    enter_run(plan, _mechanism(plan))
    plain = json.loads(book.read_text())
    plain["version"] = 1
    for account in plain["data"].values():
        del account["name"], account["digests"]
        for run in account["runs"]:
            del run["id"], run["ticket"]
    (run,) = (run for account in read_budget(json.dumps(plain).encode()).values() for run in account.runs)
    assert (run.id, run.ticket) == ("", "")


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        ([], "privacy.budget: a sweep"),
        (
            ["privacy.budget=null", "privacy.budget_epsilon=null", "privacy.noise=system"],
            "privacy.noise: a sweep",
        ),
    ],
)
def test_a_sweep_of_a_plan_that_means_its_privacy_is_refused(
    tmp_path: Path, sets: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _plan(tmp_path)
    budget = f'privacy.budget="{tmp_path / "budget.json"}"'
    laid = [word for one in [budget, *sets] for word in ("--set", one)]
    out = tmp_path / "out"
    assert main(["sweep", str(tmp_path / "plan.toml"), *laid, "--out", str(out), "--quiet"]) == 2
    assert says in capsys.readouterr().err
    assert not out.exists()


def test_a_misspelt_folder_of_the_file_is_named_and_not_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    away, out = tmp_path / "nodir", tmp_path / "out"
    _plan(tmp_path)
    words = ["--set", f'privacy.budget="{away / "b.json"}"', "--out", str(out), "--quiet"]
    assert main(["run", str(tmp_path / "plan.toml"), *words]) == 2
    said = capsys.readouterr().err
    assert "privacy.budget: the folder" in said
    assert f"(found: {away})" in said
    assert not away.exists()
    assert not out.exists()
    plan = _plan(tmp_path, book=away / "b.json")
    with pytest.raises(InputError, match="the folder of the budget file is not there"):
        enter_run(plan, _mechanism(plan))


def test_the_display_says_what_was_spent_and_what_this_run_takes(tmp_path: Path) -> None:
    shown = []

    def show(event: str, body: Any) -> None:
        if event == "budget":
            shown.append(body["said"])

    plan = _plan(tmp_path)
    for name in ("first", "second"):
        promise_run(plan, _mechanism(plan), 1, open_journal(tmp_path / name, plan, False, show))
    book = tmp_path / "budget.json"
    logs = [runlog.read(tmp_path / name / "run.sqlite", "budget") for name in ("first", "second")]
    first, second = (next(iter(log)).body["all_runs_epsilon"] for log in logs)
    assert 0 < first < second
    assert shown == [
        f"budget: new file {book}, this run takes it to {first:.2f} of 20",
        f"budget {book}: {first:.2f} spent, this run takes it to {second:.2f} of 20",
    ]
    assert str(tmp_path) not in str(list(runlog.read(tmp_path / "second" / "run.sqlite", "budget")))


def test_the_log_names_files_and_not_where_they_lie(tmp_path: Path) -> None:
    plan = _plan(tmp_path)
    plan = plan.model_copy(
        update={"train": plan.train.model_copy(update={"start": str(tmp_path / "earlier")})}
    )
    body = run_record(plan)
    assert str(tmp_path) not in json.dumps(body)
    assert body["plan"]["privacy"]["budget"] == "budget.json"
    assert 'start = "earlier"' in body["plan_toml"]
    plain = run_record(_plan(tmp_path, "privacy.budget=null", "privacy.budget_epsilon=null"))
    assert plain["plan"]["privacy"]["budget"] is None
    journal = _begun(plan, tmp_path / "out")
    journal.record("run", body)
    journal.held.release()
    _again(plan, tmp_path / "out").record("run", run_record(plan))
    assert len(_runs(tmp_path / "budget.json")) == 1, "what goes on has the whole path, from plan.toml"


def test_linked_folders_are_the_data_that_they_lead_to(tmp_path: Path) -> None:
    real, view, other = (tmp_path / name for name in ("real", "view", "other"))
    (real / "icu").mkdir(parents=True)
    (real / "icu" / "x.csv").write_text("a,b\n1,2\n")
    view.mkdir()
    (view / "icu").symlink_to(real / "icu")
    other.mkdir()
    plan = _plan(tmp_path)

    def digest(place: Path) -> str:
        return data_digest(
            plan.model_copy(update={"data": plan.data.model_copy(update={"path": str(place)})})
        )

    assert digest(real) == digest(view)
    with pytest.raises(DataError, match="no file"):
        digest(other)
    before = digest(view)
    (view / "up").symlink_to(view)  # nothing new, and no endless walk
    assert digest(view) == before


def test_no_budget_lies_behind_a_link_of_the_data(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "view").mkdir()
    (tmp_path / "view" / "icu").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "x.csv").write_text("a")
    plan = _plan(tmp_path, book=tmp_path / "real" / "budget.json")
    own = plan.model_copy(update={"data": plan.data.model_copy(update={"path": str(tmp_path / "view")})})
    with pytest.raises(InputError, match="the budget file lies with the data"):
        keep_apart(own, tmp_path / "out")


def test_who_stops_while_thresholds_are_agreed_on_pays_for_no_round_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise of the system is other noise each time: rounds and counts that were made are kept to the end."""
    plan, rounds, counts = _plan(tmp_path, "privacy.noise=system"), list[int](), list[int]()
    draw, agree = private.PrivateSites.draw, agreed.agree_operating

    def counted_draw(self: Any, seed: int, number: int, rows: Any) -> Any:
        rounds.append(number)
        return draw(self, seed, number, rows)

    def counted_agree(*given: Any) -> Any:
        counts.append(len(counts))
        return agree(*given)

    def stopped(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(private.PrivateSites, "draw", counted_draw)
    monkeypatch.setattr(agreed, "agree_operating", counted_agree)
    with monkeypatch.context() as soon:
        soon.setattr(systems, "cost_of_training", stopped)  # what comes right after
        with pytest.raises(Interrupted):
            run_plan(plan, tmp_path / "out")
    run_plan(plan, tmp_path / "out", resume=True)
    assert rounds == [0, 1, 2]
    assert len(counts) == 1
    assert not (tmp_path / "out" / "parts").exists()
