"""Why a row is left out: the reasons of ``resources/reasons.yaml``, and which cleaned rows hold no answer.

A short answer is not a bad one: nothing here looks at length alone. In doubt an answer says something: what is thrown
away here is lost, what is kept only costs a row. Advice put as a question ("Why not try ...?"), a diagnosis ("Could it
be gout?") and a list of questions are answers.
"""

import functools
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from medqa_cli.data.normalize import NONE, is_empty
from medqa_cli.data.speakers import has_more_turns
from medqa_cli.errors import ConfigError
from medqa_cli.resources import load_pattern, load_words, load_yaml
from medqa_cli.spelling import did_you_mean, listed

_LONGEST_STUB = 200  # characters; what is longer is no heading

_LINE_SIGN = re.compile(r"^[\s*•–—-]+")
_BRACKETS = re.compile(r"\([^()]*\)")
_STUB_ENDS = " .:;!?\"'"

_NOT_AVAILABLE = frozenset({"NA", "na"})  # "Na" is sodium

_URL = re.compile(r"(?:https?://|www\.)\S+")
_LINK_SIGNS = " \t\n-*•,;:.()<>[]"
_MORE_AT = re.compile(r"(?:for )?(?:more|further|additional) (?:detailed |specific )?information\b[^.!?]{0,200}")
_LINK_TITLE_WORDS = 30
_ITEM_SIGN = re.compile(r"(?:^|\s)- ")

# An answer that asks back is a question or two, and says nothing beside.
_LONGEST_QUESTION = 300  # characters
_MOST_QUESTIONS = 2  # more make a list, of signs to look for or of what to ask
_MOST_WORDS = 16  # of a sentence that asks back; a longer one tells something beside
_MOST_SIGNS = 40  # the same, in Chinese, Japanese or Korean signs
_CLOSING = "\"'”’»)）」』 \t\n"
_QUESTION_MARKS = ("?", "？", "؟", "⁇", "⸮")
# The question mark of Greek is a semicolon, behind a word in its letters.
_GREEK_QUESTION_MARK = re.compile("(?<=[\u0370-\u03ff\u1f00-\u1fff])[\u00bb\"')]*\\s?[;\u037e]")
_GREEK = re.compile("[\u0370-\u03ff\u1f00-\u1fff]")
_CJK = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
# The ends of sentences. A full stop within a word or a number is none.
_SENTENCE_END = re.compile(r"[.!:](?=\s|$)|[。！：；;…।॥۔።။\n]|[?？؟]")
_CLAUSE_END = re.compile(r"[,，、،](?=\D)|\s[–—-]+\s|[–—]{2,}")
_LIST_ITEM = re.compile(r"(?:^|\n)\s*(?:[-*•–—]|\(?(?:\d{1,2}|[a-h])[.):])\s", re.IGNORECASE)
_ASIDE = re.compile(r"\([^()]*\)|（[^（）]*）")
_WORD = re.compile("[\u3040-\u30ff\u3400-\u9fff]|[^\\W_]+")

_clarifying = functools.partial(load_pattern, "clarifying_questions")
_pattern = functools.partial(load_pattern, "non_answers", flags=re.NOFLAG)


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


_STUBS = frozenset(text for kind in ("headings", "missing") for text in load_yaml("non_answers")[kind])


def how_to_keep(reason: str) -> str:
    """Return the option that keeps the rows that a reason takes; empty where nothing can."""
    known = REASONS.get(reason)
    return "" if known is None or known.fixed else f"--set 'data.reasons={{{reason}: false}}'"


def enabled_reasons(reasons: Mapping[str, bool]) -> frozenset[str]:
    """Return the names of the reasons that count.

    Args:
        reasons: the section ``data.reasons``: reasons switched on or off by name.

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


def unusable(question: str, answer: str, *others: str) -> str | None:
    """Return why a row cannot be used whatever the other rows are, or None; ``others`` are its further texts."""
    for text in (question, answer, *others):
        if "\0" in text:
            return "nul_byte"
        if not text.isascii():
            try:
                text.encode("utf-8")
            except UnicodeEncodeError:
                return "invalid_unicode"
    if is_empty(question):
        return "empty_question"
    return "empty_answer" if is_empty(answer) and answer.strip() != NONE else None


def non_answer(question: str, answer: str, reasons: Collection[str]) -> str | None:
    """Return why a cleaned row whose answer is not empty is of no use, or None; ``reasons`` are those that count.

    ``answer_is_question``: the answer only asks back or only says the question again, and the row's question does not
    ask for a question. ``stub``: it is a heading of a page, a sign for "missing", or a pointer to elsewhere.
    ``link_list``: it is a list of titles of links, or addresses only where the question does not ask where to look; a
    list behind an answer is no reason. ``none_answer``: it is the one word ``None``. ``several_turns``: the row goes on
    with the patient's or the doctor's next turn.
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
    for line in lines:
        text = _LINE_SIGN.sub("", line).strip(_STUB_ENDS)
        without_case = text.casefold()
        bare = " ".join(_BRACKETS.sub(" ", without_case).split()).strip(" .:;")
        if not (
            text in _NOT_AVAILABLE
            or not _STUBS.isdisjoint((without_case, bare))
            or _pattern("pointer").fullmatch(without_case)
            or all(unicodedata.category(c)[0] in "PZC" for c in line)
        ):
            return False
    return bool(lines)


def _is_link_list(question: str, answer: str) -> bool:
    """Tell whether an answer has addresses only, for a question that does not ask for them, or titles of links."""
    if "://" in answer or "www." in answer:
        without, addresses = _URL.subn(" ", answer)
        without = without.strip(_LINK_SIGNS)
        # Nothing is left without the addresses but "More information on X is available at".
        if addresses and (not any(map(str.isalnum, without)) or _MORE_AT.fullmatch(without.casefold())):
            return not load_pattern("non_answers", "asks_where").search(question)
    heading = _pattern("link_heading")
    if not heading.match(answer):
        return False
    # Without the headings only titles are left; a sentence among them would be an answer.
    titles = [title.strip() for title in _ITEM_SIGN.split(heading.sub(" ", answer))]
    return all(len(title.split()) <= _LINK_TITLE_WORDS and not title.endswith((".", "!")) for title in titles)


def _is_only_a_question(question: str, answer: str) -> bool:
    """Tell whether an answer only asks back (``How old are you?``) or only says the row's question again.

    False in doubt: where a sentence or a clause says something, where a question suggests something or gives a reason,
    for a list of questions, for a text of more than 300 characters, and where the question may be answered by one:
    ``What might my midwife want to know?``.
    """
    text = answer
    if not text.isascii() and 2 * len(_GREEK.findall(text)) > sum(map(str.isalpha, text)):
        text = _GREEK_QUESTION_MARK.sub("?", text).replace("·", ";").replace("\u0387", ";")
    text = text.rstrip(_CLOSING)
    if not text.endswith(_QUESTION_MARKS) or len(text) > _LONGEST_QUESTION or not any(map(str.isalnum, text)):
        return False
    if _clarifying("asked_for").search(question):
        return False
    # It says the question again: no word that the question lacks, but for those that only put a question.
    asked = {word.casefold() for word in _WORD.findall(question)}
    words = {word.casefold() for word in _WORD.findall(_ASIDE.sub(" ", text))}
    frame = load_words("clarifying_questions", "question_words")
    if words & asked - frame and words <= asked | frame:
        return True
    if _clarifying("to_oneself").search(question) or len(_LIST_ITEM.findall(text)) > 1:
        return False
    if sum(map(text.count, _QUESTION_MARKS)) > _MOST_QUESTIONS:
        return False
    start = 0
    for end in _SENTENCE_END.finditer(text):
        sentence = text[start : end.start()].strip(_CLOSING + "-*•")
        start = end.end()
        if sentence and not _asks_back(sentence, end[0] in _QUESTION_MARKS):
            return False
    return True


def _asks_back(sentence: str, has_mark: bool) -> bool:
    """Tell whether a sentence asks for something that the asker knows, or is a greeting."""
    clauses = [clause.strip() for clause in _CLAUSE_END.split(sentence) if clause.strip()]
    while clauses and _clarifying("greetings").fullmatch(clauses[0]):
        clauses.pop(0)
    if not clauses or not has_mark:
        return not clauses
    asked = ", ".join(clauses)
    if signs := _CJK.findall(sentence):
        if len(signs) > _MOST_SIGNS or _clarifying("tells_in_signs").search(asked):
            return False
        return all(map(_clarifying("asks_back_in_signs").search, clauses))
    if len(asked.split()) > _MOST_WORDS:
        return False
    if _clarifying("asks_back_in_english").fullmatch(asked):
        which = _clarifying("which_first").match(asked)
        tells = _clarifying("tells_in_english").search(asked, which.end() if which else 0)
        return not tells and not any(map(_clarifying("says").match, clauses[1:]))
    return bool(_clarifying("asks_back").search(clauses[0])) and not _clarifying("tells").search(asked)


_CHECKS: dict[str, Callable[[str, str], bool]] = {
    "answer_is_question": _is_only_a_question,
    "stub": _is_stub,
    "link_list": _is_link_list,
    "none_answer": lambda question, answer: answer == NONE,
    "several_turns": has_more_turns,
}

SHOWN = tuple(_CHECKS)
"""The reasons that a row gives by itself, whatever the others are."""
