"""Postal addresses and postcodes of persons. Those of institutes, and names of places alone, stay."""

import functools
import re
from collections.abc import Iterator

from medqa_cli.data.identifiers.address_parts import grown
from medqa_cli.data.identifiers.finds import Span
from medqa_cli.data.identifiers.home_addresses import (
    FLAT_BEFORE,
    at_home,
    coded_towns,
    personal_streets,
    streets_before_numbers,
    town_behind,
)
from medqa_cli.data.identifiers.name_forms import LAST_WORD, with_capitals
from medqa_cli.data.identifiers.shaped_addresses import streets_without_number
from medqa_cli.data.identifiers.text import Text
from medqa_cli.data.identifiers.word_tables import months
from medqa_cli.resources import load_pattern, load_words

_LONG_WORD = re.compile(r"[^\W\d_]{4,}")
_PUBLIC_REACH = 140
_ZIP_DIGITS = 5
_UK = re.compile(
    r"(?P<area>[A-Z](?<![\w-].)[A-Z]?)(?:\d[A-Z]|\d{1,2})\s\d(?!TH|ST|RD|ND|HT)[ABD-HJLNP-UW-Z]{2}(?![\w-])"
)
_CANADA = re.compile(r"[ABCEGHJ-NPRSTVXY](?<![\w-].)\d[ABCEGHJ-NPRSTV-Z][ -]\d[ABCEGHJ-NPRSTV-Z]\d(?![\w-])")
_ZIP = re.compile(r"\d(?<![\w.-].)\d{4}(?:-\d{4})?(?![\w-])")
# What stands behind the number of a house, and behind the digits of a British postcode's first half.
_HOUSE = re.compile(r"(?:-\d{1,4})?[A-Za-z]?,?\s+[^\Wa-z]")
_INWARD = re.compile(r"[a-z]? \d[a-z]{2}\b")
_ENDINGS = (
    "straße ",
    "strasse ",
    "str. ",
    "weg ",
    "platz ",
    "allee ",
    "gasse ",
    "straat ",
    "laan ",
    "gracht ",
    "-ring ",
    "damm ",
    "ufer ",
)
_CODE = re.compile(r"\d{4,6}|[a-z]{1,2}\d[a-z\d]? ?\d[a-z]{2}")


_CAPITAL_BEHIND = re.compile(r"(?:[-/]\d{1,5})?[A-Za-z]?,?\s[^\Wa-z]")
# Kerkstraat 12, 1017 AB Amsterdam: the rest of Europe writes the code before the town.
_WORDS_BEFORE = with_capitals(
    r"(?<![\w-])(?!(?i:Table|Figure|Phase|Grade|Chapter|Stage|Type|Section|Part|Volume|Step|Level|Class|Page|Version|Group"
    r"|Week|January|February|March|April|May|June|July|August|September|October|November|December)\b)"
    r"[A-ZÀ-Þ][\w.-]{3,}(?: [A-ZÀ-Þ][\w.-]+)? \Z"
)
_TOWN_BEHIND = with_capitals(
    r"\s?[a-z]?(?:/\d{1,4})?,\s(?:[A-Z]{1,2}-)?(?:\d{5}|\d{4}\s?[A-Z]{2}|\d{2}-\d{3}|\d{3}\s\d{2}|(?!19|20)\d{4})\s[A-ZÀ-Þ][\w-]+"
)
_YEAR_BEFORE_COMMA = re.compile(r"(?:\d{1,2}[/.-]){0,2}(?:19|20)\d\d,")
_YEAR_ALONE = re.compile(r"(?:19|20)\d\d")
# Postcodes alone: of Britain, Canada and Ireland in any letters; of digits behind words of places, or before "area".
_LETTER_CODE = re.compile(
    r"[a-z](?<![\w-].)(?:(?P<area>(?<=(.))[a-z]?)(?:\d[a-z]|\d{1,2})\s\d(?!th|st|rd|nd)[abd-hjlnp-uw-z]{2}"
    r"|(?<=[abceghj-nprstvxy])\d[abceghj-nprstv-z][ -]\d[abceghj-nprstv-z]\d"
    r"|(?<=[ac-fhknprtv-y])\d[\dw]\s(?=\d*[a-z])(?=[a-z]*\d)[ac-fhknprtv-y\d]{4})(?![\w-])"
)
_DIGIT_CODE = re.compile(
    r"\d(?<![\w.,/$£€+-].)(?:\d{4}-\d{3,4}|\d{3}-\d{3}|\d\d-\d{4}|\d-\d{3}|\d\d \d\d"
    r"|\d{3} ?(?!mg|ml|am|pm|kg|iu|km|cm|mm|in|or|of|to|at|is|my|we|as)[a-z]{2}|\d{3,5})"
    r"(?![\w%°-]|[.,/]\d|\s\d|\s(?!and|but|so|area|have|with|or|who|that)[a-z])"
)
_IN_DATE = frozenset("/.-")
_LIVES = ("live", "living", "resid", "moved to", "address", "i, ", "ship to", "send", "deliver")
_CODE_BEHIND = with_capitals(
    r"(?:,\s[A-Z][\w-]+)?\s?[-–]\s?\d{6}\b|,\s(?:[A-Z]-)?\d{5,6}(?:\s[A-ZÀ-Þ][\w-]+)?(?![\w.])"
)
# The first digits of a phone or record are no postcode: SA 0248, FAX 0491 570 539.
_PHONE_BEHIND = re.compile(r"[,;]?\s(?i:fax|tel|phone|ph|mob|mobile|cell|mrn|nhs)\b\W{0,3}\w*$")


@functools.cache
def _pattern(name: str) -> re.Pattern[str]:
    """Return the pattern of a table, letters as they are."""
    return load_pattern("identifiers", name, re.NOFLAG)


def find_addresses(text: Text, *, is_personal: bool = False) -> Iterator[Span]:
    """Yield the addresses and postcodes of persons, each as one span from the house to the postcode.

    Args:
        text: the text.
        is_personal: it is about one person, and so is any street with a number.
    """
    if text.is_shouted:
        # Words of four letters and more get one capital; codes of states and countries keep theirs.
        text = Text(_LONG_WORD.sub(lambda word: word[0].capitalize(), text.text))
        text.is_shouted = True
    parts = [*_parts(text)]
    if is_personal:
        parts += streets_without_number(text)
        if text.numbers:
            parts += [*personal_streets(text), *_postcodes(text)]
    parts = [span for span in parts if text.text[span[0] - 1 : span[0]] not in _IN_DATE or not _year_at(text, span[0])]
    found = sorted({span for span in parts if not _is_public(text, *span, is_personal=is_personal)})
    whole: list[tuple[int, int]] = []
    for first, last in sorted(_whole(text, *span, is_personal=is_personal) for span in found):
        # Street, town and postcode, with only a comma or a line between, are one address.
        if whole and first <= whole[-1][1] + 3 and not text.text[whole[-1][1] : first].strip(" ,\n"):
            whole[-1] = (whole[-1][0], max(whole[-1][1], last))
        else:
            whole.append((first, last))
    yield from (
        Span(first, first + len(_PHONE_BEHIND.sub("", text.text[first:last])), "address") for first, last in whole
    )


def _year_at(text: Text, start: int) -> bool:
    return _YEAR_BEFORE_COMMA.match(text.text, start) is not None


def _whole(text: Text, first: int, last: int, *, is_personal: bool) -> tuple[int, int]:
    """Return the place of an address with the flat before it and the town behind it."""
    flat = FLAT_BEFORE.search(text.lower, max(first - 9, 0), first)
    towns = (_CODE_BEHIND.match(text.text, last), town_behind(text, last))
    first, whole = flat.start() if flat else first, max([last, *(town.end() for town in towns if town)])
    if not is_personal:
        return first, whole
    first, end = grown(text, first, last)
    return first, max(end, grown(text, first, whole)[1])


def _parts(text: Text) -> Iterator[tuple[int, int]]:
    if not text.numbers:
        return
    yield from _of_known_streets(text)
    yield from _of_any_street(text)
    if "home_words" in text.tables:
        yield from at_home(text)
        yield from streets_before_numbers(text)
    if "box_words" in text.tables:
        for match in load_pattern("identifiers", "post_box").finditer(text.text):
            yield match.span()
    if text.has_long_number:
        yield from coded_towns(text)
    yield from _with_codes(text)


def _of_known_streets(text: Text) -> Iterator[tuple[int, int]]:
    """Yield streets with a word that streets have, and their numbers."""
    if "street_words" in text.tables:
        for start, end in text.numbers:
            if _HOUSE.match(text.text, end) and (match := _pattern("street").match(text.text, start)):
                yield match.span()
    if "clear_street_words" in text.tables:
        for start, end in text.numbers:
            if text.lower[end : end + 1].isspace() or text.lower[end + 1 : end + 2].isspace():
                match = _pattern("clear_street").match(text.lower, start)
                # Words around say that somebody lives there, or a postcode follows.
                if match and (
                    load_pattern("identifiers", "lives").search(text.before(start, 60))
                    or _CODE.search(text.after(match.end(), 45))
                ):
                    yield match.span()
    has_ending = text.has_long_number and any(map(text.lower.__contains__, _ENDINGS))
    if "foreign_street_words" in text.tables or has_ending:
        for match in _pattern("foreign_street").finditer(text.text):
            yield match.span()
    if has_ending:
        for match in _pattern("german_street").finditer(text.lower):
            yield match.span()


def _with_codes(text: Text) -> Iterator[tuple[int, int]]:
    """Yield what ends with the code of a state or a postcode, and postcodes alone."""
    if any(text.lower[start - 1 : start].isalpha() and _INWARD.match(text.lower, end) for start, end in text.numbers):
        for match in text.matches(_pattern("to_postcode"), 0, small=True):
            if match[1].upper() in load_words("identifiers", "uk_areas"):
                yield match.span()
    if text.has_long_number:
        # A number that may be a code behind the name of a state.
        zips = (start for start, end in text.numbers if end - start == _ZIP_DIGITS)
        if any(text.text[start - 1 : start].isspace() and text.text[start - 2] not in "0123456789" for start in zips):
            for match in text.matches(_pattern("to_zip"), 0, small=True):
                yield match.span()
        for match in text.matches(_ZIP, 0):
            town = _pattern("town_before").search(text.text, max(match.start() - 60, 0), match.start())
            if town:
                yield town.start(), match.end()
    if text.has_code:
        for match in text.matches(_UK, 1, 2):
            if match["area"] in load_words("identifiers", "uk_areas"):
                yield match.span()
        for match in text.matches(_CANADA, 1):
            yield match.span()
    if "postcode_words" in text.tables:
        for match in load_pattern("identifiers", "postcode").finditer(text.text):
            yield match.span(1)


def _postcodes(text: Text) -> Iterator[tuple[int, int]]:
    """Yield postcodes that stand alone, in a text about one person."""
    for found in text.matches(_LETTER_CODE, 1, 2, small=True):
        area = found["area"]
        if area is None or (found[2] + area).upper() in load_words("identifiers", "uk_areas"):
            yield found.span()
    for found in text.matches(_DIGIT_CODE, 0, small=True):
        start, end = found.span()
        is_year = _YEAR_ALONE.fullmatch(found[0]) is not None
        is_long = len(found[0]) >= _ZIP_DIGITS
        before = text.before(start, 40)
        is_told = load_pattern("identifiers", "before_postcode").search(before) or (
            is_long and load_pattern("identifiers", "before_long_postcode").search(before)
        )
        if (is_long and text.after(end, 6) == " area ") or (not is_year and is_told):
            yield start, end


def _of_any_street(text: Text) -> Iterator[tuple[int, int]]:
    """Yield streets that lack the words of one, where "lives at", a unit, or the code of a town tells."""
    lives = None
    for start, end in text.numbers:
        has_capital, behind = _CAPITAL_BEHIND.match(text.text, end), _TOWN_BEHIND.match(text.text, end)
        if not (has_capital or behind) or _year_at(text, start):
            continue
        last = LAST_WORD.search(text.lower, max(start - 12, 0), start)
        if last and last[1] in months():
            continue
        if has_capital:
            match = _pattern("coded_street").match(text.text, start)
            lives = any(map(text.lower.__contains__, _LIVES)) if lives is None else lives
            if not match and lives and load_pattern("identifiers", "lived_before").search(text.before(start, 56)):
                match = _pattern("lived_at").match(text.text, start)
            if match:
                yield match.span()
        before = _WORDS_BEFORE.search(text.text, max(start - 40, 0), start) if behind else None
        if before and behind:
            yield before.start(), behind.end()


def _is_public(text: Text, start: int, end: int, *, is_personal: bool) -> bool:
    """Tell whether an address is of an institute: one stands before it, or a web address or a free number beside it."""
    around = text.before(start, _PUBLIC_REACH) + " # " + text.after(end, 60)
    if is_personal:  # somebody's number of Medicare
        around = around.replace("medicare", "")
    if not load_pattern("identifiers", "public_body").search(around):
        return False
    return not load_pattern("identifiers", "lives").search(text.before(start, 60))
