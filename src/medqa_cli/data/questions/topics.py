"""What a row is about: its topic column when it has one, else the question itself; and when two topics are one.

Does not group rows: ``splitting`` does.
"""

from __future__ import annotations

import re

from medqa_cli.data.cleaning.rules import one_line
from medqa_cli.data.dedup import fold
from medqa_cli.data.questions.question_forms import recognise

# "chronic obstructive pulmonary disease (COPD)": two names of one topic.
_WITH_ABBREVIATION = re.compile(r"(.*[^\s(])\s*\(((?=[^)]*[A-Z][^)]*[A-Z])[A-Za-z0-9-]{2,10})\)")
_NOT_PLURAL = ("ss", "us", "is")
_SHORTEST_PLURAL = 4


def topic_of(question: str, given: str) -> str:
    """Return the topic of a row.

    Args:
        question: the question as it was read: a repaired one would no longer match the names in a topic column.
        given: what stands in the topic column; empty: nothing, or no such column.

    Returns:
        the topic on one line; empty where neither tells it.
    """
    given = one_line(given)
    if given:
        return given
    form = recognise(question)
    return "" if form is None else form.topic


def topic_names(topic: str) -> tuple[str, ...]:
    """Return the names by which topics are compared: folded, without a final plural s, an abbreviation by itself.

    Rows whose topics share a name are about the same thing: "Cataracts" and "cataract", "COPD" and "chronic
    obstructive pulmonary disease (COPD)".
    """
    if not topic:
        return ()
    both = _WITH_ABBREVIATION.fullmatch(topic)
    return tuple(dict.fromkeys(_singular(fold(name)) for name in (both.groups() if both else (topic,))))


def _singular(folded: str) -> str:
    last = folded.rsplit(" ", 1)[-1]
    is_plural = len(last) >= _SHORTEST_PLURAL and last.endswith("s") and not last.endswith(_NOT_PLURAL)
    return folded[:-1] if is_plural else folded
