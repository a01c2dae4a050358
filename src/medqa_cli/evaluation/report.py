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
        if names[0].endswith(STRIPPED) and _as_unstripped(names, results):
            console.line("Overlap, boilerplate stripped: the same figures; there was nothing to strip")
            console.line()
        else:
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
        wanted = ("nll", "rougeL", "topic_coverage")
        shown = [name for name in wanted if name in figures and figures[name]["detectable"] > 1e-9]
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
        [
            who.replace("-", " - "),
            *(_difference(figures[name], len(names)) if name in figures else "" for name in names),
        ]
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
    digits = _digits(figure)
    return f"{figure['value']:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _difference(figure: Mapping[str, Any], num_columns: int) -> str:
    low, high = figure["ci95"]
    digits = _digits(figure)
    # Many columns leave no room for more words in a terminal.
    verdict = {True: "better", False: "worse", None: "no difference shown" if num_columns <= 2 else "not shown"}
    return f"{figure['value']:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}] {verdict[figure['better']]}"


def _digits(figure: Mapping[str, Any]) -> int:
    # chrF and BLEU go to 100: three decimals of them say nothing.
    return 1 if max(abs(end) for end in figure["ci95"]) >= 10 else 3


def _as_unstripped(names: Sequence[str], results: Mapping[str, Any]) -> bool:
    everyone = [*results["models"].values(), *results["floors"].values()]
    pairs = [(own[name], own[name.removesuffix(STRIPPED)]) for own in everyone for name in names if name in own]
    return bool(pairs) and all(one == other for one, other in pairs)
