"""Full-text search of the training split: BM25 as SQLite's FTS5 ranks it, in memory.

``ask --sources`` shows the nearest reference answers, which the model never sees; ``eval`` copies the answer of the
nearest question as a baseline.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from medqa_cli.data.dataset import iterate_split
from medqa_cli.errors import MedqaError
from medqa_cli.prompt.sentence_ends import sentence_ends

# Share of a question's words, each weighed by its rarity, that a close row must hold.
CLOSE = 0.5
# Share of a sentence's words that one of the references must hold to support it.
SUPPORTED = 0.5
_QUESTION_WEIGHT = 3.0  # a word of the question says more about a row than one of a long answer
_CANDIDATES = 20
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
class Reference:
    """A row of the training split; ``score``: BM25, higher is nearer, comparable within one question only."""

    id: str
    question: str
    answer: str
    topic: str
    source: str
    score: float


class TextIndex:
    """Texts that can be searched, in memory.

    Args:
        rows: the texts of each row, one for each column.
        weights: of the columns; a word in a column of weight 2 counts twice.

    Raises:
        MedqaError: this Python's SQLite has no full-text search.
    """

    def __init__(self, rows: Iterable[Sequence[str]], weights: Sequence[float]) -> None:
        columns = ", ".join(f"c{number}" for number in range(len(weights)))
        self._weights = weights
        self._rank = f"bm25(rows, {', '.join('?' * len(weights))})"
        self._database = sqlite3.connect(":memory:")
        try:
            self._database.execute(f"CREATE VIRTUAL TABLE rows USING fts5({columns}, tokenize = 'porter unicode61')")
        except sqlite3.OperationalError as error:
            raise MedqaError(
                f"searching the data needs a SQLite with FTS5: {error}",
                "use a Python whose SQLite has it; ask works without --sources",
            ) from error
        self._database.executemany(
            f"INSERT INTO rows(rowid, {columns}) VALUES (?, {', '.join('?' * len(weights))})",
            ((number, *texts) for number, texts in enumerate(rows)),
        )

    def search(self, words: Sequence[str], count: int) -> list[tuple[int, float]]:
        """Return the numbers of at most ``count`` rows that hold any of the words, and their BM25, the best first."""
        if not words:
            return []
        found = self._database.execute(
            f"SELECT rowid, {self._rank} FROM rows WHERE rows MATCH ? ORDER BY 2, 1 LIMIT ?",
            (*self._weights, " OR ".join(f'"{word}"' for word in words), count),
        )
        return [(number, -score) for number, score in found]

    def holding(self, words: Sequence[str], numbers: Sequence[int], share: float) -> list[int]:
        """Return those of the rows that hold at least this share of the words, each weighed by its rarity."""
        total, held = 0.0, dict.fromkeys(numbers, 0.0)
        for word in words:
            term = f'"{word}"'
            (num_rows,) = self._database.execute("SELECT count(*) FROM rows WHERE rows MATCH ?", (term,)).fetchone()
            total += (weight := 1 / (1 + num_rows))
            among = f"rowid IN ({', '.join(map(str, numbers))})"
            for (number,) in self._database.execute(f"SELECT rowid FROM rows WHERE rows MATCH ? AND {among}", (term,)):
                held[number] += weight
        return [number for number in numbers if held[number] >= share * total]


class References:
    """The rows of the training split, ready to be searched; paraphrases are left out.

    Args:
        data_dir: the folder that ``medqa convert`` wrote.

    Raises:
        InputError: there is no data.
        MedqaError: this Python's SQLite has no full-text search.
    """

    def __init__(self, data_dir: Path) -> None:
        self._rows = [row for row in iterate_split(data_dir, "train") if not row.paraphrase_of]
        self._index = TextIndex(((row.question, row.answer) for row in self._rows), (_QUESTION_WEIGHT, 1.0))

    def nearest(self, question: str, count: int) -> list[Reference]:
        """Return at most ``count`` rows, the nearest first; none where nothing in the data is close."""
        words = content_words(question)
        scores = dict(self._index.search(words, max(count, _CANDIDATES)))
        references = []
        for number in self._index.holding(words, list(scores), CLOSE)[:count]:
            row = self._rows[number]
            references.append(
                Reference(row.id, row.question, row.answer, row.topic, row.source, round(scores[number], 3))
            )
        return references


def all_words(text: str) -> list[str]:
    """Return the words of a text in lower case, each once, in their order."""
    return list(dict.fromkeys(_WORD.findall(text.lower())))


def content_words(text: str) -> list[str]:
    """Return the words of a text that carry its meaning, in lower case, each once, in their order."""
    return [word for word in all_words(text) if word not in _STOP_WORDS and len(word) > 1]


def unsupported_sentences(answer: str, references: Sequence[Reference]) -> list[str]:
    """Return the sentences of an answer that share too few words with every reference.

    A hint, not a proof: common words are not a common meaning, and a true sentence may use other words.
    """
    known = [{_stem(word) for word in content_words(f"{row.question} {row.answer}")} for row in references]
    unsupported = []
    for start, end in pairwise([0, *sentence_ends(answer)]):
        sentence = answer[start:end].strip()
        words = {_stem(word) for word in content_words(sentence)}
        if words and not any(len(words & reference) >= SUPPORTED * len(words) for reference in known):
            unsupported.append(sentence)
    return unsupported


def _stem(word: str) -> str:
    """Cut off common endings, just enough for ``symptoms`` to equal ``symptom``."""
    for ending in ("ing", "es", "ed", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word


def as_json(references: Sequence[Reference]) -> list[dict[str, Any]]:
    """Return what ``ask --json`` prints under ``sources``."""
    return [asdict(reference) for reference in references]
