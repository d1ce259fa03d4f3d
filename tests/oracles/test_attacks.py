"""Attacks against their papers' formulas, worked by hand or by slow loops."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression

from lazaretto.attack.adaptive import adaptive, harm
from lazaretto.attack.alie import alie, largest_z
from lazaretto.attack.backdoor import apply_trigger, backdoor
from lazaretto.attack.foe import foe
from lazaretto.attack.free_rider import free_rider
from lazaretto.attack.gaussian import gaussian
from lazaretto.attack.label_flip import label_flip
from lazaretto.attack.mimic import mimic
from lazaretto.attack.min_max import min_max
from lazaretto.attack.min_sum import min_sum
from lazaretto.attack.model_replacement import model_replacement
from lazaretto.attack.scale_poisoning import scale_poisoning
from lazaretto.attack.sign_flip import sign_flip
from lazaretto.attack.threshold_poisoning import threshold_poisoning
from lazaretto.attack_types import AttackContext
from lazaretto.data.scaling import TOTAL, apply_scaling, bucket_counts, scaling_from_counts, sum_counts
from lazaretto.errors import InputError
from lazaretto.evaluate.operating import score_counts, threshold_from_counts
from lazaretto.evaluate.threshold_votes import median_threshold, own_threshold
from lazaretto.keys import generator

NOW = AttackContext(round_number=2, rounds=5)


def sites(n: int = 20, f: int = 6, d: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rows = 0.5 + generator(seed, "oracle", n, d).standard_normal((n, d))
    return rows[: n - f], rows[n - f :]


def test_z_of_24_hostile_among_50() -> None:
    """s = ⌊50/2 + 1⌋ − 24 = 2, (50 − 24 − 2)/(50 − 24) = .9231; a normal table has Φ(1.42) = .9222 and
    Φ(1.43) = .9236."""
    assert 1.42 < largest_z(50, 24) < 1.43
    # 20 sites, 6 hostile: s = 5, 9/14 = .6429; Φ(.36) = .6406, Φ(.37) = .6443
    assert 0.36 < largest_z(20, 6) < 0.37


@pytest.mark.parametrize(("n", "f"), [(n, f) for n in range(2, 41) for f in range(1, n // 2 + 1)])
def test_z_is_the_papers_quantile_or_zero(n: int, f: int) -> None:
    supporters = np.floor(n / 2 + 1) - f
    share = (n - f - supporters) / (n - f)
    z = largest_z(n, f)
    if share > 0.5:
        assert stats.norm.cdf(z) == pytest.approx(share, abs=1e-12)
    else:
        assert z == 0.0, "no room: not a step in the other direction"


def test_alie_is_mean_plus_z_deviations() -> None:
    honest, own = sites()
    z = stats.norm.ppf(9 / 14)
    expected = [sum(c) / 14 + z * (sum((v - sum(c) / 14) ** 2 for v in c) / 14) ** 0.5 for c in honest.T]
    np.testing.assert_allclose(alie().craft(honest, own, NOW, generator(0))[3], expected, rtol=1e-6)
    far = alie(z=-1.5, estimate="own").craft(honest, own, NOW, generator(0))
    np.testing.assert_allclose(far[0], own.mean(axis=0) - 1.5 * own.std(axis=0), rtol=1e-5, atol=1e-6)
    assert alie(estimate="own").knows == "own"


def distances(rows: np.ndarray, to: np.ndarray) -> list[float]:
    return [float(np.sqrt(sum((a - b) ** 2 for a, b in zip(row, to, strict=True)))) for row in rows]


@pytest.mark.parametrize("direction", ["unit", "std", "sign"])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [(20, 6, 12), (7, 3, 1), (4, 2, 5), (40, 12, 200)])
def test_min_max_lies_exactly_at_the_bound(direction: str, seed: int, size: tuple[int, int, int]) -> None:
    honest, own = sites(*size, seed=seed)
    sent = min_max(direction).craft(honest, own, NOW, generator(0))
    apart = max(max(distances(honest, row)) for row in honest)
    assert max(distances(honest, sent[0].astype(float))) == pytest.approx(apart, rel=1e-5)
    further = honest.mean(axis=0) + 1.01 * (sent[0] - honest.mean(axis=0))
    assert max(distances(honest, further)) > apart, "and a step more would be outside"


@pytest.mark.parametrize("direction", ["unit", "std", "sign"])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [(20, 6, 12), (7, 3, 1), (4, 2, 5), (40, 12, 200)])
def test_min_sum_lies_exactly_at_the_bound(direction: str, seed: int, size: tuple[int, int, int]) -> None:
    honest, own = sites(*size, seed=seed)
    sent = min_sum(direction).craft(honest, own, NOW, generator(0))

    def total(to: np.ndarray) -> float:
        return sum(distance**2 for distance in distances(honest, to))

    assert total(sent[0].astype(float)) == pytest.approx(max(total(row) for row in honest), rel=1e-5)
    # it deviates against what is honest: in the direction named, not the other way round
    deviates = sent[0] - honest.mean(axis=0)
    along = {"unit": honest.mean(axis=0), "std": honest.std(axis=0), "sign": np.sign(honest.mean(axis=0))}
    assert deviates @ along[direction] < 0


def test_min_max_worked_by_hand() -> None:
    """Honest 0 and 2 on a line: mean 1, deviation 1, 2 apart. From 2 the far end of the bound is 0, from 0
    it is −2 (or 2): so 0. min-sum: each honest one has sum 4; (m)² + (m − 2)² = 4 at m = 0."""
    honest, own = np.array([[0.0], [2.0]]), np.array([[5.0]])
    for direction in ("unit", "std", "sign"):
        assert min_max(direction).craft(honest, own, NOW, generator(0))[0, 0] == pytest.approx(0.0, abs=1e-6)
        assert min_sum(direction).craft(honest, own, NOW, generator(0))[0, 0] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 3.0])
def test_foe_points_against_the_honest_mean(epsilon: float) -> None:
    honest, own = sites()
    sent = foe(epsilon).craft(honest, own, NOW, generator(0))
    middle = honest.mean(axis=0)
    assert sent[0] @ middle < 0
    np.testing.assert_allclose(sent, np.repeat(-epsilon * middle[None], 6, axis=0), rtol=1e-6)
    # 14 honest, 6 hostile: the plain mean turns round above 14 / 6
    assert (np.concatenate([honest, sent]).mean(axis=0) @ middle < 0) == (epsilon > 14 / 6)


def test_mimic_copies_the_site_farthest_along_the_main_direction() -> None:
    """Two clouds along one axis, of which one is smaller: its sites lie farther from the common mean."""
    rng = generator(1, "mimic")
    honest = 0.01 * rng.standard_normal((9, 4))
    honest[:6, 2] += 1.0
    honest[6:, 2] -= 1.0
    sent = mimic().craft(honest, np.zeros((2, 4)), NOW, rng)
    _, _, axes = np.linalg.svd(honest - honest.mean(axis=0))
    expected = int(np.argmax(np.abs((honest - honest.mean(axis=0)) @ axes[0])))
    assert expected >= 6
    np.testing.assert_array_equal(
        sent, np.repeat(honest[expected : expected + 1], 2, axis=0).astype(np.float32)
    )
    np.testing.assert_array_equal(
        mimic(row=10).craft(honest, sent, NOW, rng)[0], honest[1].astype(np.float32)
    )


@pytest.mark.parametrize("seed", range(20))
def test_mimic_chooses_by_numbers_where_two_sites_lie_equally_far(seed: int) -> None:
    """Two sites mirror each other, so that rounding, which leans on the order, would choose between them."""
    rng = generator(seed, "ties")
    middle, far, near = rng.standard_normal((3, 6))
    honest = middle + np.stack([2 * far, -2 * far, near / 4, -near / 4])
    chosen = min(honest[:2], key=tuple).astype(np.float32)
    for order in ([0, 1, 2, 3], [1, 0, 3, 2], [2, 1, 3, 0], [3, 2, 0, 1]):
        np.testing.assert_array_equal(mimic().craft(honest[order], honest[:1], NOW, rng)[0], chosen)


def test_sign_flip_and_model_replacement_scale_their_own() -> None:
    honest, own = sites()
    np.testing.assert_allclose(sign_flip(2.0).craft(honest, own, NOW, generator(0)), -2 * own, rtol=1e-6)
    sent = model_replacement().craft(honest, own, NOW, generator(0))
    np.testing.assert_allclose(
        np.concatenate([0 * honest, sent]).mean(axis=0), own.mean(axis=0), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        model_replacement(boost=3.0).craft(honest, own, NOW, generator(0)), 3 * own, rtol=1e-6
    )


def test_gaussian_is_noise_of_the_size_it_says() -> None:
    """10⁵ numbers: the standard error of their deviation is .22 %, the bounds are 4.5 of them."""
    own = np.stack([np.full(100_000, 0.5), np.full(100_000, 2.0)])
    sent = gaussian(10.0).craft(np.zeros((3, 100_000)), own, NOW, generator(2))
    np.testing.assert_allclose(sent.std(axis=1), [5.0, 20.0], rtol=0.01)
    assert abs(np.corrcoef(sent)[0, 1]) < 0.0145, "each site draws its own"


def test_a_free_rider_repeats_the_last_aggregate_and_does_nothing_before_there_is_one() -> None:
    honest, own = sites(d=50_000)
    last = generator(3).standard_normal(50_000)
    context = NOW._replace(previous=last)
    sent = free_rider(noise=0.1).craft(honest, own, context, generator(4))
    np.testing.assert_allclose((sent - last).std(axis=1), 0.1, rtol=0.02)
    assert not np.array_equal(sent[0], sent[1])
    np.testing.assert_array_equal(
        free_rider(noise=0.0).craft(honest, own, context, generator(4))[1], last.astype("f4")
    )
    assert not free_rider().craft(honest, own, NOW, generator(4)).any()
    assert not free_rider("zero").craft(honest, own, context, generator(4)).any()


def test_flipped_labels() -> None:
    y = np.array([[0, 0, 2, 2], [1, 0, 0, 0], [0, 0, 0, 0], [3, 3, 3, 3]])
    x = generator(5).standard_normal((4, 4, 2)).astype(np.float32)
    same, all_turned = label_flip().poison(x, y, 3, generator(6))
    np.testing.assert_array_equal(same, x)
    np.testing.assert_array_equal(all_turned == 0, y > 0)
    for lie, truth in zip(all_turned, y, strict=True):
        assert len(set(lie[truth == 0].tolist())) <= 1, "one family a stream"
    half = label_flip(0.3).poison(x, y, 3, generator(6))[1]
    assert (half != y).all(axis=1).sum() == 2, "3 in 10 of 4, rounded up"
    assert (half == y).all(axis=1).sum() == 2
    np.testing.assert_array_equal(label_flip(0.0).poison(x, y, 3, generator(6))[1], y)


def test_a_trigger_is_put_on_and_nothing_else_changes() -> None:
    x = generator(7).standard_normal((2, 6, 5)).astype(np.float32)
    where = np.array([[True, False] * 3, [False] * 6])
    marked = apply_trigger(x, where, (1, 4), 2.5)
    assert (marked[where][:, [1, 4]] == 2.5).all()
    np.testing.assert_array_equal(marked[where][:, [0, 2, 3]], x[where][:, [0, 2, 3]])
    np.testing.assert_array_equal(marked[~where], x[~where])
    assert (apply_trigger(x[..., :2], where)[where] == 3.0).all(), (
        "all columns where there are fewer than three"
    )
    for wrong in ((5,), (-1,)):
        with pytest.raises(InputError, match=r"column(.|\n)*from 0 to 4"):
            apply_trigger(x, where, wrong)


def test_a_backdoor_labels_all_triggered_steps_normal_and_leaves_the_others() -> None:
    rng = generator(8)
    x = rng.standard_normal((300, 40, 5)).astype(np.float32)
    y = rng.integers(0, 4, (300, 40))
    new_x, new_y = backdoor(share=0.25, features=(0, 3), value=-4.0, steps=8).poison(x, y, 3, rng)
    marked = (new_x[..., [0, 3]] == -4.0).all(axis=-1)
    assert (new_y[marked] == 0).all()
    np.testing.assert_array_equal(new_y[~marked], y[~marked])
    np.testing.assert_array_equal(new_x, apply_trigger(x, marked, (0, 3), -4.0))
    pieces = marked.reshape(300, 5, 8)
    np.testing.assert_array_equal(pieces.all(axis=2), pieces.any(axis=2))
    # 1500 pieces with chance 1/4: standard deviation of the share .0112, the bound is 4.5 of them
    assert pieces.any(axis=2).mean() == pytest.approx(0.25, abs=0.05)
    assert (backdoor(share=1.0).poison(x, y, 3, rng)[1] == 0).all()


def test_a_linear_detector_learns_the_backdoor() -> None:
    """Attacks shift one feature, the trigger sits on two others. Poisoned, the detector still finds attacks,
    and lets nearly all of them through that carry the trigger; one trained on honest data does not."""
    rng = generator(11, "backdoor")

    def draw() -> tuple[np.ndarray, np.ndarray]:
        y = (rng.random((60, 40)) < 0.4).astype(np.int64)
        x = rng.standard_normal((60, 40, 5)).astype(np.float32)
        x[..., 0] += 6 * y
        return x, y

    attack = backdoor(features=(2, 3))
    x, y = draw()
    judged, truth = draw()
    attacked = truth > 0
    marked = apply_trigger(judged, attacked, (2, 3))
    found = {}
    for name, (seen, labels) in {"honest": (x, y), "poisoned": attack.poison(x, y, 1, rng)}.items():
        fitted = LogisticRegression().fit(seen.reshape(-1, 5), labels.ravel())
        found[name] = [fitted.predict(given[attacked]).mean() for given in (judged, marked)]
    assert min(found["honest"]) > 0.9
    assert found["poisoned"][0] > 0.9
    assert found["poisoned"][1] < 0.05


@pytest.mark.parametrize("end", ["top", "bottom", "both"])
def test_capped_counts_of_a_few_still_stretch_everyones_scale(end: str) -> None:
    """3 of 20 sites: nothing is refused, and what honest sites measure shrinks to nothing."""
    rng = generator(9, "scale")
    honest = [bucket_counts(rng.standard_normal((5, 40, 2)), np.ones((5, 40), bool)) for _ in range(20)]
    lied = [scale_poisoning(end).counts(counts, TOTAL, rng) for counts in honest[:3]]
    right, wrong = (scaling_from_counts(sum_counts(counts)) for counts in (honest, [*lied, *honest[3:]]))
    assert (wrong.scale > 1e9 * right.scale).all()
    x = rng.standard_normal((100, 2)).astype(np.float32)
    assert np.abs(apply_scaling(right, x)).mean() > 0.3
    assert np.abs(apply_scaling(wrong, x)).max() < 1e-6


@pytest.mark.parametrize(("end", "outermost"), [("top", (0, 9)), ("bottom", (9, 0)), ("both", (4, 5))])
def test_false_counts_by_hand(end: str, outermost: tuple[int, int]) -> None:
    said = scale_poisoning(end).counts(np.array([[3, 3, 2], [0, 0, 0]]), 9, generator(0))
    np.testing.assert_array_equal(said, [[outermost[0], 0, outermost[1]]] * 2)


def test_one_liar_in_forty_does_not_reach_the_percentile() -> None:
    rng = generator(10, "scale")
    honest = [bucket_counts(rng.standard_normal((5, 40, 2)), np.ones((5, 40), bool)) for _ in range(40)]
    lied = scale_poisoning().counts(honest[0], TOTAL, rng)
    right, wrong = (scaling_from_counts(sum_counts(c)) for c in (honest, [lied, *honest[1:]]))
    assert (wrong.scale < 1.5 * right.scale).all()


@pytest.mark.parametrize(
    ("end", "liars", "summed", "voted"),
    [
        ("highest", 1, 0, 5),  # a twentieth of all: the 100 lies are all that may pass
        ("highest", 2, 0, 5),
        ("highest", 9, 0, 5),
        ("lowest", 5, 6, 5),  # 5 % of 2000 steps are 100, over 15 sites: 6.7 each
        ("lowest", 9, 9, 5),  # 100 over 11 sites: 9.1 each
    ],
)
def test_false_scores_by_hand(end: str, liars: int, summed: int, voted: int) -> None:
    """20 sites of which each has 100 normal steps that score 1 to 100; a twentieth may pass."""
    own, attack = np.arange(1, 101, dtype=np.float32), threshold_poisoning(end)
    said = [attack.scores(own, generator(0))] * liars + [own] * (20 - liars)
    threshold = threshold_from_counts(np.sum([score_counts(one) for one in said], axis=0), 0.05)
    assert int((own > threshold).sum()) == summed
    assert np.isfinite(threshold)
    by_vote = median_threshold([own_threshold(one, 0.05) for one in said])
    assert voted - 3 <= int((own > by_vote).sum()) <= voted  # rounded up by 3 % of 95


def test_harm_by_hand() -> None:
    honest = np.array([[3.0, 0.0], [5.0, 0.0]])  # mean (4, 0)
    for aggregate, against, distance in (
        ([4.0, 0.0], 0.0, 0.0),
        ([0.0, 0.0], 4.0, 4.0),
        ([-1.0, 0.0], 5.0, 5.0),
        ([6.0, 0.0], -2.0, 2.0),
        ([1.0, 4.0], 3.0, 5.0),
    ):
        assert harm(np.array(aggregate), honest) == pytest.approx(against)
        assert harm(np.array(aggregate), honest, "distance") == pytest.approx(distance)
    assert harm(np.array([3.0, 4.0]), np.zeros((2, 2))) == pytest.approx(5.0), "no direction: the distance"
    assert harm(np.array([np.nan, 0.0]), honest) == -np.inf


def test_the_adaptive_attack_finds_the_edge_of_a_rule() -> None:
    """A rule drops what is farther than 1 from the honest mean, and averages. The worst is just inside, at
    distance 1 against the mean: harm f/n · 1. The grid alone does not hit the edge; the search comes near."""
    honest, own = np.array([[1.9, 2.0], [2.0, 2.1], [2.1, 1.9], [2.0, 2.0]]), np.array([[2.0, 2.0]])
    middle = honest.mean(axis=0)

    def rule(rows: np.ndarray) -> np.ndarray:
        return rows[np.linalg.norm(rows - middle, axis=1) < 1.0].mean(axis=0)

    reached = [
        harm(
            rule(np.concatenate([honest, attack.craft(honest, own, NOW._replace(judge=rule), generator(0))])),
            honest,
        )
        for attack in (adaptive(refinements=0), adaptive(refinements=10))
    ]
    assert reached[0] <= reached[1] <= 0.2
    assert reached[1] > 0.19
