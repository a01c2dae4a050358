"""Which column holds the question, the answer, the topic and the source.

Does not look into cells: only names decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medqa_cli.data.wording import did_you_mean, listed
from medqa_cli.errors import InputError

# The first name of each wins over the others; two of the others in one file are ambiguous.
CANDIDATES = {
    "question": ("question", "questions", "q", "query", "prompt", "instruction", "input"),
    "answer": ("answer", "answers", "a", "response", "output", "completion", "target"),
}


@dataclass(frozen=True)
class ColumnNames:
    """The columns that the user named; None: find it by its name (the topic: there is none)."""

    question: str | None = None
    answer: str | None = None
    topic: str | None = None


@dataclass(frozen=True)
class Columns:
    """All columns of a file and the positions of those that are used."""

    names: tuple[str, ...]
    question: int
    answer: int
    topic: int | None
    source: int | None

    def describe(self) -> str:
        """Return the columns in use, as shown to the user."""
        parts = [f"question '{self.names[self.question]}'", f"answer '{self.names[self.answer]}'"]
        if self.topic is not None:
            parts.append(f"topic '{self.names[self.topic]}'")
        if self.source is not None:
            parts.append(f"source '{self.names[self.source]}'")
        return ", ".join(parts)


def find_columns(wanted: ColumnNames, header: Sequence[str], path: Path) -> Columns:
    """Find the columns in use.

    Args:
        wanted: the names that the user gave.
        header: all names of the file, in its order.
        path: the file, for the messages.

    Returns:
        the positions of the columns.

    Raises:
        InputError: a column is missing or ambiguous, or question and answer are one column.
    """
    question = _find("question", wanted.question, header, path)
    answer = _find("answer", wanted.answer, header, path)
    if question == answer:
        raise InputError(
            f"{path}: question and answer are one column, '{header[question]}'; the file has {listed(header)}",
            "name another: --set data.answer_column=NAME",
        )
    topic = None if wanted.topic is None else _named("topic", wanted.topic, header, path)
    sources = [index for index in _matches(header, "source") if index not in (question, answer)]
    return Columns(tuple(header), question, answer, topic, sources[0] if sources else None)


def _find(role: str, name: str | None, header: Sequence[str], path: Path) -> int:
    return _guessed(role, header, path) if name is None else _named(role, name, header, path)


def _named(role: str, name: str, header: Sequence[str], path: Path) -> int:
    found = _matches(header, name)
    if not found:
        raise InputError(
            f"{path}: data.{role}_column is '{name}', but the columns are {listed(header)}{did_you_mean(name, header)}",
            f"name one of them: --set data.{role}_column=NAME",
        )
    return _only(role, found, header, path)


def _guessed(role: str, header: Sequence[str], path: Path) -> int:
    first, *others = CANDIDATES[role]
    found = _matches(header, first) or [index for name in others for index in _matches(header, name)]
    if not found:
        raise InputError(
            f"{path}: no {role} column found; expected one named {listed(CANDIDATES[role])}, "
            f"but the columns are {listed(header)}",
            f"name it: --set data.{role}_column=NAME (a file without a header line needs one)",
        )
    return _only(role, found, header, path)


def _only(role: str, found: Sequence[int], header: Sequence[str], path: Path) -> int:
    if len(found) > 1:
        raise InputError(
            f"{path}: {len(found)} columns could hold the {role}: {listed([header[index] for index in found])}; "
            f"the columns are {listed(header)}",
            f"name one: --set data.{role}_column=NAME (rename columns that share a name)",
        )
    return found[0]


def _matches(header: Sequence[str], name: str) -> list[int]:
    exact = [index for index, column in enumerate(header) if column == name]
    folded = name.strip().casefold()
    return exact or [index for index, column in enumerate(header) if column.strip().casefold() == folded]
