"""Names in a text about one person that stand in the field of a form, before a degree, or alone at its end.

What stands there is a name whatever its letters: "surgeon: mills", "RN Bell", "i. horton, np", "Porter, Rebecca<tab>".
"""

import re
from collections.abc import Iterator

from medqa_cli.data.identifiers.finds import Span
from medqa_cli.data.identifiers.name_forms import LARGE, NAME_HERE, is_common, is_medicine, may_be_name
from medqa_cli.data.identifiers.text import Text
from medqa_cli.data.identifiers.word_sorts import near_names
from medqa_cli.data.identifiers.word_tables import all_names, first_names, medical_words, months
from medqa_cli.resources import load_pattern, load_words

_WORD = r"(?:['’][ts] )?(?:[^\W\d_]{1,2}\.|[^\W\d_](?:[^\W\d_]|['’‐-](?=[^\W\d_]))*)"
_VALUE = rf"(?P<name>{_WORD}(?: {_WORD}){{0,3}}(?:, {_WORD}(?: {_WORD}){{0,2}})?)"
_END = r"(?=\s*\Z|\s?\n|\s{2}|\t|\s?[|;(<]|\.\s|,\s|\s[-–—]\s)"
_DATE_OR_NUMBER = r"\d{1,4}[ ./-]|[a-z]{3,9}\.? \d|\d{5}"
_NAMELESS = frozenset(
    ["none", "unknown", "self", "same", "pending", "yes", "no", "n/a", "na", "nil", "tbc", "tbd", "see", "as", "per"]
)
_POSSESSIVE = re.compile(r"(?<![\w'’-])([^\W\d_]{3,})['’]s (?=[a-z])")
_LONGEST_LAST, _LONGEST_VALUE, _FEWEST = 48, 80, 4
_LAST = re.compile(rf"(?:[.!?](?:[\"”])?\s+|\n\s*|(?P<bye>\b[^\W\d_]+),\s?){_VALUE}[\s\"”]*\Z")
_BEFORE_DEGREE = re.compile(rf"(?:(?<=[.:/\n\"“(;] )|(?<=[:\n])|\A){_VALUE}\Z")
_VALUE_HERE, _FEW_HERE = re.compile(rf"{_VALUE}{_END}"), re.compile(rf"{_WORD}(?: {_WORD})?{_END}")
# A line of a table: Joy Ojo | 1-Oct-2000 |
_IN_TABLE = re.compile(rf"(?:\A|\n){_VALUE}(?:\s?[|\t]\s?|\s[–—-]\s)(?:the )?(?={_DATE_OR_NUMBER})")
_KISSES = re.compile(r"(?: x+)+\Z")
_WORDS = re.compile(r"[^\W\d_]+")
_LARGE_WORD = re.compile(rf"[{LARGE}]")


def find_names_in_fields(text: Text) -> Iterator[Span]:
    """Yield the names in fields, behind jobs, before degrees, before what belongs to them, and at the end."""
    for found in load_pattern("identifiers", "name_field").finditer(text.lower):
        if (value := _VALUE_HERE.match(text.lower, found.end())) is not None:
            yield from _named(text, *value.span("name"), is_field=True)
    has_both = not text.is_shouted and text.text != text.lower
    for found in load_pattern("identifiers", "name_behind_job").finditer(text.lower):
        value = (NAME_HERE if has_both else _FEW_HERE).match(text.text, found.end())
        if value is not None:
            yield from _named(text, *value.span(), is_field=has_both)
    for found in _IN_TABLE.finditer(text.lower):
        yield from _named(text, *found.span("name"), is_field=False)
    for degree in load_pattern("identifiers", "degree", re.NOFLAG).finditer(text.lower):
        before = _BEFORE_DEGREE.search(text.lower, max(degree.start() - _LONGEST_VALUE, 0), degree.start())
        if before is not None:
            yield from _named(text, *before.span("name"), is_field=False)
    yield from _owners(text)
    yield from _at_end(text)


def _named(text: Text, start: int, end: int, *, is_field: bool) -> Iterator[Span]:
    """Yield a place as a name where its words are no others, and one at least may be a name."""
    comma = text.text.rfind(",", start, end)
    behind = set(_WORDS.findall(text.lower, comma, end)) - all_names() if comma > 0 else ()
    if any(is_common(word) or near_names().get(word) in ("degree", "job", "kin") for word in behind):
        end = comma  # Anna Lee, physiotherapist
    words = [word.strip(".,") for word in text.lower[start:end].split()]
    while words and near_names().get(words[0]) == "title":
        start += len(text.text[start:end].split()[0]) + 1
        words = words[1:]
    if words and _are_names(words, is_field=is_field) and may_be_name(text, start, end, is_sure=True):
        yield Span(start, end, "name")


def _are_names(words: list[str], *, is_field: bool) -> bool:
    """Tell whether words are those of a name: of the tables or of none, with particles and initials between."""
    long = [word for word in words if len(word) > 2]
    none = load_words("identifiers", "common", "no_names", "small_common") | _NAMELESS | months().keys()
    if not none.isdisjoint(word for word in words if len(word) > 1):
        return False
    if not long:
        return is_field and len(words) > 1 and all(word in all_names() or len(word) == 1 for word in words)
    rest = [word for word in long if word not in all_names() and word not in load_words("identifiers", "particles")]
    if any(is_common(word) or is_medicine(word) or word in medical_words() for word in rest):
        return False
    is_odd = len(words) == 1 and not is_field and words[0] in load_words("identifiers", "ambiguous", "eponyms")
    return not is_odd


def _owners(text: Text) -> Iterator[Span]:
    """Yield first names before what belongs to somebody: James's neck."""
    none = load_words("identifiers", "ambiguous", "eponyms", "no_names", "common")
    for found in _POSSESSIVE.finditer(text.text):
        word = found[1].lower()
        if (
            word in first_names() - none
            and load_pattern("identifiers", "of_somebody").match(text.lower, found.end())
            and may_be_name(text, *found.span(1), is_sure=True)
        ):
            yield Span(*found.span(1), "name")


def _at_end(text: Text) -> Iterator[Span]:
    """Yield the name under a text, behind the end of a sentence or behind a greeting."""
    found = _LAST.search(text.text, max(len(text.text) - _LONGEST_LAST, 0))
    if found is None:
        return
    start, end = found.span("name")
    words = [word.strip(".,") for word in text.lower[start:end].split()]
    is_large = text.is_shouted or text.text == text.lower or _LARGE_WORD.match(text.text, start) is not None
    end = start + len(_KISSES.sub("", text.text[start:end]))
    if text.text[end - 1] == ".":
        return
    closing = [word.end() for word in _WORDS.finditer(text.lower, start, end) if near_names().get(word[0]) == "bye"]
    if closing and closing[-1] < end:
        start = closing[-1] + len(text.text[closing[-1] : end]) - len(text.text[closing[-1] : end].lstrip(" ,"))
        yield from _named(text, start, end, is_field=True)
        return
    if found["bye"] and near_names().get(found["bye"].lower()) != "bye":
        return
    if not is_large or (len(words) == 1 and len(words[0]) < _FEWEST):
        return
    if not found["bye"] and not any(word in all_names() for word in words) and text.text == text.lower:
        return
    yield from _named(text, start, end, is_field=bool(found["bye"]))
