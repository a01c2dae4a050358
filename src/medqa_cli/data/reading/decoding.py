"""In which encoding a text file is, so that reading it never raises UnicodeDecodeError.

Does not guess languages or older code pages: what is neither UTF-8 nor UTF-16 is Windows-1252.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from pathlib import Path

BLOCK = 1 << 20
START = 16  # bytes: half of the shortest header in UTF-16
FALLBACK = "medqa-windows-1252"

_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_UNDECODED = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True)
class Encoding:
    """How to open the file (``encoding`` and ``errors`` of ``open``) and what to tell the user."""

    codec: str
    errors: str
    description: str


def detect_encoding(path: Path) -> Encoding:
    """Return the encoding of a text file: by its mark or its NUL bytes, else UTF-8 where that fits, else Windows-1252.

    A file that is UTF-8 but for a few bytes keeps being UTF-8; those bytes are read as Windows-1252.
    """
    with open(path, "rb") as file:
        start = file.read(START)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return Encoding("utf-16", "replace", "UTF-16")
    if start.startswith(codecs.BOM_UTF8):
        return Encoding("utf-8-sig", FALLBACK, "UTF-8 with a byte order mark")
    if codec := _unmarked_utf16(start):
        return Encoding(codec, "replace", "UTF-16 without a byte order mark")
    if _is_utf8(path):
        return Encoding("utf-8", FALLBACK, "UTF-8")
    decoded, undecoded = _count_characters(path)
    if decoded > undecoded:
        return Encoding("utf-8", FALLBACK, f"UTF-8 ({undecoded:,} bytes of it Windows-1252)")
    return Encoding("cp1252", "replace", "Windows-1252")


def _unmarked_utf16(start: bytes) -> str | None:
    """Tell UTF-16 by a first line in Latin letters: each second byte is NUL, and no other."""
    for codec, letters, fillers in (("utf-16-le", start[::2], start[1::2]), ("utf-16-be", start[1::2], start[::2])):
        if len(start) == START and not any(fillers) and all(letters):
            return codec
    return None


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with open(path, "rb") as file:
            while block := file.read(BLOCK):
                decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _count_characters(path: Path) -> tuple[int, int]:
    """Count the characters beyond ASCII that UTF-8 can decode, and the bytes that it cannot."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    beyond_ascii = undecoded = 0
    with open(path, "rb") as file:
        while True:
            block = file.read(BLOCK)
            text = decoder.decode(block, final=not block)
            beyond_ascii += len(_NOT_ASCII.findall(text))
            undecoded += len(_UNDECODED.findall(text))
            if not block:
                return beyond_ascii - undecoded, undecoded


def _as_windows_1252(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("cp1252", "replace"), error.end


codecs.register_error(FALLBACK, _as_windows_1252)
