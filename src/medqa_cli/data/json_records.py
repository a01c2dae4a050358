"""Reads JSON (a list of objects, or an object that holds one) and JSON Lines.

Does not flatten nested objects: a cell that is a list or an object is yielded as unread.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medqa_cli.data.columns import ColumnNames, Columns, find_columns
from medqa_cli.data.decoding import Encoding, detect_encoding
from medqa_cli.data.rows import RawRow, SourceRows, UnreadRow, row_of_cells
from medqa_cli.data.wording import listed
from medqa_cli.errors import InputError

ROWS_FOR_COLUMNS = 1000  # the columns are the keys of so many first rows


@dataclass(frozen=True)
class _Record:
    """A value of the file, its text in JSON Lines, and whether that is JSON at all."""

    row: int
    line: int | None
    value: Any
    text: str = ""
    is_json: bool = True


def read_json_file(path: Path, wanted: ColumnNames) -> SourceRows:
    """Open a JSON file; one that turns out to be JSON Lines is read as such.

    Raises:
        InputError: the file is no JSON, has another shape, or lacks a column.
    """
    encoding = detect_encoding(path)
    text = path.read_text(encoding=encoding.codec, errors=encoding.errors)
    try:
        value = _parse(text)
    except RecursionError as error:
        raise InputError(f"{path} is nested too deeply", "give a list of objects") from error
    except ValueError as error:
        if _starts_with_object_line(text):
            return read_json_lines(path, wanted)
        raise InputError(
            f"{path} is no valid JSON: {error}", "repair or export it again; one object per line is a .jsonl file"
        ) from error
    records = [_Record(row, None, item) for row, item in enumerate(_list_in(value, path), start=1)]
    return _source_rows(f"JSON, {encoding.description}", records, wanted, path)


def read_json_lines(path: Path, wanted: ColumnNames) -> SourceRows:
    """Open a JSON Lines file; a line that is no JSON is yielded as unread.

    Raises:
        InputError: no line is an object, or a column is missing.
    """
    encoding = detect_encoding(path)
    return _source_rows(f"JSON Lines, {encoding.description}", _lines(path, encoding), wanted, path)


def _parse(text: str) -> Any:
    # Numbers stay as they are written: 1.50 is the text "1.50".
    return json.loads(text, parse_int=str, parse_float=str)


def _starts_with_object_line(text: str) -> bool:
    first = text.lstrip().split("\n", 1)[0]
    try:
        return isinstance(_parse(first), dict)
    except (ValueError, RecursionError):
        return False


def _list_in(value: Any, path: Path) -> list[Any]:
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        lists = [item for item in value.values() if isinstance(item, list)]
        if len(lists) == 1:
            return lists[0]
        found = f"an object with the keys {listed(list(value))} and {len(lists)} lists" if value else "an empty object"
    else:
        found = f"a single {type(value).__name__}"
    raise InputError(
        f"{path} holds {found}; expected a list of objects, or an object with one such list",
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
                yield _Record(row, number, _parse(text), text)
            except (ValueError, RecursionError):
                yield _Record(row, number, None, text, is_json=False)


def _source_rows(description: str, records: Iterable[_Record], wanted: ColumnNames, path: Path) -> SourceRows:
    remaining = iter(records)
    head = list(itertools.islice(remaining, ROWS_FOR_COLUMNS))
    objects = [record.value for record in head if isinstance(record.value, dict)]
    if head and not objects:
        raise InputError(
            f"{path}: none of the first {len(head):,} entries is a JSON object", "expected one object per question"
        )
    if not head:
        raise InputError(f"{path} has no data rows", "give a file with one object per question")
    columns = find_columns(wanted, list(dict.fromkeys(key for item in objects for key in item)), path)
    rows = (_row(record, columns, path.name) for record in itertools.chain(head, remaining))
    return SourceRows(description, columns, rows)


def _row(record: _Record, columns: Columns, default_source: str) -> RawRow | UnreadRow:
    if not record.is_json:
        return UnreadRow(record.row, record.line, "invalid_json", text=record.text)
    if not isinstance(record.value, dict):
        text = record.text or json.dumps(record.value, ensure_ascii=False)
        return UnreadRow(record.row, record.line, "not_an_object", text=text)
    cells = [record.value.get(name) for name in columns.names]
    return row_of_cells(record.row, record.line, cells, columns, default_source)
