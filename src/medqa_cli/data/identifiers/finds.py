"""What a find is, and a text with what all rules need of it."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

KINDS = {
    "name": "names of persons",
    "date": "dates that belong to a person",
    "age": "ages over 89",
    "phone": "phone numbers",
    "fax": "fax numbers",
    "email": "e-mail addresses",
    "profile": "web profiles",
    "address": "addresses and postcodes",
    "record": "record, insurance and social-security numbers",
    "device": "numbers of devices and vehicles",
    "account": "numbers of accounts, cards and licenses",
    "ip": "IP addresses",
}
"""The kinds of identifiers and what they are; most of the 18 of the Safe Harbor rule (45 CFR 164.514(b)(2))."""

LANGUAGES = ("en",)
"""The languages whose wordings the rules know; numbers and addresses of a certain form are found in any."""

SIGNS = str.maketrans(dict.fromkeys("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~’‘“”«»„–—…•\xa0", " "))
_DIGITS = re.compile(r"\d+")
_LONGEST_GAP, _LONG = 3, 5
_SHOUTED_SHARE = 0.7
_SENTENCE_ENDS = re.compile(r"[.!?](?=\s+[^\Wa-z])|\n")


class Span(NamedTuple):
    """A part of one text: characters from ``start`` to before ``end``."""

    start: int
    end: int
    kind: str


class Find(NamedTuple):
    """A part of a row that identifies a person: characters of ``field`` (question or answer), ``end`` excluded."""

    field: str
    start: int
    end: int
    kind: str


PlainFind = tuple[str, int, int, str]
"""The fields of a find, as they are spooled."""


def plain(finds: Iterable[Find]) -> tuple[PlainFind, ...]:
    """Return finds in the form that is spooled."""
    return tuple((find.field, find.start, find.end, find.kind) for find in finds)


@dataclass(frozen=True)
class Text:
    """A text, and what rules ask of it again and again."""

    text: str

    @functools.cached_property
    def lower(self) -> str:
        """The text in small letters, each at the place of the large one."""
        lower = self.text.lower()
        return lower if len(lower) == len(self.text) else "".join(c.lower()[:1] for c in self.text)

    @functools.cached_property
    def words(self) -> frozenset[str]:
        """Its words, in small letters."""
        return frozenset(self.lower.translate(SIGNS).split())

    @functools.cached_property
    def is_shouted(self) -> bool:
        """Whether it is in capitals throughout, so that they tell nothing."""
        if self.text[:60] != self.text[:60].upper():
            return False
        letters = [c for c in self.text[:400] if c.isalpha()]
        return len(letters) > 12 and sum(map(str.isupper, letters)) > _SHOUTED_SHARE * len(letters)

    @functools.cached_property
    def numbers(self) -> list[tuple[int, int]]:
        """The runs of digits: start and end of each."""
        return [found.span() for found in _DIGITS.finditer(self.text)]

    @functools.cached_property
    def _chains(self) -> tuple[int, bool, bool]:
        """The most digits that stand close together, whether three numbers may be a date, whether two have a slash."""
        text, most, total, triple, slash = self.text, 0, 0, False, False
        before, joined = -9, 0
        for start, end in self.numbers:
            gap = text[before:start] if start - before <= _LONGEST_GAP else None
            if gap is not None and not any(c.isalnum() or c == "\n" for c in gap):
                total += end - start
                sign = gap.strip()
                joined = joined + 1 if sign and sign in "/.-–" else 0
                triple, slash = triple or joined >= 2, slash or sign == "/"
            else:
                total, joined = end - start, 0
            most, before = max(most, total), end
        return most, triple, slash

    @property
    def has_long_number(self) -> bool:
        """Whether five digits stand close together somewhere."""
        return self._chains[0] >= _LONG

    @property
    def may_have_dates(self) -> bool:
        """Whether three numbers stand together as in 3/4/1985."""
        return self._chains[1]

    @property
    def has_fractions(self) -> bool:
        """Whether two numbers stand together as in 3/1985."""
        return self._chains[2]

    @functools.cached_property
    def has_code(self) -> bool:
        """Whether a capital stands right behind a digit somewhere, as in codes."""
        return any("A" <= self.text[end : end + 1] <= "Z" for _, end in self.numbers)

    def before(self, place: int, count: int) -> str:
        """Return the characters before a place, in small letters."""
        return self.lower[max(place - count, 0) : place]

    def after(self, place: int, count: int) -> str:
        """Return the characters from a place on, in small letters."""
        return self.lower[place : place + count]

    def sentence(self, start: int, end: int) -> str:
        """Return the sentence or the line around a part, in small letters."""
        ends = [found.end() for found in _SENTENCE_ENDS.finditer(self.text, max(start - 300, 0), start)]
        first = ends[-1] if ends else max(start - 300, 0)
        after = _SENTENCE_ENDS.search(self.text, end, end + 300)
        return self.lower[first : after.start() if after else end + 300]
