"""Splits: what belongs together stays together, the shares are met, the order plays no part."""

from collections import Counter

import pytest

from medqa_cli.data.normalize import RowKeys, key_of
from medqa_cli.data.splitting import assign_splits
from medqa_cli.errors import InputError


def row(question: object, answer: object = "", topic: object = None) -> RowKeys:
    question, answer = f"q {question}", f"a {answer}"
    return RowKeys(
        key_of(question, answer), key_of(question), key_of(answer), () if topic is None else (key_of(f"t {topic}"),)
    )


# 600 questions that 1 to 5 rows share.
KEYS = [row(question, answer) for question in range(600) for answer in range(1 + question % 5)]


def splits_of_each(values: list[bytes | None], splits: list[str]) -> dict[bytes | None, set[str]]:
    found: dict[bytes | None, set[str]] = {}
    for value, split in zip(values, splits, strict=True):
        found.setdefault(value, set()).add(split)
    return found


@pytest.mark.parametrize("seed", range(25))
def test_a_question_is_in_one_split_and_the_shares_are_met(seed: int) -> None:
    splits = assign_splits(KEYS, 0.05, 0.1, seed)
    places = splits_of_each([key.question for key in KEYS], splits)
    assert len(places) == 600
    assert {len(place) for place in places.values()} == {1}
    counts = Counter(splits)
    assert abs(counts["test"] - 0.1 * len(KEYS)) <= 2.5
    assert abs(counts["validation"] - 0.05 * len(KEYS)) <= 2.5


@pytest.mark.parametrize("seed", range(10))
def test_topics_stay_together_also_through_a_shared_question(seed: int) -> None:
    keys = [row(f"{topic}-{i}", i, topic) for topic in range(60) for i in range(4)]
    # Topics 0 and 1 share a question, and so do 1 and 2: the three are one group.
    keys += [row("shared", 1, 0), row("shared", 2, 1), row("other", 1, 1), row("other", 2, 2), row("alone", 1)]
    splits = assign_splits(keys, 0.1, 0.2, seed)
    topics = splits_of_each([key.topics[0] if key.topics else None for key in keys], splits)
    topics.pop(None)
    assert len(topics) == 60
    assert {len(place) for place in topics.values()} == {1}
    joined = [key_of(f"t {topic}") for topic in range(3)]
    assert topics[joined[0]] == topics[joined[1]] == topics[joined[2]]
    assert set(Counter(splits)) == {"train", "validation", "test"}


def test_rows_without_a_topic_are_not_one_group() -> None:
    splits = assign_splits([row(i) for i in range(100)], 0.1, 0.2, 0)
    assert Counter(splits) == {"train": 70, "validation": 10, "test": 20}


def test_the_order_of_the_rows_plays_no_part_and_the_seed_does() -> None:
    one = dict(zip([key.pair for key in KEYS], assign_splits(KEYS, 0.05, 0.1, 3), strict=True))
    turned = dict(zip([key.pair for key in KEYS[::-1]], assign_splits(KEYS[::-1], 0.05, 0.1, 3), strict=True))
    assert len(one) == len(KEYS)
    assert one == turned
    assert list(one.values()) != assign_splits(KEYS, 0.05, 0.1, 4)


def test_a_group_larger_than_a_share_does_not_fill_it() -> None:
    keys = [row("big", answer) for answer in range(60)] + [row(i) for i in range(40)]
    for seed in range(20):
        splits = assign_splits(keys, 0.1, 0.1, seed)
        assert set(splits[:60]) == {"train"}
        assert Counter(splits) == {"train": 80, "validation": 10, "test": 10}


def test_small_data_still_holds_out_one_row_each() -> None:
    for seed in range(20):
        splits = Counter(assign_splits([row(1), row(2), row(3)], 0.05, 0.1, seed))
        assert splits == {"train": 1, "validation": 1, "test": 1}
        large_shares = Counter(assign_splits([row(1), row(2), row(3)], 0.45, 0.5, seed))
        assert large_shares == {"train": 1, "validation": 1, "test": 1}


def test_nothing_is_held_out_where_nothing_is_asked() -> None:
    assert assign_splits([row(1)], 0, 0, 1) == ["train"]
    assert Counter(assign_splits(KEYS, 0, 0.1, 1)).keys() == {"train", "test"}


def test_too_few_groups() -> None:
    with pytest.raises(InputError, match=r"form 2 group.*train, test, validation need at least 3"):
        assign_splits([row(1, 1), row(1, 2), row(2)], 0.05, 0.1, 1)
