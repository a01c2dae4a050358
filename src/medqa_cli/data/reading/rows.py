"""What a source yields: rows, rows that could not be read, and what was found out about its files.

Does not judge a text: an empty or odd cell is passed on as it stands, ``dedup.Screen`` decides about it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medqa_cli.data.reading.columns import Columns


@dataclass(frozen=True)
class RawRow:
    """One row as it stands in the source.

    ``row`` counts the data rows of ``file`` from 1; ``line`` is that of the text file or of the sheet. ``file`` is
    empty where the source is one file.
    """

    row: int
    line: int | None
    question: str
    answer: str
    topic: str
    source: str
    file: str = ""
    kind: str = ""


@dataclass(frozen=True)
class UnreadRow:
    """A row that could not be taken apart; ``text`` holds all of it where the two cells do not.

    Of a whole document that cannot be read (XML), ``text`` says what is wrong with it.
    """

    row: int
    line: int | None
    reason: str
    question: str = ""
    answer: str = ""
    text: str = ""
    file: str = ""


Rows = Iterator[RawRow | UnreadRow]


@dataclass(frozen=True)
class TableFile:
    """A file with a table in it, and the names under which its user knows it.

    ``path`` may be a private copy; ``shown`` is what messages say, ``member`` the ``file`` of its rows.
    """

    path: Path
    shown: str
    member: str = ""

    def __str__(self) -> str:
        return self.shown

    @property
    def name(self) -> str:
        """The last part of its name: the ``source`` of rows that name none."""
        return Path(self.shown).name


@dataclass(frozen=True)
class Table:
    """An opened table; ``rows`` can be run through once."""

    description: str
    columns: Columns
    rows: Rows


@dataclass(frozen=True)
class SourceFile:
    """One source as it was named, and its digest: None where it is no local file."""

    path: str
    sha256: str | None


@dataclass(frozen=True)
class SourceRows:
    """The opened sources; ``rows`` can be run through once.

    ``columns`` are those of the first table; ``description`` names those of the others where they differ.
    ``licence`` is None where the source does not state one.
    """

    description: str
    columns: Columns
    rows: Rows
    files: tuple[SourceFile, ...] = ()
    licence: str | None = None


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


def json_text(value: object) -> str:
    """Return any value as JSON, as far as that can be: what has no form in JSON as its own text."""
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:
        # The parser gets a few levels deeper than the writer does.
        return "nested too deeply to be shown"


def row_of_cells(
    row: int, line: int | None, cells: Sequence[object], columns: Columns, file: TableFile
) -> RawRow | UnreadRow:
    """Make a row of the cells of all columns.

    Args:
        row: number of the data row, from 1.
        line: line of the file, where it has lines.
        cells: one cell per column of ``columns.names``.
        columns: which cell is which.
        file: where the row is from.

    Returns:
        the row, or an unread row with the reason ``not_text``. Where one column holds a whole exchange
        (``columns.exchange``), its text is both question and answer until ``exchanges`` takes it apart.
    """

    def text_at(index: int | None) -> str | None:
        return "" if index is None else cell_text(cells[index])

    question, answer = text_at(columns.question), text_at(columns.answer)
    if columns.exchange and question is None:
        question = answer = json_text(cells[columns.question])
    topic, source, kind = text_at(columns.topic), text_at(columns.source), text_at(columns.kind)
    if question is None or answer is None or topic is None or source is None or kind is None:
        return UnreadRow(row, line, "not_text", question or "", answer or "", json_text(list(cells)), file.member)
    return RawRow(row, line, question, answer, topic, source.strip() or file.name, file.member, kind.strip())
