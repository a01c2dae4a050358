"""Which of two readings of the same bytes in Latin letters is right: the words in which they differ decide."""

import re
from collections.abc import Collection
from enum import Enum, auto

from medqa_cli.data.encodings.code_pages import ENOUGH, IMPROBABLE, WINDOWS_1252, Reading, deciding_words, known_pages
from medqa_cli.data.encodings.plausibility import (
    NAMES_LETTERS,
    UNIT,
    best_latin_share,
    is_of_several_languages,
    is_ordinary,
    languages_in,
    latin_share,
    letters_of_languages,
)
from medqa_cli.data.languages import latin_languages
from medqa_cli.resources import load_words

_SIGNS = "¹³£¿¼½¾ªº¨´¸¯¢¥¦§¶†‡¤¬×÷±‰€≥≤≠≈∞√∑∫∂◊ﬁﬂ"
_SIGN_IN_A_WORD = re.compile(f"[a-zA-Z]{{3}}[{_SIGNS}µ]|[{_SIGNS}][^\\W\\d_]")
_WORD = re.compile(r"[^\W\d_]+")
_LETTER_IN_A_WORD = re.compile(r"(?<=[a-zA-Z])[^\W\d_a-zA-Z]|[^\W\d_a-zA-Z](?=[a-zA-Z])")


class Verdict(Enum):
    """Which of two readings is right, the best one or its rival.

    ``RATHER_BEST`` and ``RATHER_RIVAL``: one is taken, and the user is told of the other. ``EITHER``: none is taken.
    """

    BEST = auto()
    RATHER_BEST = auto()
    EITHER = auto()
    RATHER_RIVAL = auto()
    RIVAL = auto()


def verdict_on(best: Reading, rival: Reading, languages: Collection[str]) -> Verdict:
    """Judge two readings of the same bytes in Latin letters by the words in which they differ.

    The first rule that applies decides: terms and signs come first, the language of the text comes last.

    Args:
        best: the reading that makes the most sense as a whole.
        rival: another reading.
        languages: the languages that most words of the text are of. They are the same in both readings.
    """
    is_common = not known_pages()[rival.codec].is_rare
    alphabet = letters_of_languages(languages)
    differing = deciding_words(best, rival)
    # The rival alone has terms of English texts, such as "Sjögren".
    terms_of_rival = sum(len(theirs) > 2 and _has_term(theirs) and not _has_term(ours) for ours, theirs in differing)
    if is_common and 2 * terms_of_rival > len(differing):
        return Verdict.RIVAL
    # Ordinary signs ("m²") in the best reading tell something only where the rival has letters of the language instead.
    telling = [
        (ours, theirs)
        for ours, theirs in differing
        if not is_ordinary(ours) or (alphabet and _LETTER_IN_A_WORD.search(theirs))
    ]
    # At least half of the words are terms in the best reading; also where no word tells anything.
    if 2 * sum(_has_term(ours) for ours, _ in telling) >= len(telling):
        return Verdict.BEST
    best_words, rival_words = map(" ".join, zip(*telling, strict=True))
    # The rival's words make no sense in any language.
    if best_latin_share(rival_words) < ENOUGH or has_sign_in_word(rival_words):
        return Verdict.BEST
    # The rival has units ("µg") where the best reading has letters.
    if all(UNIT.fullmatch(theirs) for _, theirs in telling) and not any(is_ordinary(ours) for ours, _ in telling):
        return Verdict.RIVAL
    if alphabet:
        return _verdict_by_alphabet(best, rival, best_words, rival_words, languages)
    # Letters beyond ASCII stand in names and terms only: the readings are judged as words of any language.
    is_improbable = (
        has_sign_in_word(best_words)
        or latin_share(best_words, NAMES_LETTERS) < IMPROBABLE
        or is_of_several_languages(best_words)
    )
    if not languages and (is_improbable or is_common):
        return Verdict.EITHER
    if is_improbable:
        return Verdict.RATHER_RIVAL
    return Verdict.RATHER_BEST if is_common else Verdict.BEST


def _verdict_by_alphabet(
    best: Reading, rival: Reading, best_words: str, rival_words: str, languages: Collection[str]
) -> Verdict:
    """Judge two readings of a text whose languages have letters beyond ASCII, by these letters."""
    alphabet = letters_of_languages(languages)
    if has_sign_in_word(best_words):
        return Verdict.RATHER_RIVAL
    is_improbable = latin_share(best_words, alphabet) < IMPROBABLE
    if latin_share(rival_words, alphabet) >= ENOUGH:  # the rival's words are of the languages
        if is_improbable:
            return Verdict.RATHER_RIVAL
        if _letters_of_words(rival_words, languages) > _letters_of_words(best_words, languages):
            return Verdict.EITHER
    if known_pages()[rival.codec].is_rare:
        return Verdict.BEST
    # The letters of each reading tell another language: its own words have to tell which is right.
    if rival.score >= ENOUGH and (rival_languages := languages_in(rival.text)) != languages:
        is_rival = _small_words(rival_words, rival_languages) > _small_words(best_words, languages)
        return Verdict.RIVAL if is_rival else Verdict.EITHER
    # Windows-1252 is so common that it leaves no doubt.
    return Verdict.RATHER_BEST if is_improbable or best.codec != WINDOWS_1252 else Verdict.BEST


def has_sign_in_word(text: str) -> bool:
    """Tell whether a sign that is no letter stands in a word, as where a letter was read in the wrong encoding."""
    return _SIGN_IN_A_WORD.search(text) is not None


def _has_term(word: str) -> bool:
    return not load_words("encodings", "terms").isdisjoint(_WORD.findall(word.lower()))


def _letters_of_words(text: str, languages: Collection[str]) -> int:
    """Count the letters beyond ASCII beside others, and those that are words by themselves, as "å"."""
    return len(_LETTER_IN_A_WORD.findall(text)) + _small_words(text, languages, longest=1)


def _small_words(text: str, languages: Collection[str], longest: int = 99) -> int:
    known = frozenset[str]().union(*(latin_languages()[name].words for name in languages))
    return sum(word in known and len(word) <= longest for word in text.lower().split())
