"""Finds the row of the training split that asks what a question asks, so that its own answer can be given.

Both have to ask the same kind of thing about the same thing. What is asked is told by fixed forms alone: those of
``question_types.yaml``, and the wordings of ``paraphrases.yaml`` read backwards. No other word may be left over.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from medqa_cli.data.normalize import normalize, signs
from medqa_cli.data.retrieval import Passage, PassageIndex
from medqa_cli.data.topics.medical_terms import compared
from medqa_cli.data.topics.question_types import OTHER, QuestionType, recognize
from medqa_cli.data.topics.topics import first_names
from medqa_cli.resources import load_yaml

# Share of the words of both topics, weighed by their rarity, that must be the same. On MedQuAD, with wordings that the
# rule does not know (39 % of those of the paraphrase bank are answered, 230 of 590) and 2,140 look-alikes (2 answered),
# precision is 0.991 at 1.0, 0.83 at 0.9 and 0.42 at 0.8: benchmarks/retrieval.py; docs/experiments.md, 2026-12-01.
SAME_THING = 1.0
_CANDIDATES = 20
_ABBREVIATION = re.compile(r"\s*\((?=[^)]*[A-Z][^)]*[A-Z])[A-Za-z0-9-]{2,10}\)")
_PLACE = re.compile(r"\{(?:topic|lower)\}")
# Of a topic; "a" stays, for the sake of hepatitis A.
_NO_NAMES = frozenset({"the", "an", "of", "and", "or", "in", "for", "to", "by", "on"})


def reviewed_row(question: str, index: PassageIndex, same_thing: float = SAME_THING) -> Passage | None:
    """Return the row that asks what a question asks, in these or other words; None where none surely does.

    Args:
        question: plain text.
        index: what may be given as an answer.
        same_thing: see ``SAME_THING``.
    """
    asked = forms_of(question)
    names = {name for form in asked for name in _names(form.topic)}
    # A heart attack may stand in the data as a myocardial infarction, and a common name is lost among other words.
    for text in (question, *sorted(names)):
        for row in index.nearest(text, _CANDIDATES):
            if row.kind != "row" or signs(row.title) != signs(question):
                continue
            if normalize(row.title) == normalize(question) or asks_the_same(asked, row.title, index, same_thing):
                return row
    return None


def asks_the_same(asked: Iterable[QuestionType], title: str, index: PassageIndex, same_thing: float) -> bool:
    """Tell whether one of the forms of a question asks what a row asks."""
    form = recognize(title)
    if form is None or form.kind == OTHER:
        return False
    names = _names(form.topic)
    return any(
        form_asked.kind == form.kind and _alike(name, other, index) >= same_thing
        for form_asked in asked
        for name in _names(form_asked.topic)
        for other in names
    )


def forms_of(question: str) -> list[QuestionType]:
    """Return what a question may ask and about what, by each form that it has."""
    form = recognize(question)
    forms = [form] if form is not None and form.kind != OTHER else []
    for kind, patterns in wordings().items():
        for pattern in patterns:
            if match := pattern.fullmatch(question):
                forms.append(QuestionType(kind, match[1]))
    return forms


@functools.cache
def wordings() -> Mapping[str, list[re.Pattern[str]]]:
    """Return the wordings of the paraphrase bank as patterns, by what they ask."""
    bank: dict[str, Any] = load_yaml("paraphrases")
    return {
        kind: [pattern_of(wording) for group in groups.values() for wording in group] for kind, groups in bank.items()
    }


def pattern_of(wording: str) -> re.Pattern[str]:
    """Return the pattern of a wording, in any case and punctuation; its group is the topic."""
    before, after = (re.findall(r"\w+", part) for part in _PLACE.split(wording))
    pattern = r"\W+".join([*before, r"(\w.*?)", *after])
    return re.compile(rf"\W*{pattern}\W*", re.IGNORECASE)


def _names(topic: str) -> set[str]:
    """Return a topic's name as names are compared, and without its abbreviation in parentheses; synonyms are one."""
    names = {compared(topic), compared(_ABBREVIATION.sub("", topic))}
    return {first_names().get(name, name) for name in names}


def _alike(name: str, other: str, index: PassageIndex) -> float:
    """Return which share of the words of two names both have, weighed by rarity."""
    words, others = set(name.split()) - _NO_NAMES, set(other.split()) - _NO_NAMES
    if name == other or words == others:
        return 1.0
    return index.weight(words & others) / index.weight(words | others)
