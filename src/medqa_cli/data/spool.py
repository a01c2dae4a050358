"""The temporary file that keeps each row between the two passes of ``medqa convert``, and JSON lines."""

from __future__ import annotations

import json
import marshal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TextIO

from medqa_cli.data.reading.rows import RawRow, UnreadRow

_LENGTH_BYTES = 8
_ENCODER = json.JSONEncoder(ensure_ascii=False)


class SpooledRow(NamedTuple):
    """A row between the two passes: as it was read, and its cleaned texts where it passed the filters.

    Attributes:
        row: its number in ``file``, from 1.
        line: its line in the file or the sheet, where there is one.
        file: empty where the source is one file.
        reason: why it is rejected. Empty: it passed, and only then the fields from ``question`` on hold anything.
        raw_question: as it was read.
        raw_answer: as it was read.
        text: all of a row that could not be taken apart.
        detail: more on the reason.
        question: cleaned.
        answer: cleaned.
        topic: of the topic column or of the question.
        source: what it is from.
        question_topic: the topic that the question names, while the topic column may be useless.
        changed: names of the cleaning rules that changed it.
        language: of its answer.
        garbled: a garbled part of it, shown to the user.
    """

    row: int
    line: int | None
    file: str
    reason: str
    raw_question: str
    raw_answer: str
    text: str = ""
    detail: str = ""
    question: str = ""
    answer: str = ""
    topic: str = ""
    source: str = ""
    question_topic: str = ""
    changed: tuple[str, ...] = ()
    language: str = ""
    garbled: str = ""

    @property
    def place(self) -> str:
        """Where the row is, for a message: ``jan.csv row 7 (line 9)``."""
        line = "" if self.line is None else f" (line {self.line})"
        return f"{self.file} row {self.row}{line}".lstrip()

    def rejected(self) -> dict[str, Any]:
        """Return the line of ``rejected.jsonl``."""
        entry = {"row": self.row, "reason": self.reason, "question": self.raw_question, "answer": self.raw_answer}
        if self.line is not None:
            entry["line"] = self.line
        optional = {"file": self.file, "text": self.text, "detail": self.detail}
        return entry | {name: value for name, value in optional.items() if value}


def as_read(row: RawRow | UnreadRow, reason: str) -> SpooledRow:
    """Return the row as it was read, with the reason why it is rejected."""
    if isinstance(row, UnreadRow):
        return SpooledRow(row.row, row.line, row.file, reason, row.question, row.answer, row.text, row.detail)
    return SpooledRow(row.row, row.line, row.file, reason, row.question, row.answer)


def create(path: Path) -> TextIO:
    """Open a new JSON Lines file for writing."""
    # A lone surrogate of a rejected row is written as \\udXXX, which JSON reads back.
    return open(path, "w", encoding="utf-8", errors="backslashreplace", newline="\n")


def write_line(file: TextIO, value: dict[str, Any]) -> None:
    """Write one line."""
    file.write(_ENCODER.encode(value) + "\n")


def write_spooled(file: BinaryIO, row: SpooledRow) -> None:
    """Write one row to a spool file: its length and its fields as Python writes them, in a tenth of JSON's time."""
    data = marshal.dumps((*row,))
    file.write(len(data).to_bytes(_LENGTH_BYTES, "little") + data)


def read_spooled(path: Path) -> Iterator[SpooledRow]:
    """Yield the rows of a spool file."""
    with open(path, "rb") as file:
        while length := file.read(_LENGTH_BYTES):
            yield SpooledRow._make(marshal.loads(file.read(int.from_bytes(length, "little"))))
