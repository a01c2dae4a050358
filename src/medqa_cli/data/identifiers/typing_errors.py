"""Words before a name as they should be: with a letter twice, missing or swapped with its neighbor, or a space missing.

The rules look at the mended text, and what they find is told by its places in the text as it was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from medqa_cli.data.identifiers.finds import Span
from medqa_cli.data.identifiers.text import Text
from medqa_cli.data.identifiers.word_tables import glue_words, mistyped_words

_WORD = re.compile(r"[^\W\d_]{4,}")
_LONGEST, _LONGEST_MAIL = 4_000, 30


class Mended(NamedTuple):
    """A text without typing errors, and for each change its start and end there and in the text as it was written."""

    text: Text
    changes: tuple[tuple[int, int, int, int], ...]

    def written(self, span: Span) -> Span:
        """Return where a part of the mended text stands in the text as it was written."""
        return span._replace(start=self._place(span.start, is_end=False), end=self._place(span.end, is_end=True))

    def _place(self, place: int, *, is_end: bool) -> int:
        shift = 0
        for start, end, written_start, written_end in self.changes:
            if place < start or (is_end and place <= start):
                break
            if place < end:
                return written_end if is_end else written_start
            shift = written_end - end
        return place + shift


def _glued(text: Text) -> Iterator[int]:
    """Yield where a space is missing between a mark and a name: dr.Lee."""
    lower = text.lower
    for word in text.words & glue_words():
        for mark in ".,!:":
            place = lower.find(word + mark)
            while place >= 0:
                end = place + len(word) + 1
                is_word = place == 0 or not (lower[place - 1].isalnum() or lower[place - 1] in "@/.-")
                if is_word and lower[end : end + 2].isalpha() and "@" not in lower[end : end + _LONGEST_MAIL]:
                    yield end
                place = lower.find(word + mark, end)


def mended(text: Text) -> Mended:
    """Return a text without typing errors in words that stand before names; the text itself where it has none."""
    has_errors = "mistyped_words" in text.tables
    edits = []
    if "glue_words" in text.tables and len(text.text) <= _LONGEST:
        edits += [(place, place, " ") for place in _glued(text)]
    if has_errors:
        for found in _WORD.finditer(text.lower):
            if right := mistyped_words().get(found[0]):
                edits.append((found.start(), found.end(), _in_case(right, text.text[found.start() : found.end()])))
    if not edits:
        return Mended(text, ())
    pieces, changes, taken, length = [], [], 0, 0
    for start, end, right in sorted(edits):
        pieces += [text.text[taken:start], right]
        length += start - taken
        changes.append((length, length + len(right), start, end))
        length, taken = length + len(right), end
    return Mended(Text("".join(pieces) + text.text[taken:]), tuple(changes))


def _in_case(right: str, written: str) -> str:
    if written.isupper():
        return right.upper()
    return right.capitalize() if written[0].isupper() else right
