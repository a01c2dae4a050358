"""The report on ``results.json``: in sentences, and in tables on the terminal."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from medqa_cli import console
from medqa_cli.evaluation import arms, bootstrap, comparison, conclusion
from medqa_cli.evaluation.metrics import STRIPPED, in_group, metric
from medqa_cli.spelling import with_noun

# Title of each group of metrics; a terminal that is too narrow for a table gets several.
_TABLES = {
    "likelihood": "Likelihood of the reference answers",
    "overlap": "Overlap with the references",
    "stripped": "Overlap, boilerplate stripped",
    "topic": "Topic",
    "behavior": "Behavior",
    "grounding": "Sources",
    "memorization": "Memorized training data",
}


NOTHING_STRIPPED = "Overlap, boilerplate stripped: the same figures; there was nothing to strip"


def nothing_stripped(results: Mapping[str, Any]) -> bool:
    """Tell whether each stripped figure is the plain one; False where none was measured."""
    figures = [*results["models"].values(), *results["floors"].values()]
    pairs = [
        (of[name], of[name.removesuffix(STRIPPED)]) for of in figures for name in in_group("stripped") if name in of
    ]
    return bool(pairs) and all(stripped == plain for stripped, plain in pairs)


def verdict(name: str, figure: Mapping[str, Any]) -> str:
    """Return in words what a difference shows: better, worse, different (where neither is good), or nothing.

    Nothing is known of others from a figure that a single topic decides.
    """
    if figure["better"] is not None:
        return "better" if figure["better"] else "worse"
    low, high = figure["ci95"]
    if low is None:
        return "not known"
    is_seen = not low <= 0 <= high
    return "different" if is_seen and metric(name).lower_is_better is None else "no difference shown"


def baseline_sentences(results: Mapping[str, Any]) -> list[str]:
    """Say for each model in which metrics it is not shown to be better than a trivial answerer.

    Nothing is said of answers from sources among which the right one was left out on purpose.
    """
    sentences = []
    for model, baselines in results.get("floors_not_beaten", {}).items():
        if model.endswith((arms.ABSENT, arms.WRONG_TOPIC)):
            continue
        for baseline, figures in baselines.items():
            names = [
                f"{metric(name).title}{'' if better is None else ' (worse)'}"
                for name, better in figures.items()
                if not name.endswith(STRIPPED)
            ]
            if names:
                sentences.append(
                    f"{model} is not shown to be better than the baseline {baseline} in {', '.join(names)}"
                )
    return sentences


def engine_sentences(results: Mapping[str, Any]) -> list[str]:
    """Say what wrote the answers of the models that were loaded here, where it was llama.cpp."""
    answered_by = results["settings"].get("answered_by")  # of a file, where figures are computed again
    return [
        f"the answers of {name} were written by llama.cpp from {by.get('file')} ({by.get('quantization')}); "
        "likelihoods are those of Transformers"
        for name, by in (answered_by.items() if isinstance(answered_by, dict) else ())
        if isinstance(by, dict) and by.get("engine") == "llamacpp"
    ]


def copy_sentences(results: Mapping[str, Any]) -> list[str]:
    """Say for each model with an open book whether it beats the copies of a passage."""
    copies = {"against_copy": "the copy of the first passage", "against_bm25": "the copy of BM25's first passage"}
    sentences = []
    for key, copy in copies.items():
        for model, figures in results.get(key, {}).items():
            shown = ", ".join(
                f"{metric(name).title} {_interval(name, figures[name], '+')} {verdict(name, figures[name])}"
                for name in ("rougeL", "topic_coverage")
                if name in figures
            )
            if shown:
                sentences.append(f"{model} less {copy}: {shown}")
    return sentences


def power_sentences(results: Mapping[str, Any]) -> list[str]:
    """Say for each pair of models which differences a sample of this size cannot show."""
    sentences = []
    for pair, figures in results["differences"].items():
        wanted = ("nll", "rougeL", "topic_coverage")
        shown = [name for name in wanted if name in figures and (figures[name]["detectable"] or 0.0) > 1e-9]
        if shown:
            least = ", ".join(f"{figures[name]['detectable']:.2g} in {name}" for name in shown)
            sentences.append(
                f"{pair.replace('-', ' - ')}: with {with_noun(results['questions'], 'question')}, differences "
                f"smaller than {least} may not show"
            )
    return sentences


def memorization_sentences(results: Mapping[str, Any]) -> list[str]:
    """Say what can be asked out of each model of what it was trained on."""
    return [sentence for said in results.get("memorization", {}).get("sentences", {}).values() for sentence in said]


def show(
    results: Mapping[str, Any], results_path: Path, report_path: Path, review: Mapping[str, Any] | None = None
) -> None:
    """Print models, baselines and differences with their intervals, how many questions they rest on, and what it all
    says.

    Args:
        results: the content of ``results.json``.
        results_path: where it was written.
        report_path: where the page was written.
        review: as for ``make_page``.
    """
    for group, title in _TABLES.items():
        if group == "stripped" and nothing_stripped(results):
            console.line(NOTHING_STRIPPED)
            console.line()
        else:
            _show_group(title, in_group(group), results)
    for name, choices in results["multiple_choice"].items():
        _show_group(f"{name}: {choices['items']} multiple-choice items", in_group("choice"), choices)
        if contaminated := choices.get("contaminated"):
            console.line(f"{len(contaminated['ids'])} items of {name} are in the training data; without them:")
            if rest := contaminated.get("unseen"):
                _show_group(f"{name}: the other {rest['items']} items", in_group("choice"), rest)
    _show_what_they_rest_on(results)
    console.line(f"written: {results_path} and {report_path.name}")
    console.line()
    console.line(comparison.heading(results))
    for line in conclusion.conclude(results, review):
        console.line(f"{line.question} {line.answer}{f' {line.command}' if line.command else ''}")


def _show_what_they_rest_on(results: Mapping[str, Any]) -> None:
    """Print how many questions and topics there were, what computed the figures, and what else bears on them."""
    settings = results["settings"]
    clusters = settings["clusters"]
    # A question without a topic stands for itself.
    is_told = results["topics"] == clusters
    topics = f", {with_noun(results['topics'], 'topic')}" if is_told else ""
    console.line(
        f"{results['split']} split, {with_noun(results['questions'], 'question')}{topics}, "
        f"{settings['answer_tokens']:,} reference tokens"
    )
    unit = "topics" if is_told else "topics, or questions without one" if results["topics"] else "questions"
    if single := comparison.only_one(results):
        console.line(f"no 95 % intervals: {single}")
    else:
        console.line(f"[95 % interval]: bootstrap over {clusters} {unit}, {settings['bootstrap_draws']:,} draws")
    if settings.get("sources") and any("nll" in figures for figures in results["models"].values()):
        console.line(
            "losses are of questions without sources; the validation loss of medqa train is of those with them"
        )
    kinds = (engine_sentences, baseline_sentences, copy_sentences, power_sentences, memorization_sentences)
    for sentence in chain.from_iterable(said(results) for said in kinds):
        console.line(sentence)
    if settings["num_truncated_answers"]:
        # Without the results of before, --rescore does not know the limit.
        limit = f" = {settings['max_length']}" if "max_length" in settings else ""
        console.line(f"{settings['num_truncated_answers']} reference answers were cut at model.max_length{limit}")


def _show_group(title: str, names: Sequence[str], results: Mapping[str, Any]) -> None:
    measured = [*results["models"].values(), *results["floors"].values()]
    names = [name for name in names if any(name in figures for figures in measured)]
    if not names:
        return

    def row(label: str, figures: Mapping[str, Any], cell: Callable[[str, Mapping[str, Any]], str]) -> list[str]:
        return [label, *(cell(name, figures[name]) if name in figures else "" for name in names)]

    def difference(name: str, figure: Mapping[str, Any]) -> str:
        return f"{_interval(name, figure, '+')}\n{verdict(name, figure)}"

    rows = [row(model, figures, _interval) for model, figures in results["models"].items()]
    rows += [row(f"baseline: {floor}", figures, _interval) for floor, figures in results["floors"].items()]
    for pair, figures in results["differences"].items():
        rows.append(row(pair.replace("-", " - "), figures, difference))
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
    return bootstrap.with_interval(figure, f"{sign}.{metric(name).digits}f")


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
