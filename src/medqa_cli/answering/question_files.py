"""Reads files of questions: a text file with one on each line, JSON Lines, CSV or TSV; or standard input.

Keeps every other column as it stands. Does not answer, and drops nothing but blank lines.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medqa_cli import console
from medqa_cli.data.encodings.detect import detect_encoding
from medqa_cli.data.reading.columns import CANDIDATES, INPUT, INSTRUCTION
from medqa_cli.errors import InputError
from medqa_cli.files import odd_kind

STANDARD_INPUT = "-"
_DELIMITERS = {".csv": ",;\t|", ".tsv": "\t"}
_KINDS = ("a text file with one question on each line", ".jsonl", ".csv", ".tsv")
_LARGEST_CELL = 2**31 - 1
_LINE_END = re.compile(r"\r\n|\n|\r")  # not those of str.splitlines: JSON leaves U+2028 inside a text


@dataclass(frozen=True)
class AskedRow:
    """One question of a file; ``columns``: the row's other columns, in its order."""

    question: str
    columns: dict[str, Any]


def read_questions(name: str, question_column: str | None = None, encoding: str | None = None) -> list[AskedRow]:
    """Read all questions of a file.

    Args:
        name: path, or ``-`` for standard input, which holds text lines or JSON Lines.
        question_column: column that holds the question where the file has it; else it is found by its name.
        encoding: that of the file; None: told by its bytes.

    Returns:
        the rows in the file's order; a question may be empty where its cell is.

    Raises:
        InputError: the file is missing or of another format, or it has no question column or no row.
    """
    text, suffix = _read(name, encoding)
    if suffix == ".jsonl":
        rows = list(_json_rows(text, name, question_column))
    elif suffix in _DELIMITERS:
        rows = list(_table_rows(text, name, question_column, _DELIMITERS[suffix]))
    else:
        rows = [AskedRow(line.strip(), {}) for line in _LINE_END.split(text) if line.strip()]
    if not rows:
        raise InputError(f"{_shown(name)} holds no question", f"expected {', '.join(_KINDS)}")
    return rows


def _read(name: str, wanted: str | None) -> tuple[str, str]:
    if name == STANDARD_INPUT:
        text = sys.stdin.buffer.read().decode("utf-8-sig", errors="replace")
        return text, ".jsonl" if text.lstrip().startswith("{") else ".txt"
    path = Path(name)
    suffix = path.suffix.lower()
    if suffix not in (".jsonl", ".txt", "", *_DELIMITERS):
        raise InputError(f"--file {name}: unknown format '{suffix}'; expected {', '.join(_KINDS)}")
    if kind := odd_kind(path):
        raise InputError(f"--file {name} is {kind}; expected a file", "or give it on standard input: --file -")
    try:
        encoding = detect_encoding(path, name, wanted)
        for warning in encoding.warnings:
            console.warn(warning)
        return path.read_text(encoding=encoding.codec, errors=encoding.errors), suffix
    except OSError as error:
        raise InputError(f"--file {name} cannot be read: {error.strerror}", "check the name") from error


def _json_rows(text: str, name: str, question_column: str | None) -> Iterator[AskedRow]:
    for number, line in enumerate(_LINE_END.split(text), start=1):
        if not line.strip():
            continue
        place = f"{_shown(name)}:{number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place}: no valid JSON: {error}", "each line is one object") from error
        if isinstance(value, str):
            yield AskedRow(value, {})
            continue
        if not isinstance(value, dict):
            raise InputError(f"{place}: expected an object or a text, found {json.dumps(value)[:40]}")
        column = _question_column(list(value), place, question_column)
        if not isinstance(value[column], str):
            raise InputError(f"{place}: the question under {column!r} is no text")
        yield _asked(value, column)


def _table_rows(text: str, name: str, question_column: str | None, delimiters: str) -> Iterator[AskedRow]:
    csv.field_size_limit(_LARGEST_CELL)
    first_line = text.partition("\n")[0]
    delimiter = max(delimiters, key=first_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header = [cell.strip() for cell in next(reader, [])]
    column = _question_column(header, _shown(name), question_column)
    if len(set(header)) < len(header):
        raise InputError(f"{_shown(name)}: two columns have the same name: {', '.join(header)}", "rename one")
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise InputError(
                f"{_shown(name)}:{reader.line_num}: {len(cells)} cells, but the header has {len(header)}",
                "put quotes around cells that hold the delimiter",
            )
        row = dict(zip(header, cells, strict=True))
        yield _asked(row, column)


def _asked(row: Mapping[str, Any], column: str) -> AskedRow:
    """Return the question of a row; behind Alpaca's instruction its input, as ``medqa convert`` reads them."""
    question, others = row[column], {key: cell for key, cell in row.items() if key != column}
    after = next((cell for key, cell in others.items() if key.strip().casefold() == INPUT), None)
    if column.strip().casefold() == INSTRUCTION and isinstance(after, str) and after.strip():
        question = f"{question}\n\n{after}"
    return AskedRow(question, others)


def _question_column(names: Sequence[str], place: str, wanted: str | None) -> str:
    by_folded = {name.strip().casefold(): name for name in reversed(names)}
    # The config names the column of the training data; a file of questions may have another.
    for candidate in (*([wanted] if wanted is not None else []), *CANDIDATES["question"]):
        if candidate.casefold() in by_folded:
            return by_folded[candidate.casefold()]
    expected = f"'{wanted}' or 'question'" if wanted is not None else "'question'"
    raise InputError(
        f"{place}: no column {expected}; found {', '.join(map(repr, names)) or 'none'}",
        "name it: --set data.question_column=NAME",
    )


def _shown(name: str) -> str:
    return "standard input" if name == STANDARD_INPUT else name
