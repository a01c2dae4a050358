"""The words of a text that may be names of persons, and what tells of each whether it is one: its features.

They are what the score of ``name_scores.py`` adds up, and ``tools/name_weights.py`` learns from.
"""

import re
from typing import NamedTuple

from medqa_cli.data.identifiers.name_cues import all_cues, is_title, last_words, stands_before
from medqa_cli.data.identifiers.name_forms import LAST_WORD
from medqa_cli.data.identifiers.text import Text
from medqa_cli.data.identifiers.word_sorts import FEWEST_LETTERS, UNKNOWN_SORTS, class_of, near_names, sort_of, sound_of
from medqa_cli.data.identifiers.word_tables import all_names, no_names
from medqa_cli.resources import load_pattern, load_words

_TOKEN = re.compile(r"[^\W\d_]+(?:['’ʼ`‐‑-][^\W\d_]+)*|\d[\d.,/:-]*")
_GAP_SIGN = re.compile(r"[^\s]")
_SIGNS = {",": ",", ":": ":", "=": ":", "(": "(", "[": "(", ")": ")", "]": ")", ".": ".", "!": ".", "?": ".", ";": ";"}
_SIGNS |= {"-": "-", "–": "-", "—": "-", ">": ">", "<": "<", "/": "/", "@": "@", "*": "*", '"': '"', "“": '"', "”": '"'}
_GLUE = frozenset("@/_.\\")
_SURE_SORTS = frozenset(("first", "last", "both", "more", "more last"))
_LONG, _LAST_REACH, _MOST_BEFORE = 5, 26, 4


class Token(NamedTuple):
    """A word or a number: its place, itself in small letters without a possessive, and what is before it."""

    start: int
    end: int
    plain: str
    gap: str


def tokens(text: Text) -> list[Token]:
    """Return the words and numbers of a text."""
    found, last = [], 0
    for match in _TOKEN.finditer(text.text):
        start, end = match.span()
        plain = text.lower[start:end]
        if plain[-2:] in ("'s", "’s"):
            plain = plain[:-2]
        # What stands between two words as one sign: a line, a mark, or a space.
        between = text.text[last:start]
        sign = _GAP_SIGN.search(between)
        gap = "n" if "\n" in between else " " if sign is None else _SIGNS.get(sign[0], "~")
        found.append(Token(start, end, plain, gap if last else "^"))
        last = end
    return found


def shape_of(text: Text, token: Token) -> str:
    """Return how a word is written, and whether it begins a sentence."""
    written = text.text[token.start : token.end]
    if text.is_shouted:
        return "shouted"
    if not written[0].isupper():
        return "small"
    if len(written) > 1 and written.replace("'s", "").replace("’s", "").isupper():
        return "capitals"
    return "Begins" if token.gap in "^.n>*" else "Large"


def features(text: Text, words: list[Token], place: int) -> list[str]:
    """Return the features of a word that may be a name."""
    token = words[place]
    sort, shape = sort_of(token.plain), shape_of(text, token)
    kind = f"{sort}/{shape}"
    before = words[place - 1] if place else None
    second = words[place - 2] if place > 1 else None
    after = words[place + 1] if place + 1 < len(words) else None
    left = _beside(text, before, token.gap)
    right = _beside(text, after, after.gap if after else "$")
    written = text.text[token.start : token.end]
    is_owner = len(token.plain) < len(written)
    left_class = class_of(before.plain) if before else "^"
    second_class = class_of(second.plain) if second else "^"
    right_class = class_of(after.plain) if after else "$"
    found = [
        f"k {kind}", f"s {sort}", f"h {shape}", f"l {left}", f"r {right}", f"lg {token.gap}",
        f"rg {after.gap if after else '$'}",
        f"lc {left_class}", f"rc {right_class}", f"kl {kind} {left}", f"kr {kind} {right}", f"sl {sort} {left_class}",
        f"sr {sort} {right_class}", f"hl {shape} {left}", f"hr {shape} {right}", f"ll {second_class} {left_class}",
        f"lr {left_class} {right_class}", f"gap {token.gap}{after.gap if after else '$'} {sort}",
    ]  # fmt: skip
    if sort in UNKNOWN_SORTS:
        found += [
            f"o {sound_of(token.plain)}",
            f"oh {sound_of(token.plain)} {shape}",
            f"n {min(len(token.plain), 4)} {shape}",
        ]
    cue = cue_before(text, words, place)
    if cue:
        found += [f"c {cue}", f"c {cue} {sort}", f"c {cue} {shape}", f"c {cue} {right}"]
    follows = load_pattern("identifiers", "name_follows", re.NOFLAG).match(text.text, token.end)
    if follows:
        found += ["follows", f"follows {sort}"]
    if is_owner:
        found += ["own", f"own {kind}"]
    if shape in ("Large", "Begins", "capitals") and token.plain in text.small_words:
        found += ["also small", f"also small {sort}"]
    if not text.is_shouted and text.text == text.lower:
        found.append(f"low {sort}")
    return found


def cue_before(text: Text, words: list[Token], place: int) -> str:
    """Return the cue that stands before the words that may be one name with the one at a place."""
    for _ in range(_MOST_BEFORE):
        if (
            place
            and words[place].gap == " "
            and words[place - 1].plain[0].isalpha()
            and sort_of(words[place - 1].plain)
        ):
            place -= 1
    start = start_of(text, words, place)
    last = LAST_WORD.search(text.lower, max(start - _LAST_REACH, 0), start)
    for cue in last_words(all_cues()).get(last[1], ()) if last else ():
        if stands_before(text, cue, start) and (cue != "title" or is_title(text, start)):
            return cue
    return ""


def _beside(text: Text, token: Token | None, gap: str) -> str:
    """Return a neighbor's class, how it is written, and what is between."""
    if token is None:
        return gap
    name = class_of(token.plain)
    large = "+" if text.text[token.start].isupper() and not text.is_shouted else ""
    return f"{gap}{name}{large}"


def candidates(text: Text, words: list[Token]) -> list[int]:
    """Return the places of the words that may be names."""
    return [place for place, token in enumerate(words) if _may_be_name(text, words, place, token)]


def _may_be_name(text: Text, words: list[Token], place: int, token: Token) -> bool:
    """Tell whether a word is no number, no part of a web address, no abbreviation, and none of the language."""
    sort = "" if token.plain[0].isdigit() else sort_of(token.plain)
    if not sort:
        return _may_be_word_as_name(text, words, place, token)
    if token.plain in load_words("identifiers", "leading"):
        return False
    if text.text[token.start - 1 : token.start] in _GLUE and token.start:
        return False
    behind = text.text[token.end : token.end + 2]
    if behind[:1] in _GLUE - {".", ""} or (behind[:1] == "." and behind[1:].isalnum()):
        return False
    if sort == "eponym" and shape_of(text, token) == "small":
        return place > 0 and class_of(words[place - 1].plain) in ("title", "first", "both", "more", "odd first")
    before = words[place - 1].plain if place else ""
    after = words[place + 1] if place + 1 < len(words) else None
    shape = shape_of(text, token)
    if sort in UNKNOWN_SORTS | {"more last"} and before == "im" and shape == "Large":  # German: im Harn
        return False
    if shape == "capitals" and after and after.gap == " " and shape_of(text, after) == "Large":  # DEBRA International
        return False
    is_short = sort in UNKNOWN_SORTS and len(token.plain) < _LONG
    return not (is_short and shape == "capitals")


def _may_be_word_as_name(text: Text, words: list[Token], place: int, token: Token) -> bool:
    """Tell whether a common word written large may be a name: by a title, a cue, an initial or a name beside it."""
    shape = shape_of(text, token)
    if shape not in ("Large", "Begins") or len(token.plain) < FEWEST_LETTERS or token.plain[0].isdigit():
        return False
    is_name = token.plain in all_names() and bool(cue_before(text, words, place))
    if token.plain in near_names() or (token.plain in load_words("identifiers", "no_names") and not is_name):
        return False
    after = words[place + 1] if place + 1 < len(words) else None
    if (
        after
        and after.gap == " "
        and token.plain not in load_words("identifiers", "common", "small_common")
        and token.plain not in no_names()
        and shape_of(text, after) == "Large"
        and sort_of(after.plain) in _SURE_SORTS
    ):
        return True
    if is_name:
        return True
    if shape == "Begins" or token.gap not in " .:" or not place:
        return False
    before = words[place - 1]
    if len(before.plain) == 1:
        return before.plain != "i"
    sort = class_of(before.plain)
    return sort == "title" or (sort in ("first", "more") and not text.text[before.start : before.end].isupper())


def start_of(text: Text, words: list[Token], place: int) -> int:
    """Return where a name begins whose first whole word stands at a place: at its initials or particles."""
    start = words[place].start
    for before in range(place - 1, max(place - 4, -1), -1):
        token = words[before]
        gap, written = text.text[token.end : start], text.text[token.start : token.end]
        is_initial = len(written) == 1 and gap in (". ", " ", ".") and token.plain != "i"
        is_initial &= written.isupper() or gap[:1] == "."
        # Two letters of given names: JL Rosales, jl rosales.
        is_part = len(written) == 2 and (
            (written.isupper() and not text.is_shouted and written not in ("MS", "DR", "MR"))
            or (written.islower() and text.text == text.lower and sort_of(written) == "unknown")
        )
        if not (is_initial or (gap == " " and (is_part or token.plain in load_words("identifiers", "leading")))):
            break
        start = token.start
    return start
