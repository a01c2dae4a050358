"""``report.html``: one file without any network request, with intervals drawn and answers side by side.

All is written out here; the script in the page only filters and sorts. Does not compute figures.
"""

from __future__ import annotations

import difflib
import html
from collections.abc import Mapping, Sequence
from importlib import resources
from string import Template
from typing import Any

from medqa_cli.console import printable
from medqa_cli.evaluation.metrics import metric, repeats
from medqa_cli.evaluation.overlap import rouge
from medqa_cli.evaluation.results import baseline_sentences, verdict
from medqa_cli.evaluation.samples import Sample


def make_page(results: Mapping[str, Any], samples: Mapping[str, Sequence[Sample]]) -> str:
    """Return the page as text.

    Args:
        results: the content of ``results.json``.
        samples: by model, all with the same questions in the same order.
    """
    template = Template(resources.files("medqa_cli.evaluation").joinpath("page.html").read_text(encoding="utf-8"))
    first = next(iter(samples.values()))
    topics = sorted({sample.topic for sample in first if sample.topic})
    return template.substitute(
        title=f"medqa eval: {_text(', '.join(samples))}",
        summary=_summary(results),
        figures=_figures(results),
        differences=_differences(results["differences"], "Differences between models"),
        choices="\n".join(_choice_set(name, own) for name, own in results.get("multiple_choice", {}).items()),
        legend=_legend(samples),
        topics="".join(f'<option value="{_text(topic)}">' for topic in topics),
        count=len(first),
        questions="\n".join(_questions(samples)),
    )


def _summary(results: Mapping[str, Any]) -> str:
    settings = results["settings"]
    topics = f", {results['topics']} topics" if results["topics"] else ""
    return (
        f"<p>{results['questions']} questions of the {_text(results['split'])} split{topics}. Intervals: 95 %, "
        f"bootstrap over {settings['clusters']} clusters (topics), {settings['bootstrap_draws']:,} draws, seed "
        f"{settings['seed']}.</p>"
        '<p class="soft">Grey: what a trivial answerer gets. These figures do not tell whether an answer is medically '
        "right.</p>" + "".join(f"<p>{_text(sentence)}.</p>" for sentence in baseline_sentences(results))
    )


def _figures(results: Mapping[str, Any]) -> str:
    everyone = [(name, own, "") for name, own in results["models"].items()]
    everyone += [(name, own, "floor") for name, own in results["floors"].items()]
    return (
        f'<section><h2>Figures</h2><div class="metrics">{_panels(everyone)}</div></section>'
        if any(own for _, own, _ in everyone)
        else ""
    )


def _panels(everyone: Sequence[tuple[str, Mapping[str, Any], str]]) -> str:
    names = dict.fromkeys(name for _, own, _ in everyone for name in own if name != "choice")
    return "\n".join(
        _panel(name, [(who, own[name], kind) for who, own, kind in everyone if name in own]) for name in names
    )


def _panel(name: str, rows: Sequence[tuple[str, Mapping[str, Any], str]]) -> str:
    low = min(figure["ci95"][0] for _, figure, _ in rows)
    high = max(figure["ci95"][1] for _, figure, _ in rows)
    width = (high - low) or 1.0
    body = "".join(_interval_row(who, figure, kind, low, width) for who, figure, kind in rows)
    direction = {True: "lower is better", False: "higher is better", None: ""}[metric(name).lower_is_better]
    title = metric(name).title
    about = ", ".join(word for word in (name, direction) if word and word != title)
    return (
        f"<div><h3>{_text(title)} <span class='soft'>{_text(about)}</span></h3>"
        f"<table><tbody>{body}</tbody></table></div>"
    )


def _interval_row(who: str, figure: Mapping[str, Any], kind: str, start: float, width: float) -> str:
    low, high = figure["ci95"]
    left, middle, size = (100 * part / width for part in (low - start, figure["value"] - start, high - low))
    return (
        f'<tr class="{kind}"><th scope="row" class="who">{_text(who.replace("_", " "))}</th>'
        f'<td><span class="track" aria-hidden="true"><i style="left:{left:.2f}%;width:{size:.2f}%"></i>'
        f'<b style="left:{middle:.2f}%"></b></span></td>'
        f'<td class="n">{figure["value"]:.3f} [{low:.3f}, {high:.3f}]</td></tr>'
    )


def _differences(differences: Mapping[str, Any], title: str) -> str:
    groups = "".join(_pair(pair, figures) for pair, figures in differences.items() if figures)
    if not groups:
        return ""
    # A narrow window scrolls the table; the arrow keys do so once it has the focus.
    return (
        f"<section><h2>{title}</h2><div class='scroll' tabindex='0' role='region' aria-label='{title}'><table><thead>"
        f"<tr><th scope='col'>figure</th><th scope='col'>shown</th><th scope='col' class='n'>difference [95 %]</th>"
        f"<th scope='col' class='n'>least that can be seen</th></tr></thead>{groups}</table></div></section>"
    )


def _pair(pair: str, figures: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><th scope='row'>{_text(name)}</th>"
        f"<td>{_verdict(name, own)}</td>"
        f"<td class='n'>{own['value']:+.3f} [{own['ci95'][0]:+.3f}, {own['ci95'][1]:+.3f}]</td>"
        f"<td class='n'>{own['detectable']:.3f}</td></tr>"
        for name, own in figures.items()
    )
    title = f"<tr><th scope='rowgroup' colspan='4' class='pair'>{_text(pair.replace('-', ' - '))}</th></tr>"
    return f"<tbody>{title}{rows}</tbody>"


def _verdict(name: str, figure: Mapping[str, Any]) -> str:
    kind = {True: "yes", False: "no", None: ""}[figure["better"]]
    words = verdict(name, figure)
    return f'<span class="{kind}">{words}</span>' if kind else words


def _choice_set(name: str, own: Mapping[str, Any]) -> str:
    everyone = [(who, figures, "") for who, figures in own["models"].items()]
    everyone += [(f"{who} ({own['floors'][who]['choice']})", own["floors"][who], "floor") for who in own["floors"]]
    panels = _panels(everyone)
    section = (
        f"<section><h2>{_text(name)}: {own['items']} multiple-choice items</h2><div class='metrics'>{panels}</div>"
        f"{_differences(own['differences'], 'Differences on ' + _text(name))}</section>"
    )
    apart = own.get("contaminated", {})
    parts = {"seen": "items that stand in the training data", "unseen": "items that do not stand there"}
    return section + "".join(_choice_set(f"{name}, {parts[part]}", apart[part]) for part in parts if part in apart)


def _legend(samples: Mapping[str, Sequence[Sample]]) -> str:
    if any(sample.answer is None for own in samples.values() for sample in own):
        return "No answers were generated: questions are ordered by the likelihood of their reference."
    pair = " - ".join(_compared(samples))
    return (
        f"Ordered by ROUGE-L, {_text(pair)}. Marked: words that the reference does not have in this place. "
        "Flagged: answers that repeat themselves or were cut off."
    )


def _compared(samples: Mapping[str, Sequence[Sample]]) -> list[str]:
    """Return the model whose cases are ordered and, if it was measured, the base that it is compared with."""
    first = next((name for name in samples if name != "base"), "base")
    return [first, "base"] if "base" in samples and first != "base" else [first]


def _questions(samples: Mapping[str, Sequence[Sample]]) -> list[str]:
    compared = _compared(samples)
    scored = []
    for place, asked in enumerate(zip(*samples.values(), strict=True)):
        by_model = dict(zip(samples, asked, strict=True))
        scores = [_score(by_model[name]) for name in compared]
        scored.append((scores[0] - sum(scores[1:]), place, by_model))
    return [_question(score, place, by_model) for score, place, by_model in sorted(scored, key=lambda own: own[:2])]


def _score(sample: Sample) -> float:
    if sample.answer is not None:
        return rouge(sample.answer, sample.references)["rougeL"]
    return -(sample.nll_sum or 0.0) / (sample.answer_tokens or 1)


def _question(score: float, place: int, by_model: Mapping[str, Sample]) -> str:
    first = next(iter(by_model.values()))
    flags = {name: _flags(sample) for name, sample in by_model.items()}
    flagged = any(flags.values())
    findable = _text(f"{first.topic} {first.question}".lower())
    shown = "".join(_flag(flag) for flag in dict.fromkeys(flag for own in flags.values() for flag in own))
    columns = "".join(_answer(name, sample, flags[name]) for name, sample in by_model.items())
    references = "".join(
        f"<div><h3>reference{f' {number}' if number > 1 else ''}</h3>"
        f"<div class='text' dir='auto'>{_text(text)}</div></div>"
        for number, text in enumerate(first.references, start=1)
    )
    return (
        f'<details data-score="{score:.6f}" data-place="{place}" data-flagged="{int(flagged)}" data-find="{findable}">'
        f"<summary><bdi>{_text(first.question)}</bdi> {shown}"
        f"<small><bdi>{_text(first.topic)}</bdi>; score {score:+.3f}</small></summary>"
        f'<div class="answers">{columns}{references}</div></details>'
    )


def _flags(sample: Sample) -> list[str]:
    if sample.answer is None:
        return []
    found = ["repeats itself"] if repeats(sample.answer) else []
    return found + (["not finished"] if sample.finish_reason == "length" else [])


def _flag(text: str) -> str:
    return f'<span class="flag">{text}</span> '


def _answer(name: str, sample: Sample, flags: Sequence[str]) -> str:
    figure = ""
    if sample.nll_sum is not None and sample.answer_tokens:
        figure = f"<p class='soft'>reference: {sample.nll_sum / sample.answer_tokens:.3f} nats per token</p>"
    text = "" if sample.answer is None else marked(sample.answer, sample.references[0])
    shown = "".join(_flag(flag) for flag in flags)
    return f"<div><h3>{_text(name)} {shown}</h3>{figure}<div class='text' dir='auto'>{text}</div></div>"


def marked(answer: str, reference: str) -> str:
    """Return an answer as HTML in which the words that differ from the reference, word by word, are marked."""
    words, target = answer.split(" "), reference.split(" ")
    matcher = difflib.SequenceMatcher(
        a=[_bare(word) for word in words], b=[_bare(word) for word in target], autojunk=False
    )
    same = {place for block in matcher.get_matching_blocks() for place in range(block.a, block.a + block.size)}
    pieces: list[str] = []
    run: list[str] = []
    for place, word in enumerate(words):
        if place in same:
            if run:
                pieces.append(f"<mark>{_text(' '.join(run))}</mark>")
                run = []
            pieces.append(_text(word))
        else:
            run.append(word)
    if run:
        pieces.append(f"<mark>{_text(' '.join(run))}</mark>")
    return " ".join(pieces)


def _bare(word: str) -> str:
    return word.strip(" .,;:!?()\n").casefold()


def _text(text: str) -> str:
    """Return a text as HTML, for a content or an attribute; what no reader sees (a zero byte, an escape) as U+FFFD."""
    return html.escape(printable(text))
