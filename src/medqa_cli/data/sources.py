"""Opens a spreadsheet of questions and answers, whatever its format, and says what is wrong where it cannot.

Does not clean or drop anything: each row of the file comes out, as a row or as one that could not be read.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from medqa_cli.data.columns import ColumnNames
from medqa_cli.data.delimited import read_delimited
from medqa_cli.data.json_records import read_json_file, read_json_lines
from medqa_cli.data.parquet_records import read_parquet
from medqa_cli.data.rows import RawRow, SourceRows, UnreadRow
from medqa_cli.data.wording import did_you_mean
from medqa_cli.errors import InputError

READERS: dict[str, Callable[[Path, ColumnNames], SourceRows]] = {
    ".csv": read_delimited,
    ".tsv": read_delimited,
    ".json": read_json_file,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".parquet": read_parquet,
}


def read_rows(
    path: Path, question_column: str | None, answer_column: str | None, topic_column: str | None
) -> SourceRows:
    """Open a source.

    Args:
        path: the file; its suffix tells the format.
        question_column: column of the question; None: found by its name.
        answer_column: column of the answer; None: found by its name.
        topic_column: column of the topic; None: there is none.

    Returns:
        the format found, the columns in use and an iterator over the rows.

    Raises:
        InputError: the file is missing, empty, unreadable, of an unknown format, or lacks a column or data rows.
    """
    check_file(path)
    try:
        opened = READERS[path.suffix.lower()](path, ColumnNames(question_column, answer_column, topic_column))
        rows = _readable(opened.rows, path)
        first = next(rows, None)
    except OSError as error:
        raise _unreadable(path, error) from error
    if first is None:
        raise InputError(
            f"{path} has no data rows, only the columns {opened.columns.describe()}",
            "give a file with at least one row",
        )
    return replace(opened, rows=itertools.chain([first], rows))


def check_file(path: Path) -> None:
    """Check that the source is a non-empty file of a known format.

    Raises:
        InputError: it is not.
    """
    known = ", ".join(READERS)
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected one file ({known})", "name the file: medqa convert FILE")
    if not path.exists():
        raise InputError(f"{path} does not exist{_similar_file(path)}", "check the name, or data.source in medqa.yaml")
    if path.suffix.lower() not in READERS:
        found = f"'{path.suffix}'" if path.suffix else "no suffix"
        raise InputError(
            f"{path}: unknown format ({found}); expected {known}",
            "export it as CSV (spreadsheet programs: 'CSV UTF-8'), or rename it if it is one of these",
        )
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
    except OSError as error:
        raise _unreadable(path, error) from error
    if size == 0:
        raise InputError(f"{path} is empty (0 bytes)", "give a file with one row per question")


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path} cannot be read: {error.strerror or error}", "check its permissions and the disk")


def _similar_file(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f": there is no folder {folder}"
    try:
        return did_you_mean(path.name, sorted(other.name for other in folder.iterdir() if other.is_file()))
    except OSError:
        return ""


def _readable(rows: Iterator[RawRow | UnreadRow], path: Path) -> Iterator[RawRow | UnreadRow]:
    try:
        yield from rows
    except OSError as error:
        raise _unreadable(path, error) from error
