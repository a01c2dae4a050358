"""Reads CSV and TSV: delimiter by the header, multi-line cells of any size, broken rows handed on as such.

A row whose fields or quotes do not add up, or that repeats the header, is yielded as unread, with its text.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import re
from collections import deque
from collections.abc import Iterator, Sequence

from medqa_cli.data.encodings.detect import Encoding, detect_encoding
from medqa_cli.data.encodings.line_codec import BLOCK
from medqa_cli.data.reading import shapes
from medqa_cli.data.reading.columns import MOST_TITLES, find_columns, likeliest_header, titles_in_words
from medqa_cli.errors import InputError

DELIMITERS = (",", ";", "\t", "|")
LARGEST_CELL = 2**31 - 1  # what the C long of every platform holds
_BROKEN = ("malformed_quotes", "unclosed_quote", "ragged_row")
# In such a file a backslash is written twice, and one at the end of a line says that the cell goes on.
_ESCAPED = re.compile(r'\\(["\\]|\r?\n)')
MOST_BLANK_LINES = 2_000_000
MOST_UNCLOSED_QUOTES = 100  # for each, what follows is read again
MOST_HEADER_LINES = 1000  # bounds the search where the header opens a quote and never closes it


class _Lines:
    """The lines of a file, with those of the current row at hand and room to put lines back."""

    def __init__(self, lines: Iterator[str], largest_row: int) -> None:
        self._lines = lines
        self._back: deque[str] = deque()
        self._room = self._largest_row = largest_row
        self.number = 0
        self.of_row: list[str] = []
        self.ended = False

    def begin_row(self) -> None:
        self.of_row.clear()
        self._room = self._largest_row

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        try:
            line = self._back.popleft() if self._back else next(self._lines)
        except StopIteration:
            self.ended = True
            raise
        self._room -= len(line)
        if self._room < 0 and self.of_row:
            # Its quote is never closed, or not where it was meant to be: as if the file ended here.
            self._back.appendleft(line)
            self.ended = True
            raise StopIteration
        self.number += 1
        self.of_row.append(line)
        return line

    def put_back(self, lines: list[str]) -> None:
        self._back.extendleft(reversed(lines))
        self.number -= len(lines)
        self.ended = False


class _Format:
    """How to take the file apart.

    ``titles``: rows above the header. ``escapes``: a quote within a cell has a backslash before it, as MySQL writes it.
    ``any_width``: a row may have more cells or fewer than the header.
    """

    def __init__(self, encoding: Encoding, delimiter: str, header: list[str], titles: int = 0) -> None:
        self.encoding = encoding
        self.delimiter = delimiter
        self.titles = titles
        self.escapes = False
        self.any_width = False
        # `a, "b, c"`: only a header with a space after each delimiter tells that the quote opens a cell.
        self.skip_spaces = len(header) > 1 and all(name.startswith(" ") for name in header[1:])

    def reader(self, lines: Iterator[str], strict: bool) -> Iterator[list[str]]:
        if self.escapes:
            lines = (
                _ESCAPED.sub(lambda escaped: '""' if escaped[1] == '"' else escaped[1], line) if "\\" in line else line
                for line in lines
            )
        return csv.reader(lines, delimiter=self.delimiter, skipinitialspace=self.skip_spaces, strict=strict)


def read_delimited(file: shapes.TableFile, wanted: shapes.ColumnNames) -> shapes.CellTable:
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
    encoding = detect_encoding(file.path, file.shown, wanted.encoding)
    form, columns = _detect(file, encoding, wanted)
    with open(file.path, "rb") as content:
        end = b""
        while (block := content.read(BLOCK)) and b'\\"' not in end + block:
            end = block[-1:]
    if block:
        # Backslashes stand before quotes: they escape them where fewer rows of the whole file are broken when read so.
        broken = []
        for form.escapes in (False, True):
            rows = _rows(file, form, columns, wanted.caps)
            broken.append(sum(isinstance(row, shapes.UnreadRow) and row.reason in _BROKEN for row in rows))
        form.escapes = broken[1] < broken[0]
    kind = "TSV" if form.delimiter == "\t" else "CSV"
    details = titles_in_words(form.titles)
    details += ", quotes escaped with backslashes" if form.escapes else ""
    description = f"{kind}, {encoding.description}, delimiter {_shown(form.delimiter)}{details}"
    form.any_width = not wanted.answers
    return shapes.CellTable(description, columns, _rows(file, form, columns, wanted.caps))


def _detect(file: shapes.TableFile, encoding: Encoding, wanted: shapes.ColumnNames) -> tuple[_Format, shapes.Columns]:
    """Take the delimiter that shows the columns wanted, else the one that shows most columns (for the message)."""
    delimiters: Sequence[str] = DELIMITERS
    with encoding.open(file.path) as text:
        line = text.readline(100).rstrip("\n")
    if len(line) == 5 and line.lower().startswith("sep=") and line[4] not in '"\r\n':
        delimiters = line[4]  # which Excel writes and reads
    elif file.path.suffix.lower() == ".tsv" and not wanted.answers:
        delimiters = "\t"  # the only column may be text with commas
    heads = {delimiter: _head(file, encoding, delimiter, wanted.caps) for delimiter in delimiters}
    for titles in range(MOST_TITLES + 1):
        for delimiter, head in heads.items():
            above, header = head[:titles], head[titles : titles + 1]
            # A title is a row with a single filled cell, as a merged one is written.
            are_titles = all(sum(bool(cell.strip()) for cell in row) <= 1 for row in above)
            if header and (not above or (are_titles and len(header[0]) > 1)):
                with contextlib.suppress(InputError):
                    columns = find_columns(wanted, header[0], file)
                    return _Format(encoding, delimiter, header[0], titles), columns
    headers = {
        # Within a title alone, or a column alone, a delimiter is a sign of the text.
        delimiter: likeliest_header([head], wanted)[1] if len(head[0]) > 1 else head[0]
        for delimiter, head in heads.items()
    }
    widest = max(headers, key=lambda delimiter: len(headers[delimiter]))
    try:
        return _Format(encoding, widest, list(headers[widest])), find_columns(wanted, headers[widest], file)
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


def _head(file: shapes.TableFile, encoding: Encoding, delimiter: str, caps: shapes.Caps) -> list[list[str]]:
    """Return the first rows, of which the header is one."""
    form = _Format(encoding, delimiter, [])
    with encoding.open(file.path, newline="") as text:
        first_lines = itertools.islice(caps.lines(text, file.shown), MOST_HEADER_LINES)
        rows = form.reader(first_lines, strict=False)
        filled = (row for n, row in enumerate(rows, start=1) if not _is_skipped(row, n, delimiter))
        head = [_names(row) for row in itertools.islice(filled, MOST_TITLES + 1)]
    if not head:
        raise shapes.EmptyTable(
            f"{file} is empty: no header line", "give a file with a header line and one row per question"
        )
    if any("\0" in name for name in head[0]):
        raise InputError(f"{file} is not plain text: it has NUL bytes in its first line", "save it as 'CSV UTF-8'")
    return head


def _names(header: Sequence[str]) -> list[str]:
    # Programs that do not know the byte order mark write a second one, or leave it where files are joined.
    return [name.strip("\ufeff") for name in header]


def _is_skipped(row: Sequence[str], line: int, delimiter: str) -> bool:
    """Tell a blank line, or a first line ``sep=;``, from a row."""
    text = delimiter.join(row)
    return (len(row) <= 1 and not text.strip()) or (line == 1 and text.lower() == f"sep={delimiter}")


def _rows(
    file: shapes.TableFile, form: _Format, columns: shapes.Columns, caps: shapes.Caps
) -> Iterator[shapes.CellRow | shapes.UnreadRow]:
    with form.encoding.open(file.path, newline="") as text_file:
        lines = _Lines(caps.lines(text_file, file.shown), caps.row_bytes)
        number, blank = 1, 0
        read_before = form.titles + 1  # the header and the titles above it
        names = list(columns.names)
        for line, cells, problem in _records(lines, form, file.shown):
            if problem is None and _is_skipped(cells, line, form.delimiter):
                blank += 1
                if blank > MOST_BLANK_LINES:
                    raise InputError(f"{file} holds more than {MOST_BLANK_LINES:,} blank lines", "take them out")
                continue
            if read_before:
                read_before -= 1
                continue
            if problem is not None:
                yield shapes.UnreadRow(number, line, problem, text=cells[0].rstrip("\r\n"), file=file.member)
            elif form.any_width:
                yield shapes.CellRow(number, line, cells)
            elif _names(cells) == names:
                text = "".join(lines.of_row).rstrip("\r\n")
                yield shapes.UnreadRow(number, line, "repeated_header", text=text, file=file.member)
            elif len(cells) < len(names) or any(cell.strip() for cell in cells[len(names) :]):
                text = "".join(lines.of_row).rstrip("\r\n")
                question, answer = [
                    cells[index] if index < len(cells) else "" for index in (columns.question, columns.answer)
                ]
                yield shapes.UnreadRow(number, line, "ragged_row", question, answer, text, file.member)
            else:
                yield shapes.CellRow(number, line, cells)
            number += 1


def _records(lines: _Lines, form: _Format, shown: str) -> Iterator[tuple[int, list[str], str | None]]:
    """Yield the first line, the cells and, for a record whose quotes are broken, the problem (its text: one cell)."""
    reader = form.reader(lines, strict=True)
    unclosed = 0
    while True:
        lines.begin_row()
        line = lines.number + 1
        try:
            yield line, next(reader), None
        except StopIteration:
            return
        except csv.Error:
            broken, problem = list(lines.of_row), "malformed_quotes"
            if lines.ended:
                # The quote swallowed the rest of the file: give up its line only and read the others again.
                unclosed += 1
                if unclosed > MOST_UNCLOSED_QUOTES:
                    raise InputError(
                        f"{shown}:{line}: more than {MOST_UNCLOSED_QUOTES} rows open a quote that is never closed",
                        "save it as 'CSV UTF-8', or export it again with quotes doubled inside of cells",
                    ) from None
                lines.put_back(broken[1:])
                broken, problem = broken[:1], "unclosed_quote"
                reader = form.reader(lines, strict=True)
            yield line, ["".join(broken)], problem
