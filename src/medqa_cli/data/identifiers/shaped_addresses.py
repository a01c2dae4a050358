"""Streets of any name, told by their shape and by what is around them, in a text about one person.

A number beside words that are none of the language is a house in a street behind words of homes ("picked up from",
"address:"), and anywhere before a town, most surely before one with its code.
"""

import functools
import re
from collections.abc import Iterator, Sequence

from medqa_cli.data.identifiers.address_parts import (
    end_of_parts,
    end_of_units,
    has_coded_town_behind,
    has_town_alone_behind,
    has_town_behind,
)
from medqa_cli.data.identifiers.name_forms import is_common, is_medicine, with_capitals
from medqa_cli.data.identifiers.text import Text
from medqa_cli.data.identifiers.word_tables import all_names, common_words, first_names, medical_words
from medqa_cli.resources import load_pattern, load_words

_HOUSE = re.compile(r"\d{1,5}[A-Za-z]?(?:[/-]\d{1,4}[A-Za-z]?){0,3},?\s(?=[^\W\d_])")
_NEXT = re.compile(r"[^\W\d_][\w'’-]*\.?")
_WORDS_BEFORE = re.compile(r"(?:[^\W\d_][\w'’.-]*,?\s){1,6}\Z")
_NUMBER_REST = re.compile(
    r"[A-Za-z]?(?:\s?/\s?\d{1,4}[a-z]?|-\d{1,3})?(?=[,;!?\n)|:]|\.(?!\d)|\s[^\W\d_(]|\s?[|(]|\s?\Z)(?![,:]\d)"
    r"(?!\s?(?:mg|mcg|ml|kg|cm|mm|am|pm|days?|weeks?|months?|years?|yrs?|yo|hours?|minutes?|times|points?|units?|tablets?)\b)"
)
_TITLE = with_capitals(r"[A-ZÀ-Þ](?:[a-zß-ÿ]|[^\W\d_]['’]?[^\W\d_A-Z])")
_SHORT_BEHIND_APOSTROPHE = re.compile(r"['’][^\W\d_]{1,3}\Z")
_GLUED, _DATE = re.compile(r"[\w/.,:+-]"), re.compile(r"\d{1,2}([/.-])\d{1,2}\1(?:\d\d){1,2}\b|(?:19|20)\d\d\b")
_HOUSE_SIGN = re.compile(r"(?<![^\W_])h\.?\s?no\.?\s?\Z")
_LINE_OR_SENTENCE = re.compile(r"(?:[\n:(]|[.?!–-]\s)\s?\Z|\A\Z")
_WITHOUT_NUMBER = re.compile(r",?\ss/n\b")
_YEAR = re.compile(r"(?:19|20)\d\d")
_MOST, _REACH, _CUE_REACH, _LONGEST_NUMBER = 6, 60, 70, 4
_FEWEST_LETTERS = 3
Words = list[re.Match[str]]


@functools.cache
def _kinds_of_streets() -> frozenset[str]:
    """Return the words that say what a street is, before its name or behind it."""
    return load_words("identifiers", "street_words", "more_street_words", "foreign_street_words", "first_street_words")


def shaped_streets(text: Text) -> Iterator[tuple[int, int]]:
    """Yield streets behind and before their numbers: 8141 Gandhi Ithafa; at 12 Nguyễn Chí Thanh; at Jurkovićeva 707."""
    for start, end in text.numbers:
        if end - start > _LONGEST_NUMBER + 1 or _GLUED.match(text.text, start - 1):
            continue
        if house := _HOUSE.match(text.text, start):
            yield from _behind_number(text, start, house.end())
        if text.text[start - 1 : start] == " " and end - start <= _LONGEST_NUMBER:
            yield from _before_number(text, start, end)


def streets_without_number(text: Text) -> Iterator[tuple[int, int]]:
    """Yield streets that have no number, by the word in front: Rua Torres, s/n; rue Dias, 70916 Arnaud-sur-Robin."""
    for first in text.words & load_words("identifiers", "first_street_words") - load_words("identifiers", "ambiguous"):
        for place in text.places(first) if len(first) >= _FEWEST_LETTERS or first in ("r", "av", "ul") else ():
            start = place + len(first) + (text.text[place + len(first) : place + len(first) + 1] == ".") + 1
            words = _run(text, start) if text.text[start - 1 : start] == " " else []
            if not words or not any(_is_name(word) for word in words):
                continue
            end = words[-1].end()
            if (
                has_coded_town_behind(text, end)
                or _WITHOUT_NUMBER.match(text.lower, end)
                or (first not in common_words() and _is_home(text, place))
            ):
                yield place, end_of_parts(text, end)


def _behind_number(text: Text, start: int, place: int) -> Iterator[tuple[int, int]]:
    """Yield the street whose number stands before it."""
    words = _run(text, place)
    if (
        not words
        or not _may_be_street(text, words)
        or load_pattern("identifiers", "no_street").match(text.lower, start)
    ):
        return
    end = words[-1].end()
    first = words[0][0].lower().rstrip(".")
    is_house = _HOUSE_SIGN.search(text.before(start, _REACH)) is not None
    is_list = text.text[place - 2] == "," and first not in load_words("identifiers", "first_street_words")
    if is_list and not is_house:
        return
    is_coded = has_coded_town_behind(text, end_of_units(text, end))
    is_date = _DATE.match(text.text, start) is not None
    is_whole = len(words) > 1 or has_town_behind(text, end)
    if (
        is_coded
        or is_house
        or (is_whole and not is_date and not _may_be_person(text, words) and _is_told(text, start, words, end))
    ):
        yield start, end_of_parts(text, end)


def _before_number(text: Text, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the street whose number stands behind it."""
    rest = _NUMBER_REST.match(text.text, end)
    before = _WORDS_BEFORE.search(text.text, max(start - _REACH, 0), start) if rest else None
    if rest is None or before is None:
        return
    if text.text[start - 2] == "," and _NEXT.match(text.text, rest.end() + 1):  # Anna Lee, 80 Wong Coves
        return
    words = _run_before(text, list(_NEXT.finditer(text.text, before.start(), start)))
    if not words or not _may_be_street(text, words):
        return
    first, last = words[0].start(), rest.end()
    is_coded = has_coded_town_behind(text, end_of_units(text, last))
    is_year = _YEAR.fullmatch(text.text[start:end]) is not None
    if is_coded or (not is_year and not _may_be_person(text, words) and _is_told(text, first, words, last)):
        yield first, end_of_parts(text, last)


def _is_told(text: Text, start: int, words: Words, end: int) -> bool:
    """Tell whether words of homes stand before a street, or "at" and the like before one of names alone."""
    before = text.before(start, _CUE_REACH)
    if _is_home(text, start):
        return True
    if text.is_shouted or not all(_is_large(word) for word in words):
        return False
    if load_pattern("identifiers", "place_before_street").search(before):
        return _are_unknown(words) or (len(words) > 1 and has_town_behind(text, end))
    if load_pattern("identifiers", "home_before").search(before) and before[-1] in ",:( ":
        return _are_unknown(words)
    return _LINE_OR_SENTENCE.search(before) is not None and _are_unknown(words) and has_town_alone_behind(text, end)


def _is_home(text: Text, start: int) -> bool:
    return load_pattern("identifiers", "home_before_street").search(text.before(start, _CUE_REACH)) is not None


def _is_large(word: re.Match[str]) -> bool:
    return word[0].lower() in load_words("identifiers", "street_links") or _TITLE.match(word[0]) is not None


def _run(text: Text, place: int) -> Words:
    """Return the words from a place on that may be a street, up to a mark or the first word of the language."""
    words: Words = []
    while len(words) < _MOST and (word := _NEXT.match(text.text, place)) and _may_be_in_street(text, word):
        words.append(word)
        place = word.end() + 1
        if text.text[word.end() : place] != " " or (word[0][-1] == "." and len(word[0]) > _LONGEST_NUMBER + 1):
            break
    while words and words[-1][0].lower() in load_words("identifiers", "street_links"):
        words.pop()
    return words


def _run_before(text: Text, words: Words) -> Words:
    """Return the words at the end of some that may be a street."""
    first, verbs = len(words), load_words("identifiers", "home_verbs")
    while first and _may_be_in_street(text, words[first - 1]):
        if re.split("['’]", words[first - 1][0].lower())[-1] in verbs:
            break
        first -= 1
        if text.text[words[first].start() - 1] != " " or text.text[words[first].start() - 2] == ",":
            break
    links = load_words("identifiers", "street_links")
    while first < len(words) and words[first][0].lower() in links and not text.text[words[first].start()].isupper():
        first += 1
    return words[first:]


def _may_be_person(text: Text, words: Words) -> bool:
    """Tell whether words begin with a first name, not behind "at", and end with no word of streets: 3 Anna Lee."""
    last = words[-1][0].lower().rstrip(".")
    is_kind = last in _kinds_of_streets() or (last in common_words() and last not in all_names())
    return words[0][0].lower() in first_names() and not is_kind and text.before(words[0].start(), 4) != " at "


def _may_be_in_street(text: Text, word: re.Match[str]) -> bool:
    plain = word[0].lower().rstrip(".")
    if plain in load_words("identifiers", "street_links"):
        return True
    if plain in load_words("identifiers", "common", "no_towns", "months_and_days"):
        return False
    if text.text[word.start()].isupper() and not text.is_shouted:
        return True
    return plain in _kinds_of_streets() or plain.removesuffix("s") in _kinds_of_streets() or not _is_word(plain)


def _is_word(word: str) -> bool:
    return is_common(word) or word in medical_words() or is_medicine(word)


def _may_be_street(text: Text, words: Sequence[re.Match[str]]) -> bool:
    """Tell whether words have one that is none of the language, and none of medicine."""
    plain = [word[0].lower().rstrip(".") for word in words]
    if len(words[0][0]) == 1 and plain[0] not in load_words("identifiers", "street_links"):
        return False
    if any(is_medicine(word) or word in load_words("identifiers", "no_street_names") for word in plain):
        return False
    return any(_is_name(word) for word in words)


def _is_name(word: re.Match[str]) -> bool:
    """Tell whether a word is none of the language and no kind of street."""
    plain = word[0].lower().rstrip(".")
    if len(plain) < _FEWEST_LETTERS or _SHORT_BEHIND_APOSTROPHE.search(plain) or plain in _kinds_of_streets():
        return False
    return plain not in common_words() and not _is_word(plain)


def _are_unknown(words: Sequence[re.Match[str]]) -> bool:
    """Tell whether none of some words is a common one, or one that is a name, too."""
    none = load_words("identifiers", "no_names", "common", "months_and_days", "ambiguous")
    plain = [word[0].lower().rstrip(".") for word in words]
    return all(
        word in load_words("identifiers", "street_links")
        or not (word in common_words() or word in none or word in medical_words())
        for word in plain
    )
