"""What a row is about: its topic column when it has one, else the question itself; and when two topics are one.

Does not group rows: ``splitting`` does.
"""

from __future__ import annotations

import functools
import re
import unicodedata

from medqa_cli.data.cleaning.letters import lost_letters
from medqa_cli.data.cleaning.rules import one_line
from medqa_cli.data.dedup import fold, is_empty
from medqa_cli.data.questions.question_forms import recognise

# "chronic obstructive pulmonary disease (COPD)": two names of one topic.
_WITH_ABBREVIATION = re.compile(r"(.*[^\s(])\s*\(((?=[^)]*[A-Z][^)]*[A-Z])[A-Za-z0-9-]{2,10})\)")
_POSSESSIVE = re.compile(r"(?<=\w)['’]s\b|(?<=s)['’](?=\s|$)")
_ACCENTS = re.compile("[\u0300-\u036f]")  # of European letters; marks of other scripts are letters
_NOT_PLURAL = ("ss", "us", "is")
_SHORTEST_PLURAL = 4
_NO_TOPIC = frozenset({"-", "?", "n/a", "na", "nan", "none", "null", "unknown", "not available"})


def topic_of(question: str, given: str) -> str:
    """Return the topic of a row.

    Args:
        question: the question.
        given: what stands in the topic column; empty: nothing, or no such column.

    Returns:
        the topic on one line; empty where neither tells it.
    """
    given = one_line(given)
    if given and given.casefold() not in _NO_TOPIC and not is_empty(given):
        return given
    form = recognise(question)
    return "" if form is None else form.topic


@functools.lru_cache(maxsize=1 << 16)
def topic_names(topic: str) -> tuple[str, ...]:
    """Return the names by which topics are compared; an abbreviation is a name of its own.

    Rows whose topics share a name are about the same thing: "Cataracts" and "cataract", "COPD" and "chronic obstructive
    pulmonary disease (COPD)", "Alzheimer disease" and "Alzheimer's disease", "Sjgren" and "Sjögren".
    """
    if not topic:
        return ()
    topic = lost_letters(topic)
    both = _WITH_ABBREVIATION.fullmatch(topic)
    return tuple(dict.fromkeys(_name(part) for part in (both.groups() if both else (topic,))))


def _name(topic: str) -> str:
    plain = _ACCENTS.sub("", unicodedata.normalize("NFKD", _POSSESSIVE.sub("", topic)))
    return " ".join(_singular(word) for word in fold(plain).split())


def _singular(word: str) -> str:
    """Return a word without a plural ending; it need not be a word, but one and many give the same."""
    if len(word) < _SHORTEST_PLURAL or not word.endswith("s") or word.endswith(_NOT_PLURAL):
        return word
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    return word[:-2] if word.endswith(("sses", "xes", "ches", "shes")) else word[:-1]
