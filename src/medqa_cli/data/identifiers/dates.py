"""Dates that belong to a person: with a day, or with a month where words before say what happened to whom.

A year alone stays (45 CFR 164.514(b)(2)(i)(C) leaves it), and so do dates of approvals, laws and publications.
"""

import re
from collections.abc import Iterator

from medqa_cli.data.identifiers.finds import Span
from medqa_cli.data.identifiers.text import Text
from medqa_cli.data.identifiers.written_dates import WrittenDate, dates_in
from medqa_cli.resources import load_pattern, load_words

_CUE_REACH, _NEAR_CUE_REACH, _LONGEST_WEEKDAY, _LONGEST_TIME = 60, 30, 24, 14
_MONTHS, _LEAST_WHOLE = 12, 9
_WEEKDAY_ENDINGS = ("day", "mon", "tue", "tues", "wed", "thu", "thur", "thurs", "fri", "sat", "sun")
_USUAL_WHOLES = frozenset((15, 20, 21, 24, 25, 27, 28, 30))
_CLOCK = r"(?:[01]?\d|2[0-3])[:.h]\s?[0-5]\d(?::?[0-5]\d(?:[.,]\d{1,6})?)?"
_TIME_BEHIND = re.compile(
    rf"(?:,?\s|T|:){_CLOCK}(?:\s?(?:[ap]\.?\s?m\b\.?|Z\b|Uhr\b|hrs?\b|h\b|UTC\b|GMT\b))?(?:\s?[+-][01]\d:?[0-5]\d)?(?![\d%/])"
    r"|,?\s(?:1[0-2]|0?[1-9])\s?[ap]m\b|,?\s(?:[01]\d|2[0-3])[0-5]\d\s?(?:hrs?|h)\b",
    re.IGNORECASE,
)
_TIME_BEFORE = re.compile(rf"(?<![\w.,:/-]){_CLOCK}(?:\s?[ap]m)?,\s\Z", re.IGNORECASE)
_THE_US = re.compile(r"\bthe us\b")  # and not "us"
_TO_DAY = re.compile(r"\s?[-–]\s?\d{1,2}/\d{1,2}(?!\d)")
_AND = re.compile(r",?\s?(?:,|and|&|\+|to|or|then|-|–|/)\s?")
_SENTENCE_START = re.compile(r"[.;!?\n]\s?\Z")
_CAPITAL_BEHIND = re.compile(r"\s+[^\Wa-z]|\s*\Z")


def find_dates(text: Text, *, is_of_person: bool, is_personal: bool = False) -> Iterator[Span]:
    """Yield the dates that belong to a person.

    Args:
        text: the text.
        is_of_person: something else in the row identifies a person: a date with a day then needs no words around it.
        is_personal: the row is about one person: a month with its year needs none either.
    """
    end, diary = -1, False
    for date in sorted(dates_in(text, in_any_form=is_personal), key=lambda date: (date.start, -date.end)):
        belongs = _belongs(text, date, is_of_person=is_of_person or is_personal, is_personal=is_personal)
        if is_personal and not belongs and _is_short(text, date):
            # On 9/19 and 10/12; 5/3 felt well. 9/15 fever.
            belongs = _AND.fullmatch(text.text, end, date.start) is not None if 0 <= end <= date.start else False
            belongs |= diary and _SENTENCE_START.search(text.text, max(date.start - 3, 0), date.start) is not None
        if belongs:
            diary, end = diary or _is_short(text, date), date.end
            yield _with_time(text, date, is_personal=is_personal)


def _is_short(text: Text, date: WrittenDate) -> bool:
    """Tell whether a date is a day and its month in digits, with a sign between that fractions or ranges have."""
    return date.year is None and text.text[slice(*date.month)].isdecimal() and text.text[date.end - 1].isdecimal()


def _with_time(text: Text, date: WrittenDate, *, is_personal: bool) -> Span:
    """Return the place of a date with the weekday before it, and in a text about one person with the time of day."""
    first = max(date.start - _LONGEST_WEEKDAY, 0)
    before = load_pattern("identifiers", "weekday_before").search(text.lower, first, date.start)
    start, end = before.start() if before else date.start, date.end
    if is_personal:
        if (time := _TIME_BEHIND.match(text.text, end)) and len(time[0]) <= end - start:
            end = time.end()
        elif time := _TIME_BEFORE.search(text.text, max(start - _LONGEST_TIME, 0), start):
            start = time.start()
    return Span(start, end, "date")


def _belongs(text: Text, date: WrittenDate, *, is_of_person: bool, is_personal: bool) -> bool:
    before = text.before(date.start, _CUE_REACH)
    near = before[-_NEAR_CUE_REACH:]
    if load_pattern("identifiers", "public_date_before").search(near):
        return False
    if load_pattern("identifiers", "date_cue").search(near):
        return True
    written = text.text[date.start : date.end]
    is_fraction = date.year is None and date.month[1] - date.month[0] <= 2 and not date.others
    is_vague = date.day is None or is_fraction
    if written == "24/7" or (is_personal and load_pattern("identifiers", "values_before").search(near)):
        return False
    if is_personal and is_fraction and written.isascii():
        if load_pattern("identifiers", "score_before").search(near):
            return False
        if load_pattern("identifiers", "no_day_behind").match(text.lower, date.end):
            return False
        if _is_day_of_month(text, date, near):
            return True
    # A month and a year: a cue must say so. 3/4 is something else.
    if (is_vague and (date.year is None or not is_personal)) and (
        date.year is None or not load_pattern("identifiers", "date_cue_before").search(before)
    ):
        return False
    sentence = text.sentence(date.start, date.end)
    has_person = not load_words("identifiers", "persons").isdisjoint(
        re.findall(r"[^\W\d_]+", _THE_US.sub("", sentence))
    )
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


def _is_day_of_month(text: Text, date: WrittenDate, near: str) -> bool:
    """Tell whether two numbers in a text about one person are a day and its month: 9/14, 14.9., 9-14; and no score.

    Where one of them is over 12 and no usual whole of scores, little else has this form.
    """
    written = text.text[date.start : date.end]
    is_sure = load_pattern("identifiers", "day_surely_before").search(near) is not None
    if written[-1] == ".":
        if load_pattern("identifiers", "day_with_point_before").search(near):
            return True
        ends_sentence = _CAPITAL_BEHIND.match(text.text, date.end) is not None
        return not ends_sentence and load_pattern("identifiers", "day_before").search(near) is not None
    has_event = is_sure or load_pattern("identifiers", "event_before").search(near) is not None
    first, second = (int(number) for number in re.findall(r"\d+", written))
    is_weekday = near.rstrip(" .,").endswith(_WEEKDAY_ENDINGS)
    if "-" in written:  # and not Monday 8-5
        has_event &= not is_weekday or max(first, second) > _MONTHS
        return has_event and load_pattern("identifiers", "day_ends").match(text.lower, date.end) is not None
    if is_sure and (second != 10 or not is_weekday):
        return True
    if second == 10:  # Sunday: 7/10
        return False
    if load_pattern("identifiers", "day_before").search(near):
        return True
    if (
        _TO_DAY.match(text.text, date.end)
        or (first > _MONTHS and (first, second) != (24, 7))
        or (second > _MONTHS and second not in _USUAL_WHOLES)
    ):
        return True
    # Half a tablet, nine months, three days.
    is_share = first < second and (second < _LEAST_WHOLE or second in (7, _MONTHS))
    return has_event and not is_share
