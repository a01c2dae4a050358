"""Reads CSV and TSV: delimiter by the header, multi-line cells of any size, broken rows handed on as such.

Does not repair rows: a row whose fields or quotes do not add up is yielded as unread, with its text.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from medqa_cli.data.columns import ColumnNames, Columns, find_columns
from medqa_cli.data.decoding import Encoding, detect_encoding
from medqa_cli.data.rows import RawRow, SourceRows, UnreadRow, row_of_cells
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


def read_delimited(path: Path, wanted: ColumnNames) -> SourceRows:
    """Open a CSV or TSV file.

    Args:
        path: the file; it exists and is not empty.
        wanted: the columns that the user named.

    Returns:
        the rows, read as they are asked for.

    Raises:
        InputError: there is no header, or a column is missing.
    """
    csv.field_size_limit(LARGEST_CELL)
    encoding = detect_encoding(path)
    form, columns = _detect(path, encoding, wanted)
    delimiter = "tab" if form.delimiter == "\t" else f"'{form.delimiter}'"
    kind = "TSV" if form.delimiter == "\t" else "CSV"
    return SourceRows(f"{kind}, {encoding.description}, delimiter {delimiter}", columns, _rows(path, form, columns))


def _detect(path: Path, encoding: Encoding, wanted: ColumnNames) -> tuple[_Format, Columns]:
    """Take the delimiter that shows the columns wanted, else the one that shows most columns (for the message)."""
    declared = _declared_delimiter(path, encoding)
    headers = {delimiter: _header(path, encoding, delimiter) for delimiter in (declared and [declared]) or DELIMITERS}
    for delimiter, header in headers.items():
        try:
            columns = find_columns(wanted, header, path)
        except InputError:
            continue
        return _Format(encoding, delimiter, header), columns
    widest = max(headers, key=lambda delimiter: len(headers[delimiter]))
    return _Format(encoding, widest, headers[widest]), find_columns(wanted, headers[widest], path)


def _declared_delimiter(path: Path, encoding: Encoding) -> str | None:
    """Return the delimiter of a first line ``sep=;``, which Excel writes and reads."""
    with open(path, encoding=encoding.codec, errors=encoding.errors) as file:
        line = file.readline(100).rstrip("\n")
    return line[4] if len(line) == 5 and line.lower().startswith("sep=") and line[4] not in '"\r\n' else None


def _header(path: Path, encoding: Encoding, delimiter: str) -> list[str]:
    form = _Format(encoding, delimiter, [])
    with form.open(path) as file:
        rows = form.reader(itertools.islice(file, MOST_HEADER_LINES), strict=False)
        header = next((row for row in rows if not _is_skipped(row, delimiter)), None)
    if header is None:
        raise InputError(f"{path} is empty: no header line", "give a file with a header line and one row per question")
    if any("\0" in name for name in header):
        raise InputError(
            f"{path} is no plain text: it has NUL bytes in its first line (a spreadsheet? UTF-16 without a mark?)",
            "save it as 'CSV UTF-8'",
        )
    return header


def _is_skipped(row: Sequence[str], delimiter: str) -> bool:
    """Tell a blank line or the line ``sep=;`` from a row."""
    text = delimiter.join(row)
    return (len(row) <= 1 and not text.strip()) or text.lower() == f"sep={delimiter}"


def _rows(path: Path, form: _Format, columns: Columns) -> Iterator[RawRow | UnreadRow]:
    with form.open(path) as file:
        lines = _Lines(file)
        number = 0
        for line, cells, problem in _records(lines, form):
            if problem is None and _is_skipped(cells, form.delimiter):
                continue
            if number == 0:
                number = 1  # the header, read before
                continue
            text = "".join(lines.of_row) if problem is None else cells[0]
            yield _row(number, line, cells, problem, text, columns, path.name)
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
    number: int, line: int, cells: list[str], problem: str | None, text: str, columns: Columns, default_source: str
) -> RawRow | UnreadRow:
    text = text.rstrip("\r\n")
    if problem is not None:
        return UnreadRow(number, line, problem, text=text)
    width = len(columns.names)
    if len(cells) < width or any(cell.strip() for cell in cells[width:]):
        question, answer = (cells[index] if index < len(cells) else "" for index in (columns.question, columns.answer))
        return UnreadRow(number, line, "ragged_row", question, answer, text)
    return row_of_cells(number, line, cells, columns, default_source)
