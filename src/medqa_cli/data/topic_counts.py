"""How far the topics of a data set tell which rows belong together, and what to say where they do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

LEAST_TOPICS = 8  # fewer say nothing about how often topics repeat
LARGEST_SHARE_ALONE = 1 / 2
LEAST_SHARE_KNOWN = 1 / 2


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


def count_topics(topics: Iterable[Hashable]) -> TopicCounts:
    """Count the topics of rows; an empty one is none."""
    counts = Counter(topics)
    rows = counts.total()
    known = {topic: count for topic, count in counts.items() if topic}
    return TopicCounts(rows, sum(known.values()), len(known), sum(count == 1 for count in known.values()))
