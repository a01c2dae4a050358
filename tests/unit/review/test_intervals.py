"""Means over questions: intervals for other topics and raters, against other ways of computing the same."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest

from medqa_cli.evaluation.bootstrap import score_interval
from medqa_cli.review.intervals import Cell, Mean, mean_over_questions, t_quantile


def cells(values: Sequence[float], rater: str = "anna") -> list[Cell]:
    """One question a topic, all of one rater."""
    return [Cell(f"t{number}", f"q{number}", rater, value) for number, value in enumerate(values)]


def mean(of: Sequence[Cell], low: float = 0.0, high: float = 1.0) -> Mean:
    found = mean_over_questions(of, low, high)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("freedom", "tabulated"),
    [(1, 12.7062), (2, 4.30265), (3, 3.18245), (5, 2.57058), (10, 2.22814), (30, 2.04227), (math.inf, 1.95996)],
)
def test_quantiles_of_t_are_those_of_tables(freedom: float, tabulated: float) -> None:
    assert t_quantile(freedom) == pytest.approx(tabulated, rel=2e-4)


@pytest.mark.parametrize(("share", "size"), [(0.1, 50), (0.5, 7), (0.98, 200)])
def test_the_ends_of_a_score_interval_solve_its_equation(share: float, size: float) -> None:
    for end in score_interval(share, size, 1.96):
        assert (share - end) ** 2 == pytest.approx(1.96**2 * end * (1 - end) / size)


def test_one_rater_of_independent_questions_is_a_share_with_students_t() -> None:
    found = mean(cells([1.0] * 12 + [0.0] * 28))
    assert found.value == 0.3
    assert found.topic_variance == pytest.approx(0.3 * 0.7 / 39)
    assert found.rater_variance == 0
    assert (found.low, found.high) == pytest.approx(score_interval(0.3, 39, t_quantile(39)))
    assert (found.num_questions, found.num_topics, found.num_raters) == (40, 40, 1)


def test_questions_of_one_topic_count_as_one_draw() -> None:
    values = [1.0, 0.0, 0.0, 1.0, 0.0]
    apart = mean(cells(values))
    alike = mean([Cell(c.topic, f"{c.question}/{copy}", c.rater, c.value) for c in cells(values) for copy in range(4)])
    assert alike.num_questions == 20
    assert alike.topic_variance == pytest.approx(apart.topic_variance)
    assert (alike.low, alike.high) == pytest.approx((apart.low, apart.high))


def test_a_question_counts_once_however_many_raters_judged_it() -> None:
    shared = [Cell("a", "q", rater, value) for rater, value in (("anna", 1.0), ("ben", 1.0), ("carl", 0.0))]
    assert mean([*shared, Cell("b", "r", "anna", 0.0)]).value == pytest.approx((2 / 3 + 0) / 2)


def test_a_difference_is_twice_the_share_less_one() -> None:
    generator = np.random.default_rng(3)
    won = [Cell(f"t{n // 2}", f"q{n}", "ab"[n % 2], float(v)) for n, v in enumerate(generator.choice([0, 0.5, 1], 30))]
    less = [Cell(c.topic, c.question, c.rater, 2 * c.value - 1) for c in won]
    share, difference = mean(won), mean(less, -1.0, 1.0)
    assert difference.value == pytest.approx(2 * share.value - 1)
    assert (difference.low, difference.high) == pytest.approx((2 * share.low - 1, 2 * share.high - 1))
    assert difference.topic_variance == pytest.approx(4 * share.topic_variance)
    assert difference.detectable() == pytest.approx(2 * share.detectable())


def rater_variance(of: Sequence[Cell], known: float) -> float:
    """The raters' part by loops over pairs of raters and topics; ``known``: the share that is assumed beforehand."""
    raters = sorted({c.rater for c in of})
    raters_of = {c.question: sum(other.question == c.question for other in of) for c in of}
    weight = {(c.rater, c.question): 1 / raters_of[c.question] / len(raters_of) for c in of}
    own = {r: [c for c in of if c.rater == r] for r in raters}
    share = {r: sum(weight[r, c.question] for c in own[r]) for r in raters}
    means = {r: sum(weight[r, c.question] * c.value for c in own[r]) / share[r] for r in raters}

    def by_chance(one: str, other: str) -> float:
        """The covariance of two raters' means that their questions make."""
        total = 0.0
        for topic in {c.topic for c in of}:
            moves = [
                sum(weight[r, c.question] * (c.value - means[r]) for c in own[r] if c.topic == topic) / share[r]
                for r in (one, other)
            ]
            total += moves[0] * moves[1]
        sizes = [len({c.topic for c in own[r]}) for r in (one, other)]
        return total * math.sqrt(math.prod(size / (size - 1) for size in sizes))

    pairs = list(itertools.combinations(raters, 2))
    # Half of the mean squared distance of two raters is the variance between them.
    seen = sum((means[a] - means[b]) ** 2 for a, b in pairs) / len(pairs) / 2
    expected = sum(by_chance(a, a) + by_chance(b, b) - 2 * by_chance(a, b) for a, b in pairs) / len(pairs) / 2
    middle = sum(share[r] * means[r] for r in raters)
    spread = sum(weight[c.rater, c.question] * (c.value - middle) ** 2 for c in of)
    between = ((len(raters) - 1) * (seen - expected) + known * spread) / len(raters)
    return max(0.0, between) * sum(size**2 for size in share.values())


@pytest.mark.parametrize("leaning", [0.0, 0.3])
def test_the_part_of_the_raters_is_what_loops_give(leaning: float) -> None:
    generator = np.random.default_rng(5)
    found = []
    for number in range(24):
        for place, rater in enumerate(("anna", "ben", "carl")):
            if number < 8 or number % 3 == place:
                value = float(generator.random() < 0.5 + leaning * (place - 1))
                found.append(Cell(f"t{number // 2}", f"q{number}", rater, value))
    assert mean(found).rater_variance == pytest.approx(rater_variance(found, 0.01), abs=1e-12)


def test_raters_who_differ_make_the_interval_wider_and_more_questions_do_not_help() -> None:
    def judged(share: dict[str, int], count: int) -> list[Cell]:
        """Each rater says yes to so many of ten."""
        return [
            Cell(f"t{rater}{n}", f"q{rater}{n}", rater, float(n % 10 < yes))
            for rater, yes in share.items()
            for n in range(count)
        ]

    alike, apart = (mean(judged(share, 40)) for share in ({"anna": 7, "ben": 7}, {"anna": 10, "ben": 4}))
    assert [alike.value, apart.value] == pytest.approx([0.7, 0.7])
    assert alike.low > 0.5 > apart.low
    assert apart.questions_to_settle(0.5) is None
    assert mean(judged({"anna": 10, "ben": 4}, 400)).low < 0.5


def test_both_parts_make_the_interval_with_satterthwaites_degrees_of_freedom() -> None:
    values = {"anna": [1.0] * 9 + [0.0] * 3, "ben": [1.0] * 4 + [0.0] * 8, "carl": [1.0] * 7 + [0.0] * 5}
    found = mean([Cell(f"{r}{n}", f"{r}{n}", r, v) for r, of in values.items() for n, v in enumerate(of)])
    topics, raters = found.topic_variance, found.rater_variance
    assert raters > 0.1 * topics
    freedom = (topics + raters) ** 2 / (topics**2 / 35 + raters**2 / 3)
    size = found.value * (1 - found.value) / (topics + raters)
    assert (found.low, found.high) == pytest.approx(score_interval(found.value, size, t_quantile(freedom)))


def test_questions_to_settle_would_show_a_distance_like_the_one_seen() -> None:
    few = mean(cells([1.0] * 23 + [0.0] * 17))
    assert few.low < 0.5 < few.high
    needed = few.questions_to_settle(0.5)
    assert needed is not None
    assert needed > 40
    # 2.8 standard errors: 80 of 100 such samples show it.
    assert (few.value - 0.5) / math.sqrt(few.topic_variance * 40 / needed) == pytest.approx(2.8, rel=0.01)
    assert mean(cells([1.0, 0.0] * 20)).questions_to_settle(0.5) is None


@pytest.mark.parametrize(("value", "low", "high"), [(0.0, 0.0, 0.09), (1.0, 0.91, 1.0), (0.5, 0.46, 0.54)])
def test_an_interval_is_not_empty_where_all_say_the_same(value: float, low: float, high: float) -> None:
    found = mean(cells([value] * 40))
    assert found.value == value
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.01)
    # Two more questions, one of each kind, would vary as much.
    assert found.topic_variance == pytest.approx(np.var([value] * 40 + [0, 1]) / 42)


def test_nothing_judged_has_no_mean() -> None:
    assert mean_over_questions([]) is None
