"""Dates as people write them, whosever they are: where each part of one stands, so that it can be moved."""

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass

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
# 28.3., 8-14, 03.2019, 2019-03, 20190312; 12.-14.5.2019, 12/5-14/5; a Roman month, a Chinese or a Vietnamese date.
_YEAR = rf"(?P<y>[12]{_START}(?:(?<=1)9|(?<=2)0)\d\d)"
ROMAN = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi", "xii")
_SPARSE = tuple(
    re.compile(form)
    for form in (
        rf"(?P<d>\d{_START}\d?)\.?\s?[-–/]\s?(?P<d2>\d\d?)\.(?P<m>\d\d?)\.(?P<y>(?:(?:19|20)\d\d|\d\d(?!\d))?){_END}",
        rf"(?P<m>\d{_START}\d?)/(?P<d>\d\d?)(?=[-–]\d\d?/\d\d?(?![\w/]|[.,-]\d))",
        r"(?P<m>\d(?:(?<=/\d[-–].)|(?<=/\d\d[-–].))\d?)/(?P<d>\d\d?)(?![\w/]|[.,-]\d)",
        rf"(?P<a>\d{_START}\d?)(?P<s>[. ])(?P<b>\d{{1,2}})(?P=s)\s?(?P<y>(?:(?<=\.)\d\d|(?:19|20)\d\d)){_END}",
        rf"(?P<a>\d{_START}\d?)(?P<s>[/.-])(?P<b>\d{{1,2}})(?P=s)(?P<y>(?:19|20)\d\d)(?=[^\W\d_])",
        rf"{_YEAR}(?P<t>[/.-])(?P<m>\d\d)(?P=t)(?P<d>\d\d)(?=[^\W\d_])",
        rf"(?P<d>[123]{_START}\d)/(?P<m>0?[1-9]|1[0-2])(?![\w/%]|[.,-]\d)",
        rf"(?P<d>\d{_START}\d?)\.\s?(?P<m>\d{{1,2}})\.(?![\w/%]|[.,-]\d)",
        rf"(?P<m>\d{_START}\d?)[.-](?P<y>(?:19|20)\d\d){_END}",
        rf"(?P<m>\d{_START}\d?)-(?P<d>0?[1-9]|[12]\d|3[01])(?![\w/%]|[.,-]\d)",
        rf"{_YEAR}-(?P<m>0[1-9]|1[0-2]){_END}",
        rf"{_YEAR}(?P<m>0[1-9]|1[0-2])(?P<d>[0-2]\d|3[01]){_END}",
        rf"(?P<d>\d{_START}\d?)(?P<t>[./-]\s?|\s)(?P<m>(?i:x(?:i{{1,2}})?|ix|iv|vi{{0,3}}|i{{1,3}}))(?P=t)(?P<y>(?:19|20)\d\d"
        rf"|(?<=[./-])\d\d){_END}",
        rf"{_YEAR}[年년]\s?(?P<m>\d\d?)[月월]\s?(?P<d>\d\d?)[日일号]",
        rf"(?P<m>\d{_START}\d?)[月월]\s?(?P<d>\d\d?)[日일号]",
        rf"(?P<d>\d{_START}\d?)\s(?i:tháng)\s(?P<m>\d\d?)(?:(?:,?\snăm\s|[/,-]\s?)(?P<y>(?:19|20)\d\d))?(?!\d)",
    )
)
_DAYS = r"\d{1,2}(?:st|nd|rd|th|\.)?"
_DAY_BEFORE = re.compile(
    rf"(?<![\w.,/:+-])(?P<d>{_DAYS})\s?(?:[-–—/&]|(?:to|and|or|und|bis|et|au|y|al|e|a|tot|en|do)(?=\s))\s?(?:the\s)?\Z",
    re.IGNORECASE,
)
_DAY_BEHIND = re.compile(
    r"\s?(?:[-–—]\s?(?:the\s)?(?P<d>\d{1,2}(?:st|nd|rd|th)?)|(?:to|and|or|&)\s(?:the\s)?(?P<e>\d{1,2}(?:st|nd|rd|th)))"
    r"(?:,?\s(?P<y>(?:19|20)\d\d))?(?![\w/:%]|[.,-]\d)",
    re.IGNORECASE,
)
_LONGEST_DAY_BEFORE = 16
# Names of months that are words of a text more often.
_MAY = re.compile(
    r"(?:[Mm]ay|MAY)(?:\.?,? (?:the |of |['’](?=\d\d\b))?(?:\d|[a-z-]+(?:st|nd|rd|th)\b)"
    r"|(?:(?<=of .ay)|(?<=OF MAY))\b"
    r"|(?:(?<=\d[ -].{3})|(?<=\d(?:st|nd|rd|th)[ -].{3})|(?<=\d of[ -].{3})|(?<=\d(?:st|nd|rd|th) of[ -].{3}))\b)"
)
_ENGLISH = frozenset(("due", "once", "six", "seize", "dos"))
_ORDINAL = re.compile(r"\d+(?:st|nd|rd|th)")
_BEFORE_MONTH, _BEHIND_MONTH = 28, 60
_WORD_BEHIND = re.compile(r"[\W_]*([^\W_]+)")
_WORD_BEFORE = re.compile(r"([^\W_]+)[\W_]*$")


@dataclass(frozen=True)
class WrittenDate:
    """A date and the places of its parts in the text; a part that is not there is None.

    ``others`` are other days of the same month: 12 to 14 May.
    """

    start: int
    end: int
    day: tuple[int, int] | None
    month: tuple[int, int]
    year: tuple[int, int] | None
    others: tuple[tuple[int, int], ...] = ()


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
    gap = r"\s?" * in_any_form
    day = rf"(?:\d{{1,2}}(?:{gap}(?:st|nd|rd|th)\b|er|\.|º|°)?|{'|'.join(sorted(days, key=len, reverse=True))})"
    year = rf"(?:(?:19|20)\d\d|['’]\d\d|{r'(?<=-)[0-9]{2}|' * in_any_form}{table['year_in_words']})"
    of = rf"(?:\s+(?:of|de{'l?' * in_any_form}|del|di|do))?"
    year_first = rf"(?P<y4>(?:19|20)\d\d)[.,]?[\s-](?P<m4>{month})\b\.?[\s-](?P<d4>{day})(?!\w)|" * in_any_form
    alone = r"(?:(?:,|\s+(?:of|del?))?\s+|\s?[-/]\s?)" if in_any_form else r"(?:,|\s+of)?\s+"
    behind_range = r"(?<=\d-)|" * in_any_form
    behind_day = r"\s*,?\s*" if in_any_form else r"\s*,?\s+"
    return re.compile(
        rf"(?:(?<![\w-])|{behind_range}(?<=mid-)|(?<=early-)|(?<=late-))(?:{year_first}"
        rf"(?:the\s+)?(?P<d1>{day})[\s-]*{of}\s*[-\s]?\s*(?P<m1>{month})\b\.?(?:{of}[\s,/-]+(?:in\s+)?(?P<y1>{year})(?![\w]))?"
        rf"|(?P<m2>{month})\b\.?[\s-]*(?:the\s+)?(?P<d2>{day})(?!\w|\s?(?:%|mg\b|ml\b|-?year)|;\d)"
        rf"(?:{behind_day}(?:of\s+)?(?P<y2>{year})(?!\w))?"
        rf"|(?P<m3>{month})\b\.?{alone}(?P<y3>{year})(?!\w))",
        re.IGNORECASE,
    )


@functools.cache
def _glued() -> tuple[re.Pattern[str], ...]:
    """Return the patterns of a date whose month is a name, with marks or nothing between: 3.Mar.19, 12MAY."""
    month = "|".join(sorted(months(), key=len, reverse=True))
    day = r"(?P<d>\d(?<![\w/,+-].)(?<!\d\..)\d?(?:st|nd|rd|th)?)"
    return (
        re.compile(rf"{day}[-./ ]?(?P<m>{month})[-./ ]?(?P<y>(?:19|20)\d\d|\d\d)(?![\w/]|[.,-]\d)"),
        re.compile(rf"{day}(?P<m>{month})(?P<y>)(?![\w/-]|[.,]\d)"),
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


def may_have_dates(text: Text) -> bool:
    """Tell whether a text may have a date in a form that no other numbers have."""
    return text.has_fractions or text.may_have_dates or _has_month(text)


def dates_in(text: Text, *, in_any_form: bool = False) -> Iterator[WrittenDate]:
    """Yield all dates of a text, whosever they are; in a form that other numbers have as well only if so asked."""
    for date in (*_of_numbers(text, in_any_form), *_of_names(text, in_any_form)):
        yield _with_other_days(text, date) if in_any_form else date


def _of_numbers(text: Text, in_any_form: bool) -> Iterator[WrittenDate]:
    """Yield the dates that begin with a number, but those whose month is a name with a space before or behind it."""
    patterns = [_NUMERIC] * text.may_have_dates + [_MONTH_YEAR, _DAY_MONTH] * text.has_fractions
    for pattern in (*patterns, *_SPARSE * in_any_form):
        for found in text.matches(pattern, 0):
            if (date := _numeric(found)) is not None:
                yield date
    for pattern in _glued() if in_any_form else ():
        for found in text.matches(pattern, 0, small=True):
            if 1 <= day_number(found["d"]) <= 31:
                yield WrittenDate(
                    *found.span(), found.span("d"), found.span("m"), found.span("y") if found["y"] else None
                )


def _of_names(text: Text, in_any_form: bool) -> Iterator[WrittenDate]:
    """Yield the dates whose month is a name."""
    if not _has_month(text):
        return
    end = 0
    for start, month_end in _month_places(text):
        first = max(end, start - _BEFORE_MONTH)
        written = _written(in_any_form).search(text.text, first, month_end + _BEHIND_MONTH)
        if written is None or not written.start() <= start < written.end():
            continue
        found, end = written, written.end()
        which = next(form for form in "4123" if found.groupdict().get(f"m{form}"))
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


def _has_month(text: Text) -> bool:
    if "months" in text.tables:
        return True
    place = text.lower.find("may") if "may" in text.tables else -1
    while place >= 0:
        if _MAY.match(text.text, place):
            return True
        place = text.lower.find("may", place + 1)
    return False


def _with_other_days(text: Text, date: WrittenDate) -> WrittenDate:
    """Return a date with the days that stand before or behind it and have its month: 12 to 14 May, May 12-14, 2023."""
    if date.day is None or text.text[slice(*date.month)].isdecimal():
        return date
    others, start, end, year = list(date.others), date.start, date.end, date.year
    if date.day[0] < date.month[0]:
        before = _DAY_BEFORE.search(text.text, max(start - _LONGEST_DAY_BEFORE, 0), start)
        if before and 1 <= day_number(before["d"]) <= 31:
            others.append(before.span("d"))
            start = before.start()
    elif year is None and (behind := _DAY_BEHIND.match(text.text, end)):
        place = behind.span("d" if behind["d"] else "e")
        if 1 <= day_number(text.text[slice(*place)]) <= 31:
            others.append(place)
            end, year = behind.end(), behind.span("y") if behind["y"] else None
    return WrittenDate(start, end, date.day, date.month, year, tuple(others))


def day_number(written: str) -> int:
    """Return the number of a day that is written in digits or words; 0: it is none."""
    digits = re.match(r"\d+", written)
    if digits:
        return int(digits[0])
    word = re.sub(r"\s+", " ", written.lower())
    return ordinals().get(word) or _foreign_days().get(word, 0)


def month_number(written: str) -> int:
    """Return the number of a month that is written in digits, as a name or in Roman numerals; 0: it is none."""
    plain = written.lower()
    if plain.isdecimal():
        return int(plain)
    return months().get(plain) or (ROMAN.index(plain) + 1 if plain in ROMAN else 0)


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
        day, year = (found.span(part) if groups.get(part) else None for part in "dy")
        month = found.span("m")
        # 14/3, 14-3
        if day and day[0] > month[0] and not year and groups["m"].isdecimal() and int(groups["m"]) > 12:
            day, month = month, found.span("d")
    text = found.string
    others = (found.span("d2"),) if groups.get("d2") else ()
    days = [int(text[slice(*place)]) for place in (day, *others) if place]
    if not (1 <= month_number(text[slice(*month)]) <= 12 and all(1 <= number <= 31 for number in days)):
        return None
    return WrittenDate(start, end, day, month, year, others)
