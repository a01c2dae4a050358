"""The first pass of ``medqa convert``: clean each row, find out whether it is kept, spool it, remember its keys."""

from __future__ import annotations

import hashlib
import marshal
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from medqa_cli import console
from medqa_cli.config.schema import DataConfig
from medqa_cli.data.cleaning.mojibake import garbled_words, mojibake
from medqa_cli.data.cleaning.reasons import enabled_reasons, how_to_keep, non_answer
from medqa_cli.data.cleaning.rules import clean, enabled_rules
from medqa_cli.data.identifiers.finding import find_in_row
from medqa_cli.data.identifiers.finds import PlainFind, plain
from medqa_cli.data.identifiers.replacing import replace_finds
from medqa_cli.data.languages import told_language
from medqa_cli.data.normalize import NONE, RowKeys, is_empty, normalize, row_keys
from medqa_cli.data.reading.rows import RawRow, Rows, SourceRows, UnreadRow
from medqa_cli.data.topics.topics import ColumnOfOneTopic, asked_topic, given_topic, topic_names
from medqa_cli.errors import InputError
from medqa_cli.spelling import counted

if TYPE_CHECKING:
    from medqa_cli.data.near_duplicates import RowSketches

ROWS_PER_UPDATE = 1000
_LENGTH_BYTES = 8
_BATCH_ROWS, _BATCH_CHARACTERS = 64, 1 << 18
# With fewer than this many kept of so many rows, the rest is not read.
ROWS_BEFORE_GIVING_UP, FEWEST_KEPT = 500_000, 50
IDENTIFIER = "identifier"
_GENERAL_ADVICE = "check the file, or whether data.question_column and data.answer_column name the right columns"
# What to do where no row can be used, by the reason.
_ADVICE = {
    "several_turns": "medqa learns a question and its answer: write those turns that stand alone as rows of their own",
    "not_rendered_form": "name the role that asks 'user' and the one that answers 'assistant', the question first",
    "several_answers": "keep the answer that is to be learned, or write each as a row of its own",
    "not_text": "write one text into each cell",
    "unresolved_option": "write the text of the right option into the answer's column",
    "impossible_question": "give questions that have an answer",
}


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


def write_spooled(file: BinaryIO, row: SpooledRow) -> None:
    """Write one row to a spool file: its length and its fields as Python writes them, in a tenth of JSON's time."""
    data = marshal.dumps((*row,))
    file.write(len(data).to_bytes(_LENGTH_BYTES, "little") + data)


def read_spooled(path: Path) -> Iterator[SpooledRow]:
    """Yield the rows of a spool file."""
    with open(path, "rb") as file:
        while length := file.read(_LENGTH_BYTES):
            yield SpooledRow._make(marshal.loads(file.read(int.from_bytes(length, "little"))))


@dataclass
class Filtered:
    """What the first pass found out.

    Attributes:
        keys: the keys of the rows that passed, in the order of the source.
        column: whether the topic column tells rows apart.
        by_question: it does not, so topics are taken from the questions.
        asked: for each of ``keys`` whether its topic is from the question, as the column gives it none.
        read: number of rows read.
        rejected: number of rejected rows by reason.
        unreadable: the part of ``rejected`` that no setting can keep.
        first_rejected: where and why the first row was rejected.
        sha256: digest of all that was read.
    """

    keys: list[RowKeys] = field(default_factory=list)
    column: ColumnOfOneTopic = field(default_factory=ColumnOfOneTopic)
    by_question: bool = False
    asked: bytearray = field(default_factory=bytearray)
    read: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    unreadable: Counter[str] = field(default_factory=Counter)
    first_rejected: str = ""
    sha256: str = ""

    def count_rejected(self, row: RawRow | UnreadRow, spooled: SpooledRow) -> None:
        """Count a rejected row."""
        self.rejected[spooled.reason] += 1
        self.unreadable[spooled.reason] += isinstance(row, UnreadRow) and row.otherwise is None
        if not self.first_rejected:
            detail = f": {spooled.detail}" if spooled.detail else ""
            self.first_rejected = f"{spooled.place}: {spooled.reason}{detail}"


def filter_rows(opened: SourceRows, data: DataConfig, seed: int, spool_path: Path, sketches: RowSketches) -> Filtered:
    """Clean and filter all rows of a source.

    Args:
        opened: the source.
        data: the section of the config.
        seed: draws what is put for identifiers.
        spool_path: the file to write all rows to, for the second pass.
        sketches: gets each row that passed, in the order of ``Filtered.keys``.

    Raises:
        InputError: next to none of many rows can be used.
    """
    row_filter = _RowFilter(data, seed, sketches, has_topic_column=opened.columns.topic is not None)
    filtered = row_filter.filtered
    digest = hashlib.sha256()
    with open(spool_path, "wb") as spool, console.status("reading and cleaning ...") as show_status:
        for row, spooled in row_filter.apply(opened.rows):
            filtered.read += 1
            last = row.text if isinstance(row, UnreadRow) else row.topic
            digest.update(f"{row.question}\0{row.answer}\0{last}\0".encode("utf-8", "surrogatepass"))
            if spooled.reason:
                filtered.count_rejected(row, spooled)
            write_spooled(spool, spooled)
            if filtered.read == ROWS_BEFORE_GIVING_UP and len(filtered.keys) < FEWEST_KEPT:
                raise InputError(
                    f"of the first {filtered.read:,} rows only {len(filtered.keys)} can be used: "
                    f"{counted(filtered.rejected)} (the first: {filtered.first_rejected})",
                    _GENERAL_ADVICE,
                )
            if filtered.read % ROWS_PER_UPDATE == 0:
                show_status(f"reading and cleaning: {filtered.read:,} rows ...")
    filtered.sha256 = digest.hexdigest()
    return filtered


def check_something_kept(filtered: Filtered, name: str) -> None:
    """Check that there is something to split.

    Raises:
        InputError: no row passed.
    """
    if not filtered.keys:
        reason = filtered.rejected.most_common(1)[0][0]
        advice = f"{_ADVICE[reason]}; or {_GENERAL_ADVICE}" if reason in _ADVICE else _GENERAL_ADVICE
        option = how_to_keep(reason) if filtered.rejected[reason] > filtered.unreadable[reason] else ""
        if option:
            advice += f"; if these rows are good: {option}"
        raise InputError(
            f"{name}: none of its {filtered.read:,} rows can be used: {counted(filtered.rejected)} "
            f"(the first: {filtered.first_rejected})",
            advice,
        )


def drop_column_of_one_topic(filtered: Filtered, opened: SourceRows) -> None:
    """Take topics from the questions where the topic column holds the same on all rows, and say so."""
    keys = filtered.column.without_it(filtered.keys)
    if keys is None or opened.columns.topic is None:
        return
    filtered.keys, filtered.by_question = keys, True
    num_given = filtered.column.rows_given
    rows = f"all {len(keys):,} rows" if num_given == len(keys) else f"all {num_given:,} rows that name one"
    console.warn(
        f"column {opened.columns.names[opened.columns.topic]!r} holds the same topic on {rows}: "
        "topics are taken from the questions instead"
    )


class _Cleaned(NamedTuple):
    """A row that is usable by itself, and its cleaned texts with the rules that changed them."""

    row: RawRow
    question: str
    answer: str
    changed: tuple[str, ...]


class _Searched(NamedTuple):
    """A cleaned row with what identifies a person in it, as in the fields of ``Find``, and its normalized texts."""

    row: RawRow
    question: str
    answer: str
    changed: tuple[str, ...]
    finds: tuple[PlainFind, ...]
    normalized_question: str
    normalized_answer: str


def _in_batches(rows: Rows) -> Iterator[list[RawRow | UnreadRow]]:
    """Yield the rows in lists that are short and hold little text."""
    batch: list[RawRow | UnreadRow] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row.question) + len(row.answer)
        if len(batch) == _BATCH_ROWS or size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class _RowFilter:
    """Cleans one row after the other and decides whether it passes."""

    def __init__(self, data: DataConfig, seed: int, sketches: RowSketches, has_topic_column: bool) -> None:
        self.filtered = Filtered()
        self._rules = enabled_rules(data.cleaning)
        self._reasons = enabled_reasons(data.reasons)
        self._duplicates = DuplicateFilter(data.max_copies_of_an_answer, self._reasons)
        self._sketches = sketches
        self._has_topic_column = has_topic_column
        self._repaired = mojibake if "mojibake" in self._rules else str
        self._identifiers, self._seed = data.identifiers, seed

    def apply(self, rows: Rows) -> Iterator[tuple[RawRow | UnreadRow, SpooledRow]]:
        """Yield each row as it was read, and as rejected, with a reason, or with its cleaned texts."""
        for some in _in_batches(rows):
            # One step after the other on some rows takes a third less time than all steps on one row after the other:
            # the code and the tables of a step stay in the processor's caches.
            cleaned = [self._cleaned(row) for row in some]
            searched = [made if isinstance(made, SpooledRow) else self._searched(made) for made in cleaned]
            for row, made in zip(some, searched, strict=True):
                spooled = made if isinstance(made, SpooledRow) else self._judged(made)
                if spooled.reason and self._identifiers == "replace":
                    question, answer = self._with_stand_ins(spooled.raw_question, spooled.raw_answer)
                    text, detail = self._with_stand_ins(spooled.text, spooled.detail)
                    spooled = spooled._replace(raw_question=question, raw_answer=answer, text=text, detail=detail)
                yield row, spooled

    def _with_stand_ins(self, question: str, answer: str) -> tuple[str, str]:
        replaced = replace_finds(question, answer, find_in_row(question, answer), self._seed)
        return replaced.question, replaced.answer

    def _cleaned(self, row: RawRow | UnreadRow) -> _Cleaned | SpooledRow:
        """Return the row with its cleaned texts, or as rejected, whatever the other rows are."""
        if isinstance(row, UnreadRow):
            if row.otherwise is None or row.reason in self._reasons:
                return as_read(row, row.reason)
            row = row.otherwise
        if reason := unusable(row.question, row.answer, row.topic, row.source):
            return as_read(row, reason)
        question, answer, changed = clean(row.question, row.answer, self._rules)
        if reason := unusable(question, answer) or non_answer(question, answer, self._reasons):
            return as_read(row, reason)
        return _Cleaned(row, question, answer, changed)

    def _searched(self, cleaned: _Cleaned) -> _Searched | SpooledRow:
        """Return a cleaned row with its identifiers, or with what is put for them, or as rejected for them."""
        row, question, answer, changed = cleaned
        finds = find_in_row(question, answer)
        if finds and self._identifiers == "reject":
            kinds = ", ".join(sorted({find.kind for find in finds}))
            return as_read(row, IDENTIFIER)._replace(detail=kinds, finds=plain(finds))
        if finds and self._identifiers == "replace":
            replaced = replace_finds(question, answer, finds, self._seed)
            question, answer = replaced.question, replaced.answer
            # What was read is the replaced row from here on: its topic, its keys, and rejected.jsonl.
            row = replace(
                row,
                question=question,
                answer=answer,
                topic=replaced.applied(row.topic),
                source=replaced.applied(row.source),
            )
        # Normalized here, as the search has just asked for it.
        return _Searched(row, question, answer, changed, plain(finds), normalize(question), normalize(answer))

    def _judged(self, searched: _Searched) -> SpooledRow:
        """Return the row as rejected for the rows before it, or with its texts."""
        row, question, answer, changed, finds, *normalized = searched
        topic_given = given_topic(self._repaired(row.topic)) if row.topic else ""
        topic = topic_given or self._question_topic(row, question)
        keys = row_keys((question, answer), normalized, topic_names(topic), row.source)
        if reason := self._duplicates.reason(keys):
            return as_read(row, reason)
        self.filtered.keys.append(keys)
        self.filtered.asked.append(not topic_given and topic != "")
        self._sketches.add(question, normalized[1], keys.answer)
        question_topic = ""
        if self._has_topic_column:
            question_topic = self.filtered.column.watch(
                keys.topics if topic_given else (),
                lambda: self._question_topic(row, question) if topic_given else topic,
            )
        return as_read(row, "")._replace(
            question=question,
            answer=answer,
            topic=topic,
            source=row.source,
            question_topic=question_topic,
            changed=changed,
            language=told_language(answer, question),
            garbled=garbled_words(question) or garbled_words(answer),
            finds=finds,
        )

    def _question_topic(self, row: RawRow, question: str) -> str:
        """Return the topic that a question names; as it was read comes first, or a name would not match a column's."""
        raw_question = self._repaired(row.question)
        return asked_topic(raw_question) or (asked_topic(question) if question != raw_question else "")


@dataclass
class DuplicateFilter:
    """Remembers the keys of the rows that passed, in the order of the file; ``reasons`` are those that count."""

    max_copies_of_an_answer: int | None
    reasons: Collection[str]
    _pairs: set[bytes] = field(default_factory=set)
    _answers: Counter[bytes] = field(default_factory=Counter)

    def reason(self, keys: RowKeys) -> str | None:
        """Return why a row is rejected for the rows before it, or None: then it counts as passed."""
        if keys.pair in self._pairs and "exact_duplicate" in self.reasons:
            return "exact_duplicate"
        limit = self.max_copies_of_an_answer
        if limit is not None and self._answers[keys.answer] >= limit and "over_copy_limit" in self.reasons:
            return "over_copy_limit"
        self._pairs.add(keys.pair)
        self._answers[keys.answer] += 1
        return None


def unusable(question: str, answer: str, *others: str) -> str | None:
    """Return why a row cannot be used whatever the other rows are, or None; ``others`` are its further texts."""
    for text in (question, answer, *others):
        if "\0" in text:
            return "nul_byte"
        if not text.isascii():
            try:
                text.encode("utf-8")
            except UnicodeEncodeError:
                return "invalid_unicode"
    if is_empty(question):
        return "empty_question"
    return "empty_answer" if is_empty(answer) and answer.strip() != NONE else None
