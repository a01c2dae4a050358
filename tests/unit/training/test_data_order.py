"""Every rank works out the same steps and shares, and they are those of one process."""

from typing import Any

import pytest
from accelerate.data_loader import SeedableRandomSampler
from hypothesis import given
from hypothesis import strategies as st

from helpers.training import make_examples
from medqa_cli.config.schema import TrainConfig
from medqa_cli.training.data_order import (
    forwards_of_rank,
    num_tokens,
    num_tokens_of_training,
    shares_of_step,
    steps_of_epoch,
    validation_interval,
)


def test_the_order_is_that_of_the_stock_trainer_with_one_process() -> None:
    stock = SeedableRandomSampler(range(23), data_seed=42)
    orders = []
    for epoch in range(3):
        stock.set_epoch(epoch)
        steps = steps_of_epoch(23, 8, seed=42 + epoch)
        assert [len(step) for step in steps] == [8, 8, 7]
        assert [index for step in steps for index in step] == list(stock)
        orders.append(steps)
    assert orders[0] != orders[1]


def test_without_a_seed_it_is_the_order_of_the_data() -> None:
    assert steps_of_epoch(5, 2, seed=None) == [[0, 1], [2, 3], [4]]


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=40),
    world_size=st.integers(1, 9),
)
def test_shares_are_even(lengths: list[int], world_size: int) -> None:
    examples = make_examples([(1, length) for length in lengths])
    shares = shares_of_step(examples, world_size)
    assert len(shares) == world_size
    dealt = [id(example) for share in shares for example in share]
    assert sorted(dealt) == sorted(map(id, examples))
    assert max(map(len, shares)) == -(-len(examples) // world_size)
    if len(examples) >= world_size:
        assert min(map(len, shares)) >= 1
    place = {id(example): i for i, example in enumerate(examples)}
    for share in shares:
        assert [place[id(example)] for example in share] == sorted(place[id(example)] for example in share)


def test_tokens_are_dealt_evenly() -> None:
    """Dealt in the order of the data the second rank would get 36 of 180 tokens."""
    examples = make_examples([(1, length) for length in (60, 40, 39, 1, 2, 3, 20, 7)])
    tokens = [sum(len(example.input_ids) for example in share) for share in shares_of_step(examples, 2)]
    assert sum(tokens) == 180
    assert max(tokens) - min(tokens) <= 4


@pytest.mark.parametrize("world_size", [3, 5])
def test_a_last_step_with_fewer_examples_than_ranks(world_size: int) -> None:
    examples = make_examples([(1, 3), (1, 9)])
    shares = shares_of_step(examples, world_size)
    assert sorted(map(len, shares)) == [0] * (world_size - 2) + [1, 1]


def forwards(lengths: list[int], rank: int, *, same_number: bool) -> tuple[list[int], list[int]]:
    """The tokens of the forward passes of one of three ranks, and of those that only keep step with the others."""
    groups, fillers = forwards_of_rank(
        make_examples([(1, length - 1) for length in lengths]),
        rank=rank,
        world_size=3,
        max_tokens=70,
        max_examples=None,
        same_number_on_all_ranks=same_number,
    )
    return [num_tokens(group) for group in groups], [num_tokens(group) for group in fillers]


def test_forwards_of_rank_without_sharding_are_those_of_its_share_and_at_least_one() -> None:
    assert forwards([60, 50, 40, 30], 0, same_number=False) == ([60], [])
    assert forwards([60, 50], 2, same_number=False) == ([], [50])


def test_forwards_of_rank_with_sharding_are_as_many_on_each_rank() -> None:
    lengths = [60, 50, 40, 30, 35]
    assert [forwards(lengths, rank, same_number=True) for rank in range(3)] == [
        ([60], [30]),
        ([50, 30], []),
        ([40, 35], []),
    ]


# 20 examples of 10 tokens; steps of 8 rows make three steps an epoch, of 8, 8 and 4 rows.
EXAMPLES = make_examples([(6, 4)] * 20)


@pytest.mark.parametrize(
    ("train", "rows"),
    [
        ({"num_train_epochs": 3}, 60),
        ({"max_steps": 2}, 16),
        ({"max_steps": 3}, 20),
        ({"max_steps": 4}, 28),
        ({"max_steps": 30}, 200),  # not 30 * 8: the last step of each epoch has 4 rows
    ],
)
def test_num_tokens_of_training_counts_the_smaller_last_step_of_each_epoch(train: dict[str, Any], rows: int) -> None:
    config = TrainConfig(per_device_train_batch_size=4, gradient_accumulation_steps=2, **{"max_steps": -1, **train})
    assert num_tokens_of_training(config, EXAMPLES) == 10 * rows


@pytest.mark.parametrize(
    ("eval_steps", "num_examples", "num_validation", "interval"),
    [
        ("auto", 8000, 128, 100),  # ten of 1000 steps
        ("auto", 8001, 128, 101),
        ("auto", 432, 41, 18),  # 0.1 x 3 x 432 / 41 = 3 evaluations of 54 steps
        ("auto", 24, 100, 3),  # too dear: after the last step only
        ("auto", 800, 0, None),  # nothing to evaluate on
        (7, 800, 100, 7),
        (7, 800, 0, None),
        (None, 800, 100, None),
    ],
)
def test_the_interval_of_evaluations_costs_a_tenth_of_the_time_at_most(
    eval_steps: Any, num_examples: int, num_validation: int, interval: int | None
) -> None:
    config = TrainConfig(eval_steps=eval_steps)
    assert validation_interval(config, num_examples, num_validation) == interval
