"""Names of persons: behind words that say that one follows, or a first name of the tables before a surname.

Eponyms (Parkinson's disease), institutes (Johns Hopkins) and discoverers of old stay. What is written in small letters
counts where the words are in the tables or nothing else can follow ("mrs kowalczyk").
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator
from importlib.resources import files

from medqa_cli.data.identifiers.finds import Span, Text
from medqa_cli.resources import load_pattern, load_words, load_yaml

_LARGE = "".join(
    chr(c) for c in (*range(0x41, 0x250), *range(0x370, 0x530), *range(0x1E00, 0x1F00)) if chr(c).isupper()
)
_APOSTROPHE = "['’ʼ`]"
_LETTERS = r"[^\W\d_]"
# Taken as a whole or not at all: no part of a word is tried.
_CAPITAL = (
    rf"[{_LARGE}](?:{_LETTERS}++|(?={_APOSTROPHE}))(?:{_APOSTROPHE}{_LETTERS}++)*+"
    rf"(?:[-‐‑]{_LETTERS}++(?:{_APOSTROPHE}{_LETTERS}++)?+)*+"
)
_INITIAL = rf"(?:[{_LARGE}]\.\s?-?)*[{_LARGE}]\.(?![{_LARGE}])|[{_LARGE}](?![\w'’])"
_PARTICLE = (
    r"(?:van|von|vom|zu|der|den|de|del|della|dela|di|da|do|dos|das|du|la|le|lo|el|al|bin|bint|ibn|ben|abu|ter|ten|af"
    r"|st\.?|y|e)"
)
_GAP = r"[ \xa0]{1,2}"
_PART = rf"(?:{_INITIAL}|{_CAPITAL})"
_NAME = rf"{_PART}(?:{_GAP}(?:(?i:{_PARTICLE}){_GAP}){{0,2}}{_PART}){{0,3}}"
_SMALL = r"[^\W\d_]+(?:['’-][^\W\d_]+)*"
_SMALL_NAME = rf"(?:[^\W\d_]\.\s?){{0,2}}{_SMALL}(?:{_GAP}(?:[^\W\d_]\.|{_SMALL})){{0,3}}"
_NAME_ENDING = re.compile(rf"(?<![\w'’.-]){_NAME}$")
_POSSESSIVE = re.compile(r"['’]s?$")
_NO_NAME_ENDING = re.compile(r"(?:ed|ing|ly|tion|ness|ment|ology|itis|emia|ine)$")
_NEXT_WORD = re.compile(r"\s([^\W\d_]+)")
_ODD_SURNAME = re.compile(r"(?:o|d|n)['’]\w{3,}|mc[a-z]{3,}|mac[a-z]{4,}|fitz\w{3,}")


@functools.cache
def first_names() -> frozenset[str]:
    """Return the first names of the table, in small letters."""
    return _table("first_names")


@functools.cache
def surnames() -> frozenset[str]:
    """Return the surnames of the table, in small letters."""
    return _table("surnames")


def _table(name: str) -> frozenset[str]:
    text = files("medqa_cli.resources").joinpath(f"{name}.txt").read_text(encoding="utf-8")
    return frozenset(word for line in text.splitlines() if not line.startswith("#") for word in line.split())


@functools.cache
def _cue(name: str) -> re.Pattern[str]:
    """Return the pattern of a cue, in small letters, that ends where a name begins."""
    words = "".join(load_yaml("identifiers")["name_cues"][name].splitlines())
    return re.compile(rf"(?<![^\W_])(?:{words})$")


@functools.cache
def _last_words() -> dict[str, tuple[str, ...]]:
    """Return for each last word of a cue, in small letters and without signs, the cues that may end with it."""
    cues: dict[str, list[str]] = {}
    for cue in load_yaml("identifiers")["name_cues"]:
        for word in load_words("identifiers", f"{cue}_ends"):
            cues.setdefault(word, []).append(cue)
    return {word: tuple(names) for word, names in cues.items()}


@functools.cache
def _tables() -> frozenset[str]:
    return first_names() | surnames()


@functools.cache
def certain_names() -> frozenset[str]:
    """Return the names of the tables that are no other words."""
    return _tables() - load_words("identifiers", "ambiguous", "common", "no_names", "small_common", "eponyms")


# A capital behind a space or a bracket but not at the beginning of a sentence, unless an abbreviation is before it.
_LARGE_WORD = re.compile(
    rf"[ \xa0\n(\[\"“](?=[{_LARGE}])"
    r"(?:(?<=[^.!?\n\s].)|(?<=[DdMmFf][rs]\. )|(?<=[Mm]rs\. )|(?<=rof\. )|(?<=[MD][RS]\. ))"
)
_CLOSING_REACH, _SIGN_REACH = 60, 40
_MARKS = " \xa0\n.,:;!?=()[]\"'’“”–—-"
_LAST_PART = re.compile(r"[^\w]")
# What stands in each cue of which the last word is a common one.
_SIGNS_OF = {
    "self": ("name", "call", "go by"),
    "person_is": ("my ", "his ", "her ", "our ", "their "),
    "document": (
        "summary of", "report", "record", "chart", "file", "letter", "result", "note", "prescription", "biopsy", "scan",
        "lab",
    ),
    "named": (" named", " called", " name", "mine", "ours", "hers", "his", "call"),
    "closing": (
        "thank", "thx", "ty", "regards", "best", "sincerely", "cheers", "yours", "love", "warm", "bless", "respect",
        "cordial", "grat", "signed", "hugs", "xoxo", "grüße", "saludos",
    ),
    "foreign": (
        "hei", "name", "nom", "llamo", "chiam", "chamo", "heet", "heter", "nazyw", "imię", "jmen", "зовут", "звати",
    ),
}  # fmt: skip
# At the beginning of a sentence, in a text that has small letters only.
_SMALL_SUBJECT = re.compile(
    rf"(?:\A|[.!?:] )({_SMALL} (?:[^\W\d_]\. )?{_SMALL})"
    r"(?= \((?:age|dob|mrn|born)|, an? \d{1,3}-year| (?:was admitted|was seen|underwent|presented)\b)"
)
_AFTER_WORDS = frozenset(["age", "dob", "mrn", "born", "year", "admitted", "seen", "underwent", "presented"])
_SELF = frozenset(["i", "me", "my", "thank", "thanks"])
_SIGNED_SHORT = re.compile(rf"(?:(?<=[.!?])\s+|(?<=[^\s]) [-–—~]\s?)({_CAPITAL})\s*\Z")
_SIGNED_SMALL = re.compile(rf"(?:[.!?]\s+|\S [-–—~]\s?)({_SMALL})\s*\Z")
_SIGNED = re.compile(rf"\n({_PART}(?:{_GAP}{_PART}){{1,2}})\s*\Z")
_LINE_START = re.compile(rf"[.!?\n]\s*(?=[{_LARGE}])")
_LAST_WORD = re.compile(r"([^\W_]+)[\s'’.,:;!?=()\"“–—-]*$")
_LAST_REACH = 26
# The longest of each cue, in characters.
_REACH = {
    "title": 16, "self": 34, "iam": 12, "label": 40, "role": 36, "relation": 54, "named": 44, "closing": 52,
    "greeting": 26, "foreign": 24, "person_is": 50, "the_person": 22, "document": 26,
}  # fmt: skip
_NAME_HERE = re.compile(_NAME)
_SMALL_NAME_HERE = re.compile(_SMALL_NAME)
_REVERSED_REST = re.compile(rf",\s({_CAPITAL})(?:\s[{_LARGE}]\b\.?)?")
_PAIR = re.compile(rf"[{_LARGE}](?<![\w'’.-].)[^\W\d_]++(?=[ \xa0,][ \xa0]?(?:[a-z]{{1,3}}[ \xa0])?[{_LARGE}])")
_SMALL_PAIR = re.compile(rf"({_SMALL}){_GAP}({_SMALL})")
_BEHIND_NAME = re.compile(
    r", (?:R\.?N|D\.O|N\.P|PA-C|Ph\.?\s?D|L\.?C\.?S\.?W|LMFT|LMHC|Psy\.?D|DDS|D\.M\.D|DMD|LPC|CRNP|FRCP|MBBS|APRN|FNP"
    r"|DNP|M\.?S\.?W|M\.D|MD(?![\s,]*\d)|MRCP|FACS|MFT|\(?(?:DOB|dob|D\.O\.B|MRN|mrn|SSN)"
    r"|an? \d{1,3}[ -](?:year|yr|y/?o|month|week|day)|\d{1,3}(?: ?yo| ?y/o|[ -]years?[ -]old| ?yrs?\b))\b"
)

_IN_BRACKETS = re.compile(r" \((?:[Aa]ged? \d|DOB|dob|born|MRN|mrn|\d{1,3}(?: ?yo| ?y/o|[ -]years?[ -]old))")
_AND_NAME = re.compile(rf",? (?:and|&) ({_CAPITAL})")


def find_names(text: Text) -> Iterator[Span]:
    """Yield the names of persons; the same name elsewhere in the row is found by ``repeated``."""
    if not text.is_shouted:
        yield from _behind_cues(text)
        yield from _bare(text)
        yield from _before_cues(text)
    yield from _in_small_letters(text)


@functools.cache
def _no_signature() -> frozenset[str]:
    return load_words("identifiers", "common", "no_names", "eponyms", "small_common")


def _behind_cues(text: Text) -> Iterator[Span]:
    """Yield the capitalized names behind a cue."""
    last_words = _last_words()
    if text.words.isdisjoint(last_words):
        return
    places = [found.end() for found in _LARGE_WORD.finditer(text.text)]
    signed = _SIGNED.search(text.text, max(len(text.text) - _CLOSING_REACH, 0))
    if signed is None and not text.words.isdisjoint(_SELF):
        signed = _SIGNED_SHORT.search(text.text, max(len(text.text) - _CLOSING_REACH, 0))
    is_known = signed is not None and _no_signature().isdisjoint(signed[1].lower().split())
    if signed is not None and " " in signed[1]:
        is_known = is_known and not certain_names().isdisjoint(signed[1].lower().split())
    if signed is not None and is_known and _may_be_name(text, *signed.span(1), is_sure=False):
        yield Span(*signed.span(1), "name")
    # "Thanks.\nMaria" at the end.
    places += [found.end() for found in _LINE_START.finditer(text.text, max(len(text.text) - _CLOSING_REACH, 0))]
    for place in places:
        words = text.lower[max(place - _LAST_REACH, 0) : place].rstrip(_MARKS).rsplit(None, 1)
        cues = last_words.get(_LAST_PART.split(words[-1])[-1] if words else "")
        if cues is None:
            continue
        for cue in cues:
            if not _stands_before(text, cue, place) or not _is_written_so(text, place, cue):
                continue
            if cue not in _of_table() or _starts_in_table(text, place) or _is_followed(text, place, cue):
                span = _cued(text, place, cue)
                if span is not None:
                    yield span
                    yield from _joined(text, span, cue)
                    break


def _stands_before(text: Text, cue: str, place: int) -> bool:
    signs = _SIGNS_OF.get(cue)
    if signs is not None and not any(map(text.lower[max(place - _REACH[cue], 0) : place].__contains__, signs)):
        return False
    return _cue(cue).search(text.lower, max(place - _REACH[cue], 0), place) is not None


def _of_table() -> frozenset[str]:
    return load_words("identifiers", "table_cues")


def _starts_in_table(text: Text, place: int) -> bool:
    word = re.compile(_SMALL).match(text.lower, place)
    return word is not None and _POSSESSIVE.sub("", word[0]) in certain_names()


def _is_followed(text: Text, place: int, cue: str) -> bool:
    """Tell whether a name of no table is one all the same: of two words or more, or before an age or a verb."""
    found = _NAME_HERE.match(text.text, place)
    if found is None:
        return False
    words = [word.strip(".") for word in found[0].lower().split()]
    if not load_words("identifiers", "common", "no_names", "eponyms").isdisjoint(words[:2]):
        return False
    if cue == "role" and load_pattern("identifiers", "role_of_many").search(text.before(place, 20)):
        return load_pattern("identifiers", "role_behind").match(text.lower, found.end()) is not None
    is_whole = len(words) > 1 and cue != "the_person" and not (found[0].isupper() and not text.is_shouted)
    rest = _REVERSED_REST.match(text.text, found.end()) if cue == "the_person" else None
    end = rest.end() if rest else found.end()
    return is_whole or load_pattern("identifiers", f"{cue}_behind").match(text.lower, end) is not None


def _is_written_so(text: Text, place: int, cue: str) -> bool:
    """Tell whether "MS", "DR" or "MR" before a place is a title and no disease or picture."""
    if cue != "title":
        return True
    title = re.search(r"([A-Za-z]+)(\.?)\s*$", text.text[max(place - 12, 0) : place])
    if title is None:
        return True
    return title[1] not in ("MS", "DR", "MR") and (bool(title[2]) or title[1] != "ms")


def _cued(text: Text, place: int, cue: str) -> Span | None:
    """Return the capitalized name at a place behind a cue."""
    sure = cue in load_words("identifiers", "sure_cues")
    found = _NAME_HERE.match(text.text, place)
    if found is None:
        return None
    start, end = _trimmed(text, *found.span())
    if start >= end or not _may_be_name(text, start, end, sure or " " in text.text[start:end]):
        return None
    if cue in ("label", "role", "the_person"):
        rest = _REVERSED_REST.match(text.text, end)
        if rest and rest[1].lower() not in load_words("identifiers", "common", "no_names"):
            end = rest.end()
    if cue in ("closing", "greeting") and not load_pattern("identifiers", f"{cue}_behind").match(text.lower, end):
        return None
    return Span(start, end, "name")


def _joined(text: Text, span: Span, cue: str) -> Iterator[Span]:
    """Yield the second name of "my sons Igor and Bohuslav"."""
    found = _AND_NAME.match(text.text, span.end) if cue in ("relation", "named", "label") else None
    if found and found[1].lower() not in load_words("identifiers", "common", "no_names", "eponyms"):
        start, end = _trimmed(text, *found.span(1))
        if start < end and _may_be_name(text, start, end, is_sure=False):
            yield Span(start, end, "name")


def _before_cues(text: Text) -> Iterator[Span]:
    """Yield the names before a degree, an age, or "was admitted"; those in no table before a degree or an age only."""
    for follows in itertools.chain(_BEHIND_NAME.finditer(text.text), _IN_BRACKETS.finditer(text.text)):
        found = _NAME_ENDING.search(text.text, max(follows.start() - 60, 0), follows.start())
        if found is not None:
            start, end = found.span()
            words = text.lower[start:end].split()
            none = load_words("identifiers", "common", "no_names", "eponyms")
            while words and words[0].strip(".,") in none:
                start += len(words[0]) + 1
                words = words[1:]
            has_initial = any(re.fullmatch(r"[^\W\d_]\.", word) for word in words[1:])
            # "Silver Spring, MD" is a place.
            known = len(words) > 1 and not (follows[0] == ", MD" and _tables().isdisjoint(words))
            if (has_initial or known) and none.isdisjoint(words) and _may_be_name(text, start, end, is_sure=False):
                yield Span(start, end, "name")
    for name in text.words & certain_names() & first_names():
        for place in _places(text.lower, name):
            found = _NAME_HERE.match(text.text, place)
            if found and load_pattern("identifiers", "name_follows", re.NOFLAG).match(text.text, found.end()):
                start, end = _trimmed(text, *found.span())
                if end == found.end() and _may_be_name(text, start, end, is_sure=False):
                    yield Span(start, end, "name")


def _places(text: str, word: str) -> Iterator[int]:
    """Yield where a word begins in a text."""
    place = text.find(word)
    while place >= 0:
        end = place + len(word)
        if not (text[place - 1 : place].isalnum() or text[end : end + 1].isalnum()):
            yield place
        place = text.find(word, end)


def _trimmed(text: Text, start: int, end: int) -> tuple[int, int]:
    """Cut a run of capitalized words at the first that is no name, and the possessive at its end."""
    words = list(re.finditer(r"[^\s\xa0]+", text.text[start:end]))
    kept_end = 0
    for number, word in enumerate(words):
        plain = _POSSESSIVE.sub("", word[0]).lower()
        is_initial = len(plain.strip(".")) == 1 and (word[0].endswith(".") or 0 < number < len(words) - 1)
        if not is_initial and plain.strip(".") in load_words("identifiers", "no_names", "common"):
            break
        if re.fullmatch(_PARTICLE, plain) and number and word[0] == word[0].lower():
            continue
        kept_end = word.start() + len(_POSSESSIVE.sub("", word[0]))
        if kept_end < word.end():
            break
    # A full stop that ends a sentence is no part, that of an initial is.
    value = text.text[start : start + kept_end]
    if value.endswith(".") and not re.search(rf"(?:^|[\s.]){_INITIAL}$", value):
        kept_end -= 1
    return start, start + kept_end


def _small_name_end(lower: str, start: int, end: int, sure: bool) -> int:
    """Return where a name in small letters ends; its start: there is none.

    A word of no table counts behind a sure cue: the first one, and a later one before a mark or a common word.
    """
    taken, names = start, 0
    common = load_words("identifiers", "common", "no_names", "small_common")
    for word in re.finditer(rf"(?P<initial>[^\W\d_]\.)|{_SMALL}", lower[start:end]):
        if word["initial"]:
            continue
        plain = _POSSESSIVE.sub("", word[0])
        if plain in load_words("identifiers", "particles") and names == 0 and sure and len(plain) > 1:
            continue
        if plain in common or len(plain) < 2:
            break
        if plain not in _tables() and not _ODD_SURNAME.fullmatch(plain):
            if not sure or _NO_NAME_ENDING.search(plain):
                break
            behind = _NEXT_WORD.match(lower, start + word.end())
            if names and not (len(plain) > 2 and (behind is None or behind[1] in common)):
                break
        names += 1
        taken = start + word.start() + len(plain)
        if len(plain) < len(word[0]):
            break
    return taken


def _may_be_name(text: Text, start: int, end: int, is_sure: bool) -> bool:
    """Tell whether a name is a person's, and not a disease's, an institute's or a discoverer's."""
    value = text.lower[start:end]
    words = re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", value)
    if not words or (all(len(word) < 2 for word in words) and not is_sure):
        return False
    if load_pattern("identifiers", "eponym_follows").match(text.after(end, 60)):
        return False
    if load_pattern("identifiers", "discoverer").search(text.before(start, 70) + " # " + text.after(end, 70)):
        return False
    if not is_sure:
        if not load_words("identifiers", "eponyms").isdisjoint(words):
            return False
        if (
            text.text[start:end].isupper()
            and not text.is_shouted
            and not (len(words) > 1 and _tables().issuperset(words))
        ):
            return False  # NASH, HAE
    return not any(name in value for name in load_yaml("identifiers")["famous"])


def _bare(text: Text) -> Iterator[Span]:
    """Yield first names of the table with a surname behind, and "Surname, First name"."""
    ambiguous = load_words("identifiers", "ambiguous")
    none = load_words("identifiers", "common", "no_names")
    for found in _PAIR.finditer(text.text):
        plain = found[0].lower()
        if plain not in _tables() or plain in none:
            continue
        if text.text[found.end()] == ",":
            rest = _REVERSED_REST.match(text.text, found.end())
            is_last = plain in surnames() and plain not in first_names()
            if rest and is_last and rest[1].lower() in first_names() - ambiguous:
                found_name = Span(found.start(), rest.end(), "name")
                yield from [found_name] * _may_be_name(text, found.start(), rest.end(), is_sure=False)
            continue
        whole = _NAME_HERE.match(text.text, found.start())
        if plain not in first_names() or whole is None:
            continue
        before = _LAST_WORD.search(text.lower, max(found.start() - _LAST_REACH, 0), found.start())
        if before and before.end(1) + 1 == found.start() and before[1] in load_words("identifiers", "before_no_name"):
            continue
        start, end = _trimmed(text, *whole.span())
        parts = text.lower[start:end].split()
        last = parts[-1].strip(".")
        if len(parts) < 2 or len(last) < 2 or (plain in ambiguous and last not in surnames() - ambiguous):
            continue
        if len(last) == 2 and text.text[end - 2 : end].isupper():
            continue  # authors in a list of papers: Rolland MO
        if _may_be_name(text, start, end, is_sure=False):
            yield Span(start, end, "name")


def _in_small_letters(text: Text) -> Iterator[Span]:
    """Yield names that are written in small letters, or in capitals like the whole text."""
    lower = text.lower
    some = not text.words.isdisjoint(load_words("identifiers", "sign_words"))
    for cue, signs in load_yaml("identifiers")["sure_signs"].items() if some else ():
        # What only a name can follow, whatever it is.
        pattern = load_pattern("identifiers", f"{cue}_in_small")
        for sign in signs:
            place = lower.find(sign)
            while place >= 0:
                found = pattern.search(lower, max(place - _SIGN_REACH, 0), place + 2 * _SIGN_REACH)
                if found and (cue != "title" or text.is_shouted or _is_written_so(text, found.end(), cue)):
                    yield from _small(text, found.end(), cue, is_sure=True)
                place = lower.find(sign, place + len(sign))
    if (text.is_shouted or text.text == lower) and not text.words.isdisjoint(_SELF):
        signed = _SIGNED_SMALL.search(lower, max(len(lower) - _CLOSING_REACH, 0))
        if signed and signed[1] not in _no_signature() and not _NO_NAME_ENDING.search(signed[1]):
            yield Span(*signed.span(1), "name")
    if (text.is_shouted or text.text == lower) and not text.words.isdisjoint(_AFTER_WORDS):
        for found in _SMALL_SUBJECT.finditer(lower):
            if _no_signature().isdisjoint(found[1].split()):
                yield Span(*found.span(1), "name")
    for name in text.words & certain_names():
        if text.is_shouted or name in text.text:
            for place in _places(lower, name):
                if text.is_shouted or text.text[place] == lower[place]:
                    yield from _in_table(text, place)


def _in_table(text: Text, place: int) -> Iterator[Span]:
    """Yield a name of the tables in small letters, behind a cue or with a surname behind it."""
    lower = text.lower
    last = _LAST_WORD.search(lower[max(place - _LAST_REACH, 0) : place])
    cues = _last_words().get(last[1], ()) if last else ()
    cue = next((cue for cue in cues if _stands_before(text, cue, place)), None)
    if cue is not None:
        yield from _small(text, place, cue, is_sure=False)
        return
    pair = _SMALL_PAIR.match(lower, place)
    if pair is None or pair[1] not in first_names():
        return
    surname = _POSSESSIVE.sub("", pair[2])
    if surname in certain_names() & surnames() or _ODD_SURNAME.fullmatch(surname):
        end = pair.start(2) + len(surname)
        if _may_be_name(text, place, end, is_sure=False):
            yield Span(place, end, "name")


def _small(text: Text, place: int, cue: str, *, is_sure: bool) -> Iterator[Span]:
    """Yield the name at a place behind a cue, if it is one and in small letters."""
    found = _SMALL_NAME_HERE.match(text.lower, place)
    if found is None or (not text.is_shouted and text.text[place] != text.lower[place]):
        return
    end = _small_name_end(text.lower, *found.span(), is_sure)
    if end <= place or not _may_be_name(text, place, end, is_sure):
        return
    if cue in ("closing", "greeting") and not load_pattern("identifiers", f"{cue}_behind").match(text.lower, end):
        return
    yield Span(place, end, "name")


def repeated(text: Text, names: frozenset[str]) -> Iterator[Span]:
    """Yield the places where a part of a name stands by itself, as it was written where it was found.

    Args:
        text: a text of the row.
        names: the names that were found anywhere in the row.
    """
    parts = {part for name in names for part in re.findall(_SMALL, name) if _tells(part)}
    if not parts:
        return
    either = "|".join(re.escape(part) for part in sorted(parts, key=len, reverse=True))
    for found in re.finditer(rf"(?<![\w-])(?:{either})(?![\w-])", text.text):
        if not load_pattern("identifiers", "eponym_follows").match(text.after(found.end(), 60)):
            yield Span(*found.span(), "name")


def _tells(part: str) -> bool:
    plain = part.lower()
    if len(part) < 3 or plain in load_words("identifiers", "common", "no_names", "eponyms"):
        return False
    return part[0].isupper() or (plain not in load_words("identifiers", "ambiguous"))
