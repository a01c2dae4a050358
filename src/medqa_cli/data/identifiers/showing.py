"""Finds in their context, for a person to look at: the one place where a value is shown."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from medqa_cli.data.cleaning.reasons import unusable
from medqa_cli.data.cleaning.rules import clean, enabled_rules
from medqa_cli.data.identifiers.finding import find_in_row
from medqa_cli.data.identifiers.finds import KINDS
from medqa_cli.data.normalize import key_of, rank_of
from medqa_cli.data.reading.rows import SourceRows, UnreadRow

NAME = "identifiers"
CONTEXT_CHARACTERS = 60


@dataclass(frozen=True)
class IdentifierExample:
    """A find; ``context`` is the text around it, with the find between >> and << and line breaks as ⏎."""

    file: str
    row: int
    field: str
    kind: str
    found: str
    context: str


def identifier_examples(
    opened: SourceRows, cleaning: Mapping[str, bool], count: int, seed: int
) -> list[IdentifierExample]:
    """Draw finds of each kind from the rows of a source, as they are after cleaning.

    Args:
        opened: the source.
        cleaning: the section ``data.cleaning``.
        count: most finds of a kind to return.
        seed: draws them.

    Returns:
        the finds by kind, and of one kind in the order of the source; rows that ``convert`` rejects are among them.
    """
    drawn: dict[str, list[tuple[bytes, int, IdentifierExample]]] = {kind: [] for kind in KINDS}
    ranked = {kind: drawn[kind] for kind in KINDS}
    for number, (key, example) in enumerate(_examples(opened, cleaning)):
        rank = bytes(255 - byte for byte in rank_of(seed, "show", key))  # the heap drops its smallest
        push = heapq.heappush if len(ranked[example.kind]) < count else heapq.heappushpop
        push(ranked[example.kind], (rank, number, example))
    return [example for kind in KINDS for _, _, example in sorted(drawn[kind], key=lambda item: item[1])]


def _examples(opened: SourceRows, cleaning: Mapping[str, bool]) -> Iterator[tuple[bytes, IdentifierExample]]:
    rules = enabled_rules(cleaning)
    for row in opened.rows:
        if isinstance(row, UnreadRow) or unusable(row.question, row.answer):
            continue
        question, answer, _ = clean(row.question, row.answer, rules)
        for find in find_in_row(question, answer):
            text = question if find.field == "question" else answer
            first, last = max(find.start - CONTEXT_CHARACTERS, 0), find.end + CONTEXT_CHARACTERS
            parts = (text[first : find.start], ">>", text[find.start : find.end], "<<", text[find.end : last])
            context = "..." * (first > 0) + "".join(parts).replace("\n", "⏎") + "..." * (last < len(text))
            key = key_of(question, answer, find.field, str(find.start))
            yield key, IdentifierExample(row.file, row.row, find.field, find.kind, text[find.start : find.end], context)
