"""Padding-free forward passes: several examples in one row, none attending to another, logits for answer tokens only.

Training, validation, evaluation and the verification of a merge compute their losses here, so that they are the same
numbers.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medqa_cli.model.kernels.attention import is_packed
from medqa_cli.prompt.encoder import IGNORE_INDEX, Example

T = TypeVar("T")


@dataclass(frozen=True)
class PackedBatch:
    """Examples laid end to end.

    ``input_ids``, ``position_ids``: ``(1, T)`` int64, positions restart with each example; ``logit_positions``:
    ``(N,)`` int64, the places whose next token is supervised; ``targets``: ``(N,)`` int64, those tokens;
    ``example_of_target``: ``(N,)`` int64, the example each belongs to; ``example_lengths``: tokens per example.
    """

    input_ids: Tensor
    position_ids: Tensor
    logit_positions: Tensor
    targets: Tensor
    example_of_target: Tensor
    example_lengths: tuple[int, ...]


def pack(examples: Sequence[Example], device: torch.device) -> PackedBatch:
    """Lay examples end to end on ``device``."""
    lengths = tuple(len(example.input_ids) for example in examples)
    labels = np.fromiter(chain.from_iterable(example.labels for example in examples), np.int64)
    starts = np.cumsum([0, *lengths])[:-1]
    supervised = labels != IGNORE_INDEX
    supervised[starts] = False  # nothing stands before a first token that would predict it
    places = np.flatnonzero(supervised)
    return packed_batch(
        np.fromiter(chain.from_iterable(example.input_ids for example in examples), np.int64),
        lengths,
        places - 1,
        labels[places],
        np.searchsorted(starts, places, side="right") - 1,
        device,
    )


def packed_batch(
    input_ids: np.ndarray[Any, Any],
    example_lengths: tuple[int, ...],
    logit_positions: np.ndarray[Any, Any],
    targets: np.ndarray[Any, Any],
    example_of_target: np.ndarray[Any, Any],
    device: torch.device,
) -> PackedBatch:
    """Make a batch of arrays of int64, in one copy to the device; they are what ``PackedBatch`` says."""
    lengths = np.asarray(example_lengths)
    position_ids = np.arange(len(input_ids)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    parts = (input_ids, position_ids, logit_positions, targets, example_of_target)
    if device.type == "cuda":
        # One buffer in pinned memory: its copy does not wait for what the GPU computes.
        buffer = torch.from_numpy(np.concatenate(parts)).pin_memory().to(device, non_blocking=True)
        tensors = list(buffer.split([len(part) for part in parts]))
    else:
        tensors = [torch.tensor(part, device=device) for part in parts]
    ids, positions, logits, of_logits, examples = tensors
    return PackedBatch(ids[None], positions[None], logits, of_logits, examples, example_lengths)


def answer_token_losses(model: Any, batch: PackedBatch) -> Tensor:
    """Return the negative log-likelihood of each supervised token: ``(N,)`` float32, in nats."""
    losses: Tensor = _forward(model, batch, targets=batch.targets)
    return losses


def plain_losses(model: Any, example: Example) -> Tensor:
    """Return the same of one example, by the model's own forward pass."""
    device = next(model.parameters()).device
    row, targets = torch.tensor([example.input_ids], device=device), torch.tensor(example.labels, device=device)[1:]
    logits = model(input_ids=row, use_cache=False).logits[0, :-1].float()
    return F.cross_entropy(logits, targets, reduction="none", ignore_index=IGNORE_INDEX)[targets != IGNORE_INDEX]


def answer_logits(model: Any, batch: PackedBatch) -> Tensor:
    """Return the logits at the positions whose next token belongs to an answer: ``(N, V)`` float32."""
    logits: Tensor = _forward(model, batch).logits[0]
    return logits.float()


def _forward(model: Any, batch: PackedBatch, **more: Any) -> Any:
    return model(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        example_lengths=batch.example_lengths,
        logits_to_keep=batch.logit_positions,
        use_cache=False,
        **more,
    )


def examples_at_once(model: Any, wanted: int | None = None) -> int | None:
    """Return how many examples a forward pass of this model may hold (None: no limit), no more than are ``wanted``.

    One where it computes one at a time: more would only be kept in memory for the backward pass.
    """
    return wanted if is_packed(model) else 1


def group_by_tokens(
    examples: Sequence[Example], max_tokens: int | None, max_examples: int | None = None
) -> Iterator[list[Example]]:
    """Yield consecutive groups of at most ``max_tokens`` tokens and ``max_examples`` examples (None: no limit).

    A longer example makes a group of its own.
    """
    return group_by_size(examples, lambda example: (len(example.input_ids), 1), (max_tokens, max_examples))


def group_by_size(
    items: Iterable[T], sizes_of: Callable[[T], Sequence[int]], limits: Sequence[int | None]
) -> Iterator[list[T]]:
    """Yield consecutive groups whose summed sizes stay within all limits (None: no limit).

    A larger item makes a group of its own.
    """
    group: list[T] = []
    totals = [0] * len(limits)
    for item in items:
        sizes = sizes_of(item)
        sums = [total + size for total, size in zip(totals, sizes, strict=True)]
        if group and any(limit is not None and total > limit for total, limit in zip(sums, limits, strict=True)):
            yield group
            group, sums = [], list(sizes)
        group.append(item)
        totals = sums
    if group:
        yield group


@dataclass(frozen=True)
class AnswerScore:
    """Likelihood of one reference answer: summed loss in nats over its supervised tokens."""

    nll_sum: float
    num_tokens: int


def score_answers(
    model: Any,
    examples: Sequence[Example],
    *,
    batch_size: int,
    device: torch.device,
    dtype: torch.dtype,
    max_tokens: int | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[AnswerScore]:
    """Score each example's answer, in the order given. Leaves the model in the mode that it was in.

    Args:
        model: a causal language model loaded with ``packed=True``, or a PEFT model around one.
        examples: prompt and answer; those without a supervised token score (0.0, 0).
        batch_size: examples in one padding-free forward pass.
        device: where the model is.
        dtype: type of the matrix products.
        max_tokens: tokens in one forward pass at most (a longer example goes alone); None: no limit.
        on_progress: called with the number of examples scored so far.
    """
    # Examples of like length together: the longest forward pass decides the peak memory.
    order = sorted(range(len(examples)), key=lambda i: len(examples[i].input_ids))
    scores: list[AnswerScore] = [AnswerScore(0.0, 0)] * len(examples)
    was_training = model.training
    model.eval()
    try:
        done = 0
        for group in group_by_tokens([examples[i] for i in order], max_tokens, examples_at_once(model, batch_size)):
            chosen = order[done : done + len(group)]
            batch = pack(group, device)
            if len(batch.targets):
                # Not inference_mode: the buffers that FSDP gathers weights into would be lost for training.
                with torch.no_grad(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                    losses = answer_token_losses(model, batch)
                for index, score in zip(chosen, scores_of(losses, batch), strict=True):
                    scores[index] = score
            done += len(chosen)
            on_progress(done)
    finally:
        model.train(was_training)
    return scores


def scores_of_logits(logits: Tensor, batch: PackedBatch) -> list[AnswerScore]:
    """Return the score of each answer of a batch; ``logits``: ``(N, V)``, as ``answer_logits`` gives them."""
    return scores_of(F.cross_entropy(logits, batch.targets, reduction="none"), batch)


def scores_of(losses: Tensor, batch: PackedBatch) -> list[AnswerScore]:
    """Return the score of each answer of a batch by the losses of its tokens: ``(N,)`` float32."""
    # At once to the host: a GPU is waited for twice, and not twice for each answer.
    losses, example_of_target = losses.cpu(), batch.example_of_target.cpu()
    by_example = (losses[example_of_target == index] for index in range(len(batch.example_lengths)))
    return [AnswerScore(float(part.sum(dtype=torch.float64)), len(part)) for part in by_example]


def mean_nll(scores: Sequence[AnswerScore]) -> float:
    """Return nats per answer token over all answers; NaN where there is no token."""
    tokens = sum(score.num_tokens for score in scores)
    return sum(score.nll_sum for score in scores) / tokens if tokens else float("nan")
