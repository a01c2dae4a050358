"""Reads JSON (a list of objects, or an object that holds one) and JSON Lines.

A list is read item by item, an object that holds one as a whole.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from medqa_cli.data.encodings.detect import Encoding, detect_encoding
from medqa_cli.data.reading.cells import json_text
from medqa_cli.data.reading.columns import find_columns
from medqa_cli.data.reading.json_shapes import items_in, opened_up, record_within, spread
from medqa_cli.data.reading.rows import Caps, CellRow, CellTable, ColumnNames, Columns, EmptyTable, TableFile, UnreadRow
from medqa_cli.errors import InputError

EXAMPLE = '{"question": "...", "answer": "..."}'
START = 1000  # characters
_OBJECTS = re.compile(r'\s*(?:\[\s*)?\{\s*"')
ROWS_FOR_COLUMNS = 1000  # the columns are the keys of so many first rows
BLOCK = 1 << 20  # characters
_SPACE = re.compile(r"[ \t\r\n]*")
# Numbers stay as they are written: 1.50 is the text "1.50".
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)


@dataclass(frozen=True)
class _Record:
    """A value of the file, its text in JSON Lines, and why it is no row (empty: it may be one)."""

    row: int
    line: int | None
    value: Any
    text: str = ""
    problem: str = ""
    form: str = ""


def read_json_file(file: TableFile, wanted: ColumnNames) -> CellTable:
    """Open a JSON file; one that turns out to be JSON Lines is read as such.

    Raises:
        InputError: the file is no JSON, has another shape, or lacks a column.
    """
    encoding = detect_encoding(file.path, file.shown, wanted.encoding)
    if _begins_with_list(file.path, encoding):
        return _source_rows(f"JSON, {encoding.description}", _streamed(file, encoding, wanted.caps), wanted, file)
    text = file.path.read_text(encoding=encoding.codec, errors=encoding.errors)
    with _json_errors(file):
        try:
            value = parse_json(text)
        except ValueError:
            if _starts_with_object_line(text):
                return read_json_lines(file, wanted)
            raise
        form, items = items_in(value, wanted, file)
    description = f"JSON, {form}, {encoding.description}" if form else f"JSON, {encoding.description}"
    return _source_rows(description, _numbered(items), wanted, file)


def looks_like_json(path: Path, encoding: Encoding) -> bool:
    """Tell whether a text file begins like objects of JSON, whatever its name says."""
    with open(path, encoding=encoding.codec, errors=encoding.errors) as text:
        return _OBJECTS.match(text.read(START)) is not None


def read_json_lines(file: TableFile, wanted: ColumnNames) -> CellTable:
    """Open a JSON Lines file; a line that is no JSON is yielded as unread.

    Raises:
        InputError: no line is an object, or a column is missing.
    """
    encoding = detect_encoding(file.path, file.shown, wanted.encoding)
    if _begins_with_list(file.path, encoding) and not _first_of_several(file.path, encoding):
        return read_json_file(file, wanted)
    records = _lines(file, encoding, wanted.caps)
    return _source_rows(f"JSON Lines, {encoding.description}", records, wanted, file)


@contextlib.contextmanager
def _json_errors(file: TableFile) -> Iterator[None]:
    try:
        yield
    except RecursionError as error:
        raise InputError(f"{file} is nested too deeply", f"give a list of objects like {EXAMPLE}") from error
    except ValueError as error:
        raise InputError(
            f"{file} is no valid JSON: {error}", "repair or export it again; one object per line is a .jsonl file"
        ) from error


def _begins_with_list(path: Path, encoding: Encoding) -> bool:
    with open(path, encoding=encoding.codec, errors=encoding.errors) as text:
        return text.read(BLOCK).lstrip().startswith("[")


def _first_of_several(path: Path, encoding: Encoding) -> bool:
    """Tell whether the first line is a JSON value of its own and others follow."""
    with open(path, encoding=encoding.codec, errors=encoding.errors) as text:
        try:
            parse_json(text.readline())
        except (ValueError, RecursionError):
            return False
        return any(line.strip() for line in text)


def _streamed(file: TableFile, encoding: Encoding, caps: Caps) -> Iterator[_Record]:
    def check_size(size: int, line: int) -> None:
        caps.check_row(size, f"{file}:{line}")

    with open(file.path, encoding=encoding.codec, errors=encoding.errors) as text, _json_errors(file):
        yield from _numbered(stream_list(text, check_size))


def _numbered(items: Iterable[Any]) -> Iterator[_Record]:
    for row, item in enumerate(spread(items), start=1):
        yield _Record(row, None, item.value, "", item.problem, item.form)


def _starts_with_object_line(text: str) -> bool:
    first = text.lstrip().split("\n", 1)[0]
    try:
        return isinstance(parse_json(first), dict)
    except (ValueError, RecursionError):
        return False


def _lines(file: TableFile, encoding: Encoding, caps: Caps) -> Iterator[_Record]:
    with open(file.path, encoding=encoding.codec, errors=encoding.errors, newline="\n") as opened:
        row = 0
        for number, line in enumerate(caps.lines(opened, file.shown), start=1):
            text = line.strip()
            if not text:
                continue
            row += 1
            try:
                (item,) = spread([parse_json(text)])
                yield _Record(row, number, item.value, text)
            except (ValueError, RecursionError):
                yield _Record(row, number, None, text, "invalid_json")


def _source_rows(description: str, records: Iterable[_Record], wanted: ColumnNames, file: TableFile) -> CellTable:
    remaining = iter(records)
    head = list(itertools.islice(remaining, ROWS_FOR_COLUMNS))
    objects = [record.value for record in head if isinstance(record.value, dict)]
    if head and not objects:
        raise InputError(
            f"{file}: none of the first {len(head):,} entries is a JSON object; expected one per question",
            f"write each like this: {EXAMPLE}",
        )
    if not head:
        raise EmptyTable(f"{file} has no data rows", "give a file with one object per question")
    records = itertools.chain(head, remaining)
    if (holder := record_within(objects, wanted)) is not None:
        objects = [opened_up(item, holder) for item in objects]
        records = (replace(record, value=opened_up(record.value, holder)) for record in records)
        description = f"{description}, '{holder}' taken apart"
    columns = find_columns(wanted, list(dict.fromkeys(key for item in objects for key in item)), file)
    rows = (_row(record, columns, file) for record in records)
    form = f", {head[0].form} form" if head[0].form else ""
    return CellTable(f"{description}{form}", columns, rows)


def _row(record: _Record, columns: Columns, file: TableFile) -> CellRow | UnreadRow:
    if record.problem:
        text = record.text or json_text(record.value)
        return UnreadRow(record.row, record.line, record.problem, text=text, file=file.member)
    if not isinstance(record.value, dict):
        text = record.text or json_text(record.value)
        return UnreadRow(record.row, record.line, "not_an_object", text=text, file=file.member)
    return CellRow(record.row, record.line, [record.value.get(name) for name in columns.names])


def parse_json(text: str) -> Any:
    """Return the value of a JSON text, numbers as they are written.

    Raises:
        ValueError: the text is no JSON.
        RecursionError: it is nested too deeply.
    """
    return json.loads(text, parse_int=str, parse_float=str)


def stream_list(text: TextIO, check_size: Callable[[int, int], None] = lambda size, line: None) -> Iterator[Any]:
    """Yield the items of a list.

    Args:
        text: the opened file, which begins with ``[`` after white space.
        check_size: called with a number of characters that may all be of one item, and the line where they begin; may
            raise.

    Yields:
        the items, numbers in them as they are written.

    Raises:
        ValueError: the file is no JSON from some place on, which the message names.
        RecursionError: an item is nested too deeply.
    """
    window = _Window(text, check_size)
    window.take("[")
    if window.peek() == "]":
        window.take("]")
    else:
        yield window.item()
        while window.peek() == ",":
            window.take(",")
            yield window.item()
        window.take("]")
    if window.peek():
        raise window.error("Extra data")


class _Window:
    """The part of the file that is being parsed."""

    def __init__(self, text: TextIO, check_size: Callable[[int, int], None]) -> None:
        self._text = text
        self._check_size = check_size
        self._buffer = ""
        self._position = 0
        self._line = 1  # of the buffer's first character
        self._ended = False

    def peek(self) -> str:
        """Return the next character that is no white space, or nothing at the end."""
        while True:
            found = _SPACE.match(self._buffer, self._position)
            self._position = found.end() if found else self._position
            if self._position < len(self._buffer) or self._ended:
                return self._buffer[self._position : self._position + 1]
            self._read_on()

    def take(self, expected: str) -> None:
        """Pass over the next character, which has to be ``expected``."""
        if self.peek() != expected:
            raise self.error(f"Expecting '{expected}'")
        self._position += 1

    def item(self) -> Any:
        """Return the next value."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._buffer, self._position)
            except json.JSONDecodeError as error:
                if self._ended:
                    self._position = error.pos
                    raise self.error(error.msg) from error
            else:
                # Of a number, the buffer may hold the first digits only: 1 or even 1. of 1.5.
                if self._ended or (end < len(self._buffer) and self._buffer[end] in ",] \t\r\n"):
                    self._position = end
                    return value
            self._read_on()

    def error(self, message: str) -> ValueError:
        """Return an error that names the line."""
        line = self._line + self._buffer.count("\n", 0, self._position)
        return ValueError(f"{message} (line {line})")

    def _read_on(self) -> None:
        """Drop what was parsed, and double the rest: a long item is then parsed again only a few times."""
        self._line += self._buffer.count("\n", 0, self._position)
        rest = self._buffer[self._position :]
        self._check_size(len(rest), self._line)
        block = self._text.read(max(BLOCK, len(rest)))
        self._buffer, self._position, self._ended = rest + block, 0, not block
