"""Names of persons: behind words that say that one follows, or a first name of the tables before a surname.

Eponyms (Parkinson's disease), institutes (Johns Hopkins) and discoverers of old stay.
"""

import functools
import re
from collections.abc import Iterator

from medqa_cli.data.identifiers.finds import Span
from medqa_cli.data.identifiers.name_cues import CUE_NEEDS, is_title, last_words, possible_cues, stands_before
from medqa_cli.data.identifiers.name_forms import (
    BEHIND_SIGNATURE,
    CAPITAL,
    GAP,
    LARGE,
    LAST_WORD,
    NAME,
    NAME_HERE,
    ODD_SURNAME,
    PART,
    PARTICLE,
    POSSESSIVE,
    REVERSED_REST,
    SMALL,
    is_common,
    is_medicine,
    is_unknown,
    may_be_name,
    no_signature,
    trimmed,
)
from medqa_cli.data.identifiers.small_names import find_small_names
from medqa_cli.data.identifiers.text import Text
from medqa_cli.data.identifiers.word_tables import (
    all_names,
    bare_names,
    certain_names,
    common_words,
    first_names,
    surnames,
)
from medqa_cli.resources import load_pattern, load_words

# A capital behind a space or a bracket but not at the beginning of a sentence, unless an abbreviation is before it.
_LARGE_WORD = re.compile(
    rf"[ \xa0\n(\[\"“](?=[{LARGE}])"
    r"(?:(?<=[^.!?\n\s].)|(?<=[^.!?\n\s] [ (\[\"“])|(?<=[DdMmFf][rs]\. )|(?<=[Mm]rs\. )"
    r"|(?<=rof\. )|(?<=[MD][RS]\. )|(?<=[Aa]tt\. ))"
)
_ABBREVIATION = re.compile("(?:[dmf][rs]|mrs|rof|att)$")
_CLOSING_REACH, _LAST_REACH, _PARTICLES_REACH = 60, 26, 16
_LONG = 5
_MARKS = " \xa0\n.,:;!?=()[]\"'’“”–—-"
_LAST_PART = re.compile(r"[^\w]")
_SIGNED_SHORT = re.compile(rf"(?:(?<=[.!?])\s+|(?<=[^\s]) ?[-–—~]\s?)({CAPITAL}){BEHIND_SIGNATURE}")
_SIGNED = re.compile(rf"\n({PART}(?:{GAP}{PART}){{1,2}})\s*\Z")
_LINE_START = re.compile(rf"[.!?\n]\s*(?=[{LARGE}])")
_ENDS_WITH_NAME = re.compile(rf"(?<![\w'’.-]){NAME}$")
_GREETED = re.compile(r"(?:hi|hello|hey|good (?:morning|afternoon|evening))(?: all| there)?[.,!]? \Z")
_SMALL_HERE = re.compile(SMALL)
_IS_INITIAL = re.compile(r"[^\W\d_]\.")
_PAIR = re.compile(rf"[{LARGE}](?<![\w'’.-].)[^\W\d_]++(?=[ \xa0,][ \xa0]?(?:[a-z]{{1,3}}[ \xa0])?[{LARGE}])")
_BEHIND_NAME = re.compile(
    r", (?:Pharm\.?D|DVM|R\.?N|D\.O|N\.P|PA-C|Ph\.?\s?D|L\.?C\.?S\.?W|LMFT|LMHC|Psy\.?D|DDS|D\.M\.D|DMD|LPC|CRNP|FRCP"
    r"|MBBS|APRN|FNP|DNP|M\.?S\.?W|M\.D|MD(?![\s,]*\d)|MRCP|FACS|MFT|\(?(?:DOB|dob|D\.O\.B|MRN|mrn|SSN)"
    r"|an? \d{1,3}[ -](?:year|yr|y/?o|month|week|day)|\d{1,3}(?: ?yo| ?y/o|[ -]years?[ -]old| ?yrs?\b))\b"
)
_IN_BRACKETS = re.compile(
    r" \((?:[Aa]ged? \d|(?:DOB|dob|born|geb|MRN|mrn|NHS|nhs|SSN|ID|CHI)\b|\d{1,3}(?: ?yo| ?y/o|[ -]years?[ -]old)"
    r"|(?:[A-Za-z-]{2,12} ){0,2}(?:[Nn]o|NO|[Nn]umber|[Nn]r|#)\b[.:# ]{0,3}[A-Z]{0,3}\d)"
)
_IS_AGED = re.compile(r" (?:is|was) an? \d{1,3}[ -]?(?:years?|yr|y/?o|months?|weeks?|days?)[ -]?old")
_AGED = re.compile(r", (?:1[89]|[2-9]\d|10\d), (?=[a-z])")
_HERE = re.compile(r" here(?=[.,!])")
# Those that begin a surname: Dr. van der Berg.
_PARTICLES_BEFORE = re.compile(rf"(?<![\w'’-])(?:{PARTICLE}{GAP}){{1,3}}\Z")
_SURNAME_BEFORE = re.compile(rf"(?:\A|[.:\n]\s{{0,2}})({CAPITAL}), \Z")
_ENDS_LINE = re.compile(r"\s?(?:[.;(\n–-]|$)")
_SHORT_IM = re.compile(r"\bim\s\Z")


def find_names(text: Text, *, is_personal: bool) -> Iterator[Span]:
    """Yield the names of persons; the same name elsewhere in the row is found by ``repeated``.

    Args:
        text: the text.
        is_personal: it is about one person; others have few names behind cues, and none in small letters.
    """
    if not text.is_shouted:
        if is_personal:
            yield from _behind_cues(text)
        yield from _bare(text)
        yield from _before_cues(text)
    if is_personal:
        yield from find_small_names(text)


def _behind_cues(text: Text) -> Iterator[Span]:
    """Yield the capitalized names behind a cue."""
    if "ends" not in text.cue_tables:
        return
    yield from _signed(text)
    cues = possible_cues(text, CUE_NEEDS)
    if not cues:
        return
    last = last_words(cues)
    places = _large_words(text, cues)
    # "Thanks.\nMaria" at the end.
    places += [found.end() for found in _LINE_START.finditer(text.text, max(len(text.text) - _CLOSING_REACH, 0))]
    for place in places:
        start, words = place, text.lower[max(place - _LAST_REACH, 0) : place].rstrip(_MARKS).rsplit(None, 1)
        if words and words[-1] in load_words("identifiers", "particles"):
            particles = _PARTICLES_BEFORE.search(text.text, max(place - _PARTICLES_REACH, 0), place)
            start = particles.start() if particles else place
            words = text.lower[max(start - _LAST_REACH, 0) : start].rstrip(_MARKS).rsplit(None, 1)
        for cue in last.get(_LAST_PART.split(words[-1])[-1] if words else "", ()):
            if not stands_before(text, cue, start) or (cue == "title" and not is_title(text, start)):
                continue
            word = _SMALL_HERE.match(text.lower, place)
            is_in_table = word is not None and POSSESSIVE.sub("", word[0]) in certain_names()
            if cue not in _of_table() or is_in_table or _is_followed(text, place, cue):
                span = _cued(text, place, cue)
                if span is not None:
                    yield span._replace(start=start)
                    break


def _large_words(text: Text, cues: tuple[str, ...]) -> list[int]:
    """Return where a word begins with a capital, but those that begin a sentence, and so stand behind no cue."""
    if not text.shape:
        return [found.end() for found in _LARGE_WORD.finditer(text.text)]
    # Most capitals begin a sentence. Behind a full stop it may be that of an abbreviation.
    certain, others = (b"a A", b"A A", b"0 A"), [b"  A"] + [b". A"] * bool(text.words & _abbreviations(cues))
    places = []
    for signs in (*certain, *others):
        place = text.shape.find(signs)
        while place >= 0:
            if signs in certain or _LARGE_WORD.match(text.text, place + 1):
                places.append(place + 2)
            place = text.shape.find(signs, place + 1)
    return places


@functools.cache
def _abbreviations(cues: tuple[str, ...]) -> frozenset[str]:
    """Return the last words of cues behind which a full stop may be that of an abbreviation."""
    return frozenset(word for word in last_words(cues) if _ABBREVIATION.search(word))


def _signed(text: Text) -> Iterator[Span]:
    """Yield the name under a letter."""
    end = max(len(text.text) - _CLOSING_REACH, 0)
    signed = _SIGNED.search(text.text, end)
    if signed is None and "self_words" in text.tables:
        signed = _SIGNED_SHORT.search(text.text, end)
    if signed is None or not no_signature().isdisjoint(signed[1].lower().split()):
        return
    if is_common(signed[1].lower().split()[0]):
        return
    if " " in signed[1] and certain_names().isdisjoint(signed[1].lower().split()):
        return
    if may_be_name(text, *signed.span(1), is_sure=signed[1].lower() in certain_names()):
        yield Span(*signed.span(1), "name")


def _of_table() -> frozenset[str]:
    return load_words("identifiers", "table_cues")


def _is_followed(text: Text, place: int, cue: str) -> bool:
    """Tell whether a name of no table is one all the same: of two words or more, or before an age or a verb."""
    found = NAME_HERE.match(text.text, place)
    if found is None:
        return False
    words = [word.strip(".") for word in found[0].lower().split()]
    none = load_words("identifiers", "common", "no_names", *["eponyms"] * (first_names().isdisjoint(words[:1])))
    if not none.isdisjoint(words[:2]):
        return False
    if cue == "iam" and _SHORT_IM.search(text.before(place, 4)):  # German: im Harn
        return load_pattern("identifiers", "iam_behind").match(text.lower, found.end()) is not None
    if cue == "role" and load_pattern("identifiers", "role_of_many").search(text.before(place, 20)):
        return load_pattern("identifiers", "role_behind").match(text.lower, found.end()) is not None
    is_code = found[0].isupper() and not text.is_shouted and all_names().isdisjoint(words)
    is_whole = (
        len(words) > 1
        and not is_code
        and (found[0][1] == "." or any(len(word) > 2 and not is_common(word) for word in words))
    )
    is_whole &= cue != "the_person" or len(words[0]) < 3 or is_unknown(words[0])
    rest = REVERSED_REST.match(text.text, found.end()) if cue in ("the_person", "role", "document") else None
    end = rest.end() if rest else found.end()
    if rest and rest[1].lower() in first_names() - load_words("identifiers", "ambiguous"):
        return True
    if (
        rest
        and (is_unknown(words[0]) or words[0] in surnames() or ODD_SURNAME.fullmatch(words[0]))
        and is_unknown(rest[1].lower())
    ):
        return True
    if not is_whole and all(map(is_common, words)):
        return False
    is_marked = cue == "iam" or (cue == "role" and text.before(place, 2).strip()[-1:] in (":", "=", "-", "(", "–"))
    is_whole |= is_marked and is_unknown(words[0]) and not is_code
    return is_whole or load_pattern("identifiers", f"{cue}_behind").match(text.lower, end) is not None


def _cued(text: Text, place: int, cue: str) -> Span | None:
    """Return the capitalized name at a place behind a cue."""
    sure = cue in load_words("identifiers", "sure_cues")
    found = NAME_HERE.match(text.text, place)
    if found is None:
        return None
    start, end = trimmed(text, *found.span())
    if start >= end and cue == "title":
        # Professor Long: a surname of the tables that is a common word as well.
        word = _SMALL_HERE.match(text.lower, place)
        if word and word[0] in surnames() and text.text[place : word.end()] == word[0].capitalize():
            start, end = word.span()
    rest = REVERSED_REST.match(text.text, end) if cue in ("label", "role", "the_person", "document") else None
    if rest and rest[1].lower() in load_words("identifiers", "common", "no_names"):
        rest = None
    words = text.lower[start:end].split()
    is_word = start < end and (cue == "label" or cue in _of_table())
    is_word &= all(map(is_common, words)) if len(words) == 1 else common_words().issuperset(words)
    if cue in ("closing", "greeting") and any(map(is_medicine, words)):
        return None
    if is_word and not (rest and (rest[1].lower() in first_names() or is_unknown(rest[1].lower()))):
        return None
    value = text.lower[start:end]
    is_known = value in certain_names() or (len(value) >= _LONG and is_unknown(value))  # GUIYING, and no MRSA
    if start >= end or not may_be_name(text, start, end, sure or is_known or " " in text.text[start:end]):
        return None
    if rest:
        end = rest.end()
    if cue in ("closing", "greeting") and not load_pattern("identifiers", f"{cue}_behind").match(text.lower, end):
        return None
    return Span(start, end, "name")


def _before_cues(text: Text) -> Iterator[Span]:
    """Yield the names before a degree, an age, or "was admitted"; those in no table before a degree or an age only."""
    for follows in _behind_names(text):
        found = _ENDS_WITH_NAME.search(text.text, max(follows.start() - 60, 0), follows.start())
        if found is not None:
            start, end = found.span()
            words = text.lower[start:end].split()
            none = load_words("identifiers", "common", "no_names", "eponyms")
            while words and words[0].strip(".,") in none:
                start += len(words[0]) + 1
                words = words[1:]
            has_initial = any(_IS_INITIAL.fullmatch(word) for word in words[1:])
            # "Silver Spring, MD" is a place.
            plain = [word.strip(".") for word in words]
            is_place = follows[0] == ", MD" and all_names().isdisjoint(words) and any(map(is_common, plain))
            known = len(words) > 1 and not is_place and not all(map(is_common, plain))
            known |= follows.re is _IS_AGED and len(words) == 1 and is_unknown(words[0])
            is_sure = has_initial or not all_names().isdisjoint(words)
            if follows[0] == " here" and not (is_sure or _GREETED.search(text.before(start, 18))):
                continue
            if (has_initial or known) and none.isdisjoint(words) and may_be_name(text, start, end, is_sure):
                yield Span(start, end, "name")
    for name in text.words & certain_names() & first_names() if "certain_names" in text.tables else ():
        for place in text.places(name):
            found = NAME_HERE.match(text.text, place)
            if found and load_pattern("identifiers", "name_follows", re.NOFLAG).match(text.text, found.end()):
                start, end = trimmed(text, *found.span())
                if end == found.end() and may_be_name(text, start, end, is_sure=False):
                    yield Span(start, end, "name")


def _behind_names(text: Text) -> Iterator[re.Match[str]]:
    """Yield the degrees and ages that stand behind a name."""
    is_aged = "age_words" in text.tables or any(text.text[end : end + 1] == "y" for _, end in text.numbers)  # 45yo
    if "degree_words" in text.tables or (text.numbers and is_aged):
        yield from _BEHIND_NAME.finditer(text.text)
    if text.numbers or "in_brackets_words" in text.tables:
        yield from _IN_BRACKETS.finditer(text.text)
    if text.numbers:
        yield from _AGED.finditer(text.text)
        if "age_words" in text.tables:
            yield from _IS_AGED.finditer(text.text)
    if "here" in text.words:
        yield from _HERE.finditer(text.text)


def _bare(text: Text) -> Iterator[Span]:
    """Yield first names of the table with a surname behind, and "Surname, First name"."""
    ambiguous = load_words("identifiers", "ambiguous")
    lower, written = text.lower, text.text
    for plain in text.words & bare_names() if "bare_names" in text.tables else ():
        place = lower.find(plain)
        while place >= 0:
            end = place + len(plain)
            if written[place] != plain[0]:
                if written[place - 2 : place] == ", " and plain in first_names() and plain not in ambiguous:
                    yield from _first_name_behind(text, place, end)
                if (found := _PAIR.match(written, place)) and found.end() == end:
                    yield from _bare_name(text, found, plain, ambiguous)
            place = lower.find(plain, end)


def _first_name_behind(text: Text, place: int, end: int) -> Iterator[Span]:
    """Yield "Kowalczyk, Zofia" as a line or a sentence by itself."""
    found = _SURNAME_BEFORE.search(text.text, max(place - 40, 0), place)
    if found and _ENDS_LINE.match(text.text, end):
        words = found[1].lower()
        if not is_common(words) or words in surnames():
            yield Span(found.start(1), end, "name")


def _bare_name(text: Text, found: re.Match[str], plain: str, ambiguous: frozenset[str]) -> Iterator[Span]:
    if text.text[found.end()] == ",":
        rest = REVERSED_REST.match(text.text, found.end())
        is_last = plain in surnames() and plain not in first_names()
        if (
            rest
            and is_last
            and rest[1].lower() in first_names() - ambiguous
            and may_be_name(text, found.start(), rest.end(), is_sure=False)
        ):
            yield Span(found.start(), rest.end(), "name")
        return
    whole = NAME_HERE.match(text.text, found.start())
    if plain not in first_names() or whole is None:
        return
    before = LAST_WORD.search(text.lower, max(found.start() - _LAST_REACH, 0), found.start())
    if before and before.end(1) + 1 == found.start() and before[1] in load_words("identifiers", "before_no_name"):
        return
    start, end = trimmed(text, *whole.span())
    parts = text.lower[start:end].split()
    if found[0].isupper() and len(found[0]) > 3 and not text.text[start:end].isupper():
        return  # DEBRA International
    last = parts[-1].strip(".")
    if len(parts) < 2 or len(last) < 2 or (plain in ambiguous and last not in surnames() - ambiguous):
        return
    if len(last) == 2 and text.text[end - 2 : end].isupper():
        return  # authors in a list of papers: Rolland MO
    if may_be_name(text, start, end, is_sure=False):
        yield Span(start, end, "name")


def repeated(text: Text, names: frozenset[str]) -> Iterator[Span]:
    """Yield the places where a part of a name stands by itself, as it was written where it was found.

    Args:
        text: a text of the row.
        names: the names that were found anywhere in the row.
    """
    none_large = load_words("identifiers", "common", "no_names", "eponyms")
    none_small = load_words("identifiers", "common", "no_names", "eponyms", "ambiguous")
    longer = {part for name in names for part in _SMALL_HERE.findall(name) if len(part) > 2}
    parts = {part for part in longer if part.lower() not in (none_large if part[0].isupper() else none_small)}
    if not parts:
        return
    either = "|".join(re.escape(part) for part in sorted(parts, key=len, reverse=True))
    for found in re.finditer(rf"(?<![\w-])(?:{either})(?![\w-])", text.text):
        if not load_pattern("identifiers", "eponym_follows").match(text.after(found.end(), 60)):
            yield Span(*found.span(), "name")
