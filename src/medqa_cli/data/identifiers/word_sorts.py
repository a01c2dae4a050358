"""What a word is that may be a name, and what one beside it is: of which table or class, or how it sounds."""

import functools
import re
from collections.abc import Iterable
from math import log

import numpy as np

from medqa_cli.data.identifiers.name_forms import ODD_SURNAME, is_common, is_medicine
from medqa_cli.data.identifiers.word_tables import (
    certain_names,
    common_words,
    cue_tables_of_words,
    first_names,
    medical_words,
    months,
    more_first_names,
    more_surnames,
    no_names,
    surnames,
)
from medqa_cli.data.normalize import without_accents
from medqa_cli.resources import load_words, load_yaml

UNKNOWN_SORTS = frozenset(("unknown", "typo", "medicine"))
"""The sorts of words that are in no table."""
_PLAIN_LETTERS = str.maketrans({"ł": "l", "ı": "i", "ß": "ss", "ø": "o", "đ": "d", "æ": "ae", "œ": "oe", "þ": "th"})
_PARTS = re.compile(r"[-‐‑]")
_REGULAR_ENDING = re.compile(r"(?:ed|ing|ly|tion|ment|ness)\Z")
FEWEST_LETTERS, _MOST, _SHORTEST_TYPO = 2, 40, 5


@functools.cache
def near_names() -> dict[str, str]:
    """Return the classes of words that stand beside names."""
    table = load_yaml("identifiers")["near_names"]
    return {word: name for name, words in reversed(table.items()) for word in words.split()}


@functools.lru_cache(maxsize=1 << 14)
def class_of(word: str) -> str:
    """Return what a word beside a name is: its class of ``near_names``, or of which table it is."""
    if word[0].isdigit():
        return "0"
    found = near_names().get(word)
    if found:
        return found
    return sort_of(word) or ("ed" if word.endswith("ed") else "s" if word.endswith("s") else "word")


@functools.lru_cache(maxsize=1 << 14)
def sort_of(word: str) -> str:
    """Return of which table a word in small letters is that may be a name; none: it is a word of the language."""
    if word in load_words("identifiers", "common", "no_names", "small_common") or word in near_names():
        return ""
    if word not in certain_names() and "ends" in cue_tables_of_words().get(word, ()):
        return ""
    is_first, is_last = word in first_names(), word in surnames()
    if word in load_words("identifiers", "eponyms"):
        return "first eponym" if is_first else "eponym"
    if (is_first or is_last) and (
        word in no_names() or word in load_words("identifiers", "ambiguous", "no_name_words")
    ):
        return "odd first" if is_first else "odd last"
    if is_first or is_last:
        return "both" if is_first and is_last else "first" if is_first else "last"
    if ODD_SURNAME.fullmatch(word) and word not in no_names() and word not in medical_words() and not is_medicine(word):
        return "last"
    if word in no_names() or word in months():
        return ""
    if word in more_first_names():
        return "more"
    if word in more_surnames():
        return "more last"
    if not word.isascii() and (plain := without_accents(word.translate(_PLAIN_LETTERS))) != word:
        if plain in first_names() or plain in more_first_names():
            return "more"
        if plain in surnames() or plain in more_surnames():
            return "more last"
    if word in common_words() or word in medical_words() or word.removesuffix("s") in medical_words():
        return ""
    if not FEWEST_LETTERS <= len(word) <= _MOST:
        return ""
    parts = _PARTS.split(word)
    if len(parts) > 1:
        if not load_words("identifiers", "eponyms").isdisjoint(parts):
            return "eponym"
        if any(part in certain_names() for part in parts):
            return "first" if parts[0] in first_names() else "last"
        return "" if any(map(is_common, parts)) else "unknown"
    if is_medicine(word):
        return "medicine"
    if is_common(word):
        return ""
    return "typo" if _is_typo(word) else "unknown"


def _is_typo(word: str) -> bool:
    """Tell whether a word of no table is a common one with a letter twice, missing or swapped with its neighbor."""
    if len(word) < _SHORTEST_TYPO:
        return False
    for place in range(len(word)):
        without = word[:place] + word[place + 1 :]
        swapped = word[: place - 1] + word[place] + word[place - 1] + word[place + 1 :] if place else ""
        if (place and word[place] == word[place - 1] and _is_word(without)) or (swapped and _is_word(swapped)):
            return True
        if any(_is_word(word[:place] + letter + word[place:]) for letter in "aeioulnrstdcmphgbyfvwkxqzj"):
            return True
    return False


def _is_word(word: str) -> bool:
    return (
        word in common_words()
        or word.removesuffix("s") in common_words()
        or _REGULAR_ENDING.sub("", word) in common_words()
    )


@functools.cache
def _sounds() -> dict[str, float]:
    """Return for each run of three letters how much more frequent it is in names than elsewhere, as a logarithm."""
    names = first_names() | surnames() | more_first_names() | more_surnames()
    counts = [_counted_runs(words) for words in (names, common_words() | medical_words())]
    totals = [sum(each.values()) for each in counts]
    runs = counts[0].keys() | counts[1].keys()
    return {
        run: log((counts[0].get(run, 0) + 1) / totals[0]) - log((counts[1].get(run, 0) + 1) / totals[1]) for run in runs
    }


def _counted_runs(words: Iterable[str]) -> dict[str, int]:
    """Return how often each run of three letters, as in ``sound_of``, is in words; a Counter takes twice as long."""
    letters = "".join(f"^{word}$" for word in words)
    codes = np.frombuffer(letters.encode("utf-32-le"), dtype=np.uint32).astype(np.int64)
    _, places, counts = np.unique(
        codes[:-2] << 42 | codes[1:-1] << 21 | codes[2:], return_index=True, return_counts=True
    )
    runs = ((letters[place : place + 3], count) for place, count in zip(places.tolist(), counts.tolist(), strict=True))
    return {run: count for run, count in runs if "$" not in run[:2]}  # the others are of two words


@functools.lru_cache(maxsize=1 << 12)
def sound_of(word: str) -> int:
    """Return how much a word sounds like a name, from 0 to 5."""
    whole = f"^{word}$"
    runs = [whole[place : place + 3] for place in range(len(whole) - 2)]
    score = sum(_sounds().get(run, 0.3) for run in runs) / len(runs)
    return min(max(int(2.5 + 2.5 * score), 0), 5)
