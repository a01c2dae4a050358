"""Which column holds the question, the answer, the topic and the source, and which go with them.

Does not look into cells: only names decide.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace

from medqa_cli.data.reading.caps import Caps
from medqa_cli.data.reading.column_hints import CANDIDATES, missing_column, unused_warnings
from medqa_cli.data.wording import listed
from medqa_cli.errors import InputError
from medqa_cli.spelling import did_you_mean

# These are optional: the first name that a file has is taken.
TOPIC_NAMES = ("topic", "focus", "focus_area", "disease", "condition")
# Their kin, as words: "Focus (Drug)", "topic_name". No coarse ones ("category", "subject"): a topic is not divided.
_TOPIC_KIN = re.compile(
    r"(?:topic|focus)s?(?: (?:drug|disease|condition|medication|medicine|area|name|entity|term|title|concept))?"
    r"|(?:medical|health) condition|(?:disease|condition|illness|disorder|drug|medication|medicine|entity)(?: name)?"
    r"|illness|disorder|diagnosis|main entity|fact ?sheet|(?:page|document|article) title"
)
KIND_NAMES = ("qtype", "question_type")
# What a row is from; rows from one page stay together where topics do not tell what belongs together.
SOURCE_NAMES = (
    *("source", "url", "source_url", "page_url", "document_url", "link", "page", "document", "document_id", "doc_id"),
    *("article_id", "page_id", "pmid", "pubmed_id"),
)
# A question and its answer in one column: a list of messages, or a text with turn markers.
MESSAGE_NAMES = ("messages", "conversations", "conversation", "dialogue", "dialog", "utterances")
TEXT_NAMES = ("text",)
# Alpaca's form: the question is the instruction, and behind it the input where there is one. Under other names the
# cells have to tell whether it is one.
INSTRUCTION, INPUT = "instruction", "input"
INPUT_NAMES = (INPUT, "inputs", "context", "background", "case", "vignette", "passage")
HISTORY_NAMES = ("history", "histories", "chat_history", "dialogue_history", "dialog_history", "conversation_history")
# The options of a multiple-choice question: one column that holds all of them, or one column each.
OPTIONS_NAMES = ("options", "option", "choices")
CORRECT_NAMES = (
    *("correct", "cop", "answer_idx", "answer_index", "answerKey", "answer_key", "correct_option", "correct_answer"),
    *("correct_choice", "correct_idx", "correct_index", "right_answer", "ans", "label", "gold"),
)
_OPTION_NAME = re.compile(
    r"(?:(?:op|opt|options?|choices?|ans|answer)[ _.-]?)?([a-h])|(?:op|opt|options?|choices?)[ _.-]?([1-8])"
)


@dataclass(frozen=True)
class ColumnNames:
    """What the user said of the sources: names of columns (None: find it by its name), encoding of text files (None:
    told by their bytes), and how much may be read.
    """

    question: str | None = None
    answer: str | None = None
    topic: str | None = None
    encoding: str | None = None
    caps: Caps = field(default_factory=Caps)


@dataclass(frozen=True)
class Columns:
    """All columns of a file and the positions of those that are used.

    ``exchange``: one column holds question and answer together, ``question`` and ``answer`` are both its position.
    ``input``: its text follows the question's (Alpaca); ``input_in_doubt``: only if its cells look like that.
    ``options``: of a multiple-choice question, all in one column or in one each; the answer tells which of them is
    right. ``correct``: another column that tells it. ``answer_is_named``: by the user, and no column that would have
    been found. ``history``: earlier turns, which a row must not have.
    """

    names: tuple[str, ...]
    question: int
    answer: int
    topic: int | None = None
    source: int | None = None
    kind: int | None = None
    exchange: bool = False
    input: int | None = None
    options: tuple[int, ...] = ()
    history: int | None = None
    input_in_doubt: bool = False
    correct: int | None = None
    answer_is_named: bool = False

    @property
    def used(self) -> tuple[int, ...]:
        """The positions of all columns in use, each once, in the order of the file."""
        single = (self.question, self.answer, self.topic, self.source, self.kind, self.input, self.history)
        return tuple(sorted({position for position in (*single, *self.options) if position is not None}))

    def describe(self) -> str:
        """Return the columns in use, and those that are not, as shown to the user."""
        if self.exchange:
            parts = [f"question and answer '{self.names[self.question]}'"]
        else:
            after = "" if self.input is None else f" + '{self.names[self.input]}'"
            parts = [f"question '{self.names[self.question]}'{after}", f"answer '{self.names[self.answer]}'"]
        if self.options:
            parts.append("options " + " ".join(f"'{self.names[index]}'" for index in self.options))
        optional = {"topic": self.topic, "source": self.source, "kind": self.kind}
        parts += [f"{role} '{self.names[index]}'" for role, index in optional.items() if index is not None]
        unused = self.unused()
        return ", ".join(parts) + (f"; not used: {listed([name or '(no name)' for name in unused])}" if unused else "")

    def unused(self) -> list[str]:
        """Return the names of the columns that are not used."""
        return [name for index, name in enumerate(self.names) if index not in self.used]

    def warnings(self) -> list[str]:
        """Return what has to be said of columns that are not used and yet belong to the questions or answers."""
        return unused_warnings(self.unused(), self.names[self.answer])


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
    history = _optional(HISTORY_NAMES, header, set())
    exchange = _exchange(wanted, header)
    options = _options(wanted, header) if exchange is None else ()
    correct = None
    if exchange is not None:
        question, answer, after = exchange, exchange, None
    else:
        _check_found(wanted, header, options, file)
        question, after = _question(wanted, header, options, file)
        answer = _answer(wanted, header, options, file)
        options = tuple(index for index in options if index not in (question, answer))
        correct = next((index for index in _told_right(header, options) if index not in (question, answer)), None)
        if after is None:
            after = _optional(INPUT_NAMES, _without(wanted, header), {question, answer, *options})
        if question == answer:
            raise InputError(
                f"{file}: question and answer are one column, '{header[question]}'; the file has {listed(header)}",
                "name another: --set data.answer_column=NAME",
            )
    in_doubt = after is not None and (header[question].strip().casefold(), header[after].strip().casefold()) != (
        INSTRUCTION,
        INPUT,
    )
    named = wanted.answer is not None and answer not in _told_right(header, options)
    taken = {question, answer, *options, *(() if after is None else (after,))}
    topic = _topic(header, taken) if wanted.topic is None else _named("topic", wanted.topic, header, file)
    source, kind = _optional(SOURCE_NAMES, header, taken), _optional(KIND_NAMES, header, taken)
    found = Columns(tuple(header), question, answer, topic, source, kind, exchange is not None, after, options, history)
    return replace(found, input_in_doubt=in_doubt, correct=correct, answer_is_named=named)


def _without(wanted: ColumnNames, header: Sequence[str]) -> list[str]:
    """Return the names of the columns, without those that the user gave a role."""
    named = {name.strip().casefold() for name in (wanted.question, wanted.answer, wanted.topic) if name is not None}
    return ["" if name.strip().casefold() in named else name for name in header]


def _told_right(header: Sequence[str], options: Sequence[int]) -> list[int]:
    """Return the columns whose names say that they hold the answer, or which option it is."""
    return [
        *_candidates("answer", header, options),
        *(index for name in CORRECT_NAMES for index in _matches(header, name)),
    ]


def _topic(header: Sequence[str], taken: Set[int]) -> int | None:
    named = _optional(TOPIC_NAMES, header, taken)
    if named is not None:
        return named
    words = (" ".join(re.split(r"[\W_]+", name.casefold())).strip() for name in header)
    return next((index for index, name in enumerate(words) if index not in taken and _TOPIC_KIN.fullmatch(name)), None)


def _exchange(wanted: ColumnNames, header: Sequence[str]) -> int | None:
    """Return the one column that holds question and answer, where no two columns do."""
    if wanted.question is not None or wanted.answer is not None:
        return None
    found = [any(_matches(header, name) for name in names) for names in CANDIDATES.values()]
    # `prompt` beside `messages` is a copy of its first turn; `question` beside `text` lacks an answer column.
    names = () if all(found) else MESSAGE_NAMES if any(found) else (*MESSAGE_NAMES, *TEXT_NAMES)
    return _optional(names, header, set())


def _options(wanted: ColumnNames, header: Sequence[str]) -> tuple[int, ...]:
    """Return the columns that hold the options of a multiple-choice question, in their order: A, B, ... or one."""
    named = {name.strip().casefold() for name in (wanted.question, wanted.answer, wanted.topic) if name is not None}
    signs: dict[str, int] = {}
    for index, name in enumerate(header):
        if (found := _OPTION_NAME.fullmatch(name.strip().casefold())) and name.strip().casefold() not in named:
            signs.setdefault(found[1] or found[2], index)
    for first in ("a", "1"):
        run = list(itertools.takewhile(signs.__contains__, (chr(ord(first) + step) for step in range(len(signs)))))
        if len(run) > 1:
            return tuple(signs[sign] for sign in run)
    single = _optional(OPTIONS_NAMES, header, set())
    return () if single is None or header[single].strip().casefold() in named else (single,)


def _question(
    wanted: ColumnNames, header: Sequence[str], barred: Sequence[int], file: object
) -> tuple[int, int | None]:
    """Return the column of the question, and the one whose text follows it: ``input``, beside any other question."""
    after = _optional((INPUT,), _without(wanted, header), set())
    if wanted.question is not None:
        question = _named("question", wanted.question, header, file)
    else:
        others = [index for index in _candidates("question", header, barred) if index != after]
        question = _only("question", others or _candidates("question", header, barred), header, file)
    return question, after if after != question else None


def _answer(wanted: ColumnNames, header: Sequence[str], options: Sequence[int], file: object) -> int:
    if wanted.answer is not None:
        return _named("answer", wanted.answer, header, file)
    if options and not _candidates("answer", header, options):
        return next(index for name in CORRECT_NAMES for index in _matches(header, name))
    return _guessed("answer", header, options, file)


def _check_found(wanted: ColumnNames, header: Sequence[str], options: Sequence[int], file: object) -> None:
    """Check that there is something for both roles, so that one message names all that is missing."""
    missing = []
    if wanted.question is None and not _candidates("question", header, options):
        missing.append("question")
    correct = [index for name in CORRECT_NAMES for index in _matches(header, name)] if options else []
    if wanted.answer is None and not _candidates("answer", header, options) and not correct:
        missing.append("answer")
    if missing:
        why = ""
        if options:
            names = [header[index] for index in options]
            why = f"; {listed(names)} look like the options of a multiple-choice question, not like its answer"
        barred = [header[index] for index in options]
        raise missing_column(missing, [name for name in header if name not in barred], file, why, header)


def _optional(names: Sequence[str], header: Sequence[str], taken: Set[int]) -> int | None:
    return next((index for name in names for index in _matches(header, name) if index not in taken), None)


def _named(role: str, name: str, header: Sequence[str], file: object) -> int:
    found = _matches(header, name)
    if not found:
        raise InputError(
            f"{file}: data.{role}_column is '{name}', but the columns are {listed(header)}{did_you_mean(name, header)}",
            f"name one of them: --set data.{role}_column=NAME",
        )
    return _only(role, found, header, file)


def _candidates(role: str, header: Sequence[str], barred: Sequence[int]) -> list[int]:
    first, *others = CANDIDATES[role]
    found = _matches(header, first) or [index for name in others for index in _matches(header, name)]
    return [index for index in found if index not in barred]


def _guessed(role: str, header: Sequence[str], barred: Sequence[int], file: object) -> int:
    return _only(role, _candidates(role, header, barred), header, file)


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
