"""The passages that answers may rest on, found by BM25 as SQLite's FTS5 ranks it.

Rows of the training split and parts of documents stand in one index, ``index.sqlite`` of the data folder. ``train`` and
``ask`` put passages into the prompt, ``ask --sources`` shows them, ``eval`` does both and copies the answer of the
nearest question as a baseline.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from medqa_cli.data.dataset import INDEX_NAME, QaRow, iterate_split
from medqa_cli.errors import InputError, MedqaError
from medqa_cli.prompt.sentence_ends import sentence_ends

# Share of a question's words, each weighed by its rarity, that a close passage must hold.
CLOSE = 0.5
# Share of a sentence's words that one of the passages must hold to support it.
SUPPORTED = 0.5
# A word of the title says more about a passage than one of a long text.
_WEIGHTS = (3.0, 1.0)
_CANDIDATES = 20
_FORMAT_VERSION = 1
_COLUMNS = "id, kind, title, text, topic, source, place"
_WORD = re.compile(r"\w+")
_STOP_WORDS = frozenset(
    _WORD.findall(
        "a about after all also an and any are as at be been but by can could do does for from give had has have how "
        "i if in into is it its may me more most much my no not of often on one or other our out she should so some "
        "such than that the their them there these they this to up used was we were what when where which who why "
        "will with would you your"
    )
)


@dataclass(frozen=True)
class Passage:
    """What an answer may rest on: a row of the training split, or a part of a document.

    ``title``: the row's question, or the document's title; ``text``: the row's answer, or the part; ``source``: that of
    the row, or the document's path; ``place``: where in the document, such as ``page 3``; ``score``: BM25 for one
    question, higher is nearer, comparable within that question only.
    """

    id: str
    kind: Literal["row", "document"]
    title: str
    text: str
    topic: str
    source: str
    place: str = ""
    score: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return what ``ask --json`` prints of it under ``sources``."""
        ends = {"source": self.source, "score": self.score}
        if self.kind == "row":
            return {"id": self.id, "question": self.title, "answer": self.text, "topic": self.topic, **ends}
        return {"id": self.id, "title": self.title, "text": self.text, "place": self.place, **ends}


def passage_of(row: QaRow) -> Passage:
    """Return a row as a passage."""
    return Passage(row.id, "row", row.question, row.answer, row.topic, row.source)


class PassageIndex:
    """Passages that can be searched.

    Args:
        passages: they are kept in memory, in this order.

    Raises:
        MedqaError: this Python's SQLite has no full-text search.
    """

    def __init__(self, passages: Iterable[Passage]) -> None:
        self._database = sqlite3.connect(":memory:")
        _fill(self._database, passages)

    @classmethod
    def of_folder(cls, data_dir: Path) -> PassageIndex:
        """Open the index of a data folder; one that has none, from before there were any, is indexed in memory.

        Raises:
            InputError: there is no data, or the index is damaged.
            MedqaError: this Python's SQLite has no full-text search.
        """
        path = data_dir / INDEX_NAME
        if not path.is_file():
            return cls(passage_of(row) for row in iterate_split(data_dir, "train") if not row.paraphrase_of)
        index = cls.__new__(cls)
        try:
            index._database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
            index._database.execute("PRAGMA trusted_schema = OFF")
            (version,) = index._database.execute("PRAGMA user_version").fetchone()
            index._database.execute("SELECT rowid FROM words LIMIT 1")
        except sqlite3.DatabaseError as error:
            raise InputError(f"{path} cannot be read: {error}", "run medqa convert again") from error
        if version != _FORMAT_VERSION:
            raise InputError(
                f"{path} has format {version}; this medqa reads format {_FORMAT_VERSION}", "run medqa convert again"
            )
        return index

    def search(
        self, words: Sequence[str], count: int, accept: Callable[[Passage], bool] = lambda passage: True
    ) -> list[Passage]:
        """Return at most ``count`` passages that hold any of the words, the nearest first.

        Args:
            words: as ``all_words`` or ``content_words`` return them.
            count: the most passages.
            accept: tells which of them count.
        """
        if not words:
            return []
        passages: list[Passage] = []
        num_seen, limit = 0, count
        while len(passages) < count:
            ranked = self._ranked(words, limit)
            for number, score in ranked[num_seen:]:
                passage = self._passage(number, score)
                if len(passages) < count and accept(passage):
                    passages.append(passage)
            if len(ranked) < limit:
                break
            num_seen, limit = limit, 4 * limit + _CANDIDATES
        return passages

    def passages(self) -> Iterator[Passage]:
        """Yield all passages, in their order."""
        return (Passage(*row) for row in self._database.execute(f"SELECT {_COLUMNS} FROM passages ORDER BY number"))

    def nearest(self, question: str, count: int) -> list[Passage]:
        """Return at most ``count`` passages, the nearest first; none where nothing is close to the question."""
        words = content_words(question)
        ranked = self._ranked(words, max(count, _CANDIDATES)) if words else []
        scores = dict(ranked)
        return [self._passage(number, scores[number]) for number in self._close(words, list(scores))[:count]]

    def _ranked(self, words: Sequence[str], limit: int) -> list[tuple[int, float]]:
        """Return the numbers of the nearest passages, and their BM25."""
        found = self._database.execute(
            "SELECT rowid, bm25(words, ?, ?) FROM words WHERE words MATCH ? ORDER BY 2, 1 LIMIT ?",
            (*_WEIGHTS, " OR ".join(f'"{word}"' for word in words), limit),
        )
        return [(number, round(-score, 3)) for number, score in found]

    def _passage(self, number: int, score: float) -> Passage:
        row = self._database.execute(f"SELECT {_COLUMNS} FROM passages WHERE number = ?", (number,)).fetchone()
        return replace(Passage(*row), score=score)

    def _close(self, words: Sequence[str], numbers: Sequence[int]) -> list[int]:
        """Return those of the passages that hold enough of the words, each weighed by its rarity."""
        total, held = 0.0, dict.fromkeys(numbers, 0.0)
        among = f"rowid IN ({', '.join(map(str, numbers))})"
        for word in words:
            term = f'"{word}"'
            (num_rows,) = self._database.execute("SELECT count(*) FROM words WHERE words MATCH ?", (term,)).fetchone()
            total += (weight := 1 / (1 + num_rows))
            for (number,) in self._database.execute(
                f"SELECT rowid FROM words WHERE words MATCH ? AND {among}", (term,)
            ):
                held[number] += weight
        return [number for number in numbers if held[number] >= CLOSE * total]


def write_index(path: Path, passages: Iterable[Passage]) -> int:
    """Write ``index.sqlite``; return the number of passages. Equal passages give equal bytes with one SQLite version.

    Raises:
        MedqaError: this Python's SQLite has no full-text search.
    """
    with contextlib.closing(sqlite3.connect(path)) as database:
        # The folder is renamed when it is whole: no journal is needed.
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        return _fill(database, passages)


def _fill(database: sqlite3.Connection, passages: Iterable[Passage]) -> int:
    database.execute(f"CREATE TABLE passages(number INTEGER PRIMARY KEY, {_COLUMNS})")
    try:
        database.execute(
            "CREATE VIRTUAL TABLE words USING fts5(title, text, content = 'passages', content_rowid = 'number', "
            "tokenize = 'porter unicode61')"
        )
    except sqlite3.OperationalError as error:
        raise MedqaError(
            f"searching the data needs a SQLite with FTS5: {error}", "use a Python whose SQLite has it"
        ) from error
    database.executemany(
        f"INSERT INTO passages({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
        ((p.id, p.kind, p.title, p.text, p.topic, p.source, p.place) for p in passages),
    )
    database.execute("INSERT INTO words(words) VALUES ('rebuild')")
    database.execute(f"PRAGMA user_version = {_FORMAT_VERSION}")
    database.commit()
    return int(database.execute("SELECT count(*) FROM passages").fetchone()[0])


def all_words(text: str) -> list[str]:
    """Return the words of a text in lower case, each once, in their order."""
    return list(dict.fromkeys(_WORD.findall(text.lower())))


def content_words(text: str) -> list[str]:
    """Return the words of a text that carry its meaning, in lower case, each once, in their order."""
    return [word for word in all_words(text) if word not in _STOP_WORDS and len(word) > 1]


def unsupported_sentences(answer: str, texts: Sequence[str]) -> list[str]:
    """Return the sentences of an answer that share too few words with every one of the texts.

    A hint, not a proof: common words are not a common meaning, and a true sentence may use other words.
    """
    known = [{_stem(word) for word in content_words(text)} for text in texts]
    unsupported = []
    for start, end in pairwise([0, *sentence_ends(answer)]):
        sentence = answer[start:end].strip()
        words = {_stem(word) for word in content_words(sentence)}
        if words and not any(len(words & held) >= SUPPORTED * len(words) for held in known):
            unsupported.append(sentence)
    return unsupported


def _stem(word: str) -> str:
    """Cut off common endings, just enough for ``symptoms`` to equal ``symptom``."""
    for ending in ("ing", "es", "ed", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word
