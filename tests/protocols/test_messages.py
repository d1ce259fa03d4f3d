"""Every message that leaves a site is counted and typed; no raw value or label is among them."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest

from lazaretto import catalog, wire
from lazaretto.cut import Cut, through
from lazaretto.evaluate.scored import OURS
from lazaretto.federate.fedper import fedper
from lazaretto.losses import detection_loss
from lazaretto.personal import personal_mask
from lazaretto.plan import Plan, load_plan
from lazaretto.run import systems
from lazaretto.run.bench import Job, make_bench
from lazaretto.run.journal import open_journal
from lazaretto.run.post import KINDS, LEAVES_THE_SITE, Post, count_cut_traffic
from lazaretto.run.prepare import Prepared, prepare
from lazaretto.types import Array, Float, Message

PLAN = (
    "[run]\nseeds = [3]\n[data.options]\nsites = 3\nunits_per_site = 12\nwindows = 2\n"
    "[sites]\nwithhold_families = 1\n[model.options]\nchannels = 8\nhidden = 8\n[train]\nrounds = 2\n"
)
CONTROL = {"control", "control change"}  # what only an algorithm that keeps something sends
# what only a secret run sends: tests/run/test_secret_runs.py
SECRET = {"shares", "masked", "masked answers", "encrypted", "encrypted answers"}
VOTES = {"threshold vote"}  # in place of counts of scores
FUSION = {"part counts", "score tails"}  # what only a model with a self-supervised score sends


def train(plan: Plan, folder: Path) -> tuple[list[Message], Post, Prepared, Float]:
    """Everything that passed in a whole federated training, and its vector."""
    messages: list[Message] = []
    post = Post(tap=messages.append)
    prepared = prepare(plan, 3, post)
    journal = open_journal(folder / "run", plan, resume=False, show=lambda kind, body: None)
    bench = make_bench(plan, [prepared], [post], journal)
    _, vector, *_ = systems.federated(bench, OURS, Job(place=0))
    return messages, post, prepared, vector


@pytest.fixture(scope="module", params=["fedavg", "scaffold", "self-supervised", "u-shape", "voted", "own"])
def plan(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    path = tmp_path_factory.mktemp("plan") / "plan.toml"
    if request.param == "u-shape":
        both = 'seeds = [3]\nsetting = "combined"\n[data]\nmodality = "combined"\n'
        text = PLAN.replace("seeds = [3]\n", both)
        path.write_text(text.replace("[model.options]", '[model]\nname = "fusion"\n[model.options]'))
    elif request.param == "self-supervised":
        path.write_text(PLAN.replace("[model.options]", "[model.options]\nnovelty_hidden = 8"))
    elif request.param in ("voted", "own"):
        how = {"voted": "median"}.get(request.param, request.param)
        path.write_text(PLAN + f'[evaluate]\nthresholds = "{how}"\n')
    else:
        path.write_text(PLAN + f'[federate]\nalgorithm = "{request.param}"\n')
    return load_plan(path)


@pytest.fixture(scope="module")
def sent(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Message], Post, object]:
    return train(plan, tmp_path_factory.mktemp("sent"))[:3]


def idle_kinds(plan: Plan) -> set[str]:
    """Kinds that this plan has no use for."""
    control = set() if plan.federate.algorithm == "scaffold" else CONTROL
    counts = {"score counts"} if plan.evaluate.thresholds != "sum" else VOTES
    return control | counts | SECRET | (set() if "novelty_hidden" in plan.model.options else FUSION)


def leaving_kinds(plan: Plan) -> set[str]:
    """Kinds that leave a site under this plan."""
    return set(LEAVES_THE_SITE) - idle_kinds(plan)


def test_only_declared_kinds_pass_and_all_are_counted(sent: tuple, plan: Plan) -> None:
    messages, post, prepared = sent
    expected = {kind for kind, (link, _, _) in KINDS.items() if link == "site-coordinator"}
    assert {message.kind for message in messages} == expected - idle_kinds(plan)
    rows = {row["kind"]: row for row in post.rows()}
    for kind in {message.kind for message in messages}:
        passed = [message for message in messages if message.kind == kind]
        assert rows[kind]["count"] == len(passed)
        assert rows[kind]["bytes"] == sum(len(wire.encode_message(message)) for message in passed)
    sites, rounds = len(prepared.site_names), 2
    assert rows["update"]["count"] == sites * rounds
    assert rows["model"]["count"] == sites * (rounds + 1), "the final model goes to everyone, too"
    if plan.federate.algorithm == "scaffold":
        assert rows["control"]["count"] == rows["control change"]["count"] == sites * rounds
    assert {"activations", "gradients", "bottom", "trained bottom"} <= set(rows)
    fused = {"fused activations", "fused gradients"} & set(rows)
    assert fused == ({"fused activations", "fused gradients"} if plan.model.name == "fusion" else set())


def test_an_undeclared_kind_cannot_be_sent() -> None:
    with pytest.raises(KeyError):
        Post().send("readings", "site 01", "coordinator", 1, {"x": np.zeros(3, np.float32)})


def _runs(values: np.ndarray, least: int) -> set[bytes]:
    """Every run of `least` neighbouring values, as bytes: what a copy of the data would contain."""
    flat = np.ascontiguousarray(values).ravel()
    return {flat[i : i + least].tobytes() for i in range(len(flat) - least + 1)}


def test_nothing_that_leaves_a_site_holds_a_raw_value_or_a_label(sent: tuple, plan: Plan) -> None:
    """Searches what was sent for scaled readings, pairs of them, and label sequences in every number type."""
    messages, _, prepared = sent
    data = prepared.data
    leaving = [message for message in messages if message.kind in LEAVES_THE_SITE]
    assert {message.kind for message in leaving} == leaving_kinds(plan)
    readings = np.unique(data.x[data.valid])
    distinct = readings[
        (np.abs(readings) > 1e-3) & (np.abs(readings % 0.25) > 1e-6)
    ]  # not 0, not a round number
    assert len(distinct) > 1000
    # sequences that no row of counters would show by chance: both kinds of step, several of each
    changing = [y for y in data.y if min((y > 0).sum(), (y == 0).sum()) >= 6]
    assert len(changing) >= 3
    for message in leaving:
        for array in message.payload.values():
            values = np.asarray(array, np.float64).ravel()
            close = np.isin(values.astype(np.float32), distinct).sum()
            # two random sets of float32 meet by chance: 24 bits each, so a handful in a hundred thousand
            assert close <= max(3, 0.002 * values.size), message.kind
            pairs = _runs(np.asarray(array, np.float32), 2)
            assert not pairs & _runs(distinct[:2000], 2)
            for labels in changing:
                for kind in (np.uint8, np.int32, np.int64, np.float32):
                    assert labels.astype(kind).tobytes() not in np.asarray(array).tobytes(), message.kind


def test_what_leaves_a_site_does_not_grow_with_its_data(sent: tuple, plan: Plan) -> None:
    """Sizes depend on model, features and plan alone: a site with more rows sends not a byte more."""
    messages, _, prepared = sent
    steps = [int(prepared.data.valid[prepared.data.site == s].sum()) for s in range(len(prepared.site_names))]
    assert len(set(steps)) > 1
    for kind in leaving_kinds(plan):
        sizes = {
            sum(np.asarray(array).nbytes for array in message.payload.values())
            for message in messages
            if message.kind == kind
        }
        assert len(sizes) == 1, kind


def test_personal_parameters_are_in_no_message_and_who_is_lost_sends_nothing(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(
        PLAN.replace("rounds = 2", "rounds = 5") + '[federate]\nalgorithm = "fedper"\ndrop_outs = 0.4\n'
    )
    plan = load_plan(path)
    messages, post, prepared, vectors = train(plan, tmp_path)
    model = catalog.build("models", plan.model.name, plan.model.options)
    mask = personal_mask(fedper(), model, prepared.data.x.shape[2], prepared.kinds)
    assert mask is not None
    rows = {row["kind"]: row for row in post.rows()}
    told = {(m.round, m.receiver) for m in messages if m.kind == "model"}
    arrived = {(m.round, m.sender) for m in messages if m.kind == "update"}
    assert arrived < told, "some are told and do not answer"
    assert {(m.round, m.sender) for m in messages if m.kind == "round report"} == arrived
    assert rows["trained bottom"]["count"] == len(arrived) * plan.sites.devices
    for message in messages:
        if message.kind in ("model", "update"):
            (payload,) = message.payload.values()
            assert payload.shape == (np.count_nonzero(~mask),)
    assert not {"score counts", "threshold"} & set(rows), "each site sets its own threshold"
    own = vectors[:, mask]
    assert len(np.unique(own, axis=0)) == len(vectors), "the heads went apart"
    np.testing.assert_array_equal(vectors[:, ~mask], np.repeat(vectors[:1, ~mask], len(vectors), axis=0))
    sent = np.concatenate([np.ravel(array) for m in messages for array in m.payload.values()])
    trained = np.unique(own[own != vectors[0, mask][None].repeat(len(own), 0)])
    assert np.isin(trained, sent.astype(np.float32)).mean() < 0.01


def test_the_search_would_find_a_planted_leak(sent: tuple) -> None:
    _, _, prepared = sent
    data = prepared.data
    readings = np.unique(data.x[data.valid])
    planted = np.concatenate([np.zeros(50, np.float32), data.x[data.valid][:40].ravel()])
    assert np.isin(planted, readings).mean() > 0.5
    labels = next(y for y in data.y if (np.diff(y) != 0).any())
    assert (
        labels.astype(np.uint8).tobytes()
        in np.concatenate([np.zeros(9, np.uint8), labels.astype(np.uint8)]).tobytes()
    )


@pytest.mark.parametrize("bits", [4, 8, 32])
def test_cut_bytes_are_those_of_real_messages(bits: int) -> None:
    post = Post()
    count_cut_traffic(post, Cut(bits=bits), exchanges=5, shape=(2, 16, 16), bottom=100, devices=3)
    rows = {row["kind"]: row for row in post.rows()}
    assert rows["activations"]["count"] == 15
    payload = 2 * 16 * 16 * bits // 8
    each = rows["activations"]["bytes"] / 15
    assert payload < each < payload + 250
    assert rows["gradients"]["bytes"] / 15 > 2 * 16 * 16 * 4
    assert "bottom gradient" not in rows


@pytest.mark.parametrize(("devices", "messages"), [(1, 0), (3, 15)])
def test_averaging_at_every_step_is_on_the_books(devices: int, messages: int) -> None:
    post = Post()
    count_cut_traffic(
        post, Cut(), exchanges=5, shape=(2, 16, 16), bottom=100, devices=devices, every_step=True
    )
    rows = {row["kind"]: row for row in post.rows()}
    for kind in ("bottom gradient", "mean bottom gradient"):
        assert (rows[kind]["count"] if kind in rows else 0) == messages
        if messages:
            assert rows[kind]["bytes"] / messages > 400


def test_what_crosses_either_cut_of_the_u_shape_holds_no_reading_and_no_label() -> None:
    """All four messages of an exchange, made step by step as each party would make them."""
    rng = np.random.default_rng(1)
    layout = [[0, 3, 3], [3, 5, 5]]
    model = catalog.build(
        "models", "fusion", {"channels": 8, "cut_channels": 6, "hidden": 8, "layout": layout}
    )
    x = rng.standard_normal((6, 16, 7)).astype(np.float32)
    x[..., 5:] = 1.0
    y = rng.integers(0, 3, (6, 16)).astype(np.int32)
    params, cut = model.init(jax.random.key(0), 7, 2), Cut()
    starts = model.start(7, 6)

    def site(h: Array) -> Array:
        return model.top(params["top"], through(cut, h), starts[1])[0].sent

    def device(sent: Array) -> Array:
        outputs = model.head(params["bottom"], through(cut, sent))
        return detection_loss(outputs, y, np.ones(y.shape, np.float32), np.ones(4, np.float32), 0.3)

    @jax.jit
    def exchange(x: Array) -> dict[str, Array]:
        h, _ = model.bottom(params["bottom"], x, starts[0])
        sent, back = jax.vjp(site, h)
        down = jax.grad(device)(sent)
        (gradient,) = back(down)
        return {
            "activations": through(cut, h),
            "fused activations": through(cut, sent),
            "fused gradients": down,
            "gradients": gradient,
        }

    crossing = exchange(x)
    assert set(crossing) < set(KINDS)
    readings = np.unique(x[..., :5])
    for kind, message in crossing.items():
        values = np.asarray(message)
        assert np.isin(values.ravel(), readings).mean() < 0.002, kind
        for labels in y:
            for number in (np.uint8, np.int32, np.int64, np.float32):
                assert labels.astype(number).tobytes() not in values.tobytes(), kind
    there = np.asarray(crossing["activations"])[..., -2:]
    assert (there == cut.clip).all(), "which modalities there are is sent, and nothing else of x"
