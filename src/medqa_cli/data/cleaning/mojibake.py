"""The cleaning rule for texts that were decoded in a wrong encoding: ``patientâ€™s``, ``РљР°Рє``, ``Êàê ëå÷èòü``.

Repairs a text as a whole where the way back is exact and the result is far more probable, and UTF-8 that was decoded as
Windows-1252 also inside a text that is otherwise right. All or nothing; ``looks_garbled`` finds what is left.
"""

import codecs
import re
import unicodedata
from collections.abc import Collection
from functools import cache, lru_cache, partial

from medqa_cli.data.encodings.code_pages import ENOUGH
from medqa_cli.data.encodings.guess import guess_code_page
from medqa_cli.data.encodings.plausibility import latin_share, probability
from medqa_cli.data.languages import latin_languages, likeliest_language
from medqa_cli.resources import load_yaml

# The bytes 80 to BF, which follow the first byte of a character, as Windows-1252 and Latin-1 show them.
_BYTES = {byte: {bytes([byte]).decode("cp1252", "ignore") or chr(byte), chr(byte)} for byte in range(0x80, 0x100)}
_BYTE_OF = {ord(sign): byte for byte, signs in _BYTES.items() for sign in signs}
_NEXT = "[" + "".join(re.escape(sign) for byte in range(0x80, 0xC0) for sign in sorted(_BYTES[byte])) + "]"
# One branch for each length, after the first byte: C2-DF, E0-EF, F0-F4.
_GARBLED = re.compile(f"(?:[Â-ß]{_NEXT}|[à-ï]{_NEXT}{{2}}|[ð-ô]{_NEXT}{{3}})+")
_QUOTES = "’‘“”»«…'\""
# What is in use in texts with Latin letters: these are certain as a single character.
_CERTAIN = re.compile(
    "[\x80-\u017f\u0192\u0218-\u021b\u02c6-\u02dd\u0370-\u03ff\u2010-\u2122\u1ea0-\u1ef9\u2190-\u22ff\ufb01\ufb02\ufeff\U0001f300-\U0001faff]"
)
_FEWEST = 2  # characters in a row of other scripts
# Signs of UTF-8 that was decoded as Windows-1252, Windows-1251, Windows-1250, MacRoman or code page 437.
_LEFTOVER = re.compile(
    "â€|Ã[\x80-\xbf‚ƒ„†‡‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ ]|Â[\xa0-\xbf]|ï»¿|[\x80-\x84\x86-\x9f]|[ÐÑ][\x80-\xbf‚ƒ„†‡‰‹]|\ufffd"
    "|вЂ[™њќњ“”¦ў]|(?:[РС][\x80-\xbf‚ѓ„…†‡€‰Љ‹ЊЌЋЏђ‘’“”•–—™љ›њќћџЎўЈҐЁЄЇІіґё№єјЅѕї]){2}"
    "|Ĺ[‚„…›şĽľź]|Ă[łłšĽ©­]"
    "|‚Ä[ôúùòìîï¶¢]|√[©®†°¢£§•¶ß™´¨≠ÆØ∞±≤≥¥µ∂∑∏π∫ªºΩæø]|¬[∞±≤≥†∑]"
    "|ΓÇ[ÖÿôúùöòªáÜ¥ƒ£¥]|[├┬][ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓╢╖╕╣║╗╝╜╛┐]"
)
# A word that is nothing but such characters.
_GARBLED_WORD = re.compile(f"(?<![^\\W_]){_GARBLED.pattern}(?![^\\W_])")


_PROVEN = 6  # characters of two bytes of UTF-8, and nothing else beyond ASCII
_NO_TEXT = ("Cn", "Co", "Cs")
_LEAST_LETTERS = 8  # beyond ASCII, that an older encoding is told by
_IMPROBABLE, _DOUBTFUL = 0.5, 0.65
_LEAD = 0.05  # by how much a repair is to be more probable than another one
_OF_ANOTHER_PAGE = re.compile("[a-z][¹³¿¼¾êñèøìòùïõûðþýšžºªãæâàëçÿœŸ]|[¹³¿¼¾êñèøìòùïõûðþýœšžºªãæâàëç][a-z]")
_CHANGED = 3  # letters, at the least
_CYRILLIC_WORD = re.compile("[\u0400-\u04ff]{2,}")
_EXCHANGED, _SMALL = re.compile(r"\b[а-яё][А-ЯЁ]{3}"), re.compile("[а-яё]{2}")
_VOWEL, _HARD = re.compile("[аеиоуыэюяёіїєъ]"), re.compile("[бвгджзйклмнпрстфхцчшщ]{5}")
# No break between the letters of Windows-1252 beyond ASCII; Cyrillic with its capitals and small letters exchanged; box
# drawings beside letters. Right texts hardly hold them, and of those that do none is improbable as well.
_HIGH = "\xa1-\xff€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
_SUSPICIOUS = re.compile(
    f"[{_HIGH}]{{4}}|[а-яё][А-ЯЁ]{{2}}|[^\\W\\d_][\u2500-\u259f]|[\u2500-\u259f][^\\W\\d_]"
    "|[a-z][\u0400-\u04ff]|[\u0400-\u04ff][a-z]|[a-z][‚„†‡ˆ‰•˜™›‹¡¢£¥¦§¨©«¬®¯±³´¶¸¹»¼½¾¿÷Š][a-z]|[\u0400-\u04ff][®©¬¤¦¶µ±‡†]|[®©¬¤¦¶µ±‡†][\u0400-\u04ff]"
)
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f](?:.*[^\x00-\x7f])?", re.DOTALL)
_SHOWN_WORDS, _LONGEST_SHOWN = 3, 60
_LONE_CAPITAL, _RIGHT_LETTER = re.compile(r"(?<![^\W_])Ã(?= )(?! \w+Ã)"), re.compile("[à-ÿ]")
_LOST_SPACE = re.compile("Ã(?:  | (?=[^ ])| ?$)")  # of à: its second byte is a space that does not break
_LOST_QUOTE = re.compile(r"â€(?=[\s.,;:!?)\]]|$)")


def mojibake(text: str) -> str:
    """Decode again what was decoded wrongly, where that is certain; twice-decoded texts in as many steps as they need.

    A text of which a part would stay wrong is returned as it is.
    """
    repaired, before = text, ""
    while repaired != before and not repaired.isascii():
        before = repaired
        repaired = _as_a_whole(before) or _of_another_page(before)
        if repaired:
            continue
        repaired = _GARBLED.sub(_decoded, before)
        if repaired == before:
            break
        # A single letter may be anything, but not beside words of its script that were garbled in the same way.
        if scripts := _scripts(repaired) - _scripts(before):
            repaired = _GARBLED.sub(partial(_decoded, scripts=scripts), repaired)
        # Beside letters that were garbled, what lost its last byte is as certain.
        repaired = _LOST_QUOTE.sub("”", _LOST_SPACE.sub(_grave, repaired))
    return text if repaired != text and looks_garbled(repaired.replace("\ufffd", "")) else repaired


@cache
def _byte_tables() -> tuple[dict[int, int], ...]:
    """Return the byte of each sign in each encoding that bytes are decoded in by mistake, Windows-1252 first."""
    tables = []
    for codec in load_yaml("encodings")["mojibake"]["decoded_as"]:
        shown = {byte: bytes([byte]).decode(codec, "ignore") or chr(byte) for byte in range(256)}
        # Bytes that an encoding of Windows lacks are shown by programs as C1 controls.
        controls = {byte: byte for byte in range(0x80, 0xA0)} if codec.startswith("cp125") else {}
        tables.append(controls | {ord(sign): byte for byte, sign in shown.items()})
    return tuple(tables)


def _grave(lost: re.Match[str]) -> str:
    follows = lost.string[lost.end() : lost.end() + 1]
    return "à" if follows in ".,;:!?)" or not follows else "à "


@lru_cache(maxsize=16)
def _as_a_whole(text: str) -> str:
    """Return what a text is whose every letter beyond ASCII was decoded in the same wrong encoding; nothing if none."""
    sources = [data for table in _byte_tables() if (data := _bytes_of(text, table)) is not None]
    if read := {right: probability(right) for data in sources if (right := _as_utf8(data, text))}:
        best = max(read, key=lambda right: read[right])
        return best if list(read.values()).count(read[best]) == 1 else ""
    before = _probability(text) if _SUSPICIOUS.search(text) else 1.0
    if before > _DOUBTFUL or sum(sign > "\x7f" for sign in text) < _LEAST_LETTERS:
        return ""
    read, encodings = {}, load_yaml("encodings")["mojibake"]["written_in"].split()
    for data in sources:
        recognition = guess_code_page(data)
        if recognition.reading is not None and not recognition.doubt and recognition.reading.codec in encodings:
            right = recognition.reading.text
            if not _SUSPICIOUS.search(right) and _may_be(right, text):
                read[right] = probability(right)
    best = max(read, key=lambda right: read[right], default="")
    return best if best and [score > read[best] - _LEAD for score in read.values()].count(True) == 1 else ""


@lru_cache(maxsize=16)
def _of_another_page(text: str) -> str:
    """Return what a text in Latin letters is whose page was taken for Windows-1252; nothing if it is none.

    It has letters that its likeliest language lacks, and in the page of a language none that this one lacks.
    """
    data = _bytes_of(text, _byte_tables()[0])
    languages = latin_languages()
    if data is None or not _OF_ANOTHER_PAGE.search(text):
        return ""
    here = languages.get(likeliest_language(text))
    if here is not None and here.letters and latin_share(text, here.letters) >= ENOUGH:
        return ""
    for page, codes in load_yaml("encodings")["mojibake"]["pages_of_languages"].items():
        right = data.decode(page, "replace")
        language = likeliest_language(right)
        changed = sum(a != b and b.isalpha() for a, b in zip(text, right, strict=True))
        if (
            language in codes
            and changed >= _CHANGED
            and latin_share(right, languages[language].letters) == 1.0
            and latin_share(text, languages[language].letters) < _DOUBTFUL
        ):
            return right
    return ""


def _may_be(right: str, text: str) -> bool:
    """Tell whether a reading may be right: Cyrillic was Cyrillic or Latin before, and can be spoken."""
    if "CYRILLIC" in _scripts(text) and not _scripts(right) <= {"CYRILLIC"}:
        return False
    words = _CYRILLIC_WORD.findall(right.lower())
    return 10 * sum(_VOWEL.search(word) is None or bool(_HARD.search(word)) for word in words) <= len(words)


def _as_utf8(data: bytes, text: str) -> str:
    """Return bytes read as UTF-8; nothing where that is not sure: by many characters, a long one, or a senseless text.

    Args:
        data: the bytes that the text was decoded from, perhaps.
        text: what they were decoded to.
    """
    try:
        right = data.decode("utf-8")
    except UnicodeDecodeError:
        return ""
    beyond = [sign for sign in right if sign > "\x7f"]
    if not beyond or any(unicodedata.category(sign) in _NO_TEXT for sign in beyond):
        return ""
    if len(beyond) == 1:
        is_sure = probability(text) <= _IMPROBABLE and probability(right) >= ENOUGH
    else:
        is_sure = len(beyond) >= _PROVEN or max(beyond) > "\u07ff" or probability(text) < ENOUGH
    return right if is_sure else ""


def _bytes_of(text: str, table: dict[int, int]) -> bytes | None:
    """Return the bytes that a text was decoded from; None where the encoding does not hold all of its signs."""
    try:
        return codecs.charmap_encode(text, "strict", table)[0]
    except UnicodeEncodeError:
        return None


def looks_garbled(text: str) -> bool:
    """Tell whether a text still holds signs of a wrong decoding, lost characters (U+FFFD) among them."""
    beyond = None if text.isascii() else _BEYOND_ASCII.search(text)
    if beyond is None:
        return False
    # The patterns are slow, and none looks further than two characters from those beyond ASCII.
    part = text[max(0, beyond.start() - 2) : beyond.end() + 2]
    # A capital that stands alone is a letter, as in "a Ã é uma letra", where other letters of the text are right.
    named = _LONE_CAPITAL.sub(" ", part) if _RIGHT_LETTER.search(part) else part
    if _LEFTOVER.search(named) is not None:
        return True
    if any(_scripts(_bytes_behind(run).decode("utf-8", "ignore")) for run in _GARBLED_WORD.finditer(part)):
        return True
    return _SUSPICIOUS.search(part) is not None and _probability(text) <= _IMPROBABLE


def _probability(text: str) -> float:
    """Judge a text; KOI8 and Windows-1251, taken for each other, exchange capitals and small letters."""
    return 0.0 if _EXCHANGED.search(text) and not _SMALL.search(text) else probability(text)


def garbled_words(text: str) -> str:
    """Show a part of a text that was decoded wrongly, and how it may have read; empty where nothing looks garbled."""
    if not looks_garbled(text):
        return ""
    words = text.split()
    at = next((number for number, word in enumerate(words) if looks_garbled(word)), 0)
    shown = " ".join(words[at : at + _SHOWN_WORDS])[:_LONGEST_SHOWN]
    with_lost_bytes = _LOST_QUOTE.sub("”", _LOST_SPACE.sub(_grave, shown))
    read = _as_a_whole(shown) or _GARBLED.sub(_decoded, with_lost_bytes)
    would = f' (perhaps "{read}")' if read != shown and not looks_garbled(read) else ""
    return f'"{shown}"{would}'


def _scripts(text: str) -> set[str]:
    """Return the scripts of a text other than Latin and Greek, by the first words of the names of its letters."""
    letters = {sign for sign in text if sign > "\u03ff" and sign.isalpha()}
    return {unicodedata.name(sign, "?").partition(" ")[0] for sign in letters} - {"LATIN", "GREEK", "?"}


def _bytes_behind(garbled: re.Match[str]) -> bytes:
    return bytes(_BYTE_OF[ord(sign)] for sign in garbled[0])


def _decoded(run: re.Match[str], scripts: Collection[str] = ()) -> str:
    garbled = run[0]
    try:
        right = _bytes_behind(run).decode("utf-8")
    except UnicodeDecodeError:
        return garbled
    if scripts and _scripts(right) and _scripts(right) <= set(scripts):
        return right
    if len(right) < _FEWEST or _CERTAIN.match(right[0]):
        text, start, end = run.string, run.start(), run.end()
        # A capital with a closing quotation mark, „Ä“ or AMANHÃ”, is no garbled letter.
        is_quoted = (
            garbled[1] in _QUOTES and not text[end : end + 1].isalpha() and not text[start - 1 : start].islower()
        )
        if not all(map(_CERTAIN.match, right)) or (len(garbled) == len("Ã”") and is_quoted):
            return garbled
    elif not right.isprintable():
        return garbled
    return right.replace("\ufeff", "")
