"""Tells the language of a text: by its script, else by the commonest words and the letters of a language.

Made for the rules and reports of ``convert``: quick, and silent (``UNKNOWN``) where a text is too short to tell. The
words and letters stand in ``resources/languages.yaml``.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import NamedTuple

from medqa_cli.resources import load_yaml

UNKNOWN = "und"  # ISO 639-2: undetermined; the others are ISO 639-1
_LOOKED_AT = 600  # characters of a text; more of them add time and no certainty

_OTHER_SCRIPT = re.compile("[\u0370-\u1fff\u3040-\ud7af\uf900-\ufaff\uff66-\uff9f\U00020000-\U0002ffff]")
_LATIN_LETTER = re.compile("[A-Za-z\u00c0-\u024f\u1e00-\u1eff]")
_WORD = re.compile(r"[^\W\d_]+")
_SHARE_OF_SCRIPT = 0.3  # of the letters; a sign of Chinese is worth several letters, and terms stay in Latin letters
_ROWS_WORTH_A_LINE = 20
_LEAST_SCORE = 0.5
_LEAST_SIGNS = 2  # different words, or letters beyond a to z
_LEAD_OF_ENGLISH = 1.3  # how many times English's score, whose small words stand in names and terms of others
_LEAD, _LEAD_IN_POINTS = 1.25, 0.6  # of the second: times its score, or that much more


_FIRST_LOOK = 250  # characters
_ENGLISH_ENOUGH = 4  # different words of English alone, 2 in a text of a few words
_FEW_WORDS = 12


class LatinLanguage(NamedTuple):
    """A language written in Latin letters: its letters beyond a to z, and its commonest small words."""

    letters: str
    words: frozenset[str]


@cache
def latin_languages() -> Mapping[str, LatinLanguage]:
    """Return the languages written in Latin letters, by their ISO 639-1 codes."""
    return {
        code: LatinLanguage(entry["letters"], frozenset(entry["words"].split()))
        for code, entry in load_yaml("languages")["latin"].items()
    }


@cache
def _votes() -> dict[str, tuple[tuple[str, float], ...]]:
    """Return what each word and each letter says: languages, each with a weight; the fewer share it, the more.

    A single letter from a to z says little, since lists and abbreviations hold them too.
    """
    codes_of: dict[str, list[str]] = {}
    for code, (letters, words) in latin_languages().items():
        for sign in {*letters, *words}:
            codes_of.setdefault(sign, []).append(code)
    weights = {sign: 1.5 if not sign.isascii() else 0.2 if len(sign) == 1 else 1.0 for sign in codes_of}
    return {sign: tuple((code, weights[sign] / len(codes)) for code in codes) for sign, codes in codes_of.items()}


@cache
def _only_english() -> frozenset[str]:
    return frozenset(word for word in latin_languages()["en"].words if len(_votes()[word]) == 1)


def language_of(text: str) -> str:
    """Tell the language of a text by its start: the ISO 639-1 code.

    ``UNKNOWN`` where the text is too short or too odd to tell, or where two languages are about as likely. Of languages
    that share a script other than Latin the most spoken one stands for all where no letter tells them apart.
    """
    language, is_certain = _told(text)
    return language if is_certain else UNKNOWN


def likeliest_language(text: str) -> str:
    """Tell the likeliest language of a text, also where there is little to tell it by, or another is about as likely.

    For what does less harm where the language is a wrong one than where it is taken for English.
    """
    return _told(text)[0]


@lru_cache(maxsize=16)
def _told(text: str) -> tuple[str, bool]:
    """Return the likeliest language, and whether it is certain."""
    start = text[:_LOOKED_AT]
    if start.isascii():
        # Nearly every English text shows its language at once; the last word may be cut.
        if len(_only_english().intersection(start[:_FIRST_LOOK].lower().split()[:-1])) >= _ENGLISH_ENOUGH:
            return "en", True
        words = start.lower().split()
        if len(_only_english().intersection(words)) >= (_ENGLISH_ENOUGH if len(words) > _FEW_WORDS else 2):
            return "en", True
    elif script := _language_by_script(start):
        return script, True
    return _language_by_words(start.lower())


def has_other_languages(counts: Mapping[str, int]) -> bool:
    """Tell whether languages other than English are worth a line: 20 rows, or one of a hundred, not one beside others.

    Fewer may be lists of names that were taken for another language. ``counts``: rows by language.
    """
    others = num_foreign(counts)
    rows = sum(counts.values())
    return others >= _ROWS_WORTH_A_LINE or (100 * others > rows and others > (rows > 1))


def num_foreign(counts: Mapping[str, int]) -> int:
    """Return how many rows are known to be in another language than English; ``counts``: rows by language."""
    return sum(count for language, count in counts.items() if language not in ("en", UNKNOWN))


def told_language(text: str, beside: str, tell: Callable[[str], str] = language_of) -> str:
    """Tell the language of a text; where that cannot be told, of the text beside it, as of a question's answer."""
    language = tell(text)
    return language if language != UNKNOWN else tell(beside)


def _language_by_script(text: str) -> str:
    signs = _OTHER_SCRIPT.findall(text)
    if not signs or len(signs) < _SHARE_OF_SCRIPT * (len(signs) + len(_LATIN_LETTER.findall(text))):
        return ""
    table = load_yaml("languages")
    starts, languages = zip(*table["scripts"], strict=True)
    counts: dict[str, int] = {}
    for sign in signs:
        language = languages[bisect_right(starts, ord(sign)) - 1]
        counts[language] = counts.get(language, 0) + 1
    counts.pop("", None)
    if not counts:
        return ""
    if counts.get("ja", 0) * 20 > counts.get("zh", 0) and "zh" in counts:
        return "ja"  # its nouns are written with Chinese signs
    commonest = max(counts, key=lambda language: counts[language])
    letters = frozenset(text.lower())
    return next(
        (language for language, alphabet in table["by_letters"].get(commonest, ()) if not letters.isdisjoint(alphabet)),
        commonest,
    )


def _language_by_words(text: str) -> tuple[str, bool]:
    votes = _votes()
    scores: dict[str, float] = {}
    signs: list[str] = _WORD.findall(text)
    if not text.isascii():
        signs += [*{sign for sign in text if sign > "\x7f"}]
    for sign in signs:
        for language, weight in votes.get(sign, ()):
            scores[language] = scores.get(language, 0.0) + weight
    if not scores:
        return UNKNOWN, False
    best = max(scores, key=lambda language: scores[language])
    score = scores.pop(best)
    # Near relatives (Danish and Norwegian) are guessed; English is what most rules are for, so that it is not.
    if score < _LEAST_SCORE or (best != "en" and score < _LEAD_OF_ENGLISH * scores.get("en", 0.0)):
        return UNKNOWN, False
    told_by = {sign for sign in signs for language, _ in votes.get(sign, ()) if language == best}
    # Words that English has, too, tell nothing of another language.
    num_signs = len(told_by if best == "en" else told_by - latin_languages()["en"].words)
    second = max(scores.values(), default=0.0)
    return best, num_signs >= _LEAST_SIGNS and (score >= _LEAD * second or score - second >= _LEAD_IN_POINTS)
