"""How likely a model finds reference answers: the negative log-likelihood of each answer.

Used to watch the training, to evaluate and to verify a merge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from medqa_cli.model.kernels.packing import answer_token_losses, examples_at_once, group_by_tokens, pack
from medqa_cli.prompt.encoder import Example


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
        batch_size: examples in one padding-free forward.
        device: where the model is.
        dtype: type of the matrix products.
        max_tokens: tokens in one forward at most (a longer example goes alone); None: no limit.
        on_progress: called with the number of examples scored so far.
    """
    # Examples of like length together: the longest forward decides the peak memory.
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
                for place, index in enumerate(chosen):
                    own = losses[batch.example_of_target == place]
                    scores[index] = AnswerScore(float(own.sum(dtype=torch.float64)), len(own))
            done += len(chosen)
            on_progress(done)
    finally:
        model.train(was_training)
    return scores


def mean_nll(scores: Sequence[AnswerScore]) -> float:
    """Return nats per answer token over all answers; NaN where there is no token."""
    tokens = sum(score.num_tokens for score in scores)
    return sum(score.nll_sum for score in scores) / tokens if tokens else float("nan")
