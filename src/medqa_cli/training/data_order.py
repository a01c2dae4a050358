"""How many optimizer steps a training run has, which examples make up each, and in which forward passes they go.

All ranks walk over the same data in the same order, so that nothing about it has to be exchanged, and a step is the
same set of examples however many ranks share it.
"""

import math
import random
from collections.abc import Sequence

import torch

from medqa_cli import distributed
from medqa_cli.config.schema import TrainConfig
from medqa_cli.model.kernels.packing import group_by_tokens
from medqa_cli.prompt.encoder import Example

# Of the order in which the largest forward pass is looked for.
_ORDER_SEED = 0
# An evaluation costs a forward pass over the split; this many questions settle a mean loss to about 0.05 nats.
MAX_VALIDATION_EXAMPLES = 128
_EVALUATIONS = 10  # in a training run with ``eval_steps: auto``


def examples_per_step(config: TrainConfig) -> int:
    """Return the examples of an optimizer step over all ranks."""
    return config.per_device_train_batch_size * config.gradient_accumulation_steps * distributed.world_size()


def num_steps(config: TrainConfig, num_examples: int) -> int:
    """Return the optimizer steps of a training run on so many examples."""
    if config.max_steps > 0:
        return config.max_steps
    return math.ceil(math.ceil(num_examples / examples_per_step(config)) * config.num_train_epochs)


def validation_interval(config: TrainConfig, num_examples: int, num_validation_examples: int) -> int | None:
    """Return the steps between two evaluations; None: there are none during training.

    ``auto``: ten evaluations, fewer where they would take more than a tenth of the time of the steps. A step takes
    three times as long as a forward pass over its examples, which is all that an evaluation does, over at most
    ``MAX_VALIDATION_EXAMPLES``.
    """
    if not num_validation_examples:
        return None
    if config.eval_steps != "auto":
        return config.eval_steps
    steps = num_steps(config, num_examples)
    num_validation_examples = min(num_validation_examples, MAX_VALIDATION_EXAMPLES)
    affordable = 0.1 * 3 * steps * examples_per_step(config) / num_validation_examples
    return math.ceil(steps / max(1, min(_EVALUATIONS, int(affordable))))


def num_tokens(examples: Sequence[Example]) -> int:
    """Return the tokens of all examples together, those of prompts and of answers."""
    return sum(len(example.input_ids) for example in examples)


def num_tokens_of_training(config: TrainConfig, examples: Sequence[Example]) -> int:
    """Predict the tokens of all steps: those of whole epochs, and of a part of the last one in proportion."""
    size = examples_per_step(config)
    epochs, more_steps = divmod(num_steps(config, len(examples)), math.ceil(len(examples) / size))
    share_of_last = min(1.0, more_steps * size / len(examples))
    return round((epochs + share_of_last) * num_tokens(examples))


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


def forwards_of_rank(
    examples: Sequence[Example],
    *,
    rank: int,
    world_size: int,
    max_tokens: int,
    max_examples: int | None,
    same_number_on_all_ranks: bool,
) -> tuple[list[list[Example]], list[list[Example]]]:
    """Return the forward passes of a rank in a step, and those that it makes only to keep step with the other ranks.

    It makes at least one: gradients are exchanged in the last backward pass of each rank.

    Args:
        examples: those of the step, over all ranks.
        rank: which rank.
        world_size: number of ranks.
        max_tokens: limit on the tokens of a forward pass.
        max_examples: limit on its examples; None: any number.
        same_number_on_all_ranks: as FSDP needs, which gathers weights in every forward pass.
    """
    forwards = [
        list(group_by_tokens(share, max_tokens, max_examples)) for share in shares_of_step(examples, world_size)
    ]
    needed = max(map(len, forwards)) if same_number_on_all_ranks else 1
    shortest = min(examples, key=lambda example: len(example.input_ids))
    return forwards[rank], [[shortest]] * (needed - len(forwards[rank]))


def largest_forward(
    examples: Sequence[Example], config: TrainConfig, max_tokens: int, max_examples: int | None
) -> tuple[list[Example], bool]:
    """Return the examples of the largest forward pass of an epoch in some order, and whether steps have several."""
    order = list(examples)
    random.Random(_ORDER_SEED).shuffle(order)
    # One rank's share of each step.
    size = config.per_device_train_batch_size * config.gradient_accumulation_steps
    steps = [order[start : start + size] for start in range(0, len(order), size)]
    forwards = [list(group_by_tokens(step, max_tokens, max_examples)) for step in steps]
    return max((group for groups in forwards for group in groups), key=num_tokens), any(len(g) > 1 for g in forwards)
