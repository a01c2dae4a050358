"""In how many pairs each automatic figure prefers the answer that the clinicians prefer.

Half is what a coin gives. A figure that is no better than a coin says nothing about which of two answers is better,
whatever it says about the average of many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from medqa_cli.data.retrieval import content_stems
from medqa_cli.evaluation.metrics import METRICS, in_group, metric, text_metrics
from medqa_cli.evaluation.samples import Sample
from medqa_cli.review.figures import TIE, Review, compared, judged_pairs, preference

# Not one of eval's: shares of words alone reward length. Here it is the yardstick that the others have to beat.
WORDS_FOUND = "words_found"


@dataclass(frozen=True)
class AutomaticFigure:
    """A figure of one answer; ``sign``: -1 where lower is better, so that more of sign * value is better."""

    title: str
    sign: int
    value_of: Callable[[Sample], float]


def automatic_figures() -> dict[str, AutomaticFigure]:
    """Return by name every figure of the evaluation that a single answer has, and the share of words found."""
    figures = {WORDS_FOUND: AutomaticFigure("reference's words found", 1, words_found)}
    likelihood, grounding = in_group("likelihood"), in_group("grounding")
    for name in (*likelihood, *text_metrics(name for name in METRICS if name not in likelihood)):
        about = metric(name)
        if about.group != "choice" and name not in grounding:
            # Where neither way is better, more is taken for better: a longer answer, for one.
            figures[name] = AutomaticFigure(about.title, -1 if about.lower_is_better else 1, _of_one(name))
    return figures


def _of_one(name: str) -> Callable[[Sample], float]:
    def value_of(sample: Sample) -> float:
        parts = metric(name).parts([sample])
        return math.nan if parts is None else float(metric(name).reduce(parts)[0])

    return value_of


def words_found(sample: Sample) -> float:
    """Return the share of the words of the reference that stand in the answer, as the support of sentences is told."""
    wanted = content_stems(sample.references[0])
    return len(wanted & content_stems(sample.answer or "")) / len(wanted) if wanted else math.nan


def against_raters(
    review: Review, samples: Mapping[str, Sequence[Sample]], shown: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    """Return for each automatic figure the share of pairs in which it prefers the answer that the rater preferred.

    Pairs with a reference have no figures, which compare with it; pairs that were judged equal are left out. A figure
    that is the same for both answers counts half.

    Args:
        review: the judgments.
        samples: of the evaluation, by model.
        shown: the answers that the raters saw, by question and model; another answer of a sample is left out.
    """
    by_model = {model: {sample.id: sample for sample in of_model} for model, of_model in samples.items()}
    decided: list[tuple[str, str, Sample, Sample, bool]] = []
    for (first, second), judgments in judged_pairs(review.judgments).items():
        for judgment in judgments:
            question, won = judgment.pair.question_id, preference(judgment, first)
            pair = [by_model.get(model, {}).get(question) for model in (first, second)]
            same = [s is not None and s.answer == shown.get(question, {}).get(s.model) for s in pair]
            if won not in (None, TIE) and all(same):
                one, other = (sample for sample in pair if sample is not None)
                decided.append((judgment.pair.rater, question, one, other, won == 1.0))
    found: dict[str, Any] = {}
    for name, figure in automatic_figures().items():
        value_of = cache(figure.value_of)
        agreeing: dict[tuple[str, str], list[float]] = {}
        ties = 0
        for rater, question, one, other, first_won in decided:
            difference = figure.sign * (value_of(one) - value_of(other))
            if not math.isnan(difference):
                ties += difference == 0
                agrees = TIE if difference == 0 else float((difference > 0) == first_won)
                agreeing.setdefault((rater, question), []).append(agrees)
        if (mean := review.mean(agreeing)) is not None:
            pairs = sum(len(values) for values in agreeing.values())
            about = compared(mean, TIE, higher_is_better=True)
            found[name] = {"title": figure.title, **about, "pairs": pairs, "ties": ties}
    return found
