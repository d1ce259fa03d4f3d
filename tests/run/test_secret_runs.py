"""Runs in which nobody sees an update come to what runs in the open come to, and send nothing in the open."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazaretto import runlog, wire
from lazaretto.chain import rule_of
from lazaretto.cli import main
from lazaretto.commands import write_page
from lazaretto.errors import InputError, Interrupted, PlanError, RoundRefused
from lazaretto.evaluate.operating import EVERYONE
from lazaretto.evaluate.threshold_votes import choice_of
from lazaretto.evaluate.thresholds import MAIN_POINT, operating_of
from lazaretto.gram import inner_products
from lazaretto.keys import generator
from lazaretto.plan import load_plan
from lazaretto.round import Arrived, aggregate_round, weigh_seen
from lazaretto.run import agreed, scaled, systems
from lazaretto.run.bench import Job, make_bench
from lazaretto.run.experiment import run_plan
from lazaretto.run.journal import open_journal, quiet
from lazaretto.run.post import KINDS, Post
from lazaretto.run.prepare import prepare
from lazaretto.run.protocol import protocol_of
from lazaretto.run.saved import load_arrays
from lazaretto.run.secret import Door, secret_sum, simulated_secrets
from lazaretto.secagg import ckks_round
from lazaretto.secagg.ckks import default_ckks
from lazaretto.secagg.settings import Sharing
from lazaretto.secagg.sharing import parties, play
from lazaretto.types import Gram, Int, Message

PLAN = """
[run]
seeds = [2]
[data.options]
sites = 7
units_per_site = 12
windows = 2
[model.options]
channels = 8
hidden = 8
[train]
rounds = 4
[aggregate]
rule = "nnm | multi_krum"
[evaluate]
baselines = []
leave_one_family_out = false
bootstrap = 100
"""
SHARED = 'secure.protocol="sharing"'
MASKED = 'secure.protocol="masked"'
CKKS = 'secure.protocol="ckks"'
HOSTILE = ('attack.name="sign_flip"', "attack.share=0.3", "attack.options={ scale = 4.0 }")
TRUSTED = ("reputation.enabled=true", "reputation.decay=0.3")


def run(folder: Path, *sets: str, **more: Any) -> tuple[list[Mapping[str, Any]], Any]:
    """Bodies of the rounds, and the vector that came of them."""
    place = folder.parent / "plan.toml"
    place.write_text(PLAN)
    run_plan(load_plan(place, sets=list(sets)), folder, **more)
    rounds = [record.body for record in runlog.read(folder / "run.sqlite", "round")]
    arrays = load_arrays(folder / "model.safetensors")[0]
    return rounds, arrays["vectors" if "vectors" in arrays else "vector"]


def need_tenseal() -> None:
    pytest.importorskip("tenseal", reason="the extra 'he' is not installed")


@pytest.mark.parametrize(
    "sets",
    [
        (),
        ('aggregate.rule="mean"', 'federate.server="fedadam"'),
        ('aggregate.rule="clip | centered_clip"', *HOSTILE),
        ('federate.algorithm="fedper"', "federate.drop_outs=0.2"),
        (*HOSTILE, *TRUSTED),
        (MASKED, 'aggregate.rule="mean"', "federate.drop_outs=0.2", "sites.by=unit", "sites.count=7"),
        (CKKS, 'aggregate.rule="mean"', "train.rounds=2", "sites.by=unit", "sites.count=7"),
        ('compress.scheme="random_k"', "compress.share=0.2", *HOSTILE),
    ],
)
def test_it_comes_to_what_the_open_run_comes_to(sets: tuple[str, ...], tmp_path: Path) -> None:
    """To the rounding of shares: 2^-17 of an entry each round, and what training makes of that."""
    if CKKS in sets:
        need_tenseal()
    named = {MASKED, CKKS} & set(sets)
    plain, vector = run(tmp_path / "plain", *[one for one in sets if one not in named])
    secret, other = run(tmp_path / "secret", *sets, *([] if named else [SHARED]))
    np.testing.assert_allclose(other, vector, atol=2e-3 * np.abs(vector).max())
    for one, two in zip(plain, secret, strict=True):
        assert one["arrived"] == two["arrived"]
        assert one.get("quarantined") == two.get("quarantined")
        assert {row["name"] for row in one["suspected"] if row["suspicion"] > 0.05} <= {
            row["name"] for row in two["suspected"]
        }


def test_no_update_and_no_site_s_counts_pass_in_the_open(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    plan = load_plan(tmp_path / "plan.toml", sets=[SHARED, "model.options.novelty_hidden=8"])
    messages: list[Message] = []
    post = Post(tap=messages.append)
    prepared = prepare(plan, 2, post)
    journal = open_journal(tmp_path / "run", plan, False, quiet)
    systems.federated(make_bench(plan, [prepared], [post], journal), systems.OURS, Job(place=0))
    leaving = {m.kind for m in messages if m.link.startswith("site-") and m.sender in prepared.site_names}
    assert leaving == {"shares", "round report"}
    assert {row["kind"] for row in post.rows()} >= {"shares", "between aggregators", "opened sum", "close"}
    rows = {row["kind"]: row for row in post.rows()}
    sent = [m for m in messages if m.kind == "shares"]
    assert rows["shares"]["bytes"] == sum(len(wire.encode_message(m)) for m in sent)
    assert {m.link for m in sent} == {"site-aggregator"}
    assert all(KINDS[row["kind"]][0] == row["link"] for row in post.rows())


@pytest.mark.parametrize("hostile", [(), ("attack.name=scale_poisoning", "attack.share=0.4")])
def test_the_median_under_sharing_is_that_of_the_open_run(hostile: tuple[str, ...], tmp_path: Path) -> None:
    """Of ballots that nobody sees, and hostile sites stretch neither."""
    (tmp_path / "plan.toml").write_text(PLAN)
    words = ('data.scaling="median"', *hostile)
    messages: list[Message] = []
    plain, secret, stretched = (
        prepare(load_plan(tmp_path / "plan.toml", sets=sets), 2, Post(tap=tap))
        for sets, tap in (
            ([*words], None),
            ([*words, SHARED], messages.append),
            ([SHARED, *hostile], None),
        )
    )
    for one in ("center", "scale"):
        np.testing.assert_array_equal(getattr(secret.scaling, one), getattr(plain.scaling, one))
    assert ((stretched.scaling.scale > 1e3 * secret.scaling.scale).all()) == bool(hostile)
    assert {m.kind for m in messages if m.sender in secret.site_names} == {"shares"}


def test_who_had_no_vote_on_scaling_is_in_the_data_sheet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, made = scaled.ballot, list[Int]()

    def false_at_first(counts: Int) -> Int:
        made.append(honest(counts))
        return made[-1] * (0 if len(made) == 1 else 1)

    monkeypatch.setattr(scaled, "ballot", false_at_first)
    (tmp_path / "plan.toml").write_text(PLAN)
    found = prepare(load_plan(tmp_path / "plan.toml", sets=[SHARED, 'data.scaling="median"']), 2, Post())
    name = found.site_names[0]
    told = [note for note in found.sheet["notes"] if "had no vote on scaling" in note]
    assert told == [f"{name} had no vote on scaling: it did not choose one entry in every block."]


def test_votes_on_the_alarm_threshold_come_to_the_judge_s_open_and_unseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a site whose ballot is none has no vote, and the run log says so."""
    (tmp_path / "plan.toml").write_text(PLAN)

    def trained(name: str, *sets: str) -> tuple[set[float], float, set[str], list[Mapping[str, Any]]]:
        plan = load_plan(tmp_path / "plan.toml", sets=['evaluate.thresholds="median"', *sets])
        messages: list[Message] = []
        post = Post(tap=messages.append)
        prepared = prepare(plan, 2, post)
        journal = open_journal(tmp_path / name, plan, False, quiet)
        bench = make_bench(plan, [prepared], [post], journal)
        scores = systems.federated(bench, systems.OURS, Job(place=0)).scores
        main = operating_of(scores, protocol_of(plan, prepared), name).thresholds[MAIN_POINT][EVERYONE]
        told = {float(np.asarray(m.payload["value"])[0]) for m in messages if m.kind == "threshold"}
        refused = [record.body for record in runlog.read(journal.log, "vote refused")]
        return told, main, {m.kind for m in messages if m.sender in prepared.site_names}, refused

    lied = ('attack.name="threshold_poisoning"', "attack.share=0.3")
    both = []
    for name, sets, kind in (
        ("open", (), "threshold vote"),
        ("unseen", (SHARED,), "shares"),
        ("liars in the open", lied, "threshold vote"),
        ("liars unseen", (SHARED, *lied), "shares"),
    ):
        told, main, leaving, refused = trained(name, *sets)
        both.append(main)
        assert told == {float(np.float32(main))}
        assert kind in leaving
        assert "score counts" not in leaving
        assert not refused
    assert both[0] == pytest.approx(both[1], abs=0.1)
    assert both[2] == pytest.approx(both[3], abs=0.1)
    assert max(both) < 100, "two of seven lie"
    honest, made = agreed.threshold_ballot, list[Int]()

    def false_at_first(threshold: float | None) -> Int:
        made.append(honest(threshold))
        return made[-1] * (0 if len(made) == 1 else 1)

    monkeypatch.setattr(agreed, "threshold_ballot", false_at_first)
    told, main, _, (said,) = trained("false", SHARED)
    assert said["reason"] == "it did not choose one entry in every block"
    assert told == {float(np.float32(main))}  # of the others alone, for the judge too
    made.clear()
    monkeypatch.setattr(agreed, "threshold_ballot", honest)
    monkeypatch.setattr(
        agreed, "choice_of", lambda value: made.append(value) if not made else choice_of(value)
    )
    told, main, _, (said,) = trained("none")
    assert said["reason"] == "it named no threshold"
    assert told == {float(np.float32(main))}


def test_a_refused_vote_takes_no_site_s_own_threshold_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    sets = ['evaluate.thresholds="own"', "evaluate.false_positive_rate=0.1"]
    plan, found, seen = load_plan(tmp_path / "plan.toml", sets=sets), [], list[int]()
    for name in ("all", "all but one"):
        if name != "all":
            monkeypatch.setattr(
                agreed, "choice_of", lambda value: seen.append(1) if not seen else choice_of(value)
            )
        post = Post()
        prepared = prepare(plan, 2, post)
        journal = open_journal(tmp_path / name, plan, False, quiet)
        bench = make_bench(plan, [prepared], [post], journal)
        scores = systems.federated(bench, systems.OURS, Job(place=0)).scores
        found.append(operating_of(scores, protocol_of(plan, prepared), name))
        assert len(list(runlog.read(journal.log, "vote refused"))) == (name != "all")
    whole, less = ({**one.thresholds[MAIN_POINT]} for one in found)
    assert whole.pop(EVERYONE) != less.pop(EVERYONE)
    assert 0 in whole, "the one that was refused"
    assert whole == less


@pytest.mark.parametrize(
    "counts",
    [
        np.array([[10_001, 0]], np.uint32),
        np.array([[6_000, 6_000]], np.uint32),
        np.array([[-1, 1]]),
        np.array([[2**62, 2**62]]),
        np.array([[1.0, 2.0]]),
        np.array([1, 2], np.uint32),
        np.array([[1, 2, 3]], np.uint32),
    ],
)
def test_counts_that_no_honest_site_sends_end_the_run(counts: np.ndarray) -> None:
    """Of a site that says it has more steps than any may weigh, for instance."""
    with pytest.raises(InputError, match="score counts of site 3 are none"):
        agreed.within_cap(counts, "site 3", "score counts", (1, 2))


def test_its_report_says_who_saw_what(tmp_path: Path) -> None:
    run(tmp_path / "out", SHARED)
    page = write_page(tmp_path / "out").read_text(encoding="utf-8")
    assert "shares of a site" in page
    assert "aggregator" in page


@pytest.mark.parametrize("stop", [1, 3])
def test_a_stopped_run_goes_on_to_the_same_bits(stop: int, tmp_path: Path) -> None:
    sets = (*HOSTILE, *TRUSTED, SHARED)
    rounds, vector = run(tmp_path / "whole", *sets)

    def show(kind: str, body: Mapping[str, Any]) -> None:
        if kind == "round" and body["round"] == stop:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        run(tmp_path / "out", *sets, show=show)
    again, other = run(tmp_path / "out", *sets, resume=True)
    np.testing.assert_array_equal(other, vector)
    assert [body["suspected"] for body in again] == [body["suspected"] for body in rounds]


def test_fewer_than_three_updates_are_not_shared(tmp_path: Path) -> None:
    """A round in which one or two arrive changes nothing, and says so."""
    rounds, _ = run(tmp_path / "out", SHARED, "federate.drop_outs=0.8", "train.rounds=6")
    few = [place for place, body in enumerate(rounds) if body["arrived"] < 3]
    assert few
    (messages,) = [record.body for record in runlog.read(tmp_path / "out" / "run.sqlite", "messages")]
    shares = next(row["count"] for row in messages["rows"] if row["kind"] == "shares")
    many = sum(body["arrived"] for body in rounds if body["arrived"] >= 3)
    assert shares == 3 * (many + 2 * 7), "three for each update that was shared, and for two sums of counts"


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        (['aggregate.rule="trimmed_mean"'], "looks at updates"),
        (['aggregate.rule="krum"'], "more than a third on one site"),
        (['aggregate.rule="mean"', *HOSTILE], "sees sums alone"),
        ([MASKED, 'aggregate.rule="mean"', 'data.scaling="median"'], "cannot be told from ten"),
        ([MASKED, 'aggregate.rule="mean"', 'evaluate.thresholds="median"'], "until nothing alarms"),
        ([MASKED, 'aggregate.rule="mean"', 'evaluate.thresholds="own"'], "until nothing alarms"),
        (['federate.algorithm="scaffold"'], "sends two vectors"),
        (['compress.scheme="top_k"', "compress.share=0.1"], "cannot be summed before it is decoded"),
        (['compress.scheme="random_k | quantise"'], "cannot be summed before it is decoded"),
        (['compress.scheme="count_sketch | random_k"'], "cannot be summed before it is decoded"),
        (['compress.scheme="random_k"', "reputation.enabled=true"], "asks for sums over rounds"),
        (['compress.scheme="random_k"', 'aggregate.rule="nnm | foolsgold"'], "asks for sums over rounds"),
        (["evaluate.thresholds=median", "model.options.novelty_hidden=8"], "which one can bend"),
        (["evaluate.thresholds=own", "model.options.novelty_hidden=8"], "which one can bend"),
        (["evaluate.leave_one_site_out=1"], "sums with and without a site"),
        ([MASKED], "a sum shows none"),
        ([MASKED, 'aggregate.rule="mean"', "secure.noise=0.1"], "secure.noise"),
        (["secure.clip=1e9"], "would not fit the ring"),
        (["secure.fraction_bits=40"], "secure.fraction_bits"),
        (["secure.protocol=none", "secure.clip=3"], "has no meaning with secure.protocol='none'"),
        (["secure.protocol=sharding"], "secure.protocol"),
    ],
)
def test_plans_that_would_show_an_update(
    sets: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    words = [word for one in [SHARED, *sets] for word in ("--set", one)]
    assert main(["run", str(tmp_path / "plan.toml"), *words, "--out", str(tmp_path / "out")]) == 2
    assert says in capsys.readouterr().err


def test_two_sites_are_too_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.toml").write_text(PLAN.replace("sites = 7", "sites = 2"))
    words = ["--set", SHARED, "--set", 'aggregate.rule="mean"', "--out", str(tmp_path / "out")]
    assert main(["run", str(tmp_path / "plan.toml"), *words]) == 2
    assert "three sites or more" in capsys.readouterr().err


@pytest.mark.parametrize(("protocol", "kind"), [(MASKED, "masked"), (CKKS, "encrypted")])
def test_runs_of_sums_send_nothing_in_the_open_either(protocol: str, kind: str, tmp_path: Path) -> None:
    if protocol == CKKS:
        need_tenseal()
    (tmp_path / "plan.toml").write_text(PLAN)
    plan = load_plan(tmp_path / "plan.toml", sets=[protocol, 'aggregate.rule="mean"', "train.rounds=2"])
    messages: list[Message] = []
    post = Post(tap=messages.append)
    prepared = prepare(plan, 2, post)
    journal = open_journal(tmp_path / "run", plan, False, quiet)
    systems.federated(make_bench(plan, [prepared], [post], journal), systems.OURS, Job(place=0))
    rows = {row["kind"]: row for row in post.rows()}
    assert not {"update", "scaling counts", "score counts", "shares"} & set(rows)
    sent = [m for m in messages if m.sender in prepared.site_names and m.kind != "round report"]
    assert rows[kind]["count"] == len(sent)
    assert rows[kind]["bytes"] == sum(len(wire.encode_message(m)) for m in sent)
    assert f"{kind} answers" in rows


@pytest.mark.parametrize("protocol", ["sharing", "masked", "ckks"])
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), sites=st.integers(3, 6))
def test_a_secret_sum_is_exact(protocol: str, seed: int, sites: int) -> None:
    if protocol == "ckks":
        need_tenseal()
    rng = generator(seed, "sum")
    rows = {f"site {k}": rng.integers(0, 60_000, (4, 5)) for k in range(sites)}
    found = secret_sum(rows, Door(protocol, seed), "counts", Post())
    np.testing.assert_array_equal(found, sum(rows.values()))


def test_a_sum_of_counts_is_exact_up_to_the_largest() -> None:
    """Encrypted: some million at 250 sites would still be rounded right; noise is 10⁻⁸ for each site."""
    need_tenseal()
    rows = {f"site {k}": np.array([2**22, -(2**22) + k, k, 0]) * (k % 4 == np.arange(4)) for k in range(9)}
    found = secret_sum(rows, Door("ckks", 0), "counts", Post())
    np.testing.assert_array_equal(found, sum(rows.values()))


def test_counts_that_are_not_whole_are_no_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    """A site that encrypts a third of a step: the sum of counts is refused, never rounded."""
    need_tenseal()
    start = ckks_round.start_ckks_site

    def forged(state: Any, row: Any, share: float) -> Any:
        return start(state, row + (state.name == "site 2") / 3, share)

    rows = {f"site {k}": np.full(3, 10) for k in range(4)}
    assert (secret_sum(rows, Door("ckks", 0), "counts", Post()) == 40).all()
    monkeypatch.setattr(ckks_round, "start_ckks_site", forged)
    with pytest.raises(RoundRefused, match="not a sum of counts"):
        secret_sum(rows, Door("ckks", 0), "counts", Post())


def test_counts_under_encryption_that_no_site_may_send() -> None:
    need_tenseal()
    rows = {f"site {k}": np.full(3, 10 if k else 2**23) for k in range(4)}
    done = ckks_round.encrypt_counts(
        default_ckks(4, 2.0**22), rows, simulated_secrets(0, "counts", 0), lambda m: None, round_number=0
    )
    assert done.arrived == ("site 1", "site 2", "site 3")
    assert "whole numbers within" in done.refused["site 0"]
    np.testing.assert_array_equal(done.total, 30)


def test_encrypted_sums_ask_for_their_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tenseal", None)  # as where it is not installed
    (tmp_path / "plan.toml").write_text(PLAN)
    with pytest.raises(PlanError, match=r"(?s)secure.protocol: .*pip install 'lazaretto\[he\]'"):
        load_plan(tmp_path / "plan.toml", sets=[CKKS, 'aggregate.rule="mean"'])


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        ([], "a sum shows none"),
        (['aggregate.rule="trimmed_mean"'], "looks at updates"),
        (['aggregate.rule="mean"', *HOSTILE], "sees sums alone"),
        (['aggregate.rule="mean"', "secure.sketch_columns=8192"], "secure.sketch_columns: has no meaning"),
        (['aggregate.rule="mean"', "secure.clip=1e9"], "secure.clip: .*does not fit"),
        (['aggregate.rule="mean"', "sites.by=unit", "sites.count=300"], "sites.count: .*does not fit"),
    ],
)
def test_plans_that_encrypted_sums_refuse(sets: list[str], says: str, tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    with pytest.raises(PlanError, match=says):
        load_plan(tmp_path / "plan.toml", sets=[CKKS, *sets])


def test_a_secret_sum_refuses_what_would_wrap() -> None:
    rows = {f"site {k}": np.full(3, 10**7) for k in range(3)}
    with pytest.raises(InputError, match="too large for a secret sum"):
        secret_sum(rows, Door("sharing", 0), "counts", Post())


@pytest.mark.parametrize("name", ["nnm | multi_krum", "mean", "foolsgold", "bucketing | geometric_median"])
def test_a_rule_says_the_same_of_inner_products_as_of_updates(name: str) -> None:
    rule, rng = rule_of(name, {}), generator(4, name)
    rows = rng.standard_normal((9, 30)).astype(np.float32)
    sizes = np.array([3.0, 1, 0, 2, 1, 1, 5, 1, 0])
    sites = rng.permutation(9)
    past = rows if rule.history else None
    open_ = aggregate_round(rule, Arrived(rows, sizes, sites, past), {}, rule.start(9), generator(0, "rule"))
    public = np.zeros((len(rule.public), 30))
    seen = Gram(
        inner_products(rows, public),
        sizes,
        sites,
        rule.public,
        None if past is None else inner_products(past),
    )
    said = weigh_seen(rule, seen, rule.start(9), generator(0, "rule"))
    assert open_.weights is not None
    np.testing.assert_allclose(said.weights[0], open_.weights, atol=1e-9)
    np.testing.assert_allclose(said.suspicion, open_.suspicion, atol=1e-9)


def test_noise_runs_and_a_refused_round_changes_nothing(tmp_path: Path) -> None:
    """Where few of uneven size arrive, one would show: the round is refused, says so, and the run goes on."""
    rounds, vector = run(
        tmp_path / "out",
        SHARED,
        'aggregate.rule="mean"',
        "federate.drop_outs=0.5",
        "train.rounds=6",
        "secure.noise=0.001",
    )
    refused = [body for body in rounds if body.get("refused")]
    assert refused
    assert all("so much weight on one site" in body["refused"] for body in refused)
    assert len(rounds) == 6
    assert np.isfinite(vector).all()


@pytest.mark.parametrize("protocol", [SHARED, MASKED])
def test_a_run_that_never_has_a_result_ends_and_says_why(protocol: str, tmp_path: Path) -> None:
    """Three sites of uneven size: a mean would show the largest in every round."""
    uneven = ("sites.by=quantity", "sites.count=3", "sites.quantity_alpha=3.0", "train.rounds=6")
    with pytest.raises(RoundRefused, match=r"5 rounds in a row had no result.*so much weight"):
        run(tmp_path / "out", protocol, 'aggregate.rule="mean"', *uneven)


def test_a_sum_of_counts_of_one_site_is_refused() -> None:
    """Whoever closes the round early, or drops what others sent, must not read the counts of who is left."""
    rows = {f"site {k}": np.full(5, 7.0 + k) for k in range(6)}
    made = parties(
        Sharing(clip=2.0**22, fraction_bits=2, most_on_one=1 / 3),
        0,
        rows,
        np.zeros((0, 5)),
        lambda seen: np.ones(len(seen.names)),
        simulated_secrets(0, "counts", 0),
        None,
    )
    few = tuple(message for message in made.messages if message.sender in ("site 2", "site 3"))
    ended = play(made._replace(messages=few), lambda message: None)
    assert ended.coordinator.sum is None
    assert "so much weight on one site" in str(ended.coordinator.refused)
