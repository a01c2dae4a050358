"""How far the topics of a data set tell which rows belong together, and what to do and say where they do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from medqa_cli.data.normalize import RowKeys, key_of
from medqa_cli.data.topics.topics import topic_names

FEWEST_ROWS_OF_ONE_TOPIC = 2
LEAST_TOPICS = 8  # fewer say nothing about how often topics repeat
LARGEST_SHARE_ALONE = 1 / 2
LEAST_SHARE_KNOWN = 1 / 2
# Pages: many, with some rows each, and none with a large share of all, as a publisher or a file would have.
LEAST_PAGES = 20
LEAST_ROWS_A_PAGE = 1.5
LARGEST_SHARE_OF_A_PAGE = 1 / 20


@dataclass(frozen=True)
class TopicCounts:
    """``known``: rows with a topic; ``distinct``: different topics; ``once``: those of them that one row alone has."""

    rows: int
    known: int
    distinct: int
    once: int

    @property
    def doubt(self) -> str:
        """Return why rows without a topic in common may yet be about one thing, or an empty text.

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
        """Return the counts as they stand in ``report.json``; ``doubt`` is null where there is none."""
        return {"known": self.known, "distinct": self.distinct, "once": self.once, "doubt": self.doubt or None}


@dataclass
class ColumnOfOneTopic:
    """Watches whether a topic column gives all rows the same topic, which then tells nothing.

    As long as it does, the topics that the questions name are kept in its place.
    """

    _given: tuple[bytes, ...] = ()
    _named: list[tuple[bytes, ...]] = field(default_factory=list)
    _tells: bool = False

    def watch(self, given: tuple[bytes, ...], named: Callable[[], str]) -> str | None:
        """Look at the next row.

        Args:
            given: the keys of the topic that the column gives; none: it gives no topic.
            named: returns the topic that the question names.

        Returns:
            the topic that the question names; None where the column is known to tell rows apart.
        """
        if self._tells or not given or (self._named and given != self._given):
            self._tells, self._named = True, []
            return None
        topic = named()
        self._given = given
        self._named.append(tuple(key_of(name) for name in topic_names(topic)))
        return topic

    def without_it(self, keys: Sequence[RowKeys]) -> list[RowKeys] | None:
        """Return the rows' keys with the topics that their questions name; None where the column tells rows apart."""
        if self._tells or len(keys) < FEWEST_ROWS_OF_ONE_TOPIC:
            return None
        return [replace(key, topics=topics) for key, topics in zip(keys, self._named, strict=True)]


def count_topics(topics: Iterable[Hashable]) -> TopicCounts:
    """Count the topics of rows; an empty one is none."""
    counts = Counter(topics)
    rows = counts.total()
    known = {topic: count for topic, count in counts.items() if topic}
    return TopicCounts(rows, sum(known.values()), len(known), sum(count == 1 for count in known.values()))


def pages_tell(topics: Sequence[Hashable], pages: Sequence[Hashable]) -> bool:
    """Tell whether rows belong together by the page that they are from, as their topics do not tell.

    Questions on one fact sheet ask about something of their own each: its address in the column ``source`` is what
    they have in common.

    Args:
        topics: of each row, empty for none.
        pages: of each row.
    """
    counts = Counter(pages)
    return (
        len(counts) >= LEAST_PAGES
        and len(pages) >= LEAST_ROWS_A_PAGE * len(counts)
        and max(counts.values()) <= LARGEST_SHARE_OF_A_PAGE * len(pages)
        and bool(count_topics(topics).doubt)
    )
