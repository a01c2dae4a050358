"""What is told of a row by itself, whatever the other rows are: most of the work of ``medqa convert``.

It is done on some rows at a time, in this process or in worker processes. Each row becomes a ``SpooledRow``, which
waits in a file for the second pass.
"""

from __future__ import annotations

import functools
import marshal
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from medqa_cli.config.schema import DataConfig
from medqa_cli.data.cleaning.mojibake import garbled_words, mojibake
from medqa_cli.data.cleaning.reasons import enabled_reasons, non_answer, unusable
from medqa_cli.data.cleaning.rules import clean, enabled_rules
from medqa_cli.data.conversations import clean_talk, usable_part
from medqa_cli.data.identifiers.finding import find_in_row
from medqa_cli.data.identifiers.finds import PlainFind, plain
from medqa_cli.data.identifiers.replacing import replace_finds
from medqa_cli.data.languages import told_language
from medqa_cli.data.normalize import RowKeys, key_of, normalize, row_keys
from medqa_cli.data.reading.shapes import RawRow, UnreadRow, place_of
from medqa_cli.data.sketches import RowSketch, SketchMaker
from medqa_cli.data.topics.topics import asked_topic, given_topic, topic_names
from medqa_cli.prompt.given import NOTHING, Given, Turn

if TYPE_CHECKING:
    from medqa_cli.data.identifiers.model_finds import ModelSearch

IDENTIFIER = "identifier"
_TALKS_KEPT = 64  # as many as a batch may hold
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


@dataclass(frozen=True)
class RowSettings:
    """What the work has to know of the config and of the source.

    Attributes:
        data: the section of the config.
        seed: draws what is put for identifiers.
        has_topic_column: a column gives topics.
    """

    data: DataConfig
    seed: int
    has_topic_column: bool

    @functools.cached_property
    def rules(self) -> tuple[str, ...]:
        """The names of the cleaning rules."""
        return enabled_rules(self.data.cleaning)

    @functools.cached_property
    def reasons(self) -> Collection[str]:
        """The names of the reasons that count."""
        return enabled_reasons(self.data.reasons)


class SomeRows(NamedTuple):
    """Rows in their order; ``is_column_in_doubt``: the topic column, if any, has not yet told rows apart."""

    rows: Sequence[RawRow | UnreadRow]
    is_column_in_doubt: bool


class RejectedRow(NamedTuple):
    """A row that is rejected by itself, packed for the spool file; ``is_unreadable``: no setting can keep it."""

    spooled: bytes
    is_unreadable: bool


class PassingRow(NamedTuple):
    """A row that is kept unless the rows before it say otherwise.

    Attributes:
        spooled: packed for the spool file, as it is written where it is kept.
        keys: by which it is compared.
        is_topic_given: its topic is from the column.
        is_topic_known: it has a topic.
        question_topic: the topic that the question names, while the column is in doubt.
        has_earlier: earlier turns stand before its question.
        has_context: so does a context.
    """

    spooled: bytes
    keys: RowKeys
    is_topic_given: bool
    is_topic_known: bool
    question_topic: str
    has_earlier: bool = False
    has_context: bool = False


class ToldRows(NamedTuple):
    """What is told of some rows; ``sketches``: of the answers of those that pass, in their order."""

    rows: Sequence[RejectedRow | PassingRow]
    sketches: Sequence[RowSketch]


class _Usable(NamedTuple):
    """A row that is usable by itself: its cleaned texts and the rules that changed them.

    Once it is searched also what identifies a person in it, as in the fields of ``Find``, and its texts normalized.
    """

    row: RawRow
    question: str
    answer: str
    changed: tuple[str, ...]
    finds: tuple[PlainFind, ...] = ()
    normalized: tuple[str, str] = ("", "")


def row_work(
    settings: RowSettings, search: ModelSearch | None = None, tell: Callable[[int], None] = lambda rows: None
) -> Callable[[SomeRows], ToldRows]:
    """Return what does the work on some rows; called once in each process that does it.

    Args:
        settings: what it has to know.
        search: looks for identifiers; None: the rules do.
        tell: is told now and then how many of the rows ``search`` has looked through.
    """
    return _RowWork(settings, search, tell).told


class _RowWork:
    def __init__(self, settings: RowSettings, search: ModelSearch | None, tell: Callable[[int], None]) -> None:
        self._settings, self._search, self._tell = settings, search, tell
        self._sketches = SketchMaker(settings.data.near_duplicate_threshold)
        self._repaired = mojibake if "mojibake" in settings.rules else str
        # The rows of a conversation come one after the other.
        self._clean_talk = functools.lru_cache(maxsize=_TALKS_KEPT)(
            lambda talk: clean_talk(usable_part(talk), settings.rules, settings.data.identifiers, settings.seed, search)
        )

    def told(self, some: SomeRows) -> ToldRows:
        """Return what is told of each row.

        One step after the other on some rows takes a third less time than all steps on one row after the other: the
        code and the tables of a step stay in the processor's caches.
        """
        cleaned = [self._cleaned(row) for row in some.rows]
        if self._search is not None:
            texts_of_rows = [text for made in cleaned for text in self._looked_through(made)]
            self._search.prepare(texts_of_rows, lambda share: self._tell(int(share * len(some.rows))))
        searched = [made if isinstance(made, SpooledRow) else self._searched(made) for made in cleaned]
        told: list[RejectedRow | PassingRow] = []
        for row, made in zip(some.rows, searched, strict=True):
            if isinstance(made, SpooledRow):
                is_unreadable = isinstance(row, UnreadRow) and row.otherwise is None
                rejected = without_identifiers(made, self._settings, self._search)
                told.append(RejectedRow(packed(rejected), is_unreadable))
            else:
                told.append(self._passing(made, some.is_column_in_doubt))
        texts = [made.normalized for made in searched if isinstance(made, _Usable)]
        answer_keys = [row.keys.answer for row in told if isinstance(row, PassingRow)]
        return ToldRows(told, self._sketches.sketches(texts, answer_keys))

    def _cleaned(self, row: RawRow | UnreadRow) -> _Usable | SpooledRow:
        """Return the row with its cleaned texts, or as rejected."""
        if isinstance(row, UnreadRow):
            if row.otherwise is None or row.reason in self._settings.reasons:
                return as_read(row, row.reason)
            row = row.otherwise
        talk = row.talk
        if reason := unusable(row.question, row.answer, row.topic, row.source, talk.context if talk else ""):
            return as_read(row, reason)
        # What stands before a turn is read with it, whether it is learned or not.
        for number, turn in enumerate(talk.turns[: row.turn] if talk else (), start=1):
            if reason := unusable(turn.question, turn.answer):
                return as_read(row, reason)._replace(detail=f"in turn {number}, which stands before it")
        turns = self._clean_talk(talk).turns if talk else (clean(row.question, row.answer, self._settings.rules),)
        question, answer, changed = turns[row.turn]
        if reason := unusable(question, answer) or non_answer(question, answer, self._settings.reasons):
            return as_read(row, reason)
        for number, earlier in enumerate(turns[: row.turn], start=1):
            if reason := unusable(earlier.question, earlier.answer):
                return as_read(row, reason)._replace(detail=f"in turn {number}, once it is cleaned")
        return _Usable(row, question, answer, changed)

    def _looked_through(self, made: _Usable | SpooledRow) -> tuple[str, ...]:
        """Return the texts of a row that are looked through by themselves; a conversation has been by now."""
        if isinstance(made, _Usable):
            return () if made.row.talk is not None else (made.question, made.answer)
        is_replaced = self._settings.data.identifiers == "replace"
        return (made.raw_question, made.raw_answer, made.text, made.detail) if is_replaced else ()

    def _searched(self, cleaned: _Usable) -> _Usable | SpooledRow:
        """Return a cleaned row with its identifiers, or with what is put for them, or as rejected for them."""
        row, question, answer, *_ = cleaned
        made = None if row.talk is None else self._clean_talk(row.talk)
        finds = find_in_row(question, answer, self._search) if made is None else tuple(made.finds_of(row.turn))
        if finds and self._settings.data.identifiers == "reject":
            kinds = ", ".join(sorted({find.kind for find in finds}))
            return as_read(row, IDENTIFIER)._replace(detail=kinds, finds=plain(finds))
        if made is not None and made.values:
            topic, source = made.applied(row.topic), made.applied(row.source)
            row = replace(row, question=question, answer=answer, topic=topic, source=source)
        elif finds and self._settings.data.identifiers == "replace":
            replaced = replace_finds(question, answer, finds, self._settings.seed)
            question, answer = replaced.question, replaced.answer
            # What was read is the replaced row from here on: its topic, its keys, and rejected.jsonl.
            topic, source = replaced.applied(row.topic), replaced.applied(row.source)
            row = replace(row, question=question, answer=answer, topic=topic, source=source)
        # Normalized here, as the search has just asked for it.
        asked = question if made is None else made.given(row.turn).before(question)
        normalized = normalize(asked), normalize(answer)
        return _Usable(row, question, answer, cleaned.changed, plain(finds), normalized)

    def _passing(self, searched: _Usable, is_column_in_doubt: bool) -> PassingRow:
        row, question, answer, changed, finds, normalized = searched
        given = NOTHING if row.talk is None else self._clean_talk(row.talk).given(row.turn)
        topic_given = given_topic(self._repaired(row.topic)) if row.topic else ""
        topic = topic_given or self._topic_of_turn(row, question, given)
        question_topic = ""
        if self._settings.has_topic_column and is_column_in_doubt:
            question_topic = self._topic_of_turn(row, question, given) if topic_given else topic
        keys = row_keys((given.before(question), answer), normalized, topic_names(topic), row.source)
        if given:
            keys = keys._replace(opening=key_of(normalize(given.opening(question))))
        spooled = as_read(row, "")._replace(
            question=question,
            answer=answer,
            topic=topic,
            source=row.source,
            question_topic=question_topic,
            changed=changed,
            language=told_language(answer, question),
            garbled=garbled_words(question) or garbled_words(answer),
            finds=finds,
            earlier=tuple((turn.question, turn.answer) for turn in given.earlier),
            context=given.context,
            pair=keys.pair,
        )
        return PassingRow(
            packed(spooled),
            keys,
            is_topic_given=topic_given != "",
            is_topic_known=topic != "",
            question_topic=question_topic,
            has_earlier=bool(given.earlier),
            has_context=bool(given.context),
        )

    def _topic_of_turn(self, row: RawRow, question: str, given: Given) -> str:
        """Return the topic of a question, or of the nearest one before it that names one: a later one may say "it"."""
        earlier = [turn.question for turn in given.earlier[::-1]]
        for raw, cleaned in zip([row.question, *earlier], [question, *earlier], strict=True):
            # As it was read comes first, or a name would not match a column's.
            raw = self._repaired(raw)
            if topic := asked_topic(raw) or (asked_topic(cleaned) if cleaned != raw else ""):
                return topic
        return ""


def without_identifiers(rejected: SpooledRow, settings: RowSettings, search: ModelSearch | None = None) -> SpooledRow:
    """Return a rejected row with stand-ins for what identifies a person in it, where the config wants them."""
    if settings.data.identifiers != "replace":
        return rejected
    question, answer = _with_stand_ins(rejected.raw_question, rejected.raw_answer, settings.seed, search)
    text, detail = _with_stand_ins(rejected.text, rejected.detail, settings.seed, search)
    return rejected._replace(raw_question=question, raw_answer=answer, text=text, detail=detail)


def _with_stand_ins(question: str, answer: str, seed: int, search: ModelSearch | None) -> tuple[str, str]:
    replaced = replace_finds(question, answer, find_in_row(question, answer, search), seed)
    return replaced.question, replaced.answer


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
