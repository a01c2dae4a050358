"""Read a file of questions to answer.

A file is text with one question on each line, JSON Lines, CSV or TSV, or standard input. Its other columns are kept as
they are, and only blank lines are dropped.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medqa_cli import console
from medqa_cli.answering import generate
from medqa_cli.data.encodings.detect import detect_encoding
from medqa_cli.data.reading.cells import cell_text
from medqa_cli.data.reading.columns import find_columns
from medqa_cli.data.reading.shapes import ColumnNames, Columns, TableFile, UnreadRow
from medqa_cli.data.reading.tables import open_cells
from medqa_cli.errors import InputError
from medqa_cli.files import odd_kind, without_surrogates
from medqa_cli.prompt.given import Given

STANDARD_INPUT = "-"
_TABLES = (".csv", ".tsv")
_KINDS = ("a text file with one question on each line", ".jsonl", *_TABLES)
_LINE_END = re.compile(r"\r\n|\n|\r")  # not those of str.splitlines: JSON leaves U+2028 inside a text


@dataclass(frozen=True)
class AskedRow:
    """One question of a file; ``columns``: the row's other columns, in its order; ``context``: that of the question."""

    question: str
    columns: dict[str, Any]
    context: str = ""

    @property
    def given(self) -> Given:
        """What stands before the question, as the model gets it."""
        return generate.tidy_given(Given(context=self.context))


def read_questions(
    name: str, question_column: str | None = None, encoding: str | None = None, context_column: str | None = None
) -> list[AskedRow]:
    """Read all questions of a file.

    Args:
        name: path, or ``-`` for standard input, which holds text lines or JSON Lines.
        question_column: column that holds the question, if the file has it; otherwise it is found by its name.
        encoding: that of the file; None: detected.
        context_column: column with the context of the question, if the file has it.

    Returns:
        the rows in the file's order; a question may be empty where its cell is.

    Raises:
        InputError: the file is missing or of another format, or it has no question column or no row.
    """
    wanted = ColumnNames(question=question_column, encoding=encoding, answers=False, context=context_column)
    if name == STANDARD_INPUT:
        text = sys.stdin.buffer.read().decode("utf-8-sig", errors="replace")
        is_json = text.lstrip().startswith("{")
        rows = list(_json_rows(text, "standard input", wanted) if is_json else _text_rows(text))
    else:
        rows = _file_rows(name, wanted)
    if not rows:
        shown = "standard input" if name == STANDARD_INPUT else name
        raise InputError(f"{shown} holds no question", f"expected {', '.join(_KINDS)}")
    return rows


def _file_rows(name: str, wanted: ColumnNames) -> list[AskedRow]:
    path = Path(name)
    suffix = path.suffix.lower()
    if suffix not in (".jsonl", ".txt", "", *_TABLES):
        raise InputError(f"--file {name}: unknown format '{suffix}'; expected {', '.join(_KINDS)}")
    if kind := odd_kind(path):
        raise InputError(f"--file {name} is {kind}; expected a file", "or give it on standard input: --file -")
    try:
        if suffix in _TABLES:
            return list(_table_rows(name, wanted))
        encoding = detect_encoding(path, name, wanted.encoding)
        for warning in encoding.warnings:
            console.warn(warning)
        text = path.read_text(encoding=encoding.codec, errors=encoding.errors)
    except OSError as error:
        raise InputError(f"--file {name} cannot be read: {error.strerror}", "check the name") from error
    return list(_json_rows(text, name, wanted) if suffix == ".jsonl" else _text_rows(text))


def _text_rows(text: str) -> Iterator[AskedRow]:
    return (AskedRow(line.strip(), {}) for line in _LINE_END.split(text) if line.strip())


def _json_rows(text: str, name: str, wanted: ColumnNames) -> Iterator[AskedRow]:
    for number, line in enumerate(_LINE_END.split(text), start=1):
        if not line.strip():
            continue
        location = f"{name}:{number}"
        try:
            value = _whole(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{location}: no valid JSON: {error}", "each line is one object") from error
        if isinstance(value, str):
            yield AskedRow(value, {})
            continue
        if not isinstance(value, dict):
            raise InputError(f"{location}: expected an object or a text, found {json.dumps(value)[:40]}")
        yield _asked(value, find_columns(wanted, list(value), location), location)


def _whole(value: Any) -> Any:
    """Return a value of JSON with U+FFFD for halves of characters in all of its texts."""
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {_whole(key): _whole(item) for key, item in value.items()}
    return value


def _table_rows(name: str, wanted: ColumnNames) -> Iterator[AskedRow]:
    table = open_cells(TableFile(Path(name), name), wanted)
    for warning in table.warnings:
        console.warn(warning)
    names = [column.strip() for column in table.columns.names]
    if len(set(names)) < len(names):
        raise InputError(f"{name}: two columns have the same name: {', '.join(names)}", "rename one")
    columns = replace(table.columns, names=tuple(names))
    for row in table.rows:
        if isinstance(row, UnreadRow):
            reason = row.reason.replace("_", " ")
            raise InputError(
                f"{name}:{row.line}: the row cannot be read: {reason}", "repair it, or export the file again"
            )
        if not any((cell_text(cell) or "").strip() for cell in row.cells):
            continue
        location = f"{name}:{row.line}"
        if len(row.cells) != len(names):
            raise InputError(
                f"{location}: {len(row.cells)} cells, but the header has {len(names)}",
                "put quotes around cells that hold the delimiter",
            )
        yield _asked(dict(zip(names, row.cells, strict=True)), columns, location)


def _asked(row: Mapping[str, Any], columns: Columns, location: str) -> AskedRow:
    """Return the question of a row; Alpaca's input follows its instruction, as ``medqa convert`` reads them."""
    column = columns.names[columns.question]
    if not isinstance(row[column], str):
        raise InputError(f"{location}: the question under {column!r} is not text")
    question, others = row[column], {key: cell for key, cell in row.items() if key != column}
    more = None if columns.input is None else row[columns.names[columns.input]]
    if isinstance(more, str) and more.strip():
        question = f"{question}\n\n{more}"
    context = "" if columns.context is None else row[columns.names[columns.context]]
    if context is not None and not isinstance(context, str):
        raise InputError(f"{location}: the context under {columns.names[columns.context or 0]!r} is not text")
    return AskedRow(question, others, context or "")
