"""Every rank works out the same steps and shares, and they are those of one process."""

from __future__ import annotations

import pytest
from accelerate.data_loader import SeedableRandomSampler
from hypothesis import given
from hypothesis import strategies as st

from helpers.training import make_examples
from medqa_cli.training.data_order import shares_of_step, steps_of_epoch


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
