"""What an evaluation leaves: its files, which ``--rescore`` reads again, and the tables on the terminal."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medqa_cli import console
from medqa_cli.config.schema import Config
from medqa_cli.errors import InputError
from medqa_cli.evaluation.html_report import make_page
from medqa_cli.evaluation.metrics import STRIPPED, in_group, metric
from medqa_cli.evaluation.results import baseline_sentences, make_results, power_sentences, verdict
from medqa_cli.evaluation.samples import Sample, read_samples, write_samples
from medqa_cli.files import RunFolder, atomic_file, read_json, write_json

SAMPLES_NAME = "samples.jsonl"
FLOORS_NAME = "floors.jsonl"
REPORT_NAME = "report.html"
Samples = Mapping[str, Sequence[Sample]]  # by model or baseline

# Title of each group of metrics; a terminal that is too narrow for a table gets several.
_TABLES = {
    "likelihood": "Likelihood of the reference answers",
    "overlap": "Overlap with the references",
    "stripped": "Overlap, boilerplate stripped",
    "topic": "Topic",
    "behavior": "Behavior",
}


def write_all(run: RunFolder, samples: Samples, baselines: Samples, results: dict[str, Any]) -> None:
    """Write the samples of models and baselines, the page and, last, ``results.json``."""
    write_samples(run.eval_dir / SAMPLES_NAME, itertools.chain.from_iterable(samples.values()))
    write_samples(run.eval_dir / FLOORS_NAME, itertools.chain.from_iterable(baselines.values()))
    _write_figures(run, samples, results)


def _write_figures(run: RunFolder, samples: Samples, results: dict[str, Any]) -> None:
    with atomic_file(run.eval_dir / REPORT_NAME) as file:
        file.write(make_page(results, samples))
    write_json(run.results_path, results)


def rescore(config: Config, models: Sequence[str] | None) -> dict[str, Any]:
    """Compute all metrics again from the saved samples; neither models nor data are needed.

    Multiple-choice results are kept: predictions are not among the samples.

    Args:
        config: the run, metrics and draws; metrics that the samples cannot give are left out.
        models: those to report; None: all that were measured.

    Raises:
        InputError: nothing was measured yet, or one of the models was not.
    """
    run = RunFolder(Path(config.run_dir))
    before = _results_before(run.results_path)
    samples = read_samples(run.eval_dir / SAMPLES_NAME)
    missing = [name for name in models or () if name not in samples]
    if missing:
        raise InputError(
            f"--rescore: {run.eval_dir / SAMPLES_NAME} holds no samples of {', '.join(missing)}",
            f"it holds those of {', '.join(samples)}; measure the others: medqa eval",
        )
    floors_path = run.eval_dir / FLOORS_NAME
    floors = read_samples(floors_path) if floors_path.is_file() and floors_path.stat().st_size else {}
    ids = [sample.id for sample in next(iter(samples.values()))]
    if any([sample.id for sample in floor] != ids for floor in floors.values()):
        raise InputError(f"{floors_path} is about other questions than the samples", "measure again: medqa eval")
    chosen = {name: samples[name] for name in models or samples}
    settings = {**before.get("settings", {}), "metrics": list(config.eval.metric_names)}
    results = make_results(chosen, floors, {}, config.eval, config.seed, settings)
    results["split"] = before.get("split", config.eval.split)
    results["multiple_choice"] = before.get("multiple_choice", {})
    _write_figures(run, chosen, results)
    return results


def _results_before(path: Path) -> dict[str, Any]:
    """Return the results of the evaluation, of which some are kept; empty where there are none."""
    before = read_json(path) if path.is_file() else {}
    choices = before.get("multiple_choice", {}) if isinstance(before, dict) else None
    if not (
        isinstance(choices, dict)
        and isinstance(before.get("settings", {}), dict)
        and isinstance(before.get("split", ""), str)
        and all(isinstance(results, dict) and _are_figures(results) for results in choices.values())
    ):
        raise InputError(f"{path} is damaged: not the results of an evaluation", "measure again: medqa eval")
    return before


def _are_figures(results: dict[str, Any]) -> bool:
    """Tell whether the results of a multiple-choice set hold metrics: each an object with a number."""
    kinds = [results.get(kind) for kind in ("models", "floors", "differences")]
    if not all(isinstance(kind, dict) for kind in kinds) or not isinstance(results.get("items"), int):
        return False
    by_name = [figures for kind in kinds if kind for figures in kind.values()]
    return all(isinstance(figures, dict) for figures in by_name) and all(
        name == "choice" or (isinstance(figure, dict) and isinstance(figure.get("value"), int | float))
        for figures in by_name
        for name, figure in figures.items()
    )


def show(results: Mapping[str, Any], results_path: Path, report_path: Path) -> None:
    """Print models, baselines and differences with their intervals, and how many questions they rest on."""
    for group, title in _TABLES.items():
        names = in_group(group)
        figures = [*results["models"].values(), *results["floors"].values()]
        pairs = [(own[name], own[name.removesuffix(STRIPPED)]) for own in figures for name in names if name in own]
        if group == "stripped" and pairs and all(stripped == plain for stripped, plain in pairs):
            console.line("Overlap, boilerplate stripped: the same figures; there was nothing to strip")
            console.line()
        else:
            _show_group(title, names, results)
    for name, choices in results["multiple_choice"].items():
        _show_group(f"{name}: {choices['items']} multiple-choice items", in_group("choice"), choices)
        if contaminated := choices.get("contaminated"):
            console.line(f"{len(contaminated['ids'])} items of {name} are in the training data; without them:")
            if "unseen" in contaminated:
                rest = contaminated["unseen"]
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
        # Without the results of before, --rescore does not know the limit.
        limit = f"{settings['max_length']} tokens" if "max_length" in settings else "model.max_length"
        console.line(f"{settings['num_truncated_answers']} answers were cut at {limit}")
    console.line(f"written: {results_path} and {report_path.name}")


def _show_group(title: str, names: Sequence[str], results: Mapping[str, Any]) -> None:
    measured = [*results["models"].values(), *results["floors"].values()]
    names = [name for name in names if any(name in figures for figures in measured)]
    if not names:
        return

    def row(label: str, figures: Mapping[str, Any], cell: Callable[[str, Mapping[str, Any]], str]) -> list[str]:
        return [label, *(cell(name, figures[name]) if name in figures else "" for name in names)]

    rows = [row(model, figures, _interval) for model, figures in results["models"].items()]
    rows += [row(f"baseline: {floor}", figures, _interval) for floor, figures in results["floors"].items()]
    for pair, figures in results["differences"].items():
        rows.append(row(pair.replace("-", " - "), figures, _difference))
    header = ["", *(metric(name).title for name in names)]
    directions = {metric(name).lower_is_better for name in names}
    if len(directions) == 1:
        title += {True: "; lower is better", False: "; higher is better", None: ""}[directions.pop()]
    in_one_line = [[cell.replace("\n", " ") for cell in row] for row in rows]
    if sum(_widths(in_one_line, header)) - 2 <= console.width():
        rows = in_one_line
    for number, columns in enumerate(_tables_that_fit(_widths(rows, header), console.width())):
        part = [[row[0], *(row[column] for column in columns)] for row in rows]
        part = [row for row in part if any(row[1:])]
        continued = " (continued)" if number else ""
        console.table(f"{title}{continued}", part, ["", *(header[column] for column in columns)])


def _interval(name: str, figure: Mapping[str, Any], sign: str = "") -> str:
    value, low, high = (f"{number:{sign}.{metric(name).digits}f}" for number in (figure["value"], *figure["ci95"]))
    return f"{value} [{low}, {high}]"


def _difference(name: str, figure: Mapping[str, Any]) -> str:
    return f"{_interval(name, figure, '+')}\n{verdict(name, figure)}"


def _widths(rows: Sequence[Sequence[str]], header: Sequence[str]) -> list[int]:
    """Return the width of each column with the space before it; a title may break between words."""
    return [
        2 + max(len(text) for text in ("", *title.split(), *(line for row in rows for line in row[column].split("\n"))))
        for column, title in enumerate(header)
    ]


def _tables_that_fit(widths: Sequence[int], limit: int) -> list[list[int]]:
    """Divide the columns after the first, the labels, among tables no wider than ``limit``, where that is possible."""
    tables: list[list[int]] = []
    used = limit
    for column, width in list(enumerate(widths))[1:]:
        if used + width > limit:
            tables.append([])
            used = widths[0] - 2
        tables[-1].append(column)
        used += width
    return tables
