"""How far two models are apart on the same answer tokens: divergence, logits, the likeliest token, likelihood.

Works on logits that are there (``reference`` and ``streamed`` make them) and keeps sums only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F

from medqa_cli.model.kernels.packing import PackedBatch
from medqa_cli.model.scoring import AnswerScore, mean_nll

# Tokens that are compared at once.
_TOKENS_AT_ONCE = 64


def answer_logits(model: Any, batch: PackedBatch) -> torch.Tensor:
    """Return the logits at the places whose next token belongs to an answer: ``(N, V)`` float32."""
    logits: torch.Tensor = model(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        example_lengths=batch.example_lengths,
        logits_to_keep=batch.logit_positions,
        use_cache=False,
    ).logits[0]
    return logits.float()


def answer_scores(logits: torch.Tensor, batch: PackedBatch) -> list[AnswerScore]:
    """Return the likelihood of each answer of a batch, as ``model.scoring`` computes it.

    Args:
        logits: ``(N, V)``, as ``answer_logits`` gives them.
        batch: the examples.
    """
    losses = F.cross_entropy(logits, batch.targets, reduction="none")
    own = (losses[batch.example_of_target == index] for index in range(len(batch.example_lengths)))
    return [AnswerScore(float(loss.sum(dtype=torch.float64)), len(loss)) for loss in own]


@dataclass
class Difference:
    """Sums over answer tokens of how a model's logits differ from the reference's."""

    num_tokens: int = 0
    kl_sum: float = 0.0
    max_abs_logit_difference: float = 0.0
    num_top1_equal: int = 0

    def add(self, reference: torch.Tensor, other: torch.Tensor) -> None:
        """Count in two ``(N, V)`` logits of the same tokens."""
        for one, two in zip(reference.split(_TOKENS_AT_ONCE), other.split(_TOKENS_AT_ONCE), strict=True):
            self.kl_sum += float(_divergences(one, two).sum())
            self.max_abs_logit_difference = max(self.max_abs_logit_difference, float((one - two).abs().max()))
            self.num_top1_equal += int((one.argmax(-1) == two.argmax(-1)).sum())
            self.num_tokens += len(one)

    @property
    def mean_kl(self) -> float:
        """KL(reference || other) in nats, mean over tokens."""
        return self.kl_sum / self.num_tokens if self.num_tokens else math.nan

    @property
    def top1_agreement(self) -> float:
        """Share of tokens after which both find the same token the likeliest."""
        return self.num_top1_equal / self.num_tokens if self.num_tokens else math.nan


def _divergences(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return KL(first || second) of two ``(N, V)`` logits in nats: ``(N,)`` float64.

    With d = second - first it is log(sum p exp(d)) - sum p d. In this form no two large numbers cancel where d is
    small, so that float32 is enough; two log-softmaxes in float64 would take several times as long.
    """
    p, d = torch.softmax(first, -1), second - first
    mean = (p * d).sum(-1, dtype=torch.float64)
    found = torch.log1p((p * torch.expm1(d)).sum(-1, dtype=torch.float64)) - mean
    if found.isfinite().all():
        return found
    # A logit that is far off overflows above.
    log_p, log_q = F.log_softmax(first.double(), -1), F.log_softmax(second.double(), -1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


@dataclass
class Measured:
    """What was measured of one model: its difference from the reference, and its likelihood of each answer."""

    difference: Difference = field(default_factory=Difference)
    scores: list[AnswerScore] = field(default_factory=list)

    def add(self, reference: torch.Tensor, logits: torch.Tensor, batch: PackedBatch) -> None:
        """Count in the logits of one batch."""
        self.difference.add(reference, logits)
        self.scores += answer_scores(logits, batch)

    @property
    def nll(self) -> float:
        """Nats per answer token."""
        return mean_nll(self.scores)

    def as_json(self) -> dict[str, float]:
        """Return the figures under the names of ``merge.json``."""
        return {
            "answer_tokens": self.difference.num_tokens,
            "mean_kl": self.difference.mean_kl,
            "max_abs_logit_difference": self.difference.max_abs_logit_difference,
            "top1_agreement": self.difference.top1_agreement,
            "answer_nll": self.nll,
        }


def paired_difference(first: list[AnswerScore], second: list[AnswerScore]) -> tuple[float, float]:
    """Return by how much ``first`` is worse than ``second`` in nats per answer token, and the standard error of that.

    The error is that of a ratio estimate over questions (Cochran, Sampling Techniques, 1977, section 6.4); infinite
    where there is one question only.
    """
    sums = [one.nll_sum - two.nll_sum for one, two in zip(first, second, strict=True)]
    tokens = [score.num_tokens for score in first]
    mean = sum(sums) / sum(tokens)
    count = len(sums)
    if count < 2:
        return mean, math.inf
    residuals = sum((total - mean * size) ** 2 for total, size in zip(sums, tokens, strict=True))
    return mean, math.sqrt(residuals * count / (count - 1)) / sum(tokens)
