"""Which older encoding a text is in: each one is tried, and the readings are compared by how probable they are.

Only for bytes that are no UTF-8. ``code_pages`` has the encodings, ``plausibility`` the judges of a reading.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from medqa_cli.data.encodings.code_pages import (
    ENOUGH,
    IMPROBABLE,
    WINDOWS_1252,
    Reading,
    deciding_words,
    is_latin,
    known_pages,
    letters_of,
)
from medqa_cli.data.encodings.latin_verdict import Verdict, has_sign_in_word, verdict_on
from medqa_cli.data.encodings.plausibility import (
    JUDGES,
    NAMES_LETTERS,
    best_latin_share,
    languages_in,
    latin_score,
    latin_share,
    letters_of_languages,
    probability,
)
from medqa_cli.data.languages import likeliest_language

_DOS = ("cp437", "cp7", "cp85", "cp86")

_LEAD = 0.005  # by how much a reading has to beat another one that differs
_OF_RARE = 0.97  # what a rare encoding has to be better by
_SHORT = 1 << 11  # bytes in which a rare encoding may be the right one though a common one makes sense
_CANDIDATE = 0.4
_PLAUSIBLE = 0.67
_CANDIDATE_OF_RARE = 0.9
_LEAST_OF_COMMON = 0.6
_MOST_CANDIDATES = 6
_OF_ANY_LANGUAGE = 0.75  # what a reading counts for that makes sense in a language of which no word was found
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


@dataclass(frozen=True)
class Recognized:
    """What the bytes are.

    Attributes:
        reading: the reading that is taken, or None where it is in doubt.
        candidates: in doubt, the most probable readings, the likeliest first, each with other letters.
        doubt: readings that were not taken though the few words that decide look right in them, too.
    """

    reading: Reading | None
    candidates: tuple[Reading, ...] = ()
    doubt: tuple[Reading, ...] = ()


def guess_code_page(data: bytes, language: str = "") -> Recognized:
    """Find the older encoding of a text.

    Args:
        data: whole lines with bytes beyond ASCII, which are no UTF-8.
        language: that of other lines of the file, where it is known: it decides between equally good readings.

    Returns:
        the best reading where it makes sense and no other one is as good; else None and the candidates.
    """
    readings = _readings(data, language, are_rare=False)
    best_score = max((reading.score for reading in readings), default=0.0)
    if best_score < _OF_RARE or len(data) < _SHORT:
        readings += _readings(data, language, are_rare=True)
    readings.sort(key=lambda reading: -reading.score)  # stable: the preferred first where two are equal
    good = [reading for reading in readings if reading.score >= ENOUGH]
    if not good:
        return Recognized(None, _candidates(readings))
    best, others = good[0], [other for other in good[1:] if other.score > good[0].score - _LEAD]
    of_language = [reading for reading in (best, *others) if language and likeliest_language(reading.text) == language]
    if of_language:
        return Recognized(of_language[0])
    # Windows-1252 is by far the commonest, so that it need not be better than the others, only as good.
    rivals = [other for other in others if letters_of(other.text) != letters_of(best.text)]
    if best.codec != WINDOWS_1252 and any(_differs_much(best, other) for other in rivals):
        return Recognized(None, _candidates(readings))
    if is_latin(best.codec):
        return _among_latin(best, readings)
    return Recognized(best)


def better_than(data: bytes, codec: str) -> tuple[Reading, Reading] | None:
    """Return the reading in the encoding that a user named and one that makes more sense; None where there is none.

    Args:
        data: as for ``guess_code_page``.
        codec: any text codec of Python.
    """
    recognized = guess_code_page(data)
    best = recognized.reading or next(iter(recognized.candidates), None)
    text = data.decode(codec, "replace")
    if best is None or (letters_of(best.text) == letters_of(text) and best_latin_share(text) >= ENOUGH):
        return None
    mine = Reading(codec, data, text, max(probability(text), _OF_ANY_LANGUAGE * best_latin_share(text)))
    if recognized.reading is None and mine.score < min(IMPROBABLE, best.score):
        return mine, best
    if is_latin(best.codec):
        letters = letters_of_languages(languages_in(best.text)) or NAMES_LETTERS
        pairs = deciding_words(mine, best)
        words, better = (" ".join(pair[side] for pair in pairs) for side in (0, 1))
        if recognized.reading is None:
            return (mine, best) if best_latin_share(words) < IMPROBABLE < ENOUGH <= best_latin_share(better) else None
        return (mine, best) if latin_share(words, letters) < ENOUGH <= latin_share(better, letters) else None
    if recognized.reading is None:
        return None
    return (mine, best) if mine.score < ENOUGH else None


def _readings(data: bytes, language: str, *, are_rare: bool) -> list[Reading]:
    readings = []
    for codec, page in known_pages().items():
        if page.is_rare != are_rare:
            continue
        text = data.decode(codec, "replace")
        # A few bytes may be damaged in a long text.
        if "\ufffd" in text and text.count("\ufffd") > 0.01 * len(_NOT_ASCII.findall(text)):
            continue
        # No program under DOS wrote soft hyphens.
        judged = text.replace("\xad", "\ufffd") if codec.startswith(_DOS) else text
        score = latin_score(judged, language) if page.script == "Latin" else JUDGES[page.script](text)
        readings.append(Reading(codec, data, text, score * (_OF_RARE if are_rare else 1.0)))
    return readings


def _among_latin(best: Reading, readings: Sequence[Reading]) -> Recognized:
    """Compare the best reading with the others in Latin letters, the commoner first: a few words may decide."""
    pages = known_pages()
    languages = languages_in(best.text)
    doubt: list[Reading] = []
    for rival in sorted(readings, key=lambda reading: pages[reading.codec].is_rare):
        if not is_latin(rival.codec) or letters_of(rival.text) == letters_of(best.text):
            continue
        verdict = verdict_on(best, rival, languages)
        if verdict is Verdict.RIVAL:
            return Recognized(rival)
        if verdict is Verdict.RATHER_RIVAL:
            return Recognized(rival, (), (best,))
        if verdict is Verdict.EITHER:
            return Recognized(None, _candidates(readings))
        if verdict is Verdict.RATHER_BEST:
            doubt.append(rival)
    # The commonest page reads as good words as the best one does: no one can tell.
    is_as_good = best.codec != WINDOWS_1252 and any(other.codec == WINDOWS_1252 for other in doubt)
    if is_as_good and not letters_of_languages(languages):
        return Recognized(None, _candidates(readings))
    if pages[best.codec].is_rare and has_sign_in_word(best.text):
        return Recognized(None, _candidates(readings))
    return Recognized(best, (), tuple(doubt))


def _candidates(readings: Sequence[Reading]) -> tuple[Reading, ...]:
    """Return the probable readings, each with other letters than those before it; of equals the commoner first."""
    weights: dict[str, float] = {}
    for reading in readings:
        weight = reading.score
        if is_latin(reading.codec) and weight < ENOUGH:
            rarity = _CANDIDATE_OF_RARE if known_pages()[reading.codec].is_rare else 1.0
            weight = max(weight, _OF_ANY_LANGUAGE * rarity * best_latin_share(reading.text))
            if reading.codec == WINDOWS_1252:  # so common that it is shown in any case
                weight = max(weight, _LEAST_OF_COMMON)
        weights[reading.codec] = weight
    order = list(known_pages())

    def rank(reading: Reading) -> tuple[bool, int]:
        is_plausible = weights[reading.codec] >= _PLAUSIBLE and not has_sign_in_word(reading.text)
        return not is_plausible, order.index(reading.codec)

    by_letters: dict[str, Reading] = {}
    for reading in sorted((reading for reading in readings if weights[reading.codec] > _CANDIDATE), key=rank):
        by_letters.setdefault(letters_of(reading.text), reading)
    return tuple(by_letters.values())[:_MOST_CANDIDATES]


def _differs_much(reading: Reading, other: Reading) -> bool:
    """Tell whether two readings belong to different scripts, or have different letters in more than a few places."""
    pairs = list(zip(reading.text, other.text, strict=False))
    high = sum(1 for a, b in pairs if a > "\x7f" or b > "\x7f")
    return len(reading.text) != len(other.text) or sum(a != b for a, b in pairs) > 0.02 * high
