"""Intervals: right on hand-computed cases, honest on simulated ones, paired, and drawn by cluster."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pytest

from medqa_cli.evaluation.bootstrap import (
    ClusterBootstrap,
    Estimate,
    Resampled,
    as_json,
    better_of,
    expanded_tail,
    ratio_of_sums,
)


@dataclass(frozen=True)
class Simulated:
    """Questions in clusters: every cluster has its own level, every question its own length."""

    clusters: list[str]
    nll_sums: list[float]
    tokens: list[float]


def simulate(seed: int, mean: float = 2.0, num_clusters: int = 60) -> Simulated:
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, 9, num_clusters)
    levels = np.repeat(generator.normal(mean, 0.5, num_clusters), sizes)
    tokens = generator.integers(5, 60, sizes.sum()).astype(float)
    nll_sums = tokens * (levels + generator.normal(0, 0.2, sizes.sum()))
    clusters = [f"topic {index}" for index in np.repeat(np.arange(num_clusters), sizes)]
    return Simulated(clusters, nll_sums.tolist(), tokens.tolist())


def resampled(bootstrap: ClusterBootstrap, numerators: Sequence[float], denominators: Sequence[float]) -> Resampled:
    return bootstrap.figure(np.stack([numerators, denominators], axis=1), ratio_of_sums)


def ratio(bootstrap: ClusterBootstrap, numerators: Sequence[float], denominators: Sequence[float]) -> Estimate:
    return resampled(bootstrap, numerators, denominators).estimate()


def ratio_difference(
    bootstrap: ClusterBootstrap,
    first: tuple[Sequence[float], Sequence[float]],
    second: tuple[Sequence[float], Sequence[float]],
) -> Estimate:
    return (resampled(bootstrap, *first) - resampled(bootstrap, *second)).estimate()


def width(estimate: Estimate) -> float:
    return estimate.high - estimate.low


def test_the_value_is_the_ratio_of_the_sums_not_a_mean_of_ratios() -> None:
    found = ratio(ClusterBootstrap(["a", "a", "b"], 1000, seed=1), [2.0, 4.0, 30.0], [1.0, 2.0, 5.0])
    assert found.value == pytest.approx(36 / 8)
    # Only three draws are possible: a twice (6/3), both (36/8), b twice (30/5).
    assert [found.low, found.high] == pytest.approx([2.0, 6.0])


def test_questions_of_one_topic_are_drawn_together() -> None:
    """Opposite questions in each cluster cancel; drawn one by one they would not."""
    numerators, ones = [1.0, -1.0] * 10, [1.0] * 20
    together = ratio(ClusterBootstrap([f"topic {i // 2}" for i in range(20)], 500, seed=1), numerators, ones)
    assert together == Estimate(0.0, 0.0, 0.0)
    apart = ratio(ClusterBootstrap([str(i) for i in range(20)], 500, seed=1), numerators, ones)
    assert apart.low < -0.2
    assert apart.high > 0.2


def test_clusters_need_not_stand_together() -> None:
    data = simulate(3)
    order = np.random.default_rng(0).permutation(len(data.clusters))
    mixed = [data.clusters[i] for i in order]
    first = ClusterBootstrap(data.clusters, 2000, seed=1)
    second = ClusterBootstrap(mixed, 2000, seed=1)
    assert first.num_clusters == second.num_clusters == 60
    expected = ratio(first, data.nll_sums, data.tokens)
    found = ratio(second, [data.nll_sums[i] for i in order], [data.tokens[i] for i in order])
    assert found.value == pytest.approx(expected.value)
    assert width(found) == pytest.approx(width(expected), rel=0.1)


def test_the_seed_decides() -> None:
    data = simulate(3)

    def estimate(seed: int) -> Estimate:
        return ratio(ClusterBootstrap(data.clusters, 200, seed), data.nll_sums, data.tokens)

    assert estimate(1) == estimate(1)
    assert estimate(1) != estimate(2)


def test_equal_models_show_no_difference() -> None:
    data = simulate(4)
    own = (data.nll_sums, data.tokens)
    found = ratio_difference(ClusterBootstrap(data.clusters, 500, seed=1), own, own)
    assert found == Estimate(0.0, 0.0, 0.0)
    assert better_of(found, lower_is_better=True) is None
    assert better_of(found, lower_is_better=False) is None


def test_a_clear_difference_has_a_direction() -> None:
    data = simulate(5)
    bootstrap = ClusterBootstrap(data.clusters, 500, seed=1)
    worse = ([nll + 0.1 * tokens for nll, tokens in zip(data.nll_sums, data.tokens, strict=True)], data.tokens)
    own = (data.nll_sums, data.tokens)
    lower, higher = ratio_difference(bootstrap, own, worse), ratio_difference(bootstrap, worse, own)
    assert lower.value == pytest.approx(-0.1)
    assert higher.value == pytest.approx(0.1)
    assert better_of(lower, lower_is_better=True) is True
    assert better_of(higher, lower_is_better=True) is False
    assert better_of(lower, lower_is_better=False) is False
    assert better_of(higher, lower_is_better=False) is True


def test_pairing_finds_what_two_separate_intervals_hide() -> None:
    data = simulate(6)
    bootstrap = ClusterBootstrap(data.clusters, 500, seed=1)
    noise = np.random.default_rng(1).normal(-0.05, 0.05, len(data.tokens))
    better = [nll + shift * tokens for nll, shift, tokens in zip(data.nll_sums, noise, data.tokens, strict=True)]
    first, second = ratio(bootstrap, better, data.tokens), ratio(bootstrap, data.nll_sums, data.tokens)
    assert first.low < second.value < first.high  # the intervals overlap by far
    difference = ratio_difference(bootstrap, (better, data.tokens), (data.nll_sums, data.tokens))
    assert difference.value == pytest.approx(first.value - second.value)
    assert better_of(difference, lower_is_better=True) is True


@pytest.mark.parametrize(
    ("low", "high", "lower_is_better", "expected"),
    [
        (-2, -1, True, True),
        (-2, -1, False, False),
        (1, 2, True, False),
        (1, 2, False, True),
        (-1, 2, True, None),
        (-1, 0, True, None),
        (0, 2, False, None),
        (float("nan"), float("nan"), True, None),
        (float("nan"), float("nan"), False, None),
    ],
)
def test_better_is_said_only_where_the_interval_leaves_out_zero(
    low: float, high: float, lower_is_better: bool, expected: bool | None
) -> None:
    found = better_of(Estimate((low + high) / 2, low, high), lower_is_better=lower_is_better)
    assert found is expected


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(300):
        data = simulate(seed)
        found = ratio(ClusterBootstrap(data.clusters, 400, seed), data.nll_sums, data.tokens)
        assert found.low < found.value < found.high
        covered += found.low <= 2.0 <= found.high
    assert 0.90 * 300 <= covered <= 0.99 * 300


def test_the_interval_of_a_difference_covers_the_truth_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(300):
        first, noise = simulate(seed), np.random.default_rng(seed + 1000).normal(0.3, 0.2, 60)
        shift = {f"topic {index}": value for index, value in enumerate(noise)}
        moved = [
            nll + shift[cluster] * tokens
            for nll, cluster, tokens in zip(first.nll_sums, first.clusters, first.tokens, strict=True)
        ]
        bootstrap = ClusterBootstrap(first.clusters, 400, seed)
        found = ratio_difference(bootstrap, (moved, first.tokens), (first.nll_sums, first.tokens))
        covered += found.low <= 0.3 <= found.high
    assert 0.90 * 300 <= covered <= 0.99 * 300


def test_with_many_clusters_the_interval_is_that_of_the_normal_distribution() -> None:
    data = simulate(8, num_clusters=1000)
    found = ratio(ClusterBootstrap(data.clusters, 5000, seed=1), data.nll_sums, data.tokens)
    # The linearised standard error of a ratio over clusters.
    residuals: dict[str, float] = {}
    for cluster, nll, tokens in zip(data.clusters, data.nll_sums, data.tokens, strict=True):
        residuals[cluster] = residuals.get(cluster, 0.0) + nll - found.value * tokens
    standard_error = float(np.sqrt(np.sum(np.square(list(residuals.values()))))) / sum(data.tokens)
    assert width(found) == pytest.approx(2 * 1.96 * standard_error, rel=0.05)


def test_on_clustered_data_the_interval_is_wider_than_one_over_single_questions() -> None:
    ratios = []
    for seed in range(20):
        data = simulate(seed)
        by_topic = ratio(ClusterBootstrap(data.clusters, 400, seed), data.nll_sums, data.tokens)
        singly = ratio(
            ClusterBootstrap([str(i) for i in range(len(data.tokens))], 400, seed), data.nll_sums, data.tokens
        )
        assert by_topic.value == pytest.approx(singly.value)
        ratios.append(width(by_topic) / width(singly))
    assert min(ratios) > 1.1
    assert sum(ratios) / len(ratios) > 1.4


def test_more_questions_narrow_the_interval() -> None:
    few, many = simulate(7, num_clusters=30), simulate(7, num_clusters=1000)
    narrow = ratio(ClusterBootstrap(many.clusters, 400, 1), many.nll_sums, many.tokens)
    wide = ratio(ClusterBootstrap(few.clusters, 400, 1), few.nll_sums, few.tokens)
    assert width(narrow) < width(wide) / 3


def test_the_form_of_the_results() -> None:
    assert json.loads(json.dumps(as_json(Estimate(1.5, 1.0, 2.0)))) == {"value": 1.5, "ci95": [1.0, 2.0]}


def test_on_500_data_sets_the_interval_of_a_mean_score_covers_the_truth() -> None:
    """Scores of questions in topics, each topic with a level of its own, as ROUGE-L has them."""
    covered = 0
    for seed in range(500):
        clusters, scores = scores_of(seed, shift=0.0)
        parts = np.stack([scores, np.ones(len(scores))], axis=1)
        found = ClusterBootstrap(clusters, 500, seed).figure(parts, ratio_of_sums).estimate()
        covered += found.low <= 0.25 <= found.high
    assert 0.92 * 500 <= covered <= 0.98 * 500


def test_on_500_data_sets_two_equal_answerers_are_hardly_ever_called_different() -> None:
    wrong = right = 0
    for seed in range(500):
        clusters, first = scores_of(seed, shift=0.0)
        for shift in (0.0, 0.05):
            # The other answerer is asked the same questions: same topics, its own luck with each topic and question.
            noise = np.random.default_rng(seed + 10_000)
            by_topic = dict(zip(dict.fromkeys(clusters), noise.normal(0, 0.05, 60), strict=True))
            second = first + shift + [by_topic[key] for key in clusters] + noise.normal(0, 0.05, len(first))
            bootstrap = ClusterBootstrap(clusters, 500, seed)
            ones = np.ones(len(first))
            one, other = (bootstrap.figure(np.stack([own, ones], axis=1), ratio_of_sums) for own in (first, second))
            called = better_of((one - other).estimate(), lower_is_better=False)
            wrong += shift == 0 and called is not None
            right += shift > 0 and called is False
    assert wrong <= 0.07 * 500
    assert right >= 0.9 * 500  # and a true difference of 0.05 is seen


def scores_of(seed: int, shift: float) -> tuple[list[str], np.ndarray]:
    """Scores of questions in 60 topics of 1 to 8 questions around 0.25 + shift; topics differ more than questions."""
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, 9, 60)
    clusters = [f"topic {index}" for index in np.repeat(np.arange(60), sizes)]
    levels = np.repeat(generator.normal(0.25 + shift, 0.1, 60), sizes)
    return clusters, levels + generator.normal(0, 0.05, len(levels))


def test_a_figure_is_computed_anew_in_each_draw() -> None:
    """A figure that is no ratio: the square of a mean. Three draws are possible: a twice, both, b twice."""
    parts = np.array([[1.0, 1.0], [5.0, 1.0]])
    found = ClusterBootstrap(["a", "b"], 1000, seed=1).figure(parts, lambda sums: ratio_of_sums(sums) ** 2)
    assert found.value == pytest.approx(9)
    assert set(np.round(found.draws, 9)) == {1.0, 9.0, 25.0}
    assert found.detectable() == pytest.approx(2.8 * float(np.std(found.draws)))


def test_questions_that_a_figure_is_not_defined_for_do_not_count() -> None:
    parts = np.array([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    found = ClusterBootstrap(["a", "b", "c"], 1000, seed=1).figure(parts, ratio_of_sums)
    assert np.isnan(found.draws).any()  # draws without topic a
    assert as_json(found.estimate()) == {"value": 1.0, "ci95": [None, None]}  # of topic a alone
    assert np.isnan(found.detectable())
    assert np.isnan(ratio_of_sums(np.zeros((1, 2)))[0])


@pytest.mark.parametrize(("clusters", "students_t"), [(6, 2.571), (11, 2.228), (61, 2.0003), (100_001, 1.95998)])
def test_few_clusters_take_students_t(clusters: int, students_t: float) -> None:
    widened = students_t * (clusters / (clusters - 1)) ** 0.5
    assert NormalDist().inv_cdf(1 - expanded_tail(clusters)) == pytest.approx(widened, rel=0.02)
    assert expanded_tail(clusters) < 0.025
