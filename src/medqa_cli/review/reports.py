"""What readers reported at ``medqa serve``: counts, and no shares, since readers choose what they report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medqa_cli import console
from medqa_cli.review.judgments import NO_ANSWER, Judgment, key_beside

_NO_SHARE = (
    "Readers choose what they report: this does not say how often answers are wrong. medqa review make draws a sample."
)


def counted(judgments: Sequence[Judgment], samples: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
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


def show(results: Mapping[str, Any], path: Path, results_path: Path) -> None:
    """Print the counts; ``path``: of the reports."""
    rows = [
        ["no answer was given" if name == NO_ANSWER else name, *map(str, counts.values())]
        for name, counts in results["models"].items()
    ]
    console.table("Reported answers", rows, ["whose", "reports", "wrong", "could harm", "corrected"])
    console.line(f"{results['reports']} reports of {results['questions']} questions; texts: {key_beside(path)}")
    for sentence in results["summary"]:
        console.line(sentence)
    console.line(f"written: {results_path}")
