"""The words of an index of passages as SQLite stems them, and how many passages hold each."""

import math
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property

from medqa_cli.data.languages import UNKNOWN, language_of
from medqa_cli.resources import load_yaml

TOKENIZER = "porter unicode61"
_LEAST_PART = 4  # letters of a part of a compound
_LOOKED_AT = 100  # passages whose language is told
_LEAST_SHARE = 0.1  # of them, in a language that the index holds
_LEAST_ROOT = 3  # letters of a word before an ending that is cut off
_LINKS = ("", "s", "es", "n", "en", "er", "e")  # between the parts: "Geburtstag"


def count_words(database: sqlite3.Connection) -> None:
    """Write down how many titles and how many passages hold each stem: FTS5 itself counts them anew each time."""
    database.execute("CREATE TABLE frequencies(stem TEXT PRIMARY KEY, titles INTEGER, passages INTEGER) WITHOUT ROWID")
    for table in ("words", "titles"):
        database.execute(f"CREATE VIRTUAL TABLE temp.{table}_stems USING fts5vocab(main, {table}, row)")
    database.execute(
        "INSERT INTO frequencies SELECT term, coalesce(titles_stems.doc, 0), words_stems.doc "
        "FROM words_stems LEFT JOIN titles_stems USING (term)"
    )
    for table in ("words", "titles"):
        database.execute(f"DROP TABLE temp.{table}_stems")


class Vocabulary:
    """Stems and weights of words; what was looked up once is kept.

    Args:
        database: with the table that ``count_words`` writes.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._stems: dict[str, str] = {}
        self._counts: dict[str, tuple[int, int]] = {}
        self._weights: dict[str, float] = {}
        database.execute("PRAGMA temp_store = MEMORY")
        database.execute(f"CREATE VIRTUAL TABLE temp.given USING fts5(word, tokenize = '{TOKENIZER}')")
        database.execute("CREATE VIRTUAL TABLE temp.given_stems USING fts5vocab(temp, given, instance)")
        (self._num_passages,) = database.execute("SELECT coalesce(max(number), 0) FROM passages").fetchone()

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """The languages that a tenth or more of the passages are in (ISO 639-1), the commonest first."""
        numbers = range(1, self._num_passages + 1, max(1, self._num_passages // _LOOKED_AT))
        texts = self._database.execute(
            "SELECT title || '\n' || substr(text, 1, 600) FROM passages "
            f"WHERE number IN ({', '.join(map(str, numbers))}) AND typeof(title) = 'text' AND typeof(text) = 'text'"
        )
        told = Counter(language_of(text) for (text,) in texts)
        del told[UNKNOWN]
        return tuple(code for code, count in told.most_common() if count >= _LEAST_SHARE * told.total())

    def stems(self, words: Sequence[str]) -> set[str]:
        """Return the stems of words, as the index has them."""
        if new := [word for word in words if word not in self._stems]:
            self._database.executemany("INSERT INTO temp.given(rowid, word) VALUES (?, ?)", enumerate(new))
            pieces: dict[int, list[str]] = {}
            for number, stem in self._database.execute("SELECT doc, term FROM temp.given_stems ORDER BY doc, offset"):
                pieces.setdefault(number, []).append(stem)
            self._database.execute("DELETE FROM temp.given")
            self._stems |= {
                word: " ".join(map(self._root, pieces.get(number, [word]))) for number, word in enumerate(new)
            }
        return {self._stems[word] for word in words}

    def stem(self, word: str) -> str:
        """Return the stem of a word."""
        (stem,) = self.stems([word])
        return stem

    def parts(self, word: str) -> list[str]:
        """Return the two words of the index that a word is made of which it does not have, else the word itself.

        So a question about a "Gichtanfall" finds what is said of "Gicht" and "Anfall".
        """
        if self.num_passages(self.stem(word)):
            return [word]
        for end in range(len(word) - _LEAST_PART, _LEAST_PART - 1, -1):
            for link in _LINKS:
                first, last = word[:end].removesuffix(link), word[end:]
                is_linked = len(first) == end - len(link) >= _LEAST_PART
                if is_linked and all(self.num_passages(self.stem(part)) for part in (first, last)):
                    return [first, last]
        return [word]

    def num_titles(self, stem: str) -> int:
        """Return how many titles hold the stem."""
        return self._count(stem)[0]

    def num_passages(self, stem: str) -> int:
        """Return how many passages hold the stem."""
        return self._count(stem)[1]

    def weight(self, stems: Iterable[str]) -> float:
        """Return how much stems say together, whatever their order: the rarer, the more."""
        stems = list(stems)
        for stem in stems:
            if stem not in self._weights:
                self._weights[stem] = math.log(1 + self._num_passages / (1 + self.num_passages(stem)))
        return math.fsum(self._weights[stem] for stem in stems)

    def query(self, word: str) -> str:
        """Return the query of FTS5 for the passages that may hold a word, or another form of it."""
        stem = self.stem(word)
        if self._endings is None or " " in stem:
            return f'"{word}"'
        return " OR ".join(f'"{spelling}"*' for spelling in self._spellings(stem))

    def _count(self, stem: str) -> tuple[int, int]:
        if stem not in self._counts:
            counts = [
                counts
                for spelling in self._spellings(stem)
                for other, *counts in self._database.execute(
                    "SELECT stem, titles, passages FROM frequencies WHERE stem BETWEEN ? AND ?",
                    (spelling, spelling if self._endings is None else f"{spelling}\U0010ffff"),
                )
                if self._root(other) == stem
            ]
            self._counts[stem] = (sum(titles for titles, _ in counts), sum(passages for _, passages in counts))
        return self._counts[stem]

    @cached_property
    def _endings(self) -> re.Pattern[str] | None:
        """Those of the language that most passages are in; None: English, which SQLite's stemmer knows, or unknown."""
        endings = load_yaml("word_endings").get(next(iter(self.languages), ""))
        return None if endings is None else re.compile(rf"(?<=\w{{{_LEAST_ROOT}}})(?:{'|'.join(endings.split())})\Z")

    def _root(self, stem: str) -> str:
        """Return a stem without the endings of the passages' language; "œil" and "oeil" are one word."""
        return stem if self._endings is None else self._endings.sub("", stem.replace("œ", "oe"))

    def _spellings(self, root: str) -> Iterable[str]:
        return dict.fromkeys((root, root.replace("oe", "œ"))) if self._endings is not None else (root,)
