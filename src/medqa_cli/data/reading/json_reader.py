"""Reads JSON and JSON Lines, whatever their shape: a list of objects, an object of records or of columns, SQuAD's
paragraphs, one record.
"""

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medqa_cli.data.encodings.detect import Encoding, detect_encoding
from medqa_cli.data.reading.cells import json_text
from medqa_cli.data.reading.columns import find_columns
from medqa_cli.data.reading.json_stream import BLOCK, parse_json, stream_list
from medqa_cli.data.reading.shapes import Caps, CellRow, CellTable, ColumnNames, EmptyTable, TableFile, UnreadRow
from medqa_cli.errors import InputError
from medqa_cli.spelling import listed

EXAMPLE = '{"question": "...", "answer": "..."}'
ROWS_FOR_COLUMNS = 1000  # the columns are the keys of so many first rows
_FROM_PANDAS = "from pandas: frame.to_json(FILE, orient='records')"


@dataclass(frozen=True)
class _Record:
    """A value of the file, why it is no row (empty: it may be one), and its line and its text in JSON Lines.

    ``form``: of the file, as the record shows it.
    """

    value: Any
    problem: str = ""
    form: str = ""
    line: int | None = None
    text: str = ""


def read_json_file(file: TableFile, wanted: ColumnNames) -> CellTable:
    """Open a JSON file; one that turns out to be JSON Lines is read as such.

    Raises:
        InputError: the file is no JSON, has another shape, or lacks a column.
    """
    encoding = detect_encoding(file.path, file.shown, wanted.encoding)
    if _begins_with_list(file.path, encoding):
        return _cell_table(f"JSON, {encoding.description}", _streamed(file, encoding, wanted.caps), wanted, file)
    text = file.path.read_text(encoding=encoding.codec, errors=encoding.errors)
    with _json_errors(file):
        try:
            value = parse_json(text)
        except ValueError:
            if isinstance(_value_of(text.lstrip().split("\n", 1)[0]), dict):
                return read_json_lines(file, wanted)
            raise
        shape, items = _items_in(value, wanted, file)
    description = f"JSON, {shape}, {encoding.description}" if shape else f"JSON, {encoding.description}"
    return _cell_table(description, _spread(items), wanted, file)


def read_json_lines(file: TableFile, wanted: ColumnNames) -> CellTable:
    """Open a JSON Lines file; a line that is no JSON is yielded as unread.

    Raises:
        InputError: no line is an object, or a column is missing.
    """
    encoding = detect_encoding(file.path, file.shown, wanted.encoding)
    if _begins_with_list(file.path, encoding):
        with encoding.open(file.path) as text:
            is_line_of_several = _value_of(text.readline()) is not None and any(line.strip() for line in text)
        if not is_line_of_several:
            return read_json_file(file, wanted)
    return _cell_table(f"JSON Lines, {encoding.description}", _lines(file, encoding, wanted.caps), wanted, file)


@contextlib.contextmanager
def _json_errors(file: TableFile) -> Iterator[None]:
    try:
        yield
    except RecursionError as error:
        raise InputError(f"{file} is nested too deeply", f"give a list of objects like {EXAMPLE}") from error
    except ValueError as error:
        raise InputError(
            f"{file} is not valid JSON: {error}", "repair or export it again; one object per line is a .jsonl file"
        ) from error


def _begins_with_list(path: Path, encoding: Encoding) -> bool:
    with encoding.open(path) as text:
        return text.read(BLOCK).lstrip().startswith("[")


def _value_of(line: str) -> Any:
    """Return the value of a line, None where it is no JSON."""
    try:
        return parse_json(line)
    except (ValueError, RecursionError):
        return None


def _streamed(file: TableFile, encoding: Encoding, caps: Caps) -> Iterator[_Record]:
    with encoding.open(file.path) as text, _json_errors(file):
        yield from _spread(stream_list(text, lambda size, line: caps.check_row(size, f"{file}:{line}")))


def _lines(file: TableFile, encoding: Encoding, caps: Caps) -> Iterator[_Record]:
    with encoding.open(file.path, newline="\n") as opened:
        for number, line in enumerate(caps.lines(opened, file.shown), start=1):
            if not (text := line.strip()):
                continue
            try:
                records = list(_spread([parse_json(text)])) or [_Record(None, "invalid_json")]
            except (ValueError, RecursionError):
                records = [_Record(None, "invalid_json")]
            for record in records:
                # Of several questions in a line none is all of it.
                yield replace(record, line=number, text=text if len(records) == 1 else "")


def _cell_table(description: str, records: Iterator[_Record], wanted: ColumnNames, file: TableFile) -> CellTable:
    head = list(itertools.islice(records, ROWS_FOR_COLUMNS))
    if not head:
        raise EmptyTable(f"{file} has no data rows", "give a file with one object per question")
    objects = [record.value for record in head if isinstance(record.value, dict)]
    if not objects:
        raise InputError(
            f"{file}: none of the first {len(head):,} entries is a JSON object; expected one per question",
            f"write each like this: {EXAMPLE}",
        )
    keys = list(dict.fromkeys(key for item in objects for key in item))
    # Where the items lack the columns, an object in each may have them: {"id": 1, "qa": {"question": ..., ...}}.
    holders = [key for key in keys if all(isinstance(item.get(key), dict | None) for item in objects)]
    held = [_opened_up(item, holders[0]) for item in objects if item.get(holders[0])] if len(holders) == 1 else []
    holder = holders[0] if held and not _has_columns(keys, wanted) and _has_columns(held[0], wanted) else None
    if holder is not None:
        objects = [_opened_up(item, holder) for item in objects]
        description = f"{description}, '{holder}' taken apart"
    columns = find_columns(wanted, list(dict.fromkeys(key for item in objects for key in item)), file)

    def rows() -> Iterator[CellRow | UnreadRow]:
        for row, record in enumerate(itertools.chain(head, records), start=1):
            value = record.value if holder is None else _opened_up(record.value, holder)
            if record.problem or not isinstance(value, dict):
                text = record.text or json_text(value)
                yield UnreadRow(row, record.line, record.problem or "not_an_object", text=text, file=file.member)
            else:
                yield CellRow(row, record.line, [value.get(name) for name in columns.names])

    return CellTable(f"{description}, {head[0].form} form" if head[0].form else description, columns, rows())


def _items_in(value: Any, wanted: ColumnNames, file: object) -> tuple[str, list[Any]]:
    """Return what the shape of a JSON value is called (empty: a list, which needs no name), and its rows.

    Raises:
        InputError: there are none, or they could be in several places.
    """
    if isinstance(value, list):
        return "", value
    if not isinstance(value, dict):
        raise _shapeless(file, "a single text or number")
    if not value:
        raise EmptyTable(f"{file} holds an empty object; expected a list of objects", _FROM_PANDAS)
    names, rows = value.get("columns", []), value.get("data", [])
    if _are(str, names) and _are(list, rows):
        return "split form of pandas", [dict(zip(names, row, strict=False)) for row in rows]
    with_columns = [rows for rows in value.values() if _are_records(rows) and _has_columns(_unwrapped(rows[0]), wanted)]
    if len(with_columns) == 1:
        return "", with_columns[0]
    if _has_columns(value, wanted):
        return _under_column_names(value, file)
    inside = _records_inside(value, wanted)
    if inside is not None:
        return _items_in(inside, wanted, file)
    if all(isinstance(item, dict) for item in value.values()):
        # HEAD-QA's exams: {"Exam_1": {"name": ..., "data": [{...}, ...]}, ...}.
        lists = [
            next((rows for rows in item.values() if _are_records(rows) and _has_columns(rows[0], wanted)), None)
            for item in value.values()
        ]
        if None not in lists:
            return "lists of several objects", [row for rows in lists for row in rows or ()]
        inner = next(iter(value.values()))
        in_inner = inner and all(isinstance(item, dict) or _are_records(item) for item in inner.values())
        if len(value) == 1 and in_inner and not _has_columns(inner, wanted):
            return _items_in(inner, wanted, file)
        return "an object of records", list(value.values())
    if all(isinstance(item, str) for item in value.values()):
        return _of_texts(value, file)
    return _only_list(value, file)


def _spread(items: Iterable[Any]) -> Iterator[_Record]:
    """Yield the rows, with those of SQuAD's articles and paragraphs in their place.

    A question that SQuAD calls impossible is yielded as a problem, and one with several answers with all of them.
    """
    for item in items:
        paragraphs = item.get("paragraphs") if isinstance(item, dict) else None
        if isinstance(paragraphs, list):
            for paragraph in paragraphs:
                yield from _of_paragraph(paragraph)
        elif _is_paragraph(item):
            yield from _of_paragraph(item)
        elif isinstance(item, list) and item and all(isinstance(x, dict) and {"role", "from"} & {*x} for x in item):
            yield _Record({"messages": item})
        else:
            yield _Record(_unwrapped(item))


def _opened_up(item: Any, key: str) -> Any:
    """Return an item with what it holds under a key beside its other keys, whose values stay where both have one."""
    if not isinstance(item, dict) or not isinstance(item.get(key), dict):
        return item
    return {**item[key], **{name: value for name, value in item.items() if name != key}}


def _is_paragraph(item: Any) -> bool:
    """Tell whether a value is one of SQuAD's paragraphs: a context and questions about it."""
    return isinstance(item, dict) and isinstance(item.get("qas"), list)


def _of_paragraph(paragraph: Any) -> Iterator[_Record]:
    if not _is_paragraph(paragraph):
        yield _Record(paragraph)
        return
    for qa in paragraph["qas"]:
        if not isinstance(qa, dict):
            yield _Record(qa)
            continue
        answers = qa.get("answers", qa.get("answer"))
        record = {"question": qa.get("question"), "answer": answers, "context": paragraph.get("context")}
        is_impossible = qa.get("is_impossible") in (True, "true")
        yield _Record(record, "impossible_question" if is_impossible else "", "SQuAD")


def _unwrapped(item: Any) -> Any:
    """Return the row in what the hub's viewer answers: ``{"row_idx": 0, "row": {...}}``."""
    return item["row"] if isinstance(item, dict) and "row_idx" in item and isinstance(item.get("row"), dict) else item


def _records_inside(value: Mapping[str, Any], wanted: ColumnNames) -> dict[str, Any] | None:
    """Return the one member that is an object of records, or holds the rows in its turn, beside what tells of the file.

    ``{"version": 1, "data": {"id1": {"question": ..., "answer": ...}}}``; groups of such records are joined.
    """
    objects = {key: item for key, item in value.items() if isinstance(item, dict) and item}
    records = {key: item for key, item in objects.items() if _are(dict, [*item.values()])}
    records = {key: item for key, item in records.items() if _has_columns(next(iter(item.values())), wanted)}
    if len(records) == 1:
        return next(iter(records.values()))
    if records and len(records) == len(objects):
        return {f"{key} {name}": record for key, item in records.items() for name, record in item.items()}
    holding = [
        item
        for item in objects.values()
        if any(isinstance(entry, dict) or _are_records(entry) for entry in item.values())
    ]
    beside_list = any(isinstance(item, list) for item in value.values())
    if len(holding) != 1 or beside_list or _has_columns(holding[0], wanted):
        return None
    others = {key for item in objects.values() if item is not holding[0] for key in item}
    return holding[0] if others.isdisjoint(holding[0]) else None


def _are(kind: type, value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, kind) for item in value)


def _are_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _has_columns(keys: Iterable[str], wanted: ColumnNames) -> bool:
    try:
        find_columns(wanted, list(keys), "")
    except InputError:
        return False
    return True


def _under_column_names(value: Mapping[str, Any], file: object) -> tuple[str, list[Any]]:
    """Return the rows of an object whose keys are the columns: with a list or an object in each, or one record."""
    cells = list(value.values())
    if all(isinstance(cell, dict) for cell in cells):
        # As pandas writes a frame unless told otherwise: {"question": {"0": ...}, "answer": {"0": ...}}.
        numbers = list(dict.fromkeys(number for column in cells for number in column))
        return "columns of pandas", [{name: value[name].get(number) for name in value} for number in numbers]
    if all(isinstance(cell, list) for cell in cells):
        lengths = {len(cell) for cell in cells}
        if len(lengths) > 1:
            raise _shapeless(file, f"the columns {listed(list(value))} with {min(lengths)} to {max(lengths)} rows")
        return "lists of columns", [dict(zip(value, row, strict=True)) for row in zip(*cells, strict=True)]
    return "one record", [dict(value)]


def _of_texts(value: Mapping[str, str], file: object) -> tuple[str, list[Any]]:
    """Return the rows of an object that maps questions to answers."""
    questions = sum(key.rstrip().endswith(("?", "？")) or key.strip().count(" ") > 1 for key in value)
    if 2 * questions < len(value):
        raise InputError(
            f"{file} holds an object of {len(value):,} texts under keys that are not questions, such as "
            f"{listed(list(value)[:3])}; expected a list of objects",
            "give the file that holds the questions",
        )
    return "an object of answers by question", [{"question": key, "answer": text} for key, text in value.items()]


def _only_list(value: Mapping[str, Any], file: object) -> tuple[str, list[Any]]:
    lists = {key: item for key, item in value.items() if isinstance(item, list)}
    with_objects = {key: item for key, item in lists.items() if _are_records(item)}
    for candidates in (lists, with_objects):
        if len(candidates) == 1:
            return "", next(iter(candidates.values()))
    what = f"an object with the keys {listed(list(value))} and {len(lists)} lists"
    if len(with_objects) > 1:
        raise InputError(
            f"{file} holds {what} of objects; expected one",
            "write each list to a file of its own, and name them all: medqa convert FILE FILE",
        )
    raise _shapeless(file, what)


def _shapeless(file: object, content: str) -> InputError:
    return InputError(
        f"{file} holds {content}; expected a list of objects, or an object with one such list", _FROM_PANDAS
    )
