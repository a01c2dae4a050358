"""Codes and long numbers in a text about one person, where they need fewer words around than elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator

from medqa_cli.data.identifiers.finds import Span
from medqa_cli.data.identifiers.name_forms import LAST_WORD
from medqa_cli.data.identifiers.text import Text
from medqa_cli.data.identifiers.word_tables import common_words, months
from medqa_cli.resources import load_pattern

# A number with letters, marks or spaces in it: 6570-0-132, KA 05 MN 1234, S23-14553.
_CODE = re.compile(
    r"(?<![\w@])(?<!\d\.)(?:[A-Za-z]{1,6}[-/]?|[A-Z]{1,4} |[a-z]{1,2} |\(\w{1,3}\)\s?)?\d"
    r"(?:[\dA-Za-z]|[-/.](?=\w)| (?=\d{2,}|[A-Z]{1,3} ?\d)| (?:/ )?(?=\d(?: / \d)?(?!\w|[.,]\d)))*"
)
# Letters behind the last digits: 4608995 X.
_REST = re.compile(r" [A-Z]{1,2}(?![\w-])| [b-hj-z](?![\w-])")
# Behind "plate": 123 ABC, ux 65 sse.
_PLATE = re.compile(
    r"\b(?:plates?|tag|reg(?:istration)?)\b[\s.:#(-]{0,3}(?:(?:no|number|is|was)\b[\s.:]{0,2}){0,2}"
    r"([a-z]{1,3}[ -]?(?:[a-z]{1,2} )?\d{1,4}(?:[ -]?[a-z]{1,3})?|\d{1,4}[ -]?[a-z]{2,3}(?:[ -]?\d{1,4})?)(?![\w-])"
)
# A codice fiscale, a CPF, the number of a network card as Cisco writes it, an IBAN behind the word.
_FORMS = (
    (re.compile(r"(?<!\w)[a-z]{3} ?[a-z]{3} ?\d\d[a-z]\d\d ?[a-z]\d{3}[a-z](?!\w)"), "record"),
    (re.compile(r"(?<!\d)\d{3}\.\d{3}\.\d{3}-\d\d(?!\w)"), "record"),
    (re.compile(r"(?<!\w)(?=[a-f]*\d)(?=[\d.]*[a-f])[\da-f]{4}\.[\da-f]{4}\.[\da-f]{4}(?!\w)"), "device"),
    (re.compile(r"(?<=iban )(?:is )?[a-z]{2}\d\d(?: ?[a-z\d]{4}){2,7}(?: ?[a-z\d]{1,3}\b)?(?!\w)"), "account"),
)
_WHOLE_CODE = re.compile(r"(?<![\w@./:-])[A-Z\d](?:[A-Z\d]|[-/](?=[A-Z\d]))++(?![\w@./-]*[@/])(?![\w-])")
_SMALL_CODE = re.compile(r"(?<![\w@./:-])[a-z\d](?:[a-z\d]|[-/](?=[a-z\d]))++(?![\w@./-]*[@/])(?![\w-])")
_BOOKING = re.compile(r"(?<![\w@./-])(?=[A-Z]*\d)(?=\d*[A-Z])[A-Z\d]{5,8}(?![\w-])")
# Alone: seven digits or more, and eight in groups.
_LONG_NUMBER = re.compile(r"\d(?<![\w@,:/+-].)(?<!\d\..)\d{6,11}(?![\w@/-]|[.,]\d)")
_GROUPED = re.compile(r"\d(?<![\w@/+-].)(?<!\d[.,:].)\d{1,5}(?:-\d{1,7}){1,4}(?![\w@/-]|[.,]\d)")
_FEWEST_GROUPED = 8
# An account for payments: 9876543210@bank.
_PAY = re.compile(r"(?<![\w.@+-])[\w.+-]{3,}@[a-z]{2,}(?!\w|[.@-]\w)")
_FOUR_DIGITS = re.compile(r"\d{4}")
# Years, fractions, ranges.
_NO_CODE = re.compile(r"(?:19|20)\d\d(?:[-/](?:19|20)?\d\d)?|\d{1,3}/\d{1,3}|\d{1,3}-\d{1,3}|\d{4}-\d{1,3}")
_GROUPS = re.compile(r"\d+(?:[-/]\d+)+")
# Dates, phone numbers, postcodes.
_NO_GROUPS = re.compile(
    r"(?:1-)?\d{3}-\d{3}-\d{4}|\d{5}-\d{4}|[0-2]\d[0-5]\d-[0-2]\d[0-5]\d"
    r"|(?:19|20)\d\d-\d{1,2}-\d{1,2}|\d{1,2}-\d{1,2}-(?:19|20)?\d\d|(?:19|20)\d\d-(?:19|20)\d\d"
)
_AMOUNT = re.compile(r"\d+[a-z]{0,5}")
_CUE_REACH, _FEWEST_SIGNS, _FEWEST_DIGITS = 40, 6, 4
_DEVICE = re.compile(
    r"serial|\bser\b|s/n|\bsn\b|device|implant|pump|pacemaker|cpap|monitor|sensor|plate|imei|vin\b|mac\b|model|car\b|lead\b|lens"
    r"|hip\b|knee|stent|valve|icd\b|meter|frame|chair|scooter|hearing|aids?\b|transmitter|\btag\b"
)
_ACCOUNT = re.compile(
    r"account|acct|a/c|card|licen[cs]e|passport|bank|iban|upi|customer|invoice|billing|refund|paid|routing"
)


def find_personal_numbers(text: Text) -> Iterator[Span]:
    """Yield the codes and long numbers of a person."""
    if "@" in text.lower:
        yield from (Span(*found.span(), "account") for found in _PAY.finditer(text.lower))
    if text.numbers:
        yield from _codes(text)


def _codes(text: Text) -> Iterator[Span]:
    """Yield the codes that stand behind "no." and the like, and those of a form that nothing else has."""
    whole = _SMALL_CODE if text.text == text.lower else _WHOLE_CODE
    for found in whole.finditer(text.text):
        value = found[0]
        is_long = len(value) >= _FEWEST_SIGNS and _FOUR_DIGITS.search(value) is not None
        if is_long and not _GROUPS.fullmatch(value) and not _AMOUNT.fullmatch(value) and _is_own(text, *found.span()):
            yield Span(*found.span(), _kind(text, found.start()))
    for pattern, kind in _FORMS:
        yield from (Span(*found.span(), kind) for found in pattern.finditer(text.lower))
    if any(map(text.lower.__contains__, ("plate", " tag ", " reg"))):
        yield from (Span(*found.span(1), "device") for found in _PLATE.finditer(text.lower) if _is_plate(found[1]))
    for found in text.matches(_LONG_NUMBER, 0):
        if _is_own(text, *found.span()):
            yield Span(*found.span(), _kind(text, found.start()))
    for found in text.matches(_GROUPED, 0):
        is_long = sum(map(str.isdigit, found[0])) >= _FEWEST_GROUPED and not _NO_GROUPS.fullmatch(found[0])
        if is_long and _is_own(text, *found.span()):
            yield Span(*found.span(), _kind(text, found.start()))
    for start, _ in text.numbers:
        code = _cued_code(text, start)
        if code is not None and _is_own(text, *code):
            yield Span(*code, _kind(text, code[0]))


def _is_plate(value: str) -> bool:
    """Tell whether no word is in what stands behind "plate": a plate of 12 beans is none."""
    return not any(part in common_words() for part in re.findall("[a-z]{2,}", value))


def _cued_code(text: Text, number: int) -> tuple[int, int] | None:
    """Return the place of a code that stands behind a word for one and whose first digit is at a place."""
    before = text.before(number, _CUE_REACH)
    cue = load_pattern("identifiers", "number_cue").search(before)
    if cue is None:
        return None
    first = number - (len(before) - cue.end(1))
    code = _CODE.match(text.text, first) or _CODE.match(text.text, number)
    if code is None:
        return None
    value = code[0].rstrip(" .-/")
    digits, letters = sum(map(str.isdigit, value)), sum(map(str.isalpha, value))
    start, end = code.start(), code.start() + len(value)
    word = LAST_WORD.search(text.before(start, _CUE_REACH))
    if word and word[1] in months():
        return None
    if digits >= _FEWEST_DIGITS and not text.is_shouted and (rest := _REST.match(text.text, end)):
        return start, rest.end()
    if digits >= _FEWEST_DIGITS or (digits >= 3 and letters >= 2):
        return start, end
    place = text.text.rfind(" ", 0, number) + 1
    booking = _BOOKING.match(text.text, place)
    if booking and load_pattern("identifiers", "booking_cue").search(text.before(place, _CUE_REACH)):
        return booking.span()
    return None


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
