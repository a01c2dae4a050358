"""What a row is about, when two topics are one, and how far topics tell which rows belong together.

A row's topic is that of its topic column when it has one, else the one that its question names.
"""

import functools
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from medqa_cli.data.cleaning.lost_characters import lost_letters
from medqa_cli.data.cleaning.rules import one_line
from medqa_cli.data.languages import UNKNOWN, language_of
from medqa_cli.data.normalize import RowKeys, is_empty, key_of
from medqa_cli.data.topics import medical_terms, question_types, topic_phrases

# "chronic obstructive pulmonary disease (COPD)": two names of one topic.
_WITH_ABBREVIATION = re.compile(r"(.*[^\s(])\s*\(((?=[^)]*[A-Z][^)]*[A-Z])[A-Za-z0-9-]{2,10})\)")
_TITLE_CASE = re.compile(r"(?:(?:[^\Wa-z][^\s]*|an?|the|of|in|on|for|to|and|or|with|by|at|from|[^\w\s]+)(?:\s+|\Z))+")
# "Answer as a nurse would. How is gout treated?", but not two questions.
_LAST_OF_SEVERAL = re.compile(r"\A[^?]*[.!:;]\s+([^.!?:;\s][^.!?:;]{0,150}\?)\s*\Z")
_WRITTEN_SPACES = re.compile(r"(?:\\[nrt]|\s)+")
_NO_TOPIC = frozenset({"-", "?", "n/a", "na", "nan", "none", "null", "unknown", "not available"})

FEWEST_ROWS_OF_ONE_TOPIC = 2
LEAST_TOPICS = 8  # fewer say nothing about how often topics repeat
LARGEST_SHARE_ALONE = 1 / 2
LEAST_SHARE_KNOWN = 1 / 2
# Pages: many, with some rows each, and none with a large share of all, as a publisher or a file would have.
LEAST_PAGES = 20
LEAST_ROWS_A_PAGE = 1.5
LARGEST_SHARE_OF_A_PAGE = 1 / 20


def topic_of(question: str, column_text: str) -> str:
    """Return the topic of a row on one line; empty where neither its topic column nor its question names one."""
    return given_topic(column_text) or asked_topic(question)


def given_topic(text: str) -> str:
    """Return the text of a topic column on one line; empty where it is a sign for "none"."""
    text = one_line(text)
    return "" if text.casefold() in _NO_TOPIC or is_empty(text) or _WRITTEN_SPACES.fullmatch(text) else text


def asked_topic(question: str) -> str:
    """Return the topic that a question names; empty where it names none."""
    form = question_types.recognize(question)
    if form is None and len(question) <= question_types.LONGEST_QUESTION:
        form = question_types.recognize(topic_phrases.without_circumstance(question))
    if form is None and (asking := _LAST_OF_SEVERAL.match(question)):
        form = question_types.recognize(asking[1])
    if form is not None and (thing := topic_phrases.thing_of(_in_a_sentence(form.topic, question))):
        return thing
    # Without a form an illness alone tells, and many have the same name in other languages: "¿Qué es el glaucoma?".
    if len(question) > topic_phrases.LONGEST_PLAIN_QUESTION or language_of(question) not in ("en", UNKNOWN):
        return ""
    return topic_phrases.only_thing_in(question) or topic_phrases.bare_thing(_in_a_sentence(question, question))


def _in_a_sentence(topic: str, question: str) -> str:
    """Return a topic small where it is large only as the question's first word, or as all words of the question are."""
    if _TITLE_CASE.fullmatch(question):
        small = topic.lower()
        return topic if topic_phrases.thing_of(small) == small else small
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
    return tuple(dict.fromkeys(first_synonyms().get(name, name) for name in names))


@functools.cache
def first_synonyms() -> dict[str, str]:
    """Return for each name in ``synonyms.txt`` but the first of a line the first one, all as they are compared."""
    things = [[_name(name) for name in names] for _, names in medical_terms.synonyms()]
    return {name: first for first, *others in things for name in others if name != first}


def _name(topic: str) -> str:
    """Return a name as topics are compared: without words of manner either."""
    return topic_phrases.without_manner(medical_terms.comparable_name(topic))


@dataclass(frozen=True)
class TopicCounts:
    """``known``: rows with a topic; ``distinct``: different topics; ``once``: those of them that one row alone has."""

    rows: int
    known: int
    distinct: int
    once: int

    @property
    def doubt(self) -> str:
        """Return why rows without a shared topic may still be about one thing, or an empty text.

        Then no count of shared topics is a proof: where most rows have a topic that no other row has, hardly any can
        stand in two splits. MedQuAD has 15 % of such rows, a sample of 3,000 of its rows 43 %.
        """
        if not self.known:
            return "no topic is known"
        if self.known < LEAST_SHARE_KNOWN * self.rows:
            return f"topics are known for only {self.known:,} of {self.rows:,} rows"
        if self.distinct >= LEAST_TOPICS and self.once >= LARGEST_SHARE_ALONE * self.known:
            return f"{self.once:,} of {self.distinct:,} topics occur on one row only ({self.known:,} rows)"
        return ""

    def as_json(self) -> dict[str, Any]:
        """Return the counts as in ``report.json``; ``doubt`` is null where there is none."""
        return {"known": self.known, "distinct": self.distinct, "once": self.once, "doubt": self.doubt or None}


@dataclass
class ColumnOfOneTopic:
    """Detects a topic column that gives all rows the same topic, or all but some that have none, and so is useless.

    As long as it does, the topics that the questions name are kept in its place. ``tells``: it has shown two topics.
    """

    _given: tuple[bytes, ...] = ()
    rows_given: int = 0
    _named: list[tuple[bytes, ...]] = field(default_factory=list)
    tells: bool = False

    def watch(self, keys: tuple[bytes, ...], named: str) -> None:
        """Look at the next row.

        Args:
            keys: the keys of the topic that the column gives; none: it gives no topic.
            named: the topic that the question names; does not count once the column has shown two topics.
        """
        if self.tells or (keys and self._given and keys != self._given):
            self.tells, self._named = True, []
            return
        self._given = keys or self._given
        self.rows_given += bool(keys)
        self._named.append(tuple(key_of(name) for name in topic_names(named)))

    def without_it(self, keys: Sequence[RowKeys]) -> list[RowKeys] | None:
        """Return the rows' keys with the topics that their questions name; None where the column has several topics."""
        if self.tells or 2 * self.rows_given < max(len(keys), 2 * FEWEST_ROWS_OF_ONE_TOPIC):
            return None
        return [key._replace(topics=topics) for key, topics in zip(keys, self._named, strict=True)]


def count_topics(topics: Iterable[Hashable]) -> TopicCounts:
    """Count the topics of rows; an empty one is none."""
    counts = Counter(topics)
    rows = counts.total()
    known = {topic: count for topic, count in counts.items() if topic}
    return TopicCounts(rows, sum(known.values()), len(known), sum(count == 1 for count in known.values()))


def pages_tell(topics: Sequence[Hashable], pages: Sequence[Hashable]) -> bool:
    """Return whether to keep rows of one page together, because their topics, empty for none, say too little.

    Questions on one fact sheet ask about something of their own each: its address in the column ``source`` is what
    they have in common.
    """
    counts = Counter(pages)
    return (
        len(counts) >= LEAST_PAGES
        and len(pages) >= LEAST_ROWS_A_PAGE * len(counts)
        and max(counts.values()) <= LARGEST_SHARE_OF_A_PAGE * len(pages)
        and bool(count_topics(topics).doubt)
    )
