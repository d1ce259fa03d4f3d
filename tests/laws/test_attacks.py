"""The exam of every attack, found through the catalog: nothing here names one but the toys at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lazaretto import catalog
from lazaretto.attack.adaptive import harm
from lazaretto.attack_types import Attack, AttackContext
from lazaretto.chain import rule_of
from lazaretto.errors import InputError
from lazaretto.evaluate.operating import score_counts, threshold_from_counts
from lazaretto.keys import generator
from lazaretto.plan_robustness_checks import CHAINS
from lazaretto.round import Arrived, aggregate_round

LARGEST = 1e12  # what may be sent: sums of squares of a million such numbers still fit float32
EVERY = {name: catalog.build("attacks", name) for name in catalog.names("attacks")}
ON_UPDATES = [name for name, attack in EVERY.items() if attack.craft is not None]
ON_DATA = [name for name, attack in EVERY.items() if attack.poison is not None]
ON_COUNTS = [name for name, attack in EVERY.items() if attack.counts is not None]
ON_SCORES = [name for name, attack in EVERY.items() if attack.scores is not None]
# every n from 2 to 40; none, one, about 30 % and half of them hostile
SIZES = sorted({(n, f) for n in range(2, 41) for f in (0, 1, int(0.3 * n), n // 2)})


def context(rows: np.ndarray | None = None) -> AttackContext:
    """A round in the middle, with a rule that does not mind the order: the mean."""
    previous = None if rows is None else rows.mean(axis=0)
    return AttackContext(round_number=3, rounds=9, previous=previous, judge=lambda rows: rows.mean(axis=0))


def updates(n: int, f: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rows = 0.3 + generator(seed, "attacks", n, d).standard_normal((n, d))
    return rows[: n - f], rows[n - f :]


@pytest.mark.parametrize("name", EVERY)
def test_its_claims(name: str) -> None:
    attack = EVERY[name]
    assert attack.name == name
    assert attack.knows in ("own", "honest", "rule")
    there = {
        "updates": attack.craft,
        "data": attack.poison,
        "scaling": attack.counts,
        "scores": attack.scores,
    }
    assert there[attack.kind] is not None
    assert attack.kind == "updates" or attack.craft is None
    assert attack.kind == "scaling" or attack.counts is None
    assert attack.kind == "scores" or attack.scores is None
    assert attack.kind not in ("scaling", "scores") or attack.poison is None


@pytest.mark.parametrize("name", ON_UPDATES)
@pytest.mark.parametrize("d", [1, 6])
def test_shape_kind_finite_inputs_untouched_the_same_again(name: str, d: int) -> None:
    attack = EVERY[name]
    for n, f in SIZES:
        honest, own = updates(n, f, d)
        held = honest.copy(), own.copy()
        found = [attack.craft(honest, own, context(honest), generator(1, n)) for _ in range(2)]
        np.testing.assert_array_equal(honest, held[0])
        np.testing.assert_array_equal(own, held[1])
        assert found[0].shape == (f, d), (n, f)
        assert found[0].dtype == np.float32
        assert np.isfinite(found[0]).all()
        np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("name", ON_UPDATES)
@pytest.mark.parametrize("d", [1, 5])
def test_odd_updates_are_answered_with_finite_ones(name: str, d: int) -> None:
    """Nobody honest, a single one, all alike, all zero, very large, very small; with and without a past."""
    rng = generator(2, "odd")
    row = rng.standard_normal(d)
    own = rng.standard_normal((3, d))
    for honest in (
        np.zeros((0, d)),
        row[None],
        np.repeat(row[None], 7, axis=0),
        np.zeros((7, d)),
        1e30 * rng.standard_normal((7, d)),
        1e-30 * rng.standard_normal((7, d)),
    ):
        for mine in (own, np.zeros((3, d)), 1e30 * own):
            for past in (None, mine):
                sent = EVERY[name].craft(honest, mine, context(past), rng)
                assert sent.shape == (3, d)
                assert np.isfinite(sent).all()
                assert (np.abs(sent) <= np.float32(LARGEST)).all()


@pytest.mark.parametrize("name", ON_UPDATES)
@pytest.mark.parametrize("d", [1, 8])
def test_the_order_of_honest_sites_does_not_matter(name: str, d: int) -> None:
    # two honest sites lie equally far from their mean but for rounding: many of those
    for seed, n, f in [(3, 2, 1), (3, 9, 3), (3, 20, 6), (3, 40, 20), *((seed, 3, 1) for seed in range(40))]:
        honest, own = updates(n, f, d, seed=seed)
        past = context(own)
        plain = EVERY[name].craft(honest, own, past, generator(4, "order"))
        for order in (np.arange(n - f)[::-1], generator(5, "order").permutation(n - f)):
            again = EVERY[name].craft(honest[order], own, past, generator(4, "order"))
            np.testing.assert_allclose(again, plain, rtol=1e-5, atol=1e-6, err_msg=f"{seed}, {n}, {f}")


@pytest.mark.parametrize("name", ON_UPDATES)
def test_what_it_says_it_does_not_know_makes_no_difference(name: str) -> None:
    """Who knows only its own sends the same whatever the honest ones' numbers; and only one uses the rule."""
    attack = EVERY[name]
    honest, own = updates(12, 4, 5)
    told = context(own)
    sent = attack.craft(honest, own, told, generator(6))
    if attack.knows == "own":
        np.testing.assert_array_equal(attack.craft(honest * 7 - 2, own, told, generator(6)), sent)
    if attack.knows == "rule":
        with pytest.raises(InputError, match=r"know the rule(.|\n)*way out"):
            attack.craft(honest, own, told._replace(judge=None), generator(6))
    else:
        np.testing.assert_array_equal(
            attack.craft(honest, own, told._replace(judge=None), generator(6)), sent
        )


@pytest.mark.parametrize("name", ON_UPDATES)
def test_it_moves_the_plain_mean(name: str) -> None:
    """Away from where it would lie if the hostile sites were honest, by more than rounding."""
    honest, own = updates(20, 6, 30, seed=7)
    past, _ = updates(20, 6, 30, seed=8)
    sent = EVERY[name].craft(honest, own, context(past), generator(8))
    moved = np.concatenate([honest, sent]).mean(axis=0) - np.concatenate([honest, own]).mean(axis=0)
    assert np.linalg.norm(moved) > 0.05 * np.linalg.norm(honest.mean(axis=0))


def streams(u: int, length: int, features: int, kinds: int) -> tuple[np.ndarray, np.ndarray]:
    rng = generator(9, "streams", u, length, features)
    y = np.where(rng.random((u, length)) < 0.4, rng.integers(1, kinds + 1, (u, length)), 0) if kinds else 0
    x = rng.standard_normal((u, length, features)).astype(np.float32)
    return x, np.broadcast_to(y, (u, length)).astype(np.int64)


@pytest.mark.parametrize("name", ON_DATA)
@pytest.mark.parametrize("shape", [(5, 24, 6, 3), (3, 7, 1, 1), (4, 10, 2, 0), (1, 1, 3, 2), (0, 8, 3, 2)])
def test_poisoned_streams_keep_their_shape_and_range(name: str, shape: tuple[int, int, int, int]) -> None:
    x, y = streams(*shape)
    held = x.copy(), y.copy()
    found = [EVERY[name].poison(x, y, shape[3], generator(10)) for _ in range(2)]
    np.testing.assert_array_equal(x, held[0])
    np.testing.assert_array_equal(y, held[1])
    new_x, new_y = found[0]
    assert new_x.shape == x.shape
    assert new_x.dtype == np.float32
    assert np.isfinite(new_x).all()
    assert new_y.shape == y.shape
    assert new_y.dtype == np.int64
    assert ((new_y >= 0) & (new_y <= shape[3])).all()
    for one, again in zip(*found, strict=True):
        np.testing.assert_array_equal(one, again)


@pytest.mark.parametrize("name", ON_DATA)
def test_poison_hides_attacks(name: str) -> None:
    x, y = streams(8, 64, 6, 3)
    _, new = EVERY[name].poison(x, y, 3, generator(11))
    assert ((y > 0) & (new == 0)).sum() >= 0.2 * (y > 0).sum()


@pytest.mark.parametrize("name", ON_COUNTS)
def test_counts_stay_within_the_cap(name: str) -> None:
    for own in (np.zeros((3, 11), np.int64), generator(12).multinomial(1000, np.ones(11) / 11, 3)):
        held = own.copy()
        said = EVERY[name].counts(own, 1000, generator(13))
        np.testing.assert_array_equal(own, held)
        np.testing.assert_array_equal(EVERY[name].counts(own, 1000, generator(13)), said)
        assert said.shape == own.shape
        assert said.dtype == np.int64
        assert (said >= 0).all()
        assert (said.sum(axis=1) <= 1000).all()
        assert not np.array_equal(said, own)


@pytest.mark.parametrize("name", ON_SCORES)
@pytest.mark.parametrize("n", [0, 1, 2, 700])
@pytest.mark.parametrize("scale", [0.0, 1e-6, 1.0, 1e30])
def test_said_scores_are_as_many_and_finite(name: str, n: int, scale: float) -> None:
    own = (scale * generator(16, "scores", n).standard_normal(n)).astype(np.float32)
    held = own.copy()
    said = EVERY[name].scores(own, generator(17))
    np.testing.assert_array_equal(own, held)
    np.testing.assert_array_equal(EVERY[name].scores(own, generator(17)), said)
    assert said.shape == (n,)
    assert said.dtype == np.float32
    assert np.isfinite(said).all()


@pytest.mark.parametrize("name", ON_SCORES)
def test_said_scores_move_a_summed_threshold(name: str) -> None:
    """Of 20 sites six lie: what passes at the honest ones is no longer the twentieth that was asked."""
    scores = generator(18, "scores").standard_normal((20, 500)).astype(np.float32)
    lied = [EVERY[name].scores(own, generator(19, site)) for site, own in enumerate(scores[:6])]
    passed = []
    for told in ([*scores], [*lied, *scores[6:]]):
        threshold = threshold_from_counts(np.sum([score_counts(own) for own in told], axis=0), 0.05)
        passed.append(float((scores[6:] > threshold).mean()))
    assert passed[0] == pytest.approx(0.05, abs=0.005)
    assert abs(passed[1] - passed[0]) > 0.2 * passed[0]


# --- an attack is one file; the one that knows the rule takes it up -------------------------------------

TOY = '''
"""A toy."""
from lazaretto.attack_types import Attack


def shouting(times: float = 1e6) -> Attack:
    """Sends the opposite of its own update, a million times as large."""
    return Attack(
        name="shouting", kind="updates", knows="own",
        craft=lambda honest, own, context, rng: (-times * own).astype("float32"),
    )
'''


def test_a_new_file_is_an_attack_and_a_try_of_those_who_know_the_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    knowing = [attack for attack in EVERY.values() if attack.knows == "rule"]
    assert knowing
    honest, own = updates(10, 3, 4)
    before = [attack.craft(honest, own, context(), generator(14)) for attack in knowing]
    (tmp_path / "attack").mkdir()
    (tmp_path / "attack" / "shouting.py").write_text(TOY, encoding="utf-8")
    monkeypatch.setenv("LAZARETTO_PATH", str(tmp_path))
    made: Attack = catalog.build("attacks", "shouting")
    assert catalog.describe("attacks", "shouting").startswith("Sends the opposite")
    assert made.name in catalog.names("attacks")
    for attack, sent in zip(knowing, before, strict=True):
        louder = attack.craft(honest, own, context(), generator(14))
        assert np.linalg.norm(louder) > 1e4 * np.linalg.norm(sent)


# --- who knows the rule is never outdone by who does not ------------------------------------------------


def mean(rows: np.ndarray) -> np.ndarray:
    return rows.mean(axis=0)


def median(rows: np.ndarray) -> np.ndarray:
    return np.array([sorted(column)[len(column) // 2] for column in rows.T])


def krum(rows: np.ndarray) -> np.ndarray:
    """The update nearest to its n - f - 2 nearest neighbours, f = 30 % (Blanchard et al. 2017), by loops."""
    n = len(rows)
    near = max(n - int(0.3 * n) - 2, 1)
    scores = []
    for i in range(n):
        others = sorted(
            sum((a - b) ** 2 for a, b in zip(rows[i], rows[j], strict=True)) for j in range(n) if j != i
        )
        scores.append(sum(others[:near]))
    return rows[int(np.argmin(scores))]


def short(rows: np.ndarray) -> np.ndarray:
    """The mean of updates cut to length 1."""
    return np.mean([row / max(1.0, float(np.linalg.norm(row))) for row in rows], axis=0)


@pytest.mark.parametrize("fixed", [name for name in ON_UPDATES if EVERY[name].knows != "rule"])
def test_who_knows_the_rule_finds_each_fixed_attack_where_it_alone_harms(fixed: str) -> None:
    """A rule that falls for one attack only, to the bit and to its random numbers: then that is sent."""
    honest, own = updates(11, 4, 5, seed=30)
    told = AttackContext(round_number=2, rounds=5, previous=own.mean(axis=0))
    weak = EVERY[fixed].craft(honest, own, told, generator(15, "same"))

    def rule(rows: np.ndarray) -> np.ndarray:
        middle = honest.mean(axis=0)
        return -middle if np.array_equal(rows[7:].astype(np.float32), weak) else middle

    for attack in (attack for attack in EVERY.values() if attack.knows == "rule"):
        sent = attack.craft(honest, own, told._replace(judge=rule), generator(15, "same"))
        np.testing.assert_array_equal(sent, weak)


@pytest.mark.parametrize("rule", [mean, median, krum, short], ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("measure", ["against", "distance"])
def test_who_knows_the_rule_harms_no_less_than_every_fixed_attack(rule, measure: str) -> None:
    for seed, n, f, d in [(0, 10, 3, 4), (1, 7, 2, 3), (2, 5, 1, 1)]:
        honest, own = updates(n, f, d, seed=20 + seed)
        told = AttackContext(round_number=2, rounds=5, previous=honest.mean(axis=0), judge=rule)

        def harmed(sent: np.ndarray, honest: np.ndarray = honest) -> float:
            return harm(rule(np.concatenate([honest, sent.astype(np.float64)])), honest, measure)

        fixed = {
            name: harmed(EVERY[name].craft(honest, own, told, generator(seed, "same")))
            for name in ON_UPDATES
            if EVERY[name].knows != "rule"
        }
        for name in (name for name in ON_UPDATES if EVERY[name].knows == "rule"):
            attack = catalog.build("attacks", name, {"measure": measure})
            reached = harmed(attack.craft(honest, own, told, generator(seed, "same")))
            assert reached >= max(fixed.values()), (fixed, reached)
            assert reached > harmed(own), "and more than by taking part honestly"


RULES = [name for name in catalog.names("rules") if not rule_of(name, {}).mixes]


@pytest.mark.parametrize("name", [*RULES, *CHAINS])
@pytest.mark.parametrize("measure", ["against", "distance"])
def test_nor_does_any_rule_of_the_catalog_suffer_more_from_a_fixed_attack(name: str, measure: str) -> None:
    """What a coordinator would make of it, in a round with a past: a state, public rows, sums of updates."""
    rule = rule_of(name, {})
    for seed, n, f in [(0, 12, 3), (1, 9, 2)]:
        honest, own = updates(n, f, 6, seed=40 + seed)
        before = np.concatenate(updates(n, f, 6, seed=50 + seed)).astype(np.float32)
        public = {"previous": before.mean(axis=0), "root": honest.mean(axis=0).astype(np.float32)}

        def made(
            rows: np.ndarray, state: Any, past: np.ndarray = before, public: Any = public, n: int = n
        ) -> Any:
            sums = past.astype(np.float64) + rows if rule.history else None
            arrived = Arrived(rows.astype(np.float32), np.ones(n), np.arange(n), sums)
            return aggregate_round(rule, arrived, public, state, generator(0, "rule"))

        state = made(before, rule.start(n)).state

        def judge(rows: np.ndarray, state: Any = state, made: Any = made) -> np.ndarray:
            update: np.ndarray = made(rows, state).update
            return update

        told = AttackContext(round_number=2, rounds=5, previous=public["previous"], judge=judge)

        def harmed(sent: np.ndarray, honest: np.ndarray = honest, judge: Any = judge) -> float:
            return harm(judge(np.concatenate([honest, sent.astype(np.float64)])), honest, measure)

        fixed = {
            one: harmed(EVERY[one].craft(honest, own, told, generator(seed, "same")))
            for one in ON_UPDATES
            if EVERY[one].knows != "rule"
        }
        for one in (one for one in ON_UPDATES if EVERY[one].knows == "rule"):
            attack = catalog.build("attacks", one, {"measure": measure})
            reached = harmed(attack.craft(honest, own, told, generator(seed, "same")))
            assert reached >= max(*fixed.values(), harmed(own)), (fixed, reached)
