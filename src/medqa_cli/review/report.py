"""What a review says, in sentences and tables, at the terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medqa_cli import console
from medqa_cli.evaluation.bootstrap import percent, with_interval
from medqa_cli.evaluation.metrics import STRIPPED
from medqa_cli.review.figures import TIE, WIN_RATE
from medqa_cli.review.judgments import NO_ANSWER, key_beside

_CONTROL = {
    True: "these raters tell good answers from others",
    False: "either the references are poor, or these raters do not see what makes an answer good",
    None: "no difference shown; too few pairs, answers as good as the references, or raters who do not see it",
}
_FEW_TOPICS = 5
_MANY_QUESTIONS = 2000  # nobody judges more


def verdict(figure: Mapping[str, Any]) -> str:
    """Say what a comparison shows of the first of two."""
    return {True: "better", False: "worse", None: "no difference shown"}[figure["better"]]


def _more_questions(figure: Mapping[str, Any]) -> str:
    if figure["better"] is not None:
        return ""
    if figure["topics"] < _FEW_TOPICS:
        return "; too few topics to say more"
    more = figure["more_questions"]
    if more is None:
        return "; more questions alone would not show one as small as this: ask more raters"
    if more > _MANY_QUESTIONS:
        return f"; more than {_MANY_QUESTIONS:,} more questions would be needed to show one as small as this"
    return f"; {more:,} more questions would show one as large as this, in 80 of 100 cases"


def sentences(results: Mapping[str, Any]) -> list[str]:
    """Return what a review shows and what it does not, the most important first."""
    said = []
    for pair, figures in results["differences"].items():
        if WIN_RATE in figures:
            first, second = pair.split("-", 1)
            rate = figures[WIN_RATE]
            questions = f"{rate['questions']} question{'' if rate['questions'] == 1 else 's'}"
            said.append(
                f"{first} against {second}: preferred in {percent(rate)} of {questions}, ties count half: "
                f"{verdict(rate)}{_more_questions(rate)}"
            )
    if (control := results["control"]) is not None:
        counts = f"{control['won']} won, {control['equal']} equal, {control['lost']} lost"
        said.append(
            f"control: reference answers are preferred in {percent(control)} ({counts}): {_CONTROL[control['better']]}"
        )
    if len(results["raters"]) == 1:
        said.append("one rater: the intervals are for other questions, not for other raters")
    if not results["agreement"] and len(results["raters"]) > 1:
        said.append("no question was judged by two raters, so nothing is known of their agreement: --double")
    for rater, about in results["raters"].items():
        side = about["x_share"]
        if side is not None and side["biased"]:
            decided = about["judged"] - about["equal"]
            chosen = max(side["value"], 1 - side["value"])
            where = "left (X)" if side["value"] > TIE else "right (Y)"
            said.append(
                f"{rater} took the {where} answer in {round(chosen * decided)} of {decided} decided pairs: more than "
                f"chance (p = {side['p']:.1g}); the sides are shuffled, so these judgments say little"
            )
        if 2 * about["faster_than_reading"] > about["judged"] + about["cannot_judge"]:
            said.append(f"{rater} spent less than 5 seconds on {about['faster_than_reading']} pairs")
    return said


def show(results: Mapping[str, Any], results_path: Path) -> None:
    """Print the figures of a review with their intervals, and what they say."""
    console.table(
        "Which answer is better",
        [
            [
                pair.replace("-", " - ", 1),
                percent(rate),
                f"{rate['won']} / {rate['equal']} / {rate['lost']}",
                str(rate["questions"]),
                verdict(rate),
            ]
            for pair, figures in results["differences"].items()
            if (rate := figures.get(WIN_RATE)) is not None
        ],
        ["", "first preferred", "won / equal / lost", "questions", "shown"],
    )
    for criterion in results["criteria"]:
        name = criterion["id"]
        rows = [[model, percent(of[name]), ""] for model, of in results["models"].items() if name in of]
        for pair, of in results["differences"].items():
            if name in of:
                rows.append([pair.replace("-", " - ", 1), percent(of[name], "+"), verdict(of[name])])
        if not rows:
            continue
        wanted = "yes" if criterion["good"] else "no"
        console.table(f"{criterion['text']} ({name}; {wanted} is good)", rows, ["", "yes", "shown"])
    _show_agreement(results)
    _show_raters(results["raters"])
    _show_automatic(results["automatic"])
    unit = "topics and raters" if len(results["raters"]) > 1 else "topics"
    console.line(
        f"{results['judgments']} judgments, {results['questions']} questions, {results['topics']} topics, "
        f"{len(results['raters'])} raters; [95 % interval]: for other {unit}"
    )
    for sentence in results["summary"]:
        console.line(sentence)
    console.line(f"written: {results_path}")


def _show_agreement(results: Mapping[str, Any]) -> None:
    rows = []
    for name, found in results["agreement"].items():
        alpha = found["alpha"]
        shown = "undefined" if alpha is None else with_interval(alpha, ".2f")
        label = "which is better" if name == WIN_RATE else name
        rows.append([label, shown, percent(found["raw"]), str(found["units"])])
    if rows:
        console.table(
            "Agreement of raters", rows, ["", "Krippendorff's alpha", "pairs that agree", "judged by several"]
        )


def _show_raters(raters: Mapping[str, Mapping[str, Any]]) -> None:
    rows = [
        [
            rater,
            str(about["judged"]),
            str(about["equal"]),
            str(about["cannot_judge"]),
            "-" if about["x_share"] is None else percent(about["x_share"]),
            "-" if about["median_seconds"] is None else f"{about['median_seconds']:.0f} s",
        ]
        for rater, about in raters.items()
    ]
    console.table("Raters", rows, ["", "judged", "equal", "cannot judge", "took X", "median time"])


def _show_automatic(figures: Mapping[str, Mapping[str, Any]]) -> None:
    shown = {True: "better than a coin", False: "worse than a coin", None: "no better than a coin"}
    rows = []
    for name, found in sorted(figures.items(), key=lambda item: -item[1]["value"]):
        plain = figures.get(name.removesuffix(STRIPPED), {})
        is_repeated = name.endswith(STRIPPED) and plain.get("ci95") == found["ci95"]
        # What is the same for both answers of every pair tells nothing; nor does a figure twice.
        if found["ties"] < found["pairs"] and not is_repeated:
            rows.append([found["title"], percent(found), str(found["pairs"]), shown[found["better"]]])
    if rows:
        console.table(
            "Automatic figures that prefer the rater's answer (a coin: 50 %)", rows, ["", "agree", "pairs", "shown"]
        )


def show_reports(results: Mapping[str, Any], path: Path, results_path: Path) -> None:
    """Print the counts of what readers reported; ``path``: of the reports."""
    rows = [
        ["no answer was given" if name == NO_ANSWER else name, *map(str, counts.values())]
        for name, counts in results["models"].items()
    ]
    console.table("Reported answers", rows, ["whose", "reports", "wrong", "could harm", "corrected"])
    console.line(f"{results['reports']} reports of {results['questions']} questions; texts: {key_beside(path)}")
    for sentence in results["summary"]:
        console.line(sentence)
    console.line(f"written: {results_path}")
