"""The tables that ``medqa eval`` prints. Does not compute anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medqa_cli import console
from medqa_cli.evaluation.metrics import BEHAVIOUR, LIKELIHOOD, OVERLAP, STRIPPED, TOPIC, metric

# Tables that fit a terminal of 120 columns: title and the figures in it.
_TABLES = (
    ("Likelihood of the reference answers", LIKELIHOOD),
    ("Overlap with the references", OVERLAP),
    ("Overlap, boilerplate stripped", tuple(name + STRIPPED for name in OVERLAP)),
    ("Topic", TOPIC),
    ("Behaviour", BEHAVIOUR),
)


def show(results: Mapping[str, Any], results_path: Path, report_path: Path) -> None:
    """Print models, floors and differences with their intervals, and how many questions stand behind them."""
    for title, names in _TABLES:
        _show_group(title, names, results)
    for name, own in results["multiple_choice"].items():
        _show_group(f"{name}: {own['items']} multiple-choice items", ("accuracy", "macro_f1"), own)
        if "contaminated" in own:
            console.line(f"{len(own['contaminated']['ids'])} items of {name} stand in the training data; without them:")
            if "unseen" in own["contaminated"]:
                rest = own["contaminated"]["unseen"]
                _show_group(f"{name}: the other {rest['items']} items", ("accuracy", "macro_f1"), rest)
    settings = results["settings"]
    topics = f", {results['topics']} topics" if results["topics"] else ""
    console.line(
        f"{results['split']} split, {results['questions']} questions{topics}, "
        f"{settings['answer_tokens']:,} reference tokens"
    )
    unit = "topics" if results["topics"] else "questions"
    console.line(
        f"[95 % interval]: bootstrap over {settings['clusters']} {unit}, {settings['bootstrap_draws']:,} draws"
    )
    for sentence in power_sentences(results):
        console.line(sentence)
    if settings["num_truncated_answers"]:
        console.line(f"{settings['num_truncated_answers']} answers were cut at {settings['max_length']} tokens")
    console.line(f"written: {results_path} and {report_path.name}")


def power_sentences(results: Mapping[str, Any]) -> list[str]:
    """Say for each pair of models which differences a sample of this size cannot show."""
    sentences = []
    for pair, figures in results["differences"].items():
        shown = [name for name in ("nll", "rougeL", "topic_coverage") if name in figures]
        if shown:
            least = ", ".join(f"{figures[name]['detectable']:.2g} in {name}" for name in shown)
            sentences.append(
                f"{pair.replace('-', ' - ')}: with {results['questions']} questions, smaller differences than "
                f"{least} cannot be relied on to show"
            )
    return sentences


def _show_group(title: str, names: Sequence[str], results: Mapping[str, Any]) -> None:
    everyone = [*results["models"].values(), *results["floors"].values()]
    names = [name for name in names if any(name in figures for figures in everyone)]
    if not names:
        return
    rows = [_row(who, figures, names) for who, figures in results["models"].items()]
    rows += [_row(f"floor: {who}", figures, names) for who, figures in results["floors"].items()]
    rows = [row for row in rows if any(row[1:])]
    rows += [
        [who.replace("-", " - "), *(_difference(figures[name]) if name in figures else "" for name in names)]
        for who, figures in results["differences"].items()
    ]
    console.table(f"{title}{_direction(names)}", rows, ["", *(metric(name).title for name in names)])


def _direction(names: Sequence[str]) -> str:
    directions = {metric(name).lower_is_better for name in names}
    if directions == {True}:
        return "; lower is better"
    return "; higher is better" if directions == {False} else ""


def _row(who: str, figures: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    return [who, *(_interval(figures[name]) if name in figures else "" for name in names)]


def _interval(figure: Mapping[str, Any]) -> str:
    low, high = figure["ci95"]
    return f"{figure['value']:.3f} [{low:.3f}, {high:.3f}]"


def _difference(figure: Mapping[str, Any]) -> str:
    low, high = figure["ci95"]
    verdict = {True: "better", False: "worse", None: "no difference shown"}[figure["better"]]
    return f"{figure['value']:+.3f} [{low:+.3f}, {high:+.3f}] {verdict}"
