"""Numbers that a person has: of records, insurances and social security, devices, accounts, cards, licenses.

A number counts where its form is certain (a check digit, or a form that nothing else has) or where words before it say
what it is; in a text about one person fewer of them are needed. The check digits: Luhn for cards, ISO 7064 MOD 97-10
for IBAN, modulo 97 for the French NIR, the letter of the Spanish DNI (modulo 23).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator

from medqa_cli.data.identifiers.finds import Span
from medqa_cli.data.identifiers.labelled_codes import is_of_product, labelled_codes, with_letters
from medqa_cli.data.identifiers.text import Text
from medqa_cli.data.identifiers.word_tables import common_words
from medqa_cli.resources import load_pattern, load_words

# Each begins with a sign of few kinds, so that a search passes quickly over all else; what must not stand before it is
# looked at behind its first sign.
_SSN = re.compile(r"\d(?<![\w.+/-].)\d\d(?P<s>[ –-])\d\d(?P=s)\d{4}(?![\w/-]|\.\d)")
_MBI = re.compile(
    r"[1-9](?<![\w-].)[AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y\d]\d[ -]?[AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y\d]\d[ -]?"
    r"[AC-HJKMNP-RT-Y]{2}\d\d(?![\w-])"
)
_NINO = re.compile(
    r"[A-CEGHJ-PR-TW-Z](?<![\w-].)[A-CEGHJ-NPR-TW-Z](?<!BG|GB|NK|KN|TN|NT|ZZ)(?P<s>[ -]?)\d\d(?P=s)\d\d(?P=s)\d\d(?P=s)"
    r"[A-D](?![\w-])"
)
_NIR = re.compile(r"[12](?<![\w.-].) ?\d\d ?(?:0[1-9]|1[0-2]|[2-9]\d) ?\d[\dAB] ?\d{3} ?\d{3} ?\d\d(?![\w-])")
_CODICE = re.compile(r"[A-Z](?<![\w-].)[A-Z]{5}\d\d[A-EHLMPRST]\d\d[A-Z]\d{3}[A-Z](?![\w-])")
_DNI = re.compile(r"(?:\d(?<![\w.-].)\d{7}|[XYZ](?<![\w-].)-?\d{7})[ -]?[A-HJ-NP-TV-Z](?![\w-])")
_CARD = re.compile(
    r"(?:3(?<![\w.+/-].)\d{3}[ -]?\d{6}[ -]?\d{5}|[2-6](?<![\w.+/-].)\d{3}(?P<s>[ -]?)\d{4}(?P=s)\d{4}(?P=s)\d{1,7})"
    r"(?![\w/-]|\.\d)"
)
_IBAN = re.compile(r"[A-Z](?<![\w-].)[A-Z]\d\d(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![\w-])")
_MAC = re.compile(r"[0-9A-Fa-f](?<![\w:-].)[0-9A-Fa-f](?P<s>[:-])(?:[0-9A-Fa-f]{2}(?P=s)){4}[0-9A-Fa-f]{2}(?![\w:-])")
_UDI = re.compile(r"\(01\) ?\d{14}(?: ?\((?:10|11|17|21)\) ?[\w-]{1,20})*")
# What may be the number of something: it has a digit in front or behind five letters.
_VALUE = re.compile(r"\d(?<![\d].)(?:\d(?: \d\d){2,4}(?![\w.,])|[\w./-]*(?: \d{3}[\w./-]*)*)")
# The number of a vehicle and that of its plate, behind the word; a plate of 12 beans is none.
_VEHICLE_WORDS = ("reg", "registration", "vin", "chassis", "plate", "plates")
_VEHICLE = re.compile(
    r"\w+[\s:#]*(?i:(?:number|no\.?|is|was)[\s:]+)?"
    r"((?i:[A-HJ-NPR-Z\d]{17})|[A-Z]{2}\d{2}\s?[A-Z]{3}|[A-Z]{1,3}[ -](?:[A-Z]{1,2} ?)?\d{2,4}(?: ?[A-Z]{1,3})?)\b"
)
_YEAR_OR_DATE = re.compile(r"(?:19|20)\d\d|\d{1,2}[./-]\d{1,2}[./-](?:\d\d){1,2}")
_LETTERS_BEFORE = re.compile(r"[A-Za-z][A-Za-z./-]{0,4}$")
_CUE_REACH = 64
_FEWEST_PAIRS, _FEWEST_DIGITS = 4, 3

_DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
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
_GROUPS = re.compile(r"\d+(?:[-/]\d+)+")
# Dates, phone numbers, postcodes.
_NO_GROUPS = re.compile(
    r"(?:1-)?\d{3}-\d{3}-\d{4}|\d{5}-\d{4}|[0-2]\d[0-5]\d-[0-2]\d[0-5]\d"
    r"|(?:19|20)\d\d-\d{1,2}-\d{1,2}|\d{1,2}-\d{1,2}-(?:19|20)?\d\d|(?:19|20)\d\d-(?:19|20)\d\d|\d{2,3}(?:-\d{2,3}){2,4}"
)
_AMOUNT = re.compile(r"\d+[a-z]{0,5}|[A-Za-z]{1,4}-?(?:19|20)\d\d")
_KIND_REACH, _FEWEST_SIGNS, _FEWEST_OF_PLATE, _FEWEST_OF_ANY_PLATE, _FEWEST_OF_IBAN = 40, 6, 4, 5, 9


def find_numbers(text: Text) -> Iterator[Span]:
    """Yield the numbers of records, insurances, devices, accounts and licenses."""
    if text.numbers or ":" in text.text or "-" in text.text:
        if text.has_long_number:
            yield from _certain(text, _OF_DIGITS)
        if text.has_code:
            yield from _certain(text, _OF_LETTERS)
        if _has_pairs(text.text, ":") or _has_pairs(text.text, "-"):
            yield from (Span(*found.span(), "device") for found in _MAC.finditer(text.text))
        yield from _behind_cues(text)
        for word in text.words.intersection(_VEHICLE_WORDS):
            matches = (_VEHICLE.match(text.text, place) for place in text.places(word))
            yield from (Span(*found.span(1), "device") for found in matches if found)


def _has_pairs(text: str, sign: str) -> bool:
    """Tell whether a sign stands between four pairs of characters, as in the number of a network card."""
    return text.count(sign) > _FEWEST_PAIRS and [len(part) for part in text.split(sign)[1:-1]].count(2) >= _FEWEST_PAIRS


def _certain(text: Text, rules: Iterable[Rule]) -> Iterator[Span]:
    for pattern, before, kind, is_one in rules:
        for found in text.matches(pattern, *before):
            if is_one(found[0]):
                yield Span(*found.span(), kind)


def _behind_cues(text: Text) -> Iterator[Span]:
    """Yield what stands behind "record number" and the like."""
    kinds = [kind for kind in _CUED if f"{kind}_words" in text.tables]
    if not kinds:
        return
    end = 0
    for place, _ in text.numbers:
        found = _VALUE.match(text.text, place) if place >= end else None
        if found is None:
            continue
        start, end = found.span()
        if end - start < _FEWEST_DIGITS or sum(map(str.isdigit, found[0])) < _FEWEST_DIGITS:
            continue
        front = _LETTERS_BEFORE.search(text.text, max(start - 5, 0), start)
        if front and (front.start() == 0 or not text.text[front.start() - 1].isalnum()):
            start = front.start()
        value = text.text[start : found.end()].rstrip(" .-/")
        digits, letters = sum(map(str.isdigit, value)), sum(map(str.isalpha, value))
        if _YEAR_OR_DATE.fullmatch(value) or not (
            digits > _FEWEST_DIGITS or (digits == _FEWEST_DIGITS and letters >= 2)
        ):
            continue
        before = text.before(start, _CUE_REACH)
        for kind in kinds:
            if load_pattern("identifiers", f"{kind}_number").search(before):
                yield Span(start, start + len(value), kind)
                break


def _digits(value: str) -> list[int]:
    return [int(c) for c in value if c.isdigit()]


def luhn(value: str) -> bool:
    """Tell whether the digits pass the check of ISO/IEC 7812-1, annex B."""
    total = 0
    for place, digit in enumerate(reversed(_digits(value))):
        total += digit if place % 2 == 0 else sum(divmod(2 * digit, 10))
    return total % 10 == 0


def _is_card(value: str) -> bool:
    return 13 <= len(_digits(value)) <= 19 and value[0] in "23456" and luhn(value)


def is_iban(value: str) -> bool:
    """Tell whether letters and digits pass the check of ISO 13616 (MOD 97-10)."""
    plain = re.sub(r"[^A-Z0-9]", "", value.upper())
    if not 15 <= len(plain) <= 34:
        return False
    return int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


def _is_nir(value: str) -> bool:
    plain = value.replace(" ", "").replace("2A", "19").replace("2B", "18")
    return plain.isdigit() and 97 - int(plain[:13]) % 97 == int(plain[13:])


def _is_dni(value: str) -> bool:
    plain = re.sub(r"[ -]", "", value)
    number = plain[:-1].replace("X", "0").replace("Y", "1").replace("Z", "2")
    return _DNI_LETTERS[int(number) % 23] == plain[-1]


def _always(value: str) -> bool:
    return True


def find_personal_numbers(text: Text) -> Iterator[Span]:
    """Yield the long numbers of a person, the codes behind "no." and the like, and those of a form of their own."""
    if "@" in text.lower:
        yield from (Span(*found.span(), "account") for found in _PAY.finditer(text.lower))
    if not text.numbers:
        return
    whole = _SMALL_CODE if text.text == text.lower else _WHOLE_CODE
    for found in whole.finditer(text.text):
        value = found[0]
        is_long = len(value) >= _FEWEST_SIGNS and _FOUR_DIGITS.search(value) is not None
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
            places = (found.span() for found in _ANY_PLATE.finditer(text.text) if _is_plate(found[0]))
            yield from (Span(*place, "device") for place in places if is_own(text, *place))
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


def _is_plate(value: str) -> bool:
    """Tell whether a code in capitals has the length of a plate, and two letters."""
    letters = sum(map(str.isalpha, value))
    return letters > 1 and letters + sum(map(str.isdigit, value)) >= _FEWEST_OF_ANY_PLATE


def _is_word(letters: str) -> bool:
    return letters in (common_words() if len(letters) > 2 else load_words("identifiers", "short_words"))


def is_own(text: Text, start: int, end: int) -> bool:
    """Tell whether a code is no amount, no year, and none of a gene, a trial, a disease or a product."""
    value = text.text[start:end]
    if _NO_CODE.fullmatch(value) or is_of_product(text, start, end):
        return False
    if load_pattern("identifiers", "public_code").match(value):
        return False
    before, after = text.before(start, _KIND_REACH), text.after(end, 24)
    if load_pattern("identifiers", "other_number").search(before[-18:]) or load_pattern(
        "identifiers", "other_code"
    ).search(before):
        return False
    return load_pattern("identifiers", "unit_behind").match(after) is None


def _kind(text: Text, start: int) -> str:
    """Return of what a number is by the last word before it that says so."""
    last, kind = 0, "record"
    for name in ("device", "account", "phone"):
        for found in load_pattern("identifiers", f"{name}_before").finditer(text.before(start, _KIND_REACH)):
            if found.end() > last:
                last, kind = found.end(), name
    return kind


# A pattern, how many characters before the first digits it may begin, the kind, and the check.
Rule = tuple[re.Pattern[str], tuple[int, ...], str, Callable[[str], bool]]
_OF_DIGITS: tuple[Rule, ...] = (
    (_SSN, (0,), "record", _always),
    (_NINO, (2, 3), "record", _always),
    (_NIR, (0,), "record", _is_nir),
    (_DNI, (0, 1, 2), "record", _is_dni),
    (_CARD, (0,), "account", _is_card),
    (_IBAN, (2,), "account", is_iban),
    (_UDI, (1,), "device", _always),
)
_OF_LETTERS: tuple[Rule, ...] = ((_MBI, (0,), "record", _always), (_CODICE, (6,), "record", _always))
_CUED = ("record", "device", "account")
