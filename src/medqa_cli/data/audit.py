"""Counts what held-out rows share with the splits they are held out from, on the files as they are written.

Works on any folder of train, validation and test files, under the names that the usual tools give them.
"""

import functools
import itertools
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from medqa_cli import console
from medqa_cli.data.cleaning.reasons import unusable
from medqa_cli.data.dataset import SPLITS, QaRow, find_split_files, report_of, row_of_line, split_lines
from medqa_cli.data.minhash import NOT_FOUND
from medqa_cli.data.near_duplicates import RowSketches
from medqa_cli.data.normalize import normalize
from medqa_cli.data.reading.shapes import ColumnNames, UnreadRow
from medqa_cli.data.reading.sources import open_sources
from medqa_cli.data.sketches import ComparedRow, compared_row, lines_work
from medqa_cli.data.topics.topics import LEAST_TOPICS, TopicCounts, count_topics, pages_tell
from medqa_cli.errors import InputError, MedqaError
from medqa_cli.prompt.given import NOTHING, Given
from medqa_cli.spelling import listed
from medqa_cli.workers import Workers

LEAK_KINDS = ("question", "answer", "near_duplicate_answer", "topic")
HELD_OUT = {"test": ("train", "validation"), "validation": ("train",)}
MOST_EXAMPLES = 5
_LINES_OF_A_PIECE = 64


@dataclass
class _Split:
    """The keys of the rows of one split, the location of each (its file and number), and its number in the sketches."""

    locations: list[str] = field(default_factory=list)
    questions: list[tuple[bytes, ...]] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    topics: list[tuple[bytes, ...]] = field(default_factory=list)
    question_topics: list[tuple[bytes, ...]] = field(default_factory=list)
    pages: list[bytes] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    is_paraphrase: bytearray = field(default_factory=bytearray)
    unusable: int = 0


@dataclass(frozen=True)
class Audit:
    """The counts; ``examples`` name locations of leaks, never texts.

    ``short_answers``: held-out rows whose answer says little, so that it counts as shared only with its question.
    """

    rows: dict[str, int]
    paraphrases: int
    unusable: dict[str, int]
    leakage: dict[str, dict[str, int | None]]
    short_answers: dict[str, int]
    topics: TopicCounts
    examples: list[dict[str, str]]

    def as_json(self) -> dict[str, Any]:
        """Return the audit as shown by ``--json``."""
        return vars(self) | {"topics": self.topics.as_json()}


def audit_written(folder: Path, sketches: RowSketches, by_page: bool, workers: Workers) -> Audit:
    """Audit the files that ``medqa convert`` is writing.

    Args:
        folder: the folder with the files.
        sketches: those of the conversion. Each answer is found there by the hash of its text as it was read back; only
            one that the conversion did not see, which would be a bug, gets a new sketch.
        by_page: rows from one page were kept together, and so count as those of one topic.
        workers: they read the rows; what comes out is the same for any number of them.

    Returns:
        for ``test`` the number of rows that share a question, an answer, a near copy of the answer or a topic with
        train or validation; for ``validation`` likewise with train. The count of topics is null where none is shared
        but the topics do not show what belongs together (``TopicCounts.doubt``).

    Raises:
        InputError: a file is missing or damaged.
    """
    return _audit({name: _own_rows(folder, name, workers) for name in SPLITS}, sketches, by_page)


def audit_folder(folder: Path, threshold: float, wanted: ColumnNames) -> Audit:
    """Audit any folder of files that ``dataset.find_split_files`` finds.

    Args:
        folder: the folder.
        threshold: Jaccard similarity of runs of five words from which two answers are near copies.
        wanted: columns that the user named, for folders that medqa did not write.

    Returns:
        the same counts; topics come from a column or from the questions.

    Raises:
        InputError: there is no training file or no held-out one, a file cannot be read, or none of its rows be used.
        MedqaError: there is no room for the scratch file.
    """
    split_files, others = find_split_files(folder)
    for name, files in split_files.items():
        console.note(f"{name}: {listed([path.name for path in files]) or 'no file'}")
    if others:
        console.warn(f"ignored, because the name says no split: {listed([path.name for path in others])}")
    report = report_of(folder)
    by_page = None if report is None else bool(report.get("topics", {}).get("pages"))
    try:
        with (
            Workers(1, "") as workers,
            tempfile.TemporaryDirectory(prefix="medqa-") as scratch,
            RowSketches(Path(scratch, "audit.tmp"), threshold) as sketches,
        ):
            rows: dict[str, Iterator[_Read | None]] = {
                name: _own_rows(folder, name, workers) if report is not None else _foreign_rows(files, wanted)
                for name, files in split_files.items()
            }
            audit = _audit(rows, sketches, by_page)
    except OSError as error:
        raise MedqaError(
            f"auditing {folder} failed: {error.strerror or error}",
            "check the free space of the temporary folder (TMPDIR)",
        ) from error
    for name, count in audit.unusable.items():
        if count:
            console.warn(f"{count:,} {name} rows hold no question and answer and were ignored")
    # Zero leaks among zero rows would look like a pass.
    if not audit.rows["train"] or not (audit.rows["test"] or audit.rows["validation"]):
        usable = ", ".join(f"{count:,} in {name}" for name, count in audit.rows.items())
        raise InputError(
            f"{folder}: nothing to compare: usable rows: {usable}",
            "check the files, or name the columns: --set data.question_column=... --set data.answer_column=...",
        )
    return audit


class _Read(NamedTuple):
    """A row as it was read: its file and number, what is compared of it, and what reads its texts again."""

    location: str
    compared: ComparedRow
    again: Callable[[], QaRow]


def _audit(rows: Mapping[str, Iterator[_Read | None]], sketches: RowSketches, by_page: bool | None) -> Audit:
    splits = {name: _read(rows[name], sketches, name) for name in SPLITS}
    if sum(len(split.topics) for split in splits.values()) >= LEAST_TOPICS and (
        len({topics for split in splits.values() for topics in split.topics}) == 1
    ):
        for split in splits.values():  # a column with one value on all rows is no help
            split.topics = split.question_topics
    # Of the rows that are no paraphrases.
    keys = [
        (topics, page)
        for split in splits.values()
        for topics, page, is_copy in zip(split.topics, split.pages, split.is_paraphrase, strict=True)
        if not is_copy
    ]
    all_topics, all_pages = [topics for topics, _ in keys], [page for _, page in keys]
    if by_page is None:
        by_page = pages_tell(all_topics, all_pages)
    if by_page:
        for split in splits.values():
            split.topics = [(*topics, page) for topics, page in zip(split.topics, split.pages, strict=True)]
    topics = count_topics(all_pages if by_page else all_topics)
    of_little_meaning = {name: sketches.of_little_meaning(splits[name].rows) for name in HELD_OUT}
    leaks = {name: _shared(name, splits, sketches, of_little_meaning[name], bool(topics.doubt)) for name in HELD_OUT}
    examples = [
        {"leak": kind, "row": row, "also": other}
        for kinds in leaks.values()
        for kind, hits in kinds.items()
        for row, other in (hits or [])[:MOST_EXAMPLES]
    ]
    return Audit(
        {name: len(splits[name].locations) - sum(splits[name].is_paraphrase) for name in SPLITS},
        sum(sum(split.is_paraphrase) for split in splits.values()),
        {name: splits[name].unusable for name in SPLITS},
        {name: {kind: None if hits is None else len(hits) for kind, hits in leaks[name].items()} for name in HELD_OUT},
        {name: len(rows) for name, rows in of_little_meaning.items()},
        topics,
        examples,
    )


def _own_rows(folder: Path, split: str, workers: Workers) -> Iterator[_Read]:
    """Yield the rows of a split that medqa wrote."""
    waiting: deque[list[tuple[bytes, str]]] = deque()

    def pieces() -> Iterator[list[tuple[bytes, str]]]:
        lines = split_lines(folder, split)
        while piece := list(itertools.islice(lines, _LINES_OF_A_PIECE)):
            waiting.append(piece)
            yield piece

    numbers = itertools.count(1)
    for rows in workers.map(lines_work, (), pieces()):
        for row, line in zip(rows, waiting.popleft(), strict=True):
            yield _Read(f"{split}.jsonl:{next(numbers)}", row, functools.partial(row_of_line, *line))


def _foreign_rows(files: Sequence[Path], wanted: ColumnNames) -> Iterator[_Read | None]:
    """Yield the rows of the files of a split; None for one that cannot be used."""
    for path in files:
        if not path.stat().st_size:
            continue  # an empty split
        for row in open_sources([str(path)], wanted).rows:
            if isinstance(row, UnreadRow) or unusable(row.question, row.answer, row.topic):
                yield None
            else:
                location = f"{path.name}:{row.line or row.row}"
                talk = row.talk
                given = NOTHING if talk is None else Given(talk.turns[: row.turn], talk.context)
                qa_row = QaRow("", row.question, row.answer, row.topic, row.source, given=given)
                yield _Read(location, compared_row(qa_row, is_own=False), functools.partial(replace, qa_row))


def _read(rows: Iterable[_Read | None], sketches: RowSketches, name: str) -> _Split:
    split = _Split()
    with console.status(f"auditing {name} ..."):
        for read in rows:
            if read is None:
                split.unusable += 1
                continue
            row = read.compared
            split.rows.append(len(sketches))
            if not sketches.add_known(row.answer, row.kind):
                texts = read.again()
                sketches.add(texts.asked, normalize(texts.answer), row.answer)
            split.locations.append(read.location)
            split.questions.append(row.questions)
            split.answers.append(row.answer)
            split.pages.append(row.page)
            split.topics.append(row.topics)
            split.question_topics.append(row.question_topics)
            split.is_paraphrase.append(row.is_paraphrase)
    return split


def _shared(
    name: str, splits: dict[str, _Split], sketches: RowSketches, of_little_meaning: set[int], topics_in_doubt: bool
) -> dict[str, list[tuple[str, str]] | None]:
    """Return for each kind of leak the locations of the held-out rows concerned, each with that of a partner."""
    held_out, others = splits[name], [splits[other] for other in HELD_OUT[name]]
    location_of = {row: location for other in others for row, location in zip(other.rows, other.locations, strict=True)}
    # The other rows are many, and the index of a search is of the few held-out ones: it leaves few candidates.
    near_any = sketches.near_rows(list(location_of), held_out.rows, of_little_meaning)
    candidates = [row for row, copy in zip(location_of, near_any, strict=True) if copy != NOT_FOUND]
    near = sketches.near_rows(held_out.rows, candidates, of_little_meaning)
    copy_of = {row: copy for row, copy in zip(held_out.rows, near, strict=True) if copy != NOT_FOUND}

    def answers(split: _Split) -> list[tuple[bytes, ...]]:
        # An answer of little meaning is shared only with its question.
        return [
            () if row in of_little_meaning and row not in copy_of else (key,)
            for row, key in zip(split.rows, split.answers, strict=True)
        ]

    topics = _hits(held_out, others, lambda split: split.topics)
    are_known = any(held_out.topics) and any(any(other.topics) for other in others)
    return {
        "question": _hits(held_out, others, lambda split: split.questions),
        "answer": _hits(held_out, others, answers),
        "near_duplicate_answer": [
            (location, location_of[copy_of[row]])
            for location, row in zip(held_out.locations, held_out.rows, strict=True)
            if row in copy_of
        ],
        "topic": topics if topics or (are_known and not topics_in_doubt) else None,
    }


def _hits(
    held_out: _Split, others: Sequence[_Split], keys_of: Callable[[_Split], Sequence[tuple[bytes, ...]]]
) -> list[tuple[str, str]]:
    """Return the locations of the held-out rows that share a key with another row, each with that of the first one."""
    first: dict[bytes, str] = {}
    for other in others:
        for keys, location in zip(keys_of(other), other.locations, strict=True):
            for key in keys:
                first.setdefault(key, location)
    hits = []
    for keys, location in zip(keys_of(held_out), held_out.locations, strict=True):
        shared = next((first[key] for key in keys if key in first), None)
        if shared is not None:
            hits.append((location, shared))
    return hits
