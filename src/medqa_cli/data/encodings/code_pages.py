"""Which older encoding a text is in: each one is tried, and the readings are compared by how probable they are.

Only for bytes that are no UTF-8. The encodings stand in ``resources/encodings.yaml``.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache
from typing import NamedTuple

from medqa_cli.data.encodings.plausibility import (
    JUDGES,
    NAMES_LETTERS,
    UNIT,
    best_latin_share,
    is_of_several_languages,
    is_ordinary,
    languages_in,
    latin_score,
    latin_share,
    letters_of_languages,
    probability,
)
from medqa_cli.data.languages import latin_languages, likeliest_language
from medqa_cli.resources import load_words, load_yaml

WINDOWS_1252 = "cp1252"
_DOS = ("cp437", "cp7", "cp85", "cp86")
_EAST_ASIAN = ("Chinese", "Japanese", "Korean")

ENOUGH = 0.9  # of what is beyond ASCII has to make sense
_LEAD = 0.005  # by how much a reading has to beat another one that differs
_OF_RARE = 0.97  # what a rare encoding has to be better by
_SHORT = 1 << 11  # bytes in which a rare encoding may be the right one though a common one makes sense
_CANDIDATE = 0.4
_PLAUSIBLE = 0.67
_CANDIDATE_OF_RARE = 0.9
_LEAST_OF_COMMON = 0.6
_MOST_CANDIDATES = 6
_OF_ANY_LANGUAGE = 0.75  # what a reading counts for that makes sense in a language of which no word was found
_IMPROBABLE = 0.5
_MOST_WORDS = 2000
_LONGEST_SHOWN = 24  # characters of a word
_SHOWN_WORDS = 2
_ORDINARY = 9  # letters of a word
# Words of one encoding of a byte, or of several in East Asia, where a second byte may be an ASCII letter.
# From the start of a word on, and without going back: a long word of plain letters is looked at once.
_LETTERS = re.compile(rb"(?<![A-Za-z\x80-\xff])[A-Za-z]*+[\x80-\xff][A-Za-z\x80-\xff]*+")
_BETWEEN_SPACES = re.compile(rb"(?<![\x40-\xff])[\x40-\x7f]*+[\x80-\xff][\x40-\xff]*+")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_NO_LETTERS = "¹³£¿¼½¾ªº¨´¸¯¢¥¦§¶†‡¤¬×÷±‰€≥≤≠≈∞√∑∫∂◊ﬁﬂ"
_NO_LETTER_IN_A_WORD = re.compile(f"[a-zA-Z]{{3}}[{_NO_LETTERS}µ]|[{_NO_LETTERS}][^\\W\\d_]")
_WORD = re.compile(r"[^\W\d_]+")
_LETTER_IN_A_WORD = re.compile(r"(?<=[a-zA-Z])[^\W\d_a-zA-Z]|[^\W\d_a-zA-Z](?=[a-zA-Z])")


class CodePage(NamedTuple):
    """An encoding that is tried: its name as people know it, the script it was made for, and whether it is rare."""

    name: str
    script: str
    is_rare: bool


@cache
def known_pages() -> Mapping[str, CodePage]:
    """Return the encodings by Python's names of their codecs; of two that read a text alike the first is taken."""
    table = load_yaml("encodings")
    return {
        codec: CodePage(name, script, kind == "rare")
        for kind in ("common", "rare")
        for codec, (name, script) in table[kind].items()
    }


def is_latin(codec: str) -> bool:
    """Tell whether an encoding is one of those for Latin letters."""
    return codec in known_pages() and known_pages()[codec].script == "Latin"


@dataclass(frozen=True)
class Reading:
    """A way to read some bytes: the codec, the bytes, the text, and the share (0 to 1) of what makes sense in it."""

    codec: str
    data: bytes
    text: str
    score: float

    @property
    def name(self) -> str:
        """The name of the encoding as people know it."""
        return known_pages()[self.codec].name


@dataclass(frozen=True)
class Recognized:
    """What the bytes are.

    Attributes:
        reading: the one that is taken; None: in doubt.
        candidates: where it is in doubt the most probable readings, the likeliest first, each with other letters.
        doubt: other readings of a text in which a few words decide, and these look right in all of them.
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
    if recognized.reading is None and mine.score < min(_IMPROBABLE, best.score):
        return mine, best
    if is_latin(best.codec):
        letters = letters_of_languages(languages_in(best.text)) or NAMES_LETTERS
        pairs = deciding_words(mine, best)
        words, better = (" ".join(pair[side] for pair in pairs) for side in (0, 1))
        if recognized.reading is None:
            return (mine, best) if best_latin_share(words) < _IMPROBABLE < ENOUGH <= best_latin_share(better) else None
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
        verdict = _verdict(best, rival, languages)
        if verdict is _Verdict.RIVAL:
            return Recognized(rival)
        if verdict is _Verdict.RATHER_RIVAL:
            return Recognized(rival, (), (best,))
        if verdict is _Verdict.EITHER:
            return Recognized(None, _candidates(readings))
        if verdict is _Verdict.RATHER_BEST:
            doubt.append(rival)
    # The commonest page reads as good words as the best one does: no one can tell.
    is_as_good = best.codec != WINDOWS_1252 and any(other.codec == WINDOWS_1252 for other in doubt)
    if is_as_good and not letters_of_languages(languages):
        return Recognized(None, _candidates(readings))
    if pages[best.codec].is_rare and _NO_LETTER_IN_A_WORD.search(best.text):
        return Recognized(None, _candidates(readings))
    return Recognized(best, (), tuple(doubt))


class _Verdict(Enum):
    """Which of two readings is right: the best one or its rival; "rather" leaves a doubt that the user is told of."""

    BEST = auto()
    RATHER_BEST = auto()
    EITHER = auto()
    RATHER_RIVAL = auto()
    RIVAL = auto()


def _verdict(best: Reading, rival: Reading, languages: Collection[str]) -> _Verdict:
    """Judge two readings of the same bytes in Latin letters by the words in which they differ.

    Args:
        best: the one that makes the most sense as a whole.
        rival: another one.
        languages: those that most words of the text are of, which are the same in both.
    """
    pairs = deciding_words(best, rival)
    is_common = not known_pages()[rival.codec].is_rare
    alphabet = letters_of_languages(languages)
    # Words of English texts that only the rival has, such as "Sjögren".
    terms = sum(len(its) > 2 and _has_term(its) and not _has_term(mine) for mine, its in pairs)
    if is_common and 2 * terms > len(pairs):
        return _Verdict.RIVAL
    # Ordinary signs ("m²") tell nothing, unless they are letters of the language in the rival.
    pairs = [pair for pair in pairs if (alphabet and _LETTER_IN_A_WORD.search(pair[1])) or not is_ordinary(pair[0])]
    mine, its = (" ".join(pair[side] for pair in pairs) for side in (0, 1))
    are_terms = 2 * sum(_has_term(word) for word, _ in pairs) >= len(pairs)
    if not pairs or are_terms or best_latin_share(its) < ENOUGH or _NO_LETTER_IN_A_WORD.search(its):
        return _Verdict.BEST
    if not any(is_ordinary(word) for word, _ in pairs) and all(UNIT.fullmatch(word) for _, word in pairs):
        return _Verdict.RIVAL
    is_no_word = _NO_LETTER_IN_A_WORD.search(mine) is not None
    is_improbable = is_no_word or latin_share(mine, alphabet or NAMES_LETTERS) < _IMPROBABLE
    if not alphabet:
        is_improbable = is_improbable or is_of_several_languages(mine)
        if not languages and (is_improbable or is_common):
            return _Verdict.EITHER
        if is_improbable:
            return _Verdict.RATHER_RIVAL
        return _Verdict.RATHER_BEST if is_common else _Verdict.BEST
    if is_no_word or latin_share(its, alphabet) >= ENOUGH:  # the rival is of the language
        if is_improbable:
            return _Verdict.RATHER_RIVAL
        if _letters_of_words(its, languages) > _letters_of_words(mine, languages):
            return _Verdict.EITHER
    if is_common and rival.score >= ENOUGH and (others := languages_in(rival.text)) != languages:
        # The letters of each reading tell another language: its own words have to tell which is right.
        is_rival = _small_words(its, others) > _small_words(mine, languages)
        return _Verdict.RIVAL if is_rival else _Verdict.EITHER
    return _Verdict.RATHER_BEST if is_common and (is_improbable or best.codec != WINDOWS_1252) else _Verdict.BEST


def _has_term(word: str) -> bool:
    return not load_words("encodings", "terms").isdisjoint(_WORD.findall(word.lower()))


def _letters_of_words(text: str, languages: Collection[str]) -> int:
    """Count the letters beyond ASCII beside others, and those that are words by themselves, as "å"."""
    return len(_LETTER_IN_A_WORD.findall(text)) + _small_words(text, languages, longest=1)


def _small_words(text: str, languages: Collection[str], longest: int = 99) -> int:
    known = frozenset[str]().union(*(latin_languages()[name].words for name in languages))
    return sum(word in known and len(word) <= longest for word in text.lower().split())


def deciding_words(a: Reading, b: Reading) -> list[tuple[str, str]]:
    """Return the words in which two readings of the same bytes differ, each once, as both have them."""
    tokens = list(dict.fromkeys(_tokens(a.data, (a.codec, b.codec))))[:_MOST_WORDS]
    pairs = ((token.decode(a.codec, "replace"), token.decode(b.codec, "replace")) for token in tokens)
    return [(mine, its) for mine, its in pairs if mine != its and any(map(str.isalpha, mine + its))]


def as_shown(readings: Sequence[Reading]) -> str:
    """Show how readings have the words in which they differ most: ``cp852 reads "gyógyszer", cp850 "gyàgyszer"``.

    Args:
        readings: of the same bytes.
    """
    codecs = [reading.codec for reading in readings]
    tokens = dict.fromkeys(_tokens(readings[0].data, codecs))
    read: dict[bytes, list[str]] = {}
    for token in list(tokens)[:_MOST_WORDS]:
        decoded = [token.decode(codec, "replace") for codec in codecs]
        words = ["".join(sign if sign.isprintable() else "\ufffd" for sign in word) for word in decoded]
        read[token] = [word if len(word) <= _LONGEST_SHOWN else f"{word[:_LONGEST_SHOWN]}..." for word in words]
    # The words that tell most readings apart; of these, those of an ordinary length.
    best = sorted(read, key=lambda token: (-len(set(read[token])), abs(len(token) - _ORDINARY)))[:_SHOWN_WORDS]
    best = [token for token in best if len(set(read[token])) > 1] or best
    return ", ".join(
        f"{codec} reads " + " and ".join(f'"{read[token][number]}"' for token in best)
        for number, codec in enumerate(codecs)
    )


def _tokens(data: bytes, codecs: Sequence[str]) -> Iterator[bytes]:
    pages = known_pages()
    east_asian = any(pages[codec].script.endswith(_EAST_ASIAN) for codec in codecs if codec in pages)
    for match in (_BETWEEN_SPACES if east_asian else _LETTERS).finditer(data):
        yield match[0]


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
        is_plausible = weights[reading.codec] >= _PLAUSIBLE and not _NO_LETTER_IN_A_WORD.search(reading.text)
        return not is_plausible, order.index(reading.codec)

    by_letters: dict[str, Reading] = {}
    for reading in sorted((reading for reading in readings if weights[reading.codec] > _CANDIDATE), key=rank):
        by_letters.setdefault(letters_of(reading.text), reading)
    return tuple(by_letters.values())[:_MOST_CANDIDATES]


def letters_of(text: str) -> str:
    """Return the letters of a text, in which readings have to differ to be different."""
    return "".join(filter(str.isalpha, text))


def _differs_much(reading: Reading, other: Reading) -> bool:
    """Tell whether two readings belong to different scripts, or have different letters in more than a few places."""
    pairs = list(zip(reading.text, other.text, strict=False))
    high = sum(1 for a, b in pairs if a > "\x7f" or b > "\x7f")
    return len(reading.text) != len(other.text) or sum(a != b for a, b in pairs) > 0.02 * high
