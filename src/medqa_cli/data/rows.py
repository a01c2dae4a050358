"""What a source yields: rows, rows that could not be read, and what was found out about the file.

Does not judge a text: an empty or odd cell is passed on as it stands, ``dedup.Screen`` decides about it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from medqa_cli.data.columns import Columns


@dataclass(frozen=True)
class RawRow:
    """One row as it stands in the source; ``row`` counts data rows from 1, ``line`` is that of the text file."""

    row: int
    line: int | None
    question: str
    answer: str
    topic: str
    source: str


@dataclass(frozen=True)
class UnreadRow:
    """A row that could not be taken apart; ``text`` holds all of it where the two cells do not."""

    row: int
    line: int | None
    reason: str
    question: str = ""
    answer: str = ""
    text: str = ""


@dataclass(frozen=True)
class SourceRows:
    """An opened source; ``rows`` can be run through once."""

    description: str
    columns: Columns
    rows: Iterator[RawRow | UnreadRow]


def cell_text(cell: object) -> str | None:
    """Return a cell as text, an empty one for null and NaN, or None where the cell is no text (a list, an object)."""
    if isinstance(cell, str):
        return cell
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, bytes):
        # Bytes that are no UTF-8 become lone surrogates, for which the row is rejected later.
        return cell.decode("utf-8", "surrogateescape")
    if isinstance(cell, list | tuple | dict | set):
        return None
    return str(cell)


def row_of_cells(
    row: int, line: int | None, cells: Sequence[object], columns: Columns, default_source: str
) -> RawRow | UnreadRow:
    """Make a row of the cells of all columns.

    Args:
        row: number of the data row, from 1.
        line: line of the file, where it has lines.
        cells: one cell per column of ``columns.names``.
        columns: which cell is which.
        default_source: the source of a row that names none.

    Returns:
        the row, or an unread row with the reason ``not_text``.
    """

    def text_at(index: int | None) -> str | None:
        return "" if index is None else cell_text(cells[index])

    question, answer = text_at(columns.question), text_at(columns.answer)
    topic, source = text_at(columns.topic), text_at(columns.source)
    if question is None or answer is None or topic is None or source is None:
        return UnreadRow(row, line, "not_text", question or "", answer or "", repr(list(cells)))
    return RawRow(row, line, question, answer, topic, source.strip() or default_source)
