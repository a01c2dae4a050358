"""Questions are spread over topics; models, sides and order are balanced, drawn with the seed, and differ by rater."""

import itertools
from collections import Counter

import pytest

from medqa_cli.review.draw import contests, deal, order, sides, spread

MODELS = ("adapter", "base", "reference")


def test_every_beginning_of_the_draw_is_spread_over_topics() -> None:
    topics = [topic for topic, size in (("a", 50), ("b", 3), ("c", 1), ("d", 1)) for _ in range(size)]
    drawn = spread(range(len(topics)), topics, 10, seed=1)
    assert len(set(drawn)) == 10
    assert {topics[item] for item in drawn[:4]} == {"a", "b", "c", "d"}
    assert Counter(topics[item] for item in drawn) == {"a": 5, "b": 3, "c": 1, "d": 1}


def test_the_seed_decides_what_is_drawn() -> None:
    topics = list(range(100))
    assert spread(topics, topics, 10, seed=1) == spread(topics, topics, 10, seed=1)
    assert set(spread(topics, topics, 10, seed=1)) != set(spread(topics, topics, 10, seed=2))


def test_fewer_items_than_wanted_are_all_drawn() -> None:
    assert sorted(spread("abc", "xxx", 10, seed=1)) == ["a", "b", "c"]
    assert spread([], [], 10, seed=1) == []


def test_questions_that_are_not_shared_go_to_one_rater_each() -> None:
    shared, alone = deal(range(11), ("anna", "ben", "carl"), 2)
    assert shared == [0, 1]
    assert sorted(item for own in alone.values() for item in own) == list(range(2, 11))
    assert {len(own) for own in alone.values()} == {3}


def test_a_fifth_of_the_questions_are_controls_with_each_model_equally_often() -> None:
    drawn = Counter(contests(MODELS, 40, seed=3, name="all"))
    assert drawn == {("adapter", "base"): 32, ("adapter", "reference"): 4, ("base", "reference"): 4}


def test_three_models_meet_equally_often() -> None:
    drawn = Counter(contests(("adapter", "base", "merged"), 30, seed=3, name="all"))
    assert drawn == {("adapter", "base"): 10, ("adapter", "merged"): 10, ("base", "merged"): 10}


def test_a_single_model_is_always_shown_beside_the_reference() -> None:
    assert set(contests(("reference", "adapter"), 7, seed=3, name="all")) == {("adapter", "reference")}


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_few_questions_are_all_about_the_models(count: int) -> None:
    assert contests(MODELS, count, seed=3, name="anna") == [("adapter", "base")] * count


def test_the_order_of_the_contests_tells_nothing() -> None:
    places = [
        place
        for seed in range(200)
        for place, contest in enumerate(contests(MODELS, 20, seed, "all"))
        if "reference" in contest
    ]
    # 200 draws of 4 controls among 20 places: 40 at each place, with a standard deviation of 5.7.
    assert all(15 < count < 65 for count in Counter(places).values())
    assert len(set(places)) == 20


def test_each_model_stands_on_the_left_as_often_as_on_the_right_for_each_rater() -> None:
    drawn = contests(MODELS, 41, seed=3, name="all")
    for rater in ("anna", "ben"):
        shown = sides(drawn, 3, rater)
        assert [set(own) for own in shown] == [set(own) for own in drawn]
        left = Counter(own[0] for own in shown if set(own) == {"adapter", "base"})
        assert abs(left["adapter"] - left["base"]) <= 1
    assert sides(drawn, 3, "anna") != sides(drawn, 3, "ben")
    assert sides(drawn, 3, "anna") == sides(drawn, 3, "anna")


def test_the_side_of_a_model_does_not_tell_the_next_one() -> None:
    drawn = [sides([("adapter", "base")] * 10, seed, "anna") for seed in range(200)]
    same = sum(first == second for shown in drawn for first, second in itertools.pairwise(shown))
    # Five and five: 4/9 of the neighbors are the same, with a standard deviation of about 21.
    assert 720 < same < 880


def test_the_model_that_gets_one_more_left_place_is_drawn() -> None:
    first = [sides([("adapter", "base")], seed, "anna")[0][0] for seed in range(200)]
    assert 60 < first.count("adapter") < 140


def test_each_rater_has_an_order_of_its_own() -> None:
    assert sorted(order(20, 3, "anna")) == list(range(20))
    assert order(20, 3, "anna") != order(20, 3, "ben")
