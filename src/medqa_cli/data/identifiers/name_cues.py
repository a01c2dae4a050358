"""The words before a name that say that one follows, by kind of cue, and which of them a text can have at all."""

import functools
import re

from medqa_cli.data.identifiers.text import Text
from medqa_cli.data.identifiers.word_tables import need
from medqa_cli.resources import load_words, load_yaml

# The longest of each cue, in characters.
_REACH = {
    "title": 16, "self": 34, "iam": 14, "label": 40, "role": 36, "relation": 54, "named": 44, "closing": 52,
    "greeting": 46, "foreign": 24, "person_is": 50, "the_person": 30, "document": 26,
}  # fmt: skip
# What stands in each cue of which the last word is a common one.
_SIGNS_OF = {
    "self": ("name", "call", "go by"),
    "iam": ("i am", "i'm", "i’m", "im", "this is", "it's", "it’s", " its", "i,", "here is", "signed", "bin", "soy",
        "suis", "jestem", "self"),
    "role": (":", "=", "-", "–", "(", " by", "att", "fao", "ask for", "according to", "spoke "),
    "person_is": ("my ", "his ", "her ", "our ", "their "),
    "document": (
        "order", "referral", "request", "message", "appoint", "booking", "refill", "bill", "statement", "certificate",
        "paperwork", "call", "mail", "consult", "sample", "plan",
        "summary of", "report", "record", "chart", "file", "letter", "result", "note", "prescription", "biopsy", "scan",
        "lab",
    ),
    "named": (" named", " called", " name", "mine", "ours", "hers", "his", "call"),
    "closing": (
        "thank", "thx", "ty", "regards", "best", "sincerely", "cheers", "yours", "love", "warm", "bless", "respect",
        "cordial", "grat", "signed", "hugs", "xoxo", "grüße", "saludos", "help", "care", "well", "luck",
        "soon", "there",
        "bless", "stay", "day", "weekend", "tia", "merci", "danke", "gracias", "obrigad", "pozdraw",
        "atenta", "mfg", "lg", "ta,",
    ),
    "foreign": (
        "mein", "mi ", "mon ", "ma ", "meu ", "minha ", "mia ", "mio ", "mijn ",
        "hei", "name", "nom", "llamo", "appell", "chiam", "chamo", "heet", "heter", "nazyw", "imię", "jmen",
        "зовут", "звати",
    ),
}  # fmt: skip
_TITLE = re.compile(r"([A-Za-z]+)(\.?)\s*$")
CUE_NEEDS, SMALL_NEEDS = "cue_needs", "small_needs"
# One of these stands in a text with the cue, unless one of the words does.
_PHRASES = {
    (CUE_NEEDS, "iam"): ("this is", "it's", "it’s", " its", "i,", "here is"),
    (CUE_NEEDS, "role"): (":", "=", "–", "("),
    (SMALL_NEEDS, "role"): (":", " ("),
}
_ALONE = {
    "iam": frozenset(["im", "am", "m", "signed", "bin", "soy", "suis", "jestem", "self", "myself"]),
    "role": frozenset(
        [
            "attn",
            "attention",
            "att",
            "fao",
            "ask",
            "according",
            "spoke",
            "signed",
            "dictated",
            "written",
            "reviewed",
            "seen",
            "referred",
            "posted",
            "sent",
            "treated",
            "examined",
            "prepared",
            "ordered",
            "booked",
            "rip",
            "patient",
            "prescriber",
            "surgeon",
            "consultant",
            "order",
            "message",
            "letter",
        ]
    ),
}


@functools.cache
def _cue(name: str) -> re.Pattern[str]:
    """Return the pattern of a cue, in small letters, that ends where a name begins."""
    words = "".join(load_yaml("identifiers")["name_cues"][name].splitlines())
    return re.compile(rf"(?<![^\W_])(?:{words})$")


@functools.cache
def last_words(cues: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Return for each last word of some cues, in small letters and without signs, those that may end with it."""
    ends: dict[str, list[str]] = {}
    for cue in cues:
        for word in load_words("identifiers", f"{cue}_ends"):
            ends.setdefault(word, []).append(cue)
    return {word: tuple(names) for word, names in ends.items()}


@functools.cache
def all_cues() -> tuple[str, ...]:
    """Return the names of all cues."""
    return tuple(load_yaml("identifiers")["name_cues"])


@functools.cache
def _needs(section: str) -> dict[str, frozenset[str]]:
    """Return for each cue of a section the tables of each of which a text needs a word."""
    needs = {}
    for cue, groups in load_yaml("identifiers")[section].items():
        tables = [need(section, cue, place) for place in range(len(groups))]
        needs[cue] = frozenset([*tables, f"{cue}_ends"] if section == CUE_NEEDS else tables)
    return needs


@functools.cache
def _all_needs(section: str) -> frozenset[str]:
    return frozenset().union(*_needs(section).values())


@functools.lru_cache(maxsize=1 << 12)
def _with_words(section: str, tables: frozenset[str]) -> tuple[str, ...]:
    return tuple(cue for cue, needed in _needs(section).items() if needed <= tables)


def possible_cues(text: Text, section: str) -> tuple[str, ...]:
    """Return the cues of which a text has the words.

    Args:
        text: the text.
        section: ``CUE_NEEDS`` before a capitalized name, ``SMALL_NEEDS`` before one in small letters.
    """
    possible = []
    for cue in _with_words(section, text.cue_tables & _all_needs(section)):
        phrases = _PHRASES.get((section, cue))
        is_one = phrases is None or any(map(text.lower.__contains__, phrases)) or not text.words.isdisjoint(_ALONE[cue])
        # "Patient - Zofia": a hyphen behind white space.
        if is_one or (cue == "role" and any(part[-1:].isspace() for part in text.lower.split("-")[:-1])):
            possible.append(cue)
    return tuple(possible)


def stands_before(text: Text, cue: str, place: int) -> bool:
    """Tell whether a cue ends at a place."""
    signs = _SIGNS_OF.get(cue)
    if signs is not None and not any(map(text.lower[max(place - _REACH[cue], 0) : place].__contains__, signs)):
        return False
    return _cue(cue).search(text.lower, max(place - _REACH[cue], 0), place) is not None


def is_title(text: Text, place: int) -> bool:
    """Tell whether "MS", "DR" or "MR" before a place is a title and no disease or picture."""
    title = _TITLE.search(text.text, max(place - 12, 0), place)
    if title is None:
        return True
    return title[1] not in ("MS", "DR", "MR") and (bool(title[2]) or title[1] != "ms")
