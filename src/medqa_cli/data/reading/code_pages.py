"""Which older encoding a text is in: each one is tried, and the reading is judged by its letters, words and signs.

Only for bytes that are no UTF-8. Does not open files and does not decide what becomes of a text that nothing fits.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from medqa_cli.data.languages import LATIN, likeliest_language

WINDOWS_1252 = "cp1252"
NAMES = {
    "cp1252": "Windows-1252",
    "iso8859_15": "ISO-8859-15",
    "mac_roman": "MacRoman",
    "cp850": "DOS 850",
    "cp437": "DOS 437",
    "cp1250": "Windows-1250",
    "iso8859_2": "ISO-8859-2",
    "cp1254": "Windows-1254",
    "cp1257": "Windows-1257",
    "cp1258": "Windows-1258",
    "cp1251": "Windows-1251",
    "koi8_u": "KOI8",
    "iso8859_5": "ISO-8859-5",
    "cp866": "DOS 866",
    "mac_cyrillic": "MacCyrillic",
    "cp1253": "Windows-1253",
    "iso8859_7": "ISO-8859-7",
    "cp1255": "Windows-1255",
    "cp1256": "Windows-1256",
    "iso8859_6": "ISO-8859-6",
    "cp874": "Windows-874",
    "gb18030": "GB18030",
    "big5hkscs": "Big5",
    "cp932": "Shift-JIS",
    "euc_jp": "EUC-JP",
    "cp949": "EUC-KR",
    "iso2022_jp": "ISO-2022-JP",
}
"""The codecs that are tried, by Python's names, in the order of preference where two read a text alike."""
LATIN_CODECS = frozenset(list(NAMES)[:10])

ENOUGH = 0.9  # of what is beyond ASCII has to make sense
_LEAD = 0.005  # by how much a reading has to beat another one that differs

# Signs that a Western text holds beside letters.
_SIGNS = frozenset("‘’‚“”„…–—•·°±×÷µ²³¹¼½¾®©™€£¥§¶†‡‰«»‹›¡¿ªº\xa0\xad¢¬¦¨´¸≤≥≠≈∞√∑−′″←→↑↓№✓")
_OPENING = frozenset("„‚«")  # never right behind a word
_WITHIN_A_WORD = frozenset("’‘-–—·\xad´ªº")  # between two letters
_NAMES_LETTERS = frozenset("àáâãäåæçèéêëìíîïñòóôõöøùúûüýÿßœšž")  # of names and terms in a text of any language
_FOREIGN = frozenset("éüöäñç")  # of names in a text of a language that has its own
_LETTER = r"[^\W\d_µªº]"
_HIGH_WORD = re.compile(rf"(?<!{_LETTER}){_LETTER}*(?![a-zA-Z]){_LETTER}{_LETTER}*")
_RUNS = re.compile(r"[^\x00-\x7f]+")
_LEAD_OF_COMMON = 0.3  # share of the common letters less that of the rare ones, in a text of the language
_ENOUGH_HAN = 8
_MOST_HIGH = 0.6
_FEW = 6  # letters that say nothing by their number
_THAI_RUN = 6  # characters in a row, at the least
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_CHUNK = 600
_MOST_CHUNKS = 40


@dataclass(frozen=True)
class Reading:
    """A way to read some bytes: the codec, they, the text, and the share (0 to 1) of what makes sense in it."""

    codec: str
    data: bytes
    text: str
    score: float


@dataclass(frozen=True)
class Recognised:
    """The reading that is taken (None: in doubt), and the most probable codecs, the likeliest first."""

    reading: Reading | None
    candidates: tuple[str, ...]


def recognise(data: bytes, language: str = "") -> Recognised:
    """Find the older encoding of a text.

    Args:
        data: whole lines with bytes beyond ASCII, which are no UTF-8.
        language: that of other lines of the file, where it is known: it tells the right one of readings that are as
            good.

    Returns:
        the best reading where it makes sense and no other one is as good; else None and the candidates.
    """
    readings = []
    for codec in NAMES:
        text = _decoded(data, codec)
        if text is not None:
            score = latin_score(text, language) if codec in LATIN_CODECS else _JUDGES[codec](text)
            score *= 0.98 if codec == "mac_cyrillic" else 1.0  # as Windows-1251 but for capitals, and rare
            readings.append(Reading(codec, data, text, score))
    readings.sort(key=lambda reading: -reading.score)  # stable: the preferred first where two are equal
    candidates = tuple(reading.codec for reading in readings if reading.score > 0.5)[:4]
    good = [reading for reading in readings if reading.score >= ENOUGH]
    if not good:
        return Recognised(None, candidates)
    best, others = good[0], [other for other in good[1:] if other.score > good[0].score - _LEAD]
    of_language = [reading for reading in (best, *others) if language and likeliest_language(reading.text) == language]
    if of_language:
        return Recognised(of_language[0], candidates)
    # Windows-1252 is by far the commonest, so that it need not be better than the others, only as good.
    rivals = [other for other in others if _letters(other.text) != _letters(best.text)]
    if best.codec != WINDOWS_1252 and any(_differs_much(best, other) for other in rivals):
        return Recognised(None, candidates)
    return Recognised(best, candidates)


def _letters(text: str) -> str:
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


def latin_score(text: str, language: str = "") -> float:
    """Judge a reading in Latin letters: by the alphabets of the languages that its words are of.

    Args:
        text: the reading.
        language: the language, where it is known.

    Returns:
        the share (0 to 1) of the letters and signs beyond ASCII that make sense.
    """
    text = unicodedata.normalize("NFC", text)
    alphabet = frozenset(LATIN[language][0]) | _FOREIGN if language in LATIN and language != "en" else _alphabet(text)
    good, bad = _signs(text, lambda sign: False)
    letters = all_high = 0
    for found in _HIGH_WORD.finditer(text):
        word = found[0]
        high = [letter for letter in word if letter > "\x7f"]
        if len(word) > 1:  # "è", "à"
            letters, all_high = letters + len(word), all_high + len(high)
        known = sum(letter.lower() in alphabet for letter in high) if _has_case_of_a_word(word) else 0
        good, bad = good + known, bad + len(high) - known
    # In no language that is written in Latin letters are most letters of such words beyond ASCII.
    factor = 1.0 if all_high <= _MOST_HIGH * letters or all_high < _FEW else 0.5
    return factor * good / max(1, good + bad)


def _signs(text: str, belongs: Callable[[str], bool]) -> tuple[int, int]:
    """Count the signs beyond ASCII that are no letters: those that a text may hold where they stand, and the others.

    Args:
        text: the reading.
        belongs: tells signs of its script, which are not counted.
    """
    good = bad = 0
    for found in _NOT_ASCII.finditer(text):
        sign = found[0]
        if (sign.isalpha() and sign not in _SIGNS) or belongs(sign) or unicodedata.combining(sign):
            continue
        at = found.start()
        inside = text[at - 1 : at].isalpha() and text[at + 1 : at + 2].isalpha()
        if sign in _OPENING and text[at - 1 : at].isalpha():
            bad += 1
        elif sign in _SIGNS and (not inside or sign in _WITHIN_A_WORD or sign == "µ"):
            good += 1
        else:
            bad += 1
    return good, bad


def _alphabet(text: str) -> frozenset[str]:
    """Return the letters beyond ASCII of the languages that a tenth of a text or more is in.

    The words of ASCII letters tell the language first, since they are the same in all readings.
    """
    chunks = [text[start : start + _CHUNK] for start in range(0, min(len(text), _CHUNK * _MOST_CHUNKS), _CHUNK)]
    for told in ([" ".join(re.findall(r"\b[a-zA-Z]+\b", chunk)) for chunk in chunks], chunks):
        counts = Counter(likeliest_language(chunk) for chunk in told)
        languages = [name for name, count in counts.items() if name in LATIN and 10 * count >= len(chunks)]
        if languages and not set(languages) <= {"en", "id"}:
            return frozenset("".join(LATIN[name][0] for name in languages)) | _FOREIGN
        if "en" in languages:
            break
    return _NAMES_LETTERS


def _has_case_of_a_word(word: str) -> bool:
    return word.islower() or word.isupper() or word[1:].islower() or not word[1:] or word.upper() == word.lower()


def _in_script(text: str, first: int, last: int, common: str, rare: str) -> float:
    """Judge a reading in a script of its own: words of that script only, and its commonest and its rarest letters.

    Args:
        text: the reading.
        first: first code point of the script.
        last: its last one.
        common: the letters that make up over half of a text.
        rare: those that make up less than a sixth.
    """
    good, bad = _signs(text, lambda sign: first <= ord(sign) <= last)
    letters: Counter[str] = Counter()
    capitals = words = 0
    for found in _HIGH_WORD.finditer(text):
        word = found[0]
        high = [letter for letter in word if letter > "\x7f"]
        if (
            len(high) == len(word)
            and _has_case_of_a_word(word)
            and all(first <= ord(letter) <= last for letter in high)
        ):
            good += len(high)
            letters.update(word.lower())
            capitals += sum(map(str.isupper, word))
            words += 1
        else:
            bad += len(high)
    if letters.total() <= 2 * words:  # single letters among words of another script
        return 0.0
    lead = sum(letters[letter] for letter in common) - sum(letters[letter] for letter in rare)
    factor = 0.8 if 2 * capitals > letters.total() else 1.0  # capitals all over come from a wrong reading
    return factor * good / (good + bad) * max(0.0, min(1.0, lead / letters.total() / _LEAD_OF_COMMON))


def _thai(text: str) -> float:
    """Judge a reading in Thai, which sets no spaces between words."""
    runs = _RUNS.findall(text)
    factor = 1.0 if sum(map(len, runs)) >= _THAI_RUN * len(runs) else 0.5
    return factor * _in_script(text, 0xE00, 0xE7F, "านรอกเงมยลวดทสตะบปค", "ฌฎฏฐฑฒฬฮฃฅฆฉ")


def _chinese(text: str, codec: str, last_row: int) -> float:
    """Judge a reading in Chinese: by the rows of the standard that hold the signs of daily use.

    Args:
        text: the reading.
        codec: the standard.
        last_row: its last row of such signs; what lies within the rows of Korean syllables alone is Korean.
    """
    signs = _signs_in_runs(text)
    han = [sign for sign in signs if "\u3400" <= sign <= "\u9fff"]
    kana = sum("\u3040" <= sign <= "\u30ff" for sign in signs)
    if not han or 10 * kana > len(han):
        return 0.0
    rows = [_row(sign, codec) for sign in han]
    if codec == "gb2312" and len(han) >= _ENOUGH_HAN and sum(0xB0 <= row <= 0xC8 for row in rows) > 0.95 * len(han):
        return 0.0
    # Traditional signs are in no row of GB 2312, but may well be written in GB 18030.
    daily = sum(
        0 < row <= last_row or (row == 0 and _row(sign, "big5") in range(0xA4, 0xC7))
        for sign, row in zip(han, rows, strict=True)
    )
    others = sum(not _is_east_asian_mark(sign) for sign in signs if not "\u3400" <= sign <= "\u9fff")
    return daily / len(han) * (1 - others / len(signs))


def _row(sign: str, codec: str) -> int:
    """Return the first byte of a sign, or 0 where the standard lacks it."""
    try:
        data = sign.encode(codec)
    except UnicodeEncodeError:
        return 0
    return data[0] if len(data) == 2 else 0  # euc_kr puts together from parts what it lacks


def _signs_in_runs(text: str) -> list[str]:
    """Return the signs beyond ASCII, or none where most of them stand alone among ASCII letters, as in the West."""
    runs = _RUNS.findall(text)
    signs = "".join(runs)
    return list(signs) if sum(len(run) for run in runs if len(run) > 1) > 0.7 * len(signs) else []


def _is_east_asian_mark(sign: str) -> bool:
    return "\u2010" <= sign <= "\u303f" or "\uff00" <= sign <= "\uff65" or sign in _SIGNS


def _japanese(text: str) -> float:
    signs = _signs_in_runs(text)
    kana = sum("\u3040" <= sign <= "\u30ff" for sign in signs)
    han = sum("\u3400" <= sign <= "\u9fff" for sign in signs)
    if 5 * kana < kana + han or not kana:
        return 0.0
    return (kana + han + sum(map(_is_east_asian_mark, signs))) / len(signs)


def _korean(text: str) -> float:
    signs = _signs_in_runs(text)
    # The 2,350 syllables of daily use; others come from bytes that are no Korean.
    daily = sum("\uac00" <= sign <= "\ud7a3" and _row(sign, "euc_kr") > 0 for sign in signs)
    return (daily + sum(map(_is_east_asian_mark, signs))) / len(signs) if daily else 0.0


_cyrillic = partial(_in_script, first=0x400, last=0x52F, common="оеаинтсрвлкі", rare="щъфэцюжхшйёґўђ")
_greek = partial(_in_script, first=0x370, last=0x3FF, common="αοιετσνηρςίάόέ", rare="ξψζβχφώϊϋΰΐ")
_hebrew = partial(_in_script, first=0x590, last=0x5FF, common="יוהלתארבמש", rare="זטגסצץףך")
_arabic = partial(_in_script, first=0x600, last=0x6FF, common="الينمرتوبةده", rare="ظغضطثذخزئؤ")

_JUDGES: dict[str, Callable[[str], float]] = {
    **dict.fromkeys(("cp1251", "koi8_u", "iso8859_5", "cp866", "mac_cyrillic"), _cyrillic),
    **dict.fromkeys(("cp1253", "iso8859_7"), _greek),
    "cp1255": _hebrew,
    **dict.fromkeys(("cp1256", "iso8859_6"), _arabic),
    "cp874": _thai,
    "gb18030": partial(_chinese, codec="gb2312", last_row=0xD7),
    "big5hkscs": partial(_chinese, codec="big5", last_row=0xC6),
    "cp932": _japanese,
    "euc_jp": _japanese,
    "cp949": _korean,
    "iso2022_jp": _japanese,
}
