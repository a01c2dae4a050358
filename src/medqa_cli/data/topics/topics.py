"""What a row is about: its topic column when it has one, else the question itself; and when two topics are one.

Does not group rows: ``splitting`` does.
"""

from __future__ import annotations

import functools
import re

from medqa_cli.data.cleaning.restore_diacritics import lost_letters
from medqa_cli.data.cleaning.rules import one_line
from medqa_cli.data.normalize import is_empty
from medqa_cli.data.topics.medical_terms import compared, synonyms
from medqa_cli.data.topics.question_types import LONGEST_QUESTION, recognise
from medqa_cli.data.topics.topic_phrases import (
    LONGEST_PLAIN_QUESTION,
    bare_thing,
    only_thing_in,
    thing_of,
    without_circumstance,
    without_manner,
)

# "chronic obstructive pulmonary disease (COPD)": two names of one topic.
_WITH_ABBREVIATION = re.compile(r"(.*[^\s(])\s*\(((?=[^)]*[A-Z][^)]*[A-Z])[A-Za-z0-9-]{2,10})\)")
_TITLE_CASE = re.compile(r"(?:(?:[^\Wa-z][^\s]*|an?|the|of|in|on|for|to|and|or|with|by|at|from|[^\w\s]+)(?:\s+|\Z))+")
# "Answer as a nurse would. How is gout treated?", but not two questions.
_LAST_OF_SEVERAL = re.compile(r"\A[^?]*[.!:;]\s+([^.!?:;\s][^.!?:;]{0,150}\?)\s*\Z")
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
    if form is None and len(question) <= LONGEST_QUESTION:
        form = recognise(without_circumstance(question))
    if form is None and (asking := _LAST_OF_SEVERAL.match(question)):
        form = recognise(asking[1])
    if form is not None and (thing := thing_of(_in_a_sentence(form.topic, question))):
        return thing
    if len(question) > LONGEST_PLAIN_QUESTION:
        return ""
    return only_thing_in(question) or bare_thing(_in_a_sentence(question, question))


def _in_a_sentence(topic: str, question: str) -> str:
    """Return a topic small where it is large only as the question's first word, or as all words of the question are."""
    if _TITLE_CASE.fullmatch(question):
        small = topic.lower()
        return topic if thing_of(small) == small else small
    return topic[:1].lower() + topic[1:] if question.startswith(topic) and topic[1:2].islower() else topic


@functools.lru_cache(maxsize=1 << 16)
def topic_names(topic: str) -> tuple[str, ...]:
    """Return the names by which topics are compared; an abbreviation is a name of its own.

    Rows whose topics share a name are about the same thing: "Cataracts" and "cataract", "COPD" and "chronic obstructive
    pulmonary disease (COPD)", "Alzheimer disease" and "Alzheimer's disease", "Sjgren" and "Sjögren", "heart attack" and
    "myocardial infarction", "viral gastroenteritis" and "gastroenteritis".
    """
    if not topic:
        return ()
    topic = lost_letters(topic)
    both = _WITH_ABBREVIATION.fullmatch(topic)
    names = (_name(part) for part in (both.groups() if both else (topic,)))
    return tuple(dict.fromkeys(first_names().get(name, name) for name in names))


@functools.cache
def first_names() -> dict[str, str]:
    """Return for each name in ``synonyms.txt`` but the first of a line the first one, all as they are compared."""
    things = [[_name(name) for name in names] for _, names in synonyms()]
    return {name: first for first, *others in things for name in others if name != first}


def _name(topic: str) -> str:
    """Return a name as topics are compared: without words of manner either."""
    return without_manner(compared(topic))
