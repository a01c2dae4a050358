"""The rows between the two passes of ``medqa convert``, and the file in which they wait."""

from __future__ import annotations

import marshal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from medqa_cli.data.identifiers.finds import PlainFind
from medqa_cli.data.reading.rows import RawRow, UnreadRow, place_of
from medqa_cli.prompt.given import Given, Turn

_LENGTH_BYTES = 8


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
        finds: what identifies a person in it, as in the fields of ``finds.Find``.
        turn: its number in its conversation, from 1; 0: it is none.
        earlier: questions and answers of the turns before it, cleaned.
        context: what belongs to its question, cleaned.
        pair: the key of its question with its answer, of which its id is made.
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
    finds: tuple[PlainFind, ...] = ()
    turn: int = 0
    earlier: tuple[tuple[str, str], ...] = ()
    context: str = ""
    pair: bytes = b""

    @property
    def given(self) -> Given:
        """What stands before the question in the prompt."""
        return Given(tuple(Turn(*turn) for turn in self.earlier), self.context)

    @property
    def place(self) -> str:
        """Where the row is, for a message: ``jan.csv row 7 (line 9)``."""
        return place_of(self.file, self.row, self.line) + (f", turn {self.turn}" if self.turn else "")

    def rejected_for(self, reason: str) -> SpooledRow:
        """Return the row as it was read, with the reason why it is rejected after it had passed."""
        place = (self.row, self.line, self.file)
        return SpooledRow(*place, reason, self.raw_question, self.raw_answer, turn=self.turn)

    def rejected(self) -> dict[str, Any]:
        """Return the line of ``rejected.jsonl``."""
        entry = {"row": self.row, "reason": self.reason, "question": self.raw_question, "answer": self.raw_answer}
        if self.line is not None:
            entry["line"] = self.line
        if self.turn:
            entry["turn"] = self.turn
        optional = {"file": self.file, "text": self.text, "detail": self.detail}
        return entry | {name: value for name, value in optional.items() if value}


def as_read(row: RawRow | UnreadRow, reason: str) -> SpooledRow:
    """Return the row as it was read, with the reason why it is rejected."""
    if isinstance(row, UnreadRow):
        return SpooledRow(row.row, row.line, row.file, reason, row.question, row.answer, row.text, row.detail)
    turn = row.turn + 1 if row.talk is not None and row.talk.said > 1 else 0
    return SpooledRow(row.row, row.line, row.file, reason, row.question, row.answer, turn=turn)


def packed(row: SpooledRow) -> bytes:
    """Return a row as it is spooled: as Python writes its fields, in a tenth of JSON's time."""
    return marshal.dumps((*row,))


def unpacked(data: bytes) -> SpooledRow:
    """Return the row that ``packed`` made these bytes of."""
    return SpooledRow._make(marshal.loads(data))


def write_spooled(file: BinaryIO, data: bytes) -> None:
    """Write a packed row to a spool file, after its length."""
    file.write(len(data).to_bytes(_LENGTH_BYTES, "little") + data)


def read_spooled(path: Path) -> Iterator[SpooledRow]:
    """Yield the rows of a spool file."""
    with open(path, "rb") as file:
        while length := file.read(_LENGTH_BYTES):
            yield unpacked(file.read(int.from_bytes(length, "little")))
