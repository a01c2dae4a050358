"""The words that say whose number follows, and where they stand: before it, behind it, or above it in a table.

The words before a number are read backwards: determiners and the like are passed over, and the first other word tells
whether a code of somebody stands there. Behind "is", ":" and the like it may be farther away.
"""

import functools
import re
from typing import NamedTuple

from medqa_cli.data.identifiers.text import Text
from medqa_cli.data.identifiers.word_tables import all_names, common_words, typing_errors
from medqa_cli.resources import load_pattern, load_words

_USER_NAME = re.compile(r"\b(?:(?:user|screen)[ -]name|log[ -](?:in|on))\b")
# ... and the words behind it: 448219 is my badge number, tlm749q (that's my HR number).
_LABEL_BEHIND = re.compile(
    r"[\"'”’)\]]?,?\s?[(\[–—-]?\s?(?:(?:(?:that['’]?s|that is|this is|it['’]?s|which is|is|was|being|as)\s)(?:the|an?)"
    r"|(?:(?:that['’]?s|that is|this is|it['’]?s|which is|is|was|being|as)\s)?(?:my|his|her|our|their|your))\s"
    r"((?:[^\W\d_]+[ /'’-]){0,2}[^\W\d_]+)"
)
_LEADER = re.compile(r"\.{2,}|_{2,}|…+")
_TOKEN = re.compile(r"[^\W\d_]+(?:[/&'’-][^\W\d_]+)*|\d+|[^\w\s]|\n")
# My number. It's 448219; my number's 448219.
_SAID_AGAIN = re.compile(r"(?:[.;,!]\s(?:it['’]?s|it is|that['’]?s|that is|this is)|(?<=\w)['’]s)\s(?=[\"“'(]?\Z)")
_NUMBER_SIGN = re.compile(r"\bn\s?[.º°]+\s?[º°]?|\br\.\s?č\.?")
_LAST_FOUR = re.compile(r"\b(?:last|final) (?:four|4|six|6)(?: digits)?\b|[x*•]{3,}[ -]?\Z")
_ENDING = re.compile(r"\b(?:ends|ending) (?:in|with)\b")
_BETWEEN_CELLS, _MOST_ROWS = ("|", "\t", ";", ","), 12
_STOPS, _LOTS = frozenset(".!?;\n"), frozenset(("lot", "batch", "lote", "lotto"))
_PREPOSITIONS = frozenset(("at", "for", "and", "to", "by"))
REACH = 70
"""How many characters before and behind a number are looked at for its label."""
_MOST_LINKS, _MOST_WORDS, _SHORTEST_MISTYPED = 7, 6, 6


class Label(NamedTuple):
    """The word that tells what a number is of, whether it stands right before it, and whether "is" or ":" does."""

    word: str
    is_near: bool
    is_told: bool


def is_end_of_number(before: str) -> bool:
    """Tell whether the last digits of a number follow: "ending in", "last four"."""
    return (_LAST_FOUR.search(before) or _ENDING.search(before)) is not None


def label_behind(text: Text, end: int) -> Label | None:
    """Return the label that is said behind a code: 448219 is my badge number."""
    found = _LABEL_BEHIND.match(text.lower, end, end + REACH)
    words = re.split("[ /'’-]", found[1]) if found else ()
    return next((Label(word, True, False) for word in words if is_label(word)), None)


def label_above(text: Text, start: int) -> Label | None:
    """Return the label in the first row of a table, above a code: Name | MRN, and below it Lee | 448219."""
    row = text.text.rfind("\n", 0, start) + 1
    sign = next(
        (sign for sign in _BETWEEN_CELLS if sign in text.text[row:start] or sign in text.after(start, REACH)), ""
    )
    if not row or not sign:
        return None
    cell, head = text.text.count(sign, row, start), row
    for _ in range(_MOST_ROWS):
        above = text.text.rfind("\n", 0, head - 1) + 1
        if text.text.count(sign, above, head) < max(cell, 1):
            break
        head = above
        if not head:
            break
    first = text.lower[head : text.lower.find("\n", head)]
    cells = first.split(sign)
    is_table = head < row and cell < len(cells) and not any(map(str.isdigit, first))
    return label_before(f"{cells[cell].strip()}: ") if is_table else None


@functools.cache
def _rewordings() -> tuple[tuple[tuple[str, ...], re.Pattern[str], str], ...]:
    """Return what is put into plainer words before a label is looked for: signs without which none is there first."""
    return (
        (("it", "that", "this", "'s", "’s"), _SAID_AGAIN, " is "),
        ((" is", " was", " sa", " reads", " shows", " has"), load_pattern("identifiers", "place_of_label"), " "),
        (("under", " as "), load_pattern("identifiers", "filed_under"), " reference:"),
        (("name", "log"), _USER_NAME, "username"),
        (("..", "__", "…"), _LEADER, ":"),
        (("º", "°", "n.", "n .", "r.č", "r. č"), _NUMBER_SIGN, " nr "),
        (("last", "final", "xx", "**", "••"), _LAST_FOUR, " ending "),
        (("end",), _ENDING, " "),
    )


@functools.lru_cache(maxsize=10_000)
def is_label(word: str) -> bool:
    """Tell whether a word in small letters says that a number of somebody follows."""
    labels = load_words("identifiers", "far_labels", "near_labels")
    parts = re.split("[/-]", word)
    if word in labels or (len(parts) > 1 and any(len(part) > 2 and part in labels for part in parts)):
        return True
    endings = tuple(load_words("identifiers", "label_endings"))
    return (len(word) > 5 and word.endswith(endings)) or word in _mistyped_labels()


@functools.cache
def _mistyped_labels() -> frozenset[str]:
    """Return likely typing errors in longer labels."""
    long = (word for word in load_words("identifiers", "far_labels", "near_labels") if len(word) >= _SHORTEST_MISTYPED)
    return frozenset().union(*map(typing_errors, long)) - common_words() - all_names()


def label_before(before: str) -> Label | None:
    """Return the word that tells what follows, or None where none does.

    Args:
        before: what stands before a number, in small letters.
    """
    for signs, pattern, plain in _rewordings():
        if any(map(before.__contains__, signs)):
            before = pattern.sub(plain, before)
    links, words, is_told, is_line, behind = 0, 0, False, False, ""
    weak: Label | None = None
    for token in reversed(_TOKEN.findall(before)):
        if token in load_words("identifiers", "label_copulas"):
            is_told = True
        elif not words and (is_label(token) or (token in _LOTS and _is_implanted(before))):
            is_other = load_pattern("identifiers", "number_of_other").search(before) and not _is_implanted(before)
            if is_other or (is_line and not is_told):
                return weak
            if not is_told or token not in load_words("identifiers", "weak_labels"):
                return Label(token, True, is_told)
            weak, words = Label(token, True, is_told), words + 1  # the number on my letter is
        elif is_told and token in load_words("identifiers", "far_labels") and behind != "of":
            return Label(token, False, is_told)
        elif not words and (token in load_words("identifiers", "label_links") or (token in ".\n" and not links)):
            links += 1
            is_line = is_line or token == "\n"
        elif is_told and (
            token in _PREPOSITIONS or not (token in _STOPS or token in load_words("identifiers", "other_labels"))
        ):
            words += 1
        else:
            return weak
        if links > _MOST_LINKS or words > _MOST_WORDS:
            return weak
        behind = token
    return weak


def _is_implanted(before: str) -> bool:
    """Tell whether a lot is that of an implant: of few persons, and on their cards."""
    return load_pattern("identifiers", "implanted").search(before) is not None
