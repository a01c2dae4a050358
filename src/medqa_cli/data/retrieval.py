"""The passages that answers may rest on: found by SQLite's full-text search, ordered by ``ranking.py``.

Rows of the training split and parts of documents stand in one index, ``index.sqlite`` of the data folder. ``train`` and
``ask`` put passages into the prompt, ``ask --sources`` shows them, ``eval`` does both and copies the answer of the
nearest question as a baseline.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from medqa_cli.data.dataset import INDEX_NAME, QaRow, iterate_split
from medqa_cli.data.languages import UNKNOWN, language_of
from medqa_cli.data.minhash import words_of
from medqa_cli.data.ranking import Likeness, Query, all_words, content_words, form_of
from medqa_cli.data.vocabulary import TOKENIZER, Vocabulary, count_words
from medqa_cli.errors import InputError, MedqaError
from medqa_cli.prompt.given import stretches
from medqa_cli.prompt.sentence_ends import sentence_ends

# Share of a sentence's words that one of the passages must hold to support it.
SUPPORTED = 0.5
# Share of the words before a mark that the cited passage must hold. On MedQuAD, passages of 72 words: of 500 whole
# answers behind the beginning of their own 1.8 % hold less, behind one of another topic 83 %.
SUPPORTED_AT_ALL = 0.1
_LEAST_WORDS_OF_A_CITATION = 3
# A word of the title says more about a passage than one of a long text.
_WEIGHTS = (3.0, 1.0)
_CLOSE_AMONG = 5  # the nearest passages, one of which must be close
_FORMAT_VERSION = 1
_COLUMNS = "id, kind, title, text, topic, source, place"
# Of the passages that are compared with the question in full: by title, and by BM25 of title and text.
_CANDIDATES_BY_TITLE = 60
_CANDIDATES = 20
_BESIDE = 10  # passages of a document before and behind one that are about the same
_READ = 20  # of the rows among them, those whose texts are read
# Places of words that are read for one question; words that more passages hold are left out where rarer ones are there.
_MOST_POSTINGS = 10_000
_ENDINGS = ("ing", "es", "ed", "s")  # the first that fits is cut off
_LEAST_STEM = 4  # letters that have to be left


@dataclass(frozen=True)
class Passage:
    """What an answer may rest on: a row of the training split, or a part of a document.

    ``title``: the row's question, or the document's title; ``text``: the row's answer, or the part; ``source``: that of
    the row, or the document's path; ``place``: where in the document, such as ``page 3``; ``score``: higher is
    nearer, comparable within one question only; ``answers``: whether its title tells that it answers a question, or
    that it does not (``PassageIndex.judged``).
    """

    id: str
    kind: Literal["row", "document"]
    title: str
    text: str
    topic: str
    source: str
    place: str = ""
    score: float = 0.0
    answers: bool | None = None

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
        self._name = "the index in memory"
        self._database = sqlite3.connect(":memory:")
        _fill(self._database, passages)
        self._vocabulary = Vocabulary(self._database)

    @classmethod
    def of_folder(cls, data_dir: Path) -> PassageIndex:
        """Open the index of a data folder; one that has none, from before there were any, is indexed in memory.

        Raises:
            InputError: there is no data, or the index is damaged.
            MedqaError: this Python's SQLite has no full-text search.
        """
        path = data_dir / INDEX_NAME
        if not path.is_file():
            # A question that asks about something before it answers nobody else's.
            rows = iterate_split(data_dir, "train")
            return cls(passage_of(row) for row in rows if not row.paraphrase_of and not row.given)
        index = cls.__new__(cls)
        index._name = str(path)
        with index._damage_told():
            index._database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
            index._database.execute("PRAGMA trusted_schema = OFF")
            (version,) = index._database.execute("PRAGMA user_version").fetchone()
            if version == _FORMAT_VERSION:
                _check_schema(index._database)
                index._vocabulary = Vocabulary(index._database)
        if version != _FORMAT_VERSION:
            raise InputError(
                f"{path} has format {version}; this medqa reads format {_FORMAT_VERSION}", "run medqa convert again"
            )
        return index

    @contextlib.contextmanager
    def _damage_told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise InputError(f"{self._name} cannot be read: {error}", "run medqa convert again") from error

    def search(
        self, question: str, count: int, accept: Callable[[Passage], bool] = lambda passage: True
    ) -> list[Passage]:
        """Return at most ``count`` passages that hold any word of a question, the nearest first.

        Args:
            question: plain text.
            count: the most passages.
            accept: tells which of them count.
        """
        if not (words := all_words(question)):
            return []
        with self._damage_told():
            return list(itertools.islice(filter(accept, self._one_after_the_other(question, words)), count))

    def _one_after_the_other(self, question: str, words: Sequence[str]) -> Iterator[Passage]:
        """Yield each passage that holds any of the words, the nearest first; those further down by BM25 alone."""
        seen: set[str] = set()
        asked = Query(words, form_of(" ".join(words)), self._vocabulary, question)
        for _, passage in self._ranked(asked):
            seen.add(passage.id)
            yield passage
        named = [word for word in words if not asked.is_in_nearly_all(word)] or words
        queries = [self._vocabulary.query(word) for word in named]
        limit, num_seen = _CANDIDATES, 0
        while len(numbers := self._by_bm25(queries, limit)) > num_seen:
            for passage in self._passages(numbers[num_seen:]):
                if passage.id not in seen:
                    yield passage
            num_seen, limit = len(numbers), 4 * limit

    def passages(self) -> Iterator[Passage]:
        """Yield all passages, in their order."""
        with self._damage_told():
            for values in self._database.execute(f"SELECT {_COLUMNS} FROM passages ORDER BY number"):
                yield _passage(values)

    def nearest(self, question: str, count: int) -> list[Passage]:
        """Return at most ``count`` passages, the nearest first; none where nothing is close to the question."""
        with self._damage_told():
            asked = Query(all_words(question), form_of(question), self._vocabulary, question)
            nearest = self._ranked(asked)[: max(count, _CLOSE_AMONG)]
            return [passage for likeness, passage in nearest if asked.is_close(likeness)][:count]

    def judged(self, question: str, passages: Iterable[Passage]) -> list[Passage]:
        """Return passages with ``answers``: what the titles of rows tell; that of a document tells nothing."""
        asked = Query(all_words(question), form_of(question), self._vocabulary, question)
        with self._damage_told():
            return [
                replace(passage, answers=asked.is_answered_by(passage.title) if passage.kind == "row" else None)
                for passage in passages
            ]

    def by_bm25(self, question: str, count: int) -> list[Passage]:
        """Return at most ``count`` passages as plain full-text search orders them, by BM25 of title and text alone."""
        with self._damage_told():
            return self._passages(self._by_bm25([f'"{word}"' for word in content_words(question)], count))

    def weight(self, words: Iterable[str]) -> float:
        """Return how much words say together: the rarer, the more."""
        with self._damage_told():
            return math.fsum(self._vocabulary.weight([self._vocabulary.stem(word)]) for word in words)

    def _ranked(self, asked: Query) -> list[tuple[Likeness, Passage]]:
        """Return the passages that may be the nearest, in their order."""
        numbers = list(dict.fromkeys([*self._by_title(asked), *self._by_bm25(self._rarest(asked), _CANDIDATES)]))
        passages = dict(zip(numbers, self._passages(numbers), strict=True))
        by_title = {number: asked.by_title(passage.title) for number, passage in passages.items()}
        # A document's title says little: each of them is read.
        numbers.sort(key=lambda number: (passages[number].kind != "document", -by_title[number].score))
        documents = [number for number in numbers if passages[number].kind == "document"]
        likenesses = {
            number: asked.with_text(by_title[number], passages[number].text, passages[number].kind == "document")
            for number in numbers[: len(documents) + _READ]
        }
        likenesses |= {
            number: asked.with_neighbors(
                likenesses[number],
                [
                    likenesses[other]
                    for other in documents
                    if abs(other - number) <= _BESIDE and passages[other].source == passages[number].source
                ],
            )
            for number in documents
        }
        ranked = sorted(likenesses.items(), key=lambda each: -each[1].score)
        return [(likeness, replace(passages[number], score=round(likeness.score, 3))) for number, likeness in ranked]

    def _by_title(self, asked: Query) -> list[int]:
        """Return the numbers of the passages whose titles share the most with the question, short titles first."""
        shared: dict[int, float] = defaultdict(float)
        num_seen = 0
        for stem in sorted(asked.words, key=self._vocabulary.num_titles):
            num_seen += self._vocabulary.num_titles(stem)
            if num_seen > _MOST_POSTINGS and shared:
                break
            for (number,) in self._database.execute(
                "SELECT rowid FROM titles WHERE titles MATCH ?", (self._vocabulary.query(asked.words[stem]),)
            ):
                shared[number] += self._vocabulary.weight([stem])
        if not shared:
            return []
        best = sorted(shared, key=lambda number: -shared[number])
        least = shared[best[_CANDIDATES_BY_TITLE - 1]] if len(best) > _CANDIDATES_BY_TITLE else 0.0
        above = [number for number in best if shared[number] > least]
        equal = [number for number in best if shared[number] == least][:_MOST_POSTINGS]
        shortest = self._database.execute(
            f"SELECT number FROM passages WHERE number IN ({', '.join(map(str, equal))}) "
            "ORDER BY length(title), number LIMIT ?",
            (_CANDIDATES_BY_TITLE - len(above),),
        )
        return above + [number for (number,) in shortest]

    def _rarest(self, asked: Query) -> list[str]:
        """Return queries for words that few enough passages hold to be read for one question, at least the rarest."""
        rare: list[str] = []
        num_seen = 0
        for stem in sorted(asked.words, key=self._vocabulary.num_passages):
            num_seen += self._vocabulary.num_passages(stem)
            if num_seen > _MOST_POSTINGS and rare:
                break
            rare.append(self._vocabulary.query(asked.words[stem]))
        return rare

    def _by_bm25(self, queries: Sequence[str], limit: int) -> list[int]:
        """Return the numbers of the passages that fit any of the queries, the nearest by BM25 first."""
        if not queries:
            return []
        rows = self._database.execute(
            "SELECT rowid FROM words WHERE words MATCH ? ORDER BY bm25(words, ?, ?), 1 LIMIT ?",
            (" OR ".join(queries), *_WEIGHTS, limit),
        )
        return [number for (number,) in rows]

    def _passages(self, numbers: Sequence[int]) -> list[Passage]:
        """Return passages in the order of their numbers' list."""
        rows = self._database.execute(
            f"SELECT number, {_COLUMNS} FROM passages WHERE number IN ({', '.join(map(str, numbers))})"
        )
        passages = {number: _passage(values) for number, *values in rows}
        if len(passages) < len(set(numbers)):
            raise sqlite3.DatabaseError("passages are missing")
        return [passages[number] for number in numbers]


def _passage(values: Sequence[Any]) -> Passage:
    if not all(type(value) is str for value in values) or values[1] not in ("row", "document"):
        raise sqlite3.DatabaseError("a passage holds what is no text, or is of an unknown kind")
    return Passage(*values)


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


def _check_schema(database: sqlite3.Connection) -> None:
    """Check that the tables are ours: a view or a trigger of somebody else's could compute for ever."""
    query = "SELECT name, sql FROM sqlite_master WHERE type IN ('view', 'trigger') OR name IN (?, ?, ?, ?)"
    names = ("passages", "words", "titles", "frequencies")
    with contextlib.closing(sqlite3.connect(":memory:")) as empty:
        _fill(empty, ())
        if sorted(database.execute(query, names)) != sorted(empty.execute(query, names)):
            raise sqlite3.DatabaseError("it has other tables than medqa convert writes")


def _fill(database: sqlite3.Connection, passages: Iterable[Passage]) -> int:
    database.execute(f"CREATE TABLE passages(number INTEGER PRIMARY KEY, {_COLUMNS})")
    try:
        database.execute(
            "CREATE VIRTUAL TABLE words USING fts5(title, text, content = 'passages', content_rowid = 'number', "
            f"tokenize = '{TOKENIZER}')"
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
    database.execute(
        f"CREATE VIRTUAL TABLE titles USING fts5(title, content = '', columnsize = 0, tokenize = '{TOKENIZER}')"
    )
    database.execute("INSERT INTO titles(rowid, title) SELECT number, title FROM passages")
    count_words(database)
    database.execute(f"PRAGMA user_version = {_FORMAT_VERSION}")
    database.commit()
    return int(database.execute("SELECT count(*) FROM passages").fetchone()[0])


def unsupported_sentences(answer: str, texts: Sequence[str]) -> list[str]:
    """Return the sentences of an answer that share too few words with every one of the texts.

    A hint, not a proof: common words are not a common meaning, and a true sentence may use other words.
    """
    known = [content_stems(text) for text in texts]
    unsupported = []
    for start, end in pairwise([0, *sentence_ends(answer)]):
        sentence = answer[start:end].strip()
        words = content_stems(sentence)
        if words and not any(len(words & held) >= SUPPORTED * len(words) for held in known):
            unsupported.append(sentence)
    return unsupported


def unsupported_citations(answer: str, texts: Sequence[str], decline: str) -> list[int]:
    """Return the numbers that an answer cites and that name none of the texts, or one that shares next to nothing.

    Compared is what stands before the mark, from the mark before it on. Next to nothing: under a tenth of its words. A
    text in another language than the answer's shares none in any case, and is not compared.

    Args:
        answer: with its marks.
        texts: number 1 is the first.
        decline: what is said where no source answers, which needs no support.
    """
    held = [content_stems(text) | content_stems(decline) for text in texts]
    language = language_of(answer)
    is_foreign = [UNKNOWN not in (language, other := language_of(text)) and language != other for text in texts]
    found = []
    for stretch, numbers in stretches(answer):
        words = content_stems(stretch)
        least = SUPPORTED_AT_ALL * len(words) if len(words) >= _LEAST_WORDS_OF_A_CITATION else 0
        for number in numbers:
            if not 0 < number <= len(held) or (not is_foreign[number - 1] and len(words & held[number - 1]) < least):
                found.append(number)
    return list(dict.fromkeys(found))


def content_stems(text: str) -> set[str]:
    """Return the words of a text that carry its meaning, without common endings: ``symptoms`` equals ``symptom``.

    A character of a script without spaces is a word.
    """
    stems = set()
    for word in itertools.chain.from_iterable(map(words_of, content_words(text))):
        endings = [ending for ending in _ENDINGS if word.endswith(ending) and len(word) - len(ending) >= _LEAST_STEM]
        stems.add(word.removesuffix(endings[0]) if endings else word)
    return stems
