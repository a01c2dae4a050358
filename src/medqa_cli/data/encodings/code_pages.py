"""Which older encoding a text is in: each one is tried, and the readings are compared by how probable they are.

Only for bytes that are no UTF-8. The encodings stand in ``resources/encodings.yaml``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from medqa_cli.data.encodings.plausibility import (
    JUDGES,
    NAMES_LETTERS,
    UNIT,
    best_latin_share,
    is_of_several_languages,
    is_ordinary,
    latin_score,
    latin_share,
    own_alphabet,
    probability,
    told_languages,
)
from medqa_cli.data.languages import latin_languages, likeliest_language
from medqa_cli.resources import load_yaml

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
def code_pages() -> Mapping[str, CodePage]:
    """Return the encodings by Python's names of their codecs; of two that read a text alike the first is taken."""
    table = load_yaml("encodings")
    return {
        codec: CodePage(name, script, kind == "rare")
        for kind in ("common", "rare")
        for codec, (name, script) in table[kind].items()
    }


def is_latin(codec: str) -> bool:
    """Tell whether an encoding is one of those for Latin letters."""
    return codec in code_pages() and code_pages()[codec].script == "Latin"


@cache
def _terms() -> frozenset[str]:
    return frozenset(_WORD.findall(load_yaml("encodings")["terms"]))


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
        return code_pages()[self.codec].name


@dataclass(frozen=True)
class Recognised:
    """What the bytes are.

    Attributes:
        reading: the one that is taken; None: in doubt.
        candidates: where it is in doubt the most probable readings, the likeliest first, each with other letters.
        doubt: other readings of a text in which a few words decide, and these look right in all of them.
    """

    reading: Reading | None
    candidates: tuple[Reading, ...] = ()
    doubt: tuple[Reading, ...] = ()


def recognise(data: bytes, language: str = "") -> Recognised:
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
        return Recognised(None, _candidates(readings))
    best, others = good[0], [other for other in good[1:] if other.score > good[0].score - _LEAD]
    of_language = [reading for reading in (best, *others) if language and likeliest_language(reading.text) == language]
    if of_language:
        return Recognised(of_language[0])
    # Windows-1252 is by far the commonest, so that it need not be better than the others, only as good.
    rivals = [other for other in others if letters_of(other.text) != letters_of(best.text)]
    if best.codec != WINDOWS_1252 and any(_differs_much(best, other) for other in rivals):
        return Recognised(None, _candidates(readings))
    if is_latin(best.codec):
        return _among_latin(best, readings)
    return Recognised(best)


def better_than(data: bytes, codec: str) -> tuple[Reading, Reading] | None:
    """Return the reading in the encoding that a user named and one that makes more sense; None where there is none.

    Args:
        data: as for ``recognise``.
        codec: any text codec of Python.
    """
    found = recognise(data)
    best = found.reading or next(iter(found.candidates), None)
    text = data.decode(codec, "replace")
    if best is None or (letters_of(best.text) == letters_of(text) and best_latin_share(text) >= ENOUGH):
        return None
    mine = Reading(codec, data, text, max(probability(text), _OF_ANY_LANGUAGE * best_latin_share(text)))
    if found.reading is None and mine.score < min(_IMPROBABLE, best.score):
        return mine, best
    if is_latin(best.codec):
        own = own_alphabet(told_languages(best.text)) or NAMES_LETTERS
        pairs = deciding_words(mine, best)
        words, better = (" ".join(pair[side] for pair in pairs) for side in (0, 1))
        if found.reading is None:
            return (mine, best) if best_latin_share(words) < _IMPROBABLE < ENOUGH <= best_latin_share(better) else None
        return (mine, best) if latin_share(words, own) < ENOUGH <= latin_share(better, own) else None
    if found.reading is None:
        return None
    return (mine, best) if mine.score < ENOUGH else None


def _readings(data: bytes, language: str, *, are_rare: bool) -> list[Reading]:
    readings = []
    for codec, page in code_pages().items():
        if page.is_rare == are_rare and (text := _decoded(data, codec)) is not None:
            # No program under DOS wrote soft hyphens.
            judged = text.replace("\xad", "\ufffd") if codec.startswith(_DOS) else text
            score = latin_score(judged, language) if page.script == "Latin" else JUDGES[page.script](text)
            readings.append(Reading(codec, data, text, score * (_OF_RARE if are_rare else 1.0)))
    return readings


def _among_latin(best: Reading, readings: Sequence[Reading]) -> Recognised:
    """Look at the words in which the best reading differs from others in Latin letters: they may be too few to tell."""
    told = told_languages(best.text)
    own = own_alphabet(told)
    pages = code_pages()
    doubt: list[Reading] = []
    for rival in sorted(readings, key=lambda reading: pages[reading.codec].is_rare):
        if not is_latin(rival.codec) or letters_of(rival.text) == letters_of(best.text):
            continue
        all_pairs = deciding_words(best, rival)
        terms = sum(len(its) > 2 and _has_term(its) and not _has_term(mine) for mine, its in all_pairs)
        if 2 * terms > len(all_pairs) and not pages[rival.codec].is_rare:
            return Recognised(rival)
        pairs = [pair for pair in all_pairs if own or not is_ordinary(pair[0])]
        if own:
            pairs = [pair for pair in pairs if _LETTER_IN_A_WORD.search(pair[1]) or not is_ordinary(pair[0])]
        if not pairs:
            continue
        mine, its = (" ".join(pair[side] for pair in pairs) for side in (0, 1))
        # Half of the words are known as a text has them that is read as Windows-1252.
        are_terms = 2 * sum(_has_term(word) for word, _ in pairs) >= len(pairs)
        if best_latin_share(its) < ENOUGH or _NO_LETTER_IN_A_WORD.search(its) or are_terms:
            continue
        if not any(is_ordinary(pair[0]) for pair in pairs) and all(UNIT.fullmatch(pair[1]) for pair in pairs):
            return Recognised(rival)
        is_no_word = bool(_NO_LETTER_IN_A_WORD.search(mine))
        is_improbable = is_no_word or latin_share(mine, own or NAMES_LETTERS) < _IMPROBABLE
        is_improbable |= not own and is_of_several_languages(mine)
        is_of_language = not own or is_no_word or latin_share(its, own) >= ENOUGH
        if is_improbable and is_of_language and told:
            return Recognised(rival, (), (best,))
        if own and is_of_language and _letters_of_words(its, told) > _letters_of_words(mine, told):
            return Recognised(None, _candidates([rival, best, *readings]))
        is_common = not pages[rival.codec].is_rare
        if rival.score >= ENOUGH and is_common and (other := told_languages(rival.text)) != told and own:
            # The letters of each reading tell another language: its own words have to tell which is right.
            if _small_words(its, other) > _small_words(mine, told):
                return Recognised(rival)
            return Recognised(None, _candidates([rival, best, *readings]))
        if not told and (is_improbable or is_common):
            return Recognised(None, _candidates(readings))
        if is_common and (is_improbable or not own or best.codec != WINDOWS_1252):
            doubt.append(rival)
    # The commonest page reads as good words as the best one does: no one can tell.
    is_undecided = best.codec != WINDOWS_1252 and not own and any(other.codec == WINDOWS_1252 for other in doubt)
    if is_undecided or (pages[best.codec].is_rare and _NO_LETTER_IN_A_WORD.search(best.text)):
        return Recognised(None, _candidates(readings))
    return Recognised(best, (), tuple(doubt))


def _has_term(word: str) -> bool:
    return not _terms().isdisjoint(_WORD.findall(word.lower()))


def _letters_of_words(text: str, told: Collection[str]) -> int:
    """Count the letters beyond ASCII beside others, and those that are words by themselves, as "å"."""
    return len(_LETTER_IN_A_WORD.findall(text)) + _small_words(text, told, longest=1)


def _small_words(text: str, told: Collection[str], longest: int = 99) -> int:
    known = frozenset[str]().union(*(latin_languages()[name].words for name in told))
    return sum(word in known and len(word) <= longest for word in text.lower().split())


def deciding_words(one: Reading, other: Reading) -> list[tuple[str, str]]:
    """Return the words in which two readings of the same bytes differ, each once, as both have them."""
    tokens = list(dict.fromkeys(_tokens(one.data, (one.codec, other.codec))))[:_MOST_WORDS]
    pairs = ((token.decode(one.codec, "replace"), token.decode(other.codec, "replace")) for token in tokens)
    return [(mine, its) for mine, its in pairs if mine != its and any(map(str.isalpha, mine + its))]


def as_shown(readings: Sequence[Reading]) -> str:
    """Show how readings have the words in which they differ most: ``cp852 reads "gyógyszer", cp850 "gyàgyszer"``.

    Args:
        readings: of the same bytes.
    """
    codecs = [reading.codec for reading in readings]
    tokens = dict.fromkeys(_tokens(readings[0].data, codecs))
    read = {token: [_cut(token.decode(codec, "replace")) for codec in codecs] for token in list(tokens)[:_MOST_WORDS]}
    # The words that tell most readings apart; of these, those of an ordinary length.
    best = sorted(read, key=lambda token: (-len(set(read[token])), abs(len(token) - _ORDINARY)))[:_SHOWN_WORDS]
    best = [token for token in best if len(set(read[token])) > 1] or best
    return ", ".join(
        f"{codec} reads " + " and ".join(f'"{read[token][number]}"' for token in best)
        for number, codec in enumerate(codecs)
    )


def _cut(word: str) -> str:
    shown = "".join(sign if sign.isprintable() else "\ufffd" for sign in word)
    return shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}..."


def _tokens(data: bytes, codecs: Sequence[str]) -> Iterator[bytes]:
    pages = code_pages()
    east_asian = any(pages[codec].script.endswith(_EAST_ASIAN) for codec in codecs if codec in pages)
    for found in (_BETWEEN_SPACES if east_asian else _LETTERS).finditer(data):
        yield found[0]


def _candidates(readings: Sequence[Reading]) -> tuple[Reading, ...]:
    """Return the probable readings, each with other letters than those before it; of equals the commoner first."""
    weights = {reading.codec: _weight_as_candidate(reading) for reading in readings}
    order = list(code_pages())

    def rank(reading: Reading) -> tuple[bool, int]:
        is_plausible = weights[reading.codec] >= _PLAUSIBLE and not _NO_LETTER_IN_A_WORD.search(reading.text)
        return not is_plausible, order.index(reading.codec)

    found: dict[str, Reading] = {}
    for reading in sorted((one for one in readings if weights[one.codec] > _CANDIDATE), key=rank):
        found.setdefault(letters_of(reading.text), reading)
    return tuple(found.values())[:_MOST_CANDIDATES]


def _weight_as_candidate(reading: Reading) -> float:
    if not is_latin(reading.codec) or reading.score >= ENOUGH:
        return reading.score
    rarity = _CANDIDATE_OF_RARE if code_pages()[reading.codec].is_rare else 1.0
    if reading.codec == WINDOWS_1252:  # so common that it is shown in any case
        return max(reading.score, _LEAST_OF_COMMON, _OF_ANY_LANGUAGE * best_latin_share(reading.text))
    return max(reading.score, _OF_ANY_LANGUAGE * rarity * best_latin_share(reading.text))


def letters_of(text: str) -> str:
    """Return the letters of a text, in which readings have to differ to be different."""
    return "".join(filter(str.isalpha, text))


def _differs_much(one: Reading, other: Reading) -> bool:
    """Tell whether two readings belong to different scripts, or have different letters in more than a few places."""
    pairs = list(zip(one.text, other.text, strict=False))
    high = sum(1 for a, b in pairs if a > "\x7f" or b > "\x7f")
    return len(one.text) != len(other.text) or sum(a != b for a, b in pairs) > 0.02 * high


def _decoded(data: bytes, codec: str) -> str | None:
    """Return the text, or None where the bytes are not in the encoding; a few bytes may be damaged in a long text."""
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        text = data.decode(codec, "replace")
    beyond = len(_NOT_ASCII.findall(text))
    return text if text.count("\ufffd") <= 0.01 * beyond else None
