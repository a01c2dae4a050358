"""The tables that ``medqa eval`` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medqa_cli import console
from medqa_cli.evaluation.metrics import STRIPPED, in_group, metric
from medqa_cli.evaluation.results import baseline_sentences, power_sentences, verdict

# Title of each group of metrics; a terminal that is too narrow for a table gets several.
_TABLES = {
    "likelihood": "Likelihood of the reference answers",
    "overlap": "Overlap with the references",
    "stripped": "Overlap, boilerplate stripped",
    "topic": "Topic",
    "behavior": "Behavior",
}


def show(results: Mapping[str, Any], results_path: Path, report_path: Path) -> None:
    """Print models, baselines and differences with their intervals, and how many questions stand behind them."""
    for group, title in _TABLES.items():
        names = in_group(group)
        if group == "stripped" and _as_unstripped(names, results):
            console.line("Overlap, boilerplate stripped: the same figures; there was nothing to strip")
            console.line()
        else:
            _show_group(title, names, results)
    for name, own in results["multiple_choice"].items():
        _show_group(f"{name}: {own['items']} multiple-choice items", in_group("choice"), own)
        if "contaminated" in own:
            console.line(f"{len(own['contaminated']['ids'])} items of {name} stand in the training data; without them:")
            if "unseen" in own["contaminated"]:
                rest = own["contaminated"]["unseen"]
                _show_group(f"{name}: the other {rest['items']} items", in_group("choice"), rest)
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
    for sentence in (*baseline_sentences(results), *power_sentences(results)):
        console.line(sentence)
    if settings["num_truncated_answers"]:
        console.line(f"{settings['num_truncated_answers']} answers were cut at {settings['max_length']} tokens")
    console.line(f"written: {results_path} and {report_path.name}")


def _show_group(title: str, names: Sequence[str], results: Mapping[str, Any]) -> None:
    everyone = [*results["models"].values(), *results["floors"].values()]
    names = [name for name in names if any(name in figures for figures in everyone)]
    if not names:
        return
    rows = [_row(who, figures, names) for who, figures in results["models"].items()]
    rows += [_row(f"baseline: {who}", figures, names) for who, figures in results["floors"].items()]
    rows += [
        [who.replace("-", " - "), *(_difference(name, figures[name]) if name in figures else "" for name in names)]
        for who, figures in results["differences"].items()
    ]
    header = ["", *(metric(name).title for name in names)]
    in_one_line = [[cell.replace("\n", " ") for cell in row] for row in rows]
    if sum(_widths(in_one_line, header)) - 2 <= console.width():
        rows = in_one_line
    for number, columns in enumerate(_tables_that_fit(_widths(rows, header), console.width())):
        part = [[row[0], *(row[column] for column in columns)] for row in rows]
        part = [row for row in part if any(row[1:])]
        continued = " (continued)" if number else ""
        console.table(f"{title}{_direction(names)}{continued}", part, ["", *(header[column] for column in columns)])


def _widths(rows: Sequence[Sequence[str]], header: Sequence[str]) -> list[int]:
    """Return the width of each column with the space before it; a title may be broken between its words."""
    return [
        2 + max(len(text) for text in ("", *title.split(), *(line for row in rows for line in row[column].split("\n"))))
        for column, title in enumerate(header)
    ]


def _tables_that_fit(widths: Sequence[int], room: int) -> list[list[int]]:
    """Divide the columns after the first, the labels, among tables that are no wider than ``room`` if that can be."""
    tables: list[list[int]] = []
    used = room
    for column, width in list(enumerate(widths))[1:]:
        if used + width > room:
            tables.append([])
            used = widths[0] - 2
        tables[-1].append(column)
        used += width
    return tables


def _direction(names: Sequence[str]) -> str:
    directions = {metric(name).lower_is_better for name in names}
    if directions == {True}:
        return "; lower is better"
    return "; higher is better" if directions == {False} else ""


def _row(who: str, figures: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    return [who, *(_interval(name, figures[name]) if name in figures else "" for name in names)]


def _interval(name: str, figure: Mapping[str, Any]) -> str:
    low, high = figure["ci95"]
    digits = metric(name).digits
    return f"{figure['value']:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _difference(name: str, figure: Mapping[str, Any]) -> str:
    low, high = figure["ci95"]
    digits = metric(name).digits
    return f"{figure['value']:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]\n{verdict(name, figure)}"


def _as_unstripped(names: Sequence[str], results: Mapping[str, Any]) -> bool:
    everyone = [*results["models"].values(), *results["floors"].values()]
    pairs = [(own[name], own[name.removesuffix(STRIPPED)]) for own in everyone for name in names if name in own]
    return bool(pairs) and all(one == other for one, other in pairs)
