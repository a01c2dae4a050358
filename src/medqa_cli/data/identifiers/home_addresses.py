"""Addresses that words around tell, whatever the street is called: behind "lives at", a person's name, a code."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from medqa_cli.data.identifiers.finds import Span
from medqa_cli.data.identifiers.name_forms import is_common
from medqa_cli.data.identifiers.text import Text
from medqa_cli.data.identifiers.word_tables import common_words
from medqa_cli.resources import load_pattern, load_words

FLAT_BEFORE = re.compile(
    r"(?<![\w-])(?:flat|unit|studio|level|plot(?: no\.?)?|house no\.?|door no\.?|h\.?\s?no\.?)\s?\Z"
)
"""What may stand before the number of a house."""
_CUE_REACH, _TOWN_REACH, _SHORTEST, _CODE = 60, 30, 7, 5
_CODED_TOWN = re.compile(r"(?:D|CH|A|F|NL|B|SE|DK)-\d{4,5}\s[A-ZÀ-Þ][\w-]+(?:\s(?:am|an der|im)\s[A-Z]\w+)?")
_TOWN_WITH_CODE = re.compile(r"\d{5}\s[A-ZÀ-Þ][\w-]{2,}(?:\s(?:am|an der|im|sur|la|le)\s[A-Z]\w+)?")
_BEFORE_TOWN = re.compile(
    r"\b(?:wohn\w*(?: in)?|str\w*\.? \w+ in|aus|nach|habite|vivo en|abito a|woon in|mieszkam w)\s$"
)
_STREET_REACH = 48
_STREET_BEFORE = re.compile(
    r"(?<![\w-])((?:(?:ul|al|os|pl|[Cc]alle|[Vv]ia|[Rr]ua)\.?\s)?(?:[A-ZÀ-Þ][\w'’.-]+,?\s){1,4})\Z"
)
_NUMBER_REST = re.compile(r"\s?[a-z]?(?:[/-]\d{1,4})?(?![\w.])")
# One of these stands just before, but for the words of a flat.
_LAST_WORDS = frozenset(("at", "on", "to", "from", "of", "in", "am", "is", "address", "au", "en", "der", "up", "home"))
_LETTERS = re.compile(r"[^\W\d_]{2,}")


def town_behind(text: Text, end: int) -> re.Match[str] | None:
    """Return the town behind a street, if one stands there."""
    found = load_pattern("identifiers", "town_behind", re.NOFLAG).match(text.text, end)
    return found if found and _is_place(found[0]) else None


def _is_place(value: str) -> bool:
    """Tell whether an address does not begin with a common word or the name of a month."""
    words = _LETTERS.findall(value.lower())
    return bool(words) and words[0] not in load_words("identifiers", "common", "months_and_days")


@functools.cache
def _no_streets() -> frozenset[str]:
    """Return the words that are no street with a number behind them: Room 12, Ward 3."""
    return common_words() | load_words("identifiers", "ambiguous")


def _is_street(text: Text, value: str) -> bool:
    """Tell whether the words before a number are no other thing that has one (Room 12), and no code (SVNR 2057)."""
    first = value.split()[0]
    return (text.is_shouted or not first.isupper()) and first.lower() not in _no_streets() and _is_place(value)


def address_behind(text: Text, name: Span) -> Span | None:
    """Return the address behind the name of a person: Anna Lee, 33 Rebecca Byway, 2641."""
    if not text.numbers:
        return None
    found = load_pattern("identifiers", "street_behind_name", re.NOFLAG).match(text.text, name.end)
    if found is None or not (_is_street(text, found[2]) if found[2] else _is_place(found[1])):
        return None
    if load_pattern("identifiers", "no_street_behind_name", re.NOFLAG).match(found[1]):
        return None
    if load_pattern("identifiers", "public_body").search(text.after(found.end(), _CUE_REACH)):
        return None
    return Span(*found.span(1), "address")


def _may_be_street(value: str) -> bool:
    """Tell whether a number with words is no amount: a mark is inside, or a word of streets, or one that is no word."""
    words = _LETTERS.findall(value)
    streets = load_words("identifiers", "street_words", "foreign_street_words")
    return "," in value or not streets.isdisjoint(words) or not all(map(is_common, words))


def at_home(text: Text) -> Iterator[tuple[int, int]]:
    """Yield what begins with the number of a house behind "lives at" and the like, up to a mark."""
    for start, _ in text.numbers:
        before = text.before(start, 24).split()
        if not before or not (before[-1].endswith(":") or _LAST_WORDS.intersection(before[-3:])):
            continue
        flat = FLAT_BEFORE.search(text.lower, max(start - 10, 0), start)
        first = flat.start() if flat else start
        if not load_pattern("identifiers", "at_home").search(text.before(first, _CUE_REACH)):
            continue
        if load_pattern("identifiers", "no_street").match(text.lower, start):
            continue
        found = load_pattern("identifiers", "any_street").match(text.lower, start)
        if found is not None and found.end() - start >= _SHORTEST and _may_be_street(found[0]):
            yield first, found.end()


def streets_before_numbers(text: Text) -> Iterator[tuple[int, int]]:
    """Yield streets whose number stands behind them, behind "lives at" and the like: Wohlgemutring 3."""
    for start, end in text.numbers:
        word = text.text.rfind(" ", 0, max(start - 1, 0)) + 1
        if word >= start - 2 or not text.text[word].isupper() or not text.text[start - 1].isspace():
            continue
        street = _STREET_BEFORE.search(text.text, max(start - _STREET_REACH, 0), start)
        if street is None or not _is_street(text, street[1]):
            continue
        if load_pattern("identifiers", "at_home").search(text.before(street.start(), _CUE_REACH)):
            rest = _NUMBER_REST.match(text.text, end)
            yield street.start(1), rest.end() if rest else end


def coded_towns(text: Text) -> Iterator[tuple[int, int]]:
    """Yield towns with the code before them: D-79106 Freiburg, and behind "wohne in" without the country."""
    for start, end in text.numbers:
        if text.text[start - 1 : start] == "-":
            for back in (2, 3):
                coded = _CODED_TOWN.match(text.text, start - back) if start >= back else None
                if coded and not text.text[max(start - back - 1, 0) : start - back].isalnum():
                    yield coded.span()
        elif (
            end - start == _CODE
            and (town := _TOWN_WITH_CODE.match(text.text, start))
            and _BEFORE_TOWN.search(text.before(start, _TOWN_REACH))
        ):
            yield town.span()
