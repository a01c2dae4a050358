"""Compares merged models with base + adapter on held-out questions, judges them and picks one.

Which bound holds for which: merged onto the weights that training saw, a model must answer like base + adapter
(``MIN_TOP1_AGREEMENT``, ``MAX_MEAN_KL``). Merged onto other weights it differs by construction, and must only not be
worse: its answer NLL may exceed the adapter's by what the questions cannot tell from chance, or by
``NLL_TOLERANCE``. Does not write anything.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from medqa_cli import console
from medqa_cli.data.dataset import QaRow, evenly_spaced
from medqa_cli.merging.comparison import Measured, answer_logits, answer_scores, paired_difference
from medqa_cli.merging.reference import computing_in
from medqa_cli.model.devices import pick_compute_dtype
from medqa_cli.model.kernels.packing import group_by_size, pack
from medqa_cli.model.scoring import AnswerScore, mean_nll
from medqa_cli.prompt.encoder import Example, PromptEncoder

# The bounds of the issue that asked for this: what two runs of one model in bfloat16 differ by is of the same order.
MIN_TOP1_AGREEMENT = 0.99
MAX_MEAN_KL = 1e-3
# On fewer tokens one near tie that falls the other way would decide, and the divergence alone is bounded.
_TOKENS_FOR_TOP1 = 1000
# One percent of perplexity: nats per answer token.
NLL_TOLERANCE = 0.01

# Other questions may drive activations higher than those that were seen. Not by much: the largest ones sit at the first
# tokens and in a few places whatever the text is (Sun et al. 2024, "Massive activations", arXiv 2402.17762).
_ROOM_FOR_ACTIVATIONS = 2

# Answer tokens to compare on, where the split has them.
_WANTED_TOKENS = 2500
# For the noise floor on devices that compute bfloat16 several times as slowly as float32.
_FEW_TOKENS = 500
# Values of one set of logits, (N, V) float32: 128 MiB.
_MAX_LOGITS = 1 << 25
_MAX_TOKENS = 4096
_MAX_ROWS = 2000


@dataclass
class Verification:
    """What was measured. ``faithful``: the names of the candidates that stand on the weights training saw.

    ``largest_activation``: the largest absolute value into or out of a linear layer of a candidate.
    """

    adapter_scores: list[AnswerScore] = field(default_factory=list)
    noise_floor: Measured = field(default_factory=Measured)
    candidates: dict[str, Measured] = field(default_factory=dict)
    faithful: frozenset[str] = frozenset()
    num_questions: int = 0
    seconds: float = 0.0
    largest_activation: float = 0.0

    def fits(self, dtype: torch.dtype | None) -> bool:
        """Tell whether all activations that were seen fit a type with room to spare; None: the base's, which do."""
        return dtype is None or self.largest_activation * _ROOM_FOR_ACTIVATIONS <= torch.finfo(dtype).max

    def problem(self, name: str) -> str:
        """Say which bound a candidate does not meet; empty where it meets all that hold for it."""
        measured = self.candidates[name]
        if not math.isfinite(measured.difference.kl_sum) or not math.isfinite(measured.nll):
            return "its logits are not finite"
        if name in self.faithful:
            top1, kl = measured.difference.top1_agreement, measured.difference.mean_kl
            if top1 < self._wanted_top1(measured) or kl > MAX_MEAN_KL:
                return (
                    f"top-1 agreement with base + adapter is {top1:.4f} (at least {MIN_TOP1_AGREEMENT} is asked for, "
                    f"or that of base + adapter in bfloat16, {self.noise_floor.difference.top1_agreement:.4f}), "
                    f"mean KL divergence {kl:.2e} nats (at most {MAX_MEAN_KL:.0e})"
                )
            return ""
        worse, error = paired_difference(measured.scores, self.adapter_scores)
        if worse > NLL_TOLERANCE and worse > 1.96 * error:
            return (
                f"its answers are less likely than the adapter's by {worse:.4f} nats per token "
                f"(standard error {error:.4f}; up to {NLL_TOLERANCE} is let pass)"
            )
        return ""

    def _wanted_top1(self, measured: Measured) -> float:
        """Return the share of tokens on which a faithful model must agree with base + adapter.

        Near ties fall either way with the rounding of the stored weights. What base + adapter itself loses to the
        arithmetic of bfloat16 is no fault of a merge.
        """
        if measured.difference.num_tokens < _TOKENS_FOR_TOP1:
            return 0.0
        floor = self.noise_floor.difference
        return min(MIN_TOP1_AGREEMENT, floor.top1_agreement) if floor.num_tokens else MIN_TOP1_AGREEMENT

    def better(self) -> str:
        """Return the candidate with the lower answer NLL among those that meet their bounds; else among all."""
        fit = [name for name in self.candidates if not self.problem(name)]
        return min(fit or self.candidates, key=lambda name: self.candidates[name].nll)

    def as_json(self, chosen: str) -> dict[str, Any]:
        """Return what stands in ``merge.json`` under ``verification``."""
        figures = self.candidates[chosen].as_json()
        nll = {name: measured.nll for name, measured in self.candidates.items()}
        problem = self.problem(chosen)
        return {
            "questions": self.num_questions,
            "answer_tokens": sum(score.num_tokens for score in self.adapter_scores),
            **{key: figures[key] for key in ("mean_kl", "max_abs_logit_difference", "top1_agreement")},
            "answer_nll": {
                "adapter": mean_nll(self.adapter_scores),
                "nf4": nll.get("nf4"),
                "original": nll.get("original"),
            },
            "nll_difference": self._nll_differences(),
            "noise_floor": self.noise_floor.as_json(),
            "candidates": {name: measured.as_json() for name, measured in self.candidates.items()},
            "largest_activation": self.largest_activation,
            "passed": not problem,
            "problem": problem or None,
            "seconds": round(self.seconds, 1),
        }

    def _nll_differences(self) -> dict[str, dict[str, float | None]]:
        scores = {name: measured.scores for name, measured in self.candidates.items()}
        pairs = {f"{name}-adapter": (own, self.adapter_scores) for name, own in scores.items()}
        if {"nf4", "original"} <= scores.keys():
            pairs["original-nf4"] = (scores["original"], scores["nf4"])
        found = {name: paired_difference(one, two) for name, (one, two) in pairs.items()}
        return {
            name: {"value": value, "standard_error": error if math.isfinite(error) else None}
            for name, (value, error) in found.items()
        }


def compare(
    reference: Any, candidates: Mapping[str, Any], examples: Sequence[Example], device: torch.device, num_logits: int
) -> Verification:
    """Run base + adapter and each candidate over the examples, a batch at a time, and keep sums.

    Args:
        reference: base + adapter (``load_reference``).
        candidates: merged models by name, in float32.
        examples: held-out questions with their answers.
        device: where all of them are.
        num_logits: size of the vocabulary.

    Returns:
        The figures; ``noise_floor`` is base + adapter in bfloat16, one question at a time, against itself, on some of
        the questions where bfloat16 is slow.
    """
    started = time.perf_counter()
    found = Verification(candidates={name: Measured() for name in candidates}, num_questions=len(examples))
    with console.progress("comparing", len(examples)) as bar, computing_in(reference, torch.float32):
        done = 0
        for group in _batches(examples, num_logits):
            batch = pack(group, device)
            expected = answer_logits(reference, batch)
            found.adapter_scores += answer_scores(expected, batch)
            for name, model in candidates.items():
                found.candidates[name].add(expected, answer_logits(model, batch), batch)
            if found.noise_floor.difference.num_tokens < _noise_tokens(device):
                with computing_in(reference, torch.bfloat16):
                    # Another batch size: each question by itself.
                    rough = [answer_logits(reference, pack([example], device)) for example in group]
                found.noise_floor.add(expected, torch.cat(rough), batch)
            done += len(group)
            bar.update(done)
    found.seconds = time.perf_counter() - started
    return found


def _noise_tokens(device: torch.device) -> int:
    """Return on how many answer tokens the noise floor is measured: fewer where bfloat16 is emulated."""
    is_fast = pick_compute_dtype("auto", device) == torch.bfloat16
    return _WANTED_TOKENS if is_fast else _FEW_TOKENS


def pick_examples(rows: Sequence[QaRow], encoder: PromptEncoder, max_length: int) -> list[Example]:
    """Encode rows spread over the whole split until they have enough answer tokens; always the same ones."""
    rows = evenly_spaced(rows, _MAX_ROWS)
    encoded = encoder.encode_examples([row.question for row in rows], [row.answer for row in rows], max_length)
    examples = [example for example in encoded if example.num_answer_tokens]
    total = sum(example.num_answer_tokens for example in examples)
    count = math.ceil(len(examples) * _WANTED_TOKENS / total) if total else 0
    chosen = evenly_spaced(examples, count)
    while count < len(examples) and sum(example.num_answer_tokens for example in chosen) < _WANTED_TOKENS:
        count += 1
        chosen = evenly_spaced(examples, count)
    return chosen


def _batches(examples: Sequence[Example], num_logits: int) -> Iterator[list[Example]]:
    """Yield consecutive groups whose logits and tokens stay within bounds; a larger example makes its own group."""
    return group_by_size(
        examples,
        lambda example: (example.num_answer_tokens * num_logits, len(example.input_ids)),
        (_MAX_LOGITS, _MAX_TOKENS),
    )
