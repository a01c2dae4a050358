"""``medqa review score``: from the raters' files to ``results.json`` and the section of ``report.html``.

It also says in how many pairs each automatic figure prefers the answer that the clinicians prefer. Half is what a coin
gives. A figure that is no better than a coin says nothing about which of two answers is better, whatever it says about
the average of many.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from medqa_cli import console
from medqa_cli.config.schema import Config
from medqa_cli.data.retrieval import content_stems
from medqa_cli.errors import InputError
from medqa_cli.evaluation.metrics import METRICS, in_group, metric, text_metrics
from medqa_cli.evaluation.rescore import show_review
from medqa_cli.evaluation.results import SAMPLES_NAME
from medqa_cli.evaluation.samples import Sample, digest_of_answer, read_samples
from medqa_cli.files import locked, write_json
from medqa_cli.review.criteria import Criterion
from medqa_cli.review.figures import TIE, WIN_RATE, Review, against_tie, describe_raters, judged_pairs, preference
from medqa_cli.review.judgments import KEY_NAME, Judgment, find_key, read_judgments, read_key
from medqa_cli.review.report import sentences

# Not one of eval's: shares of words alone reward length. Here it is the yardstick that the others have to beat.
WORDS_FOUND = "words_found"
# What readers reported is counted, and has no shares.
_NO_SHARE = (
    "Readers choose what they report: this does not say how often answers are wrong. medqa review make draws a sample."
)


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
            about = against_tie(mean, TIE, higher_is_better=True)
            found[name] = {"title": figure.title, **about, "pairs": pairs, "ties": ties}
    return found


def figure_names(config: Config, paths: Sequence[Path]) -> list[str]:
    """Return the names of the figures that a review has, such as ``could_harm`` and ``win_rate``.

    Raises:
        InputError: there is no review, or the files hold what readers reported.
    """
    path = find_key(paths, config.run.review_dir)
    key = read_key(path)
    if not key.is_sample:
        raise InputError(
            f"--fail-on: the answers in {path} were reported by readers, who choose what they report",
            "a drawn sample has figures to go by: medqa review make",
        )
    return [*key.form.ids, WIN_RATE]


def results_path(config: Config, paths: Sequence[Path]) -> Path:
    """Return where the results are written: in the folder of the review, or beside what readers reported."""
    run = config.run
    path = find_key(paths, run.review_dir)
    if path.parent == run.review_dir and path.name == KEY_NAME:
        return run.review_results_path
    return path.with_name(f"{path.name.removesuffix('.key.json')}.results.json")


def score_review(config: Config, paths: Sequence[Path]) -> dict[str, Any]:
    """Score what the raters of a review gave back; return the content of its results, which are written.

    Reports of readers are counted only.

    Args:
        config: the run, and the seed of the draws.
        paths: the raters' files.

    Raises:
        InputError: there is no review, no judgment that can be used, or an evaluation is running.
    """
    run = config.run
    key = read_key(find_key(paths, run.review_dir))
    judgments, problems = read_judgments(paths, key)
    if not judgments:
        raise InputError("\n".join(["nothing can be scored", *problems]), "give the files that the raters saved")
    for problem in problems:
        console.warn(problem)
    if not key.is_sample:
        counts = {"review": key.review, **count_reports(judgments, key.samples), "problems": problems}
        write_json(results_path(config, paths), counts, private=True)
        return counts
    with locked(run.eval_dir, "medqa eval", make=False):
        samples_path = run.eval_dir / SAMPLES_NAME
        samples = read_samples(samples_path) if samples_path.is_file() else {}
        found = make_results(judgments, key.form.criteria, samples, key.samples, config.seed)
        results = {"review": key.review, **found, "problems": problems}
        write_json(run.review_results_path, results, private=True)
        if samples:
            show_review(run)
    return results


def make_results(
    judgments: Sequence[Judgment],
    criteria: Sequence[Criterion],
    samples: Mapping[str, Sequence[Sample]],
    shown: Mapping[str, Mapping[str, str]],
    seed: int,
) -> dict[str, Any]:
    """Compute every figure of a review.

    Args:
        judgments: of all raters, at least one.
        criteria: what was asked about each answer.
        samples: of the evaluation, by model; empty: no automatic figure is compared.
        shown: the answers that the raters saw, by question and model.
        seed: of the draws for the intervals of agreement.
    """
    review = Review(judgments, {criterion.id: criterion.good for criterion in criteria})
    asked = dict.fromkeys(judgment.pair.question_id for judgment in judgments)
    results = {
        "questions": len(asked),
        "topics": review.num_topics,
        "judgments": len(judgments),
        "criteria": [{"id": one.id, "text": one.text, "good": one.good} for one in criteria],
        "raters": describe_raters(judgments),
        "models": review.model_figures(),
        "differences": review.differences(),
        "control": review.control(),
        "agreement": review.agreements(seed),
        "automatic": against_raters(review, samples, shown),
        # Tells whether an evaluation is still of the answers that were judged.
        "answers": {
            name: {question: digest_of_answer(shown[question][name]) for question in asked if name in shown[question]}
            for name in dict.fromkeys(name for question in asked for name in shown.get(question, {}))
        },
        "settings": {"seed": seed},
    }
    return {**results, "summary": sentences(results)}


def count_reports(judgments: Sequence[Judgment], samples: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Count reports by whose answer they are about (``x`` of their pair).

    Args:
        judgments: the reports.
        samples: answers and corrections, by report and writer.
    """
    models: dict[str, dict[str, int]] = {}
    for judgment in judgments:
        pair = judgment.pair
        counts = models.setdefault(pair.x, dict.fromkeys(("reports", "wrong", "harmful", "corrected"), 0))
        counts["reports"] += 1
        counts["wrong"] += judgment.x.get("correct") is False
        counts["harmful"] += judgment.x.get("could_harm") is True
        counts["corrected"] += bool(samples[pair.question_id][pair.y])
    questions = {judgment.pair.question for judgment in judgments}
    return {"reports": len(judgments), "questions": len(questions), "models": models, "summary": [_NO_SHARE]}
