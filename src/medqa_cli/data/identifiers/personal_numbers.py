"""Codes and long numbers: in a text about one person they need fewer words around than elsewhere."""

import functools
import re
from collections.abc import Iterator

from medqa_cli.data.identifiers.finds import Span
from medqa_cli.data.identifiers.labelled_codes import (
    certain_codes,
    is_of_product,
    labelled_codes,
    with_letters,
)
from medqa_cli.data.identifiers.numbers import is_iban
from medqa_cli.data.identifiers.text import Text
from medqa_cli.data.identifiers.word_tables import common_words
from medqa_cli.resources import load_pattern, load_words

# Plates: 123 ABC, ux 65 sse, HH-KL 4482, 8KLM442, BRA2E19.
_PLATE = (
    r"((?=[a-z]{1,3}\d|\d{1,3}[a-z])[a-z\d]{3,4}[ -](?=[a-z]{1,3}\d|\d{1,3}[a-z])[a-z\d]{3,4}|[a-z]{4}[ ·-]?\d{2}"
    r"|[a-z]{1,3}(?:[ ·-]{1,2}[a-z]{1,2})?[ ·-]{0,2}\d{1,5}(?:[ -]?[a-z]{1,3})?|\d{1,4}[ -]?[a-z]{1,3}(?:[ -]?\d{1,4})?"
    r"|[a-z]{3}\d[a-z]\d\d|\d{2,3} \d{2,3})(?![\w-])"
)
# A codice fiscale, a CPF, a RUT, a NIR with any key, the number of a network card as Cisco writes it, an IBAN behind
# the word, a UUID, a wallet.
_FORMS = (
    (re.compile(r"(?<!\w)[a-z]{3} ?[a-z]{3} ?\d\d[a-z]\d\d ?[a-z]\d{3}[a-z](?!\w)"), "record"),
    (re.compile(r"(?<!\d)\d{3}\.\d{3}\.\d{3}-\d\d(?!\w)"), "record"),
    (re.compile(r"(?<![\d.])\d{1,2}\.\d{3}\.\d{3}-[\dk](?!\w)"), "record"),
    (re.compile(r"(?<![\w.-])[12] ?\d\d ?(?:0[1-9]|1[0-2]) ?\d[\dab] ?\d{3} ?\d{3} ?\d\d(?![\w-])"), "record"),
    (re.compile(r"(?<!\w)(?=[a-f.]*\d)(?=[\d.]*[a-f])[\da-f]{4}\.[\da-f]{4}\.[\da-f]{4}(?!\w)"), "device"),
    (re.compile(r"(?<=iban )(?:is )?[a-z]{2}\d\d(?: ?[a-z\d]{4}){2,7}(?: ?[a-z\d]{1,3}\b)?(?!\w)"), "account"),
    (re.compile(r"(?<![\w-])[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}(?![\w-])"), "device"),
    (re.compile(r"(?<!\w)(?:bc1|0x|[13])(?=[a-z]*\d)(?=\d*[a-z])[a-z\d]{25,62}(?!\w)"), "account"),
)
_BRITISH_PLATE = re.compile(r"(?<![\w-])[A-Z]{2}\d\d ?[A-HJ-PR-Z]{3}(?![\w-])")
_ZEALAND = re.compile(r"(?<![\w-])[A-HJ-NP-Z]{3}\d\d(?!(?:MG|ML))[A-HJ-NP-Z]{2}(?![\w-])")
# The number of a national insurance, also with letters that are given out to nobody.
_INSURED = re.compile(r"[a-z](?<!\w.)[a-z](?<!in|at|on|to|of|is|mg|ml|no) ?\d\d ?\d\d ?\d\d ?[a-d](?!\w)")
# In a text that has a word of vehicles: QJ 6373Y, 07-NU-IQ, 55 HV 3730, 1637 NGJ.
_ANY_PLATE = re.compile(
    r"(?<![\w-])(?:[A-Z]{1,3}[ -]?\d{1,4}[ -]?[A-Z]{1,3}|\d\d[ -][A-Z]{1,3}[ -](?:\d{2,4}|[A-Z]{2})"
    r"|\d{4} [B-DF-HJ-NP-TV-Z]{3})(?![\w-])"
)
_SMALL_IBAN = re.compile(r"(?<![\w/.-])[a-z]{2}\d\d(?: ?[a-z\d]{4}){2,7}(?: ?[a-z\d]{1,3})?(?!\w)")
_WHOLE_CODE = re.compile(r"(?<![\w@./:-])[A-Z\d](?:[A-Z\d]|[-/](?=[A-Z\d]))++(?![\w@./-]*[@/])(?![\w-])")
_SMALL_CODE = re.compile(r"(?<![\w@./:-])[a-z\d](?:[a-z\d]|[-/](?=[a-z\d]))++(?![\w@./-]*[@/])(?![\w-])")
# Alone: seven digits or more, and eight in groups.
_LONG_NUMBER = re.compile(r"\d(?<![\w@,:/+-].)(?<!\d\..)\d{6,21}(?![\w@/-]|[.,]\d)")
_GROUPED = re.compile(r"\d(?<![\w@/+-].)(?<!\d[.,:].)\d{1,8}(?:-\d{1,7}){1,4}(?![\w@/-]|[.,]\d)")
_FEWEST_GROUPED = 8
# An account for payments: 9876543210@bank.
_PAY = re.compile(r"(?<![\w.@+-])[\w.+-]{3,}@[a-z]{2,}(?!\w|[.@-]\w)")
_FOUR_DIGITS = re.compile(r"\d{4}")
# Years, fractions, ranges.
_NO_CODE = re.compile(r"(?:19|20)\d\d(?:[-/](?:19|20)?\d\d)?|\d{1,3}/\d{1,3}|\d{1,3}-\d{1,3}|\d{4}-\d{1,3}")
_WORD_WITHIN = re.compile(r"[A-Za-z]{4}")
_GROUPS = re.compile(r"\d+(?:[-/]\d+)+")
# Dates, phone numbers, postcodes.
_NO_GROUPS = re.compile(
    r"(?:1-)?\d{3}-\d{3}-\d{4}|\d{5}-\d{4}|[0-2]\d[0-5]\d-[0-2]\d[0-5]\d"
    r"|(?:19|20)\d\d-\d{1,2}-\d{1,2}|\d{1,2}-\d{1,2}-(?:19|20)?\d\d|(?:19|20)\d\d-(?:19|20)\d\d|\d{2,3}(?:-\d{2,3}){2,4}"
)
_AMOUNT = re.compile(r"\d+[a-z]{0,5}|[A-Za-z]{1,4}-?(?:19|20)\d\d")
_CUE_REACH, _FEWEST_SIGNS, _FEWEST_OF_MIXED, _FEWEST_OF_PLATE, _FEWEST_OF_ANY_PLATE, _FEWEST_OF_IBAN = 40, 6, 5, 4, 5, 9


def find_certain_numbers(text: Text) -> Iterator[Span]:
    """Yield the codes right behind words that tell enough, whatever the text is about."""
    if text.numbers:
        yield from (Span(*code, _kind(text, code[0])) for code in certain_codes(text))


def find_personal_numbers(text: Text) -> Iterator[Span]:
    """Yield the long numbers of a person, the codes behind "no." and the like, and those of a form of their own."""
    if "@" in text.lower:
        yield from (Span(*found.span(), "account") for found in _PAY.finditer(text.lower))
    if not text.numbers:
        return
    whole = _SMALL_CODE if text.text == text.lower else _WHOLE_CODE
    for found in whole.finditer(text.text):
        value = found[0]
        is_long = len(value) >= _FEWEST_SIGNS and (_FOUR_DIGITS.search(value) is not None or _is_mixed(value))
        if is_long and not _GROUPS.fullmatch(value) and not _AMOUNT.fullmatch(value) and is_own(text, *found.span()):
            yield Span(*found.span(), _kind(text, found.start()))
    yield from (Span(*found.span(), "record") for found in text.matches(_INSURED, 2, 3, small=True))
    for pattern, kind in _FORMS:
        yield from (Span(*found.span(), kind) for found in pattern.finditer(text.lower))
    plates = (_plate_at(text, found.start(1), found[1]) for found in _plates().finditer(text.lower))
    yield from (plate for plate in plates if plate)
    if not text.is_shouted:
        yield from (Span(*found.span(), "device") for found in text.matches(_BRITISH_PLATE, 2))
        if not load_words("identifiers", "vehicle_words").isdisjoint(text.all_words):
            for found in _ANY_PLATE.finditer(text.text):
                letters, digits = (sum(map(is_kind, found[0])) for is_kind in (str.isalpha, str.isdigit))
                if letters > 1 and letters + digits >= _FEWEST_OF_ANY_PLATE and is_own(text, *found.span()):
                    yield Span(*found.span(), "device")
        yield from (Span(*found.span(), "record") for found in text.matches(_ZEALAND, 3))
    for found in _SMALL_IBAN.finditer(text.lower):
        groups = found[0].split(" ")
        while len(groups) > 1 and not is_iban(" ".join(groups)):
            groups.pop()
        value = " ".join(groups)
        if is_iban(value) and sum(map(str.isdigit, value)) >= _FEWEST_OF_IBAN:
            yield Span(found.start(), found.start() + len(value), "account")
    for found in text.matches(_LONG_NUMBER, 0):
        if is_own(text, *found.span()):
            yield Span(found.start(), with_letters(text, found.end()), _kind(text, found.start()))
    if not load_words("identifiers", "by_user_needs").isdisjoint(text.all_words):
        for found in load_pattern("identifiers", "by_user").finditer(text.lower):
            if not _AMOUNT.fullmatch(found[1]):
                yield Span(*found.span(1), "account")
    for found in text.matches(_GROUPED, 0):
        is_long = sum(map(str.isdigit, found[0])) >= _FEWEST_GROUPED and not _NO_GROUPS.fullmatch(found[0])
        if is_long and is_own(text, *found.span()):
            yield Span(*found.span(), _kind(text, found.start()))
    yield from (Span(*code, _kind(text, code[0])) for code in labelled_codes(text))


def _is_mixed(value: str) -> bool:
    """Tell whether a code has groups, of letters, too, and as many digits as no name of a product: ABX-77-190."""
    has_groups = ("-" in value or "/" in value) and not _WORD_WITHIN.search(value)  # 1-800-4-CANCER
    return has_groups and sum(map(str.isdigit, value)) >= _FEWEST_OF_MIXED and not value.replace("-", "").isdigit()


@functools.cache
def _plates() -> re.Pattern[str]:
    return re.compile(load_pattern("identifiers", "plate_word").pattern + _PLATE)


def _plate_at(text: Text, place: int, value: str) -> Span | None:
    """Return a plate without a word behind it, or None where words are in it: a plate of 12 beans is none."""
    last = re.search(r"[ -]([a-z]{1,3})$", value)
    is_large = not text.is_shouted and text.text[place : place + len(value)].isupper()
    if last and not is_large and _is_word(last[1]):
        value = value[: last.start()]
    if sum(map(str.isalnum, value)) < _FEWEST_OF_PLATE or (
        not is_large and any(map(_is_word, re.findall("[a-z]{2,}", value)))
    ):
        return None
    return Span(place, place + len(value), "device")


def _is_word(letters: str) -> bool:
    return letters in (common_words() if len(letters) > 2 else load_words("identifiers", "short_words"))


def is_own(text: Text, start: int, end: int) -> bool:
    """Tell whether a code is no amount, no year, and none of a gene, a trial, a disease or a product."""
    value = text.text[start:end]
    if _NO_CODE.fullmatch(value) or is_of_product(text, start, end):
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
    for name in ("device", "account", "phone"):
        for found in load_pattern("identifiers", f"{name}_before").finditer(text.before(start, _CUE_REACH)):
            if found.end() > last:
                last, kind = found.end(), name
    return kind
