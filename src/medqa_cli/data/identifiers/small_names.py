"""Names that are written in small letters, or in capitals like the whole text.

They count where the words are in the tables or nothing else can follow ("mrs kowalczyk").
"""

import functools
import re
from collections.abc import Iterable, Iterator

from medqa_cli.data.identifiers.finds import Span
from medqa_cli.data.identifiers.name_cues import (
    SMALL_NEEDS,
    all_cues,
    is_title,
    last_words,
    possible_cues,
    stands_before,
)
from medqa_cli.data.identifiers.name_forms import (
    BEHIND_SIGNATURE,
    GAP,
    LAST_WORD,
    ODD_SURNAME,
    PARTICLE,
    POSSESSIVE,
    SMALL,
    SMALL_NAME_HERE,
    is_common,
    may_be_name,
    no_signature,
    small_name_end,
)
from medqa_cli.data.identifiers.text import Text
from medqa_cli.data.identifiers.word_tables import certain_names, first_names, known_words, surnames
from medqa_cli.resources import load_pattern, load_yaml

_CLOSING_REACH, _SIGN_REACH, _LAST_REACH = 60, 40, 26
_SIGN_WITHIN = frozenset(["self", "named", "foreign"])
# At the beginning of a sentence, in a text that has small letters only.
_SUBJECT = re.compile(
    rf"(?:\A|[.!?:] )({SMALL} (?:[^\W\d_]\. )?{SMALL})"
    r"(?= \((?:age|dob|mrn|born|nhs|ssn|hospital|id\b)|, an? \d{1,3}-year"
    r"| (?:was admitted|was seen|underwent|presented)\b)"
)
_SIGNED = re.compile(rf"(?:[.!?]\s+|\S ?[-–—~]\s?)({SMALL}){BEHIND_SIGNATURE}")
_BEFORE_DEGREE = re.compile(rf"(?<![\w'’.-])(?:{SMALL} |[^\W\d_]\. )(?:[^\W\d_]\. |{PARTICLE} ){{0,2}}{SMALL}\Z")
_WORDS = re.compile(r"[^\W_]+")
_FIRST_BEHIND = re.compile(rf", ({SMALL})")
_PAIR = re.compile(rf"({SMALL}){GAP}({SMALL})")


def find_small_names(text: Text) -> Iterator[Span]:
    """Yield the names that are written in small letters, or in capitals like the whole text."""
    if "sign_words" in text.tables:
        yield from _behind_sure_cues(text)
    lower = text.lower
    signed = _SIGNED.search(lower, max(len(lower) - _CLOSING_REACH, 0)) if "self_words" in text.tables else None
    if text.is_shouted or text.text == lower:
        if signed and signed[1] not in no_signature() and not is_common(signed[1]):
            yield Span(*signed.span(1), "name")
        signed = None
        for found in _SUBJECT.finditer(lower) if "subject_words" in text.tables else ():
            if no_signature().isdisjoint(found[1].split()):
                yield Span(*found.span(1), "name")
    if signed and signed[1] in certain_names():
        yield Span(*signed.span(1), "name")
    if "degree_words" in text.tables:
        # Two names, or an initial and a name, before a degree.
        for degree in load_pattern("identifiers", "degree", re.NOFLAG).finditer(lower):
            if lower[degree.start()] != ",":
                continue
            before = _BEFORE_DEGREE.search(lower, max(degree.start() - 40, 0), degree.start())
            if before is None or not (text.is_shouted or text.text[before.start() : before.end()] == before[0]):
                continue
            start, words = before.start(), before[0].split()
            if words[0] in no_signature() and len(words) > 2:
                start, words = start + len(words[0]) + 1, words[1:]
            is_name = no_signature().isdisjoint(words) and not any(map(is_common, (words[0].strip("."), words[-1])))
            if is_name and may_be_name(text, start, before.end(), is_sure=True):
                yield Span(start, before.end(), "name")
    for name in text.words & certain_names() if "certain_names" in text.tables else ():
        if text.is_shouted or name in text.text:
            for place in text.places(name):
                if text.is_shouted or text.text[place] == lower[place]:
                    yield from _in_table(text, place)


@functools.cache
def _signs(cue: str) -> tuple[tuple[str, frozenset[str]], ...]:
    """Return the signs of a cue, each with its words as far as tables hold them."""
    signs = load_yaml("identifiers")["sure_signs"][cue]
    return tuple((sign, known_words().intersection(_WORDS.findall(sign))) for sign in signs)


def _behind_sure_cues(text: Text) -> Iterator[Span]:
    """Yield names behind what only a name can follow, whatever it is."""
    lower = text.lower
    for cue in possible_cues(text, SMALL_NEEDS):
        pattern = load_pattern("identifiers", f"{cue}_in_small")
        for sign, words in _signs(cue):
            place = lower.find(sign) if words <= text.words else -1
            while place >= 0:
                for found in _at_sign(pattern, lower, place, cue):
                    if cue != "title" or text.is_shouted or is_title(text, found.end()):
                        yield from _small(text, found.end(), cue, is_sure=True)
                place = lower.find(sign, place + len(sign))


def _at_sign(pattern: re.Pattern[str], lower: str, place: int, cue: str) -> Iterable[re.Match[str]]:
    """Return the matches of a cue at one of its signs: those that begin with it, or lie around it."""
    if cue in _SIGN_WITHIN:
        return pattern.finditer(lower, max(place - _SIGN_REACH, 0), place + 2 * _SIGN_REACH)
    if lower[place - 1 : place].isalnum():
        return ()
    found = pattern.match(lower, place, place + 3 * _SIGN_REACH)
    return (found,) if found else ()


def _in_table(text: Text, place: int) -> Iterator[Span]:
    """Yield a name of the tables in small letters, behind a cue or with a surname behind it."""
    lower = text.lower
    last = LAST_WORD.search(lower[max(place - _LAST_REACH, 0) : place])
    cues = last_words(all_cues()).get(last[1], ()) if last else ()
    cue = next((cue for cue in cues if stands_before(text, cue, place)), None)
    if cue is not None:
        yield from _small(text, place, cue, is_sure=False)
        return
    pair = _PAIR.match(lower, place)
    if pair is None or pair[1] not in first_names():
        return
    surname = POSSESSIVE.sub("", pair[2])
    if surname in certain_names() & surnames() or ODD_SURNAME.fullmatch(surname):
        end = pair.start(2) + len(surname)
        if may_be_name(text, place, end, is_sure=False):
            yield Span(place, end, "name")


def _small(text: Text, place: int, cue: str, *, is_sure: bool) -> Iterator[Span]:
    """Yield the name at a place behind a cue, if it is one and in small letters."""
    found = SMALL_NAME_HERE.match(text.lower, place)
    if found is None or (not text.is_shouted and text.text[place] != text.lower[place]):
        return
    end = small_name_end(text.lower, *found.span(), is_sure)
    if end <= place or not may_be_name(text, place, end, is_sure):
        return
    rest = _FIRST_BEHIND.match(text.lower, end) if cue in ("role", "label") else None
    if rest and rest[1] in first_names() & certain_names():
        end = rest.end()
    if cue in ("closing", "greeting") and not load_pattern("identifiers", f"{cue}_behind").match(text.lower, end):
        return
    yield Span(place, end, "name")
