"""What reading takes (the columns that the user named, how much may be read) and what it yields: rows, rows that could
not be read, and what was found out about the files.

An empty or odd cell is passed on as it stands; what becomes of it is decided later.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Generic, NamedTuple, TextIO, TypeVar

from medqa_cli.confined import Limits
from medqa_cli.errors import InputError
from medqa_cli.prompt.given import Turn
from medqa_cli.spelling import listed

RAISED_BY = "if you trust it, raise data.max_reader_bytes or data.max_reader_seconds"
LARGEST_RATIO = 100  # text packs to a fifth or a tenth, a bomb to a thousandth


@dataclass(frozen=True)
class Caps:
    """The largest row and unpacked size, and the memory (all in bytes) and time (in seconds) of a library.

    The defaults are those of the config, which is not imported here: a reader's own process has to start fast.
    """

    row_bytes: int = 4 << 20
    expanded_bytes: int = 128 << 20
    reader_bytes: int = 1 << 30
    reader_seconds: float = 30.0

    @property
    def limits(self) -> Limits:
        """Those of a library, for the process that runs it."""
        return Limits(self.reader_seconds, self.reader_bytes, RAISED_BY)

    def check_row(self, size: int, location: str) -> None:
        """Check that a row, or what may be one, is no longer than a row may be.

        Args:
            size: in characters, none of which takes less than a byte.
            location: file and line or row.

        Raises:
            InputError: it is.
        """
        if size > self.row_bytes:
            raise InputError(
                f"{location} holds more than {self.row_bytes:,} bytes in one row",
                "check whether it is a table of questions and answers; if it is, raise data.max_row_bytes",
            )

    def lines(self, text: TextIO, shown: str) -> Iterator[str]:
        """Yield the lines of an opened file with their ends.

        Args:
            text: the opened file.
            shown: its name, for the message.

        Raises:
            InputError: a line is longer than a row may be.
        """
        for number in itertools.count(1):
            line = text.readline(self.row_bytes + 1)
            if not line:
                return
            self.check_row(len(line), f"{shown}:{number}")
            yield line


class Expansion:
    """What has been unpacked from one file so far.

    Args:
        path: the packed file.
        shown: its name, for the message.
        caps: the limits.
    """

    def __init__(self, path: Path, shown: str, caps: Caps) -> None:
        self._packed_size = path.stat().st_size
        self._shown = shown
        self._most = max(caps.expanded_bytes, LARGEST_RATIO * self._packed_size)
        self._total = 0

    def add(self, size: int) -> None:
        """Count bytes that were, or are to be, unpacked.

        Raises:
            InputError: there are more than there may be, and over a hundred times as many as in the packed file.
        """
        self._total += size
        if self._total > self._most:
            raise InputError(
                f"{self._shown} unpacks to more than {self._most >> 20:,} MiB from {self._packed_size:,} bytes: "
                "it looks like a bomb",
                "if you trust it, raise data.max_expanded_bytes, or unpack it yourself and name the file or folder",
            )


@dataclass(frozen=True)
class ColumnNames:
    """What the user said of the sources: names of columns (None: find it by its name), encoding of text files (None:
    told by their bytes), and how much may be read.

    ``answers``: whether there have to be any. Of questions alone, a row may have more cells or fewer than the header.
    ``turns``: what is read of a conversation, as of ``data.turns``.
    """

    question: str | None = None
    answer: str | None = None
    topic: str | None = None
    encoding: str | None = None
    caps: Caps = field(default_factory=Caps)
    answers: bool = True
    turns: str = "reject"
    context: str | None = None


@dataclass(frozen=True)
class Columns:
    """All columns of a file and the positions of those that are used.

    ``exchange``: one column holds question and answer together, ``question`` and ``answer`` are both its position, as
    they are in a file of questions alone.
    ``input``: its text follows the question's (Alpaca); ``input_in_doubt``: only if its cells look like that.
    ``options``: of a multiple-choice question, all in one column or in one each; the answer tells which of them is
    right. ``correct``: another column that tells it. ``answer_is_named``: by the user, and no column that would have
    been found. ``history``: earlier turns. ``turns``: which turns of a conversation are read, as of ``data.turns``.
    ``context``: what stands before a question. ``takes_system``: so does the system message of an exchange.
    """

    names: tuple[str, ...]
    question: int
    answer: int
    topic: int | None = None
    source: int | None = None
    kind: int | None = None
    exchange: bool = False
    input: int | None = None
    options: tuple[int, ...] = ()
    history: int | None = None
    input_in_doubt: bool = False
    correct: int | None = None
    answer_is_named: bool = False
    turns: str = "reject"
    context: int | None = None
    takes_system: bool = False

    @property
    def used(self) -> tuple[int, ...]:
        """The positions of all columns in use, each once, in the order of the file."""
        single = (
            self.question,
            self.answer,
            self.topic,
            self.source,
            self.kind,
            self.input,
            self.history,
            self.context,
        )
        return tuple(sorted({position for position in (*single, *self.options) if position is not None}))

    def describe(self) -> str:
        """Return the columns in use, and those that are not, as shown to the user."""
        if self.exchange:
            parts = [f"question and answer '{self.names[self.question]}'"]
        else:
            after = "" if self.input is None else f" + '{self.names[self.input]}'"
            parts = [f"question '{self.names[self.question]}'{after}", f"answer '{self.names[self.answer]}'"]
        if self.options:
            parts.append("options " + " ".join(f"'{self.names[index]}'" for index in self.options))
        optional = {"context": self.context, "topic": self.topic, "source": self.source, "kind": self.kind}
        parts += [f"{role} '{self.names[index]}'" for role, index in optional.items() if index is not None]
        named = [name for name in self.unused() if name]
        unused = [listed(named)] if named else []
        if nameless := len(self.unused()) - len(named):
            unused.append(f"{nameless} column{'s' if nameless > 1 else ''} without a name")
        return ", ".join(parts) + (f"; not used: {' and '.join(unused)}" if unused else "")

    def unused(self) -> list[str]:
        """Return the names of the columns that are not used."""
        return [name for index, name in enumerate(self.names) if index not in self.used]


@dataclass(frozen=True)
class Talk:
    """A conversation as it stands in the source, or a question with its context.

    ``turns``: those that are read; ``said``: how many answers it has; ``is_open``: its last question has no answer.
    """

    turns: tuple[Turn, ...]
    context: str = ""
    said: int = 1
    is_open: bool = False


def place_of(file: str, row: int, line: int | None) -> str:
    """Return where a row is, for a message: ``jan.csv row 7 (line 9)``; of a sheet the line is the row as it shows."""
    return f"{file} row {row}{'' if line is None else f' (line {line})'}".lstrip()


@dataclass(frozen=True)
class RawRow:
    """One row as it stands in the source.

    ``row`` counts the data rows of ``file`` from 1; ``line`` is that of the text file or of the sheet. ``file`` is
    empty where the source is one file. ``talk``: the conversation of which question and answer are the turn with the
    number ``turn``, from 0; None: they stand alone.
    """

    row: int
    line: int | None
    question: str
    answer: str
    topic: str
    source: str
    file: str = ""
    kind: str = ""
    talk: Talk | None = None
    turn: int = 0


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


R = TypeVar("R", covariant=True)


@dataclass(frozen=True)
class Table(Generic[R]):
    """An opened table: ``rows`` can be run through once. ``warnings``: what its user has to know of it."""

    description: str
    columns: Columns
    rows: Iterator[R]
    warnings: tuple[str, ...] = ()


CellTable = Table[CellRow | UnreadRow]
"""A table whose cells are not looked at yet."""
PairTable = Table[RawRow | UnreadRow]
"""A table whose rows are questions and answers."""


def opened_again(open_table: Callable[[], PairTable]) -> PairTable:
    """Open one of many tables for its columns; its rows open it again, so that never all are open at once."""

    def rows() -> Rows:
        yield from open_table().rows

    return replace(open_table(), rows=rows())


@dataclass(frozen=True)
class Opened:
    """An opened source: its tables, and what is known of it as a whole.

    ``sha256`` is None where it is no local file, ``commit`` where it is none of the hub, ``license`` where it states
    none. ``warnings``: what was passed over.
    """

    source: str
    tables: list[PairTable]
    sha256: str | None = None
    commit: str | None = None
    license: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class SourceRows:
    """The opened sources; ``rows`` can be run through once.

    ``columns`` are those of the first table; ``description`` names those of the others where they differ. ``digests``:
    the SHA-256 of each source, by its name; None for what is no local file. ``license`` is None where the sources do
    not agree on one. ``warnings`` are for the user, each once.
    """

    description: str
    columns: Columns
    rows: Rows
    digests: Mapping[str, str | None]
    license: str | None = None
    warnings: tuple[str, ...] = ()
