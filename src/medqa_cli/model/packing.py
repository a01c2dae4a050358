"""Padding-free forwards: several examples in one row, none attending to another, logits for answer tokens only.

Training, validation and evaluation compute their losses here, so that they are the same numbers. Does not decide which
examples go together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch

from medqa_cli.prompt import IGNORE_INDEX, Example


@dataclass(frozen=True)
class PackedBatch:
    """Examples laid end to end.

    ``input_ids``, ``position_ids``: ``(1, T)`` int64, positions restart with each example; ``logit_positions``:
    ``(N,)`` int64, the places whose next token is supervised; ``targets``: ``(N,)`` int64, those tokens;
    ``example_of_target``: ``(N,)`` int64, the example each belongs to; ``example_lengths``: tokens per example.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    logit_positions: torch.Tensor
    targets: torch.Tensor
    example_of_target: torch.Tensor
    example_lengths: tuple[int, ...]


def pack(examples: Sequence[Example], device: torch.device) -> PackedBatch:
    """Lay examples end to end on ``device``."""
    input_ids = [i for example in examples for i in example.input_ids]
    position_ids = [p for example in examples for p in range(len(example.input_ids))]
    starts = [0, *accumulate(len(example.input_ids) for example in examples)]
    supervised = [
        (start + position - 1, label, index)
        for index, (start, example) in enumerate(zip(starts, examples, strict=False))
        for position, label in enumerate(example.labels)
        if label != IGNORE_INDEX and position > 0
    ]

    def tensor(values: list[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int64, device=device)

    return PackedBatch(
        input_ids=tensor(input_ids)[None],
        position_ids=tensor(position_ids)[None],
        logit_positions=tensor([s[0] for s in supervised]),
        targets=tensor([s[1] for s in supervised]),
        example_of_target=tensor([s[2] for s in supervised]),
        example_lengths=tuple(len(example.input_ids) for example in examples),
    )


def answer_token_losses(model: Any, batch: PackedBatch) -> torch.Tensor:
    """Return the negative log-likelihood of each supervised token: ``(N,)`` float32, in nats."""
    losses: torch.Tensor = model(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        example_lengths=batch.example_lengths,
        logits_to_keep=batch.logit_positions,
        targets=batch.targets,
        use_cache=False,
    )
    return losses


def group_by_tokens(
    examples: Sequence[Example], max_tokens: int | None, max_examples: int | None = None
) -> Iterator[list[Example]]:
    """Yield consecutive groups of at most ``max_tokens`` tokens and ``max_examples`` examples (None: no limit).

    A longer example makes a group of its own.
    """
    group: list[Example] = []
    size = 0
    for example in examples:
        length = len(example.input_ids)
        too_long = max_tokens is not None and size + length > max_tokens
        if group and (too_long or len(group) == max_examples):
            yield group
            group, size = [], 0
        group.append(example)
        size += length
    if group:
        yield group
