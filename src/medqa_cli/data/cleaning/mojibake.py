"""The cleaning rule for UTF-8 that was decoded as Windows-1252 or Latin-1: ``patientâ€™s``, ``CafÃ©``, also twice over.

Repairs what can be nothing else, inside a text that is otherwise right; the rest is told by ``looks_garbled``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from functools import partial

# The bytes 80 to BF, which follow the first byte of a character, as Windows-1252 and Latin-1 show them.
_BYTES = {byte: {bytes([byte]).decode("cp1252", "ignore") or chr(byte), chr(byte)} for byte in range(0x80, 0x100)}
_BYTE_OF = {ord(sign): byte for byte, signs in _BYTES.items() for sign in signs}
_NEXT = "[" + "".join(re.escape(sign) for byte in range(0x80, 0xC0) for sign in sorted(_BYTES[byte])) + "]"
# One branch for each length, after the first byte: C2-DF, E0-EF, F0-F4.
_GARBLED = re.compile(f"(?:[Â-ß]{_NEXT}|[à-ï]{_NEXT}{{2}}|[ð-ô]{_NEXT}{{3}})+")
_QUOTES = "’‘“”»«…'\""
# What is in use in texts with Latin letters: these are certain as a single character.
_CERTAIN = re.compile(
    "[\x80-\u017f\u0192\u0218-\u021b\u02c6-\u02dd\u0370-\u03ff\u2010-\u2122\u2190-\u22ff\ufb01\ufb02\ufeff\U0001f300-\U0001faff]"
)
_FEWEST = 2  # characters in a row of other scripts
# Signs of UTF-8 that was decoded as Windows-1252, Windows-1251, Windows-1250, MacRoman or code page 437.
_LEFTOVER = re.compile(
    "â€|Ã[\x80-\xbf‚ƒ„†‡‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ ]|Â[\xa0-\xbf]|ï»¿|[ÐÑ][\x80-\xbf‚ƒ„†‡‰‹]|\ufffd"
    "|вЂ[™њќњ“”¦ў]|(?:[РС][\x80-\xbf‚ѓ„…†‡€‰Љ‹ЊЌЋЏђ‘’“”•–—™љ›њќћџЎўЈҐЁЄЇІіґё№єјЅѕї]){2}"
    "|Ĺ[‚„…›şĽľź]|Ă[łłšĽ©­]"
    "|‚Ä[ôúùòìîï¶¢]|√[©®†°¢£§•¶ß™´¨≠ÆØ∞±≤≥¥µ∂∑∏π∫ªºΩæø]|¬[∞±≤≥†∑]"
    "|ΓÇ[ÖÿôúùöòªáÜ¥ƒ£¥]|[├┬][ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓╢╖╕╣║╗╝╜╛┐]"
)
# A word that is nothing but such characters.
_GARBLED_WORD = re.compile(f"(?<![^\\W_]){_GARBLED.pattern}(?![^\\W_])")


def mojibake(text: str) -> str:
    """Decode again what was decoded wrongly.

    Args:
        text: any text.

    Returns:
        the text with the repairs that are certain; twice-decoded texts in as many steps as they need.
    """
    while not text.isascii():
        repaired = _GARBLED.sub(_decoded, text)
        if repaired == text:
            break
        # A single letter may be anything, but not beside words of its script that were garbled in the same way.
        scripts = _scripts(repaired) - _scripts(text)
        text = _GARBLED.sub(partial(_decoded, scripts=scripts), repaired) if scripts else repaired
    return text


def looks_garbled(text: str) -> bool:
    """Tell whether a text still holds signs of a wrong decoding, lost characters (U+FFFD) among them."""
    if text.isascii():
        return False
    return _LEFTOVER.search(text) is not None or any(_scripts(_utf8(run[0])) for run in _GARBLED_WORD.finditer(text))


def _scripts(text: str) -> set[str]:
    """Return the scripts of a text other than Latin and Greek, by the first words of the names of its letters."""
    letters = {sign for sign in text if sign > "\u03ff" and sign.isalpha()}
    return {unicodedata.name(sign, "?").partition(" ")[0] for sign in letters} - {"LATIN", "GREEK", "?"}


def _utf8(garbled: str) -> str:
    """Return what the bytes behind garbled characters are in UTF-8; empty where they are none."""
    return bytes(_BYTE_OF[ord(sign)] for sign in garbled).decode("utf-8", "ignore")


def _decoded(run: re.Match[str], scripts: Collection[str] = ()) -> str:
    garbled = run[0]
    try:
        right = bytes(_BYTE_OF[ord(sign)] for sign in garbled).decode("utf-8")
    except UnicodeDecodeError:
        return garbled
    if scripts and _scripts(right) and _scripts(right) <= set(scripts):
        return right
    if len(right) < _FEWEST or _CERTAIN.match(right[0]):
        if not all(map(_CERTAIN.match, right)) or _is_capital_before_quote(run):
            return garbled
    elif not right.isprintable():
        return garbled
    return right.replace("\ufeff", "")


def _is_capital_before_quote(run: re.Match[str]) -> bool:
    """Tell a capital with a closing quotation mark, ``„Ä“`` or ``AMANHÃ”``, from one garbled letter."""
    text, end = run.string, run.end()
    return (
        len(run[0]) == len("Ã”")
        and run[0][1] in _QUOTES
        and not text[end : end + 1].isalpha()
        and not text[run.start() - 1 : run.start()].islower()
    )
