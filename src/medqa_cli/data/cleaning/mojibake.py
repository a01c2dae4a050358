"""The cleaning rule for UTF-8 that was decoded as Windows-1252 or Latin-1: ``patientâ€™s``, ``CafÃ©``, also twice over.

Repairs what can be nothing else, inside a text that is otherwise right; the rest is told by ``looks_garbled``.
"""

from __future__ import annotations

import re

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
_LEFTOVER = re.compile("â€|Ã[\x80-\xbf‚ƒ„†‡‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ ]|Â[\xa0-\xbf]|ï»¿|[ÐÑ][\x80-\xbf‚ƒ„†‡‰‹]|\ufffd")


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
        text = repaired
    return text


def looks_garbled(text: str) -> bool:
    """Tell whether a text still holds signs of a wrong decoding, lost characters (U+FFFD) among them."""
    return not text.isascii() and _LEFTOVER.search(text) is not None


def _decoded(run: re.Match[str]) -> str:
    garbled = run[0]
    try:
        right = bytes(_BYTE_OF[ord(sign)] for sign in garbled).decode("utf-8")
    except UnicodeDecodeError:
        return garbled
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
