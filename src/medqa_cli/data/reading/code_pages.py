"""Which older encoding a text is in: each one is tried, and the readings are compared by how probable they are.

Only for bytes that are no UTF-8. Does not open files and does not decide what becomes of a text that nothing fits.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from medqa_cli.data.languages import LATIN, likeliest_language
from medqa_cli.data.reading.plausibility import (
    JUDGES,
    NAMES_LETTERS,
    best_latin_share,
    latin_score,
    latin_share,
    own_alphabet,
    probability,
    told_languages,
)

WINDOWS_1252 = "cp1252"
_COMMON = {
    "cp1252": ("Windows-1252", "Latin"),
    "iso8859_15": ("ISO-8859-15", "Latin"),
    "mac_roman": ("MacRoman", "Latin"),
    "cp850": ("DOS 850", "Latin"),
    "cp437": ("DOS 437", "Latin"),
    "cp1250": ("Windows-1250", "Latin"),
    "iso8859_2": ("ISO-8859-2", "Latin"),
    "cp1254": ("Windows-1254", "Latin"),
    "cp1257": ("Windows-1257", "Latin"),
    "cp1258": ("Windows-1258", "Latin"),
    "cp1251": ("Windows-1251", "Cyrillic"),
    "koi8_u": ("KOI8", "Cyrillic"),
    "iso8859_5": ("ISO-8859-5", "Cyrillic"),
    "cp866": ("DOS 866", "Cyrillic"),
    "cp1253": ("Windows-1253", "Greek"),
    "iso8859_7": ("ISO-8859-7", "Greek"),
    "cp1255": ("Windows-1255", "Hebrew"),
    "cp1256": ("Windows-1256", "Arabic"),
    "iso8859_6": ("ISO-8859-6", "Arabic"),
    "cp874": ("Windows-874", "Thai"),
    "gb18030": ("GB18030", "simplified Chinese"),
    "big5hkscs": ("Big5", "traditional Chinese"),
    "cp932": ("Shift-JIS", "Japanese"),
    "euc_jp": ("EUC-JP", "Japanese"),
    "cp949": ("EUC-KR", "Korean"),
    "iso2022_jp": ("ISO-2022-JP", "Japanese"),
}
_RARE = {
    "mac_cyrillic": ("MacCyrillic", "Cyrillic"),
    "cp852": ("DOS 852", "Latin"),
    "mac_latin2": ("Mac Central European", "Latin"),
    "cp857": ("DOS 857", "Latin"),
    "cp775": ("DOS 775", "Latin"),
    "iso8859_13": ("ISO-8859-13", "Latin"),
    "iso8859_4": ("ISO-8859-4", "Latin"),
    "iso8859_16": ("ISO-8859-16", "Latin"),
    "cp865": ("DOS 865", "Latin"),
    "cp860": ("DOS 860", "Latin"),
    "cp861": ("DOS 861", "Latin"),
    "cp863": ("DOS 863", "Latin"),
    "mac_turkish": ("Mac Turkish", "Latin"),
    "mac_iceland": ("Mac Icelandic", "Latin"),
    "mac_croatian": ("Mac Croatian", "Latin"),
    "mac_romanian": ("Mac Romanian", "Latin"),
    "iso8859_3": ("ISO-8859-3", "Latin"),
    "iso8859_14": ("ISO-8859-14", "Latin"),
    "cp855": ("DOS 855", "Cyrillic"),
    "cp1125": ("DOS 1125", "Cyrillic"),
    "cp737": ("DOS 737", "Greek"),
    "mac_greek": ("Mac Greek", "Greek"),
    "cp862": ("DOS 862", "Hebrew"),
    "cp720": ("DOS 720", "Arabic"),
    "johab": ("Johab", "Korean"),
}
_TRIED = {**_COMMON, **_RARE}
NAMES = {codec: name for codec, (name, _) in _TRIED.items()}
"""The codecs that are tried, by Python's names, in the order of preference where two read a text alike."""
LATIN_CODECS = frozenset(codec for codec, (_, script) in _TRIED.items() if script == "Latin")

ENOUGH = 0.9  # of what is beyond ASCII has to make sense
_LEAD = 0.005  # by how much a reading has to beat another one that differs
_OF_RARE = 0.97  # what a rare encoding has to be better by
_SHORT = 1 << 11  # bytes in which a rare encoding may be the right one though a common one makes sense
_CANDIDATE = 0.4
_CANDIDATE_OF_RARE = 0.9
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
# Words of English texts in Windows-1252 whose letters have other meanings in other encodings of Windows.
_TERMS = frozenset(
    re.findall(
        r"\w+",
        """ménière ménières crème crèmes señor señora piñata jalapeño jalapeños niño niña niños año años español españa
        castañeda núñez muñoz peña ibáñez são joão guimarães magalhães naïve naïvely naïveté façade garçon soupçon
        curaçao behçet behçets français ångström løken brønsted søren fœtus fœtal œdema œsophagus œstrogen encyclopædia
        anæmia hæmorrhage orthopædic pædiatric cæsarean crêpe crêpes tête fête bête maître voilà à vis première lefèvre
        lèvre sèvres babès algebraïc caïn haïti coöperate ælurophobia tæniasis purkinjë père mère frère siècle grès
        kloeckera rhône garín ménétrier piñeiro ñ coxsackië goût août île dîner entrée frappé pâté""",
    )
)


@dataclass(frozen=True)
class Reading:
    """A way to read some bytes: the codec, they, the text, and the share (0 to 1) of what makes sense in it."""

    codec: str
    data: bytes
    text: str
    score: float


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
        language: that of other lines of the file, where it is known: it tells the right one of readings that are as
            good.

    Returns:
        the best reading where it makes sense and no other one is as good; else None and the candidates.
    """
    readings = _readings(data, language, _COMMON)
    best_score = max((reading.score for reading in readings), default=0.0)
    if best_score < _OF_RARE or len(data) < _SHORT:
        readings += _readings(data, language, _RARE)
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
    if best.codec in LATIN_CODECS:
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
    if best is None or letters_of(best.text) == letters_of(text):
        return None
    mine = Reading(codec, data, text, max(probability(text), _OF_ANY_LANGUAGE * best_latin_share(text)))
    if found.reading is None:
        return (mine, best) if mine.score < min(_IMPROBABLE, best.score) else None
    if best.codec in LATIN_CODECS:
        own = own_alphabet(told_languages(best.text)) or NAMES_LETTERS
        pairs = deciding_words(mine, best)
        words, better = (" ".join(pair[side] for pair in pairs) for side in (0, 1))
        return (mine, best) if latin_share(words, own) < ENOUGH <= latin_share(better, own) else None
    return (mine, best) if mine.score < ENOUGH else None


def _readings(data: bytes, language: str, tried: Mapping[str, tuple[str, str]]) -> list[Reading]:
    readings = []
    for codec, (_, script) in tried.items():
        text = _decoded(data, codec)
        if text is not None:
            score = latin_score(text, language) if script == "Latin" else JUDGES[script](text)
            readings.append(Reading(codec, data, text, score * (_OF_RARE if codec in _RARE else 1.0)))
    return readings


def _among_latin(best: Reading, readings: Sequence[Reading]) -> Recognised:
    """Look at the words in which the best reading differs from others in Latin letters: they may be too few to tell."""
    told = told_languages(best.text)
    own = own_alphabet(told)
    doubt: list[Reading] = []
    for rival in sorted(readings, key=lambda reading: reading.codec in _RARE):
        if rival.codec not in LATIN_CODECS or letters_of(rival.text) == letters_of(best.text):
            continue
        pairs = deciding_words(best, rival)
        mine, its = (" ".join(pair[side] for pair in pairs) for side in (0, 1))
        if best_latin_share(its) < ENOUGH or _NO_LETTER_IN_A_WORD.search(its) or _are_terms(pairs):
            continue
        is_no_word = bool(_NO_LETTER_IN_A_WORD.search(mine))
        is_improbable = is_no_word or latin_share(mine, own or NAMES_LETTERS) < _IMPROBABLE
        is_of_language = not own or is_no_word or latin_share(its, own) >= ENOUGH
        if is_improbable and is_of_language and told:
            return Recognised(rival, (), (best,))
        if own and is_of_language and _letters_of_words(its, told) > _letters_of_words(mine, told):
            return Recognised(None, _candidates([rival, best, *readings]))
        if rival.score >= ENOUGH and rival.codec in _COMMON and (other := told_languages(rival.text)) != told and own:
            # The letters of each reading tell another language: its own words have to tell which is right.
            if _small_words(its, other) > _small_words(mine, told):
                return Recognised(rival)
            return Recognised(None, _candidates([rival, best, *readings]))
        if not told and (is_improbable or rival.codec in _COMMON):
            return Recognised(None, _candidates(readings))
        if rival.codec in _COMMON and (is_improbable or not own):
            doubt.append(rival)
    return Recognised(best, (), tuple(doubt))


def _are_terms(pairs: Sequence[tuple[str, str]]) -> bool:
    """Tell whether half of the words are known as a text has them that is read as Windows-1252."""
    known = (not _TERMS.isdisjoint(_WORD.findall(word.lower())) for word, _ in pairs)
    return 2 * sum(known) >= len(pairs)


def _letters_of_words(text: str, told: Collection[str]) -> int:
    """Count the letters beyond ASCII beside others, and those that are words by themselves, as "å"."""
    return len(_LETTER_IN_A_WORD.findall(text)) + _small_words(text, told, longest=1)


def _small_words(text: str, told: Collection[str], longest: int = 99) -> int:
    known = {word for name in told for word in LATIN[name][1].split()}
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
    east_asian = any(
        _TRIED[codec][1].endswith(("Chinese", "Japanese", "Korean")) for codec in codecs if codec in _TRIED
    )
    for found in (_BETWEEN_SPACES if east_asian else _LETTERS).finditer(data):
        yield found[0]


def _candidates(readings: Sequence[Reading]) -> tuple[Reading, ...]:
    """Return the most probable readings, each with other letters than those before it."""
    weights = [_weight_as_candidate(reading) for reading in readings]
    found: dict[str, Reading] = {}
    for number in sorted(range(len(readings)), key=lambda number: -weights[number]):
        if weights[number] > _CANDIDATE:
            found.setdefault(letters_of(readings[number].text), readings[number])
    return tuple(found.values())[:_MOST_CANDIDATES]


def _weight_as_candidate(reading: Reading) -> float:
    if reading.codec not in LATIN_CODECS or reading.score >= ENOUGH:
        return reading.score
    rarity = _CANDIDATE_OF_RARE if reading.codec in _RARE else 1.0
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
