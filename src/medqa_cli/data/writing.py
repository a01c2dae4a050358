"""The second pass of ``medqa convert``: write each spooled row to its split or to ``rejected.jsonl``, and count.

Likewise, and at the same time where there are several processes, the training rows to the index.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from medqa_cli.config.schema import DataConfig
from medqa_cli.data import filtering, retrieval, row_work, token_lengths
from medqa_cli.data.canaries import Canary
from medqa_cli.data.dataset import IDENTIFIERS_NAME, INDEX_NAME, REJECTED_NAME, SPLITS
from medqa_cli.data.identifiers.recorded import FoundCounts, Recorder, salt_of
from medqa_cli.data.normalize import key_of, normalize
from medqa_cli.data.topics.paraphrases import paraphrase
from medqa_cli.prompt.given import Given

SHOWN_GARBLED = 5  # rows
ID_DIGITS = 16
CANARY_SOURCE = "canary"
_ENCODER = json.JSONEncoder(ensure_ascii=False)
Render = Callable[[str, str, Given], str]
"""Makes the ``text`` of a question and an answer, with what stands before the question."""


@dataclass
class Written:
    """What was written, counted.

    Attributes:
        splits: rows of each split, without paraphrases.
        rejected: rejected rows by reason.
        changed: kept rows by cleaning rule that changed them.
        examples: the place of the first row rejected for each reason.
        languages: kept rows by language.
        garbled: kept rows with signs of a wrong decoding.
        garbled_rows: the place of the first of them, each with a part of its text.
        paraphrases: number of paraphrases.
        canary_rows: rows of planted canaries, each copy counted.
        identifiers: what identifies persons in the rows.
        with_earlier: rows with earlier turns.
        with_context: rows with a context.
    """

    splits: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    rejected: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    languages: Counter[str] = field(default_factory=Counter)
    garbled: int = 0
    garbled_rows: list[str] = field(default_factory=list)
    paraphrases: int = 0
    canary_rows: int = 0
    identifiers: FoundCounts = field(default_factory=FoundCounts)
    with_earlier: int = 0
    with_context: int = 0


def write_rows(
    folder: Path,
    spool_path: Path,
    filtered: filtering.Filtered,
    places: Sequence[str],
    data: DataConfig,
    seed: int,
    render: Render,
    lengths: token_lengths.TokenLengths | None,
    canaries: Sequence[Canary] = (),
) -> Written:
    """Write each spooled row to its split or to the rejected ones, in the order of the source.

    Args:
        folder: the folder to write to.
        spool_path: what ``filtering.filter_rows`` wrote.
        filtered: what it returned.
        places: for each row that passed its split, or why it is rejected.
        data: the section of the config.
        seed: draws the paraphrases.
        render: makes the ``text``.
        lengths: counts tokens of the rows, if anything does.
        canaries: planted at the end of train.

    Returns:
        the counts.
    """
    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context(_create(folder / f"{name}.jsonl")) for name in SPLITS}
        files["rejected"] = stack.enter_context(_create(folder / REJECTED_NAME))
        recorder = None
        if data.identifiers == "report":
            recorder = stack.enter_context(Recorder(folder / IDENTIFIERS_NAME, salt_of(filtered.sha256, str(seed))))
        writer = _Writer(
            files, filtered, data.paraphrases_per_question, seed, render, lengths, bool(canaries), recorder
        )
        for placed in placed_rows(spool_path, places, filtered.by_question):
            if placed.split:
                writer.keep(placed)
            else:
                writer.reject(placed.row)
        for canary in canaries:
            writer.plant(canary)
    return writer.written


class _Writer:
    def __init__(
        self,
        files: dict[str, TextIO],
        filtered: filtering.Filtered,
        paraphrases_per_question: int,
        seed: int,
        render: Render,
        lengths: token_lengths.TokenLengths | None,
        plants: bool,
        recorder: Recorder | None,
    ) -> None:
        self.written = Written()
        self._files = files
        self._paraphrases_per_question, self._seed = paraphrases_per_question, seed
        self._render = render
        self._lengths = lengths
        self._adds_rows = bool(paraphrases_per_question) or plants
        self._has_earlier, self._has_context = filtered.has_earlier, filtered.has_context
        self._recorder = recorder
        self._questions = {key.question for key in filtered.keys} if paraphrases_per_question else set()

    def reject(self, row: row_work.SpooledRow) -> None:
        self.written.rejected[row.reason] += 1
        if row.reason == row_work.IDENTIFIER:
            self.written.identifiers.add(row.finds, "")
        self.written.examples.setdefault(row.reason, row.place)
        _write_line(self._files["rejected"], row.rejected())

    def keep(self, placed: PlacedRow) -> None:
        written, (row, split, row_id) = self.written, placed
        written.splits[split] += 1
        written.changed.update(row.changed)
        written.languages[row.language] += 1
        written.with_earlier += bool(row.earlier)
        written.with_context += bool(row.context)
        if row.garbled:
            written.garbled += 1
            if len(written.garbled_rows) < SHOWN_GARBLED:
                written.garbled_rows.append(f"{row.place} {row.garbled}")
        if row.finds:
            written.identifiers.add(row.finds, split)
            if split == "train" and self._recorder is not None:
                self._recorder.add(row_id, row.question, row.answer, row.finds)
        text = self._write(split, row_id, row.question, row, "")
        if self._lengths is not None:
            self._lengths.add(row.answer, text)
        # What asks about something before it has no other wording.
        if split == "train" and self._paraphrases_per_question and not row.given:
            count = written.paraphrases
            for question in paraphrase(row.question, self._paraphrases_per_question, self._seed):
                question_key = key_of(normalize(question))
                if question_key not in self._questions:  # the data set asks it itself, perhaps with another answer
                    self._questions.add(question_key)
                    written.paraphrases += 1
                    self._write(split, f"{row_id}-p{written.paraphrases - count}", question, row, row_id)

    def plant(self, canary: Canary) -> None:
        row = row_work.SpooledRow(0, None, "", "", "", "", answer=canary.answer, source=CANARY_SOURCE)
        for copy in range(1, canary.copies + 1):
            # As a paraphrase: no row of the source, so it stands in no index and counts for no baseline.
            self._write("train", f"{canary.id}-{copy}", canary.question, row, canary.id)
        self.written.canary_rows += canary.copies

    def _write(self, split: str, row_id: str, question: str, row: row_work.SpooledRow, paraphrase_of: str) -> str:
        text = self._render(question, row.answer, row.given)
        line: dict[str, Any] = {
            "id": row_id,
            "question": question,
            "answer": row.answer,
            "topic": row.topic,
            "source": row.source,
        }
        # In each row, so that all rows have the same keys.
        if self._has_earlier:
            line["earlier_turns"] = [turn._asdict() for turn in row.given.earlier]
        if self._has_context:
            line["context"] = row.context
        line["text"] = text
        if self._adds_rows:
            line["paraphrase_of"] = paraphrase_of
        _write_line(self._files[split], line)
        return text


class PlacedRow(NamedTuple):
    """A row as it is written: its split and its id, both empty where it is rejected."""

    row: row_work.SpooledRow
    split: str
    id: str


def placed_rows(path: Path, places: Sequence[str], by_question: bool) -> Iterator[PlacedRow]:
    """Yield the rows of a spool file as they are written.

    Args:
        path: the spool file.
        places: for each row that passed its split, or why it is rejected.
        by_question: topics are those that the questions name.
    """
    next_place = iter(places)
    taken: Counter[str] = Counter()
    for row in row_work.read_spooled(path):
        place = "" if row.reason else next(next_place)
        if place in SPLITS:
            placed = row._replace(topic=row.question_topic) if by_question else row
            yield PlacedRow(placed, place, unique_id(row.pair, taken))
        else:
            yield PlacedRow(row._replace(reason=place) if place else row, "", "")


def unique_id(pair: bytes, taken: Counter[str]) -> str:
    """Return the id of a row: 16 digits of its key, with ``-2`` for the second row that has the same ones."""
    short = pair.hex()[:ID_DIGITS]
    taken[short] += 1
    return short if taken[short] == 1 else f"{short}-{taken[short]}"


def index_rows(
    folder: Path, spool_path: Path, places: Sequence[str], by_question: bool, documents: Sequence[retrieval.Passage]
) -> int:
    """Write the index of a data folder, over the training rows that are being written and the passages of documents.

    Returns the number of passages; other arguments are those of ``placed_rows``.

    Raises:
        MedqaError: this Python's SQLite has no full-text search.
    """
    # A question that asks about something before it answers nobody else's.
    rows = (
        retrieval.Passage(row_id, "row", row.question, row.answer, row.topic, row.source)
        for row, split, row_id in placed_rows(spool_path, places, by_question)
        if split == "train" and not row.given
    )
    return retrieval.write_index(folder / INDEX_NAME, itertools.chain(rows, documents))


def _create(path: Path) -> TextIO:
    """Open a new JSON Lines file for writing."""
    # A lone surrogate of a rejected row is written as \\udXXX, which JSON reads back.
    return open(path, "w", encoding="utf-8", errors="backslashreplace", newline="\n")


def _write_line(file: TextIO, value: dict[str, Any]) -> None:
    """Write one line."""
    file.write(_ENCODER.encode(value) + "\n")
