"""Reads CSV and TSV: delimiter by the header, multi-line cells of any size, broken rows handed on as such.

Does not repair rows: a row whose fields or quotes do not add up, or that repeats the header, is
yielded as unread, with its text.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from medqa_cli.data.reading.columns import ColumnNames, Columns, find_columns
from medqa_cli.data.reading.decoding import Encoding, detect_encoding
from medqa_cli.data.reading.rows import RawRow, Rows, Table, TableFile, UnreadRow, row_of_cells
from medqa_cli.errors import InputError

DELIMITERS = (",", ";", "\t", "|")
LARGEST_CELL = 2**31 - 1  # what the C long of every platform holds
MOST_HEADER_LINES = 1000  # bounds the search where the header opens a quote and never closes it


class _Lines:
    """The lines of a file, with those of the current row at hand and room to put lines back."""

    def __init__(self, file: TextIO) -> None:
        self._lines: Iterator[str] = file
        self.number = 0
        self.of_row: list[str] = []
        self.ended = False

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        try:
            line = next(self._lines)
        except StopIteration:
            self.ended = True
            raise
        self.number += 1
        self.of_row.append(line)
        return line

    def put_back(self, lines: list[str]) -> None:
        self._lines = itertools.chain(lines, self._lines)
        self.number -= len(lines)
        self.ended = False


class _Format:
    """How to take the file apart."""

    def __init__(self, encoding: Encoding, delimiter: str, header: list[str]) -> None:
        self.encoding = encoding
        self.delimiter = delimiter
        # `a, "b, c"`: only a header with a space after each delimiter tells that the quote opens a cell.
        self.skip_spaces = len(header) > 1 and all(name.startswith(" ") for name in header[1:])

    def open(self, path: Path) -> TextIO:
        return open(path, encoding=self.encoding.codec, errors=self.encoding.errors, newline="")

    def reader(self, lines: Iterator[str], strict: bool) -> Iterator[list[str]]:
        return csv.reader(lines, delimiter=self.delimiter, skipinitialspace=self.skip_spaces, strict=strict)


def read_delimited(file: TableFile, wanted: ColumnNames) -> Table:
    """Open a CSV or TSV file.

    Args:
        file: the file; it exists and is not empty.
        wanted: the columns that the user named.

    Returns:
        the rows, read as they are asked for.

    Raises:
        InputError: there is no header, or a column is missing.
    """
    csv.field_size_limit(LARGEST_CELL)
    encoding = detect_encoding(file.path)
    form, columns = _detect(file, encoding, wanted)
    kind = "TSV" if form.delimiter == "\t" else "CSV"
    return Table(
        f"{kind}, {encoding.description}, delimiter {_shown(form.delimiter)}", columns, _rows(file, form, columns)
    )


def _detect(file: TableFile, encoding: Encoding, wanted: ColumnNames) -> tuple[_Format, Columns]:
    """Take the delimiter that shows the columns wanted, else the one that shows most columns (for the message)."""
    declared = _declared_delimiter(file.path, encoding)
    headers = {delimiter: _header(file, encoding, delimiter) for delimiter in (declared and [declared]) or DELIMITERS}
    for delimiter, header in headers.items():
        try:
            columns = find_columns(wanted, header, file)
        except InputError:
            continue
        return _Format(encoding, delimiter, header), columns
    widest = max(headers, key=lambda delimiter: len(headers[delimiter]))
    try:
        return _Format(encoding, widest, headers[widest]), find_columns(wanted, headers[widest], file)
    except InputError as error:
        if len(headers[widest]) > 1:
            raise
        tried = " or ".join(map(_shown, headers))
        raise InputError(
            f"{error.message}; the first line is one column, whether it is split at {tried}",
            "save it as 'CSV UTF-8' with one column for the question and one for the answer",
        ) from error


def _shown(delimiter: str) -> str:
    return "tab" if delimiter == "\t" else f"'{delimiter}'"


def _declared_delimiter(path: Path, encoding: Encoding) -> str | None:
    """Return the delimiter of a first line ``sep=;``, which Excel writes and reads."""
    with open(path, encoding=encoding.codec, errors=encoding.errors) as text:
        line = text.readline(100).rstrip("\n")
    return line[4] if len(line) == 5 and line.lower().startswith("sep=") and line[4] not in '"\r\n' else None


def _header(file: TableFile, encoding: Encoding, delimiter: str) -> list[str]:
    form = _Format(encoding, delimiter, [])
    with form.open(file.path) as text:
        rows = form.reader(itertools.islice(text, MOST_HEADER_LINES), strict=False)
        header = next((row for n, row in enumerate(rows, start=1) if not _is_skipped(row, n, delimiter)), None)
    if header is None:
        raise InputError(f"{file} is empty: no header line", "give a file with a header line and one row per question")
    if any("\0" in name for name in header):
        raise InputError(f"{file} is no plain text: it has NUL bytes in its first line", "save it as 'CSV UTF-8'")
    return _names(header)


def _names(header: Sequence[str]) -> list[str]:
    # Programs that do not know the byte order mark write a second one, or leave it where files are joined.
    return [name.strip("\ufeff") for name in header]


def _is_skipped(row: Sequence[str], line: int, delimiter: str) -> bool:
    """Tell a blank line, or a first line ``sep=;``, from a row."""
    text = delimiter.join(row)
    return (len(row) <= 1 and not text.strip()) or (line == 1 and text.lower() == f"sep={delimiter}")


def _rows(file: TableFile, form: _Format, columns: Columns) -> Rows:
    with form.open(file.path) as text_file:
        lines = _Lines(text_file)
        number = 0
        for line, cells, problem in _records(lines, form):
            if problem is None and _is_skipped(cells, line, form.delimiter):
                continue
            if number == 0:
                number = 1  # the header, read before
                continue
            text = "".join(lines.of_row) if problem is None else cells[0]
            yield _row(number, line, cells, problem, text, columns, file)
            number += 1


def _records(lines: _Lines, form: _Format) -> Iterator[tuple[int, list[str], str | None]]:
    """Yield the first line, the cells and, for a record whose quotes are broken, the problem (its text: one cell)."""
    reader = form.reader(lines, strict=True)
    while True:
        lines.of_row.clear()
        line = lines.number + 1
        try:
            yield line, next(reader), None
        except StopIteration:
            return
        except csv.Error:
            broken, problem = list(lines.of_row), "malformed_quotes"
            if lines.ended:
                # The quote swallowed the rest of the file: give up its line only and read the others again.
                lines.put_back(broken[1:])
                broken, problem = broken[:1], "unclosed_quote"
                reader = form.reader(lines, strict=True)
            yield line, ["".join(broken)], problem


def _row(
    number: int, line: int, cells: list[str], problem: str | None, text: str, columns: Columns, file: TableFile
) -> RawRow | UnreadRow:
    text = text.rstrip("\r\n")
    if problem is not None:
        return UnreadRow(number, line, problem, text=text, file=file.member)
    if _names(cells) == list(columns.names):
        return UnreadRow(number, line, "repeated_header", text=text, file=file.member)
    width = len(columns.names)
    if len(cells) < width or any(cell.strip() for cell in cells[width:]):
        question, answer = (cells[index] if index < len(cells) else "" for index in (columns.question, columns.answer))
        return UnreadRow(number, line, "ragged_row", question, answer, text, file.member)
    return row_of_cells(number, line, cells, columns, file)
