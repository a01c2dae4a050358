"""Judgments become figures: whoever stood on which side, what was said goes to the right model."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from medqa_cli.review.figures import Review, judged_pairs
from medqa_cli.review.judgments import Judgment, Pair, Verdict

CRITERIA = {"correct": True, "could_harm": False}
Said = Mapping[str, bool | None]


def judgment(
    question: int,
    better: Verdict | None,
    x: Said,
    y: Said,
    models: tuple[str, str] = ("adapter", "base"),
    rater: str = "anna",
) -> Judgment:
    pair = Pair(f"{rater}{question}", rater, f"q{question}", f"What is q{question}?", "", *models, False)
    return Judgment(pair, x, y, better, "", None)


def turned(one: Judgment) -> Judgment:
    """The same judgment of the same answers on the other sides."""
    sides: dict[str | None, Any] = {"x": "y", "y": "x"}
    pair = replace(one.pair, x=one.pair.y, y=one.pair.x)
    return replace(one, pair=pair, x=one.y, y=one.x, better=sides.get(one.better, one.better))


GOOD, BAD = {"correct": True, "could_harm": False}, {"correct": False, "could_harm": True}
FIVE = [
    judgment(0, "x", GOOD, BAD),
    judgment(1, "x", GOOD, GOOD),
    judgment(2, "equal", {"correct": True, "could_harm": None}, GOOD),
    judgment(3, "y", BAD, GOOD),
    judgment(4, None, {"correct": None, "could_harm": None}, BAD),
]


def test_win_rate_counts_ties_half_and_leaves_out_who_cannot_judge() -> None:
    rate = Review(FIVE, CRITERIA).differences()["adapter-base"]["win_rate"]
    assert rate["value"] == pytest.approx((1 + 1 + 0.5 + 0) / 4)
    assert (rate["won"], rate["equal"], rate["lost"], rate["questions"]) == (2, 1, 1, 4)
    assert rate["better"] is None
    assert rate["more_questions"] > 0


def test_criteria_are_shares_of_yes_by_model_and_differences_are_paired() -> None:
    review = Review(FIVE, CRITERIA)
    figures = review.model_figures()
    assert figures["adapter"]["correct"]["value"] == pytest.approx(3 / 4)
    assert figures["adapter"]["could_harm"]["value"] == pytest.approx(1 / 3)
    assert figures["base"]["could_harm"]["value"] == pytest.approx(2 / 5)
    found = review.differences()["adapter-base"]
    # Questions 2 and 4 have no answer for one of the two.
    assert found["could_harm"]["value"] == pytest.approx((-1 + 0 + 1) / 3)
    assert found["could_harm"]["questions"] == 3
    assert found["correct"]["value"] == pytest.approx((1 + 0 + 0 - 1) / 4)


def test_sides_do_not_matter() -> None:
    some = [turned(one) if number % 2 else one for number, one in enumerate(FIVE)]
    as_made, with_turns = Review(FIVE, CRITERIA), Review(some, CRITERIA)
    assert with_turns.differences() == as_made.differences()
    assert with_turns.model_figures() == as_made.model_figures()


@pytest.mark.parametrize(("won", "better"), [("x", True), ("y", False)])
def test_a_preference_of_all_questions_is_shown_and_harm_less_often_is_better(won: Verdict, better: bool) -> None:
    said = (GOOD, BAD) if won == "x" else (BAD, GOOD)
    found = Review([judgment(n, won, *said) for n in range(12)], CRITERIA).differences()["adapter-base"]
    assert [found[name]["better"] for name in ("win_rate", "correct", "could_harm")] == [better] * 3
    assert found["could_harm"]["value"] == (-1 if better else 1)
    assert found["win_rate"]["more_questions"] is None


def test_one_topic_shows_nothing() -> None:
    judged = [judgment(n, "x", GOOD, BAD) for n in range(400)]
    same = [replace(one, pair=replace(one.pair, topic="asthma")) for one in judged]
    found = Review(same, CRITERIA).differences()["adapter-base"]["win_rate"]
    assert (found["topics"], found["better"]) == (1, None)


def test_names_of_one_topic_are_one_cluster() -> None:
    names = ("COPD", "chronic obstructive pulmonary disease (COPD)", "gout")
    judged = [replace(one, pair=replace(one.pair, topic=name)) for one, name in zip(FIVE[:3], names, strict=True)]
    assert Review(judged, CRITERIA).num_topics == 2


def test_pairs_are_named_by_what_is_expected_to_be_better_and_none_is_lost() -> None:
    models = [("base", "adapter"), ("adapter", "reference"), ("base", "reference"), ("adapter_greedy", "adapter")]
    judged = [judgment(n, "x", GOOD, BAD, pair) for n, pair in enumerate(models)]
    assert list(judged_pairs(judged)) == [
        ("reference", "adapter"),
        ("reference", "base"),
        ("adapter_greedy", "adapter"),
        ("adapter", "base"),
    ]
    assert Review(judged, CRITERIA).differences()["reference-adapter"]["win_rate"]["value"] == 0


def test_agreement_compares_models_not_sides() -> None:
    anna = [judgment(n, "x", GOOD, BAD) for n in range(4)]
    ben = [turned(replace(one, pair=replace(one.pair, rater="ben"))) for one in anna[:3]]
    ben.append(judgment(3, "y", BAD, BAD, rater="ben"))
    found = Review([*anna, *ben], CRITERIA).agreements(1)
    assert found["win_rate"]["units"] == 4
    assert found["win_rate"]["raw"]["value"] == pytest.approx(3 / 4)
    # Answers of both models to four questions; they differ on one of eight.
    assert found["correct"]["units"] == 8
    assert found["correct"]["raw"]["value"] == pytest.approx(7 / 8)
    assert Review(anna, CRITERIA).agreements(1) == {}
