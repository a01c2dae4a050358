"""How many optimizer steps a training has, which examples make up each, and which of them each rank takes.

All ranks walk over the same data in the same order, so that nothing about it has to be exchanged, and a step is the
same set of examples however many ranks share it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from medqa_cli import distributed
from medqa_cli.config.schema import TrainConfig
from medqa_cli.prompt.encoder import Example


def examples_per_step(config: TrainConfig) -> int:
    """Return the examples of an optimizer step over all ranks."""
    return config.per_device_train_batch_size * config.gradient_accumulation_steps * distributed.world_size()


def num_steps(config: TrainConfig, num_examples: int) -> int:
    """Return the optimizer steps of a training on so many examples."""
    if config.max_steps > 0:
        return config.max_steps
    return math.ceil(math.ceil(num_examples / examples_per_step(config)) * config.num_train_epochs)


def steps_of_epoch(num_examples: int, step_examples: int, seed: int | None) -> list[list[int]]:
    """Return the indices of the examples of each step, those of all ranks together; the last step may be smaller.

    The order is that of Transformers' ``Trainer`` with one process (``accelerate.data_loader.SeedableRandomSampler``).

    Args:
        num_examples: examples in an epoch.
        step_examples: examples in a step, over all ranks.
        seed: of this epoch's order; None: the order of the data.
    """
    order = list(range(num_examples))
    if seed is not None:
        order = torch.randperm(num_examples, generator=torch.Generator().manual_seed(seed)).tolist()
    return [order[start : start + step_examples] for start in range(0, num_examples, step_examples)]


def shares_of_step(examples: Sequence[Example], world_size: int) -> list[list[Example]]:
    """Deal the examples of a step to the ranks: as many to each, and about as many tokens.

    The longest example goes first, each to the rank with the fewest tokens that still has room (greedy scheduling,
    Graham 1969). Ranks wait for the slowest at the end of a step. Every rank computes the same shares.

    Returns:
        One list per rank, in the order given; empty for some where a last step has fewer examples than ranks.
    """
    room = -(-len(examples) // world_size)
    indices: list[list[int]] = [[] for _ in range(world_size)]
    tokens = [0] * world_size
    for index in sorted(range(len(examples)), key=lambda i: -len(examples[i].input_ids)):
        free = [rank for rank in range(world_size) if len(indices[rank]) < room]
        chosen = min(free, key=lambda rank: tokens[rank])
        indices[chosen].append(index)
        tokens[chosen] += len(examples[index].input_ids)
    return [[examples[i] for i in sorted(share)] for share in indices]
