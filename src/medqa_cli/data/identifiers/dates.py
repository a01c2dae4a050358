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

# Each begins with a digit, so that a search passes quickly over all else; what must not stand before it is looked at
# behind it.
_START = r"(?<![\w/,+-].)(?<!\d\..)"
_END = r"(?![\w/]|[.,-]\d)"
_NUMERIC = re.compile(
    rf"(?:(?P<a>\d{_START}\d?)\s?(?P<s>[/.–-])\s?(?P<b>\d{{1,2}})\s?(?P=s)\s?(?P<y>(?:19|20)\d\d|['’]?\d\d)"
    rf"|(?P<iso_y>[12]{_START}(?:(?<=1)9|(?<=2)0)\d\d)(?P<t>[/.–-])(?P<iso_m>\d{{1,2}})(?P=t)(?P<iso_d>\d{{1,2}})){_END}"
)
_MONTH = rf"(?P<m>[01]{_START}\d?|[2-9]{_START})"
_MONTH_YEAR = re.compile(rf"{_MONTH}/(?P<y>(?:19|20)\d\d){_END}")
_DAY_MONTH = re.compile(rf"{_MONTH}/(?P<d>0?[1-9]|[12]\d|3[01])(?![\w/%]|[.,-]\d)")
# Forms that other numbers have as well, and so only count where a text is about one person: 12.03.19, 12 03 2019, 28/3,
# 28.3., 03.2019, 2019-03, 20190312.
_YEAR = rf"(?P<y>[12]{_START}(?:(?<=1)9|(?<=2)0)\d\d)"
_SPARSE = tuple(
    re.compile(form)
    for form in (
        rf"(?P<a>\d{_START}\d?)(?P<s>[. ])(?P<b>\d{{1,2}})(?P=s)\s?(?P<y>(?:(?<=\.)\d\d|(?:19|20)\d\d)){_END}",
        rf"(?P<d>[123]{_START}\d)/(?P<m>0?[1-9]|1[0-2])(?![\w/%]|[.,-]\d)",
        rf"(?P<d>\d{_START}\d?)\.\s?(?P<m>\d{{1,2}})\.(?![\w/%]|[.,-]\d)",
        rf"(?P<m>\d{_START}\d?)[.-](?P<y>(?:19|20)\d\d){_END}",
        rf"{_YEAR}-(?P<m>0[1-9]|1[0-2]){_END}",
        rf"{_YEAR}(?P<m>0[1-9]|1[0-2])(?P<d>[0-2]\d|3[01]){_END}",
    )
)
# Names of months that are words of a text more often.
_MAY = re.compile(
    r"(?:[Mm]ay|MAY)(?:\.?,? (?:the |of )?(?:\d|[a-z-]+(?:st|nd|rd|th)\b)"
    r"|(?:(?<=of .ay)|(?<=OF MAY))\b"
    r"|(?:(?<=\d[ -].{3})|(?<=\d(?:st|nd|rd|th)[ -].{3})|(?<=\d of[ -].{3})|(?<=\d(?:st|nd|rd|th) of[ -].{3}))\b)"
)
_ENGLISH = frozenset(("due", "once", "six", "seize", "dos"))
_ORDINAL = re.compile(r"\d+(?:st|nd|rd|th)")
_BEFORE_MONTH, _BEHIND_MONTH = 28, 60
_WORD_BEHIND = re.compile(r"[\W_]*([^\W_]+)")
_WORD_BEFORE = re.compile(r"([^\W_]+)[\W_]*$")
_CUE_REACH, _NEAR_CUE_REACH, _LONGEST_WEEKDAY = 60, 30, 16


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
    days = (*ordinals(), *_foreign_days())
    words = frozenset(word for day in days for word in re.split("[ -]", day))
    return words | load_words("identifiers", "beside_months")


@functools.cache
def _written(in_any_form: bool) -> re.Pattern[str]:
    """Return the pattern of a date whose month is a name, with days in words of one language or of any."""
    table = load_yaml("identifiers")
    month = "|".join(sorted(months(), key=len, reverse=True))
    days = [*ordinals(), *(_foreign_days() if in_any_form else ())]
    day = rf"(?:\d{{1,2}}(?:st|nd|rd|th|er|\.|º|°)?|{'|'.join(sorted(days, key=len, reverse=True))})"
    year = rf"(?:(?:19|20)\d\d|['’]\d\d|{r'(?<=-)[0-9]{2}|' * in_any_form}{table['year_in_words']})"
    of = r"(?:\s+(?:of|de|del|di|do))?"
    return re.compile(
        rf"(?:(?<![\w-])|(?<=mid-)|(?<=early-)|(?<=late-))(?:(?:the\s+)?(?P<d1>{day})[\s-]*{of}\s*[-\s]?\s*(?P<m1>{month})\b\.?(?:{of}[\s,/-]+(?:in\s+)?(?P<y1>{year})(?![\w]))?"
        rf"|(?P<m2>{month})\b\.?[\s-]*(?:the\s+)?(?P<d2>{day})(?!\w|\s?(?:%|mg\b|ml\b|-?year)|;\d)(?:\s*,?\s+(?:of\s+)?(?P<y2>{year})(?!\w))?"
        rf"|(?P<m3>{month})\b\.?(?:,|\s+of)?\s+(?P<y3>{year})(?!\w))",
        re.IGNORECASE,
    )


@functools.cache
def _glued() -> re.Pattern[str]:
    """Return the pattern of a date whose month is a name, with marks or nothing between."""
    month = "|".join(sorted(months(), key=len, reverse=True))
    return re.compile(
        rf"(?P<d>\d(?<![\w/,+-].)(?<!\d\..)\d?)[-./ ]?(?P<m>{month})[-./ ]?(?P<y>(?:19|20)\d\d|\d\d)(?![\w/]|[.,-]\d)"
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


@functools.cache
def _foreign_days() -> dict[str, int]:
    """Return the number of each day in words of other languages: ``{"ersten": 1, "erste": 1, "premier": 1, ...}``.

    Words that English has as well (due, once, six) are not among them.
    """
    named: dict[str, int] = {}
    for language, words in load_yaml("identifiers")["days_in_words"].items():
        for number, word in enumerate(words.split(), 1):
            named |= dict.fromkeys((word, word[:-1], f"{word[:-1]}r") if language == "de" else (word,), number)
    return {word: number for word, number in named.items() if word not in _ENGLISH}


def dates_in(text: Text, *, in_any_form: bool = False) -> Iterator[WrittenDate]:
    """Yield all dates of a text, whosever they are; in a form that other numbers have as well only if so asked."""
    patterns = [_NUMERIC] * text.may_have_dates + [_MONTH_YEAR, _DAY_MONTH] * text.has_fractions
    for pattern in (*patterns, *_SPARSE * in_any_form):
        for found in text.matches(pattern, 0):
            if (date := _numeric(found)) is not None:
                yield date
    for found in text.matches(_glued(), 0, small=True) if in_any_form else ():
        if 1 <= int(found["d"]) <= 31:
            yield WrittenDate(*found.span(), found.span("d"), found.span("m"), found.span("y"))
    if "months" in text.tables or _has_may(text):
        end = 0
        for start, month_end in _month_places(text):
            first = max(end, start - _BEFORE_MONTH)
            written = _written(in_any_form).search(text.text, first, month_end + _BEHIND_MONTH)
            if written is None or not written.start() <= start < written.end():
                continue
            found, end = written, written.end()
            which = "1" if found["m1"] else "2" if found["m2"] else "3"
            day = None if which == "3" else found.span(f"d{which}")
            year = found.span(f"y{which}") if found[f"y{which}"] else None
            if found[f"m{which}"] == "may" and year is None and not (day and _ORDINAL.match(found[f"d{which}"])):
                on = load_pattern("identifiers", "day_surely_before").search(text.before(found.start(), 12))
                ends = found[0].endswith(".") or not text.text[found.end() : found.end() + 1].isspace()
                if not (on and which == "1" and ends):
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
    word = re.sub(r"\s+", " ", written.lower())
    return ordinals().get(word) or _foreign_days().get(word, 0)


def _numeric(found: re.Match[str]) -> WrittenDate | None:
    groups = found.groupdict()
    start, end = found.span()
    day: tuple[int, int] | None
    year: tuple[int, int] | None
    if groups.get("iso_y"):
        year, month, day = found.span("iso_y"), found.span("iso_m"), found.span("iso_d")
    elif "a" in groups:
        if found.re is _NUMERIC and len(groups["y"]) < 4 and (groups["s"] == "." or re.search(r"\s", found[0])):
            return None
        first, second = int(groups["a"]), int(groups["b"])
        month_first = second > 12 or (first <= 12 and groups["s"] not in (".", " "))
        month, day = (found.span("a"), found.span("b")) if month_first else (found.span("b"), found.span("a"))
        year = found.span("y")
    else:
        day, year = (found.span(part) if part in groups else None for part in "dy")
        month = found.span("m")
        if day and found.re is _DAY_MONTH and int(found["m"]) > 12:  # 14/3
            day, month = month, found.span("d")
    text = found.string
    if not (1 <= int(text[slice(*month)]) <= 12 and (day is None or 1 <= int(text[slice(*day)]) <= 31)):
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
            first = max(date.start - _LONGEST_WEEKDAY, 0)
            weekday = load_pattern("identifiers", "weekday_before").search(text.lower, first, date.start)
            yield Span(weekday.start() if weekday else date.start, date.end, "date")


def _belongs(text: Text, date: WrittenDate, *, is_of_person: bool, is_personal: bool) -> bool:
    before = text.before(date.start, _CUE_REACH)
    near = before[-_NEAR_CUE_REACH:]
    if load_pattern("identifiers", "public_date_before").search(near):
        return False
    if load_pattern("identifiers", "date_cue").search(near):
        return True
    written = text.text[date.start : date.end]
    if (
        written.isdecimal()
        or written == "24/7"
        or (is_personal and load_pattern("identifiers", "score_before").search(near))
    ):
        return False
    is_fraction = date.year is None and date.month[1] - date.month[0] <= 2
    is_vague = date.day is None or is_fraction
    if is_personal and is_fraction:
        with_point = written[-1] == "." and load_pattern("identifiers", "day_with_point_before").search(near)
        cue = "day_surely_before" if written.endswith("/10") else "day_before"  # Sunday: 7/10
        if load_pattern("identifiers", "no_day_behind").match(text.lower, date.end):
            return False
        if with_point or load_pattern("identifiers", cue).search(near):
            return True
    # A month and a year: a cue must say so. 3/4 is something else.
    if (is_vague and (date.year is None or not is_personal)) and (
        date.year is None or not load_pattern("identifiers", "date_cue_before").search(before)
    ):
        return False
    sentence = text.sentence(date.start, date.end)
    has_person = not load_words("identifiers", "persons").isdisjoint(re.findall(r"[^\W\d_]+", sentence))
    table = "surely_public_date" if is_personal and date.day else "public_date"
    if load_pattern("identifiers", table).search(sentence):
        if not load_pattern("identifiers", "self").search(sentence) and not (is_personal and has_person):
            return False
    elif is_personal:
        return True
    if is_of_person and not is_vague:
        return True
    return has_person or (
        date.day is not None and load_pattern("identifiers", "date_cue_before").search(before) is not None
    )
