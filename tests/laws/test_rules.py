"""The exam of every rule, found through the catalog, alone and in chains: nothing here names one.

A pre-aggregator sits it in front of a rule of sums, and every rule sits it behind every pre-aggregator.
"""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lazaretto import catalog
from lazaretto.chain import chain, rule_of
from lazaretto.errors import InputError, PlanError
from lazaretto.gram import inner_products
from lazaretto.keys import generator
from lazaretto.round import Aggregated, Arrived, aggregate_round
from lazaretto.run.saved import load_arrays, save_arrays
from lazaretto.types import Gram, Rule

FOUND: dict[str, Rule] = {name: catalog.build("rules", name) for name in catalog.names("rules")}
MIXERS = [rule for rule in FOUND.values() if rule.mixes]
ENDS = [rule for rule in FOUND.values() if not rule.mixes]
SUM = next(rule for rule in ENDS if rule.sees == "sum")
ALONE = {rule.name: rule if rule in ENDS else chain(rule, SUM) for rule in FOUND.values()}
CHAINS = {made.name: made for made in (chain(mixer, end) for mixer in MIXERS for end in ENDS)}
ALL = ALONE | CHAINS
D = 60


@pytest.fixture(params=FOUND, scope="module")
def rule(request: pytest.FixtureRequest) -> Rule:
    """As the catalog gives it."""
    return FOUND[request.param]


@pytest.fixture(params=ALL, scope="module")
def whole(request: pytest.FixtureRequest) -> Rule:
    """Alone, or as a chain that ends."""
    return ALL[request.param]


def sizes(count: int) -> Any:
    return generator(0, "sizes", count).integers(1, 500, count).astype(np.float64)


def updates(n: int, seed: int = 0) -> Any:
    """[n, D] float32 around a common direction; sixty-fourths: moving and stretching them is exact."""
    rng = generator(seed, "updates", n)
    return (np.round(64 * (0.5 + 0.4 * rng.standard_normal((n, D)))) / 64).astype(np.float32)


def known(seed: int = 0) -> dict[str, Any]:
    """Public rows."""
    last, root = updates(2, seed + 100)
    return {"previous": last / 2, "root": root}


def play(rule: Rule, X: Any, public: Any = None, sites: Any = None, **more: Any) -> Aggregated:
    """A round of equal sites; every site's history is twice what it sends."""
    n = len(X)
    sites = np.arange(n) if sites is None else sites
    past = 2.0 * X.astype(np.float64) if rule.history else None
    arrived = Arrived(X, more.get("sizes", np.ones(n)), sites, past)
    state = more.get("state", rule.start(n))
    return aggregate_round(
        rule, arrived, known() if public is None else public, state, generator(more.get("seed", 0), "draw")
    )


def update_of(*given: Any, **more: Any) -> Any:
    found = play(*given, **more).update
    assert found is not None
    return found


def seen_by(rule: Rule, X: Any, sites: Any) -> Gram:
    """What a rule of inner products gets."""
    public = {**known(), "zero": np.zeros(D)}
    rows = np.array([public[name] for name in rule.public]).reshape(-1, D)
    past = inner_products(2.0 * X) if rule.history else None
    return Gram(inner_products(X, rows), np.ones(len(X)), sites, rule.public, past)


def test_its_claims(rule: Rule) -> None:
    assert rule.name in catalog.names("rules")
    assert rule.sees in ("sum", "gram", "rows")
    says = {"sum": rule.weigh, "gram": rule.gram, "rows": rule.rows}
    assert [name for name, function in says.items() if function is not None] == [rule.sees]
    assert all(0 <= rule.tolerates(n) < max(n, 1) for n in range(1, 40))
    assert all(1 / n <= rule.most_on_one(n) for n in range(1, 40))
    assert set(rule.public) <= {"zero", "previous", "root"}
    assert rule.equivariance <= {"translation", "scale"}
    assert rule.sees == "gram" or not (rule.mixes or rule.public or rule.history)


def test_its_example_runs(rule: Rule) -> None:
    package, _ = catalog.FAMILIES["rules"]
    module = importlib.import_module(f"{package}.{rule.name}")
    found = doctest.testmod(module)
    assert found.attempted >= 2
    assert found.failed == 0


@pytest.mark.parametrize("name", [name for name, made in FOUND.items() if made.sees == "sum"])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_weights_of_a_sum_add_up_and_follow_the_sites(name: str, count: int) -> None:
    given, weigh = sizes(count), FOUND[name].weigh
    assert weigh is not None
    before = given.copy()
    weights = np.asarray(weigh(given))
    np.testing.assert_array_equal(given, before)
    assert weights.shape == (count,)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(np.asarray(weigh(given[::-1])), weights[::-1], rtol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 12])
def test_shapes_ranges_and_inputs_left_alone(whole: Rule, n: int) -> None:
    X, public, state = updates(n), known(), whole.start(n)
    held = X.copy(), {name: row.copy() for name, row in public.items()}
    kept = {name: np.copy(value) for name, value in state.items()}
    one = play(whole, X, public, sizes=sizes(n), state=state)
    two = play(whole, X, public, sizes=sizes(n), state=state)
    np.testing.assert_array_equal(X, held[0])
    for name, row in public.items():
        np.testing.assert_array_equal(row, held[1][name])
    assert state.keys() == kept.keys() == one.state.keys()
    for name, value in state.items():
        np.testing.assert_array_equal(value, kept[name])
    assert one.update is not None
    assert one.update.shape == (D,)
    assert one.update.dtype == np.float64
    assert np.isfinite(one.update).all()
    assert one.suspicion.shape == (n,)
    assert ((one.suspicion >= 0) & (one.suspicion <= 1)).all()
    np.testing.assert_array_equal(one.update, two.update)
    np.testing.assert_array_equal(one.suspicion, two.suspicion)


@pytest.mark.parametrize("n", [1, 2, 7, 12])
def test_weights_make_the_aggregate_and_none_is_larger_than_claimed(whole: Rule, n: int) -> None:
    for seed in range(5):
        X, public = updates(n, seed), {**known(), "zero": np.zeros(D)}
        found = play(whole, X, public, seed=seed)
        assert (found.weights is None) == (whole.sees == "rows")
        if found.weights is None:
            continue
        rows = np.array([*X, *(public[name] for name in whole.public)], np.float64)
        np.testing.assert_allclose(found.weights @ rows, found.update, rtol=1e-10, atol=1e-12)
        assert np.abs(found.weights[:n]).max() <= whole.most_on_one(n) * (1 + 1e-9)


@pytest.mark.parametrize("n", [2, 7, 12])
def test_the_order_of_rows_does_not_matter(rule: Rule, n: int) -> None:
    """Of the rule itself: sites keep their numbers, rows change places."""
    X, order, sites = updates(n), generator(1, "order").permutation(n), np.arange(n) * 3 + 1
    rng = [generator(0, "draw") for _ in range(2)]
    if rule.rows is not None:
        one = rule.rows(X, np.ones(n), rule.start(n), rng[0])
        two = rule.rows(X[order], np.ones(n), rule.start(n), rng[1])
        np.testing.assert_allclose(two[0], one[0], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(two[1], one[1][order], atol=1e-9)
    elif rule.gram is not None:
        a = rule.gram(seen_by(rule, X, sites), rule.start(n), rng[0])
        b = rule.gram(seen_by(rule, X[order], sites[order]), rule.start(n), rng[1])
        places = np.concatenate([order, np.arange(n, a.weights.shape[1])])
        if rule.mixes:  # rows may follow the sites, or not
            found, expected = (
                np.array(sorted(w.round(9).tolist())) for w in (b.weights, a.weights[:, places])
            )
            np.testing.assert_allclose(found, expected, atol=1e-8)
        else:
            np.testing.assert_allclose(b.weights, a.weights[:, places], rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(b.suspicion, a.suspicion[order], atol=1e-7)


@pytest.mark.parametrize("n", [2, 7])
def test_a_round_forgets_the_order_in_which_updates_came(whole: Rule, n: int) -> None:
    X, order, weight = updates(n), generator(2, "order").permutation(n), sizes(n)
    one = play(whole, X, sizes=weight)
    two = play(whole, X[order], sites=order, sizes=weight[order])
    np.testing.assert_array_equal(one.update, two.update)
    np.testing.assert_array_equal(one.suspicion[order], two.suspicion)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 12])
def test_equal_updates_are_agreed_on(whole: Rule, n: int) -> None:
    X = np.repeat(updates(1), n, axis=0)
    found = play(whole, X)
    if whole.agrees:
        np.testing.assert_allclose(found.update, X[0], rtol=1e-6, atol=1e-9)
    assert found.update is not None
    assert np.linalg.norm(found.update) <= 1.01 * np.linalg.norm([*X, *known().values()], axis=1).max()


@pytest.mark.parametrize("n", [1, 2, 7])
def test_it_moves_with_what_it_sees_where_it_says_so(whole: Rule, n: int) -> None:
    X, public = updates(n), known()
    one = update_of(whole, X, public)
    moved = np.float32(20.0) * np.sign(updates(1, 9)[0])
    if "translation" in whole.equivariance:
        there = update_of(whole, X + moved, {name: row + moved for name, row in public.items()})
        np.testing.assert_allclose(there, one + moved, atol=1e-7)
    if "scale" in whole.equivariance:
        for factor in (np.float32(2**-12), np.float32(2**9)):
            there = update_of(whole, X * factor, {name: row * factor for name, row in public.items()})
            np.testing.assert_allclose(there, one * factor, rtol=1e-6, atol=1e-9 * factor)


HOSTILE = ("together", "apart", "against", "absurd")  # the last at 1e30, the others at 1e6


def attacked(n: int, f: int, how: str, where: str) -> tuple[Any, Any]:
    """n updates of which f are moved far away, and which of them are honest."""
    X, rng = updates(n), generator(5, "hostile", n)
    rows = {"first": np.arange(f), "last": np.arange(n - f, n), "shuffled": rng.permutation(n)[:f]}[where]
    away = rng.standard_normal((f, D))
    if how in ("together", "absurd"):
        away[:] = away[:1]
    if how == "against":
        away = -np.repeat(X.mean(axis=0)[None], f, axis=0)
    size = 1e30 if how == "absurd" else 1e6
    X[rows] += (size * away / np.linalg.norm(away, axis=1, keepdims=True)).astype(np.float32)
    return X, np.setdiff1d(np.arange(n), rows)


def reach(rule: Rule, honest: Any, n: int) -> float:
    """How far from the honest mean a robust rule may go: 2(n - f) / (n - 2f) radii.

    That is what the geometric median owes (Lopuhaä & Rousseeuw 1991, https://doi.org/10.1214/aos/1176347978).
    The radius takes in the public rows that the rule sees, and the origin where it is not free of it.
    """
    middle, f = honest.mean(axis=0), n - len(honest)
    within = [*honest, *(known()[name] for name in rule.public if name != "zero")]
    within += [] if "translation" in rule.equivariance else [np.zeros(D), 2 * middle]
    return float(2 * (n - f) / max(n - 2 * f, 1) * np.linalg.norm(np.array(within) - middle, axis=1).max())


@pytest.mark.parametrize("where", ["first", "last", "shuffled"])
@pytest.mark.parametrize("how", HOSTILE)
def test_it_withstands_as_many_as_it_says(whole: Rule, how: str, where: str) -> None:
    for n in (1, 2, 4, 7, 13, 20):
        f = whole.tolerates(n)
        X, honest = attacked(n, f, how, where)
        for seed in range(2):
            away = np.linalg.norm(update_of(whole, X, seed=seed) - X[honest].mean(axis=0))
            assert away <= reach(whole, X[honest], n), f"n = {n}, f = {f}"


@pytest.mark.parametrize("how", ["together", "against"])
def test_a_hostile_group_is_suspected_and_honest_sites_less(whole: Rule, how: str) -> None:
    """Of hostile updates far apart from each other a rule may limit the harm without telling whose it is."""
    n = 20
    f = whole.tolerates(n)
    assert play(whole, updates(n)).suspicion.mean() < 0.6, "nobody is hostile"
    if f == 0:
        return
    X, honest = attacked(n, f, how, "shuffled")
    found = play(whole, X).suspicion
    hostile = np.setdiff1d(np.arange(n), honest)
    assert found[hostile].min() > 0.2
    assert found[hostile].mean() > found[honest].mean() + 0.2


def test_a_rule_that_claims_nothing_of_sums_is_moved_by_one(rule: Rule) -> None:
    """So the law above can fail: a plain mean goes wherever one site wants."""
    X, honest = attacked(20, 1, "together", "last")
    away = np.linalg.norm(update_of(SUM, X) - X[honest].mean(axis=0))
    assert away > 100 * reach(SUM, X[honest], 20)
    if rule.sees == "sum":
        assert rule.tolerates(20) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_update_that_is_not_finite_is_dropped_and_reported(whole: Rule, value: float) -> None:
    X, rest = updates(8), np.array([0, 1, 2, 4, 5, 6, 7])
    X[3, 5] = value
    found, without = play(whole, X), play(whole, X[rest], sites=rest)
    np.testing.assert_array_equal(found.update, without.update)
    np.testing.assert_array_equal(found.dropped, np.arange(8) == 3)
    assert found.suspicion[3] == 1
    np.testing.assert_array_equal(found.suspicion[rest], without.suspicion)
    if found.weights is not None:
        assert found.weights[3] == 0
    with pytest.raises(InputError, match=r"no update is finite.*NaN"):
        play(whole, np.full((2, D), value, np.float32))


def test_who_has_no_data_has_no_say(whole: Rule) -> None:
    X, rest = updates(5), np.array([0, 2, 3, 4])
    X[1] = 1e6
    found = play(whole, X, sizes=np.array([1.0, 0, 1, 1, 1]))
    np.testing.assert_array_equal(found.update, update_of(whole, X[rest], sites=rest))
    assert found.suspicion[1] == 0
    assert play(whole, X, sizes=np.zeros(5)).update is None


def test_updates_of_any_size_pass_without_a_warning(whole: Rule) -> None:
    for size in (0.0, 1e-30, 1e30):
        X = updates(6) * np.float32(size)
        assert np.isfinite(update_of(whole, X)).all()
        X[2] = 1e35
        assert np.isfinite(update_of(whole, X)).all()


def test_what_it_keeps_can_be_put_away(whole: Rule, tmp_path: Path) -> None:
    """Through a file as of a checkpoint; other sites in the second round."""
    first = play(whole, updates(6), state=whole.start(9)).state
    save_arrays(tmp_path / "state", {name: np.asarray(value) for name, value in first.items()}, {})
    kept, _ = load_arrays(tmp_path / "state")
    assert kept.keys() == first.keys()
    second = [play(whole, updates(5, 1), sites=np.arange(4, 9), state=state) for state in (first, kept)]
    np.testing.assert_array_equal(second[0].update, second[1].update)
    for name, value in second[0].state.items():
        np.testing.assert_array_equal(value, second[1].state[name])


@pytest.mark.parametrize("mixer", MIXERS, ids=lambda mixer: str(mixer.name))
def test_a_pre_aggregator_says_how_much_it_gives_away(mixer: Rule) -> None:
    assert mixer.gram is not None
    for n in (1, 2, 3, 7, 12):
        counts = set()
        for seed in range(4):
            seen = seen_by(mixer, updates(n, seed), np.arange(n) + seed)
            found = mixer.gram(seen, mixer.start(n), generator(seed, "draw"))
            counts.add(len(found.weights))
            assert np.abs(found.weights[:, :n]).sum(axis=0).max() <= mixer.most_on_one(n) * (1 + 1e-9)
        assert len(counts) == 1


@pytest.mark.parametrize("mixer", MIXERS, ids=lambda mixer: str(mixer.name))
def test_a_chain_is_its_rules_one_after_the_other(mixer: Rule) -> None:
    """The mixed updates, laid out and given to the next rule, give what the chain says of inner products."""
    X = updates(9)
    assert mixer.gram is not None
    mixed = (
        mixer.gram(seen_by(mixer, X, np.arange(9)), mixer.start(9), generator(0, "draw")).weights[:, :9] @ X
    )
    for end in ENDS:
        made = chain(mixer, end)
        assert made.sees == ("rows" if end.sees == "rows" else "gram")
        assert (made.public, made.history) == (end.public, end.history)
        if end.history:  # of the mixed, it is mixed as well
            continue
        rng = generator(0, "draw")
        mixer.gram(seen_by(mixer, X, np.arange(9)), mixer.start(9), rng)  # has drawn what it draws
        arrived = Arrived(mixed, np.ones(len(mixed)), np.arange(len(mixed)))
        apart = aggregate_round(end, arrived, known(), end.start(9), rng).update
        np.testing.assert_allclose(update_of(made, X), apart, rtol=1e-6, atol=1e-8, err_msg=made.name)


def test_chains_that_make_no_sense_are_refused() -> None:
    end, mixer = ENDS[0].name, MIXERS[0].name
    with pytest.raises(PlanError, match=f"'{end}' makes one of all updates"):
        rule_of(f"{end} | {end}", {})
    with pytest.raises(PlanError, match="table of options for each part"):
        rule_of(f"{mixer} | {end}", {"hostile": 0.2})
    with pytest.raises(PlanError, match="unknown rule"):
        rule_of(f"{mixer} | | {end}", {})
    with pytest.raises(PlanError, match="only mixes updates"):
        aggregate_round(MIXERS[0], Arrived(updates(3), np.ones(3), np.arange(3)), {}, {}, generator(0))


def test_options_of_a_chain_reach_their_part() -> None:
    for mixer in MIXERS:
        text = f" {mixer.name}|{SUM.name}"
        assert rule_of(text, {mixer.name: {}}).name == f"{mixer.name} | {SUM.name}"
        with pytest.raises(PlanError, match=f"rule '{mixer.name}' has no option"):
            rule_of(text, {mixer.name: {"no_such": 1}})


SLACK = {name: catalog.build("rules", name, {"slack": 1.0}) for name in ("multi_krum",)}
SLACK |= {f"{mixer.name} | {name}": chain(mixer, SLACK[name]) for mixer in MIXERS for name in ("multi_krum",)}


@pytest.mark.parametrize("name", SLACK)
@pytest.mark.parametrize("n", [1, 2, 4, 7, 13, 20])
def test_with_slack_a_hostile_group_at_its_best_distance_gains_no_more_than_that(name: str, n: int) -> None:
    """Together, at forty distances from next to nothing to out of sight: within 1 + slack times the claim."""
    made, none = SLACK[name], ALL[name] if name in ALL else ALONE[name]
    f = made.tolerates(n)
    assert f == none.tolerates(n)
    honest, rng = updates(n - f), generator(6, "slack", n)
    way = rng.standard_normal(D) / np.sqrt(D)
    far, usual = [], []
    for distance in np.geomspace(0.01, 1e6, 40):
        theirs = honest.mean(axis=0) + np.float32(distance) * way.astype(np.float32)
        X = np.concatenate([honest, np.repeat(theirs[None], f, axis=0)]).astype(np.float32)
        for found, rule in ((far, made), (usual, none)):
            found.append(float(np.linalg.norm(update_of(rule, X) - honest.mean(axis=0))))
    assert max(far) <= 2.0 * reach(none, honest, n)
    assert far[-1] <= reach(none, honest, n), "who is out of sight is left out as without it"
    if f and n >= 7 and name == "multi_krum":
        assert max(far) > max(usual), "slack is not for nothing"
