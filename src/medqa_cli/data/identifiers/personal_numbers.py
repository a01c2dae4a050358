"""Ages and codes in a text about one person, where they need fewer words around than elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator

from medqa_cli.data.identifiers.finds import Span
from medqa_cli.data.identifiers.text import Text
from medqa_cli.resources import load_pattern

_OLD = re.compile(
    r"(?:9\d|1[01]\d)(?![\d%/:°]|[.,]\d|\s?[-–]\s?\d|(?:th|st|nd|rd)\b(?! birthday)|[a-z]{2,3}\b(?<!yo)(?<!yrs)(?<!yr))"
)
_OLD_IN_WORDS = re.compile(
    r"\b(?:ninety(?:[ -](?:one|two|three|four|five|six|seven|eight|nine))?"
    r"|(?:a|one) hundred(?: and)?(?: (?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve))?)\b"
)
# A number with letters, marks or spaces in it: 6570-0-132, KA 05 MN 1234, S23-14553.
_CODE = re.compile(
    r"(?<![\w@.])(?:[A-Za-z]{1,5}[- /]?)?\d"
    r"(?:[\dA-Za-z]|[-/.](?=\w)| (?=\d{2,}|[A-Z]{1,3} ?\d)| (?:/ )?(?=\d(?: / \d)?(?![\w.,])))*"
)
_WHOLE_CODE = re.compile(r"(?<![\w@./:-])[A-Z\d](?:[A-Z\d]|[-/](?=[A-Z\d]))++(?![\w@./-]*[@/])(?![\w-])")
# An account for payments: 9876543210@bank.
_PAY = re.compile(r"(?<![\w.@+-])[\w.+-]{3,}@[a-z]{2,}(?!\w|[.@-]\w)")
_FOUR_DIGITS = re.compile(r"\d{4}")
# Years, fractions, ranges.
_NO_CODE = re.compile(r"(?:19|20)\d\d(?:[-/](?:19|20)?\d\d)?|\d{1,3}/\d{1,3}|0\d{3}-\d{4}|\d{1,4}-\d{1,4}")
_GROUPS = re.compile(r"\d+(?:[-/]\d+)+")
_CUE_REACH, _SENTENCE_REACH, _FEWEST_SIGNS, _FEWEST_DIGITS = 40, 48, 6, 4
_DEVICE = re.compile(
    r"serial|s/n|\bsn\b|device|implant|pump|pacemaker|cpap|monitor|sensor|plate|imei|vin\b|mac\b|model|car\b|lead\b|lens|hip"
    r"|knee|stent|valve|icd\b|meter"
)
_ACCOUNT = re.compile(
    r"account|acct|a/c|card|licen[cs]e|passport|bank|iban|upi|customer|invoice|billing|refund|paid|routing"
)


def find_personal_numbers(text: Text) -> Iterator[Span]:
    """Yield the ages over 89, and the codes and long numbers of a person."""
    lower = text.lower
    ages = [found for start, _ in text.numbers if lower[start] in "91" and (found := _OLD.match(lower, start))]
    if "old_age_words" in text.tables:
        ages += _OLD_IN_WORDS.finditer(lower)
    for found in ages:
        if _is_age(text, *found.span()):
            yield Span(*found.span(), "age")
    if "@" in lower:
        yield from (Span(*found.span(), "account") for found in _PAY.finditer(lower))
    if text.numbers:
        yield from _codes(text)


def _is_age(text: Text, start: int, end: int) -> bool:
    """Tell whether a number from 90 to 119 may be an age: words of ages are beside it and none of measuring before."""
    if start and (text.lower[start - 1].isalnum() or text.lower[start - 1] in ".,/-–$£€+#@_:"):
        return False
    before = text.before(start, _SENTENCE_REACH)
    after = text.after(end, _CUE_REACH)
    if load_pattern("identifiers", "measured_before").search(before):
        return False
    if load_pattern("identifiers", "age_of_many").search(before[-18:]) and not before.endswith("age of "):
        return False
    if load_pattern("identifiers", "ages_of_many").match(after) or load_pattern("identifiers", "not_years").match(
        after
    ):
        return load_pattern("identifiers", "old_behind").match(after) is not None
    return (
        load_pattern("identifiers", "old_behind").match(after) is not None
        or load_pattern("identifiers", "old_before").search(before) is not None
    )


def _codes(text: Text) -> Iterator[Span]:
    """Yield the codes that stand behind "no." and the like, and those of a form that nothing else has."""
    for found in _WHOLE_CODE.finditer(text.text):
        value = found[0]
        is_long = len(value) >= _FEWEST_SIGNS and _FOUR_DIGITS.search(value)
        if is_long and not _GROUPS.fullmatch(value) and _is_own(text, *found.span()):
            yield Span(*found.span(), _kind(text, found.start()))
    for start, _ in text.numbers:
        before = text.before(start, _CUE_REACH)
        cue = load_pattern("identifiers", "number_cue").search(before)
        if cue is None:
            continue
        first = start - (len(before) - cue.end(1))
        code = _CODE.match(text.text, first) or _CODE.match(text.text, start)
        if code is None:
            continue
        value = code[0].rstrip(" .-/")
        digits, letters = sum(map(str.isdigit, value)), sum(map(str.isalpha, value))
        start, end = code.start(), code.start() + len(value)
        if (digits >= _FEWEST_DIGITS or (digits >= 3 and letters >= 2)) and _is_own(text, start, end):
            yield Span(start, end, _kind(text, start))


def _is_own(text: Text, start: int, end: int) -> bool:
    """Tell whether a code is no amount, no year, and none of a gene, a trial, a disease or a product."""
    value = text.text[start:end]
    if _NO_CODE.fullmatch(value):
        return False
    if load_pattern("identifiers", "public_code").match(value):
        return False
    before, after = text.before(start, _CUE_REACH), text.after(end, 24)
    if load_pattern("identifiers", "other_number").search(before[-18:]) or load_pattern(
        "identifiers", "other_code"
    ).search(before):
        return False
    return load_pattern("identifiers", "unit_behind").match(after) is None


def _kind(text: Text, start: int) -> str:
    """Return of what a number is by the last word before it that says so."""
    last, kind = 0, "record"
    for name, pattern in (("device", _DEVICE), ("account", _ACCOUNT)):
        for found in pattern.finditer(text.before(start, _CUE_REACH)):
            if found.end() > last:
                last, kind = found.end(), name
    return kind
