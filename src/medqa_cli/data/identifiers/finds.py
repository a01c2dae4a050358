"""What a find is, and of which kinds there are."""

from __future__ import annotations

from collections.abc import Iterable
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


class Span(NamedTuple):
    """A part of one text: characters from ``start`` to before ``end``."""

    start: int
    end: int
    kind: str

    def touches(self, other: Span) -> bool:
        """Tell whether the two have a character in common."""
        return self.start < other.end and other.start < self.end

    def is_part_of(self, other: Span) -> bool:
        """Tell whether all of this lies in the other, which has more."""
        return other.start <= self.start and self.end <= other.end and other[:2] != self[:2]


class Find(NamedTuple):
    """A part of a row that identifies a person: characters of ``field`` (question or answer), ``end`` excluded.

    ``by_model``: the rules alone do not find it, or not all of it.
    """

    field: str
    start: int
    end: int
    kind: str
    by_model: bool = False


PlainFind = tuple[str, int, int, str, bool]
"""The fields of a find, as they are spooled."""


def plain(finds: Iterable[Find]) -> tuple[PlainFind, ...]:
    """Return finds in the form that is spooled."""
    return tuple((*find,) for find in finds)
