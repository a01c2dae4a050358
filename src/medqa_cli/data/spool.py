"""JSON lines, and the file that keeps the rows between the first pass and the second. Does not judge rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from medqa_cli.data.reading.rows import RawRow, UnreadRow

_ENCODER = json.JSONEncoder(ensure_ascii=False)


def create(path: Path) -> TextIO:
    """Open a new JSON Lines file for writing."""
    # A lone surrogate of a rejected row is written as \\udXXX, which JSON reads back.
    return open(path, "w", encoding="utf-8", errors="backslashreplace", newline="\n")


def write_line(file: TextIO, entry: dict[str, Any]) -> None:
    """Write one object."""
    file.write(_ENCODER.encode(entry) + "\n")


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file that ``create`` and ``write_line`` made."""
    with open(path, encoding="utf-8", newline="\n") as file:
        for line in file:
            yield json.loads(line)


def place_of(entry: dict[str, Any]) -> str:
    """Return where a rejected row stands, for a message: ``jan.csv row 7 (line 9)``."""
    line = f" (line {entry['line']})" if "line" in entry else ""
    return f"{entry.get('file', '')} row {entry['row']}{line}".lstrip()


def rejected(row: RawRow | UnreadRow, reason: str) -> dict[str, Any]:
    """Return a line of ``rejected.jsonl``: the row as it was read, why it is rejected and where it stands."""
    entry: dict[str, Any] = {"row": row.row, "reason": reason, "question": row.question, "answer": row.answer}
    if row.line is not None:
        entry["line"] = row.line
    if row.file:
        entry["file"] = row.file
    if isinstance(row, UnreadRow) and row.text:
        entry["text"] = row.text
    if isinstance(row, UnreadRow) and row.detail:
        entry["detail"] = row.detail
    return entry
