"""Is the tuned model better, and can I use it? Five lines in words that follow from the figures by stated rules.

``report.html`` begins with them and the terminal ends with them. docs/evaluation.md ("The five lines") has the rules.
"""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from medqa_cli.evaluation import comparison
from medqa_cli.evaluation.arms import ABSENT, OPEN_BOOK
from medqa_cli.evaluation.bootstrap import percent
from medqa_cli.evaluation.memorization.section import extracted
from medqa_cli.spelling import with_noun

LEAST_FINISHED, MOST_LOOPS = 0.95, 0.02
# Of the questions that no source answers, and how many of them must be left to the model to say so.
LEAST_DECLINED, FEWEST_TO_DECLINE = 0.5, 10


@dataclass(frozen=True)
class Line:
    """A question, its answer in whole sentences and, in the last line, the command to give next."""

    question: str
    answer: str
    command: str = ""


class _Evidence:
    """What the lines rest on.

    ``leak``: why the questions are not held out, or empty; ``is_whole``: whether answers end, None where none were
    written; ``memory``: what can be asked out of the model, None where it was not looked for; ``judged``: what raters
    said of the model's present answers; ``preferred``: how often they preferred it to its base; ``wins``: whether that
    is more often than not, None where it is not shown or was not asked; ``could_ask_more``: few questions were asked
    because of ``--limit``, which a small split does not reach; ``failed``: conditions of the gate; ``loops``: the
    largest share of answers that loop, with sources or without.
    """

    def __init__(self, results: Mapping[str, Any], review: Mapping[str, Any] | None) -> None:
        self.results, self.review = results, review
        self.model = model = comparison.tuned_model(results)
        self.leak = comparison.why_not_held_out(results)
        self.base = comparison.against_base(results, model, self.leak)
        self.copies = comparison.against_copies(results, model, self.leak)
        self.is_whole, self.endings = _endings(results, model)
        self.memory = None if model is None else extracted(model, results.get("memorization", {}))
        self.judged, self.preferred = _of_raters(model, review)
        self.wins: bool | None = None if self.preferred is None else self.preferred["better"]
        self.has_both = model is not None and "base" in results["models"]
        self.has_sources = f"{model}{OPEN_BOOK}" in results["models"]
        limit = results["settings"].get("limit")
        self.could_ask_more = comparison.is_few(results) and bool(limit) and results["questions"] >= limit
        self.failed = [one["condition"] for one in results.get("gate", ()) if one["failed"]]
        ways = (results["models"].get(f"{model}{way}", {}) for way in ("", OPEN_BOOK))
        self.loops = max(float(of.get("loop_rate", {}).get("value", 0.0)) for of in ways)


def conclude(results: Mapping[str, Any], review: Mapping[str, Any] | None = None) -> list[Line]:
    """Return the five lines.

    Args:
        results: the content of ``results.json``.
        review: that of ``review/results.json``, with ``current``; None: nobody has judged the answers.
    """
    evidence = _Evidence(results, review)
    return [
        Line("Better than the untuned model?", evidence.base.said),
        Line("Better than copying an answer?", evidence.copies.said),
        Line("Do its answers end properly?", evidence.endings),
        Line("Can I use it?", _can_be_used(evidence)),
        _next_step(evidence),
    ]


def _endings(results: Mapping[str, Any], model: str | None) -> tuple[bool | None, str]:
    """Tell whether answers end by themselves and run in no loops, with sources too; None: not measured."""
    ways = [own for name in (model, f"{model}{OPEN_BOOK}") if (own := results["models"].get(name)) is not None]
    finished = [own["finished_rate"]["value"] for own in ways if "finished_rate" in own]
    loops = [own["loop_rate"]["value"] for own in ways if "loop_rate" in own]
    if not finished and not loops:
        return None, "Not measured: no answers were written."
    is_whole = min(finished, default=1.0) >= LEAST_FINISHED and max(loops, default=0.0) <= MOST_LOOPS
    told = [f"{_share(min(finished))} of its answers come to an end"] if finished else []
    told += [f"{_share(max(loops))} get stuck in repetition"] if loops else []
    which = " (with or without sources, whichever is worse)" if len(ways) > 1 else ""
    said = f"{'Yes' if is_whole else 'No'}: {comparison.joined(told)}{which}."
    if not is_whole:
        said += f" At least {_share(LEAST_FINISHED)} should come to an end, and at most {_share(MOST_LOOPS)} get stuck."
    declined = [
        results["models"].get(f"{model}{arm}", {}).get("decline_rate", {}).get("value") for arm in (ABSENT, OPEN_BOOK)
    ]
    if None not in declined:
        said += (
            f" With sources that do not answer, it says so in {_share(declined[0])} of the cases; with one that does, "
            f"it declines in {_share(declined[1])}.{_seldom_declines(results, declined[0])}"
        )
    return is_whole, said


def _seldom_declines(results: Mapping[str, Any], declined: float) -> str:
    """Say so where the model itself, rather than the titles of the sources, declines too seldom; else nothing.

    Args:
        results: of an evaluation.
        declined: share of all questions whose sources do not answer.
    """
    by_titles = results["settings"].get("declined_by_titles", {}).get(ABSENT, 0.0)
    left = 1 - by_titles
    if round(left * results["questions"]) < FEWEST_TO_DECLINE:
        return ""
    own = round(max(0.0, declined - by_titles) / left, 9)  # 1 of 2, not 0.49999
    if own >= LEAST_DECLINED:
        return ""
    which = f" of the {_share(left)} that the sources' titles leave to it" if by_titles else ""
    return f" It has not learned to decline: it does so in {_share(own)}{which}."


def _of_raters(
    model: str | None, review: Mapping[str, Any] | None
) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]:
    """Return what raters said of a model's present answers, those with sources first, and how often they won."""
    if review is None or not review["current"]:
        return None, None
    for way in (OPEN_BOOK, ""):
        if (judged := review["models"].get(f"{model}{way}")) is not None:
            won = (review["differences"].get(f"{model}{way}-base{of}", {}).get("win_rate") for of in (way, ""))
            return judged, next((rate for rate in won if rate is not None), None)
    return None, None


def _can_be_used(evidence: _Evidence) -> str:
    """Say what speaks against using the model. No figure makes it fit for the care of patients."""
    against = [f"it fails the gate {condition}" for condition in evidence.failed]
    against += ["its test questions were not kept out of training"] if evidence.leak else []
    against += ["it is worse than the untuned model"] if evidence.base.shown == "worse" else []
    against += ["raters prefer the untuned model"] if evidence.wins is False else []
    nobody = "no clinician has judged its answers"
    if evidence.review is not None and evidence.judged is None:
        nobody += " (those that were judged are others)"
    if against:
        said = f"No: {'; '.join(against)}." + (f" Also, {nobody}." if evidence.judged is None else "")
    elif evidence.judged is None:
        said = f"Not yet: {nobody}."
    else:
        said = "Only where somebody who can judge it reads each answer before a patient does."
    if evidence.review is not None and evidence.judged is not None:
        raters = with_noun(len(evidence.review["raters"]), "rater")
        said += f" {raters} judged {evidence.review['questions']} questions"
        if (rate := evidence.preferred) is not None:
            shown = {True: "it is preferred", False: "the untuned model is preferred", None: "no preference is shown"}
            said += f": its answers were the better ones in {percent(rate)} ({shown[rate['better']]})"
        if "could_harm" in evidence.judged:
            said += f"; {percent(evidence.judged['could_harm'])} of its answers could harm a patient, they said"
        said += "."
    if evidence.memory:
        said += f" Do not pass the model on: {comparison.joined(evidence.memory)} can be extracted from it."
    elif evidence.memory is not None:
        said += " None of the training data that was looked for can be extracted from it."
    elif evidence.model is not None:
        said += " Whether training data can be extracted from it was not measured: do so before you pass it on."
    return said


# What has to be done next, and its command: the first step whose reason holds. {room}: twice the tokens of an answer.
_STEPS: tuple[tuple[Callable[[_Evidence], bool], str, str], ...] = (
    (lambda of: not of.has_both, "Measure the tuned model and its base.", "medqa eval"),
    (
        lambda of: of.results["split"] == "train",
        "Ask questions that were held out from training.",
        "medqa eval --set eval.split=test",
    ),
    (lambda of: bool(of.leak), "Split the data anew, then train and measure again.", "medqa convert FILE"),
    (lambda of: of.is_whole is None, "Let the models write answers.", "medqa eval --set eval.metrics=all"),
    # From here on answers were written: a config may say that none are.
    (
        lambda of: of.base.shown != "better" and of.could_ask_more,
        "Ask all questions of the split.",
        "medqa eval --set eval.metrics=all",
    ),
    (
        lambda of: bool(comparison.only_one(of.results)),
        "Hold out questions about more topics, with more rows or a larger data.test_fraction; then train and measure "
        "again.",
        "medqa convert FILE",
    ),
    (
        lambda of: of.base.shown in ("worse", "mixed") or bool(of.failed),
        "Read the worst answers in report.html, change the data or the settings, and train again.",
        "medqa train",
    ),
    (
        lambda of: of.is_whole is False and of.loops > MOST_LOOPS,
        "Keep it from repeating itself, and measure again.",
        "medqa eval --set eval.metrics=all --set generate.repetition_penalty=1.1",
    ),
    (
        lambda of: of.is_whole is False,
        "Let its answers be longer, and measure again.",
        "medqa eval --set eval.metrics=all --set generate.max_new_tokens={room}",
    ),
    (lambda of: of.base.shown != "better", "Train on more rows or for longer, and measure again.", "medqa train"),
    (
        lambda of: of.copies.shown in ("worse", "same") and not of.has_sources,
        "Looking up an existing answer does as well: train it to answer from sources, and measure again.",
        "medqa train --set prompt.sources=3",
    ),
    (
        lambda of: of.judged is None and of.review is None,
        "Let clinicians judge the answers, blind.",
        "medqa review make --raters anna,ben",
    ),
    (
        lambda of: of.judged is None,
        "Let clinicians judge these answers too, blind.",
        "medqa review make --raters anna,ben --force",
    ),
    (lambda of: of.wins is False, "Train it further on what the raters preferred.", "medqa review export --format dpo"),
    (
        lambda of: of.wins is None,
        "Let more clinicians judge more answers.",
        "medqa review make --questions 100 --raters anna,ben,carl --force",
    ),
    (
        lambda of: True,
        "Let colleagues who check each answer try it, and collect what they report.",
        "medqa serve --feedback wrong.json",
    ),
)


def _next_step(evidence: _Evidence) -> Line:
    """Return the last line; its command names the config as the evaluation did."""
    room = evidence.results["settings"].get("max_new_tokens")
    text, command = next((text, command) for holds, text, command in _STEPS if holds(evidence))
    command = command.replace("{room}", str(2 * room if type(room) is int else 1024))
    options = evidence.results.get("options", [])
    for option, value in zip(options[::2], options[1::2], strict=True):
        is_said = f" --set {value.partition('=')[0]}=" in command
        is_of_eval = option == "--set" and value.startswith("eval.")
        if not is_said and (not is_of_eval or command.startswith("medqa eval")):
            command += f" {option} {shlex.quote(value)}"
    return Line("What is next?", text, command)


def _share(value: float) -> str:
    return f"{100 * value:.1f}".removesuffix(".0") + " %"
