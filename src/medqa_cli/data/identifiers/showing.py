"""Finds in their context, for a person to look at: the one place where a value is shown."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from medqa_cli.data.cleaning.reasons import unusable
from medqa_cli.data.cleaning.rules import clean, enabled_rules
from medqa_cli.data.conversations import clean_talk, usable_part
from medqa_cli.data.identifiers.finding import find_in_row
from medqa_cli.data.identifiers.finds import KINDS, Find
from medqa_cli.data.normalize import key_of, rank_of
from medqa_cli.data.reading.rows import RawRow, SourceRows, UnreadRow

NAME = "identifiers"
CONTEXT_CHARACTERS = 60


@dataclass(frozen=True)
class IdentifierExample:
    """A find; ``context`` is the text around it, with the find between >> and << and line breaks as ⏎."""

    file: str
    row: int
    line: int | None
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
        texts, finds = _looked_through(row, rules)
        for find in finds:
            text = texts[find.field]
            found = text[find.start : find.end]
            first, last = max(find.start - CONTEXT_CHARACTERS, 0), find.end + CONTEXT_CHARACTERS
            parts = (text[first : find.start], ">>", found, "<<", text[find.end : last])
            context = "..." * (first > 0) + "".join(parts).replace("\n", "⏎") + "..." * (last < len(text))
            key = key_of(*texts.values(), find.field, str(find.start))
            yield key, IdentifierExample(row.file, row.row, row.line, find.field, find.kind, found, context)


def _looked_through(row: RawRow, rules: Sequence[str]) -> tuple[Mapping[str, str], Sequence[Find]]:
    """Return the cleaned texts of a row by their names, and the finds; a conversation is looked through at its end."""
    if row.talk is None:
        question, answer, _ = clean(row.question, row.answer, rules)
        return {"question": question, "answer": answer}, find_in_row(question, answer)
    talk = usable_part(row.talk)
    made = clean_talk(talk, rules, "report", 0)
    return made.texts(), made.finds if row.turn + 1 == len(talk.turns) else ()
