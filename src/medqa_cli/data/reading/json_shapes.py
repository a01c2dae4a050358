"""Where the rows are in a JSON value: a list, an object of records or of columns, SQuAD's paragraphs, one record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from medqa_cli.data.reading.columns import find_columns
from medqa_cli.data.reading.rows import ColumnNames, EmptyTable
from medqa_cli.errors import InputError
from medqa_cli.spelling import listed

IMPOSSIBLE = "impossible_question"
_FROM_PANDAS = "from pandas: frame.to_json(FILE, orient='records')"


@dataclass(frozen=True)
class Item:
    """One row of a JSON value; ``problem``: it is none, as the value itself says; ``form``: where it stood."""

    value: Any
    problem: str = ""
    form: str = ""


def items_in(value: Any, wanted: ColumnNames, file: object) -> tuple[str, list[Any]]:
    """Return the rows of a JSON value that is read as a whole.

    Args:
        value: the value.
        wanted: the columns that the user named, to tell records from columns.
        file: what the messages call the file.

    Returns:
        what the form is called (empty: a list, which needs no name), and the rows.

    Raises:
        InputError: there are none, or they could be in several places.
    """
    if isinstance(value, list):
        return "", value
    if not isinstance(value, dict):
        raise _shapeless(file, "a single text or number")
    if not value:
        raise EmptyTable(f"{file} holds an empty object; expected a list of objects", _FROM_PANDAS)
    names: Any = value.get("columns")
    rows: Any = value.get("data")
    if _are(str, names) and _are(list, rows):
        return "split form of pandas", [dict(zip(names, row, strict=False)) for row in rows]
    with_columns = [
        items for items in value.values() if _are_records(items) and _has_columns(list(_unwrapped(items[0])), wanted)
    ]
    if len(with_columns) == 1:
        return "", with_columns[0]
    if _has_columns(list(value), wanted):
        return _under_column_names(value, file)
    inside = _records_inside(value, wanted)
    if inside is not None:
        return items_in(inside, wanted, file)
    if all(isinstance(item, dict) for item in value.values()):
        # HEAD-QA's exams: {"Exam_1": {"name": ..., "data": [{...}, ...]}, ...}.
        lists = [
            next((rows for rows in item.values() if _are_records(rows) and _has_columns(list(rows[0]), wanted)), None)
            for item in value.values()
        ]
        if None not in lists:
            return "lists of several objects", [row for rows in lists for row in rows or ()]
        inner = next(iter(value.values()))
        in_inner = inner and all(isinstance(item, dict) or _are_records(item) for item in inner.values())
        if len(value) == 1 and in_inner and not _has_columns(list(inner), wanted):
            return items_in(inner, wanted, file)
        return "an object of records", list(value.values())
    if all(isinstance(item, str) for item in value.values()):
        return _of_texts(value, file)
    return _only_list(value, file)


def spread(items: Iterable[Any]) -> Iterator[Item]:
    """Yield the rows, with those of SQuAD's articles and paragraphs in their place.

    A question that SQuAD calls impossible is yielded as a problem, and one with several answers with all of them.
    """
    for item in items:
        paragraphs = item.get("paragraphs") if isinstance(item, dict) else None
        if isinstance(paragraphs, list):
            for paragraph in paragraphs:
                yield from _of_paragraph(paragraph)
        elif is_paragraph(item):
            yield from _of_paragraph(item)
        elif isinstance(item, list) and item and all(isinstance(x, dict) and {"role", "from"} & {*x} for x in item):
            yield Item({"messages": item})
        else:
            yield Item(_unwrapped(item))


def record_within(items: list[dict[str, Any]], wanted: ColumnNames) -> str | None:
    """Return the key under which each item holds an object with the columns, where the items themselves have none.

    ``{"id": 1, "qa": {"question": ..., "answer": ...}}``
    """
    keys = list(dict.fromkeys(key for item in items for key in item))
    holders = [key for key in keys if all(isinstance(item.get(key), dict | None) for item in items)]
    held = [opened_up(item, holders[0]) for item in items if item.get(holders[0])] if len(holders) == 1 else []
    return holders[0] if held and not _has_columns(keys, wanted) and _has_columns(list(held[0]), wanted) else None


def opened_up(item: Any, key: str) -> Any:
    """Return an item with what it holds under a key beside its other keys, whose values stay where both have one."""
    if not isinstance(item, dict) or not isinstance(item.get(key), dict):
        return item
    return {**item[key], **{name: value for name, value in item.items() if name != key}}


def is_paragraph(item: Any) -> bool:
    """Tell whether a value is one of SQuAD's paragraphs: a context and questions about it."""
    return isinstance(item, dict) and isinstance(item.get("qas"), list)


def _of_paragraph(paragraph: Any) -> Iterator[Item]:
    if not is_paragraph(paragraph):
        yield Item(paragraph)
        return
    for qa in paragraph["qas"]:
        if not isinstance(qa, dict):
            yield Item(qa)
            continue
        record = {
            "question": qa.get("question"),
            "answer": qa.get("answers", qa.get("answer")),
            "context": paragraph.get("context"),
        }
        impossible = qa.get("is_impossible") in (True, "true")
        yield Item(record, IMPOSSIBLE if impossible else "", "SQuAD")


def _unwrapped(item: Any) -> Any:
    """Return the row in what the hub's viewer answers: ``{"row_idx": 0, "row": {...}}``."""
    return item["row"] if isinstance(item, dict) and "row_idx" in item and isinstance(item.get("row"), dict) else item


def _records_inside(value: Mapping[str, Any], wanted: ColumnNames) -> dict[str, Any] | None:
    """Return the one member that is an object of records, or holds the rows in its turn, beside what tells of the file.

    ``{"version": 1, "data": {"id1": {"question": ..., "answer": ...}}}``; groups of such records are joined.
    """
    objects = {key: item for key, item in value.items() if isinstance(item, dict) and item}
    records = {key: item for key, item in objects.items() if _are_records_by_key(item, wanted)}
    if len(records) == 1:
        return next(iter(records.values()))
    if records and len(records) == len(objects):
        return {f"{key} {name}": record for key, item in records.items() for name, record in item.items()}
    holding = [
        item for item in objects.values() if any(isinstance(each, dict) or _are_records(each) for each in item.values())
    ]
    if len(holding) != 1 or _has_columns(list(holding[0]), wanted):
        return None
    if any(isinstance(item, list) for item in value.values()):
        return None
    others = {key for item in objects.values() if item is not holding[0] for key in item}
    return holding[0] if others.isdisjoint(holding[0]) else None


def _are_records_by_key(value: Mapping[str, Any], wanted: ColumnNames) -> bool:
    """Tell whether an object holds a record with the columns under each key."""
    items = list(value.values())
    return all(isinstance(item, dict) for item in items) and _has_columns(list(items[0]), wanted)


def _are(kind: type, value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, kind) for item in value)


def _are_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _has_columns(keys: list[str], wanted: ColumnNames) -> bool:
    try:
        find_columns(wanted, keys, "")
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
            f"{file} holds an object of {len(value):,} texts under keys that are no questions, such as "
            f"{listed(list(value)[:3])}; expected a list of objects",
            "give the file that holds the questions",
        )
    return "an object of answers by question", [
        {"question": question, "answer": answer} for question, answer in value.items()
    ]


def _only_list(value: Mapping[str, Any], file: object) -> tuple[str, list[Any]]:
    lists = {key: item for key, item in value.items() if isinstance(item, list)}
    with_objects = {key: item for key, item in lists.items() if _are_records(item)}
    for found in (lists, with_objects):
        if len(found) == 1:
            return "", next(iter(found.values()))
    what = f"an object with the keys {listed(list(value))} and {len(lists)} lists"
    if len(with_objects) > 1:
        raise InputError(
            f"{file} holds {what} of objects; expected one",
            "write each list to a file of its own, and name them all: medqa convert FILE FILE",
        )
    raise _shapeless(file, what)


def _shapeless(file: object, found: str) -> InputError:
    return InputError(
        f"{file} holds {found}; expected a list of objects, or an object with one such list", _FROM_PANDAS
    )
