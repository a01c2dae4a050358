"""Reads JSON (a list of objects, or an object that holds one) and JSON Lines.

Does not flatten nested objects: a cell that is a list or an object is yielded as unread. A list is read item by item,
an object that holds one as a whole.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medqa_cli.data.reading.columns import ColumnNames, Columns, find_columns
from medqa_cli.data.reading.decoding import Encoding, detect_encoding
from medqa_cli.data.reading.json_stream import BLOCK, parse_json, stream_list
from medqa_cli.data.reading.rows import RawRow, Table, TableFile, UnreadRow, json_text, row_of_cells
from medqa_cli.data.wording import listed
from medqa_cli.errors import InputError

EXAMPLE = '{"question": "...", "answer": "..."}'
ROWS_FOR_COLUMNS = 1000  # the columns are the keys of so many first rows


@dataclass(frozen=True)
class _Record:
    """A value of the file, its text in JSON Lines, and whether that is JSON at all."""

    row: int
    line: int | None
    value: Any
    text: str = ""
    is_json: bool = True


def read_json_file(file: TableFile, wanted: ColumnNames) -> Table:
    """Open a JSON file; one that turns out to be JSON Lines is read as such.

    Raises:
        InputError: the file is no JSON, has another shape, or lacks a column.
    """
    encoding = detect_encoding(file.path)
    if _begins_with_list(file.path, encoding):
        return _source_rows(f"JSON, {encoding.description}", _streamed(file, encoding), wanted, file)
    text = file.path.read_text(encoding=encoding.codec, errors=encoding.errors)
    with _json_errors(file):
        try:
            value = parse_json(text)
        except ValueError:
            if _starts_with_object_line(text):
                return read_json_lines(file, wanted)
            raise
    return _source_rows(f"JSON, {encoding.description}", _numbered(_list_in(value, file)), wanted, file)


def read_json_lines(file: TableFile, wanted: ColumnNames) -> Table:
    """Open a JSON Lines file; a line that is no JSON is yielded as unread.

    Raises:
        InputError: no line is an object, or a column is missing.
    """
    encoding = detect_encoding(file.path)
    return _source_rows(f"JSON Lines, {encoding.description}", _lines(file.path, encoding), wanted, file)


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


def _streamed(file: TableFile, encoding: Encoding) -> Iterator[_Record]:
    with open(file.path, encoding=encoding.codec, errors=encoding.errors) as text, _json_errors(file):
        yield from _numbered(stream_list(text))


def _numbered(items: Iterable[Any]) -> Iterator[_Record]:
    return (_Record(row, None, item) for row, item in enumerate(items, start=1))


def _starts_with_object_line(text: str) -> bool:
    first = text.lstrip().split("\n", 1)[0]
    try:
        return isinstance(parse_json(first), dict)
    except (ValueError, RecursionError):
        return False


def _list_in(value: Any, file: TableFile) -> list[Any]:
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        lists = [item for item in value.values() if isinstance(item, list)]
        if len(lists) == 1:
            return lists[0]
        found = f"an object with the keys {listed(list(value))} and {len(lists)} lists" if value else "an empty object"
    else:
        found = "a single text or number"
    raise InputError(
        f"{file} holds {found}; expected a list of objects, or an object with one such list",
        "from pandas: frame.to_json(FILE, orient='records')",
    )


def _lines(path: Path, encoding: Encoding) -> Iterator[_Record]:
    with open(path, encoding=encoding.codec, errors=encoding.errors, newline="\n") as file:
        row = 0
        for number, line in enumerate(file, start=1):
            text = line.strip()
            if not text:
                continue
            row += 1
            try:
                yield _Record(row, number, parse_json(text), text)
            except (ValueError, RecursionError):
                yield _Record(row, number, None, text, is_json=False)


def _source_rows(description: str, records: Iterable[_Record], wanted: ColumnNames, file: TableFile) -> Table:
    remaining = iter(records)
    head = list(itertools.islice(remaining, ROWS_FOR_COLUMNS))
    objects = [record.value for record in head if isinstance(record.value, dict)]
    if head and not objects:
        raise InputError(
            f"{file}: none of the first {len(head):,} entries is a JSON object; expected one per question",
            f"write each like this: {EXAMPLE}",
        )
    if not head:
        raise InputError(f"{file} has no data rows", "give a file with one object per question")
    columns = find_columns(wanted, list(dict.fromkeys(key for item in objects for key in item)), file)
    rows = (_row(record, columns, file) for record in itertools.chain(head, remaining))
    return Table(description, columns, rows)


def _row(record: _Record, columns: Columns, file: TableFile) -> RawRow | UnreadRow:
    if not record.is_json:
        return UnreadRow(record.row, record.line, "invalid_json", text=record.text, file=file.member)
    if not isinstance(record.value, dict):
        text = record.text or json_text(record.value)
        return UnreadRow(record.row, record.line, "not_an_object", text=text, file=file.member)
    cells = [record.value.get(name) for name in columns.names]
    return row_of_cells(record.row, record.line, cells, columns, file)
