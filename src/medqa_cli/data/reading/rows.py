"""What a source yields: rows, rows that could not be read, and what was found out about its files.

Does not judge a text: an empty or odd cell is passed on as it stands, ``dedup.Screen`` decides about it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from medqa_cli.data.reading.caps import Expansion
from medqa_cli.data.reading.columns import Columns
from medqa_cli.errors import InputError


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

    Of a whole document that cannot be read (XML), ``text`` says what is wrong with it. ``detail`` says more of the
    reason, without the texts of the row. ``otherwise``: the row where its reason is switched off, if any.
    """

    row: int
    line: int | None
    reason: str
    question: str = ""
    answer: str = ""
    text: str = ""
    file: str = ""
    detail: str = ""
    otherwise: RawRow | None = None


class EmptyTable(InputError):
    """A table without a single row. In a folder of others it is passed over."""


Rows = Iterator[RawRow | UnreadRow]


@dataclass(frozen=True)
class TableFile:
    """A file with a table in it, and the names under which its user knows it.

    ``path`` may be a private copy; ``shown`` is what messages say, ``member`` the ``file`` of its rows. ``expansion``
    counts what the archive that it is from unpacks to; None: it is from none.
    """

    path: Path
    shown: str
    member: str = ""
    expansion: Expansion | None = None

    def __str__(self) -> str:
        return self.shown

    @cached_property
    def name(self) -> str:
        """The last part of its name: the ``source`` of rows that name none."""
        return Path(self.shown).name


class CellRow(NamedTuple):
    """One row of a table as its format holds it: a cell of any kind for each of ``Columns.names``."""

    row: int
    line: int | None
    cells: Sequence[object]


@dataclass(frozen=True)
class CellTable:
    """An opened table whose cells are not looked at yet; ``rows`` can be run through once."""

    description: str
    columns: Columns
    rows: Iterator[CellRow | UnreadRow]


@dataclass(frozen=True)
class Table:
    """An opened table; ``rows`` can be run through once. ``warnings``: what its user has to know of it."""

    description: str
    columns: Columns
    rows: Rows
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class SourceFile:
    """One source as it was named, and its digest: None where it is no local file."""

    path: str
    sha256: str | None


@dataclass(frozen=True)
class SourceRows:
    """The opened sources; ``rows`` can be run through once.

    ``columns`` are those of the first table; ``description`` names those of the others where they differ.
    ``licence`` is None where the source does not state one. ``warnings`` are for the user, each once.
    """

    description: str
    columns: Columns
    rows: Rows
    files: tuple[SourceFile, ...] = ()
    licence: str | None = None
    warnings: tuple[str, ...] = ()
