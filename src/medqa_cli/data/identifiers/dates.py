"""Dates that belong to a person: with a day, or with a month where words before say what happened to whom.

A year alone stays (45 CFR 164.514(b)(2)(i)(C) leaves it), and so do dates of approvals, laws and publications.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from medqa_cli.data.identifiers.finds import Span
from medqa_cli.data.identifiers.text import Text
from medqa_cli.data.identifiers.word_tables import months
from medqa_cli.resources import load_pattern, load_words, load_yaml

# Each begins with a digit, so that a search passes quickly over all else.
_NUMERIC = re.compile(
    r"(?:(?P<a>\d(?<![\w/.,+-].)\d?)\s?(?P<s>[/.–-])\s?(?P<b>\d{1,2})\s?(?P=s)\s?(?P<y>(?:19|20)\d\d|['’]?\d\d)"
    r"|(?P<iso_y>[12](?<![\w/.,+-].)(?:(?<=1)9|(?<=2)0)\d\d)(?P<t>[/.–-])(?P<iso_m>\d{1,2})(?P=t)(?P<iso_d>\d{1,2}))(?![\w/]|[.,-]\d)"
)
_MONTH_YEAR = re.compile(r"(?P<m>[01](?<![\w/.,+-].)\d?|[2-9](?<![\w/.,+-].))/(?P<y>(?:19|20)\d\d)(?![\w/]|[.,-]\d)")
_DAY_MONTH = re.compile(
    r"(?P<m>[01](?<![\w/.,+-].)\d?|[2-9](?<![\w/.,+-].))/(?P<d>0?[1-9]|[12]\d|3[01])(?![\w/%]|[.,-]\d)"
)
# Forms that other numbers have as well, and so only count where a text is about one person: 12.03.19, 12 03 2019,
# 12Mar2019, 12-Mar-19.
_SPARSE = re.compile(
    r"(?P<a>\d(?<![\w/.,+-].)\d?)(?P<s>[. ])(?P<b>\d{1,2})(?P=s)(?P<y>(?:(?<=\.)\d\d|(?:19|20)\d\d))(?![\w/]|[.,-]\d)"
)
# Names of months that are words of a text more often.
_MAY = re.compile(
    r"(?:[Mm]ay|MAY)(?:\.?,? (?:the )?(?:\d|[a-z-]+(?:st|nd|rd|th)\b)"
    r"|(?:(?<=of .ay)|(?<=OF MAY))\b"
    r"|(?:(?<=\d[ -].{3})|(?<=\d(?:st|nd|rd|th)[ -].{3})|(?<=\d of[ -].{3})|(?<=\d(?:st|nd|rd|th) of[ -].{3}))\b)"
)
_ORDINAL = re.compile(r"\d+(?:st|nd|rd|th)")
_BEFORE_MONTH, _BEHIND_MONTH = 28, 60
_WORD_BEHIND = re.compile(r"[\W_]*([^\W_]+)")
_WORD_BEFORE = re.compile(r"([^\W_]+)[\W_]*$")
_CUE_REACH, _NEAR_CUE_REACH = 60, 30


@dataclass(frozen=True)
class WrittenDate:
    """A date and the places of its parts in the text; a part that is not there is None."""

    start: int
    end: int
    day: tuple[int, int] | None
    month: tuple[int, int]
    year: tuple[int, int] | None


def _has_may(text: Text) -> bool:
    """Tell whether the month of May stands beside a day or a year, and not only the verb."""
    if "may" not in text.tables:
        return False
    place = text.lower.find("may")
    while place >= 0:
        if _MAY.match(text.text, place):
            return True
        place = text.lower.find("may", place + 3)
    return False


def _may_be_of_date(text: Text, start: int, end: int) -> bool:
    """Tell whether a day or a year may stand beside the name of a month, so that the slow pattern is worth its time."""
    behind = _WORD_BEHIND.match(text.lower, end)
    if behind is not None and (behind[1][0].isdecimal() or behind[1] in _beside_months()):
        return True
    before = _WORD_BEFORE.search(text.lower, max(start - _BEFORE_MONTH, 0), start)
    return before is not None and (not before[1].isalpha() or before[1] in _beside_months())


def _month_places(text: Text) -> list[tuple[int, int]]:
    """Return where names of months stand, in the order of the text."""
    places = []
    for name in text.words & months().keys():
        place = text.lower.find(name)
        while place >= 0:
            places.append((place, place + len(name)))
            place = text.lower.find(name, place + len(name))
    return sorted(place for place in places if _may_be_of_date(text, *place))


@functools.cache
def _beside_months() -> frozenset[str]:
    """Return the words that may stand beside a month's name in a date, apart from digits."""
    return frozenset(word for day in ordinals() for word in re.split("[ -]", day)) | load_words(
        "identifiers", "beside_months"
    )


@functools.cache
def _written() -> re.Pattern[str]:
    """Return the pattern of a date whose month is a name."""
    table = load_yaml("identifiers")
    month = "|".join(sorted(months(), key=len, reverse=True))
    day = rf"(?:\d{{1,2}}(?:st|nd|rd|th|er|\.|º|°)?|{'|'.join(sorted(ordinals(), key=len, reverse=True))})"
    year = rf"(?:(?:19|20)\d\d|['’]\d\d|{table['year_in_words']})"
    of = r"(?:\s+(?:of|de|del|di))?"
    return re.compile(
        rf"(?<![\w-])(?:(?:the\s+)?(?P<d1>{day})[\s-]*{of}\s*[-\s]?\s*(?P<m1>{month})\b\.?(?:{of}[\s,/-]+(?:in\s+)?(?P<y1>{year})(?![\w]))?"
        rf"|(?P<m2>{month})\b\.?[\s-]*(?:the\s+)?(?P<d2>{day})(?!\w|\s?(?:%|mg\b|ml\b|-?year)|;\d)(?:\s*,?\s+(?:of\s+)?(?P<y2>{year})(?!\w))?"
        rf"|(?P<m3>{month})\b\.?(?:,|\s+of)?\s+(?P<y3>{year})(?!\w))",
        re.IGNORECASE,
    )


@functools.cache
def _glued() -> re.Pattern[str]:
    """Return the pattern of a date whose month is a name, with marks or nothing between."""
    month = "|".join(sorted(months(), key=len, reverse=True))
    return re.compile(
        rf"(?P<d>\d(?<![\w/.,+-].)\d?)[-./ ]?(?P<m>{month})[-./ ]?(?P<y>(?:19|20)\d\d|\d\d)(?![\w/]|[.,-]\d)"
    )


@functools.cache
def ordinals() -> dict[str, int]:
    """Return the number of each day in words: ``{"first": 1, ..., "thirty-first": 31}``, also with a space."""
    ones = load_yaml("identifiers")["ordinals"].split()
    named = dict(zip(ones, [*range(1, 21), 30], strict=True))
    for tens, number in (("twenty", 20), ("thirty", 30)):
        for ordinal, one in list(zip(ones, range(1, 10), strict=False)):
            if number + one <= 31:
                named |= {f"{tens}{sign}{ordinal}": number + one for sign in "- "}
    return named


def dates_in(text: Text, *, in_any_form: bool = False) -> Iterator[WrittenDate]:
    """Yield all dates of a text, whosever they are; in a form that other numbers have as well only if so asked."""
    patterns = [_NUMERIC] * text.may_have_dates + [_MONTH_YEAR, _DAY_MONTH] * text.has_fractions
    for pattern in (*patterns, *[_SPARSE] * in_any_form):
        for found in text.matches(pattern, 0):
            if (date := _numeric(found)) is not None:
                yield date
    for found in text.matches(_glued(), 0, small=True) if in_any_form else ():
        if 1 <= int(found["d"]) <= 31:
            yield WrittenDate(*found.span(), found.span("d"), found.span("m"), found.span("y"))
    if "months" in text.tables or _has_may(text):
        end = 0
        for start, month_end in _month_places(text):
            written = _written().search(text.text, max(end, start - _BEFORE_MONTH), month_end + _BEHIND_MONTH)
            if written is None or not written.start() <= start < written.end():
                continue
            found, end = written, written.end()
            which = "1" if found["m1"] else "2" if found["m2"] else "3"
            day = None if which == "3" else found.span(f"d{which}")
            year = found.span(f"y{which}") if found[f"y{which}"] else None
            if found[f"m{which}"] == "may" and year is None and not (day and _ORDINAL.match(found[f"d{which}"])):
                continue  # "type 2 may be"
            if day is not None and not 1 <= day_number(found[f"d{which}"]) <= 31:
                continue
            end = max(place[1] for place in (day, year, found.span(f"m{which}")) if place)
            yield WrittenDate(found.start(), end, day, found.span(f"m{which}"), year)


def day_number(written: str) -> int:
    """Return the number of a day that is written in digits or words; 0: it is none."""
    digits = re.match(r"\d+", written)
    if digits:
        return int(digits[0])
    return ordinals().get(re.sub(r"\s+", " ", written.lower()), 0)


def _numeric(found: re.Match[str]) -> WrittenDate | None:
    groups = found.groupdict()
    start, end = found.span()
    if groups.get("iso_y"):
        year, month, day = found.span("iso_y"), found.span("iso_m"), found.span("iso_d")
    elif "a" in groups:
        if found.re is not _SPARSE and len(groups["y"]) < 4 and (groups["s"] == "." or re.search(r"\s", found[0])):
            return None
        first, second = int(groups["a"]), int(groups["b"])
        month_first = second > 12 or (first <= 12 and groups["s"] not in (".", " "))
        month, day = (found.span("a"), found.span("b")) if month_first else (found.span("b"), found.span("a"))
        year = found.span("y")
    elif "y" in groups:
        return WrittenDate(start, end, None, found.span("m"), found.span("y"))
    else:
        return WrittenDate(start, end, found.span("d"), found.span("m"), None)
    text = found.string
    if not (1 <= int(text[slice(*month)]) <= 12 and 1 <= int(text[slice(*day)]) <= 31):
        return None
    return WrittenDate(start, end, day, month, year)


def find_dates(text: Text, *, is_of_person: bool, is_personal: bool = False) -> Iterator[Span]:
    """Yield the dates that belong to a person.

    Args:
        text: the text.
        is_of_person: something else in the row identifies a person: a date with a day then needs no words around it.
        is_personal: the row is about one person: a month with its year needs none either.
    """
    for date in dates_in(text, in_any_form=is_personal):
        if _belongs(text, date, is_of_person=is_of_person or is_personal, is_personal=is_personal):
            yield Span(date.start, date.end, "date")


def _belongs(text: Text, date: WrittenDate, *, is_of_person: bool, is_personal: bool) -> bool:
    before = text.before(date.start, _CUE_REACH)
    near = before[-_NEAR_CUE_REACH:]
    if load_pattern("identifiers", "date_cue").search(near):
        return True
    if is_personal and load_pattern("identifiers", "score_before").search(near):
        return False
    is_fraction = date.year is None and date.month[1] - date.month[0] <= 2
    is_vague = date.day is None or is_fraction
    if is_personal and is_fraction and load_pattern("identifiers", "day_before").search(near):
        return True
    # A month and a year: a cue must say so. 3/4 is something else.
    if (is_vague and (date.year is None or not is_personal)) and (
        date.year is None or not load_pattern("identifiers", "date_cue_before").search(before)
    ):
        return False
    sentence = text.sentence(date.start, date.end)
    has_person = not load_words("identifiers", "persons").isdisjoint(re.findall(r"[^\W\d_]+", sentence))
    if load_pattern("identifiers", "public_date").search(sentence):
        if not load_pattern("identifiers", "self").search(sentence) and not (is_personal and has_person):
            return False
    elif is_personal and (has_person or not is_vague):
        return True
    if is_of_person and not is_vague:
        return True
    return has_person or (
        date.day is not None and load_pattern("identifiers", "date_cue_before").search(before) is not None
    )
