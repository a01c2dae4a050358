"""The first pass of ``medqa convert``: share the rows out, tell copies, spool all rows, remember their keys."""

import contextlib
import hashlib
import itertools
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from medqa_cli import console
from medqa_cli.data import row_work
from medqa_cli.data.cleaning.reasons import how_to_keep
from medqa_cli.data.identifiers.model_finds import ModelSearch
from medqa_cli.data.near_duplicates import RowSketches
from medqa_cli.data.normalize import RowKeys
from medqa_cli.data.reading.shapes import RawRow, Rows, SourceRows, Talk, UnreadRow
from medqa_cli.data.sketches import RowSketch
from medqa_cli.data.topics.topics import ColumnOfOneTopic
from medqa_cli.errors import InputError
from medqa_cli.spelling import counted
from medqa_cli.workers import Workers

Batch = list[RawRow | UnreadRow]

ROWS_PER_UPDATE = 1000
# Rows that go through the work together, and the characters from which on fewer do.
_BATCH_ROWS, _BATCH_CHARACTERS = 64, 1 << 18
# A source with fewer batches is done before processes that share the work have started.
_FEWEST_TO_SHARE = 32
# With fewer than this many kept of so many rows, the rest is not read.
ROWS_BEFORE_GIVING_UP, FEWEST_KEPT = 500_000, 50
_GENERAL_ADVICE = "check the file, or whether data.question_column and data.answer_column name the right columns"
# What to do where no row can be used, by the reason.
_ADVICE = {
    "several_turns": "to learn conversations: --set data.turns=all; or write those turns that stand alone as rows",
    "not_rendered_form": "name the role that asks 'user' and the one that answers 'assistant', the question first",
    "several_answers": "keep the answer that is to be learned, or write each as a row of its own",
    "not_text": "write one text into each cell",
    "unresolved_option": "write the text of the right option into the answer's column",
    "impossible_question": "give questions that have an answer",
}


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
        conversations: rows of the source with several answers or an open question.
        answers: of them.
        open_questions: how many of them end with a question.
        has_earlier: whether a row that passed has earlier turns.
        has_context: whether one has a context.
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
    conversations: int = 0
    answers: int = 0
    open_questions: int = 0
    has_earlier: bool = False
    has_context: bool = False


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


def in_batches(rows: Rows) -> tuple[Iterator[Batch], bool]:
    """Return the rows of a source in lists that are short and hold little text.

    Beside them, whether they are so many that processes that share the work save time.
    """
    batches = _batches(rows)
    first = list(itertools.islice(batches, _FEWEST_TO_SHARE))
    return itertools.chain(first, batches), len(first) == _FEWEST_TO_SHARE


def _batches(rows: Rows) -> Iterator[Batch]:
    batch: Batch = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row.question) + len(row.answer)
        if len(batch) == _BATCH_ROWS or size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def filter_rows(
    batches: Iterator[Batch],
    settings: row_work.RowSettings,
    spool_path: Path,
    sketches: RowSketches,
    workers: Workers,
    search: ModelSearch | None,
    num_rows: int,
) -> Filtered:
    """Clean and filter all rows of a source.

    Args:
        batches: the rows.
        settings: what the work on a row has to know.
        spool_path: the file to write all rows to, for the second pass.
        sketches: gets each row that passed, in the order of ``Filtered.keys``.
        workers: they do the work on the rows; what comes out is the same for any number of them.
        search: a model that looks for identifiers; this process does the work then, as the model is in it.
        num_rows: how many rows there are, to show how far ``search`` is.

    Raises:
        InputError: next to none of many rows can be used.
    """
    with (
        open(spool_path, "wb") as spool,
        contextlib.ExitStack() as stack,
        console.status("reading and cleaning ...") as show_status,
    ):
        row_filter = _RowFilter(settings, spool, sketches, search)
        filtered = row_filter.filtered
        if search is None:
            work = workers.map(row_work.row_work, (settings,), row_filter.pieces(batches))
        else:
            bar = stack.enter_context(console.progress("rows searched by the model", num_rows))
            do = row_work.row_work(settings, search, lambda rows: bar.update(filtered.read + rows))
            work = map(do, row_filter.pieces(batches))
        for told in work:
            made = iter(told.sketches)
            for row in told.rows:
                if isinstance(row, row_work.RejectedRow):
                    row_filter.reject(row_work.unpacked(row.spooled), row.spooled, row.is_unreadable)
                else:
                    row_filter.judge(row, next(made))
                if filtered.read % ROWS_PER_UPDATE == 0:
                    show_status(f"reading and cleaning: {filtered.read:,} rows ...")
    filtered.sha256 = row_filter.digest.hexdigest()
    return filtered


class _RowFilter:
    """Takes what was told of each row, in the order of the source, and says what only the rows before it can say."""

    def __init__(
        self,
        settings: row_work.RowSettings,
        spool: BinaryIO,
        sketches: RowSketches,
        search: ModelSearch | None,
    ) -> None:
        self.filtered = Filtered()
        self.digest = hashlib.sha256()
        self._settings, self._search = settings, search
        self._duplicates = DuplicateFilter(settings.data.max_copies_of_an_answer, settings.reasons)
        self._spool, self._sketches = spool, sketches

    def pieces(self, batches: Iterator[Batch]) -> Iterator[row_work.SomeRows]:
        """Yield the rows for those who do the work, and digest them as they were read."""
        last_talk: Talk | None = None
        for rows in batches:
            for row in rows:
                last = row.text if isinstance(row, UnreadRow) else row.topic
                if isinstance(row, RawRow) and row.talk is not None:
                    last += f"\0{row.talk.context}"
                    if row.talk is not last_talk:  # its rows come one after the other
                        last_talk = row.talk
                        if last_talk.said > 1 or last_talk.is_open:
                            self.filtered.conversations += 1
                            self.filtered.answers += last_talk.said
                            self.filtered.open_questions += last_talk.is_open
                self.digest.update(f"{row.question}\0{row.answer}\0{last}\0".encode("utf-8", "surrogatepass"))
            yield row_work.SomeRows(rows, self._settings.has_topic_column and not self.filtered.column.tells)

    def reject(self, row: row_work.SpooledRow, spooled: bytes, is_unreadable: bool = False) -> None:
        """Take a row that is rejected, as it is and packed."""
        self.filtered.rejected[row.reason] += 1
        self.filtered.unreadable[row.reason] += is_unreadable
        if not self.filtered.first_rejected:
            detail = f": {row.detail}" if row.detail else ""
            self.filtered.first_rejected = f"{row.place}: {row.reason}{detail}"
        self._count(spooled)

    def judge(self, row: row_work.PassingRow, sketch: RowSketch) -> None:
        """Take a row that is kept unless it is a copy of one before it."""
        keys = row.keys
        if reason := self._duplicates.reason(keys):
            rejected = row_work.without_identifiers(
                row_work.unpacked(row.spooled).rejected_for(reason), self._settings, self._search
            )
            self.reject(rejected, row_work.packed(rejected))
            return
        self.filtered.keys.append(keys)
        self.filtered.asked.append(row.is_topic_known and not row.is_topic_given)
        self._sketches.add_made(keys.answer, sketch)
        self.filtered.has_earlier |= row.has_earlier
        self.filtered.has_context |= row.has_context
        if self._settings.has_topic_column:
            self.filtered.column.watch(keys.topics if row.is_topic_given else (), row.question_topic)
        self._count(row.spooled)

    def _count(self, spooled: bytes) -> None:
        row_work.write_spooled(self._spool, spooled)
        filtered = self.filtered
        filtered.read += 1
        if filtered.read == ROWS_BEFORE_GIVING_UP and len(filtered.keys) < FEWEST_KEPT:
            raise InputError(
                f"of the first {filtered.read:,} rows only {len(filtered.keys)} can be used: "
                f"{counted(filtered.rejected)} (the first: {filtered.first_rejected})",
                _GENERAL_ADVICE,
            )
