"""Why a row is left out: the reasons of ``resources/reasons.yaml``, and which cleaned rows hold no answer.

A short answer is not a bad one: nothing here looks at length alone.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from medqa_cli.data.cleaning.asking import asks_for_a_question, is_only_a_question
from medqa_cli.data.cleaning.marks import has_more_turns
from medqa_cli.data.normalize import NONE
from medqa_cli.errors import ConfigError
from medqa_cli.resources import load_yaml
from medqa_cli.spelling import did_you_mean, listed

_LONGEST_STUB = 200  # characters; what is longer is no heading

_LINE_SIGN = re.compile(r"^[\s*•–—-]+")
_BRACKETS = re.compile(r"\([^()]*\)")

_NOT_AVAILABLE = frozenset({"NA", "na"})  # "Na" is sodium
_POINTER = re.compile(
    r"(?:please )?(?:see|refer to|go to)"
    r" (?:above|below|also [^.]*|page \d+|(?:table|figure|section|chapter|appendix) \w+"
    r"|the [^.]*\b(?:summary|page|section|article|fact sheet|topic|link|web ?site|table|figure)\b[^.]*)"
)

_URL = re.compile(r"(?:https?://|www\.)\S+")
_LINK_SIGNS = " \t\n-*•,;:.()<>[]"
# "These resources address the diagnosis or management of X:", and the like, up to the colon.
_LINK_HEADING = re.compile(
    r"(?:These|The following) (?:online )?(?:resources|links|web ?sites|pages|organizations)\b(?:[^:]|:(?=\S)){0,400}:"
    r"(?=\s+- |\s*$)"
)
_MORE_AT = re.compile(r"(?:for )?(?:more|further|additional) (?:detailed |specific )?information\b[^.!?]{0,200}")
_LINK_TITLE_WORDS = 30
# A question that an address answers.
_ASKS_WHERE = re.compile(
    r"\b(?:where|web ?(?:site|page)s?|links?|addresse?s?|urls?|online|contact)\b"
    r"|\b(?:d[oó]nde|onde|wo|où|dove|waar|gdzie|var|hvor)\b"
    r"|哪里|哪儿|网址|网站|どこ|어디|где|कहाँ",
    re.IGNORECASE,
)
_ITEM_SIGN = re.compile(r"(?:^|\s)- ")


@dataclass(frozen=True)
class Reason:
    """A reason.

    Attributes:
        doc: what it is, in one line.
        enabled: whether it counts unless the config says otherwise.
        fixed: why it cannot be switched off; empty: it can.
    """

    doc: str
    enabled: bool = True
    fixed: str = ""


REASONS: dict[str, Reason] = {name: Reason(**fields) for name, fields in load_yaml("reasons").items()}
"""The reasons that judge a row. All others say that a row cannot be read, and cannot be switched off."""


def how_to_keep(reason: str) -> str:
    """Return the option that keeps the rows that a reason takes; empty where nothing can."""
    known = REASONS.get(reason)
    return "" if known is None or known.fixed else f"--set 'data.reasons={{{reason}: false}}'"


def enabled_reasons(reasons: Mapping[str, bool]) -> frozenset[str]:
    """Return the names of the reasons that count.

    Args:
        reasons: the section ``data.reasons``: reasons switched on or off by name.

    Returns:
        the names.

    Raises:
        ConfigError: names that are no reasons, or reasons that cannot be switched off; all of them.
    """
    problems = [
        f"data.reasons.{name}: no such reason{did_you_mean(name, REASONS)}" for name in reasons if name not in REASONS
    ]
    problems += [
        f"data.reasons.{name}: cannot be switched off: {REASONS[name].fixed}"
        for name, counts in reasons.items()
        if name in REASONS and not counts and REASONS[name].fixed
    ]
    if problems:
        names = [name for name, reason in REASONS.items() if not reason.fixed]
        raise ConfigError(problems, f"the reasons to switch are {listed(names)}")
    return frozenset(name for name, reason in REASONS.items() if reasons.get(name, reason.enabled))


def non_answer(question: str, answer: str, reasons: Collection[str]) -> str | None:
    """Return why a cleaned row is of no use, or None.

    Args:
        question: the cleaned question.
        answer: the cleaned answer, not empty.
        reasons: the names of the reasons that count.

    Returns:
        ``answer_is_question``: the answer only asks back or only says the question again, and the row's question does
        not ask for a question;
        ``stub``: the answer is a heading of a page, a sign for "missing", or a pointer to elsewhere;
        ``link_list``: the answer is a list of titles of links, or addresses only where the question does not ask where
        to look. A list behind an answer is no reason;
        ``none_answer``: the answer is the one word ``None``;
        ``several_turns``: the row goes on with the patient's or the doctor's next turn.
    """
    answer = answer.strip()
    for reason, holds in _CHECKS.items():
        if reason in reasons and holds(question, answer):
            return reason
    return None


def _is_stub(question: str, answer: str) -> bool:
    """Tell whether each line is a heading, a sign for "missing", a pointer, or without any letter or digit."""
    if len(answer) > _LONGEST_STUB:
        return False
    lines = [line for line in answer.splitlines() if line.strip()]
    return bool(lines) and all(_is_stub_line(line) for line in lines)


@functools.cache
def _stubs() -> frozenset[str]:
    table = load_yaml("non_answers")
    return frozenset((*table["headings"], *table["missing"]))


def _is_stub_line(line: str) -> bool:
    if all(unicodedata.category(c)[0] in "PZC" for c in line):
        return True
    if _LINE_SIGN.sub("", line).strip(" .:;!?\"'") in _NOT_AVAILABLE:
        return True
    text = _LINE_SIGN.sub("", line).casefold().strip(" .:;!?\"'")
    bare = " ".join(_BRACKETS.sub(" ", text).split()).strip(" .:;")
    return text in _stubs() or bare in _stubs() or bool(_POINTER.fullmatch(text))


def _is_link_list(question: str, answer: str) -> bool:
    if _has_only_addresses(answer):
        return not _ASKS_WHERE.search(question)
    if not _LINK_HEADING.match(answer):
        return False
    # Without the headings only titles are left; a sentence among them would be an answer.
    titles = [title.strip() for title in _ITEM_SIGN.split(_LINK_HEADING.sub(" ", answer))]
    return all(len(title.split()) <= _LINK_TITLE_WORDS and not title.endswith((".", "!")) for title in titles)


def _has_only_addresses(answer: str) -> bool:
    """Tell whether nothing is left without the addresses but ``More information on X is available at``."""
    if "://" not in answer and "www." not in answer:
        return False
    without, addresses = _URL.subn(" ", answer)
    without = without.strip(_LINK_SIGNS)
    if not addresses:
        return False
    return not any(c.isalnum() for c in without) or bool(_MORE_AT.fullmatch(without.casefold()))


_CHECKS: dict[str, Callable[[str, str], bool]] = {
    "answer_is_question": lambda question, answer: (
        is_only_a_question(question, answer) and not asks_for_a_question(question)
    ),
    "stub": _is_stub,
    "link_list": _is_link_list,
    "none_answer": lambda question, answer: answer == NONE,
    "several_turns": has_more_turns,
}

SHOWN = tuple(_CHECKS)
"""The reasons that a row gives by itself, whatever the others are."""
