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
import torch.nn.functional as F

from medqa_cli.errors import MedqaError
from medqa_cli.prompt import IGNORE_INDEX, Example

PACKED_ATTENTION = "medqa_packed"


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
    logits = model(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        example_lengths=batch.example_lengths,
        logits_to_keep=batch.logit_positions,
        use_cache=False,
    ).logits[0]  # (N, V)
    return F.cross_entropy(logits.float(), batch.targets, reduction="none")


def group_by_tokens(examples: Sequence[Example], max_tokens: int) -> Iterator[list[Example]]:
    """Yield consecutive groups of at most ``max_tokens`` tokens; a longer example makes a group of its own."""
    group: list[Example] = []
    size = 0
    for example in examples:
        length = len(example.input_ids)
        if group and size + length > max_tokens:
            yield group
            group, size = [], 0
        group.append(example)
        size += length
    if group:
        yield group


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    example_lengths: tuple[int, ...] | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each example, in the form that Transformers' attention interface asks for.

    Args:
        module: the attention layer (unused).
        query: ``(1, heads, T, head_dim)``.
        key: ``(1, kv_heads, T, head_dim)``.
        value: as ``key``.
        attention_mask: unused; the examples' lengths say all.
        dropout: attention dropout.
        scaling: factor on the scores; None: 1/sqrt(head_dim).
        example_lengths: tokens per example; None: one example.
        sliding_window: tokens that a token sees at most; None: all before it.
        softcap: not supported.

    Returns:
        ``(1, T, heads, head_dim)`` and None.

    Raises:
        MedqaError: the architecture caps its attention scores.
    """
    if softcap is not None:
        raise MedqaError(
            "this architecture caps its attention scores, which padding-free training does not support yet"
        )
    lengths = list(example_lengths) if example_lengths is not None else [query.shape[2]]
    grouped = query.shape[1] != key.shape[1]
    parts = [
        F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=_window_mask(q.shape[2], sliding_window, q.device),
            dropout_p=dropout,
            is_causal=not _exceeds(q.shape[2], sliding_window),
            scale=scaling,
            enable_gqa=grouped,
        )
        for q, k, v in zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True)
    ]
    return torch.cat(parts, 2).transpose(1, 2).contiguous(), None


def register_packed_attention() -> None:
    """Make ``attn_implementation="medqa_packed"`` known to Transformers; it builds no mask for such a name."""
    from transformers import AttentionInterface

    AttentionInterface.register(PACKED_ATTENTION, packed_attention)


def _exceeds(length: int, sliding_window: int | None) -> bool:
    return sliding_window is not None and length > sliding_window


def _window_mask(length: int, sliding_window: int | None, device: torch.device) -> torch.Tensor | None:
    if sliding_window is None or not _exceeds(length, sliding_window):
        return None
    position = torch.arange(length, device=device)
    distance = position[:, None] - position[None, :]  # (T, T)
    return (distance >= 0) & (distance < sliding_window)
