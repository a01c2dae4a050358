"""Which column holds the question, the answer, the topic and the source.

Does not look into cells: only names decide.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

from medqa_cli.data.wording import did_you_mean, listed
from medqa_cli.errors import InputError

# The first name of each wins over the others; two of the others in one file are ambiguous.
CANDIDATES = {
    "question": ("question", "questions", "q", "query", "prompt", "instruction", "input"),
    "answer": ("answer", "answers", "a", "response", "output", "completion", "target"),
}
# These are optional: the first name that a file has is taken.
TOPIC_NAMES = ("topic", "focus", "focus_area", "disease", "condition")
KIND_NAMES = ("qtype", "question_type")
# A question and its answer in one column: a list of messages, or a text with turn markers.
MESSAGE_NAMES = ("messages", "conversations", "conversation")
TEXT_NAMES = ("text",)


@dataclass(frozen=True)
class ColumnNames:
    """The columns that the user named; None: find it by its name."""

    question: str | None = None
    answer: str | None = None
    topic: str | None = None


@dataclass(frozen=True)
class Columns:
    """All columns of a file and the positions of those that are used.

    ``exchange``: one column holds question and answer together, ``question`` and ``answer`` are both its position.
    """

    names: tuple[str, ...]
    question: int
    answer: int
    topic: int | None
    source: int | None
    kind: int | None = None
    exchange: bool = False

    @property
    def used(self) -> tuple[int, ...]:
        """The positions of all columns in use, each once, in the order of the file."""
        positions = (self.question, self.answer, self.topic, self.source, self.kind)
        return tuple(sorted({position for position in positions if position is not None}))

    def describe(self) -> str:
        """Return the columns in use, as shown to the user."""
        if self.exchange:
            parts = [f"question and answer '{self.names[self.question]}'"]
        else:
            parts = [f"question '{self.names[self.question]}'", f"answer '{self.names[self.answer]}'"]
        optional = {"topic": self.topic, "source": self.source, "kind": self.kind}
        parts += [f"{role} '{self.names[index]}'" for role, index in optional.items() if index is not None]
        return ", ".join(parts)


def find_columns(wanted: ColumnNames, header: Sequence[str], file: object) -> Columns:
    """Find the columns in use.

    Args:
        wanted: the names that the user gave.
        header: all names of the file, in its order.
        file: what the messages call the file.

    Returns:
        the positions of the columns.

    Raises:
        InputError: a column is missing or ambiguous, or question and answer are one column.
    """
    exchange = _exchange(wanted, header)
    question = _find("question", wanted.question, header, file) if exchange is None else exchange
    answer = _find("answer", wanted.answer, header, file) if exchange is None else exchange
    if question == answer and exchange is None:
        raise InputError(
            f"{file}: question and answer are one column, '{header[question]}'; the file has {listed(header)}",
            "name another: --set data.answer_column=NAME",
        )
    taken = {question, answer}
    topic = _optional(TOPIC_NAMES, header, taken)
    if wanted.topic is not None:
        topic = _named("topic", wanted.topic, header, file)
    source, kind = _optional(("source",), header, taken), _optional(KIND_NAMES, header, taken)
    return Columns(tuple(header), question, answer, topic, source, kind, exchange is not None)


def missing_column(role: str, header: Sequence[str], file: object, why: str = "") -> InputError:
    """Return the error for a file without a column that could hold the question or the answer."""
    return InputError(
        f"{file}: no {role} column found; expected one named {listed(CANDIDATES[role])}, "
        f"but the columns are {listed(header)}{why}",
        f"name it: --set data.{role}_column=NAME (a file without a header line needs one)",
    )


def _exchange(wanted: ColumnNames, header: Sequence[str]) -> int | None:
    """Return the one column that holds question and answer, where no two columns do."""
    if wanted.question is not None or wanted.answer is not None:
        return None
    found = [any(_matches(header, name) for name in names) for names in CANDIDATES.values()]
    # `prompt` beside `messages` is a copy of its first turn; `question` beside `text` lacks an answer column.
    names = () if all(found) else MESSAGE_NAMES if any(found) else (*MESSAGE_NAMES, *TEXT_NAMES)
    return _optional(names, header, set())


def _optional(names: Sequence[str], header: Sequence[str], taken: Set[int]) -> int | None:
    return next((index for name in names for index in _matches(header, name) if index not in taken), None)


def _find(role: str, name: str | None, header: Sequence[str], file: object) -> int:
    return _guessed(role, header, file) if name is None else _named(role, name, header, file)


def _named(role: str, name: str, header: Sequence[str], file: object) -> int:
    found = _matches(header, name)
    if not found:
        raise InputError(
            f"{file}: data.{role}_column is '{name}', but the columns are {listed(header)}{did_you_mean(name, header)}",
            f"name one of them: --set data.{role}_column=NAME",
        )
    return _only(role, found, header, file)


def _guessed(role: str, header: Sequence[str], file: object) -> int:
    first, *others = CANDIDATES[role]
    found = _matches(header, first) or [index for name in others for index in _matches(header, name)]
    if not found:
        raise missing_column(role, header, file)
    return _only(role, found, header, file)


def _only(role: str, found: Sequence[int], header: Sequence[str], file: object) -> int:
    if len(found) > 1:
        raise InputError(
            f"{file}: {len(found)} columns could hold the {role}: {listed([header[index] for index in found])}; "
            f"the columns are {listed(header)}",
            f"name one: --set data.{role}_column=NAME (rename columns that share a name)",
        )
    return found[0]


def _matches(header: Sequence[str], name: str) -> list[int]:
    exact = [index for index, column in enumerate(header) if column == name]
    folded = name.strip().casefold()
    return exact or [index for index, column in enumerate(header) if column.strip().casefold() == folded]
