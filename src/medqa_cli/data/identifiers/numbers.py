"""Numbers that a person has: of records, insurances and social security, devices, accounts, cards, licenses.

A number counts where its form is certain (a check digit, or a form that nothing else has) or where words before it say
what it is. The check digits: Luhn for cards, ISO 7064 MOD 97-10 for IBAN, modulo 97 for the French NIR, the letter of
the Spanish DNI (modulo 23).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from medqa_cli.data.identifiers.finds import Span
from medqa_cli.data.identifiers.text import Text
from medqa_cli.resources import load_pattern

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
