"""Streets and towns told by what is around them, whatever the street is called: "lives at", a person's name, a code.

In a text about one person a number beside words that streets have is enough, of many countries, in any letters.
"""

import functools
import re
from collections.abc import Iterator

from medqa_cli.data.identifiers.address_parts import (
    chains,
    end_of_parts,
    has_code_behind,
    labelled,
)
from medqa_cli.data.identifiers.finds import Span
from medqa_cli.data.identifiers.name_forms import is_common, with_capitals
from medqa_cli.data.identifiers.shaped_addresses import shaped_streets
from medqa_cli.data.identifiers.text import Text
from medqa_cli.data.identifiers.word_tables import all_names, common_words, medical_words
from medqa_cli.resources import load_pattern, load_words

_WORD = r"[^\W\d_][\w'’.-]*"
_FLAT = (
    r"(?:(?:flat|unit|apt\.?|apartment|studio|suite|level|block|plot(?: no\.?)?|house(?: no\.?)?|door no\.?"
    r"|h\.?\s?no\.?|no\.?|số)\s?[\w/-]{1,6},?\s)?"
)
_NUMBER = r"\d(?<![\w.,/$£€-].)\d{0,5}[a-z]?(?:[/-]\d{1,4}[a-z]?)?"
# 16 Hannah Walk Suite 4; 27, avenue de Reynaud
_NUMBER_FIRST = re.compile(rf"{_NUMBER},?\s(?P<words>{_WORD}(?:\s{_WORD}){{0,4}})")
_FLAT_BEFORE = re.compile(rf"(?<![\w-]){_FLAT}\Z")
_AMOUNT = r"\s?(?:mg|ml|kg|cm|mm|days?|weeks?|months?|years?|hours?|times|points?)\b"
_NUMBER_BEHIND = re.compile(
    rf",?\s(?:n[ro]?[.º°:]{{0,2}}\s?|\#\s?|д\.\s?)?\d{{1,4}}[a-z]?(?:[/-]\d{{1,4}}[a-z]?)?(?![\w%]|[.,]\d|{_AMOUNT})"
)
_LARGE_BEFORE = with_capitals(r"(?<![\w-])(?:[A-ZÀ-Þ][\w’'.-]+ ){1,2}\Z")
_WORDS = re.compile(_WORD)
_HOUSE_OF_NAME = re.compile(
    rf"(?<![\w-])(?:flat|studio|apartment|apt\.?|unit)\s\d{{1,4}}[a-z]?,\s(?P<words>{_WORD} {_WORD})"
    r"(?=\s?[,.;\n]|\s[a-z]|\Z)"
)
_NO_STREET_WORDS = frozenset(
    (
        "until",
        "till",
        "at",
        "meds",
        "neg",
        "and",
        "with",
        "for",
        "then",
        "when",
        "because",
        "but",
        "so",
        "is",
        "are",
        "you",
    )
)
_LONGEST_FLAT, _LONGEST_SHORT = 24, 5
FLAT_BEFORE = re.compile(
    r"(?<![\w-])(?:flat|unit|studio|level|plot(?: no\.?)?|house no\.?|door no\.?|h\.?\s?no\.?)\s?\Z"
)
"""What may stand before the number of a house."""
_SHORT = 4
_CUE_REACH, _TOWN_REACH, _SHORTEST, _CODE = 60, 30, 7, 5
_CODED_TOWN = with_capitals(r"(?:D|CH|A|F|NL|B|SE|DK)-\d{4,5}\s[A-ZÀ-Þ][\w-]+(?:\s(?:am|an der|im)\s[A-Z]\w+)?")
_TOWN_WITH_CODE = with_capitals(r"\d{5}\s[A-ZÀ-Þ][\w-]{2,}(?:\s(?:am|an der|im|sur|la|le)\s[A-Z]\w+)?")
_BEFORE_TOWN = re.compile(
    r"\b(?:wohn\w*(?: in)?|str\w*\.? \w+ in|aus|nach|habite|vivo en|abito a|woon in|mieszkam w)\s$"
)
_STREET_REACH = 48
_STREET_BEFORE = with_capitals(
    r"(?<![\w-])((?:(?:ul|al|os|pl|[Cc]alle|[Vv]ia|[Rr]ua)\.?\s)?(?:[A-ZÀ-Þ][\w'’.-]+,?\s){1,4})\Z"
)
_NUMBER_REST = re.compile(r"\s?[a-z]?(?:[/-]\d{1,4})?(?![\w.])")
_CODE_BEHIND_NAME = re.compile(
    r",\s(\d{5,6}|\d{5}-\d{3,4}|\d{4}-\d{3}|\d\d-\d{3}|\d{3} \d\d|\d{4} ?(?!AM|PM|MG|ML)[A-Z]{2}"
    r"|(?!(?:19|20)\d\d)\d{4})(?=[,;)\n]|\.\s|\Z)"
)
# One of these stands just before, but for the words of a flat.
_LAST_WORDS = frozenset(("at", "on", "to", "from", "of", "in", "am", "is", "address", "au", "en", "der", "up", "home"))
_LETTERS = re.compile(r"[^\W\d_]{2,}")


@functools.cache
def _street_words() -> frozenset[str]:
    return load_words("identifiers", "street_words", "more_street_words", "foreign_street_words")


def personal_streets(text: Text) -> Iterator[tuple[int, int]]:
    """Yield streets with their numbers, wherever they stand in the text."""
    yield from _behind_numbers(text)
    for found in load_pattern("identifiers", "street_with_ending").finditer(text.lower):
        number = _NUMBER_BEHIND.match(text.lower, found.end())
        if number and _is_street_word(text, *found.span()):
            before = _LARGE_BEFORE.search(text.text, max(found.start() - 30, 0), found.start())
            yield before.start() if before and not text.is_shouted else found.start(), end_of_parts(text, number.end())
    if not load_words("identifiers", "first_street_words").isdisjoint(text.words):
        for found in load_pattern("identifiers", "street_after").finditer(text.lower):
            rest = found.end()
            if number := _NUMBER_BEHIND.match(text.lower, rest):
                yield found.start(), end_of_parts(text, number.end())
    yield from shaped_streets(text)
    # Flats of houses that have names: Flat 61, Kevin Points.
    if not load_words("identifiers", "flat_words").isdisjoint(text.words):
        for found in _HOUSE_OF_NAME.finditer(text.lower):
            words = [word[0].strip(".") for word in _WORDS.finditer(found["words"])]
            is_large = text.text[found.start("words") : found.end("words")].istitle() and not all(map(is_common, words))
            if is_large or not _street_words().isdisjoint((words[-1], words[-1].removesuffix("s"))):
                yield found.start(), end_of_parts(text, found.end())
    yield from chains(text)
    yield from labelled(text)


def _behind_numbers(text: Text) -> Iterator[tuple[int, int]]:
    """Yield streets behind their numbers: 16 Hannah Walk."""
    for start, _ in text.numbers:
        found = _NUMBER_FIRST.match(text.lower, start)
        if found is None or load_pattern("identifiers", "no_street").match(text.lower, start):
            continue
        flat = _FLAT_BEFORE.search(text.lower, max(start - _LONGEST_FLAT, 0), start)
        flat = flat if flat and flat[0] else FLAT_BEFORE.search(text.lower, max(start - _LONGEST_FLAT, 0), start)
        first = flat.start() if flat else start
        words = list(_WORDS.finditer(text.lower, *found.span("words")))
        ends = [place for place, word in enumerate(words) if _ends_sentence(word[0])]
        words = words[: ends[0] + 1] if ends else words
        is_cued = load_pattern("identifiers", "place_before").search(text.before(first, 40)) is not None
        for place, word in enumerate(words):
            plain = word[0].strip(".")
            is_street = plain in (_street_words() if place else load_words("identifiers", "first_street_words"))
            if not is_street:
                continue
            if any(other[0] in _NO_STREET_WORDS for other in words[:place]):
                break
            others = words[:place] or words[1:]
            if not place and len(plain) < _SHORT and (len(words) < 2 or is_common(words[1][0].strip("."))):  # 30 bd.
                break
            is_large = not text.is_shouted and any(text.text[other.start()].isupper() for other in others)
            names = is_large or not all(is_common(other[0].strip(".")) for other in others)
            end = word.end()
            if not place:  # 12 rue Paul Carpentier, and no word behind it
                named = [other for other in words[1:4] if not is_common(other[0].strip("."))]
                end = named[-1].end() if named else words[min(len(words) - 1, 2)].end()
            is_whole = is_cued and (plain in load_words("identifiers", "certain_streets") or has_code_behind(text, end))
            if is_whole or (names and (is_cued or is_large)):
                yield first, end_of_parts(text, end)
                break


def _ends_sentence(word: str) -> bool:
    """Tell whether a full stop behind a word is none of an abbreviation: quid., neg.; but St., Gral."""
    plain = word.rstrip(".")
    is_word = plain in common_words() or plain in medical_words()
    return plain != word and (len(word) > _LONGEST_SHORT or (is_word and plain not in _street_words()))


def _is_street_word(text: Text, start: int, end: int) -> bool:
    """Tell whether a word with the ending of a street is none of the language: during 2019, spring 2020."""
    word = text.lower[start:end]
    last = re.split(r"[\s-]", word)[-1]
    if "-" in word and last in load_words("identifiers", "street_endings"):
        return True
    if last in common_words() or (last in all_names() and "-" not in word):
        return False
    return not (last.endswith("ing") and (last[:-3] in common_words() or last[:-3] + "e" in common_words()))


def town_behind(text: Text, end: int) -> re.Match[str] | None:
    """Return the town behind a street, if one stands there."""
    found = load_pattern("identifiers", "town_behind", re.NOFLAG).match(text.text, end)
    return found if found and _is_place(found[0]) else None


def _is_place(value: str) -> bool:
    """Tell whether an address does not begin with a common word or the name of a month."""
    words = _LETTERS.findall(value.lower())
    return bool(words) and words[0] not in load_words("identifiers", "common", "months_and_days")


def _is_street(text: Text, value: str) -> bool:
    """Tell whether the words before a number are no other thing that has one (Room 12), and no code (SVNR 2057)."""
    first = value.split()[0]
    is_word = first.lower() in common_words() or first.lower() in load_words("identifiers", "ambiguous")
    return (text.is_shouted or not first.isupper()) and not is_word and _is_place(value)


def address_behind(text: Text, name: Span) -> Span | None:
    """Return the address behind the name of a person: Anna Lee, 33 Rebecca Byway, 2641."""
    if not text.numbers:
        return None
    if code := _CODE_BEHIND_NAME.match(text.text, name.end):
        return Span(*code.span(1), "address")
    found = load_pattern("identifiers", "street_behind_name", re.NOFLAG).match(text.text, name.end)
    if found is None or not (_is_street(text, found[2]) if found[2] else _is_place(found[1])):
        return None
    if load_pattern("identifiers", "no_street_behind_name", re.NOFLAG).match(found[1]):
        return None
    if load_pattern("identifiers", "public_body").search(text.after(found.end(), _CUE_REACH)):
        return None
    return Span(*found.span(1), "address")


def at_home(text: Text) -> Iterator[tuple[int, int]]:
    """Yield what begins with the number of a house behind "lives at" and the like, up to a mark."""
    for start, _ in text.numbers:
        before = text.before(start, 24).split()
        if not before or not (before[-1][-1] in ":=|" or _LAST_WORDS.intersection(before[-3:])):
            continue
        flat = FLAT_BEFORE.search(text.lower, max(start - 10, 0), start)
        first = flat.start() if flat else start
        if not load_pattern("identifiers", "at_home").search(text.before(first, _CUE_REACH)):
            continue
        if load_pattern("identifiers", "no_street").match(text.lower, start):
            continue
        found = load_pattern("identifiers", "any_street").match(text.lower, start)
        if found is None or found.end() - start < _SHORTEST:
            continue
        # No amount: a mark is inside, or a word of streets, or one that is no word.
        words = _LETTERS.findall(found[0])
        streets = load_words("identifiers", "street_words", "foreign_street_words")
        if "," in found[0] or not streets.isdisjoint(words) or not all(map(is_common, words)):
            yield first, found.end()


def streets_before_numbers(text: Text) -> Iterator[tuple[int, int]]:
    """Yield streets whose number stands behind them, behind "lives at" and the like: Wohlgemutring 3."""
    for start, end in text.numbers:
        word = text.text.rfind(" ", 0, max(start - 1, 0)) + 1
        if word >= start - 2 or not text.text[word].isupper() or not text.text[start - 1].isspace():
            continue
        street = _STREET_BEFORE.search(text.text, max(start - _STREET_REACH, 0), start)
        is_amount = load_pattern("identifiers", "no_street").match(text.lower, start) is not None
        if street is None or is_amount or not _is_street(text, street[1]):
            continue
        if load_pattern("identifiers", "at_home").search(text.before(street.start(), _CUE_REACH)):
            rest = _NUMBER_REST.match(text.text, end)
            yield street.start(1), rest.end() if rest else end


def coded_towns(text: Text) -> Iterator[tuple[int, int]]:
    """Yield towns with the code before them: D-79106 Freiburg, and behind "wohne in" without the country."""
    for start, end in text.numbers:
        if text.text[start - 1 : start] == "-":
            for back in (2, 3):
                coded = _CODED_TOWN.match(text.text, start - back) if start >= back else None
                if coded and not text.text[max(start - back - 1, 0) : start - back].isalnum():
                    yield coded.span()
        elif (
            end - start == _CODE
            and (town := _TOWN_WITH_CODE.match(text.text, start))
            and _BEFORE_TOWN.search(text.before(start, _TOWN_REACH))
        ):
            yield town.span()
