"""Plans: what loads, what is refused, and that each refusal says the way out."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazaretto import catalog
from lazaretto import plan as plans
from lazaretto.errors import PlanError
from lazaretto.reputation import ReputationSettings


def load(folder: Path, text: str, *sets: str, check_parts: bool = False, **overrides: Any) -> plans.Plan:
    path = folder / "plan.toml"
    path.write_text(text, encoding="utf-8")
    laid = {key.replace("__", "."): value for key, value in overrides.items()}
    return plans.load_plan(path, sets=sets, overrides=laid, check_parts=check_parts)


def refusal(folder: Path, text: str, *sets: str, check_parts: bool = False) -> str:
    with pytest.raises(PlanError) as error:
        load(folder, text, *sets, check_parts=check_parts)
    assert error.value.exit_code == 2
    return str(error.value)


def test_a_byte_order_mark_before_a_plan_is_no_key(tmp_path: Path) -> None:
    assert load(tmp_path, "\ufeff[run]\nseeds = [7]\n").run.seeds == (7,)


def test_a_number_of_thousands_of_digits_is_refused_in_words(tmp_path: Path) -> None:
    assert "not valid TOML" in refusal(tmp_path, f"[run]\nseeds = [{'9' * 5000}]\n")


def test_an_empty_plan_is_the_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, "") == plans.Plan()


def test_defaults_are_those_stated(tmp_path: Path) -> None:
    known = {key.name: key for key in plans.known_keys()}
    plan = load(tmp_path, "").model_dump()
    assert set(known) == {f"{section}.{key}" for section, keys in plan.items() for key in keys}
    for name, key in known.items():
        section, _, leaf = name.partition(".")
        assert plan[section][leaf] == key.default
        assert key.meaning.endswith("."), name
        assert key.takes, name


def test_dump_loads_to_an_equal_plan(tmp_path: Path) -> None:
    plan = load(
        tmp_path,
        """
        [run]
        name = "x.1"
        seeds = [3, 1, 2]
        [data]
        options = { units = 3, kinds = ["a", "b"], deep = { x = 0.1 } }
        [sites]
        by = "dirichlet"
        count = 7
        alpha = 0.1
        [cut]
        bits = 32
        clip = 1
        [evaluate]
        baselines = []
        """,
    )
    again = load(tmp_path, plans.dump(plan))
    assert again == plan
    assert plans.plan_digest(again) == plans.plan_digest(plan)
    assert plans.dump(again) == plans.dump(plan)
    assert plan.cut.clip == 1.0
    assert plan.run.seeds == (3, 1, 2)


@given(
    rate=st.floats(1e-300, 1e300),
    seeds=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=9, unique=True),
)
def test_numbers_survive_the_round_trip(
    tmp_path_factory: pytest.TempPathFactory, rate: float, seeds: list[int]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    plan = load(folder, "", f"train.learning_rate={rate!r}", f"run.seeds={seeds}")
    assert plan.train.learning_rate == rate
    assert load(folder, plans.dump(plan)) == plan


def test_digest_tells_plans_apart_but_not_places(tmp_path: Path) -> None:
    base = plans.plan_digest(load(tmp_path, ""))
    assert plans.plan_digest(load(tmp_path, "", "train.rounds=41")) != base
    assert plans.plan_digest(load(tmp_path, "", "data.options.x=1")) != base
    assert plans.plan_digest(load(tmp_path, "", data__path="/somewhere")) == base


def test_a_plan_cannot_be_changed(tmp_path: Path) -> None:
    plan = load(tmp_path, "")
    with pytest.raises(ValueError, match="frozen"):
        plan.train.rounds = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("train.rounds=7", 7),
        ("train.learning_rate=1e-2", 0.01),
        ("run.name=night-3", "night-3"),
        ('run.name="7"', "7"),
        ("cut.enabled=false", False),
        ("run.seeds=[4, 5]", (4, 5)),
        ("data.options.columns.bytes=TotBytes", "TotBytes"),
        ("data.options={ columns = { bytes = 3 } }", 3),
        ("cut.clip = 32", 32.0),
        ("data.options.columns.bytes=a b = c", "a b = c"),
    ],
)
def test_set(tmp_path: Path, text: str, value: Any) -> None:
    plan = load(tmp_path, "[train]\nrounds = 3\n", text)
    section, _, leaf = text.partition("=")[0].strip().partition(".")
    found = getattr(getattr(plan, section), leaf.partition(".")[0])
    assert (found["columns"]["bytes"] if section == "data" else found) == value


def test_set_null_and_order(tmp_path: Path) -> None:
    text = "[sites]\nby = 'natural'\ncount = 8\n"
    assert load(tmp_path, text, "sites.count=null").sites.count is None
    assert load(tmp_path, "", "train.rounds=1", "train.rounds=2").train.rounds == 2
    assert load(tmp_path, "", "train.rounds=1", train__rounds=5).train.rounds == 5


def test_paths_are_relative_to_where_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plans").mkdir()
    monkeypatch.chdir(tmp_path)
    text = '[data]\npath = "../flows"\n'
    assert load(tmp_path / "plans", text).data.path == str((tmp_path / "flows").resolve())
    assert load(tmp_path / "plans", text, "data.path=here").data.path == str((tmp_path / "here").resolve())
    assert load(tmp_path / "plans", text, data__path="there").data.path == str((tmp_path / "there").resolve())


def test_a_path_for_a_source_that_reads_none_must_be_there(tmp_path: Path) -> None:
    """Else who forgot data.source trains on simulated sites, and believes it was their data."""
    assert load(tmp_path, "", check_parts=True, data__path=str(tmp_path)).data.path == str(tmp_path)
    nowhere = tmp_path / "nope"
    with pytest.raises(PlanError) as caught:
        load(tmp_path, "", check_parts=True, data__path=str(nowhere))
    said = str(caught.value)
    for word in ("--data", "data.path", "source 'consortium' reads no files", str(nowhere), "data.source"):
        assert word in said
    assert plans.load_plan(tmp_path / "plan.toml", check_parts=False)


def test_a_start_that_is_not_there_comes_before_what_it_may_know(tmp_path: Path) -> None:
    text = f'[train]\nstart = "{tmp_path / "foo"}"\n[sites]\nwithhold_families = 1\n'
    said = refusal(tmp_path, text, check_parts=True)
    lines = [line for line in said.splitlines() if line.startswith("- ")]
    assert (
        lines[0]
        == f"- train.start: there is no model, as there is no such folder (found: {tmp_path / 'foo'})"
    )
    assert any(line.startswith("- sites.withhold_families") for line in lines[1:])


# What is wrong -> (plan, what the message must name).
WRONG = {
    "a key misspelt": (
        "[train]\nlearningrate = 1\n",
        ["train.learningrate", "unknown key", "'train.learning_rate'"],
    ),
    "a key like none": (
        "[train]\nsites = 1\n",
        ["train.sites", "unknown key", "keys of [train]: ", "learning_rate"],
    ),
    "a key of another section": ("[train]\nbits = 3\n", ["train.bits", "did you mean 'cut.bits'"]),
    "a key of a section that is like the section's name": (
        '[compress]\nup = "top_k"\n',
        ["compress.up", "unknown key", "way out: keys of [compress]: scheme"],
    ),
    "a section misspelt": (
        "[trian]\nx = 1\n",
        ["trian", "unknown section", "did you mean 'train'", "evaluate"],
    ),
    "a section that is a value": ("cut = 3\n", ["cut", "should be a section", "[cut]"]),
    "a number as text": ('[train]\nrounds = "10"\n', ["train.rounds", '"10"', "whole number at least 1"]),
    "a fraction of a round": ("[train]\nrounds = 1.5\n", ["train.rounds", "1.5", "whole number"]),
    "no rounds": ("[train]\nrounds = 0\n", ["train.rounds", "0", "at least 1"]),
    "truth as a number": ("[cut]\nenabled = 1\n", ["cut.enabled", "true or false"]),
    "a rate that is not a number": ("[train]\nlearning_rate = nan\n", ["train.learning_rate", "finite"]),
    "an infinite clip": ("[cut]\nclip = inf\n", ["cut.clip", "finite"]),
    "nine bits": ("[cut]\nbits = 9\n", ["cut.bits", "9", "from 2 to 8, or 32"]),
    "an unknown choice": ('[train]\noptimiser = "adm"\n', ["train.optimiser", '"adm"', "'adam'", "'sgd'"]),
    "an unknown baseline": (
        '[evaluate]\nbaselines = ["lokal"]\n',
        ["evaluate.baselines[0]", "did you mean 'local'"],
    ),
    "a seed twice": ("[run]\nseeds = [1, 1]\n", ["run.seeds", "twice"]),
    "no seeds": ("[run]\nseeds = []\n", ["run.seeds", "at least 1"]),
    "a negative seed": ("[run]\nseeds = [0, -1]\n", ["run.seeds[1]", "-1"]),
    "a name that is a path": ('[run]\nname = "../x"\n', ["run.name", '"../x"']),
    "a date in options": (
        "[data]\noptions = { since = 2020-01-01 }\n",
        ["data.options", "2020-01-01", "numbers"],
    ),
    "sites without a count": ('[sites]\nby = "dirichlet"\n', ["sites.count", "needed", "sites.count = 20"]),
    "a share of nobody": ("[federate]\nparticipation = 0\n", ["federate.participation", "more than 0"]),
    "stragglers without work": ("[federate]\nstraggler_work = 0.2\n", ["federate.straggler_work", "0.2"]),
    "half a pass too many": ("[train]\nlocal_epochs = 1.5\n", ["train.local_epochs", "1.5", "below 1"]),
    "no pass": ("[train]\nlocal_epochs = 0\n", ["train.local_epochs", "at least 0.001"]),
    "a skew that is not used": ("[sites]\nalpha = 0.1\n", ["sites.alpha", "0.1", "'dirichlet'"]),
    "the other skew": ('[sites]\nby = "unit"\ncount = 2\nquantity_alpha = 2.0\n', ["sites.quantity_alpha"]),
    "a cut that is off, clipped": (
        "[cut]\nenabled = false\nclip = 1.0\n",
        ["cut.clip", "cut.enabled = true"],
    ),
    "a cut that is off, with bits": (
        "[cut]\nenabled = false\nbits = 4\n",
        ["cut.bits", "cut.enabled = true"],
    ),
    "nothing to train on": ("[split]\nvalidation = 0.5\ntest = 0.5\n", ["split.validation", "under 0.9"]),
    "fewer than no sites": ("[evaluate]\nleave_one_site_out = -1\n", ["evaluate.leave_one_site_out", "-1"]),
    "some sites": (
        '[evaluate]\nleave_one_site_out = "some"\n',
        ["evaluate.leave_one_site_out", '"some"', "'all'"],
    ),
    "modalities to align, of one": (
        "[train]\nalignment_cut = 0.1\n",
        ["train.alignment_cut", "one modality", "'traffic'", '"combined"'],
    ),
    "a modality to lose, of one": ("[train]\nmodality_dropout = 0.1\n", ["train.modality_dropout"]),
    "one modality alone, of one": (
        '[evaluate]\nbaselines = ["local", "record_only"]\n',
        ["evaluate.baselines", "'record_only'", "one modality"],
    ),
    "an attack without sites": ('[attack]\nname = "foe"\n', ["attack.share", "'foe'", "attack.share = 0.3"]),
    "hostile sites without an attack": ("[attack]\nshare = 0.2\n", ["attack.share", "0.2", "attack.name"]),
    "options of no attack": ("[attack]\noptions = { z = 1 }\n", ["attack.options", "attack.name"]),
    "a first round of no attack": ("[attack]\nfirst_round = 2\n", ["attack.first_round", "2", "attack.name"]),
    "half of the sites": (
        '[attack]\nname = "foe"\nshare = 0.5\n',
        ["attack.share", "0.5", "less than 0.5"],
    ),
    "a way back from no quarantine": (
        "[reputation]\nreadmit_rounds = 3\n",
        ["reputation.readmit_rounds", "3", "reputation.enabled = true"],
    ),
    "trust that is not kept but weighs": (
        "[reputation]\nenabled = false\nweigh = false\n",
        ["reputation.weigh", "false", "reputation.enabled = true"],
    ),
    "quarantine after one round": (
        "[reputation]\nenabled = true\ndecay = 0.3\nquarantine_below = 0.4\n",
        ["reputation.quarantine_below", "reputation.decay = 0.3", "at most 0.3"],
    ),
    "trust without an end": ("[reputation]\nenabled = true\ndecay = 1.0\n", ["reputation.decay", "0.999"]),
    "an attack after the end": (
        '[train]\nrounds = 4\n[attack]\nname = "foe"\nshare = 0.2\nfirst_round = 5\n',
        ["attack.first_round", "train.rounds = 4", "at most 4"],
    ),
    "an alarm of more steps than are looked at": (
        "[evaluate]\nalarm_k = 4\nalarm_m = 3\n",
        ["evaluate.alarm_k", "4 of 3", "at most alarm_m"],
    ),
    "not TOML": ("[train\n", ["not valid TOML", "line 1"]),
    "a key twice": ("[train]\nrounds = 1\nrounds = 2\n", ["not valid TOML", "stand there twice"]),
    "deep nesting": ("x = " + "[" * 5000, ["not valid TOML"]),
    "a key of very many parts": ("a" + ".a" * 100_000 + " = 1\n", ["too many parts", "line 1"]),
    "quoted, too": ("a." + '"=".a.' * 6_000 + "a = 1\n", ["too many parts"]),
}


@pytest.mark.parametrize(("text", "names"), WRONG.values(), ids=WRONG)
def test_wrong_plans(tmp_path: Path, text: str, names: list[str]) -> None:
    message = refusal(tmp_path, text)
    for name in [*names, "way out:"]:
        assert name in message, message


@pytest.mark.parametrize("key", [key.name for key in plans.known_keys()])
def test_every_key_refuses_what_it_cannot_take(tmp_path: Path, key: str) -> None:
    message = refusal(tmp_path, "", f"{key}=1979-05-27")
    assert message.startswith(f"{key}: "), message
    assert "1979-05-27" in message


def test_all_errors_at_once(tmp_path: Path) -> None:
    message = refusal(tmp_path, "[train]\nrounds = 0\nx = 1\n[cut]\nbits = 1\n[trian]\n")
    assert "4 errors" in message
    for key in ("train.rounds", "train.x", "cut.bits", "trian"):
        assert f"- {key}: " in message


SEVERAL = """
[run]
nam = "x"
[data]
options = { sitess = 3 }
[model]
name = "conv_gruu"
options = { hiden = 3 }
[aggregate]
rule = "medain"
f = 3
[train]
rounds = "ten"
[federate]
selection_options = { share = 1 }
[attack]
name = "foo"
[compress]
scheme = "topk"
[privacy]
mechanism = "dp_sdg"
[robustness]
rules = ["nnm | mulit_krum"]
[tuned.gru]
options = { hiden = 3 }
"""


def test_unknown_parts_are_told_with_unknown_keys_and_wrong_types(tmp_path: Path) -> None:
    message = refusal(tmp_path, SEVERAL, check_parts=True)
    lines = [line.partition(": ")[0] for line in message.splitlines() if line.startswith("- ")]
    assert lines == [
        "- run.nam",
        "- train.rounds",
        "- aggregate.f",
        "- data.options.sitess",
        "- model.name",
        "- aggregate.rule",
        "- federate.selection_options.share",
        "- attack.name",
        "- compress.scheme",
        "- robustness.rules",
        "- privacy.mechanism",
        "- tuned.gru.options.hiden",
    ]
    assert "rules" not in refusal(tmp_path, SEVERAL).split("sections:")[0], "parts were not to be looked up"


@pytest.mark.parametrize(
    "text",
    [
        '[aggregate]\nruel = "trimmed_mean"\noptions = { hostile = 0.2 }\n',
        '[agregate]\nrule = "trimmed_mean"\n[aggregate]\noptions = { hostile = 0.2 }\n',
        '[data]\nsource = "x_iomt"\npaht = "."\n',
        "[aggregate]\nrule = 3\noptions = { hostile = 0.2 }\n",
        '[train]\nx = 1\n[aggregate]\nrule = "nnm"\n',
        "[tuned]\ngru = 3\n",
    ],
)
def test_what_a_mended_key_may_mend_is_no_error_of_its_own(tmp_path: Path, text: str) -> None:
    message = refusal(tmp_path, text, check_parts=True)
    assert message == refusal(tmp_path, text)
    assert "errors" not in message


def test_an_unknown_part_is_told_once_where_rules_are_tried(tmp_path: Path) -> None:
    text = '[model]\nname = "gruu"\n[robustness]\nenabled = true\nrules = ["mean", "krum"]\n'
    assert refusal(tmp_path, text, check_parts=True).startswith("model.name: unknown model")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("train.rounds", ["--set needs", "train.rounds=10"]),
        ("=3", ["--set needs"]),
        ("train.rounds=", ["--set needs"]),
        ("rounds=3", ["section.name", "did you mean 'train.rounds'"]),
        ("train.optimiser=sdg", ["'adam' or 'sgd'", "did you mean 'sgd'"]),
        ("train.=3", ["section.name"]),
        ("train.rounds.x=3", ["train.rounds is not a section"]),
        ('run.name="x', ["not valid TOML"]),
        ("run.seeds=[1", ["not valid TOML: Unclosed array", "a list as [0, 1]"]),
        ("train.rounds=1\ncut.bits=2", ["more than one value"]),
        ("trian.rounds=3", ["unknown section", "did you mean 'train'"]),
    ],
)
def test_wrong_sets(tmp_path: Path, text: str, names: list[str]) -> None:
    message = refusal(tmp_path, "[train]\nrounds = 3\n", text)
    for name in names:
        assert name in message, message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    binary, large = tmp_path / "binary.toml", tmp_path / "large.toml"
    binary.write_bytes(b"\xff\xfe\x00rubbish")
    large.write_bytes(b"#" * (2**20 + 1))
    for path, says in (
        (tmp_path / "none.toml", "no such plan"),
        (tmp_path, "cannot be read"),
        (binary, "not text"),
        (large, "too large"),
    ):
        with pytest.raises(PlanError, match=says) as error:
            plans.load_plan(path)
        assert "examples/consortium.toml" in str(error.value)


# With the parts that exist.


@pytest.mark.parametrize(
    ("rule", "sites", "says"),
    [
        ("fltrust", "data.options.sites=8", "stretched without limit, with 8 sites)"),
        ("fltrust", "run.name=x", "stretched without limit, with 12 sites)"),
        ("krum", "data.options.sites=9", "(found: all of it, with 9 sites)"),
    ],
)
def test_a_rule_that_puts_too_much_on_one_says_so_of_this_plan(
    tmp_path: Path, rule: str, sites: str, says: str
) -> None:
    sets = ("secure.protocol=sharing", f"aggregate.rule={rule}", "aggregate.root_units=10", sites)
    said = refusal(tmp_path, "", *sets, check_parts=True)
    assert says in said
    assert " inf " not in said


def test_root_data_is_what_fltrust_needs(tmp_path: Path) -> None:
    for rule in ("fltrust", "nnm | fltrust", "mean"):  # of no use to the last, so that a grid compares them
        plan = load(tmp_path, f'[aggregate]\nrule = "{rule}"\nroot_units = 10\n', check_parts=True)
        assert plan.aggregate.root_units == 10


def test_the_default_plan_with_its_parts(tmp_path: Path) -> None:
    assert load(tmp_path, "", check_parts=True) == plans.Plan()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('[model]\nname = "conv_grru"\n', ["model.name", "unknown model", "did you mean 'conv_gru'"]),
        ('[data]\nsource = "consortia"\n', ["data.source", "unknown source", "did you mean 'consortium'"]),
        ('[aggregate]\nrule = "maen"\n', ["aggregate.rule", "unknown rule", "did you mean 'mean'"]),
        ('[aggregate]\nrule = "median"\n', ["did you mean 'coordinate_median' or 'geometric_median'?"]),
        ('[aggregate]\nrule = "medain | mean"\n', ["did you mean 'coordinate_median' or 'geometric_"]),
        (
            "[model]\noptions = { sise = 3 }\n",
            ["model.options.sise: model 'conv_gru' has no such option (found: 3)"],
        ),
        (
            "[aggregate]\noptions = { hostile = 3 }\n",
            ["aggregate.options.hostile: rule 'mean' has no such option"],
        ),
        ("[model]\noptions = { hiden = 3 }\n", ["did you mean 'model.options.hidden'? options: channels, "]),
        (
            '[federate]\nselection = "uniform"\nparticipation = 0.5\nselection_options = { x = 1 }\n',
            ["federate.selection_options.x: selection 'uniform' has no such option"],
        ),
        (
            '[data]\nsource = "consortia"\n[privacy]\nmechanism = "dp_sdg"\n',
            ["privacy.mechanism: unknown mechanism", "did you mean 'dp_sgd'"],
        ),
        ('[compress]\nscheme = "topk"\n', ["compress.scheme: unknown compressor", "did you mean 'top_k'"]),
        (
            '[compress]\nscheme = "top_k | quantise"\noptions = { quantise = { bit = 4 } }\n',
            ["compress.options.quantise.bit", "did you mean 'compress.options.quantise.bits'"],
        ),
        (
            '[privacy]\nmechanism = "dp_sgd"\nepsilon = 3.0\noptions = { quantil = 0.5 }\n',
            [
                "privacy.options.quantil: ",
                "did you mean 'privacy.options.quantile'? options: quantile, count_",
            ],
        ),
        ("[tuned.tcn]\noptions = { hiden = 3 }\n", ["tuned.tcn.options.hiden: model 'tcn' has no such"]),
        ('[aggregate]\nrule = "nnm"\n', ["aggregate.rule", "'nnm' only mixes", "nnm | multi_krum"]),
        ('[aggregate]\nrule = "fltrust"\n', ["'fltrust' needs a public row", "aggregate.root_units"]),
        ('[aggregate]\nrule = "krum | mean"\n', ["'krum' makes one of all updates", "put it last"]),
        (
            '[aggregate]\nrule = "nnm | krum"\noptions = { hostile = 0.2 }\n',
            ["aggregate.options.hostile", "table of options for each part", "aggregate.options.nnm"],
        ),
        (
            '[aggregate]\nrule = "nnm | krum"\noptions = { krum = { hostile = 0.5 } }\n',
            ["aggregate.options.krum.hostile: should be less than 0.5"],
        ),
        ('[data]\nsource = "x_iomt"\n', ["data.path", "x_iomt", "--data"]),
        (
            '[data]\nsource = "flows_csv"\npath = "."\noptions.label.normal = 3\n[model]\nname = "x"\n',
            ["- data.options.label.normal is a list", "[data.options.label]", "- model.name: unknown model"],
        ),
        (
            '[data]\nsource = "flows_csv"\npath = "."\noptions = { unit = "flow" }\n',
            ["data.options.unit is not known (found: flow)"],
        ),
        ('[model]\nname = "gru"\n', ["cut.enabled", "'gru' has no cut", "cut.enabled = false"]),
        ('[federate]\nalgorithm = "fedprocks"\n', ["federate.algorithm", "did you mean 'fedprox'"]),
        ('[federate]\nserver = "fedadm"\n', ["federate.server", "unknown server optimiser", "'fedadam'"]),
        ('[federate]\nselection = "unifrom"\n', ["federate.selection", "did you mean 'uniform'"]),
        ("[federate]\nparticipation = 0.5\n", ["federate.participation", "'everyone'", "'uniform'"]),
        ('[federate]\nselection = "by_loss"\n', ["federate.participation", "'by_loss'", "under 1"]),
        ('[federate]\nalgorithm = "fedbn"\n', ["'fedbn'", "'conv_gru' has no such layer", "model"]),
        (
            '[federate]\nalgorithm = "fedper"\noptions = { layers = ["top", "bottom"] }\n',
            ["leaves nothing to share", "fewer layers"],
        ),
        (
            '[federate]\nalgorithm = "fedprox"\noptions = { mu = -1 }\n',
            ["federate.options.mu: should be", "-1"],
        ),
        (
            '[attack]\nname = "min_mx"\nshare = 0.2\n',
            ["attack.name", "unknown attack", "did you mean 'min_max'"],
        ),
        (
            '[attack]\nname = "foe"\nshare = 0.2\noptions = { epsilon = 0 }\n',
            ["attack.options.epsilon: should be", "0"],
        ),
        (
            '[attack]\nname = "label_flip"\nshare = 0.2\nfirst_round = 2\n',
            ["attack.first_round", "'label_flip'", "leave it out"],
        ),
        (
            '[run]\nsetting = "combined"\n[data]\nmodality = "combined"\n[train]\nalignment_cut = 0.1\n',
            ["train.alignment_cut", "'conv_gru' has no views", "fusion"],
        ),
        (
            '[model]\nname = "gru"\n[cut]\nenabled = false\n[train]\ndistance_correlation = 0.5\n',
            ["train.distance_correlation", "the cut is off"],
        ),
        (
            '[model]\nname = "fusion"\noptions = { layout = [[0, 3, 3]] }\n',
            ["layout", "filled in from the data"],
        ),
        (
            '[federate]\nalgorithm = "fedper"\n[evaluate]\nleave_one_site_out = 2\n',
            ["evaluate.leave_one_site_out", "no layers of its own", "'fedper'", "shares the whole model"],
        ),
        ("[reputation]\nenabled = true\n", ["reputation.enabled", "'mean'", "suspects nobody"]),
    ],
)
def test_wrong_parts(tmp_path: Path, text: str, names: list[str]) -> None:
    message = refusal(tmp_path, text, check_parts=True)
    for name in [*names, "way out:"]:
        assert name in message, message


def test_a_model_without_cut_is_fine_when_the_cut_is_off(tmp_path: Path) -> None:
    plan = load(tmp_path, '[model]\nname = "gru"\n[cut]\nenabled = false\n', check_parts=True)
    assert plan.model.name == "gru"


WHOLE = "[evaluate]\nleave_one_family_out = false\n"


@pytest.mark.parametrize("name", catalog.names("attacks"))
def test_every_attack_can_be_planned(tmp_path: Path, name: str) -> None:
    plan = load(tmp_path, f'[attack]\nname = "{name}"\nshare = 0.3\n{WHOLE}', check_parts=True)
    assert plan.attack.name == name


def test_a_plan_knows_the_settings_of_reputation(tmp_path: Path) -> None:
    said = load(tmp_path, "").reputation.model_dump()
    assert said.pop("enabled") is False
    assert said.pop("probation_rounds") == 0
    assert ReputationSettings(**said) == ReputationSettings()
    assert set(said) == {field.name for field in fields(ReputationSettings)}


def test_the_examples_load(root: Path) -> None:
    examples = sorted((root / "examples").glob("*.toml"))
    assert {"consortium.toml", "x_iomt.toml"} <= {path.name for path in examples}
    for path in examples:
        plans.load_plan(path, overrides={"data.path": "."})


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("channels='64'", "model.options.channels: should be a whole number"),
        ("channels=true", "model.options.channels: should be a whole number"),
        ("hidden=0", "model.options.hidden: should be greater than or equal to 1"),
        ("past_steps=0.5", "past_steps is shorter than a step"),
    ],
)
def test_options_of_a_model_are_checked_before_data_is_read(tmp_path: Path, option: str, says: str) -> None:
    assert says in refusal(tmp_path, "", f"model.options.{option}", check_parts=True)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("evaluate.baselines=local", """--set 'evaluate.baselines=["local"]'"""),
        ("evaluate.baselines=lokal", """--set 'evaluate.baselines=["local"]'"""),
        ("run.seeds=3", "--set 'run.seeds=[3]'"),
        ('run.seeds="0"', "--set 'run.seeds=[0]'"),
        ('run.seeds="0, 1"', "for these --set 'run.seeds=[0, 1]'"),
        ("run.seeds=1.5", "way out: takes a list, each entry a whole number"),
        ("run.seeds=many", "way out: takes a list, each entry a whole number"),
        ("robustness.rules=mean", """--set 'robustness.rules=["mean"]'"""),
        ("robustness.shares=0.1", "--set 'robustness.shares=[0.1]'"),
    ],
)
def test_a_list_of_one_is_shown_as_it_is_written(tmp_path: Path, given: str, says: str) -> None:
    said = refusal(tmp_path, "", given)
    assert says in said
    assert "should be a list" in said
    assert "tuple" not in said


@pytest.mark.parametrize("given", ["train.rounds=x", "data.options=3", "run.name=3", "run.seeds=[]"])
def test_no_word_of_python_is_in_a_refusal(tmp_path: Path, given: str) -> None:
    said = refusal(tmp_path, "", given)
    assert not any(word in said for word in ("valid", "integer", "dictionary", "tuple", "boolean", "item"))


def test_tuples_are_lists_in_a_plan(tmp_path: Path) -> None:
    text = '[model]\nname = "cnn"\noptions = { widths = [3, 3] }\n[cut]\nenabled = false\n'
    assert load(tmp_path, text, check_parts=True).model.options["widths"] == [3, 3]


def test_the_example_takes_fewer_seeds_than_it_names() -> None:
    """The default of robustness.seeds means: at most all there are."""
    example = Path(__file__).parents[1] / "examples" / "recommended_rule.toml"
    plan = plans.load_plan(example, sets=["run.seeds=[0]"])
    assert plan.run.seeds == (0,)
    with pytest.raises(PlanError, match=r"robustness.seeds: more than run.seeds holds"):
        plans.load_plan(example, sets=["run.seeds=[0]", "robustness.seeds=3"])


def test_a_source_s_option_may_be_named_as_in_a_plan() -> None:
    assert plans.parse_options(["data.options.view=full", "steps=3"]) == {"view": "full", "steps": 3}
