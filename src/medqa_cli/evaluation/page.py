"""``report.html``: one file without any network request, with intervals drawn and answers side by side.

Its template writes everything out; the script in it only filters and sorts.
"""

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from medqa_cli import console
from medqa_cli.evaluation import bootstrap, comparison, conclusion, overlap, report
from medqa_cli.evaluation.arms import ABSENT, ARMS, OPEN_BOOK, WRONG_TOPIC
from medqa_cli.evaluation.metrics import in_group, metric, repeats_itself
from medqa_cli.evaluation.samples import GREEDY, Sample
from medqa_cli.resources import template_environment
from medqa_cli.spelling import with_noun

Row = tuple[str, Mapping[str, Any], str]  # label, figures by name, class of the page's row
_WAYS = {
    "": ("closed book", "the question alone"),
    OPEN_BOOK: ("open book", "sources, one of which may answer"),
    ABSENT: ("absent", "sources, but none that answers"),
    WRONG_TOPIC: ("wrong topic", "sources about something else"),
}


def make_page(
    results: Mapping[str, Any],
    samples: Mapping[str, Sequence[Sample]],
    review: Mapping[str, Any] | None = None,
) -> str:
    """Return the page as text.

    Args:
        results: the content of ``results.json``.
        samples: by model, all with the same questions in the same order.
        review: the content of ``review/results.json``, with ``current``: whether the judged answers are still these;
            None: nobody has judged them.
    """
    # The model whose cases are ordered and, if it was measured, the base that it is compared with.
    compared = [next((name for name in samples if name != "base"), "base")]
    if "base" in samples and compared != ["base"]:
        compared.append("base")
    # What no reader sees (a zero byte, an escape) is U+FFFD.
    environment = template_environment(
        lambda value: console.printable(value) if type(value) is str else value, autoescape=True
    )
    environment.globals |= {
        "comparison": comparison,
        "hidden": in_group("stripped") if report.nothing_stripped(results) else (),
        "panels_of": _panels,
        "percent": bootstrap.percent,
        "report": report,
        "rows_of": _rows,
        "verdict_first": _verdict_first,
        "with_interval": bootstrap.with_interval,
        "with_noun": with_noun,
    }
    return environment.get_template("report.html.j2").render(
        results=results,
        review=review,
        heading=comparison.heading(results),
        lines=conclusion.conclude(results, review),
        ways=_with_sources(results),
        models=", ".join(name for name in samples if not name.endswith((GREEDY, *ARMS))),
        legend=_legend(samples, compared),
        topics=sorted({sample.topic for sample in next(iter(samples.values())) if sample.topic}),
        questions=_questions(samples, compared),
    )


def _legend(samples: Mapping[str, Sequence[Sample]], compared: Sequence[str]) -> str:
    """Say what the score of a question is; ``compared``: the model and, if it was measured, the base."""
    if any(sample.answer is None for of_model in samples.values() for sample in of_model):
        return (
            "No answers were generated. The score is the log-likelihood of the reference per token, "
            f"{' - '.join(compared)}: the higher the better."
        )
    return (
        f"The score is ROUGE-L, {' - '.join(compared)}: the higher the better. Marked: words that the reference does "
        "not have in this place. Flagged: answers that repeat themselves or were cut off."
    )


def _verdict_first(answer: str) -> Markup:
    """Return an answer of the five lines with the words that decide in bold."""
    pieces = re.split(r"((?:^|(?<=sources: ))(?:yes|partly|no|not \w+|only where)\b)", answer, flags=re.IGNORECASE)
    return Markup("").join(
        Markup("<b>%s</b>") % piece if place % 2 else escape(piece) for place, piece in enumerate(pieces)
    )


def _with_sources(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table of the arms of models with sources: titles of the figures, and a row for each arm."""
    models = results["models"]
    wanted = ("rougeL", "topic_coverage", *in_group("grounding"))
    names = [name for name in wanted if any(name in figures for figures in models.values())]
    rows = [
        (f"{model}: {title}", given, [models[model + arm].get(name) for name in names])
        for model in models
        if model + OPEN_BOOK in models
        for arm, (title, given) in _WAYS.items()
        if model + arm in models
    ]
    return {"titles": [metric(name).title for name in names], "rows": rows}


def _rows(measured: Mapping[str, Any]) -> list[Row]:
    """Return the rows of the results, or of those of a multiple-choice set, whose baselines name their choice."""
    rows = [(name, figures, "") for name, figures in measured["models"].items()]
    for name, figures in measured["floors"].items():
        rows.append((f"{name} ({figures['choice']})" if "choice" in figures else name, figures, "floor"))
    return rows


def _panels(rows: Sequence[Row], hidden: Collection[str]) -> list[dict[str, Any]]:
    """Return for each figure its title and the intervals of all rows that have it, in percent of the widest span."""
    panels = []
    for name in dict.fromkeys(name for _, figures, _ in rows for name in figures if name not in ("choice", *hidden)):
        measured = [(label, figures[name], kind) for label, figures, kind in rows if name in figures]
        # A figure that a single topic decides has no interval: its value is both ends.
        ends = [[figure["value"] if end is None else end for end in figure["ci95"]] for _, figure, _ in measured]
        start = min(low for low, _ in ends)
        span = (max(high for _, high in ends) - start) or 1.0
        direction = {True: "lower is better", False: "higher is better", None: ""}[metric(name).lower_is_better]
        title = metric(name).title
        panels.append(
            {
                "title": title,
                "about": ", ".join(word for word in (name, direction) if word and word != title),
                "rows": [
                    {
                        "who": label.replace("_", " "),
                        "kind": kind,
                        "figure": bootstrap.with_interval(figure, ".3f"),
                        "left": 100 * (low - start) / span,
                        "middle": 100 * (figure["value"] - start) / span,
                        "width": 100 * (high - low) / span,
                    }
                    for (label, figure, kind), (low, high) in zip(measured, ends, strict=True)
                ],
            }
        )
    return panels


def _questions(samples: Mapping[str, Sequence[Sample]], compared: Sequence[str]) -> list[dict[str, Any]]:
    """Return what is shown of each question, the worst first."""

    def score_of(sample: Sample) -> float:
        if sample.answer is not None:
            return overlap.rouge(sample.answer, sample.references)["rougeL"]
        return -(sample.nll_sum or 0.0) / (sample.answer_tokens or 1)

    questions = []
    for number, asked in enumerate(zip(*samples.values(), strict=True)):
        by_model = dict(zip(samples, asked, strict=True))
        score, *of_base = (score_of(by_model[name]) for name in compared)
        answers: list[dict[str, Any]] = []
        for name, sample in by_model.items():
            flags = ["repeats itself"] if sample.answer is not None and repeats_itself(sample.answer) else []
            is_cut = sample.answer is not None and sample.finish_reason in ("length", "repetition")
            flags += ["not finished"] if is_cut else []
            nll = None if sample.nll_sum is None or not sample.answer_tokens else sample.nll_sum / sample.answer_tokens
            text = "" if sample.answer is None else marked(sample.answer, sample.references[0])
            answers.append({"model": name, "flags": flags, "nll": nll, "text": text})
        questions.append(
            {
                "score": score - sum(of_base),
                "place": number,
                "first": asked[0],
                "findable": f"{asked[0].topic} {asked[0].question}".lower(),
                "answers": answers,
                "flags": list(dict.fromkeys(flag for answer in answers for flag in answer["flags"])),
            }
        )
    return sorted(questions, key=lambda question: (question["score"], question["place"]))


def marked(answer: str, reference: str) -> Markup:
    """Return an answer as HTML in which the words that differ from the reference, word by word, are marked."""
    words, target = answer.split(" "), reference.split(" ")
    matcher = difflib.SequenceMatcher(
        a=[_bare(word) for word in words], b=[_bare(word) for word in target], autojunk=False
    )
    pieces: list[Markup] = []
    end = 0
    for block in matcher.get_matching_blocks():
        if block.a > end:
            pieces.append(Markup("<mark>%s</mark>") % _html(words[end : block.a]))
        if block.size:
            pieces.append(_html(words[block.a : block.a + block.size]))
        end = block.a + block.size
    return Markup(" ").join(pieces)


def _html(words: Sequence[str]) -> Markup:
    return escape(console.printable(" ".join(words)))


def _bare(word: str) -> str:
    return word.strip(" .,;:!?()\n").casefold()
