"""The form of a name of a person, and which words are one: not a disease's, an institute's or a discoverer's."""

from __future__ import annotations

import re

from medqa_cli.data.identifiers.text import Text
from medqa_cli.data.identifiers.word_tables import all_names
from medqa_cli.resources import load_pattern, load_words, load_yaml

LARGE = "".join(chr(c) for c in (*range(0x41, 0x250), *range(0x370, 0x530), *range(0x1E00, 0x1F00)) if chr(c).isupper())
_APOSTROPHE = "['’ʼ`]"
_LETTERS = r"[^\W\d_]"
# Taken as a whole or not at all: no part of a word is tried.
CAPITAL = (
    rf"[{LARGE}](?:{_LETTERS}++|(?={_APOSTROPHE}))(?:{_APOSTROPHE}{_LETTERS}++)*+"
    rf"(?:[-‐‑]{_LETTERS}++(?:{_APOSTROPHE}{_LETTERS}++)?+)*+"
)
_INITIAL = rf"(?:[{LARGE}]\.\s?-?)*[{LARGE}]\.(?![{LARGE}])|[{LARGE}](?![\w'’])"
PARTICLE = (
    r"(?:van|von|vom|zu|der|den|de|del|della|dela|di|da|do|dos|das|du|la|le|lo|el|al|bin|bint|ibn|ben|abu|ter|ten|af"
    r"|st\.?|y|e)"
)
GAP = r"[ \xa0]{1,2}"
PART = rf"(?:{_INITIAL}|{CAPITAL})"
NAME = rf"{PART}(?:{GAP}(?:(?i:{PARTICLE}){GAP}){{0,2}}{PART}){{0,3}}"
SMALL = r"[^\W\d_]+(?:['’-][^\W\d_]+)*"
_SMALL_NAME = rf"(?:[^\W\d_]\.\s?){{0,2}}{SMALL}(?:{GAP}(?:[^\W\d_]\.|{SMALL})){{0,3}}"

NAME_HERE = re.compile(NAME)
SMALL_NAME_HERE = re.compile(_SMALL_NAME)
REVERSED_REST = re.compile(rf",\s({CAPITAL})(?:\s[{LARGE}]\b\.?)?")
"""What follows a surname: ", Jane B."."""
POSSESSIVE = re.compile(r"['’]s?$")
NO_NAME_ENDING = re.compile(r"(?:ed|ing|ly|tion|ness|ment|ology|itis|emia|ine)$")
ODD_SURNAME = re.compile(r"(?:o|d|n)['’]\w{3,}|mc[a-z]{3,}|mac[a-z]{4,}|fitz\w{3,}")
LAST_WORD = re.compile(r"([^\W_]+)[\s'’.,:;!?=()\"“–—-]*$")
"""The last word of a text, and the marks behind it."""
_NEXT_WORD = re.compile(r"\s([^\W\d_]+)")
_WHOLE_WORD = re.compile(r"[^\s\xa0]+")
_SMALL_WORD = re.compile(rf"(?P<initial>[^\W\d_]\.)|{SMALL}")
_ENDS_WITH_INITIAL = re.compile(rf"(?:^|[\s.]){_INITIAL}$")
_IS_PARTICLE = re.compile(PARTICLE)
_PLAIN_WORD = re.compile(SMALL)


def trimmed(text: Text, start: int, end: int) -> tuple[int, int]:
    """Cut a run of capitalized words at the first that is no name, and the possessive at its end."""
    words = list(_WHOLE_WORD.finditer(text.text[start:end]))
    kept_end = 0
    for number, word in enumerate(words):
        plain = POSSESSIVE.sub("", word[0]).lower()
        is_initial = len(plain.strip(".")) == 1 and (word[0].endswith(".") or 0 < number < len(words) - 1)
        if not is_initial and plain.strip(".") in load_words("identifiers", "no_names", "common"):
            break
        if _IS_PARTICLE.fullmatch(plain) and number and word[0] == word[0].lower():
            continue
        kept_end = word.start() + len(POSSESSIVE.sub("", word[0]))
        if kept_end < word.end():
            break
    # A full stop that ends a sentence is no part, that of an initial is.
    value = text.text[start : start + kept_end]
    if value.endswith(".") and not _ENDS_WITH_INITIAL.search(value):
        kept_end -= 1
    return start, start + kept_end


def small_name_end(lower: str, start: int, end: int, sure: bool) -> int:
    """Return where a name in small letters ends; its start: there is none.

    A word of no table counts behind a sure cue: the first one, and a later one before a mark or a common word.
    """
    taken, names = start, 0
    common = load_words("identifiers", "common", "no_names", "small_common")
    for word in _SMALL_WORD.finditer(lower[start:end]):
        if word["initial"]:
            continue
        plain = POSSESSIVE.sub("", word[0])
        if plain in load_words("identifiers", "particles") and names == 0 and sure and len(plain) > 1:
            continue
        if plain in common or len(plain) < 2:
            break
        if plain not in all_names() and not ODD_SURNAME.fullmatch(plain):
            if not sure or NO_NAME_ENDING.search(plain):
                break
            behind = _NEXT_WORD.match(lower, start + word.end())
            if names and not (len(plain) > 2 and (behind is None or behind[1] in common)):
                break
        names += 1
        taken = start + word.start() + len(plain)
        if len(plain) < len(word[0]):
            break
    return taken


def may_be_name(text: Text, start: int, end: int, is_sure: bool) -> bool:
    """Tell whether a name is a person's, and not a disease's, an institute's or a discoverer's."""
    value = text.lower[start:end]
    words = _PLAIN_WORD.findall(value)
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
            and not (len(words) > 1 and all_names().issuperset(words))
        ):
            return False  # NASH, HAE
    return not any(name in value for name in load_yaml("identifiers")["famous"])


def no_signature() -> frozenset[str]:
    """Return the words that end a letter and are no name."""
    return load_words("identifiers", "common", "no_names", "eponyms", "small_common")
