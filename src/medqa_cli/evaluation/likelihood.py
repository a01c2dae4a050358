"""Answer likelihood of a model on held-out questions, and a floor for it.

Does not load models (``models``) and does not compute intervals (``statistics``).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

from medqa_cli.errors import MedqaError
from medqa_cli.evaluation.models import LoadedModel
from medqa_cli.journal import SharedJournal
from medqa_cli.model.scoring import AnswerScore, score_answers
from medqa_cli.prompt.encoder import IGNORE_INDEX, Example

# Forwards in a piece of work that a second start finds done.
_FORWARDS_PER_PIECE = 8


def score_likelihood(
    loaded: LoadedModel, examples: Sequence[Example], batch_size: int, journal: SharedJournal
) -> list[AnswerScore]:
    """Score each example's answer, in the order given; pieces that are done are taken as they are.

    Raises:
        MedqaError: a likelihood is not a finite number.
    """

    def compute(part: Sequence[Example], on_progress: Callable[[int], None]) -> list[tuple[float, int]]:
        scores = score_answers(
            loaded.model,
            part,
            batch_size=batch_size,
            device=loaded.device,
            dtype=loaded.dtype,
            on_progress=on_progress,
        )
        broken = sum(not math.isfinite(score.nll_sum) for score in scores)
        if broken:
            raise MedqaError(
                f"{loaded.name}: {broken} of {len(scores)} likelihoods are not finite in {loaded.dtype}",
                "set model.compute_dtype to float32 (or bfloat16), then give the same command again",
            )
        return [(score.nll_sum, score.num_tokens) for score in scores]

    values = journal.map(
        f"likelihood/{loaded.name}",
        compute,
        examples,
        size=batch_size * _FORWARDS_PER_PIECE,
        title=f"scoring {loaded.name}",
        length=lambda example: len(example.input_ids),
    )
    return [AnswerScore(nll_sum, num_tokens) for nll_sum, num_tokens in values]


def unigram_scores(
    train_examples: Sequence[Example], examples: Sequence[Example], vocabulary_size: int
) -> list[AnswerScore]:
    """Score answers by token frequencies alone: the floor that any language model must beat.

    Frequencies of the training answers' tokens, end tokens included; unseen tokens share the mass that Witten-Bell
    smoothing leaves them: types / (tokens + types) (Witten and Bell 1991, IEEE Trans. Inf. Theory 37:1085).
    """
    counts = Counter(label for example in train_examples for label in example.labels if label != IGNORE_INDEX)
    seen_and_types = counts.total() + len(counts)
    uniform = len(counts) / seen_and_types / vocabulary_size
    scores = []
    for example in examples:
        labels = [label for label in example.labels if label != IGNORE_INDEX]
        nll = -sum(math.log(counts[label] / seen_and_types + uniform) for label in labels)
        scores.append(AnswerScore(nll, len(labels)))
    return scores
