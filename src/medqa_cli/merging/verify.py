"""Compare merged models with base + adapter on held-out questions, judge them and pick one.

Merged into the weights that training saw, a model must answer like base + adapter (``MIN_TOP1_AGREEMENT``,
``MAX_MEAN_KL``). Merged into other weights it differs by construction and must only not be worse: its answer NLL may
exceed the adapter's by ``NLL_TOLERANCE``, or by what is not significant on these questions.
"""

import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
import torch.nn.functional as F

from medqa_cli import console
from medqa_cli.data.dataset import QaRow, evenly_spaced
from medqa_cli.merging.adapter_file import AdapterFile
from medqa_cli.merging.architecture import Architecture
from medqa_cli.model.changed import changed
from medqa_cli.model.devices import pick_compute_dtype
from medqa_cli.model.kernels import packing
from medqa_cli.model.quantization import four_bit_layers
from medqa_cli.prompt.encoder import Example, PromptEncoder

# Two runs of one model in bfloat16 differ by as much.
MIN_TOP1_AGREEMENT = 0.99
MAX_MEAN_KL = 1e-3
# With fewer tokens a single near tie could decide: then only the divergence is bounded.
_TOKENS_FOR_TOP1 = 1000
_ERRORS_OF_CHANCE = 1.96  # standard errors: 95 % of differences that are none lie within
# One percent of perplexity: nats per answer token.
NLL_TOLERANCE = 0.01

# Other questions may drive activations higher than these do, but not by much: the largest ones occur at the first
# tokens and in a few places whatever the text is (Sun et al. 2024, "Massive activations", arXiv 2402.17762).
_ROOM_FOR_ACTIVATIONS = 2

# Answer tokens to compare on, if the split has them.
_WANTED_TOKENS = 2500
# For the noise floor on devices that compute bfloat16 several times as slowly as float32.
_FEW_TOKENS = 500
# Values of one set of logits, (N, V) float32: 128 MiB.
_MAX_LOGITS = 1 << 25
_MAX_TOKENS = 4096
_MAX_ROWS = 2000

# Tokens whose logits are compared at once.
_TOKENS_AT_ONCE = 64
# Memory of base + adapter besides its weights: logits, activations, the interpreter's own growth.
_WORKING_BYTES = 1 << 30
# bitsandbytes quantizes a whole matrix at a time and needs about this many copies of it in float32.
_COPIES_WHILE_QUANTIZING = 8


@dataclass
class LogitMetrics:
    """How far a model's logits are from the reference's: sums over answer tokens, and its score of each answer."""

    num_tokens: int = 0
    kl_sum: float = 0.0
    max_abs_logit_difference: float = 0.0
    num_top1_equal: int = 0
    scores: list[packing.AnswerScore] = field(default_factory=list)

    def add(self, reference: torch.Tensor, logits: torch.Tensor) -> None:
        """Count in two ``(N, V)`` logits of the same tokens."""
        for p, q in zip(reference.split(_TOKENS_AT_ONCE), logits.split(_TOKENS_AT_ONCE), strict=True):
            self.kl_sum += float(_kl_divergences(p, q).sum())
            self.max_abs_logit_difference = max(self.max_abs_logit_difference, float((p - q).abs().max()))
            self.num_top1_equal += int((p.argmax(-1) == q.argmax(-1)).sum())
            self.num_tokens += len(p)

    def add_batch(self, reference: torch.Tensor, logits: torch.Tensor, batch: packing.PackedBatch) -> None:
        """Count in the logits of one batch, and score its answers."""
        self.add(reference, logits)
        self.scores += packing.scores_of_logits(logits, batch)

    @property
    def mean_kl(self) -> float:
        """KL(reference || model) in nats, mean over tokens."""
        return self.kl_sum / self.num_tokens if self.num_tokens else math.nan

    @property
    def top1_agreement(self) -> float:
        """Fraction of answer tokens for which both models rank the same token first."""
        return self.num_top1_equal / self.num_tokens if self.num_tokens else math.nan

    @property
    def nll(self) -> float:
        """Nats per answer token."""
        return packing.mean_nll(self.scores)

    def as_json(self) -> dict[str, float]:
        """Return the metrics under the names of ``merge.json``."""
        return {
            "answer_tokens": self.num_tokens,
            "mean_kl": self.mean_kl,
            "max_abs_logit_difference": self.max_abs_logit_difference,
            "top1_agreement": self.top1_agreement,
            "answer_nll": self.nll,
        }


def _kl_divergences(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return KL(first || second) of two ``(N, V)`` logits in nats: ``(N,)`` float64.

    With d = second - first it is log(sum p exp(d)) - sum p d. In this form no two large numbers cancel where d is
    small, so that float32 is enough; two log-softmaxes in float64 would take several times as long.
    """
    p, d = torch.softmax(first, -1), second - first
    mean = (p * d).sum(-1, dtype=torch.float64)
    divergences = torch.log1p((p * torch.expm1(d)).sum(-1, dtype=torch.float64)) - mean
    if divergences.isfinite().all():
        return divergences
    # A logit that is far off overflows above.
    log_p, log_q = F.log_softmax(first.double(), -1), F.log_softmax(second.double(), -1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def paired_difference(first: list[packing.AnswerScore], second: list[packing.AnswerScore]) -> tuple[float, float]:
    """Return by how much ``first`` is worse than ``second`` in nats per answer token, and the standard error of that.

    The error is that of a ratio estimate over questions (Cochran, Sampling Techniques, 1977, section 6.4); infinite
    where there is one question only.
    """
    sums = [a.nll_sum - b.nll_sum for a, b in zip(first, second, strict=True)]
    tokens = [score.num_tokens for score in first]
    mean = sum(sums) / sum(tokens)
    count = len(sums)
    if count < 2:
        return mean, math.inf
    residuals = sum((total - mean * size) ** 2 for total, size in zip(sums, tokens, strict=True))
    return mean, math.sqrt(residuals * count / (count - 1)) / sum(tokens)


@dataclass
class Verification:
    """What was measured.

    ``faithful``: the candidates that were merged into the weights training saw; ``largest_activation``: the largest
    absolute value into or out of a linear layer of a candidate.
    """

    adapter_scores: list[packing.AnswerScore] = field(default_factory=list)
    noise_floor: LogitMetrics = field(default_factory=LogitMetrics)
    candidates: dict[str, LogitMetrics] = field(default_factory=dict)
    faithful: frozenset[str] = frozenset()
    num_questions: int = 0
    seconds: float = 0.0
    largest_activation: float = 0.0

    def fits(self, dtype: torch.dtype | None) -> bool:
        """Tell whether all activations that were seen fit a type with a margin; None: the base's type, which does."""
        return dtype is None or self.largest_activation * _ROOM_FOR_ACTIVATIONS <= torch.finfo(dtype).max

    def problem(self, name: str) -> str:
        """Return which bound a candidate violates; empty: none that applies to it."""
        measured = self.candidates[name]
        if not math.isfinite(measured.kl_sum) or not math.isfinite(measured.nll):
            return "its logits are not finite"
        if name in self.faithful:
            top1, kl, floor = measured.top1_agreement, measured.mean_kl, self.noise_floor
            # Near ties flip with the rounding of the stored weights. What base + adapter itself loses to the arithmetic
            # of bfloat16 is not the merge's fault.
            required = min(MIN_TOP1_AGREEMENT, floor.top1_agreement) if floor.num_tokens else MIN_TOP1_AGREEMENT
            if (measured.num_tokens >= _TOKENS_FOR_TOP1 and top1 < required) or kl > MAX_MEAN_KL:
                return (
                    f"top-1 agreement with base + adapter is {top1:.4f} (at least {MIN_TOP1_AGREEMENT} is required, "
                    f"or that of base + adapter in bfloat16, {floor.top1_agreement:.4f}), "
                    f"mean KL divergence {kl:.2e} nats (at most {MAX_MEAN_KL:.0e})"
                )
            return ""
        worse, error = paired_difference(measured.scores, self.adapter_scores)
        if worse > NLL_TOLERANCE and worse > _ERRORS_OF_CHANCE * error:
            return (
                f"its answers are less likely than the adapter's by {worse:.4f} nats per token "
                f"(standard error {error:.4f}; up to {NLL_TOLERANCE} is tolerated)"
            )
        return ""

    def better(self) -> str:
        """Return the candidate to write, among those that meet their bounds; else among all.

        That is the one on the weights that training saw, which is the model that is evaluated, unless the answers are
        likelier on the other ones by more than chance explains.
        """
        fit = [name for name in self.candidates if not self.problem(name)] or list(self.candidates)
        likelier = min(fit, key=lambda name: self.candidates[name].nll)
        trained = next((name for name in fit if name in self.faithful), likelier)
        gain, error = paired_difference(self.candidates[trained].scores, self.candidates[likelier].scores)
        return likelier if gain > _ERRORS_OF_CHANCE * error else trained

    def as_json(self, chosen: str) -> dict[str, Any]:
        """Return ``verification`` of ``merge.json``."""
        figures = self.candidates[chosen].as_json()
        nll = {name: measured.nll for name, measured in self.candidates.items()}
        scores = {"adapter": self.adapter_scores} | {name: metrics.scores for name, metrics in self.candidates.items()}
        pairs = [(name, "adapter") for name in self.candidates]
        if {"nf4", "original"} <= scores.keys():
            pairs.append(("original", "nf4"))
        differences = {f"{a}-{b}": paired_difference(scores[a], scores[b]) for a, b in pairs}
        problem = self.problem(chosen)
        return {
            "questions": self.num_questions,
            "answer_tokens": sum(score.num_tokens for score in self.adapter_scores),
            **{key: figures[key] for key in ("mean_kl", "max_abs_logit_difference", "top1_agreement")},
            "answer_nll": {
                "adapter": packing.mean_nll(self.adapter_scores),
                "nf4": nll.get("nf4"),
                "original": nll.get("original"),
            },
            "nll_difference": {
                name: {"value": value, "standard_error": error if math.isfinite(error) else None}
                for name, (value, error) in differences.items()
            },
            "noise_floor": self.noise_floor.as_json(),
            "candidates": {name: measured.as_json() for name, measured in self.candidates.items()},
            "largest_activation": self.largest_activation,
            "passed": not problem,
            "problem": problem or None,
            "seconds": round(self.seconds, 1),
        }


def compare(
    reference: Any, candidates: Mapping[str, Any], examples: Sequence[Example], device: torch.device, num_logits: int
) -> Verification:
    """Run base + adapter and each candidate over the examples, a batch at a time, and keep sums.

    Args:
        reference: base + adapter, as training loads it.
        candidates: merged models by name, in float32.
        examples: held-out questions with their answers.
        device: where all of them are.
        num_logits: size of the vocabulary.

    Returns:
        The figures; ``noise_floor`` is base + adapter in bfloat16, one question at a time, against itself; on some of
        the questions only if bfloat16 is slow.
    """
    started = time.perf_counter()
    is_bfloat16_fast = pick_compute_dtype("auto", device) == torch.bfloat16
    noise_tokens = _WANTED_TOKENS if is_bfloat16_fast else _FEW_TOKENS
    verification = Verification(candidates={name: LogitMetrics() for name in candidates}, num_questions=len(examples))
    with console.progress("comparing", len(examples)) as bar, computing_in(reference, torch.float32):
        done = 0
        # A larger example makes its own group.
        for group in packing.group_by_size(
            examples,
            lambda example: (example.num_answer_tokens * num_logits, len(example.input_ids)),
            (_MAX_LOGITS, _MAX_TOKENS),
        ):
            batch = packing.pack(group, device)
            expected = packing.answer_logits(reference, batch)
            verification.adapter_scores += packing.scores_of_logits(expected, batch)
            for name, model in candidates.items():
                verification.candidates[name].add_batch(expected, packing.answer_logits(model, batch), batch)
            if verification.noise_floor.num_tokens < noise_tokens:
                with computing_in(reference, torch.bfloat16):
                    # Another batch size: one question at a time.
                    rough = [packing.answer_logits(reference, packing.pack([example], device)) for example in group]
                verification.noise_floor.add_batch(expected, torch.cat(rough), batch)
            done += len(group)
            bar.update(done)
    verification.seconds = time.perf_counter() - started
    return verification


def pick_examples(
    rows: Sequence[QaRow], encoder: PromptEncoder, max_length: int, wanted_tokens: int = _WANTED_TOKENS
) -> list[Example]:
    """Encode rows spread over the whole split until they have enough answer tokens; always the same ones."""
    rows = evenly_spaced(rows, _MAX_ROWS)
    encoded = encoder.encode_examples(
        [row.question for row in rows], [row.answer for row in rows], max_length, [row.given for row in rows]
    )
    examples = [example for example in encoded if example.num_answer_tokens]
    total = sum(example.num_answer_tokens for example in examples)
    count = math.ceil(len(examples) * wanted_tokens / total) if total else 0
    chosen = evenly_spaced(examples, count)
    while count < len(examples) and sum(example.num_answer_tokens for example in chosen) < wanted_tokens:
        count += 1
        chosen = evenly_spaced(examples, count)
    return chosen


@contextlib.contextmanager
def computing_in(model: Any, dtype: torch.dtype) -> Iterator[None]:
    """Compute in ``dtype`` inside the block: unquantized weights are cast, 4-bit layers multiply in it.

    The quantized weights stay as they are, and afterwards so does everything else.
    """
    parameters = [p for name, p in model.named_parameters() if p.is_floating_point() and "lora_" not in name]
    changes = [(p, "data", p.data.to(dtype)) for p in parameters]
    changes += [(layer, "compute_dtype", dtype) for layer in four_bit_layers(model)]
    autocast = torch.autocast(next(model.parameters()).device.type, dtype, enabled=dtype != torch.float32)
    with changed(*changes), torch.inference_mode(), autocast:
        yield


def memory_needed_bytes(architecture: Architecture, adapter: AdapterFile, quantization: str) -> int:
    """Return about how much memory loading and running base + adapter in float32 takes."""
    bytes_of = {"nf4": 0.5 + 4 / 64, "fp4": 0.5 + 4 / 64, "int8": 1.0}
    weights = [(name, prod(shape)) for name, shape in architecture.shapes.items() if name not in architecture.tied]
    total = 4.0 * sum(prod(shape) for shape in adapter.shapes.values()) + _WORKING_BYTES
    largest = 0
    for name, count in weights:
        is_quantized = quantization != "none" and name.removesuffix(".weight") in architecture.four_bit
        # In float32, and a second time in bfloat16 for the noise floor.
        total += count * (bytes_of[quantization] if is_quantized else 6.0)
        largest = max(largest, count if is_quantized else 0)
    return int(total + _COPIES_WHILE_QUANTIZING * 4 * largest)
